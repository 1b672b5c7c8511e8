"""Exits in the place of others: nothing goes out before the others are over, and no interleaving flips the position."""

from __future__ import annotations

from typing import Any

import pytest

from engine.exit_replaces import EXITS_MAX, WAITS_MAX
from engine.order import Order
from engine.orders import Defer, Replay
from engine.outcomes import exit_outcome, first_outcome
from protocol.codes import (
    Code,
    ExecType,
    OrderStatus,
    OrderType,
    OutcomeKind,
    RetryReason,
    Scope,
    Side,
    TimeInForce,
)
from protocol.decisions import ExitDecision
from protocol.event_kinds import OrderEvent, StatusEvent
from protocol.events import events_of
from protocol.orders import ExitReplace
from protocol.params import LimitName
from protocol.records import ControlAction, ExitReleased, ExitRequested, Queried, VenueChanged
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus


def desk(*limits: Any, position: int = 10, resting: int = 10) -> tuple[Desk, Order]:
    """Return a desk that is long, and the exit that rests for all of it."""
    d = Desk(*limits, position=position)
    return d, d.accept(d.order("stop", SELL, resting, 105))


def taken(d: Desk, decided: object) -> Order:
    assert isinstance(decided, ExitDecision)
    assert decided.kind is OutcomeKind.ACCEPTED, decided
    return d.state.orders[decided.order_id]


def refused(decided: object) -> Code:
    assert isinstance(decided, ExitDecision)
    assert decided.kind is OutcomeKind.REJECTED, decided
    return decided.code


def verified(d: Desk) -> None:
    """The journal alone comes to the same state, and each decision is decided again."""
    assert d.replayed_hash() == d.hash()
    assert False not in d.decided_again()


def test_it_goes_out_when_the_named_exit_is_over() -> None:
    """SUSPENDED and reserving nothing while the stop's cancel is under way; then an order like any other."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10, price=99)))
    assert (order.status, order.leaves, stop.status) == (S.SUSPENDED, 0, S.PENDING_CANCEL)
    assert d.state.book.ledger("a1", "XY").sell == 10
    assert d.state.accounts["a1"].open_count == 2
    assert d.release() == []
    d.report(ExecType.CANCELED, stop.order_id)
    (record,) = d.release()
    assert (record.code, record.quantity_e9, record.venue_seq) == (Code.OK, 10 * E9, 3)
    assert (order.status, order.leaves, order.venue_seq) == (S.PENDING_NEW, 10, 3)
    assert (d.state.exits, d.state.accounts["a1"].open_count) == ({}, 1)
    d.fill(order, 10)
    assert (order.status, d.position, d.state.accounts["a1"].open_count) == (S.FILLED, 0, 0)
    assert d.state.accounts["a1"].open_value_e9 == 0
    verified(d)


@pytest.mark.parametrize(("filled", "sent"), [(0, 10), (3, 7), (9, 1)])
def test_what_filled_before_the_cancel_is_not_sold_again(filled: int, sent: int) -> None:
    """A fill that wins the race with the cancel makes the exit smaller by as much."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    if filled:
        d.fill(stop, filled)
    assert d.release() == []
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert (order.quantity, order.leaves) == (sent, sent)
    verified(d)


def test_nothing_left_ends_it_without_a_send() -> None:
    """The named exit fills whole while its cancel is under way: CANCELED, no number for the venue, no reservation."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    last_seq = d.state.venues["sandbox"].last_seq
    d.fill(stop, 10)
    (record,) = d.release()
    assert (record.code, order.status, d.state.venues["sandbox"].last_seq) == (Code.NOTHING_LEFT, S.CANCELED, last_seq)
    assert (d.state.orders, d.state.exits, d.state.accounts["a1"].open_count) == ({}, {}, 0)
    verified(d)


def test_a_refused_cancel_is_waited_for_and_sent_again() -> None:
    """The venue keeps the stop: nothing goes out before it is over; its cancel is made anew, once until answered."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.report(ExecType.CANCEL_REJECT, stop.order_id, venue_seq=stop.cancel_seq)
    assert (stop.status, d.release(), order.status) == (S.NEW, [], S.SUSPENDED)
    again = d.core.exit_replaces.decide_cancels()
    assert again is not None
    assert [(c.order_id, c.venue_seq) for c in again.cancels] == [(stop.order_id, 3)]
    d.apply(again)
    assert (stop.status, d.core.exit_replaces.decide_cancels()) == (S.PENDING_CANCEL, None)
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert order.leaves == 10
    assert d.core.decide_again(again, d.now) is False
    verified(d)


