"""Used margin, prices of what is held, and profit over any history against one that is added up apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.marking import price_of
from market.table import LastValue
from protocol.codes import Code, Scope, Side
from protocol.contract_rows import ContractName
from protocol.marks import LossLevel
from protocol.params import AccountParams, LimitName, LimitRow
from protocol.records import ControlAction
from tests.unit.engine.desk import E9
from tests.unit.risk.complete import row as contract_row
from tests.unit.risk.loss_desk import A1, ACTIVE, ALL, DAILY, DRAWDOWN, REDUCING, S1, LossDesk, row

SELL = Side.SELL
AGE_NS = 5 * E9
USED = LimitRow(LimitName.MARGIN_USED_MAX_BP, *A1, 9_000)
RED, LIFTED = LossLevel.REDUCING, LossLevel.LIFTED
MARGIN = (contract_row(ContractName.MARGIN_LONG, 1 * E9), contract_row(ContractName.MARGIN_SHORT, 1 * E9))


def margined(*limits: LimitRow) -> LossDesk:
    """An account with 1000 of cash, whose margin is 1 a lot."""
    accounts = AccountParams("a1", "USDT", checks_margin=True), AccountParams("a2", "USDT")
    desk = LossDesk(*limits, accounts=accounts, contracts=MARGIN)
    desk.pays_in(1_000)
    return desk


def test_used_margin_puts_an_account_in_reduce_only_until_less_is_used() -> None:
    """90 %: 90.0 passes, 90.1 is reduce-only, 85 still, 84.9 is not any more; exits pass."""
    desk = margined(USED)
    desk.holds(900, 100)
    assert desk.marks() == []
    desk.holds(901, 100)
    assert desk.marks() == [(A1, Code.MARGIN_UTILISATION, RED)]
    reason = "MARGIN_UTILISATION: expected at most 90.00 % of the margin used, was 90.10 %"
    assert desk.state.halts[A1].reason == reason
    assert (desk.says(), desk.says(SELL)) == (Code.STATE_REDUCING, Code.OK)
    assert desk.marks() == []
    desk.holds(850, 100)
    assert desk.marks() == []
    desk.holds(849, 100)
    assert desk.marks() == [(A1, Code.MARGIN_UTILISATION, LIFTED)]
    assert (desk.is_in(), desk.says()) == (ACTIVE, Code.OK)


def test_a_person_decides_about_used_margin_until_less_was_used() -> None:
    """Resumed, it stays so; after it fell below and rose again it is reduce-only again. One by hand stays by hand."""
    desk = margined(USED)
    desk.holds(950, 100)
    desk.marks()
    desk.control(ControlAction.RESUME, *A1)
    assert (desk.marks(), desk.is_in()) == ([], ACTIVE)
    desk.holds(100, 100)
    desk.marks()
    desk.control(ControlAction.REDUCE_ONLY, *A1)
    desk.holds(950, 100)
    desk.marks()
    desk.holds(100, 100)
    assert desk.marks() == [(A1, Code.MARGIN_UTILISATION, LIFTED)]
    assert (desk.is_in(), desk.state.halts[A1].operator) == (REDUCING, "op")


def test_margin_without_any_funds_is_more_than_all_of_them() -> None:
    """Nothing to divide by, and nothing used of nothing is no breach."""
    desk = margined(USED)
    desk.pays_in(-1_000)
    assert desk.marks() == []
    desk.holds(1, 100)
    assert desk.marks() == [(A1, Code.MARGIN_UTILISATION, RED)]
    desk.rolls()
    assert desk.is_in() is REDUCING
    assert desk.hash() == desk.replayed_hash()


def last(**fields: int) -> LastValue:
    given = {
        "bid_e9": 99,
        "ask_e9": 101,
        "bid_size_e9": 1,
        "ask_size_e9": 1,
        "last_price_e9": 100,
        "traded": 0,
    } | fields
    traded = given.pop("traded")
    return LastValue(1, exch_ns=0, last_size_e9=1, last_trade_written_at_ns=traded, written_at_ns=10 * E9, **given)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (last(traded=10 * E9), (100, 100, 0)),
        (last(traded=6 * E9, bid_e9=9_950, ask_e9=10_050, last_price_e9=9_000), (9_000, 9_000, 4 * E9)),
        (last(traded=6 * E9, bid_e9=9_949, ask_e9=10_051, last_price_e9=9_000), (9_000, 10_000, 4 * E9)),
        (last(traded=6 * E9, bid_e9=9_949, ask_e9=10_051, last_price_e9=11_000), (10_000, 11_000, 4 * E9)),
        (last(traded=6 * E9, bid_e9=1, ask_e9=10_051, bid_size_e9=0, last_price_e9=11_000), (11_000, 11_000, 4 * E9)),
        (last(traded=0), (100, 100, 0)),
        (last(traded=0, ask_size_e9=0), None),
        (last(traded=10 * E9, last_price_e9=0), None),
    ],
)
def test_a_position_counts_at_the_last_trade_and_at_the_worse_where_quotes_are_wide(
    value: LastValue | None, expected: tuple[int, int, int] | None
) -> None:
    """A fresh trade, else the mid, else nothing; quotes wider than 1 %: longs at the lower, shorts at the higher."""
    assert price_of(value, 10 * E9, AGE_NS) == expected


STEPS = st.one_of(
    st.tuples(
        st.just("deal"), st.sampled_from(("a1", "a2")), st.sampled_from(("s1", "s2")), st.sampled_from(("XY", "ZZ")),
        st.sampled_from(Side), st.integers(1, 9), st.integers(95, 105), st.integers(-2, 3),
    ),
    st.tuples(st.just("mark"), st.sampled_from(("XY", "ZZ")), st.integers(90, 110)),
    st.tuples(st.just("pay"), st.integers(-1000, 1000)),
    st.tuples(st.just("roll")),
)  # fmt: skip


class Apart:
    """Profit since the day began, from every trade again: (account, strategy, instrument, signed, price, fee)."""

    def __init__(self) -> None:
        self.trades: list[tuple[str, str, str, int, int, int]] = []
        self.prices = {"XY": 100, "ZZ": 100}
        self.began: dict[object, int] = {}

    def total(self, place: tuple[Scope, str]) -> int:
        kept = [t for t in self.trades if place == ALL or place[1] in {t[0], t[1]}]
        return sum(signed * (self.prices[name] - price) - fee for _, _, name, signed, price, fee in kept)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, max_size=14))
def test_the_profit_of_any_history_is_what_its_trades_add_up_to(steps: list[tuple[object, ...]]) -> None:
    """Of an account, a strategy and the engine, whatever trades, prices, transfers and days came in whatever order."""
    places = (A1, S1, ALL)
    desk, apart = LossDesk(*(row(DAILY, 10**6, at) for at in places)), Apart()
    for step in steps:
        match step:
            case ("deal", str(account), str(strategy), str(name), Side() as side, int(quantity), int(price), int(fee)):
                desk.deals(quantity, price, side=side, fee=fee, account=account, strategy=strategy, instrument=name)
                signed = quantity if side is Side.BUY else -quantity
                apart.trades.append((account, strategy, name, signed, price, fee))
            case ("mark", str(name), int(price)):
                apart.prices[name] = price
                desk.marks(**{name: price})
            case ("pay", int(amount)):
                desk.pays_in(amount)
            case _:
                desk.marks(**apart.prices)
                apart.began = {place: apart.total(place) for place in places}
                desk.rolls(desk.state.trading_date + 1)
    desk.marks(**apart.prices)
    for place in places:
        assert desk.profit(place) == (apart.total(place) - apart.began.get(place, 0)) * E9


@settings(max_examples=25, deadline=None)
@given(
    held=st.integers(1, 50), is_long=st.booleans(), prices=st.lists(st.integers(1, 300), max_size=6),
    most=st.integers(1, 2_000), at=st.sampled_from((A1, S1, ALL)), is_unknown=st.booleans(),
)  # fmt: skip
def test_no_limit_on_losses_stops_an_exit(
    held: int, is_long: bool, prices: list[int], most: int, at: tuple[Scope, str], is_unknown: bool
) -> None:
    """RISK.md A7.1: whatever was lost, at whatever scope, known or not: the whole position gets out, and its cancel."""
    desk = LossDesk(row(DAILY, most, at), row(DRAWDOWN, most, at))
    into, out = (Side.BUY, SELL) if is_long else (SELL, Side.BUY)
    desk.deals(held, 100, side=into)
    for price in prices:
        desk.marks(XY=price)
    if is_unknown:
        desk.marks(XY=None)
    order = desk.accept(desk.order("out", out, held))
    assert order.is_exit
    assert desk.cancel("out").code is Code.OK  # type: ignore[union-attr]
    assert desk.hash() == desk.replayed_hash()


def test_a_trade_and_its_fee_taken_back_leave_no_profit() -> None:
    """A bust takes quantity, payment and fee back; the account and its strategy are where they were."""
    desk = LossDesk(row(DAILY, 10**6), row(DAILY, 10**6, S1))
    order = desk.order_of("o", "XY")
    trade_id = desk.pays(order, 3, 90, fee_e9=7 * E9)
    desk.marks(XY=95)
    assert desk.profit() == desk.profit(S1) == 8 * E9
    desk.bust(order, trade_id)
    desk.marks(XY=95)
    assert desk.profit() == desk.profit(S1) == 0
