"""The checks of the complete gate with RISK.md's worked examples, boundaries exact, and the text a person reads."""

from __future__ import annotations

import msgspec
import pytest

from protocol.codes import (
    Code,
    Scope,
    Side,
    TradingState,
)
from protocol.contract_rows import (
    ContractClass,
    ContractRow,
    ContractScope,
    RestrictionKind,
    RestrictionRow,
    VenueRow,
)
from protocol.params import AccountParams, LimitName, LimitRow, StrategyParams
from protocol.records import Adjusted
from protocol.rolls import SessionRolled
from tests.unit.engine.desk import E9, Desk
from tests.unit.risk.complete import (
    BUY,
    CENT,
    HOUR_NS,
    MS,
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


def test_a_route_without_parameters_takes_the_plain_gate() -> None:
    """Absent parameters cost nothing: no route of such an engine is looked at by the complete gate."""
    desk = Desk()
    desk.accept(desk.order("1"))
    assert not any(route.is_complete for route in desk.state.routes.values())
    assert desk.state.flow.is_empty


@pytest.mark.parametrize(("price_e9", "expected"), [(26_400 * E9, Code.OK), (26_400 * E9 + 5 * CENT, Code.PRICE_BAND)])
def test_a_price_stays_inside_the_days_band(price_e9: int, expected: Code) -> None:
    """Base 24000, 10 %: 26400.00 passes, 26400.05 does not."""
    desk = desk_of(row(N.BAND_LOW, 21_600 * E9), row(N.BAND_HIGH, 26_400 * E9))
    decided = says(desk, order(desk, 1, price_e9), 24_000 * E9)
    assert decided.code is expected
    if expected is Code.PRICE_BAND:
        assert text(decided) == (
            "PRICE_BAND expected at most 26400, the day's price band, was 26400.05 (instrument XY)"
        )


@pytest.mark.parametrize(
    ("reference", "side", "price", "expected"),
    [
        (5000, BUY, 7000, Code.OK), (5000, BUY, 7005, Code.PRICE_LPP), (5005, BUY, 7005, Code.OK),
        (5005, BUY, 7010, Code.PRICE_LPP), (5005, SELL, 3005, Code.OK), (5005, SELL, 3000, Code.PRICE_LPP),
        (5005, BUY, 5, Code.OK), (5005, SELL, 9000, Code.OK),
    ],
)  # fmt: skip
def test_limit_prices_are_protected_around_the_reference(
    reference: int, side: Side, price: int, expected: Code
) -> None:
    """Options: up to 50 a width of 20, else 40 %; in hundredths. The passive side is free."""
    rows = row(N.LPP_BREAK, 50 * E9), row(N.LPP_ABSOLUTE, 20 * E9), row(N.LPP_BP, 4000)
    desk = desk_of(*rows, instrument=OPTION)
    assert code(desk, 1, price * CENT, side, reference_e9=reference * CENT) is expected


def test_index_futures_have_a_width_of_200_up_to_10000() -> None:
    """Reference 8000: 8200 passes, a tick more does not."""
    rows = row(N.LPP_BREAK, 10_000 * E9), row(N.LPP_ABSOLUTE, 200 * E9), row(N.LPP_BP, 200)
    desk = desk_of(*rows)
    assert code(desk, 1, 8200 * E9, reference_e9=8000 * E9) is Code.OK
    assert code(desk, 1, 8200 * E9 + 5 * CENT, reference_e9=8000 * E9) is Code.PRICE_LPP


@pytest.mark.parametrize(("quantity", "expected"), [(1755, Code.OK), (1820, Code.QTY_FREEZE)])
def test_more_than_the_freeze_quantity_is_refused(quantity: int, expected: Code) -> None:
    """NIFTY 1800, lot 65: 1755 passes, 1820 does not; a row of the underlying gives lot and freeze."""
    rows = (
        ContractRow(N.LOT, ContractScope.UNDERLYING, "NIFTY", 65 * E9),
        ContractRow(N.FREEZE, ContractScope.UNDERLYING, "NIFTY", 1800 * E9),
    )
    desk = desk_of(*rows)
    decided = says(desk, order(desk, quantity))
    assert decided.code is expected
    assert code(desk, 100) is Code.QTY_LOT
    if expected is Code.QTY_FREEZE:
        assert text(decided) == "QTY_FREEZE expected at most the freeze quantity 1800, was 1820 (instrument XY)"


def test_the_least_notional_lets_exits_pass() -> None:
    """5 USDT: 5 passes, 4.99 does not; an exit of 4.99 does."""
    rows = (row(N.ORDER_VALUE_MIN, 5 * E9),)
    assert code(desk_of(*rows), 1, 5 * E9, reference_e9=5 * E9) is Code.OK
    cheap = msgspec.structs.replace(NIFTY, tick_e9=CENT)
    assert code(desk_of(*rows, instrument=cheap), 1, 499 * CENT, reference_e9=5 * E9) is Code.VALUE_ORDER_MIN
    held = desk_of(*rows, instrument=cheap, position=1)
    assert code(held, 1, 499 * CENT, SELL, reference_e9=5 * E9) is Code.OK


def at(desk: Desk, ns: int) -> Desk:
    desk.now = ns
    return desk


IST = 19_800 * E9
HOURS = VenueRow("sandbox", (9 * 60 + 15) * 60 * E9, (15 * 60 + 30) * 60 * E9, IST, 0b0011111, (20260601,))
MIDNIGHT = 1_780_012_800 * E9 - IST  # 2026-05-29, a Friday, at the venue


@pytest.mark.parametrize(
    ("hour_ms", "expected"),
    [
        ((9 * 60 + 15) * 60_000 - 1, Code.SESSION_CLOSED), ((9 * 60 + 15) * 60_000, Code.OK),
        ((15 * 60 + 30) * 60_000 - 1, Code.OK), ((15 * 60 + 30) * 60_000, Code.SESSION_CLOSED),
    ],
)  # fmt: skip
def test_orders_are_taken_within_the_venues_hours(hour_ms: int, expected: Code) -> None:
    """09:14:59.999 no, 09:15 yes, 15:29:59.999 yes, 15:30 no."""
    desk = Desk(given=given(venues=(HOURS,)), trading_date=20260529)
    at(desk, MIDNIGHT + hour_ms * MS)
    assert code(desk) is expected


@pytest.mark.parametrize("date", [20260530, 20260531, 20260601])
def test_weekends_and_holidays_have_no_hours(date: int) -> None:
    """The roll to such a date closes the venue, and says until when it was open."""
    desk = Desk(given=given(venues=(HOURS,)), trading_date=20260529)
    at(desk, MIDNIGHT + 10 * HOUR_NS)
    assert code(desk) is Code.OK
    desk.apply(SessionRolled(20260529, date, "", "", 0))
    assert code(desk, 2) is Code.SESSION_CLOSED


def test_new_risk_ends_before_expiry() -> None:
    """30 minutes: 14:59:59 passes, 15:00 does not; an exit does; the other side is free."""
    expiry_ns = MIDNIGHT + (15 * 60 + 30) * 60 * E9
    instrument = msgspec.structs.replace(OPTION, expiry_ns=expiry_ns)
    for second_before, side, position, expected in (
        (1801, SELL, 0, Code.OK), (1800, SELL, 0, Code.INSTR_EXPIRY_CUTOFF), (1800, BUY, 0, Code.OK),
        (1800, SELL, 1, Code.OK),
    ):  # fmt: skip
        desk = desk_of(row(N.CUTOFF_SELL_NS, 1800 * E9), instrument=instrument, position=position)
        at(desk, expiry_ns - second_before * E9)
        assert code(desk, 1, side=side) is expected


@pytest.mark.parametrize(
    ("exits", "side", "expected"),
    [(True, SELL, Code.OK), (False, SELL, Code.INSTR_RESTRICTED), (True, BUY, Code.INSTR_RESTRICTED)],
)
def test_a_restricted_list_may_let_exits_pass(exits: bool, side: Side, expected: Code) -> None:
    """Where it says so."""
    restricted = RestrictionRow(RestrictionKind.NO_ORDERS, instrument="XY", account="a1", exits=exits)
    desk = desk_of(restrictions=(restricted,), position=1)
    assert code(desk, 1, side=side) is expected


def test_a_banned_underlying_takes_exits_only() -> None:
    """P=+500: SELL 500 passes, SELL 1000 and BUY do not."""
    ban = RestrictionRow(RestrictionKind.EXITS_ONLY, underlying="NIFTY")
    assert code(desk_of(restrictions=(ban,), position=500), 500, side=SELL) is Code.OK
    assert code(desk_of(restrictions=(ban,), position=500), 1000, side=SELL) is Code.INSTR_BAN_REDUCE_ONLY
    assert code(desk_of(restrictions=(ban,), position=500), 1, side=BUY) is Code.INSTR_BAN_REDUCE_ONLY


@pytest.mark.parametrize(
    ("contract_class", "quantity", "expected"),
    [
        (ContractClass.CALL, 65, Code.OK), (ContractClass.CALL, 130, Code.PERM_OPTION_WRITE),
        (ContractClass.EQUITY, 65, Code.OK), (ContractClass.EQUITY, 66, Code.PERM_SHORT_SELL),
        (ContractClass.INDEX_FUTURE, 130, Code.OK),
    ],
)  # fmt: skip
def test_selling_more_than_is_held_takes_a_permission(
    contract_class: ContractClass, quantity: int, expected: Code
) -> None:
    """P=65: SELL 65 passes, more does not, of options and of what is owned."""
    people = AccountParams("a1", "USDT", option_write=False), AccountParams("a2", "USDT", short_sell=False)
    account = "a2" if contract_class is ContractClass.EQUITY else "a1"
    instrument = msgspec.structs.replace(NIFTY, contract_class=contract_class)
    desk = desk_of(accounts=people, instrument=instrument)
    desk.apply(Adjusted(account, "XY", 65 * E9, 100 * E9, "", "", "opening"))
    assert code(desk, quantity, side=SELL, account=account) is expected


def test_a_venue_may_need_a_registered_strategy() -> None:
    """An id set passes, none is refused."""
    venue = VenueRow("sandbox", needs_algo_id=True)
    strategies = StrategyParams("s1", algo_id="NSE-17"), StrategyParams("s2")
    desk = desk_of(venues=(venue,), strategies=strategies)
    assert code(desk, strategy="s1") is Code.OK
    assert code(desk, strategy="s2") is Code.ALGO_ID_MISSING


def test_the_same_terms_again_are_a_duplicate_within_the_window() -> None:
    """500 ms: at 499.999 refused, at 500 taken; one tick off is another order; exits too."""
    limits = (LimitRow(LimitName.DUPLICATE_COUNT, Scope.GLOBAL, "", 1, 500 * MS),)
    desk = desk_of(limits=limits)
    first = desk.now
    assert code(desk) is Code.OK
    assert code(desk, 1, 100 * E9 + 5 * CENT) is Code.OK
    at(desk, first + 499_999_000)
    decided = says(desk, order(desk))
    assert decided.code is Code.DUP_ECONOMIC
    assert "expected orders of the same terms within the window of at most 1, was 2" in text(decided)
    at(desk, first + 500 * MS)
    assert code(desk) is Code.OK


def test_the_twentieth_intent_without_a_fill_halts_the_strategy() -> None:
    """n=20 in 10 s: the 20th is refused and halts, the state survives a replay, and a fill begins anew."""
    limits = (LimitRow(LimitName.INTENT_COUNT, Scope.STRATEGY, "s1", 20, 10 * E9),)
    desk = desk_of(limits=limits)
    for n in range(19):
        desk.now += MS
        accepted = says(desk, order(desk, 1, (100 + n) * E9))
        assert accepted.code is Code.OK
        if n == 5:
            desk.fill(desk.state.orders[accepted.order_id], 1)
    for n in range(6):
        assert code(desk, 1, (200 + n) * E9, reference_e9=200 * E9) is Code.OK
    assert code(desk, 1, 300 * E9, reference_e9=300 * E9) is Code.LOOP_INTENT
    assert desk.state.strategies["s1"].state is TradingState.HALTED_AUTO
    assert code(desk, 1, 301 * E9, reference_e9=300 * E9) is Code.STATE_HALTED
    assert desk.hash() == desk.replayed_hash()


def test_accepted_orders_of_a_day_are_counted() -> None:
    """9999 pass, the 10000th does not where 9999 are allowed; the next trading date begins at 0; exits pass."""
    limits = (LimitRow(LimitName.DAILY_COUNT_MAX, Scope.ACCOUNT, "a1", 2),)
    desk = desk_of(limits=limits, position=5)
    assert [code(desk, 1), code(desk, 2), code(desk, 3)] == [Code.OK, Code.OK, Code.COUNT_DAILY_MAX]
    assert code(desk, 1, side=SELL) is Code.OK
    assert code(desk, 1, account="a2") is Code.OK
    desk.apply(SessionRolled(desk.state.trading_date, desk.state.trading_date + 1, "", "", 0))
    assert code(desk, 3) is Code.OK


@pytest.mark.parametrize("name", [LimitName.GLOBAL_RATE_COUNT, LimitName.VENUE_RATE_COUNT])
def test_rates_of_the_venue_and_of_everything_are_sliding(name: LimitName) -> None:
    """N=10, W=1 s: the 11th at 0.999999999 s is refused, at 1.000000000 s taken; exits have a reserve."""
    scope, key = (Scope.GLOBAL, "") if name is LimitName.GLOBAL_RATE_COUNT else (Scope.VENUE, "sandbox")
    desk = desk_of(limits=(LimitRow(name, scope, key, 10, E9, 1),), position=5)
    first = desk.now
    assert [code(desk, account="a2") for _ in range(10)] == [Code.OK] * 10
    at(desk, first + E9 - 1)
    assert code(desk) is (Code.RATE_GLOBAL if scope is Scope.GLOBAL else Code.RATE_VENUE)
    assert code(desk, 1, side=SELL) is Code.OK
    at(desk, first + E9)
    assert code(desk) is Code.OK
