"""OCO groups: one order at the venue at a time, the larger of both reserved, each fill taken from both."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from engine.oco import GROUPS_MAX
from engine.orders import Defer, Replay
from engine.outcomes import basket_outcome, first_outcome
from protocol.codes import (
    Code,
    ExecType,
    OrderStatus,
    OrderType,
    RetryReason,
    Scope,
    Side,
    TimeInForce,
)
from protocol.oco_records import OcoDecision, OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import NewOco
from protocol.params import LimitName
from protocol.records import Queried, VenueChanged
from protocol.texts import outcome_text
from tests.unit.engine.desk import E9, REFERENCE, limit
from tests.unit.engine.oco_desk import OcoDesk, group, refused

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus


# Taken, and what it reserves


def test_one_goes_to_the_venue_the_other_waits() -> None:
    """One number for the venue; both are open under their own ids, and the larger of both is reserved."""
    d, first, second = group()
    assert (first.status, first.venue_seq, first.client_order_id) == (S.PENDING_NEW, 1, "g/1")
    assert (second.status, second.venue_seq, second.client_order_id) == (S.SUSPENDED, 0, "g/2")
    assert d.reserved() == (10, 0, 1050, 2)
    assert d.watch(100) == []
    d.require_verified()


@pytest.mark.parametrize(
    ("side", "price", "stop_price", "quantity", "stop_quantity", "expected"),
    [
        (SELL, 105, 95, 6, 10, (10, 0, 860, 2)),  # 10 at the worst that a stop at 95 takes, 86
        (SELL, 105, 95, 10, 6, (10, 0, 1050, 2)),
        (BUY, 95, 105, 10, 10, (0, 10, 1150, 2)),  # the stop may pay up to 115
    ],
)
def test_the_larger_leg_alone_is_reserved(
    side: Side, price: int, stop_price: int, quantity: int, stop_quantity: int, expected: tuple[int, int, int, int]
) -> None:
    """In quantity and in money, whichever of both it is."""
    d = OcoDesk()
    d.accept_oco(d.oco("g", price, stop_price, quantity, side, stop_quantity=stop_quantity))
    assert d.reserved() == expected
    d.require_verified()


def test_each_leg_passes_the_gate_alone() -> None:
    """A position limit of 10 takes two legs of 10, and not one of 11; the refusal names the leg."""
    d = OcoDesk(limit(LimitName.POSITION_MAX, 10))
    decided = d.submit_oco(d.oco("g1", stop_quantity=11))
    assert refused(decided) == (Code.POS_LIMIT, 2)
    assert isinstance(decided, OcoDecision)
    text = outcome_text(basket_outcome(d.item(d.oco("g1")), 9, decided))
    assert text.startswith("leg 2: POS_LIMIT")
    assert (d.state.orders, d.state.groups) == ({}, {})
    d.accept_oco(d.oco("g2"))
    assert refused(d.submit_oco(d.oco("g3", quantity=1))) == (Code.POS_LIMIT, 1)


def test_both_legs_are_counted() -> None:
    """Two open orders and two messages of a group, though one is at the venue."""
    d = OcoDesk(limit(LimitName.OPEN_COUNT_MAX, 3))
    d.accept_oco(d.oco("g1"))
    assert refused(d.submit_oco(d.oco("g2"))) == (Code.COUNT_OPEN_MAX, 1)
    d.accept(d.order("o1"))
    d = OcoDesk(limit(LimitName.RATE_COUNT, 3, Scope.ACCOUNT, "a1", window_ns=E9))
    d.accept_oco(d.oco("g1"))
    assert refused(d.submit_oco(d.oco("g2"))) == (Code.RATE_ACCOUNT, 1)


def test_an_exit_of_all_is_one_group_and_nothing_beside_it() -> None:
    """Long 10: a group of 10 and 10 is an exit, any more of it is none."""
    d, _, _ = group(reduce_only=True)
    again = d.submit_oco(d.oco("g2", quantity=1, reduce_only=True))
    assert refused(again) == (Code.REDUCE_ONLY_VIOLATION, 1)
    d = OcoDesk(position=10)
    assert refused(d.submit_oco(d.oco("g", stop_quantity=11, reduce_only=True))) == (Code.REDUCE_ONLY_VIOLATION, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"stop_price": 105}, {"side": BUY}, {"price": 94},
        {"time_in_force": TimeInForce.IOC}, {"time_in_force": TimeInForce.FOK},
    ],
)  # fmt: skip
def test_what_is_no_target_and_stop_is_refused(change: dict[str, Any]) -> None:
    """The stop stands behind the limit price, and both can rest."""
    d = OcoDesk(position=10)
    assert refused(d.submit_oco(d.oco("g", **change))) == (Code.OCO_LEGS, 0)
    d.require_verified()


def test_legs_of_two_kinds_strategies_or_instruments_are_refused() -> None:
    """The engine looks itself, whatever sent the command."""
    d = OcoDesk(position=10)
    first, second = d.oco("g").legs
    for n, legs in enumerate(
        (
            [first, structs.replace(second, strategy="s2")],
            [first, structs.replace(first, client_order_id="g/2")],
            [structs.replace(second, client_order_id="g/1"), second],
            [structs.replace(first, order_type=OrderType.MARKET, price_e9=0), second],
        )
    ):
        command = NewOco(
            "a1", f"g{n}", [structs.replace(leg, client_order_id=f"g{n}/{i}") for i, leg in enumerate(legs, 1)]
        )
        assert refused(d.submit_oco(command)) == (Code.OCO_LEGS, 0)
    stray = NewOco("a1", "g9", [structs.replace(first, client_order_id="g9/1"), second])
    assert refused(d.submit_oco(stray)) == (Code.MSG_MALFORMED, 2)
    assert refused(d.submit_oco(NewOco("a2", "g", [first, second]))) == (Code.MSG_MALFORMED, 1)


def test_a_repeat_gets_the_first_answer() -> None:
    """The same group again is a replay of its record; other content, and a taken leg id, are conflicts."""
    d, _, _ = group()
    again = d.submit_oco(d.oco("g"))
    assert isinstance(again, Replay)
    record = d.records[again.position - 1][3]
    assert isinstance(record, OcoOrdered)
    item = d.item(d.oco("g"))
    assert first_outcome(item, again.position, record) == basket_outcome(item, record.seq, record.decision)
    assert refused(d.submit_oco(d.oco("g", quantity=9))) == (Code.ID_CONFLICT, 0)
    d.accept(d.order("h/2"))
    assert refused(d.submit_oco(d.oco("h"))) == (Code.ID_CONFLICT, 2)
    d.require_verified()


@pytest.mark.parametrize(("name", "leg"), [("g", 0), ("g/1", 1), ("g/2", 2)])
def test_a_cancel_that_came_first_refuses_it(name: str, leg: int) -> None:
    """A tombstone of the group or of one leg refuses it all."""
    d = OcoDesk(position=10)
    d.cancel(name)
    assert refused(d.submit_oco(d.oco("g"))) == (Code.CANCELLED_BEFORE_ARRIVAL, leg)
    d.require_verified()


def test_it_waits_or_is_refused_where_an_order_would_be() -> None:
    """Unknown names, no permit, a venue away, drain, a full table, too many groups."""
    d = OcoDesk(position=10)
    assert refused(d.submit_oco(d.oco("g1", strategy="s2"), principal="one")) == (Code.AUTH_NOT_PERMITTED, 0)
    assert refused(d.submit_oco(d.oco("g2", instrument="QQ"))) == (Code.INSTR_UNKNOWN, 1)
    entry = d.oco("g3", 95, 105, 1, BUY)
    assert d.submit_oco(entry, defer=RetryReason.DRAINING) == Defer(RetryReason.DRAINING)
    assert isinstance(d.submit_oco(d.oco("g4", quantity=1), defer=RetryReason.DRAINING), OcoDecision)
    assert refused(d.submit_oco(d.oco("g5"), reference=None)) == (Code.REF_STALE, 1)
    d.apply(VenueChanged("sandbox", False, b"g" * 16, 1))
    assert d.submit_oco(d.oco("g6")) == Defer(RetryReason.VENUE_NOT_READY)
    d.now += 60 * E9
    assert refused(d.submit_oco(d.oco("g6"))) == (Code.VENUE_DOWN, 0)
    small = OcoDesk(keys_max=2, position=10)
    assert small.submit_oco(small.oco("g")) == Defer(RetryReason.DEDUP_FULL)


def test_groups_are_bounded() -> None:
    """Each is looked at when one changes, so there are at most so many."""
    d = OcoDesk(keys_max=4 * GROUPS_MAX)
    for n in range(GROUPS_MAX):
        d.accept_oco(d.oco(f"g{n}", quantity=1))
    assert refused(d.submit_oco(d.oco("one-more", quantity=1))) == (Code.COUNT_OPEN_MAX, 0)


# Fills


def test_a_target_that_fills_ends_the_stop() -> None:
    """All of it: the stop is over, was never sent, and nothing is reserved."""
    d, first, second = group()
    last_seq = d.state.venues["sandbox"].last_seq
    d.fill(first, 10)
    (record,) = d.watch(105)
    assert isinstance(record, OcoReleased)
    assert (record.code, record.cancel is not None, second.status) == (Code.OCO_FILLED, True, S.CANCELED)
    assert (d.position, d.state.venues["sandbox"].last_seq) == (0, last_seq)
    d.require_flat()


@pytest.mark.parametrize("filled", [1, 4, 9])
def test_a_part_that_filled_is_taken_from_both(filled: int) -> None:
    """Less is reserved at once, and the stop goes out for the rest."""
    d, first, second = group()
    d.fill(first, filled)
    assert d.reserved() == (10 - filled, 0, (10 - filled) * 105, 2)
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    assert d.reserved() == (10 - filled, 0, (10 - filled) * 86, 1)
    (record,) = d.watch(95)
    assert (record.quantity_e9, second.leaves) == ((10 - filled) * E9, 10 - filled)
    d.fill(second, 10 - filled)
    assert d.position == 0
    d.require_flat()


@pytest.mark.parametrize(("quantity", "stop_quantity"), [(4, 10), (10, 4)])
def test_legs_of_unequal_size(quantity: int, stop_quantity: int) -> None:
    """A target of a part leaves the stop of the rest; a stop of a part ends when so much has filled."""
    d, first, second = group(quantity=quantity, stop_quantity=stop_quantity)
    d.fill(first, 4)
    d.watch(100)
    assert d.state.book.ledger("a1", "XY").sell == 6
    assert (second.status is S.SUSPENDED, first.status is S.FILLED) == (quantity < stop_quantity, quantity == 4)
    if quantity < stop_quantity:
        d.watch(95)
        assert (second.status, second.leaves) == (S.PENDING_NEW, 6)
        d.fill(second, 6)
    else:
        d.fill(first, 6)
    assert d.position == 0
    d.require_flat()


# The stop price is reached


def test_the_stop_goes_out_when_the_target_is_over() -> None:
    """Reached: the target is cancelled. Only when the venue has said that it is over does the stop leave."""
    d, first, second = group()
    assert d.watch(96) == []
    (triggered,) = d.watch(95)
    assert isinstance(triggered, OcoTriggered)
    assert triggered.cancel is not None
    assert (triggered.cancel.order_id, triggered.cancel.venue_seq) == (first.order_id, 2)
    assert (first.status, second.status, d.reserved()) == (S.PENDING_CANCEL, S.SUSPENDED, (10, 0, 1050, 2))
    assert d.watch(90) == []
    d.report(ExecType.CANCELED, first.order_id)
    assert d.reserved() == (10, 0, 860, 1)
    (released,) = d.watch(99)
    assert isinstance(released, OcoReleased)
    assert (released.code, released.venue_seq, released.quantity_e9) == (Code.OK, 3, 10 * E9)
    assert (second.status, second.leaves, second.venue_seq) == (S.PENDING_NEW, 10, 3)
    d.fill(second, 10, 94)
    assert d.position == 0
    d.require_flat()


def test_an_entry_by_dip_or_by_break_out() -> None:
    """BUY at 95 or from 105 on: the price goes up, the stop buys."""
    d = OcoDesk()
    first, second = d.accept_oco(d.oco("g", 95, 105, 3, BUY))
    assert d.watch(104) == []
    d.watch(105)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(105)
    d.fill(second, 3, 106)
    assert d.position == 3
    d.require_flat()


def test_a_fill_that_wins_the_race_with_the_cancel() -> None:
    """The target fills after all while its cancel is on the way: the rest goes out, nothing if there is none."""
    for filled in (3, 10):
        d, first, second = group()
        d.watch(95)
        d.fill(first, filled)
        if filled < 10:
            d.report(ExecType.CANCELED, first.order_id)
        (record,) = d.watch(95)
        assert isinstance(record, OcoReleased)
        assert (second.leaves, record.code) == ((7, Code.OK) if filled < 10 else (0, Code.OCO_FILLED))
        d.require_verified()


def test_a_refused_cancel_is_sent_again_and_waited_for() -> None:
    """The venue keeps the target: the stop does not leave before it is over."""
    d, first, second = group()
    d.watch(95)
    d.report(ExecType.CANCEL_REJECT, first.order_id, venue_seq=first.cancel_seq)
    assert (first.status, d.watch(95), second.status) == (S.NEW, [], S.SUSPENDED)
    again = d.core.exit_replaces.decide_cancels()
    assert again is not None
    assert [c.order_id for c in again.cancels] == [first.order_id]
    d.apply(again)
    assert d.core.exit_replaces.decide_cancels() is None
    d.report(ExecType.CANCELED, first.order_id)
    d.watch()
    assert second.leaves == 10
    d.require_verified()


def test_a_target_in_doubt_is_waited_for() -> None:
    """The gateway is lost: nothing is triggered without it, and nothing leaves while the target is UNKNOWN."""
    d, first, second = group()
    d.apply(VenueChanged("sandbox", False, b"g" * 16, 1))
    assert d.watch(90) == []
    d.apply(VenueChanged("sandbox", True, b"g" * 16, 1))
    queried = d.core.reports.decide_unknown(d.state.venues["sandbox"], 1)
    assert isinstance(queried, Queried)
    d.apply(queried)
    (triggered,) = d.watch(90)
    assert isinstance(triggered, OcoTriggered)
    assert (first.status, second.status, d.watch(90)) == (S.UNKNOWN, S.SUSPENDED, [])
    d.fill(first, 4)
    d.report(ExecType.ORDER_STATUS, first.order_id, status=S.CANCELED, cum=4)
    d.watch(90)
    assert second.leaves == 6
    d.require_verified()


@pytest.mark.parametrize("exec_type", [ExecType.REJECTED, ExecType.CANCELED, ExecType.EXPIRED])
def test_the_stop_outlives_a_target_that_the_venue_ends(exec_type: ExecType) -> None:
    """What is no fill ends one order only: all is reserved for the stop, which waits on, then goes out at once."""
    d, first, second = group()
    d.report(exec_type, first.order_id)
    assert (d.watch(100), second.status, d.reserved()) == ([], S.SUSPENDED, (10, 0, 860, 1))
    triggered, released = d.watch(95)
    assert (triggered.cancel, released.cancel, second.leaves) == (None, None, 10)
    d.require_verified()


def test_it_is_as_old_as_its_trigger() -> None:
    """It was to wait: neither the age of the order nor the strategy's ttl counts from before it went out."""
    d, first, second = group()
    d.now += 3_600 * E9
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert (second.status, second.created_at_ns) == (S.PENDING_NEW, d.now)
    late = d.core.reports.decide_send(second, second.venue_seq, d.now + E9, REFERENCE)
    assert late.code is Code.OK
    d.require_verified()


def test_a_stop_that_expired_ends() -> None:
    """GTD: at its instant it is over, and the target works on as an order alone."""
    d = OcoDesk(position=10)
    terms = {"time_in_force": TimeInForce.GTD, "expire_at_ns": d.now + 5 * E9}
    first, second = d.accept_oco(d.oco("g", **terms))  # type: ignore[arg-type]
    assert d.watch(100) == []
    d.now += 5 * E9
    (record,) = d.watch(100)
    assert isinstance(record, OcoReleased)
    assert (record.code, second.status, first.status) == (Code.TIME_EXPIRE_PAST, S.CANCELED, S.PENDING_NEW)
    d.fill(first, 10)
    d.require_flat()
