"""The core's decisions: replays, conflicts, tombstones, permissions, full tables, controls, clocks, parameters."""

from __future__ import annotations

import msgspec
import pytest

from engine.core import Core
from engine.order import Order
from engine.orders import Defer, Replay
from engine.state import Halt
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind, RetryReason, Scope, Side, TradingState
from protocol.decisions import CancelDecision, NewDecision
from protocol.params import LimitName
from protocol.records import Adjusted, Clocked, ControlAction, Controlled, Failed, Queried, VenueChanged
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus


def rejected(decided: object) -> Code:
    assert isinstance(decided, NewDecision | CancelDecision)
    assert decided.kind is OutcomeKind.REJECTED
    return decided.code


def test_a_repeat_is_answered_by_the_first_outcome() -> None:
    """Accepted or refused, the answer is where the first one stands, with the order's state of now."""
    desk = Desk(limit(LimitName.POSITION_MAX, 5))
    order = desk.accept(desk.order("1"))
    at = desk.seq
    assert desk.submit(desk.order("1")) == Replay(at, S.PENDING_NEW)
    desk.fill(order, 1)
    assert desk.submit(desk.order("1")) == Replay(at, S.FILLED)
    assert rejected(desk.submit(desk.order("2", BUY, 6))) is Code.POS_LIMIT
    assert desk.submit(desk.order("2", BUY, 6)) == Replay(desk.seq, S.REJECTED)


def test_the_same_id_with_other_content_is_a_conflict_that_takes_nothing() -> None:
    """The first order stays what it is, however often that is tried; another account's id is another id."""
    desk = Desk()
    desk.accept(desk.order("1"))
    decided = desk.submit(desk.order("1", BUY, 2))
    assert rejected(decided) is Code.ID_CONFLICT
    assert isinstance(decided, NewDecision)
    assert not decided.takes_key
    assert isinstance(desk.submit(desk.order("1")), Replay)
    assert isinstance(desk.submit(desk.order("1", account="a2")), NewDecision)


def test_who_may_not_trade_leaves_no_trace() -> None:
    """No key, no tombstone: the owner's order of the same id is taken."""
    desk = Desk()
    keys = desk.state.dedup.keys
    for order, principal in (
        (desk.order("1", account="a2"), "one"), (desk.order("1", strategy="s2"), "one"), (desk.order("1"), "nobody"),
    ):  # fmt: skip
        assert rejected(desk.submit(order, principal=principal)) is Code.AUTH_NOT_PERMITTED
    assert rejected(desk.cancel("1", account="a2", principal="one")) is Code.AUTH_NOT_PERMITTED
    assert rejected(desk.cancel("1", principal="nobody")) is Code.AUTH_NOT_PERMITTED
    assert desk.state.dedup.keys == keys
    desk.accept(desk.order("1"))


def test_unknown_names_are_refused_and_named() -> None:
    """Account, strategy, instrument, in this order; the refusal is the id's outcome from then on."""
    desk = Desk()
    for n, (changed, code) in enumerate(
        [({"account": "zz"}, Code.ACCOUNT_UNKNOWN), ({"strategy": "zz"}, Code.STRATEGY_UNKNOWN),
         ({"instrument": "zz"}, Code.INSTR_UNKNOWN)]
    ):  # fmt: skip
        order = desk.order(str(n), **changed)  # type: ignore[arg-type]
        decided = desk.submit(order)
        assert rejected(decided) is code
        assert isinstance(decided, NewDecision)
        assert decided.facts is not None
        assert decided.facts.key == "zz"
        assert isinstance(desk.submit(order), Replay)
    assert rejected(desk.cancel("1", account="zz")) is Code.ACCOUNT_UNKNOWN


def test_a_cancel_may_come_first() -> None:
    """It leaves a tombstone; the order is refused, whatever it says, and that is its outcome; cancels repeat."""
    desk = Desk()
    for _ in range(2):
        early = desk.cancel("1")
        assert isinstance(early, CancelDecision)
        assert (early.kind, early.code, early.status) == (OutcomeKind.ACCEPTED, Code.TOMBSTONE, S.TOMBSTONE)
    assert rejected(desk.submit(desk.order("1"))) is Code.CANCELLED_BEFORE_ARRIVAL
    assert isinstance(desk.submit(desk.order("1")), Replay)
    assert rejected(desk.submit(desk.order("1", BUY, 9))) is Code.ID_CONFLICT
    assert rejected(desk.cancel("1")) is Code.ORDER_TERMINAL
    assert desk.hash() == desk.replayed_hash()