def test_an_unknown_order_is_waited_for() -> None:
    """The gateway is lost and comes back: until the venue answers what became of the stop, nothing goes out."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.apply(VenueChanged("sandbox", False, b"g" * 16, 2))
    assert d.release() == []
    d.apply(VenueChanged("sandbox", True, b"g" * 16, 2))
    queried = d.core.reports.decide_unknown(d.state.venues["sandbox"], 2)
    assert isinstance(queried, Queried)
    d.apply(queried)
    assert (stop.status, d.release(), order.status) == (S.UNKNOWN, [], S.SUSPENDED)
    d.fill(stop, 4)
    assert d.release() == []
    d.report(ExecType.ORDER_STATUS, stop.order_id, status=S.CANCELED, cum=4)
    d.release()
    assert order.leaves == 6
    verified(d)


@pytest.mark.parametrize("action", [ControlAction.HALT, ControlAction.KILL])
def test_a_halt_or_a_kill_ends_it_unsent(action: ControlAction) -> None:
    """A kill at once, a halt when it would go out; what the kill ended never comes back."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.control(action)
    assert (order.status is S.CANCELED) == (action is ControlAction.KILL)
    d.report(ExecType.CANCELED, stop.order_id)
    for record in d.release():
        assert record.code is Code.STATE_HALTED
        assert record.cancel is not None
        assert record.cancel.code is Code.UNSENT_KILLED
    assert (order.status, order.venue_seq, d.state.orders) == (S.CANCELED, 0, {})
    d.control(ControlAction.RESUME)
    assert d.release() == []
    assert d.state.accounts["a1"].open_count == 0
    verified(d)


def test_reduce_only_leaves_it() -> None:
    """An operator's reduce-only cancels what could increase: not the stop, and not what waits for it."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    buy = d.accept(d.order("b", BUY, 3, 95))
    (record,) = d.control(ControlAction.REDUCE_ONLY)
    assert [c.order_id for c in record.cancels] == [buy.order_id]
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert order.leaves == 10
    verified(d)


def test_a_strategy_that_reduces_sells_its_own_part_only() -> None:
    """The account holds 10, the strategy none of it: under reduce-only of the strategy nothing remains to exit."""
    d, stop = desk()
    taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.control(ControlAction.REDUCE_ONLY, Scope.STRATEGY, "s1")
    d.report(ExecType.CANCELED, stop.order_id)
    (record,) = d.release()
    assert record.code is Code.NOTHING_LEFT
    verified(d)


def test_it_can_be_cancelled_while_it_waits() -> None:
    """Over at once, nothing goes to the venue for it; the stop's cancel stays; a second cancel says TERMINAL."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.cancel("x")
    assert (order.status, stop.status, d.state.exits) == (S.CANCELED, S.PENDING_CANCEL, {})
    (event,) = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(event, StatusEvent)
    assert (event.exec_type, event.status, event.changes_order) == (ExecType.CANCELED, S.CANCELED, True)
    assert d.state.accounts["a1"].open_count == 1
    again = d.cancel("x")
    assert not isinstance(again, Defer)
    assert (again.code, again.status) == (Code.ORDER_TERMINAL, S.CANCELED)
    d.report(ExecType.CANCELED, stop.order_id)
    assert d.release() == []
    verified(d)


