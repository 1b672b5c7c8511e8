"""How OCO groups end: halts, kills, other exits, cancels, replaces; and what is told and decided again of it."""

from __future__ import annotations

import pytest

from protocol.codes import (
    Code,
    ExecType,
    OrderStatus,
    OutcomeKind,
    Side,
)
from protocol.decisions import Reference
from protocol.event_kinds import OrderEvent, StatusEvent, SystemEvent
from protocol.events import events_of
from protocol.oco_records import OcoReleased, OcoTriggered
from protocol.params import LimitName
from protocol.records import Adjusted, ControlAction
from tests.unit.engine.desk import E9, REFERENCE, limit
from tests.unit.engine.oco_desk import OcoDesk, group

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus


# Halts, kills, reduce-only, other exits


@pytest.mark.parametrize("limit_price", [0, 90])
def test_a_halt_keeps_the_target_and_the_stop_waits_on(limit_price: int) -> None:
    """The target is not cancelled for a stop that could not leave; after the resume the price is looked at anew."""
    d, first, second = group(limit=limit_price)
    d.control(ControlAction.HALT)
    assert (d.watch(94), first.status) == ([], S.PENDING_NEW)
    d.control(ControlAction.RESUME)
    assert d.watch(100) == []
    d.watch(94)
    d.control(ControlAction.HALT)  # between both: as any late send
    d.report(ExecType.CANCELED, first.order_id)
    (record,) = d.watch(94)
    assert isinstance(record, OcoReleased)
    assert record.cancel is not None
    assert (record.code, record.cancel.code, second.status) == (Code.STATE_HALTED, Code.UNSENT_KILLED, S.CANCELED)
    d.require_flat()


def test_a_kill_ends_both() -> None:
    """The target is cancelled at the venue, the stop is over at once and never goes out."""
    d, first, second = group()
    d.control(ControlAction.KILL)
    assert (first.status, second.status, d.reserved()) == (S.PENDING_CANCEL, S.CANCELED, (10, 0, 1050, 1))
    assert d.watch(90) == []
    d.report(ExecType.CANCELED, first.order_id)
    d.require_flat()


def test_reduce_only_keeps_an_exit_and_ends_an_entry() -> None:
    """An operator's reduce-only cancels what could increase the position, both legs of it."""
    d, first, second = group()
    d.control(ControlAction.REDUCE_ONLY)
    assert (first.status, second.status) == (S.PENDING_NEW, S.SUSPENDED)
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert second.leaves == 10
    d.require_verified()
    d = OcoDesk()
    first, second = d.accept_oco(d.oco("g", 95, 105, 3, BUY))
    d.control(ControlAction.REDUCE_ONLY)
    assert (first.status, second.status) == (S.PENDING_CANCEL, S.CANCELED)
    d.require_verified()


@pytest.mark.parametrize("reduce_only", [True, False])
def test_an_exit_goes_out_for_no_more_than_the_position(*, reduce_only: bool) -> None:
    """An adjustment took most of the position meanwhile: what would flip it stays here."""
    d, first, second = group(reduce_only=reduce_only)
    d.apply(Adjusted("a1", "XY", 4 * E9, 100 * E9, "", "", "drift"))
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert (second.quantity, second.leaves) == (4, 4)
    assert d.reserved() == (4, 0, 344, 1)
    d.require_verified()


def test_no_position_no_stop() -> None:
    """It was closed from outside: neither leg is touched, and if the target ends the stop stays here."""
    d, first, second = group()
    d.apply(Adjusted("a1", "XY", 0, 100 * E9, "", "", "drift"))
    assert (d.watch(94), first.status, second.status) == ([], S.PENDING_NEW, S.SUSPENDED)
    d.cancel("g")
    d.report(ExecType.CANCELED, first.order_id)
    d.require_flat()


@pytest.mark.parametrize(("reduce_only", "expected"), [(False, 10), (True, 5)])
def test_what_came_later_takes_room_of_a_promise_only(*, reduce_only: bool, expected: int) -> None:
    """A short sale of 5 beside the exit of 10: the stop goes out whole, one that promised to reduce only for 5."""
    d, first, second = group(limit=85, reduce_only=reduce_only)
    d.accept(d.order("short", SELL, 5, 100))
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert second.leaves == expected
    d.require_verified()


def test_an_exit_in_the_place_of_one_leg_takes_the_place_of_the_group() -> None:
    """Who replaces the target or the stop replaces both: the stop is over at once, the exit waits for the target."""
    for name in ("g/1", "g/2"):
        d, first, second = group()
        decided = d.submit_exit(d.exit_replace("x", [name], 10))
        assert decided.kind is OutcomeKind.ACCEPTED  # type: ignore[union-attr]
        assert (first.status, second.status) == (S.PENDING_CANCEL, S.CANCELED)
        d.report(ExecType.CANCELED, first.order_id)
        (record,) = d.release()
        assert record.quantity_e9 == 10 * E9
        d.require_verified()


def test_an_exit_in_the_place_of_a_group_whose_target_is_over() -> None:
    """Nothing has to be waited for: what was held for the stop is the exit's."""
    d, first, second = group()
    d.report(ExecType.REJECTED, first.order_id)
    decided = d.submit_exit(d.exit_replace("x", ["g/2"], 10))
    assert decided.kind is OutcomeKind.ACCEPTED  # type: ignore[union-attr]
    (record,) = d.release()
    assert (record.quantity_e9, second.status) == (10 * E9, S.CANCELED)
    d.require_verified()


# Cancels and replaces