def test_cancels_are_idempotent_by_state() -> None:
    """Live: sent once; pending: accepted, not sent again; refused by the venue: sent again; over: ORDER_TERMINAL."""
    desk = Desk()
    order = desk.accept(desk.order("1"))
    first, second = desk.cancel("1"), desk.cancel("1")
    assert isinstance(first, CancelDecision)
    assert isinstance(second, CancelDecision)
    assert (first.venue_seq, second.venue_seq, second.kind) == (2, 0, OutcomeKind.ACCEPTED)
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=2)
    third = desk.cancel("1")
    assert isinstance(third, CancelDecision)
    assert third.venue_seq == 3
    desk.report(ExecType.CANCELED, order.order_id, venue_seq=3)
    assert rejected(desk.cancel("1")) is Code.ORDER_TERMINAL


@pytest.mark.parametrize("state", [ControlAction.HALT, ControlAction.REDUCE_ONLY, ControlAction.KILL])
def test_nothing_stops_a_cancel(state: ControlAction) -> None:
    """Halted, reducing, rate used up, venue gone: the cancel of a live order is numbered for the venue."""
    desk = Desk(limit(LimitName.RATE_COUNT, 2, Scope.ACCOUNT, "a1", window_ns=E9), position=-5)
    desk.accept(desk.order("1", BUY))
    desk.accept(desk.order("2", BUY))
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 0))
    desk.control(state)
    for name in ("1", "2"):
        decided = desk.cancel(name)
        assert isinstance(decided, CancelDecision)
        assert decided.kind is OutcomeKind.ACCEPTED
    assert all(order.cancel_seq for order in desk.state.orders.values())


def test_a_full_table_takes_cancels_and_exits_until_the_reserve_is_gone() -> None:
    """New risk gets RETRY, refusals of unknown names too; nothing ever meets the table's end."""
    desk = Desk(keys_max=3, position=10)
    for n in range(3):
        desk.accept(desk.order(str(n)))
    assert desk.submit(desk.order("a")) == Defer(RetryReason.DEDUP_FULL)
    assert desk.submit(desk.order("b", instrument="zz")) == Defer(RetryReason.DEDUP_FULL)
    assert isinstance(desk.submit(desk.order("0")), Replay)
    assert isinstance(desk.submit(desk.order("c", SELL)), NewDecision)
    assert isinstance(desk.cancel("early"), CancelDecision)
    table = desk.state.dedup
    while not table.is_exhausted:
        n = table.keys
        table.insert(-1 - table.find(n, n), n, n, 0, 0)
    assert desk.submit(desk.order("d", SELL)) == Defer(RetryReason.DEDUP_FULL)
    assert desk.cancel("earlier") == Defer(RetryReason.DEDUP_FULL)
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 0))
    desk.now += 60 * E9
    for order in (desk.order("e", SELL), desk.order("f"), desk.order("g", instrument="zz")):
        assert desk.submit(order) == Defer(RetryReason.DEDUP_FULL)
    assert isinstance(desk.cancel("0"), CancelDecision)


def test_a_session_in_retry_still_takes_exits() -> None:
    """New risk waits for RESUME (DECISIONS 12); a known id is answered."""
    desk = Desk(position=10)
    desk.accept(desk.order("0"))
    defer = RetryReason.DISK_RESERVE
    assert desk.submit(desk.order("1"), defer=defer) == Defer(defer)
    assert isinstance(desk.submit(desk.order("2", SELL), defer=defer), NewDecision)
    assert isinstance(desk.submit(desk.order("0"), defer=defer), Replay)


def test_a_venue_that_is_down_defers_then_refuses() -> None:
    """RETRY for venue_wait, then VENUE_DOWN; the cancel of a live order goes on."""
    desk = Desk()
    desk.accept(desk.order("0"))
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 0))
    assert desk.submit(desk.order("1")) == Defer(RetryReason.VENUE_NOT_READY)
    desk.now += params().venue_wait_ns
    assert rejected(desk.submit(desk.order("1"))) is Code.VENUE_DOWN
    assert isinstance(desk.cancel("0"), CancelDecision)


