"""What must hold of held orders, said from the outside: the part of ``checkers.Watch`` that follows their records.

Each leaves exactly once; nothing of it is sent before; what is reserved for it is compared with the engine's book as
for any other order (``ledgers.require_same_exposure``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.held_records import HoldEffect, HoldTimed, OrderHeld, RiskDecided
from protocol.orders import NewOrder, TrimmableOrder, command_decoder
from protocol.risk import RiskRequest, Verdict, engine_risk_decoder
from protocol.session import Outcome

if TYPE_CHECKING:
    from tests.simulation.checkers import Watch

STATUSES = {HoldEffect.REJECTED: OrderStatus.REJECTED, HoldEffect.EXPIRED: OrderStatus.EXPIRED}


def take_hold(watch: Watch, seq: int, position: int, record: OrderHeld | RiskDecided | HoldTimed) -> None:
    """Take one record of a hold; say so if it should not be."""
    if isinstance(record, OrderHeld):
        _take_held(watch, seq, position, record)
        return
    decision, order_id = record.decision, record.order_id
    if decision.effect is HoldEffect.LATE:
        assert order_id not in watch.held, f"{record} is late, and the order is held"
        return
    assert order_id in watch.held, f"{record} of an order that left already"
    if decision.effect is HoldEffect.WAITS:
        return
    order = watch.held.pop(order_id)
    watch.hold_ends[order_id] = decision.effect is HoldEffect.SENT
    folded = watch.ledgers.orders[order_id]
    if decision.effect is not HoldEffect.SENT:
        watch.unsent.add(order_id)
        watch.ledgers.set_status(order_id, STATUSES[decision.effect], seq)
        return
    if isinstance(record, HoldTimed):
        assert folded.is_exit, f"{record} goes out without an approval"
    elif not folded.is_exit:
        assert record.answer.verdict is not Verdict.REJECT, f"{record} was refused, and goes out"
    if decision.quantity_e9 != order.quantity_e9:
        assert isinstance(order, TrimmableOrder), f"{record} is trimmed, and was not to be"
        assert 0 < decision.quantity_e9 < order.quantity_e9, f"{record} is trimmed to more"
    watch.accepted[order_id] = order
    watch._number(decision.venue_seq, order_id)
    folded.quantity_e9 = decision.quantity_e9
    folded.count()
    watch.ledgers.set_status(order_id, OrderStatus.PENDING_NEW, seq)


def _take_held(watch: Watch, seq: int, position: int, record: OrderHeld) -> None:
    order = command_decoder.decode(record.item.command)
    decision = record.decision
    assert isinstance(order, NewOrder)
    assert (record.seq, decision.kind) == (seq, OutcomeKind.HELD)
    assert set(record.codes) == {Code.PRICE_COLLAR}, f"{record.codes} are not routed"
    watch._take_key(seq, position, order)
    watch._require_trading(order, record.source)
    watch.ledgers.accept([(order, decision, record.reference)])
    assert decision.order_id == watch.expected_id(order)
    watch.ledgers.set_status(decision.order_id, OrderStatus.HELD, seq)
    watch.held[decision.order_id] = order


def drop_held(watch: Watch, order_id: str) -> None:
    """Take that an order was cancelled; if it was held, that is how it left."""
    if watch.held.pop(order_id, None) is not None:
        watch.hold_ends[order_id] = False


def require_held(watch: Watch, body: bytes, durable: int) -> None:
    """What the risk service is asked about is held, and durable."""
    message = engine_risk_decoder.decode(body)
    if isinstance(message, RiskRequest):
        assert message.order_id in watch.held, f"{message} is asked about, and is not held"
        assert message.book_seq <= durable, f"{message} names a record that is not durable"


def require_final(watch: Watch, final: Outcome) -> None:
    """A FINAL says what the journal says of the hold's end."""
    sent = watch.hold_ends.get(final.order_id)
    assert sent is not None, f"{final} of a hold that has not ended"
    assert (final.kind is OutcomeKind.ACCEPTED) == sent, f"{final} of an order that was {'' if sent else 'not '}sent"