def test_a_cancel_of_the_group_ends_both() -> None:
    """The stop at once, the target at the venue; again it is the same answer; at last it is over."""
    d, first, second = group()
    decided = d.cancel("g")
    assert (decided.code, decided.order_id) == (Code.OK, first.order_id)  # type: ignore[union-attr]
    assert (first.status, second.status, d.reserved()) == (S.PENDING_CANCEL, S.CANCELED, (10, 0, 1050, 1))
    again = d.cancel("g")
    assert (again.code, again.venue_seq, again.other) == (Code.OK, 0, None)  # type: ignore[union-attr]
    d.report(ExecType.CANCELED, first.order_id)
    assert d.cancel("g").code is Code.ORDER_TERMINAL  # type: ignore[union-attr]
    d.require_flat()


def test_a_cancel_of_the_group_finds_the_leg_that_is_left() -> None:
    """The stop alone, waiting or sent."""
    for is_sent in (False, True):
        d, first, second = group()
        d.report(ExecType.REJECTED, first.order_id)
        if is_sent:
            d.watch(95)
        d.cancel("g")
        assert second.status is (S.PENDING_CANCEL if is_sent else S.CANCELED)
        d.require_verified()


@pytest.mark.parametrize("name", ["g/1", "g/2"])
def test_a_cancel_of_one_leg_leaves_the_other(name: str) -> None:
    """The target works on as an order alone; the stop waits on for its price."""
    d, first, second = group()
    d.cancel(name)
    if name == "g/2":
        assert (first.status, second.status, d.reserved()) == (S.PENDING_NEW, S.CANCELED, (10, 0, 1050, 1))
        d.fill(first, 10)
    else:
        d.report(ExecType.CANCELED, first.order_id)
        d.watch(95)
        d.fill(second, 10)
    d.require_flat()


def test_the_target_may_be_replaced_and_the_stop_not() -> None:
    """The group reserves the worst of what both may be; the stop has no terms at a venue yet."""
    d, first, _ = group(position=12)
    d.replace("g/1", "r1", 12, 104)
    assert d.reserved() == (12, 0, 1260, 2)
    d.answer(ExecType.REPLACED, first, 12, 104, venue_seq=2)
    assert d.reserved() == (12, 0, 1248, 2)
    d.replace("g/1", "r2", 5)
    d.answer(ExecType.REPLACED, first, 5, 104, venue_seq=3)
    assert d.reserved() == (10, 0, 860, 2)
    assert d.replace("g/2", "r3", 5).code is Code.ORDER_SUSPENDED  # type: ignore[union-attr]
    d.replace("g/1", "r4", 9)
    d.answer(ExecType.REPLACE_REJECT, first, 5, 104, venue_seq=4)
    assert d.reserved() == (10, 0, 860, 2)
    d.require_verified()


# What others are told, and what is decided again


def test_the_events_tell_the_life_of_both() -> None:
    """The books see an order and one that waits, the trigger, the cancel, then what goes out."""
    d, first, second = group()
    one, two = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(one, OrderEvent)
    assert isinstance(two, OrderEvent)
    assert (one.exec_type, two.exec_type, two.status) == (ExecType.PENDING_NEW, ExecType.SUSPENDED, S.SUSPENDED)
    d.watch(95)
    said, cancel = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(said, SystemEvent)
    assert said.text == f"{second.order_id} reached its stop price at 95"
    assert isinstance(cancel, StatusEvent)
    assert (cancel.order_id, cancel.status, cancel.code) == (first.order_id, S.PENDING_CANCEL, Code.OCO_TRIGGERED)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    (out,) = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(out, StatusEvent)
    assert (out.order_id, out.status, out.quantity_e9) == (second.order_id, S.PENDING_NEW, 10 * E9)


def test_events_of_a_refusal_and_of_a_groups_cancel() -> None:
    """A refused group is one refused order, its leg; a cancelled one two cancels."""
    d = OcoDesk(limit(LimitName.POSITION_MAX, 10))
    d.submit_oco(d.oco("g", stop_quantity=11))
    (event,) = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(event, OrderEvent)
    assert (event.client_order_id, event.code, event.takes_key) == ("g/2", Code.POS_LIMIT, False)
    d, first, second = group()
    d.cancel("g")
    asked, over = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(asked, StatusEvent)
    assert isinstance(over, StatusEvent)
    assert (asked.order_id, asked.client_order_id, asked.status) == (first.order_id, "g/1", S.PENDING_CANCEL)
    assert (over.order_id, over.status) == (second.order_id, S.CANCELED)


def test_what_could_not_be_decided_now_is_told_apart() -> None:
    """A verifier finds a release before its time, and a trigger at a price that is none."""
    d, first, second = group()
    early = OcoReleased("sandbox", 3, "a1", "g/2", second.order_id, REFERENCE, Code.OK, 10 * E9, 0, 86 * E9)
    assert d.core.decide_again(early, d.now) is False
    at = Reference(96 * E9, 0, REFERENCE.source)
    assert d.core.decide_again(OcoTriggered("a1", "g", second.order_id, at), d.now) is False
    assert d.core.decide_again(OcoTriggered("a1", "g", "P-nobody", at), d.now) is False
    (triggered,) = d.watch(95)
    assert d.core.decide_again(triggered, d.now) is False  # once
    d.report(ExecType.CANCELED, first.order_id)
    assert d.core.decide_again(early, d.now) is True  # now it is what is decided
    (released,) = d.watch(95)
    assert d.core.decide_again(released, d.now) is False


def test_a_late_fill_of_the_target_is_taken_from_the_stop_that_waits() -> None:
    """The venue says CANCELED, then of a fill before it: booked, and the stop is as much smaller."""
    d, first, second = group()
    d.report(ExecType.CANCELED, first.order_id)
    d.fill(first, 4)
    assert (d.position, d.reserved()) == (6, (6, 0, 516, 1))
    d.watch(95)
    d.fill(second, 6)
    assert d.position == 0
    d.require_flat()
