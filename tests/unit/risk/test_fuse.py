"""One function made of many checks answers as the many do, for any view; and takes no check of another shape."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import OrderType, ReferenceSource, Scope, Side, TimeInForce, TradingState
from protocol.decisions import Reference
from risk.gate.checks import CHECKS, OK, SEND_CHECKS
from risk.gate.crossing import OwnPrices
from risk.gate.exposure import AccountState, InstrumentState, Ledger, Route, StrategyState
from risk.gate.flow import Duplicates, Intents, Messages, Tally
from risk.gate.further_checks import COMPLETE_CHECKS, COMPLETE_SEND_CHECKS
from risk.gate.fuse import Shortcut, fused_source
from risk.gate.fused import first_complete_refusal, first_late_complete_refusal, first_late_refusal, first_refusal
from risk.gate.more import Bound, Contract, Limits, More
from risk.gate.pnl import Pnl
from risk.gate.rate import RateLog
from risk.gate.ratio import Ratio, RatioBound
from risk.gate.sure import usual_of
from risk.gate.view import View
from tests.unit.venues.stage import XY

small = st.integers(-3, 12)
states = st.sampled_from((TradingState.ACTIVE, TradingState.ACTIVE, *TradingState))


@st.composite
def rates(draw: st.DrawFn) -> RateLog | None:
    if draw(st.booleans()):
        return None
    rate = RateLog(draw(st.integers(0, 3)), draw(st.integers(1, 5)), draw(st.integers(0, 2)))
    for at in sorted(draw(st.lists(st.integers(0, 10), max_size=5))):
        rate.charge(at)
    return rate


@st.composite
def routes(draw: st.DrawFn) -> Route:
    account, strategy, instrument = AccountState("a", "USDT"), StrategyState("s", draw(small)), InstrumentState(XY)
    account.state, strategy.state, instrument.state = draw(states), draw(states), draw(states)
    account.open_count, account.open_value_e9 = draw(small), draw(small)
    account.rate, strategy.rate = draw(rates()), draw(rates())
    instrument.tradable, instrument.expiry_ns = draw(st.integers(0, 9)) > 0, draw(st.sampled_from((0, 0, 0, 5, 50)))
    instrument.tick, instrument.lot = draw(st.sampled_from((1, 1, 5))), draw(st.sampled_from((1, 1, 3)))
    instrument.quantity_min, instrument.quantity_max = draw(st.integers(0, 3)), draw(st.integers(3, 20))
    ledgers = [Ledger(draw(small), draw(st.integers(0, 9)), draw(st.integers(0, 9))) for _ in "ab"]
    bounds = tuple(Bound(draw(st.sampled_from((5, 10**10, 10**30))), Scope.GLOBAL) for _ in range(5))
    route = Route(account, strategy, instrument, *ledgers, Limits(*(b.value for b in bounds), bounds))
    route.more, route.is_complete = draw(mores()), True
    route.more.usual = usual_of(route, route.more)
    return route


@st.composite
def mores(draw: st.DrawFn) -> More:
    """Parameters of the complete gate, each in one of a few places around the values of the views."""
    more, contract = More(), Contract()
    more.contract = contract
    contract.open_ns, contract.close_ns = draw(st.sampled_from((0, 0, 3))), draw(st.sampled_from((50, 50, 9)))
    contract.cutoff_buy_ns, contract.cutoff_sell_ns = draw(st.sampled_from((5, 50))), draw(st.sampled_from((5, 50)))
    contract.band_low_e9, contract.band_high_e9 = draw(st.sampled_from((0, 3 * 10**9))), 10 * 10**9
    contract.lpp_bp = draw(st.sampled_from((0, 10**9)))
    contract.is_protected = contract.lpp_bp > 0
    contract.freeze_e9 = draw(st.sampled_from((8 * 10**9, 10**12)))
    contract.value_min_e9 = draw(st.sampled_from((0, 5)))
    contract.delta = draw(st.sampled_from((0, 1, -1)))
    contract.exposure_long_e18 = contract.exposure_short_e18 = draw(st.sampled_from((0, 10**9)))
    contract.margin_long_e9 = contract.margin_short_e9 = 1
    contract.is_paid = True
    more.lacks_algo_id, more.banned = (draw(st.integers(0, 5)) == 0 for _ in "ab")
    more.no_write, more.no_short = (draw(st.integers(0, 3)) == 0 for _ in "ab")
    if draw(st.booleans()):
        messages = Messages()
        messages.sent, messages.trades = draw(st.integers(0, 9)), draw(st.integers(0, 2))
        more.ratio = Ratio([RatioBound(messages, 4, draw(st.integers(1, 4)), 3, Scope.STRATEGY, "s")], Tally(), 0, 0)
    more.restricted = draw(st.sampled_from((0, 0, 0, 1, 2)))
    more.per_account, more.per_strategy = Bound(draw(st.integers(0, 9))), Bound(draw(st.integers(0, 9)))
    more.account_day, more.strategy_day = Tally(draw(st.integers(0, 4))), Tally(draw(st.integers(0, 4)))
    more.gross_max, more.net_max, more.underlying_max = (Bound(draw(st.sampled_from((0, 10**9)))) for _ in "abc")
    more.checks_cash, more.checks_margin = draw(st.booleans()), draw(st.booleans())
    more.currency, more.cash_e9 = "USDT", {"USDT": draw(st.sampled_from((0, 2, 10**11)))}
    more.global_rate, more.venue_rate = draw(rates()), draw(rates())
    more.soft_position_e9, more.soft_order_value_e9 = (draw(st.sampled_from((0, 10**30))) for _ in "ab")
    more.soft_open_value_e9, more.gross_soft = (
        draw(st.sampled_from((0, 10**30))),
        Bound(draw(st.sampled_from((0, 10**9)))),
    )
    contract.is_book_checked = draw(st.booleans())
    contract.collar_soft_bp = draw(st.sampled_from((0, 1)))
    more.gross_least_e18 = min(more.gross_max.value, more.gross_soft.value) * 10**9
    more.net_least, more.side_least = more.net_max.value * 10**4, more.underlying_max.value * 10**4
    if draw(st.booleans()):
        more.own_prices = OwnPrices()
        for side in draw(st.lists(st.sampled_from(Side), max_size=2)):
            more.own_prices.note(object(), side, draw(st.integers(1, 9)))
    if draw(st.booleans()):
        more.duplicates, more.intents_buy, more.intents_sell = Duplicates(0, 9), Intents(1, 9), Intents(2, 9)
    if draw(st.integers(0, 5)) == 0:
        more.pnl = Pnl("a")
        more.pnl.unknown = dict.fromkeys(draw(st.sampled_from(([], [("", "XY")]))))
    return more


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any value in any field: also those that no order could have. Only the sums hold what the ledger holds."""
    v = View()
    v.route = draw(routes())
    v.reference = draw(
        st.sampled_from((None, Reference(5, 0, ReferenceSource.MID), Reference(5, 0, ReferenceSource.CROSSED)))
    )
    v.side, v.order_type = draw(st.sampled_from(Side)), draw(st.sampled_from(OrderType))
    v.time_in_force = draw(st.sampled_from(TimeInForce))
    v.quantity, v.price, v.worst = draw(st.integers(0, 12)), draw(small), draw(small)
    v.quantity_e9, v.price_e9, v.value_e9 = (
        v.quantity * 10**9,
        v.price * 10**9,
        draw(st.sampled_from((1, 10**10, 2**70))),
    )
    v.off_quantity, v.off_price = (draw(st.sampled_from((0, 0, 0, 1))) for _ in range(2))
    v.reach, v.reduce_only, v.is_exit = draw(small), draw(st.booleans()), draw(st.booleans())
    v.now_ns, v.created_at_ns = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    v.order_age_max_ns, v.skew_max_ns = draw(st.integers(3, 12)), draw(st.integers(3, 12))
    v.state, v.stop_price_e9 = draw(states), 0
    before, other = v.reach - v.quantity, draw(small)
    high, low = (before, other) if v.side is Side.BUY else (other, -before)
    v.route.more.refresh(0, high, -low, 0)
    return v


