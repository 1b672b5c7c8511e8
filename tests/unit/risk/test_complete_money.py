"""Exposure, delta, cash, margin and soft limits of the complete gate, with RISK.md's worked examples."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.holds import Held
from protocol.codes import (
    Code,
    ExecType,
    OrderType,
    OutcomeKind,
    ReferenceSource,
    Scope,
    Side,
    TimeInForce,
)
from protocol.contract_rows import (
    ContractClass,
    ContractRow,
    ContractScope,
)
from protocol.decisions import NewDecision, Reference
from protocol.money import CollateralAdjusted
from protocol.orders import NewOrder
from protocol.params import AccountParams, LimitName, LimitRow, RiskParams
from protocol.records import Adjusted
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.engine.risky_desk import RULES, RiskyDesk
from tests.unit.risk.complete import (
    BUY,
    CENT,
    NIFTY,
    OPTION,
    SELL,
    N,
    code,
    desk_of,
    given,
    order,
    row,
    says,
    text,
)
from tests.unit.venues.stage import XY


def exposed(position: int, most: int, *, weight: int = 1) -> Desk:
    rows = row(N.EXPOSURE_LONG, weight * E9), row(N.EXPOSURE_SHORT, weight * E9)
    return desk_of(*rows, limits=(LimitRow(LimitName.GROSS_MAX, Scope.GLOBAL, "", most * E9),), position=position)


@pytest.mark.parametrize(
    ("position", "side", "quantity", "expected"),
    [
        (99, BUY, 1, Code.OK), (99, BUY, 2, Code.EXPO_GROSS), (120, SELL, 240, Code.OK),
        (120, SELL, 241, Code.EXPO_GROSS), (120, BUY, 1, Code.EXPO_GROSS), (120, SELL, 120, Code.OK),
        (-99, SELL, 1, Code.OK), (-99, SELL, 2, Code.EXPO_GROSS),
    ],
)  # fmt: skip
def test_exposure_of_the_account_is_limited_on_the_worst_case(
    position: int, side: Side, quantity: int, expected: Code
) -> None:
    """Max 100 at 99: 1 more passes, 2 do not; over the limit already, what adds nothing passes."""
    assert code(exposed(position, 100), quantity, side=side) is expected


def two(delta_bp: int) -> tuple[Any, ...]:
    put = msgspec.structs.replace(OPTION, instrument="PUT", contract_class=ContractClass.PUT)
    return (NIFTY, put), ContractRow(N.DELTA_BP, ContractScope.INSTRUMENT, "PUT", delta_bp)


@pytest.mark.parametrize(
    ("puts", "name", "expected"),
    [
        (200, LimitName.UNDERLYING_MAX, Code.OK), (-200, LimitName.UNDERLYING_MAX, Code.POS_UNDERLYING),
        (200, LimitName.NET_MAX, Code.OK), (-200, LimitName.NET_MAX, Code.EXPO_NET),
    ],
)  # fmt: skip
def test_positions_of_one_underlying_count_together(puts: int, name: LimitName, expected: Code) -> None:
    """+100 futures and -200 puts at -0.5 are +200: with a limit of 200 one more future is refused."""
    instruments, delta = two(-5000)
    limits = (LimitRow(name, Scope.UNDERLYING, "NIFTY", 200 * E9),)
    desk = Desk(given=msgspec.structs.replace(params(*limits, instruments=instruments), contracts=(delta,)))
    desk.apply(Adjusted("a1", "XY", 100 * E9, 100 * E9, "", "", "opening"))
    desk.apply(Adjusted("a1", "PUT", puts * E9, 100 * E9, "", "", "opening"))
    assert code(desk, 1) is expected
    assert code(desk, 1, account="a2") is Code.OK


def test_the_net_delta_of_an_underlying_is_limited() -> None:
    """D+ = 95, max 100: 5 more pass, 6 do not."""
    for quantity, expected in ((5, Code.OK), (6, Code.EXPO_NET)):
        limits = (LimitRow(LimitName.NET_MAX, Scope.ACCOUNT, "a1", 100 * E9),)
        assert code(desk_of(limits=limits, position=95), quantity) is expected


def funded(cash_e9: int, **more: Any) -> Desk:
    accounts = (
        AccountParams("a1", "USDT", checks_cash=True, checks_margin=True), AccountParams("a2", "USDT"),
    )  # fmt: skip
    desk = desk_of(*more.pop("rows", ()), accounts=accounts, **more)
    desk.apply(Adjusted("a1", "", 0, 0, str(cash_e9), "USDT", "opening cash"))
    return desk


@pytest.mark.parametrize(("cash", "expected"), [(2_844_725, Code.OK), (2_844_724, Code.CASH_INSUFFICIENT)])
def test_a_premium_has_to_be_covered_by_cash(cash: int, expected: Code) -> None:
    """437.65 x 65 = 28,447.25: at 28,447.25 it passes, at 28,447.24 it does not; the rest is reserved then."""
    desk = funded(cash * CENT, instrument=OPTION)
    decided = says(desk, order(desk, 65, 43_765 * CENT), 43_765 * CENT)
    assert decided.code is expected
    if expected is Code.OK:
        assert code(desk, 1, 5 * CENT, reference_e9=437 * E9) is Code.CASH_INSUFFICIENT
        desk.report(ExecType.CANCELED, decided.order_id)
        assert code(desk, 1, 5 * CENT, reference_e9=437 * E9) is Code.OK
    else:
        assert text(decided) == (
            "CASH_INSUFFICIENT expected cash to be taken of at most 28447.24, was 28447.25 (account a1)"
        )


@pytest.mark.parametrize(("cash", "expected"), [(172_285, Code.OK), (172_284, Code.MARGIN_ESTIMATE)])
def test_a_short_option_has_to_be_covered_by_margin(cash: int, expected: Code) -> None:
    """NIFTY 23700CE short needs 172,285 a lot of 65: with as much it passes, with one less it does not."""
    rows = row(N.LOT, 65 * E9), row(N.MARGIN_SHORT, 172_285 * E9)
    desk = funded(cash * E9, rows=rows, instrument=OPTION)
    decided = says(desk, order(desk, 65, 43_765 * CENT, SELL), 43_765 * CENT)
    assert decided.code is expected
    if expected is Code.OK:
        assert code(desk, 65, 43_765 * CENT, SELL, reference_e9=43_765 * CENT) is Code.MARGIN_ESTIMATE


def test_a_replace_is_checked_for_what_it_adds() -> None:
    """The band, the freeze quantity and exposure hold for new terms; making an order smaller is never refused."""
    rows = row(N.BAND_HIGH, 110 * E9), row(N.FREEZE, 10 * E9), row(N.EXPOSURE_LONG, E9), row(N.EXPOSURE_SHORT, E9)
    desk = desk_of(*rows, limits=(LimitRow(LimitName.GROSS_MAX, Scope.GLOBAL, "", 8 * E9),))
    accepted = desk.accept(desk.order("1", quantity=5))
    desk.report(ExecType.NEW, accepted.order_id)
    said = [desk.decide_replace("1", "2", q, p) for q, p in ((5, 111), (11, 100), (9, 100), (8, 100), (3, 100))]
    codes = [getattr(decided, "code", None) for decided in said]
    assert codes == [Code.PRICE_BAND, Code.EXPO_GROSS, Code.EXPO_GROSS, Code.OK, Code.OK]


def test_legs_of_a_basket_are_checked_with_each_other() -> None:
    """Two legs of 3 need exposure 6 together."""
    for most, kind in ((6, OutcomeKind.ACCEPTED), (5, OutcomeKind.REJECTED)):
        desk = exposed(0, most)
        basket = desk.basket("b", desk.order("x", BUY, 3), desk.order("y", BUY, 3))
        decided = desk.submit_basket(basket)
        assert getattr(decided, "kind", None) is kind
        assert desk.hash() == desk.replayed_hash()


def test_a_market_order_takes_the_complete_gate() -> None:
    """It has no limit price: band and protection do not hold for it, the freeze quantity does."""
    desk = desk_of(row(N.BAND_HIGH, 50 * E9), row(N.FREEZE, 10 * E9))
    market = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC}
    assert code(desk, 10, 0, **market) is Code.OK
    assert code(desk, 11, 0, **market) is Code.QTY_FREEZE


def test_premiums_stay_spent_after_the_fill() -> None:
    """An option bought for 60 of 100 leaves 40, whether it works or is filled; collateral is no cash."""
    desk = funded(100 * E9, instrument=OPTION)
    desk.state.book.money.is_booked = True
    decided = says_unreplayed(desk, order(desk, 1, 60 * E9), 60 * E9)
    desk.fill(desk.state.orders[decided.order_id], 1, price=60)
    assert says_unreplayed(desk, order(desk, 1, 41 * E9), 41 * E9).code is Code.CASH_INSUFFICIENT
    assert says_unreplayed(desk, order(desk, 1, 40 * E9), 40 * E9).code is Code.OK


def says_unreplayed(desk: Desk, command: NewOrder, reference_e9: int) -> NewDecision:
    decided = desk.submit(command, reference=Reference(reference_e9, 0, ReferenceSource.LAST_TRADE))
    assert isinstance(decided, NewDecision)
    return decided


def test_collateral_counts_for_margin_after_its_haircut() -> None:
    """A margin of 90 a lot needs 90: 40 in cash and 100 less half of it."""
    for haircut_bp, expected in ((5000, Code.OK), (5001, Code.MARGIN_ESTIMATE)):
        desk = funded(40 * E9, rows=(row(N.MARGIN_SHORT, 90 * E9),))
        desk.apply(CollateralAdjusted("a1", "BOND", str(100 * E9), "USDT", haircut_bp, "0", "pledged", "ann"))
        assert code(desk, 1, side=SELL) is expected


@pytest.mark.parametrize(
    ("quantity", "expected"), [(5, Code.OK), (6, OutcomeKind.HELD), (10, OutcomeKind.HELD), (11, Code.POS_LIMIT)]
)
def test_above_the_soft_limit_the_service_judges_and_above_the_hard_one_nobody(
    quantity: int, expected: Code | OutcomeKind
) -> None:
    """RISK.md A0: soft 5, hard 10; where the code is not routed to the service only the hard value counts."""
    row = LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 10 * E9, soft=5 * E9)
    desk = RiskyDesk(RULES, row)
    decided = desk.ask(desk.order("1", quantity=quantity))
    if isinstance(decided, Held):
        assert (decided.decision.kind, decided.codes) == (expected, (Code.POS_LIMIT,))
    else:
        assert getattr(decided, "code", None) is expected
    plain = Desk(row)
    said = plain.decide(plain.order("1", quantity=quantity))
    assert getattr(said, "code", None) is (Code.OK if quantity <= 10 else Code.POS_LIMIT)


def test_every_forwarded_code_is_collected_and_one_refusal_wins() -> None:
    """RISK.md A3: the service sees the whole list; a check that is not its to judge refuses."""
    rules = RiskParams((Code.POS_LIMIT, Code.EXPO_GROSS, Code.MARGIN_ESTIMATE))
    rows = row(N.EXPOSURE_LONG, E9), row(N.EXPOSURE_SHORT, E9), row(N.MARGIN_LONG, E9), row(N.FREEZE, 50 * E9)
    most = ((LimitName.GROSS_MAX, 8), (LimitName.POSITION_MAX, 9))
    limits = tuple(LimitRow(name, Scope.GLOBAL, "", value * E9) for name, value in most)
    accounts = (AccountParams("a1", "USDT", checks_margin=True),)
    desk = RiskyDesk(rules, *limits)
    desk.set_params(given(*rows, limits=limits, accounts=accounts, risk=rules, instrument=XY))
    decided = desk.ask(desk.order("1", quantity=10))
    assert isinstance(decided, Held)
    assert decided.codes == (Code.POS_LIMIT, Code.EXPO_GROSS, Code.MARGIN_ESTIMATE)
    assert desk.state.routes["a1", "s1", "XY"].more.account.gross_e18 == 10 * E9 * E9
    desk.cancel("1")
    assert desk.state.routes["a1", "s1", "XY"].more.account.gross_e18 == 0
    refused = desk.ask(desk.order("2", quantity=51))
    assert getattr(refused, "code", None) is Code.QTY_FREEZE
    assert desk.hash() == desk.replayed_hash()
