"""Each check with RISK.md's worked examples, boundaries exact, and the text a person reads."""

from __future__ import annotations

import msgspec
import pytest

from engine.orders import Defer, Replay
from protocol.codes import (
    Code,
    ExecType,
    OrderType,
    OutcomeKind,
    ReferenceSource,
    Scope,
    Side,
    TimeInForce,
    TradingState,
)
from protocol.decisions import NewDecision, Reference
from protocol.params import ContractKind, InstrumentStatus, LimitName
from protocol.records import ControlAction
from protocol.session import Facts
from protocol.texts import refusal_text
from risk.gate.exposure import InstrumentState, Ledger
from risk.gate.more import Bound
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT = OrderType.MARKET, OrderType.LIMIT
NIFTY = msgspec.structs.replace(
    XY, lot_e9=65 * E9, quantity_min_e9=65 * E9, quantity_max_e9=650 * E9, price_step_e9=10**7, tick_e9=5 * 10**7
)


def code_of(decided: NewDecision | Replay | Defer) -> Code:
    assert isinstance(decided, NewDecision)
    return decided.code


def text_of(decided: NewDecision | Replay | Defer) -> str:
    assert isinstance(decided, NewDecision)
    return refusal_text(decided.code, decided.facts)


@pytest.mark.parametrize(
    ("position", "buy", "sell", "side", "quantity", "is_exit"),
    [
        (-130, 0, 0, BUY, 130, True),
        (-130, 65, 0, BUY, 130, False),
        (-130, 65, 0, BUY, 65, True),
        (65, 0, 65, SELL, 65, False),
        (0, 65, 0, SELL, 65, False),
        (0, 0, 0, SELL, 65, False),
        (-65, 0, 195, BUY, 65, True),
        (100, 0, 0, SELL, 199, False),
        (10, 0, 20, SELL, 10, False),
    ],
)
def test_exit_is_what_risk_a1_says(
    position: int, buy: int, sell: int, side: Side, quantity: int, *, is_exit: bool
) -> None:
    """The table of RISK.md A1, and the two counterexamples to judging by direction."""
    assert Ledger(position, buy, sell).is_exit(side, quantity) is is_exit


@pytest.mark.parametrize(
    ("age_ns", "expected"), [(60 * E9, Code.OK), (60 * E9 + 1, Code.MESSAGE_EXPIRED), (-E9, Code.OK)]
)
def test_an_old_order_expires(age_ns: int, expected: Code) -> None:
    """At order_age_max it passes, one ns later it does not."""
    desk = Desk()
    assert code_of(desk.submit(desk.order("1"), created_at_ns=desk.now - age_ns)) is expected


@pytest.mark.parametrize(("age_ns", "expected"), [(2 * E9, Code.OK), (2 * E9 + 1, Code.TIME_MESSAGE_STALE)])
def test_a_strategy_with_a_ttl_refuses_stale_orders(age_ns: int, expected: Code) -> None:
    """Age 2.000000000 s passes, 2.000000001 s does not; a strategy without a ttl takes both."""
    desk = Desk(given=params(ttl_ns=2 * E9))
    assert code_of(desk.submit(desk.order("1"), created_at_ns=desk.now - age_ns)) is expected
    assert code_of(desk.submit(desk.order("2", strategy="s2"), created_at_ns=desk.now - age_ns)) is Code.OK


@pytest.mark.parametrize(("ahead_ns", "expected"), [(E9, Code.OK), (E9 + 1, Code.TIME_MESSAGE_FUTURE)])
def test_an_order_from_the_future_is_refused(ahead_ns: int, expected: Code) -> None:
    """The skew allowed is inclusive."""
    desk = Desk()
    assert code_of(desk.submit(desk.order("1"), created_at_ns=desk.now + ahead_ns)) is expected


def test_a_suspended_instrument_takes_nothing() -> None:
    """Nor does one that the parameters no longer list."""
    desk = Desk(given=params(instruments=(msgspec.structs.replace(XY, status=InstrumentStatus.SUSPENDED),)))
    assert code_of(desk.submit(desk.order("1"))) is Code.INSTR_NOT_TRADABLE
    desk.set_params(params(instruments=(msgspec.structs.replace(XY, instrument="AB"),)))
    assert code_of(desk.submit(desk.order("2"))) is Code.INSTR_NOT_TRADABLE