@settings(max_examples=400, deadline=None)
@given(v=views())
def test_the_fused_gate_equals_its_checks_one_by_one(v: View) -> None:
    """The same first refusal, for the plain gate, the complete one, and their send gates."""
    for checks, fused in (
        (CHECKS, first_refusal), (SEND_CHECKS, first_late_refusal), (COMPLETE_CHECKS, first_complete_refusal),
        (COMPLETE_SEND_CHECKS, first_late_complete_refusal),
    ):  # fmt: skip
        one_by_one = next((code for check in checks if (code := check(v)) is not OK), OK)
        assert fused(v) is one_by_one


def test_every_check_refuses_some_view() -> None:
    """The views above reach every check alone; otherwise the property would say nothing of it."""
    reached: set[str] = set()

    @settings(max_examples=1500, deadline=None, database=None, derandomize=True)  # the same views each time
    @given(v=views())
    def look(v: View) -> None:
        reached.update(check.__name__ for check in COMPLETE_CHECKS if check(v) is not OK)

    look()
    assert reached == {check.__name__ for check in COMPLETE_CHECKS}


@dataclass
class Thing:
    """What the planted checks look at."""

    a: int
    route: object = None


def _two_statements(v: Thing) -> int:
    b = v.a
    return b + 0


def _two_arguments(v: Thing, w: int) -> int:
    return v.a + w


def _a_keyword(v: Thing, *, w: int = 1) -> int:
    return v.a + w


def _nothing(v: Thing) -> None:
    return


@pytest.mark.parametrize("check", [_two_statements, _two_arguments, _a_keyword, _nothing])
def test_fuse_takes_no_check_of_another_shape(check: object) -> None:
    """It would be fused into something else than what it says."""
    with pytest.raises(TypeError, match="one return of one expression"):
        fused_source("f", [check], "Thing")  # type: ignore[list-item]


def _is_big(v: Thing) -> int:
    """One sentence is no statement."""
    return 7 if v.a > 10 else OK


def _is_negative(w: Thing) -> int:
    return 8 if _below(w, 0) else OK


def _is_even(v: Thing) -> int:
    return _parity(v)


def _parity(v: Thing) -> int:
    return OK if v.a % 2 else 9


def _below(v: Thing, bound: int) -> bool:
    return v.a < bound


def test_fuse_keeps_order_names_and_helpers() -> None:
    """The first answer wins, an argument may have any name, a helper gets the whole view."""
    scope = {**globals(), "Code": int}
    exec(fused_source("fused", [_is_big, _is_negative, _is_even], "Thing"), scope)
    assert [scope["fused"](Thing(a)) for a in (11, 10, -1, 1)] == [7, 9, 8, 0]


def _is_sure_below(v: Thing) -> bool:
    return v.a <= 10


def test_a_shortcut_asks_what_it_does_not_speak_for() -> None:
    """Where it holds, the checks it covers are not asked; all others are, in their order."""
    scope = {**globals(), "Code": int}
    shortcut = Shortcut(_is_sure_below, frozenset({"_is_big", "_is_negative"}))
    exec(fused_source("fused", [_is_big, _is_negative, _is_even], "Thing", shortcut), scope)
    assert [scope["fused"](Thing(a)) for a in (11, 10, -2, 1)] == [7, 9, 9, 0]