def test_an_exit_accepted_meanwhile_takes_its_part() -> None:
    """6 rest, 4 are free and another exit takes them while it waits: it gets 6, never 10."""
    d, stop = desk(resting=6)
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.accept(d.order("other", SELL, 4, 101))
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert (order.leaves, d.state.book.ledger("a1", "XY").sell) == (6, 10)
    verified(d)


def test_an_exit_takes_the_place_of_one_that_waits() -> None:
    """The second names the first: that one is over, and the second waits for the stop in its place."""
    d, stop = desk()
    first = taken(d, d.submit_exit(d.exit_replace("x1", ["stop"], 10)))
    second = taken(d, d.submit_exit(d.exit_replace("x2", ["x1", "stop"], 8)))
    assert (first.status, d.state.exits) == (S.CANCELED, {second.order_id: (stop.order_id,)})
    assert d.release() == []
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert second.leaves == 8
    verified(d)


def test_a_named_order_that_is_over_is_fine() -> None:
    """It filled in part and was cancelled before: nothing to wait for, it goes out in the same turn."""
    d, stop = desk()
    d.fill(stop, 2)
    d.report(ExecType.CANCELED, stop.order_id)
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    d.release()
    assert order.leaves == 8
    verified(d)


def test_what_it_may_not_name() -> None:
    """An id that nobody knows, one that was only cancelled, another side: refused, and nothing is cancelled."""
    d, stop = desk()
    d.accept(d.order("buy", BUY, 1, 95))
    d.cancel("never")
    for name, code in (
        ("nobody", Code.ORDER_UNKNOWN), ("never", Code.ORDER_UNKNOWN), ("buy", Code.CANCELS_UNRELATED)
    ):  # fmt: skip
        assert refused(d.submit_exit(d.exit_replace(f"x-{name}", ["stop", name], 10))) is code
    assert (stop.status, d.state.exits) == (S.PENDING_NEW, {})
    verified(d)


def test_what_is_no_exit_is_refused() -> None:
    """On a flat or short account, or with the whole position promised to exits that are not named."""
    d = Desk(position=-5)
    d.accept(d.order("s", SELL, 1, 105))
    assert refused(d.submit_exit(d.exit_replace("x1", ["s"], 1))) is Code.REDUCE_ONLY_VIOLATION
    d, _ = desk()
    d.accept(d.order("tiny", BUY, 1, 95))
    assert refused(d.submit_exit(d.exit_replace("x2", ["tiny"], 1, BUY, 95))) is Code.REDUCE_ONLY_VIOLATION
    d, _ = desk(resting=4)
    d.accept(d.order("rest", SELL, 6, 105))
    order = taken(d, d.submit_exit(d.exit_replace("x3", ["rest"], 10)))
    d.report(ExecType.CANCELED, d.state.exits[order.order_id][0])
    d.release()
    assert order.leaves == 6
    verified(d)


def test_the_gate_refuses_before_anything_is_cancelled() -> None:
    """Halted, off the lot, too old, no permission, an unknown instrument: the stop stays."""
    d, stop = desk()
    assert refused(d.submit_exit(d.exit_replace("x1", ["stop"], 1), principal="nobody")) is Code.AUTH_NOT_PERMITTED
    assert refused(d.submit_exit(d.exit_replace("x2", ["stop"], 1, instrument="QQ"))) is Code.INSTR_UNKNOWN
    market = d.exit_replace("x3", ["stop"], 1, order_type=OrderType.MARKET)
    assert refused(d.submit_exit(market, reference=None)) is Code.REF_STALE
    half = ExitReplace("a1", "x4", "s1", "XY", SELL, OrderType.LIMIT, TimeInForce.DAY, E9 // 2, ["stop"], 100 * E9)
    assert refused(d.submit_exit(half)) is Code.QTY_LOT
    d.control(ControlAction.HALT)
    assert refused(d.submit_exit(d.exit_replace("x5", ["stop"], 1))) is Code.STATE_HALTED
    assert (stop.status, stop.cancel_seq, d.state.exits) == (S.PENDING_NEW, 0, {})
    verified(d)


def test_the_send_gate_looks_again() -> None:
    """A market exit without a fresh price when it would go out, or one that is too old by then, ends unsent."""
    for reference, later_ns, code in ((None, 0, Code.REF_STALE), (REFERENCE, 61 * E9, Code.MESSAGE_EXPIRED)):
        d, stop = desk()
        order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10, order_type=OrderType.MARKET)))
        d.now += later_ns
        d.report(ExecType.CANCELED, stop.order_id)
        (record,) = d.release(reference)
        assert (record.code, order.status) == (code, S.CANCELED)
        assert record.cancel is not None
        assert record.cancel.code is Code.UNSENT_STALE
        verified(d)