@pytest.mark.parametrize(("left_ns", "expected"), [(1, Code.OK), (0, Code.INSTR_EXPIRED)])
def test_a_contract_expires_at_its_expiry(left_ns: int, expected: Code) -> None:
    """15:29:59.999… passes, 15:30:00 does not."""
    desk = Desk()
    desk.set_params(params(instruments=(msgspec.structs.replace(XY, expiry_ns=desk.now + left_ns),)))
    assert code_of(desk.submit(desk.order("1"))) is expected


def test_reducing_takes_exits_only() -> None:
    """P=-65: BUY 65 passes; BUY 130 and SELL 65 do not; what passed counts at once."""
    desk = Desk(position=-65)
    desk.control(ControlAction.REDUCE_ONLY, Scope.ACCOUNT, "a1")
    assert code_of(desk.submit(desk.order("1", BUY, 130))) is Code.STATE_REDUCING
    refused = desk.submit(desk.order("2", SELL, 65))
    assert text_of(refused) == "STATE_REDUCING only orders that reduce the position are taken (account a1)"
    assert code_of(desk.submit(desk.order("3", BUY, 65))) is Code.OK
    assert code_of(desk.submit(desk.order("4", BUY, 1))) is Code.STATE_REDUCING


def test_a_reducing_strategy_is_judged_in_its_own_ledger() -> None:
    """It may not close what another strategy holds, also while another scope is halted automatically."""
    desk = Desk()
    desk.fill(desk.accept(desk.order("1", BUY, 10, strategy="s2")), 10)
    desk.control(ControlAction.REDUCE_ONLY, Scope.STRATEGY, "s1")
    assert code_of(desk.submit(desk.order("2", SELL, 5))) is Code.STATE_REDUCING
    desk.state.raise_state(Scope.INSTRUMENT, "XY", TradingState.HALTED_AUTO, "overfill")
    assert code_of(desk.submit(desk.order("3", SELL, 5))) is Code.STATE_REDUCING
    assert code_of(desk.submit(desk.order("4", SELL, 5, strategy="s2"))) is Code.OK


def test_an_operators_halt_refuses_all_an_automatic_one_lets_exits_pass() -> None:
    """DECISIONS 20."""
    desk = Desk(position=10)
    desk.state.raise_state(Scope.INSTRUMENT, "XY", TradingState.HALTED_AUTO, "overfill")
    assert code_of(desk.submit(desk.order("1", BUY))) is Code.STATE_HALTED
    assert code_of(desk.submit(desk.order("2", SELL, 5))) is Code.OK
    desk.control(ControlAction.HALT)
    refused = desk.submit(desk.order("3", SELL, 5))
    assert text_of(refused) == "STATE_HALTED trading is halted (all accounts); an operator lifts it: wojak resume"


def test_a_market_order_cannot_be_good_till_cancelled() -> None:
    """It can't rest."""
    desk = Desk()
    order = desk.order("1", order_type=MARKET, time_in_force=TimeInForce.GTC)
    assert code_of(desk.submit(order)) is Code.TYPE_UNSUPPORTED
    assert code_of(desk.submit(desk.order("2", order_type=MARKET, time_in_force=TimeInForce.IOC))) is Code.OK


def test_the_price_is_above_zero_and_on_the_tick() -> None:
    """Tick 0.05: 100.65 passes, 100.67 does not; 0 is no price; half a step is no multiple either."""
    desk = Desk(given=params(instruments=(NIFTY,)))

    def at(name: str, price_e9: int) -> NewDecision | Replay | Defer:
        return desk.submit(msgspec.structs.replace(desk.order(name, BUY, 65), price_e9=price_e9))

    assert code_of(at("1", 100_650_000_000)) is Code.OK
    refused = at("2", 100_670_000_000)
    assert text_of(refused) == "PRICE_TICK expected a multiple of tick 0.05, was 100.67 (instrument XY)"
    assert code_of(at("3", 100_655_000_000)) is Code.PRICE_TICK
    assert code_of(at("4", 100_650_000_001)) is Code.PRICE_TICK
    assert text_of(at("5", 0)) == "PRICE_NOT_POSITIVE expected a price above 0, was 0 (instrument XY)"
    assert code_of(at("6", -5 * E9)) is Code.PRICE_NOT_POSITIVE


