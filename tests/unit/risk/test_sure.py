"""An order that is sure is refused by no check; bounds hold where they end; a usual order is sure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import risk.gate.sure
from protocol.codes import Code, OrderType, ReferenceSource, Side, TimeInForce, TradingState
from protocol.decisions import Reference
from risk.gate.exposure import AccountState, InstrumentState, Ledger, Route, StrategyState
from risk.gate.flow import Duplicates, Intents, signature
from risk.gate.further_checks import COMPLETE_CHECKS, COMPLETE_FUSED
from risk.gate.fused import first_complete_refusal
from risk.gate.more import Bound, Limits, More
from risk.gate.rate import RateLog
from risk.gate.sure import COVERED, identity_of, is_sure, usual_of
from risk.gate.view import View
from tests.unit.venues.stage import XY

E9, BP = 10**9, 10**4
NOW = 1_000
QUANTITY, PRICE = 20, 100
QUANTITY_E9, PRICE_E9, VALUE_E9 = QUANTITY * XY.quantity_step_e9, PRICE * XY.price_step_e9, 2_000
near = st.integers(-1, 1)
Change = Callable[[View, int], None]


def more_of() -> More:
    """Return parameters with a bound for each check, far from the usual order."""
    more = More()
    contract = more.contract
    contract.open_ns, contract.close_ns, contract.cutoff_buy_ns, contract.cutoff_sell_ns = 10, 9_000, 8_000, 8_000
    contract.band_low_e9, contract.band_high_e9 = PRICE_E9 // 2, PRICE_E9 * 2
    contract.freeze_e9, contract.value_min_e9 = QUANTITY_E9 * 9, 5
    contract.delta, contract.exposure_long_e18, contract.exposure_short_e18 = 3, 5, 7
    contract.is_paid = True
    contract.take_margins(11, 13, 2)
    contract.take_fee(10 * E9)
    more.checks_cash = more.checks_margin = True
    more.currency, more.cash_e9 = "USDT", {"USDT": 100_000}
    more.gross_max, more.net_max, more.underlying_max = Bound(E9), Bound(E9), Bound(E9)
    more.gross_least_e18, more.net_least, more.side_least = 10**6, 10**6, 10**6
    more.per_account, more.per_strategy = Bound(5), Bound(5)
    more.duplicates, more.intents_buy, more.intents_sell = Duplicates(1, 100), Intents(3, 100), Intents(3, 100)
    more.global_rate, more.venue_rate = RateLog(3, 100, 0), RateLog(3, 100, 0)
    return more


def view_of(side: Side, position: int, change: Change | None = None, by: int = 0) -> View:
    """Return the usual order at a route, after one thing was set near the bound that it meets."""
    account, strategy, instrument = AccountState("a", "USDT"), StrategyState("s", 500), InstrumentState(XY)
    account.rate, strategy.rate = RateLog(3, 100, 0), RateLog(3, 100, 0)
    instrument.tick, instrument.lot, instrument.quantity_min, instrument.quantity_max = 5, 5, 5, 50
    instrument.tradable, instrument.expiry_ns = True, 8_500
    bounds = (Bound(QUANTITY_E9 * 8), Bound(VALUE_E9 * 8), Bound(VALUE_E9 * 9), Bound(4), Bound(QUANTITY_E9 * 7))
    ledger = Ledger(position, 10, 10)
    route = Route(account, strategy, instrument, ledger, Ledger(), Limits(*(b.value for b in bounds), bounds))
    route.more, route.is_complete = more_of(), True
    v = View()
    v.route, v.side, v.order_type, v.time_in_force = route, side, OrderType.LIMIT, TimeInForce.DAY
    v.reference = Reference(PRICE_E9, 0, ReferenceSource.MID)
    v.quantity, v.quantity_e9, v.price, v.price_e9, v.value_e9 = QUANTITY, QUANTITY_E9, PRICE, PRICE_E9, VALUE_E9
    v.off_price = v.off_quantity = v.stop_price_e9 = 0
    v.worst = PRICE
    v.reduce_only = False
    v.now_ns, v.created_at_ns, v.order_age_max_ns, v.skew_max_ns = NOW, NOW, 600, 50
    v.state = TradingState.ACTIVE
    if change is not None:
        change(v, by)
    v.reach = ledger.reach(side) + v.quantity
    v.is_exit = ledger.is_exit(side, v.quantity)
    route.more.refresh(ledger.position, ledger.buy, ledger.sell, 0)
    route.more.usual = usual_of(route, route.more)
    return v


def of_contract(name: str, value: int) -> Change:
    return lambda v, by: setattr(v.route.more.contract, name, value + by)


def of_more(name: str, value: int) -> Change:
    return lambda v, by: setattr(v.route.more, name, value + by)


def of_view(name: str, value: int) -> Change:
    return lambda v, by: setattr(v, name, value + by)


def summed(name: str, least: str, unit: int) -> Change:
    def change(v: View, by: int) -> None:
        setattr(v.route.more, name, Bound(by + 1))
        setattr(v.route.more, least, (by + 1) * unit)

    return change


def limited(index: int, value: int) -> Change:
    names = ("quantity_e9", "order_value_e9", "open_value_e9", "open_count", "position_e9")
    return lambda v, by: setattr(v.route.limits, names[index], value + by)


def of_instrument(name: str, value: int) -> Change:
    return lambda v, by: setattr(v.route.instrument, name, value + by)


def charged(rate: Callable[[View], RateLog | None]) -> Change:
    def charge(v: View, by: int) -> None:
        found = rate(v)
        assert found is not None
        for n in range(3):
            found.charge(NOW - 100 + by + n)

    return charge


def same(v: View, by: int) -> None:
    terms = signature(v.side, v.order_type, v.time_in_force, v.quantity_e9, v.price_e9, 0)
    assert v.route.more.duplicates is not None
    v.route.more.duplicates.take(terms, NOW - 100 + by)


def meant(v: View, by: int) -> None:
    for intents in (v.route.more.intents_buy, v.route.more.intents_sell):
        intents.take(NOW - 100 + by)
        intents.take(NOW - 100 + by)


def protected(v: View, by: int) -> None:
    v.route.more.contract.is_protected, v.route.more.contract.lpp_bp = True, 1_000
    v.price_e9 = PRICE_E9 + (PRICE_E9 // 10 + by) * (1 if v.side is Side.BUY else -1)


def softly(v: View, by: int) -> None:
    v.route.more.contract.collar_soft_bp = 1_000
    v.price_e9 = PRICE_E9 + (PRICE_E9 // 10 + by) * (1 if v.side is Side.BUY else -1)


def flag(name: str) -> Change:
    return lambda v, by: setattr(v.route.more, name, by > 0)


def set_at(name: str, *values: object) -> Change:
    return lambda v, by: setattr(v, name, values[by + 1])


CHANGES: dict[str, Change] = {
    "created": of_view("created_at_ns", NOW - 600), "ttl": of_view("created_at_ns", NOW - 500),
    "future": of_view("created_at_ns", NOW + 50), "open": of_contract("open_ns", NOW),
    "close": of_contract("close_ns", NOW), "expiry": of_instrument("expiry_ns", NOW),
    "cutoff buy": of_contract("cutoff_buy_ns", NOW), "cutoff sell": of_contract("cutoff_sell_ns", NOW),
    "tradable": lambda v, by: setattr(v.route.instrument, "tradable", by < 0),
    "times": lambda v, by: setattr(v.route.instrument, "limit_times", () if by > 0 else (TimeInForce.DAY,)),
    "state": set_at("state", TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED),
    "type": set_at("order_type", OrderType.LIMIT, OrderType.MARKET, OrderType.STOP),
    "reference": set_at("reference", None, None, Reference(PRICE_E9, 0, ReferenceSource.MID)),
    "reduce only": set_at("reduce_only", False, False, True),
    "off price": of_view("off_price", 1), "off quantity": of_view("off_quantity", 1),
    "tick": of_view("price", PRICE), "lot": of_view("quantity", QUANTITY), "worst": of_view("worst", PRICE),
    "price": of_view("price_e9", 0), "band low": of_contract("band_low_e9", PRICE_E9),
    "band high": of_contract("band_high_e9", PRICE_E9), "protected": protected, "soft collar": softly,
    "least quantity": of_instrument("quantity_min", QUANTITY), "quantity": of_instrument("quantity_max", QUANTITY),
    "freeze": of_contract("freeze_e9", QUANTITY_E9), "limit of quantity": limited(0, QUANTITY_E9),
    "least value": of_contract("value_min_e9", VALUE_E9), "value": limited(1, VALUE_E9),
    "range": of_view("value_e9", 2**63 - 1), "soft value": of_more("soft_order_value_e9", VALUE_E9),
    "open value": limited(2, VALUE_E9), "soft open value": of_more("soft_open_value_e9", VALUE_E9),
    "open count": limited(3, 0), "position": limited(4, (QUANTITY + 10) * XY.quantity_step_e9),
    "soft position": of_more("soft_position_e9", (QUANTITY + 10) * XY.quantity_step_e9),
    "day of account": lambda v, by: setattr(v.route.more.account_day, "count", 5 + by),
    "day of strategy": lambda v, by: setattr(v.route.more.strategy_day, "count", 5 + by),
    "same": same, "meant": meant, "rate of all": charged(lambda v: v.route.more.global_rate),
    "rate of venue": charged(lambda v: v.route.more.venue_rate),
    "rate of account": charged(lambda v: v.route.account.rate),
    "rate of strategy": charged(lambda v: v.route.strategy.rate),
    "algo": flag("lacks_algo_id"), "banned": flag("banned"), "write": flag("no_write"), "short": flag("no_short"),
    "restricted": lambda v, by: setattr(v.route.more, "restricted", by + 1),
    "gross": summed("gross_max", "gross_least_e18", E9), "net": summed("net_max", "net_least", BP),
    "one side": summed("underlying_max", "side_least", BP),
    "cash": lambda v, by: setattr(v.route.more, "cash_e9", {"USDT": by + 1}),
}  # fmt: skip
"""What to set so that the usual order stands ``by`` off a bound, by the name of the bound."""


def one_by_one(v: View) -> Code:
    return next((code for check in COMPLETE_CHECKS if (code := check(v)) is not Code.OK), Code.OK)


@settings(max_examples=600, deadline=None)
@given(
    side=st.sampled_from(Side), position=st.sampled_from((0, 0, 30, -30, 90)), name=st.sampled_from(sorted(CHANGES)),
    by=near,
)  # fmt: skip
def test_what_is_sure_no_check_refuses(side: Side, position: int, name: str, by: int) -> None:
    """At each bound, one less and one more: sure and refused never meet, and the gate says what its checks say."""
    v = view_of(side, position, CHANGES[name], by)
    refusal = one_by_one(v)
    assert refusal is Code.OK or not is_sure(v), f"sure, and refused: {refusal.name}"
    assert first_complete_refusal(v) is refusal


@pytest.mark.parametrize("side", Side)
def test_a_usual_order_is_sure(side: Side) -> None:
    """Otherwise the short way would be none."""
    assert is_sure(view_of(side, 0))


def test_every_bound_is_met_on_both_sides() -> None:
    """Each change refuses some order, or the property above would say nothing of its bound."""
    for name, change in CHANGES.items():
        found = {one_by_one(view_of(side, 0, change, by)) for side in Side for by in (-1, 0, 1)}
        assert found != {Code.OK}, name


def test_what_is_covered_are_checks_of_the_gate() -> None:
    """A name that no check has any more would be a promise for nothing."""
    assert {check.__name__ for check in COMPLETE_FUSED} >= COVERED


@pytest.mark.plants
@pytest.mark.parametrize("field", ["net", "reach", "gross_e18", "value_high_e9", "open_value_e9", "account_count"])
def test_a_bound_that_is_too_wide_is_found(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: one bound is forgotten, and some order that a check refuses would pass."""
    rightly = risk.gate.sure.usual_of
    tight = {
        "net": CHANGES["net"], "reach": CHANGES["position"], "gross_e18": CHANGES["gross"],
        "value_high_e9": CHANGES["value"], "open_value_e9": CHANGES["open value"],
        "account_count": CHANGES["day of account"],
    }  # fmt: skip

    def planted(route: Route, more: More) -> object:
        made = rightly(route, more)
        setattr(made, field, 10**40)
        return made

    monkeypatch.setitem(globals(), "usual_of", planted)
    views = [view_of(side, 0, tight[field], by) for side in Side for by in (-1, 0, 1)]
    assert any(is_sure(v) and one_by_one(v) is not Code.OK for v in views)


def test_routes_that_share_bounds_have_the_same() -> None:
    """All that bounds are made of is in their identity: one that left something out would lend another's bounds."""
    told = 0
    for change in CHANGES.values():
        for by in (-1, 1):
            one, other = (view_of(Side.SELL, 0, c, by).route for c in (None, change))
            if other.more.contract.values() == one.more.contract.values():
                other.more.contract = one.more.contract
            if values(other.limits) == values(one.limits):
                other.limits = one.limits
            other.more.per_account, other.more.per_strategy = one.more.per_account, one.more.per_strategy
            if values(usual_of(one, one.more)) != values(usual_of(other, other.more)):
                assert identity_of(one, one.more) != identity_of(other, other.more)
                told += other.more.contract is one.more.contract and other.limits is one.limits
    assert told > 10


def values(of: object) -> list[object]:
    """Return what an object and those of its two sides hold."""
    found: list[object] = []
    for name in dir(of):
        if not name.startswith("_") and name != "bounds":
            value = getattr(of, name)
            found += values(value) if name in {"buy", "sell"} else [value]
    return found
