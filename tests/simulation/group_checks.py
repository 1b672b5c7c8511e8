"""What must hold of OCO groups, said from the outside: the part of ``checkers.Watch`` that follows their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.codes import OutcomeKind, Side
from protocol.decisions import CancelDecision
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import NewOco, TermedOrder, command_decoder

if TYPE_CHECKING:
    from tests.simulation.checkers import Watch


def take_group(watch: Watch, seq: int, position: int, record: OcoOrdered | OcoTriggered | OcoReleased) -> None:
    """Take one record of a group; say so if it should not be."""
    match record:
        case OcoOrdered():
            _take_oco(watch, seq, position, record)
        case OcoTriggered():
            order = watch.accepted[record.order_id]
            assert isinstance(order, TermedOrder)
            gap = record.reference.price_e9 - order.stop_price_e9
            assert gap >= 0 if order.side is Side.BUY else gap <= 0, f"{record} has not reached its stop price"
            assert watch.ledgers.orders[record.order_id].is_behind, f"{record} of an order that does not wait"
            watch._take_cancels(seq, [record.cancel] if record.cancel is not None else [])
        case OcoReleased() if record.cancel is not None:
            watch._take_unsent(seq, record.cancel)
        case OcoReleased():
            watch.ledgers.release_group(record)
            watch._number(record.venue_seq, record.order_id)


def _take_oco(watch: Watch, seq: int, position: int, record: OcoOrdered) -> None:
    """Both orders are taken, the first with a number for the venue, or none."""
    command = command_decoder.decode(record.item.command)
    decision = record.decision
    assert isinstance(command, NewOco)
    assert record.seq == seq, f"record {seq} says that it is {record.seq}"
    if decision.takes_key:
        watch._take_key(seq, position, command)
    if decision.kind is not OutcomeKind.ACCEPTED:
        assert not decision.legs
        return
    legs = list(zip(command.legs, decision.legs, strict=True))
    for n, (leg, decided) in enumerate(legs, start=1):
        assert leg.client_order_id == f"{command.client_order_id}/{n}", f"order {n} of {command} has another's id"
        watch._take_key(seq, position, leg)
        watch._require_trading(leg, record.source)
        assert decided.order_id == watch.expected_id(leg), f"{leg} got id {decided.order_id}"
        watch.accepted[decided.order_id] = leg
    watch.ledgers.accept_group(legs, record.reference)
    assert decision.legs[1].venue_seq == 0, f"both orders of {command} go to the venue"
    watch._number(decision.legs[0].venue_seq, decision.legs[0].order_id)


def take_group_cancel(watch: Watch, seq: int, decision: CancelDecision) -> None:
    """The order that waits is over at once, the other is cancelled at the venue if it is not yet."""
    assert decision.other is not None
    watch._take_unsent(seq, decision.other)
    if decision.venue_seq:
        watch._number(decision.venue_seq, decision.order_id)
        watch.ledgers.set_status(decision.order_id, decision.status, seq)