def test_without_a_fresh_price_only_a_limit_exit_goes() -> None:
    """DECISIONS 27."""
    desk = Desk(position=10)
    refused = desk.submit(desk.order("1", BUY), reference=None)
    assert text_of(refused) == "REF_STALE expected a price at most 5000 ms old, was none (instrument XY)"
    exit_market = desk.order("2", SELL, 2, order_type=MARKET, time_in_force=TimeInForce.IOC)
    assert code_of(desk.submit(exit_market, reference=None)) is Code.REF_STALE
    assert code_of(desk.submit(desk.order("3", SELL, 2), reference=None)) is Code.OK


@pytest.mark.parametrize(
    ("side", "price_e9", "expected"),
    [
        (BUY, 125_000_000_000, Code.OK), (BUY, 125_050_000_000, Code.PRICE_COLLAR), (BUY, 1_000_000_000, Code.OK),
        (SELL, 75_000_000_000, Code.OK), (SELL, 74_950_000_000, Code.PRICE_COLLAR), (SELL, 900_000_000_000, Code.OK),
    ],
)  # fmt: skip
def test_the_collar_binds_the_aggressive_side(side: Side, price_e9: int, expected: Code) -> None:
    """Reference 100, 25 %: 125 passes, 125.05 does not; the passive side is free."""
    desk = Desk(given=params(instruments=(msgspec.structs.replace(NIFTY, collar_bp=2500),)))
    order = msgspec.structs.replace(desk.order("1", side, 65), price_e9=price_e9)
    assert code_of(desk.submit(order)) is expected


def test_a_collar_refusal_says_what_it_was_held_against() -> None:
    """Bound, price, reference, its source and its age stand in one line."""
    desk = Desk()
    refused = desk.submit(desk.order("1", BUY, 1, 111), reference=Reference(100 * E9, 7 * 10**6, ReferenceSource.MID))
    assert text_of(refused) == "PRICE_COLLAR expected at most 110, was 111 (instrument XY, mid 100, 7 ms old)"
    refused = desk.submit(desk.order("2", SELL, 1, 89))
    assert text_of(refused) == "PRICE_COLLAR expected at least 90, was 89 (instrument XY, last trade 100, 0 ms old)"


def test_the_collar_rounds_inward() -> None:
    """Reference 101, 10 %: 111.1 is 111 whole steps for a buyer, 90.9 is 91 for a seller."""
    instrument = InstrumentState(XY)
    assert instrument.collar(BUY, 101 * E9) == 111
    assert instrument.collar(SELL, 101 * E9) == 91
    assert (instrument.collar(BUY, 100 * E9), instrument.collar(SELL, 100 * E9)) == (110, 90)


@pytest.mark.parametrize(("quantity", "expected"), [(65, Code.OK), (100, Code.QTY_LOT), (130, Code.OK)])
def test_the_quantity_is_in_lots(quantity: int, expected: Code) -> None:
    """Lot 65: 65 passes, 100 does not."""
    desk = Desk(given=params(instruments=(NIFTY,)))
    assert code_of(desk.submit(desk.order("1", BUY, quantity))) is expected


def test_a_part_of_a_quantity_step_is_no_lot() -> None:
    """1.5 steps is refused, not rounded."""
    desk = Desk()
    order = msgspec.structs.replace(desk.order("1"), quantity_e9=1_500_000_000)
    assert text_of(desk.submit(order)) == "QTY_LOT expected a multiple of lot 1, was 1.5 (instrument XY)"


def test_the_contracts_bounds_of_quantity() -> None:
    """650: 650 passes, 715 does not, an exit neither; below the minimum only the exit of the whole position goes."""
    small = msgspec.structs.replace(XY, quantity_min_e9=5 * E9, quantity_max_e9=650 * E9)
    desk = Desk(given=params(instruments=(small,)), position=1000)
    assert code_of(desk.submit(desk.order("1", BUY, 650))) is Code.OK
    refused = desk.submit(desk.order("2", SELL, 651))
    assert text_of(refused) == "QTY_MAX expected at most 650, was 651 (instrument XY)"
    assert text_of(desk.submit(desk.order("3", BUY, 4))) == "QTY_MIN expected at least 5, was 4 (instrument XY)"
    few = Desk(given=params(instruments=(small,)), position=3)
    assert code_of(few.submit(few.order("1", SELL, 2))) is Code.QTY_MIN
    assert code_of(few.submit(few.order("2", SELL, 3))) is Code.OK