def test_poison_is_answered_once_and_puts_the_account_in_reduce_only() -> None:
    """DESIGN 6.12: the key is taken, a repeat is answered, the account only exits."""
    desk = Desk(position=10)
    order = desk.order("1")
    desk.apply(Failed("src", desk.item(order), "a1", "ZeroDivisionError", desk.seq + 1))
    assert isinstance(desk.submit(order), Replay)
    assert rejected(desk.submit(desk.order("2"))) is Code.STATE_REDUCING
    assert isinstance(desk.submit(desk.order("3", SELL, 5)), NewDecision)
    assert desk.state.accounts["a2"].state is TradingState.ACTIVE
    desk.apply(Failed("src", desk.item(order), "nobody", "KeyError", desk.seq + 1))
    assert desk.hash() == desk.replayed_hash()


# Controls


def test_halt_cancels_nothing_and_resume_lifts_it() -> None:
    """DECISIONS 20."""
    desk = Desk()
    desk.accept(desk.order("1"))
    (record,) = desk.control(ControlAction.HALT, Scope.ACCOUNT, "a1")
    assert record.cancels == []
    assert rejected(desk.submit(desk.order("2"))) is Code.STATE_HALTED
    desk.accept(desk.order("3", account="a2"))
    desk.control(ControlAction.RESUME, Scope.ACCOUNT, "a1")
    desk.accept(desk.order("4"))
    assert desk.state.halts == {}


def test_kill_cancels_what_was_sent_and_voids_what_was_not() -> None:
    """Nothing accepted before a kill is sent after it."""
    desk = Desk()
    sent, unsent = desk.accept(desk.order("1")), desk.accept(desk.order("2"))
    other = desk.accept(desk.order("3", account="a2"))
    (record,) = desk.control(ControlAction.KILL, Scope.ACCOUNT, "a1", unsent_from=unsent.venue_seq)
    by_id = {c.order_id: c for c in record.cancels}
    assert by_id[sent.order_id].venue_seq == 4
    assert (by_id[unsent.order_id].venue_seq, by_id[unsent.order_id].code) == (0, Code.UNSENT_KILLED)
    assert (sent.status, unsent.status, other.status) == (S.PENDING_CANCEL, S.CANCELED, S.PENDING_NEW)
    assert desk.state.venues["sandbox"].awaiting[unsent.venue_seq].kind.name == "VOID"
    assert rejected(desk.cancel("2")) is Code.ORDER_TERMINAL
    (again,) = desk.control(ControlAction.KILL, Scope.ACCOUNT, "a1")
    assert again.cancels == []


def test_reduce_only_cancels_what_increases_newest_first() -> None:
    """Until exits alone are left: of three SELL 5 on +10 the newest goes, and every BUY."""
    desk = Desk(position=10)
    names = [desk.accept(desk.order(str(n), SELL, 5)) for n in range(3)]
    buy = desk.accept(desk.order("b", BUY))
    (record,) = desk.control(ControlAction.REDUCE_ONLY, Scope.ACCOUNT, "a1")
    assert [c.order_id for c in record.cancels] == [buy.order_id, names[2].order_id]


def test_a_strategys_reduce_only_counts_its_own_ledger() -> None:
    """What would close another strategy's position is no exit of this one."""
    desk = Desk()
    desk.fill(desk.accept(desk.order("1", SELL, 10, strategy="s2")), 10)
    mine = desk.accept(desk.order("2", BUY, 10))
    (record,) = desk.control(ControlAction.REDUCE_ONLY, Scope.STRATEGY, "s1")
    assert [c.order_id for c in record.cancels] == [mine.order_id]


def test_a_clock_jump_is_reduce_only_until_confirmed() -> None:
    """DESIGN 6.16; the confirmation lifts the clock's reason and no other."""
    desk = Desk()
    confirm = Controlled(ControlAction.CONFIRM_CLOCK, Scope.GLOBAL, "", "op", "checked", False, [])
    desk.apply(Clocked(6 * E9))
    assert desk.state.unconfirmed_jump
    assert rejected(desk.submit(desk.order("1"))) is Code.STATE_REDUCING
    desk.apply(confirm)
    assert not desk.state.unconfirmed_jump
    desk.accept(desk.order("2"))
    desk.apply(Clocked(6 * E9))
    desk.control(ControlAction.HALT)
    desk.apply(confirm)
    assert desk.state.halts[Scope.GLOBAL, ""] == Halt(TradingState.HALTED, "why", "op")
    desk.control(ControlAction.RESUME)
    desk.apply(Clocked(6 * E9))
    desk.report(ExecType.TRADE, "stranger", quantity=1)
    desk.apply(confirm)
    assert desk.state.book.state is TradingState.REDUCING
    assert desk.hash() == desk.replayed_hash()