def test_a_market_exit_reserves_at_the_collar_of_the_moment() -> None:
    """The price it is counted at is that of the release, not of the request."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10, order_type=OrderType.MARKET)))
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert order.price > 0
    assert order.limit_price == 0
    assert d.state.accounts["a1"].open_value_e9 == order.reserved_value_e9 > 0
    verified(d)


def test_a_repeat_gets_the_first_answer() -> None:
    """The same again is a replay, waiting or sent; other content under its id is a conflict."""
    d, stop = desk()
    command = d.exit_replace("x", ["stop"], 10)
    decided = d.submit_exit(command)
    assert isinstance(decided, ExitDecision)
    again = d.submit_exit(command)
    assert isinstance(again, Replay)
    assert again.status is S.SUSPENDED
    record = d.records[again.position - 1][3]
    assert isinstance(record, ExitRequested)
    assert first_outcome(d.item(command), again.position, record) == exit_outcome(d.item(command), record.seq, decided)
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    again = d.submit_exit(command)
    assert isinstance(again, Replay)
    assert again.status is S.PENDING_NEW
    assert refused(d.submit_exit(d.exit_replace("x", ["stop"], 9))) is Code.ID_CONFLICT
    verified(d)


def test_a_cancel_that_came_first_refuses_it() -> None:
    """A tombstone of its id: nothing is cancelled."""
    d, stop = desk()
    d.cancel("x")
    assert refused(d.submit_exit(d.exit_replace("x", ["stop"], 10))) is Code.CANCELLED_BEFORE_ARRIVAL
    assert stop.cancel_seq == 0
    verified(d)


def test_it_has_no_terms_to_replace() -> None:
    """A ReplaceOrder of what waits is refused and says why."""
    d, _ = desk()
    taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    decided = d.replace("x", "r", 5)
    assert not isinstance(decided, Replay | Defer)
    assert decided.code is Code.ORDER_SUSPENDED
    verified(d)


def test_a_venue_that_is_away_defers_or_refuses_it() -> None:
    """As a new order: come again, and VENUE_DOWN when it lasts; nothing is cancelled before that."""
    d, stop = desk()
    d.apply(VenueChanged("sandbox", False, b"g" * 16, 1))
    command = d.exit_replace("x", ["stop"], 10)
    assert d.submit_exit(command) == Defer(RetryReason.VENUE_NOT_READY)
    assert d.state.params is not None
    d.now += d.state.params.venue_wait_ns
    assert refused(d.submit_exit(command)) is Code.VENUE_DOWN
    assert stop.cancel_seq == 0


def test_the_window_keeps_a_reserve_for_it() -> None:
    """A full table of ids takes it still, an exhausted one defers it."""
    d = Desk(given=params(), keys_max=4, position=10)
    for n in range(4):
        d.accept(d.order(f"o{n}", SELL, 1, 105))
    assert d.state.dedup.is_full
    taken(d, d.submit_exit(d.exit_replace("x", ["o0"], 1)))
    n = 0
    while not d.state.dedup.is_exhausted:
        n += 1
        d.cancel(f"t{n}")
    assert d.submit_exit(d.exit_replace("y", ["o1"], 1)) == Defer(RetryReason.DEDUP_FULL)


def test_a_rate_limit_counts_it_once() -> None:
    """Charged when it is taken; its release needs no token."""
    d = Desk(limit(LimitName.RATE_COUNT, 2, Scope.ACCOUNT, "a1", window_ns=E9), position=10)
    stop = d.accept(d.order("stop", SELL, 10, 105))
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    assert refused(d.submit_exit(d.exit_replace("y", ["x"], 10))) is Code.RATE_ACCOUNT
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    assert order.leaves == 10
    verified(d)


def test_waiting_is_bounded() -> None:
    """One exit can't wait for more than its bound of orders, however many exits it takes the place of."""
    d = Desk(keys_max=1024, position=10_000)
    names = []
    for n in range(9):
        ids = [f"o{n}-{k}" for k in range(8)]
        for i in ids:
            d.accept(d.order(i, SELL, 1, 105))
        taken(d, d.submit_exit(d.exit_replace(f"x{n}", ids, 8)))
        names.append(f"x{n}")
    taken(d, d.submit_exit(d.exit_replace("y1", names[:8], 1)))
    assert len(d.state.exits[next(reversed(d.state.exits))]) == WAITS_MAX
    assert refused(d.submit_exit(d.exit_replace("y2", ["y1", "x8"], 1))) is Code.COUNT_OPEN_MAX
    assert EXITS_MAX >= 1024
    verified(d)