def test_an_exit_refused_by_the_contract_is_told_the_contracts_bound() -> None:
    """Its own limit is tighter, but does not bind exits."""
    tight = params(
        limit(LimitName.QUANTITY_MAX, 5), instruments=(msgspec.structs.replace(XY, quantity_max_e9=50 * E9),)
    )
    desk = Desk(given=tight, position=100)
    assert text_of(desk.submit(desk.order("1", SELL, 60))) == "QTY_MAX expected at most 50, was 60 (instrument XY)"
    assert text_of(desk.submit(desk.order("2", BUY, 6))) == "QTY_MAX expected at most 5, was 6 (all accounts)"


@pytest.mark.parametrize(
    ("name", "most", "text"),
    [
        (LimitName.QUANTITY_MAX, 10, "QTY_MAX expected at most 10, was 11"),
        (LimitName.ORDER_VALUE_MAX, 1000, "VALUE_ORDER_MAX expected an order value of at most 1000, was 1100"),
        (LimitName.OPEN_VALUE_MAX, 1000, "VALUE_OPEN_MAX expected an open order value of at most 1000, was 1100"),
        (LimitName.POSITION_MAX, 10, "POS_LIMIT expected a worst-case position of at most 10, was 11"),
    ],
)
def test_a_limit_takes_its_value_and_refuses_one_more(name: LimitName, most: int, text: str) -> None:
    """The bound itself passes; the refusal names expected, actual and the scope that binds."""
    desk = Desk(limit(name, most, Scope.ACCOUNT, "a1"))
    assert text_of(desk.submit(desk.order("1", BUY, 11))) == f"{text} (account a1)"
    assert code_of(desk.submit(desk.order("2", BUY, 10))) is Code.OK


def test_open_value_is_summed_and_given_back() -> None:
    """Max 100: 60 + 40 passes, 60 + 41 does not; after the cancel of the 60 it does."""
    cents = msgspec.structs.replace(XY, price_step_e9=E9, multiplier_e9=10**7)
    desk = Desk(given=params(limit(LimitName.OPEN_VALUE_MAX, 100), instruments=(cents,)))
    first = desk.accept(desk.order("1", BUY, 60))
    assert code_of(desk.decide(desk.order("2", BUY, 40))) is Code.OK
    assert code_of(desk.submit(desk.order("3", BUY, 41))) is Code.VALUE_OPEN_MAX
    desk.report(ExecType.CANCELED, first.order_id)
    assert code_of(desk.submit(desk.order("4", BUY, 41))) is Code.OK


def test_open_orders_are_counted() -> None:
    """49 of 50 passes, 50 of 50 does not; an exit has no bound."""
    desk = Desk(limit(LimitName.OPEN_COUNT_MAX, 50), position=-10)
    for n in range(50):
        desk.accept(desk.order(str(n), SELL))
    refused = desk.submit(desk.order("50", SELL))
    assert text_of(refused) == "COUNT_OPEN_MAX expected open orders of at most 50, was 51 (all accounts)"
    assert code_of(desk.submit(desk.order("51", BUY, 10))) is Code.OK


def test_a_value_beyond_int64_is_malformed() -> None:
    """The value of one order stays inside int64 in 1e-9."""
    wide = msgspec.structs.replace(XY, quantity_max_e9=2**62, multiplier_e9=1000 * E9)
    desk = Desk(given=params(instruments=(wide,)))
    assert code_of(desk.submit(desk.order("1", BUY, 92_233))) is Code.OK
    assert code_of(desk.submit(desk.order("2", BUY, 92_234))) is Code.MSG_MALFORMED


def test_reduce_only_is_a_promise_that_is_verified() -> None:
    """P=10: SELL 10 passes, SELL 11 does not; with S=5 SELL 6 does not."""
    desk = Desk(position=10)
    assert code_of(desk.decide(desk.order("1", SELL, 10, reduce_only=True))) is Code.OK
    assert code_of(desk.submit(desk.order("2", SELL, 11, reduce_only=True))) is Code.REDUCE_ONLY_VIOLATION
    desk.accept(desk.order("3", SELL, 5))
    assert code_of(desk.submit(desk.order("4", SELL, 6, reduce_only=True))) is Code.REDUCE_ONLY_VIOLATION
    assert code_of(desk.submit(desk.order("5", SELL, 5, reduce_only=True))) is Code.OK