def test_parameters_change_and_the_state_stays() -> None:
    """New limits bind the next order; positions, orders and halts are as before."""
    desk = Desk(limit(LimitName.POSITION_MAX, 50), position=3)
    order = desk.accept(desk.order("1", BUY, 10))
    desk.set_params(params(limit(LimitName.POSITION_MAX, 13)))
    assert rejected(desk.submit(desk.order("2"))) is Code.POS_LIMIT
    assert desk.state.orders[order.order_id] is order
    desk.set_params(params())
    desk.accept(desk.order("3", BUY, 100))
    assert desk.position == 3
    assert desk.hash() == desk.replayed_hash()


def test_opening_truth_is_set_not_added() -> None:
    """Positions and cash from a file, whatever was there before."""
    desk = Desk(position=7)
    desk.apply(Adjusted("a1", "XY", -4 * E9, 100 * E9, "", "", "again"))
    desk.apply(Adjusted("a1", "", 0, 0, str(10**30), "USDT", "cash"))
    assert desk.position == -4
    assert desk.state.accounts["a1"].cash_e9 == {"USDT": 10**30}


# Orders in doubt


def in_doubt() -> tuple[Desk, Order]:
    """Return a desk with one UNKNOWN order whose query has number 2."""
    desk = Desk()
    order = desk.accept(desk.order("1", BUY, 5))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 1))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 1)
    assert queried == Queried("sandbox", [(order.order_id, 2)])
    desk.apply(queried)
    assert order.status is S.UNKNOWN
    return desk, order


def test_an_order_without_an_answer_stays_reserved_until_one_comes() -> None:
    """It counts in the worst case; the venue's status ends the doubt."""
    desk, order = in_doubt()
    assert desk.state.book.ledger("a1", "XY").buy == 5
    desk.report(ExecType.ORDER_STATUS, order.order_id, status=S.NEW, venue_seq=2)
    assert order.status is S.NEW
    assert desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 2) is None


def test_what_filled_while_in_doubt_is_in_doubt_when_asked_again() -> None:
    """A fill ends the doubt of an order whose query is unanswered; lost again, it is asked and UNKNOWN again."""
    desk, order = in_doubt()
    desk.report(ExecType.TRADE, order.order_id, status=S.PARTIALLY_FILLED, quantity=2, trade_id="t1")
    assert order.status is S.PARTIALLY_FILLED
    again = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 2)
    assert again is not None
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 2))
    desk.apply(again)
    assert order.status is S.UNKNOWN
    assert desk.state.book.ledger("a1", "XY").buy == 3


def test_what_the_venue_never_saw_is_sent_again_under_its_id_or_cancelled() -> None:
    """Through the send gate: the same order id with a new number; or UNSENT where it may no longer go."""
    desk, order = in_doubt()
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=2)
    venue = desk.state.venues["sandbox"]
    assert list(venue.not_found) == [order.order_id]
    stale = desk.core.reports.decide_send(order, 3, desk.now, None)
    assert (stale.code, stale.cancel is not None) == (Code.REF_STALE, True)
    desk.apply(desk.core.reports.decide_send(order, 3, desk.now, REFERENCE))
    assert (order.venue_seq, venue.last_seq, dict(venue.not_found)) == (3, 3, {})
    assert desk.hash() == desk.replayed_hash()


def test_an_order_that_turns_up_after_all_is_not_sent_again() -> None:
    """NOT_FOUND, then its acknowledgement: a venue that was slow, not one that lost it."""
    desk, order = in_doubt()
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=2)
    desk.report(ExecType.NEW, order.order_id)
    assert desk.state.venues["sandbox"].not_found == {}


def test_a_cancel_that_got_lost_can_be_sent_again() -> None:
    """The venue says that the order works: a later cancel goes out under a new number."""
    desk = Desk()
    order = desk.accept(desk.order("1", BUY, 5))
    desk.cancel("1")
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 2))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 2)
    assert queried is not None
    desk.apply(queried)
    desk.report(ExecType.ORDER_STATUS, order.order_id, status=S.NEW, venue_seq=3)
    again = desk.cancel("1")
    assert isinstance(again, CancelDecision)
    assert again.venue_seq == 4
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=4)
    assert order.status is S.NEW


def test_what_was_cancelled_in_doubt_is_not_sent_again() -> None:
    """The venue refuses the cancel of an order that it never saw: found by seed 1707."""
    desk, order = in_doubt()
    desk.control(ControlAction.KILL)
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=3)
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=2)
    decided = desk.core.reports.decide_send(order, 4, desk.now, REFERENCE)
    assert decided.cancel is not None
    assert decided.cancel.code is Code.UNSENT_KILLED