def test_the_events_show_it_waiting_then_sent() -> None:
    """The books see SUSPENDED, the stop's cancel, then what goes out."""
    d, stop = desk()
    d.submit_exit(d.exit_replace("x", ["stop"], 10))
    waits, cancel = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(waits, OrderEvent)
    assert isinstance(cancel, StatusEvent)
    assert (waits.client_order_id, waits.exec_type, waits.status) == ("x", ExecType.SUSPENDED, S.SUSPENDED)
    assert (cancel.client_order_id, cancel.status) == ("stop", S.PENDING_CANCEL)
    d.fill(stop, 1)
    d.report(ExecType.CANCELED, stop.order_id)
    d.release()
    (sent,) = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(sent, StatusEvent)
    assert (sent.status, sent.leaves_quantity_e9, sent.quantity_e9, sent.price_e9) == (
        S.PENDING_NEW, 9 * E9, 9 * E9, 100 * E9,
    )  # fmt: skip


def test_a_release_that_is_not_due_is_not_decided_again() -> None:
    """A verifier says no to a record that lets out what still has to wait, or more than is left."""
    d, stop = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    early = ExitReleased("sandbox", 3, "a1", "x", order.order_id, REFERENCE, Code.OK, 10 * E9, 100 * E9, 100 * E9)
    assert d.core.decide_again(early, d.now) is False
    d.fill(stop, 1)
    d.report(ExecType.CANCELED, stop.order_id)
    assert d.core.decide_again(early, d.now) is False
    (record,) = d.core.exit_replaces.due()
    assert d.core.decide_again(d.core.exit_replaces.decide_release(record, d.now, REFERENCE), d.now) is True


def test_a_lying_venue_does_not_wake_it() -> None:
    """Reports on an order that was never sent are refused; it waits on."""
    d, _ = desk()
    order = taken(d, d.submit_exit(d.exit_replace("x", ["stop"], 10)))
    before = d.hash()
    for exec_type in (ExecType.NEW, ExecType.CANCELED, ExecType.NOT_FOUND, ExecType.REJECTED):
        d.report(exec_type, order.order_id)
    d.report(ExecType.TRADE, order.order_id, quantity=3)
    assert (order.status, d.position) == (S.SUSPENDED, 10)
    d.report(ExecType.TRADE, order.order_id, quantity=11)  # more than it is: overfill, the instrument halts
    assert d.state.exits == {}
    assert d.state.accounts["a1"].open_count == 1
    assert d.hash() != before
    verified(d)