def test_the_position_limit_counts_what_is_pending() -> None:
    """Max 650: P=585 BUY 65 passes, with B=65 it does not; P=-780 (over) BUY 65 passes, SELL 65 does not."""
    row = limit(LimitName.POSITION_MAX, 650)
    desk = Desk(row, position=585)
    assert code_of(desk.submit(desk.order("1", BUY, 65))) is Code.OK
    refused = desk.submit(desk.order("2", BUY, 65))
    assert text_of(refused) == "POS_LIMIT expected a worst-case position of at most 650, was 715 (all accounts)"
    over = Desk(row, position=-780)
    assert code_of(over.submit(over.order("1", BUY, 65))) is Code.OK
    assert code_of(over.submit(over.order("2", SELL, 65))) is Code.POS_LIMIT


def test_an_answer_tells_the_position_it_may_lead_to() -> None:
    """Signed worst case on the order's side, and the limit; -1 without one."""
    desk = Desk(limit(LimitName.POSITION_MAX, 50), position=-10)
    bought, sold = desk.submit(desk.order("1", BUY, 30)), desk.submit(desk.order("2", SELL, 5))
    assert isinstance(bought, NewDecision)
    assert isinstance(sold, NewDecision)
    assert (bought.position_after_e9, bought.position_limit_e9) == (20 * E9, 50 * E9)
    assert sold.position_after_e9 == -15 * E9
    free = Desk()
    decided = free.submit(free.order("1"))
    assert isinstance(decided, NewDecision)
    assert decided.position_limit_e9 == -1


def test_the_rate_of_an_account_and_of_a_strategy() -> None:
    """10 in 1 s: the 11th at 0.999999999 s is refused, at 1.000000000 s it passes; refusals consume nothing."""
    for scope, key, code in ((Scope.ACCOUNT, "a1", Code.RATE_ACCOUNT), (Scope.STRATEGY, "s1", Code.RATE_STRATEGY)):
        desk = Desk(limit(LimitName.RATE_COUNT, 10, scope, key, window_ns=E9))
        start = desk.now
        for n in range(10):
            assert code_of(desk.submit(desk.order(str(n)))) is Code.OK
        desk.now = start + E9 - 1
        refused = desk.submit(desk.order("10"))
        where = f"{scope.name.lower()} {key}"
        assert text_of(refused) == f"{code.name} expected orders per window of at most 10, was 11 ({where})"
        desk.now = start + E9
        assert code_of(desk.submit(desk.order("11"))) is Code.OK


def test_exits_have_a_reserve_of_the_rate() -> None:
    """Two more in the window, then they are told their own bound."""
    desk = Desk(limit(LimitName.RATE_COUNT, 1, Scope.ACCOUNT, "a1", window_ns=E9, reserve_exit=2), position=10)
    assert code_of(desk.submit(desk.order("0", SELL))) is Code.OK
    assert code_of(desk.submit(desk.order("1", BUY))) is Code.RATE_ACCOUNT
    assert code_of(desk.submit(desk.order("2", SELL))) is Code.OK
    assert code_of(desk.submit(desk.order("3", SELL))) is Code.OK
    refused = desk.submit(desk.order("4", SELL))
    assert text_of(refused) == "RATE_ACCOUNT expected orders per window of at most 3, was 4 (account a1)"


def test_the_first_refusal_counts() -> None:
    """The order of RISK.md A3: the tick before the quantity, the rate last; what passed is counted."""
    desk = Desk(limit(LimitName.RATE_COUNT, 0, Scope.ACCOUNT, "a1", window_ns=E9), limit(LimitName.POSITION_MAX, 1))
    both = desk.submit(desk.order("1", BUY, 1001, 111))
    assert code_of(both) is Code.PRICE_COLLAR
    last, before = desk.submit(desk.order("2", BUY, 1)), desk.submit(desk.order("3", BUY, 2))
    assert (code_of(last), code_of(before)) == (Code.RATE_ACCOUNT, Code.POS_LIMIT)
    assert isinstance(last, NewDecision)
    assert isinstance(both, NewDecision)
    assert last.checks_passed > both.checks_passed