def test_what_the_venue_never_saw_is_not_in_doubt_again() -> None:
    """Cancelled in doubt, not found, and its gateway comes back before the next turn: over, not UNKNOWN once more."""
    desk, order = in_doubt()
    desk.cancel("1")
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=2)
    assert desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 3) is None
    desk.apply(desk.core.reports.decide_send(order, 4, desk.now, REFERENCE))
    assert (order.status, desk.state.orders) == (S.CANCELED, {})
    assert desk.hash() == desk.replayed_hash()


def test_a_cancel_refused_of_what_the_venue_never_saw_makes_no_order_work() -> None:
    """Not found, then cancelled before it is decided: the refusal says nothing new, and it is over unsent."""
    desk, order = in_doubt()
    desk.report(ExecType.NOT_FOUND, order.order_id, status=S.NONE, venue_seq=2)
    desk.cancel("1")
    desk.report(ExecType.CANCEL_REJECT, order.order_id, status=S.NONE, venue_seq=3)
    venue = desk.state.venues["sandbox"]
    assert (list(venue.not_found), order.cancel_seq) == ([order.order_id], 3)
    decided = desk.core.reports.decide_send(order, 4, desk.now, REFERENCE)
    assert decided.cancel is not None
    desk.apply(decided)
    assert (order.status, desk.state.orders) == (S.CANCELED, {})
    assert desk.hash() == desk.replayed_hash()


def test_an_operator_resolves_what_nobody_answers() -> None:
    """Final state, fills and price as the operator says; wrong words are refused with what was expected."""
    desk, order = in_doubt()
    controls, order_id = desk.core.controls, order.order_id
    for status, cum, price in (
        (S.NEW, 0, 0), (S.CANCELED, 6 * E9, 100 * E9), (S.CANCELED, E9 + 1, 100 * E9), (S.FILLED, 2 * E9, 100 * E9),
        (S.CANCELED, 5 * E9, 100 * E9), (S.CANCELED, 2 * E9, 0),
    ):  # fmt: skip
        said = controls.decide_resolve(order_id, status, cum, price, "op", "called them")
        assert isinstance(said, str), (status, cum, price)
    record = controls.decide_resolve(order_id, S.CANCELED, 2 * E9, 2**62, "op", "called them")
    assert isinstance(record, Controlled)
    desk.apply(record)
    assert (desk.position, desk.state.book.ledger("a1", "XY").buy, desk.state.orders) == (2, 0, {})
    assert isinstance(controls.decide_resolve(order_id, S.CANCELED, 0, 0, "op", "again"), str)
    assert desk.hash() == desk.replayed_hash()


def test_every_decision_can_be_decided_again() -> None:
    """What a verifier does: decide each record before it is applied, from the journal alone."""
    desk = Desk(limit(LimitName.POSITION_MAX, 9), position=2)
    order = desk.accept(desk.order("1", BUY, 5))
    desk.submit(desk.order("2", BUY, 5))
    desk.submit(desk.order("1", BUY, 6))
    desk.cancel("1")
    desk.cancel("9")
    desk.submit(desk.order("9"))
    desk.submit(desk.order("8", instrument="zz"))
    desk.fill(order, 2)
    desk.report(ExecType.CANCELED, order.order_id)
    core = Core(desk.state.dedup.keys_max)
    answers = []
    for seq, now_ns, position, record in desk.records:
        answers.append(core.decide_again(record, now_ns))
        core.apply(seq, now_ns, position, record)
    assert False not in answers
    assert sum(a is True for a in answers) == 9


def test_a_step_of_an_instrument_is_for_ever() -> None:
    """A change of it would change the meaning of recorded numbers."""
    desk = Desk()
    with pytest.raises(AssertionError):
        desk.set_params(params(instruments=(msgspec.structs.replace(XY, price_step_e9=E9 // 10),)))


def test_an_account_that_left_the_parameters_takes_cancels_only() -> None:
    """What it holds stays, what is open can be cancelled, nothing new is taken."""
    desk = Desk()
    desk.accept(desk.order("1"))
    left = msgspec.structs.replace(params(), accounts=tuple(a for a in params().accounts if a.account != "a1"))
    desk.set_params(left)

    assert desk.submit(desk.order("2")).code is Code.ACCOUNT_UNKNOWN  # type: ignore[union-attr]
    assert desk.cancel("1").kind is OutcomeKind.ACCEPTED  # type: ignore[union-attr]