def test_the_tightest_scope_binds_and_a_specific_row_never_loosens() -> None:
    """DECISIONS 34, for each scope in turn."""
    for scope, key in ((Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1"), (Scope.INSTRUMENT, "XY")):
        loose = Desk(limit(LimitName.POSITION_MAX, 10), limit(LimitName.POSITION_MAX, 20, scope, key))
        assert code_of(loose.submit(loose.order("1", BUY, 11))) is Code.POS_LIMIT
        tight = Desk(limit(LimitName.POSITION_MAX, 10), limit(LimitName.POSITION_MAX, 5, scope, key))
        refused = tight.submit(tight.order("1", BUY, 6))
        assert text_of(refused).endswith(f"at most 5, was 6 ({scope.name.lower()} {key})")
        twice = Desk(limit(LimitName.POSITION_MAX, 9, scope, key), limit(LimitName.POSITION_MAX, 7, scope, key))
        assert code_of(twice.submit(twice.order("1", BUY, 8))) is Code.POS_LIMIT


def test_a_limit_beyond_int64_is_text_and_exact() -> None:
    """Money sums are unbounded; rows and facts carry them as decimal text."""
    row = msgspec.structs.replace(limit(LimitName.OPEN_VALUE_MAX, 1), value=str(10**20))
    big = msgspec.structs.replace(XY, quantity_max_e9=2**62, multiplier_e9=1000 * E9)
    desk = Desk(given=params(row, instruments=(big,)))
    for n in range(11):
        desk.accept(desk.order(str(n), BUY, 90_000))
    refused = desk.submit(desk.order("11", BUY, 92_000))
    assert isinstance(refused, NewDecision)
    assert refused.facts is not None
    assert (refused.facts.expected, refused.facts.actual) == (str(10**20), str((11 * 90_000 + 92_000) * 10**14))
    assert "was 108200000000" in text_of(refused)


def test_value_by_contract_kind() -> None:
    """LINEAR and SPOT q·p·multiplier, INVERSE q·multiplier/p; rounded up once."""
    linear = InstrumentState(msgspec.structs.replace(XY, multiplier_e9=3 * E9))
    assert linear.value_e9(2, 7) == 42 * E9
    inverse = InstrumentState(msgspec.structs.replace(XY, kind=ContractKind.INVERSE, multiplier_e9=100 * E9))
    assert inverse.value_e9(3, 4) == 75 * E9
    assert inverse.value_e9(1, 3) == 33_333_333_334
    tiny = InstrumentState(msgspec.structs.replace(XY, price_step_e9=1, quantity_step_e9=1, tick_e9=1, lot_e9=1))
    assert tiny.value_e9(1, 1) == 1
    assert tiny.unit_value_e9 == 0


def test_an_inverse_contract_passes_the_gate() -> None:
    """Its reservation is its own rounded value, and given back whole."""
    desk = Desk(given=params(instruments=(msgspec.structs.replace(XY, kind=ContractKind.INVERSE),)))
    order = desk.accept(desk.order("1", BUY, 7, 99))
    account = desk.state.accounts["a1"]
    assert account.open_value_e9 == -(-7 * E9 // 99)
    desk.fill(order, 3)
    assert account.open_value_e9 == -(-4 * E9 // 99)
    desk.fill(order, 4)
    assert account.open_value_e9 == 0


def test_every_code_of_the_gate_has_a_text() -> None:
    """A person never reads a bare code where facts are known."""
    facts = Facts(10 * E9, 11 * E9, Scope.ACCOUNT, "a1", 100 * E9, 5, ReferenceSource.MID)
    silent = {
        Code.OK, Code.MSG_MALFORMED, Code.UNSENT_STALE, Code.UNSENT_KILLED, Code.TOMBSTONE, Code.VENUE_REJECTED,
        Code.OPERATOR_RESOLVED, Code.VENUE_BOOK_STALE, Code.TOO_LATE,
    }  # fmt: skip
    bare = {code.name for code in Code if code not in silent and refusal_text(code, facts) == code.name}
    assert bare == set()


def test_nothing_binds_where_no_row_is() -> None:
    """A bound without a row is beyond any amount."""
    assert Bound().value > 2**127
    desk = Desk()
    decided = desk.submit(desk.order("1", BUY, 1000), reference=REFERENCE)
    assert isinstance(decided, NewDecision)
    assert decided.kind is OutcomeKind.ACCEPTED
