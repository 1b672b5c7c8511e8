"""Events: what happened, derived from records alone. The PUB stream carries records; readers call ``events_of``.

Its fields (``protocol.event_kinds``) derive from the record's input and decision, so every reader of the journal and of
the stream sees the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from protocol.amend_events import amend_events, suspended_fill
from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind
from protocol.decisions import BOOKED, EngineCancel, NewDecision, Reference, ReplaceAnswer, ReportDecision, ReportEffect
from protocol.event_kinds import (
    AdjustEvent,
    ControlEvent,
    Event,
    OrderEvent,
    ReplaceEvent,
    StatusEvent,
    SystemEvent,
    TradeEvent,
)
from protocol.held_records import HoldEffect, HoldTimed, OrderHeld, RiskDecided
from protocol.marks import Marked, trip_line
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import (
    CancelOrder,
    ExitReplace,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    command_decoder,
    order_of,
)
from protocol.paper import PaperOrdered, paper_name
from protocol.records import (
    Adjusted,
    BasketOrdered,
    CancelRequested,
    Controlled,
    DayOrdersExpired,
    ExitReleased,
    ExitRequested,
    FillEntered,
    Ordered,
    Record,
    ReplaceRequested,
    Reported,
    SendDecided,
)
from protocol.replaces import ReplaceUnsent
from protocol.statement import Reconciled
from protocol.system_text import reconciled_lines, system_text
from protocol.units import format_e9
from protocol.venue import Report, report_decoder

Several = BasketOrdered | ExitRequested | ExitReleased | OcoOrdered | OcoTriggered | OcoReleased


def events_of(seq: int, now_ns: int, record: Record) -> list[Event]:
    """Return what happened in one record, in order."""
    match record:
        case Ordered():
            return [_ordered(seq, now_ns, record)]
        case CancelRequested():
            return _cancel_requested(seq, now_ns, record)
        case Reported() | FillEntered():
            return _reported(seq, now_ns, record)
        case BasketOrdered() | ExitRequested() | ExitReleased() | OcoOrdered() | OcoTriggered() | OcoReleased():
            return _several(seq, now_ns, record)
        case ReplaceRequested():
            return [_replace_requested(seq, now_ns, record)]
        case ReplaceUnsent():
            return [
                StatusEvent(
                    seq, 0, now_ns, ExecType.REPLACE_REJECT, record.account, record.client_order_id, record.order_id,
                    record.status, record.leaves_quantity_e9, record.cum_quantity_e9, record.code,
                )
            ]  # fmt: skip
        case SendDecided():
            if record.cancel is None:
                return [SystemEvent(seq, 0, now_ns, "SendDecided", f"{record.order_id} sent late, checked again")]
            return [_engine_cancel(seq, 0, now_ns, record.cancel)]
        case Controlled():
            return _controlled(seq, now_ns, record)
        case DayOrdersExpired():
            return [_engine_cancel(seq, n, now_ns, c) for n, c in enumerate(record.cancels)]
        case Adjusted():
            return [
                AdjustEvent(
                    seq, 0, now_ns, record.account, record.instrument, record.quantity_e9, record.price_e9,
                    record.cash_e9, record.currency, record.reason,
                )
            ]  # fmt: skip
        case _:
            return _others(seq, now_ns, record)


def _others(seq: int, now_ns: int, record: Record) -> list[Event]:
    """Return what happened to a trade afterwards; of what is no order's, a line for a person."""
    if isinstance(record, OrderHeld | RiskDecided | HoldTimed):
        return [_held(seq, now_ns, record)]
    if isinstance(record, PaperOrdered):
        return [_paper(seq, now_ns, record)]
    if isinstance(record, TradeAmended | SuspenseResolved) and (found := amend_events(seq, now_ns, record)):
        return [*found]
    match record:
        case Reconciled():
            lines = reconciled_lines(record)
        case Marked():  # prices alone are no news: ten a second of each position
            lines = [trip_line(trip) for trip in record.trips]
        case _:
            lines = [system_text(record)]
    return [SystemEvent(seq, n, now_ns, type(record).__name__, line) for n, line in enumerate(lines)]


def _held(seq: int, now_ns: int, record: OrderHeld | RiskDecided | HoldTimed) -> Event:
    """Return the order that waits for the risk service, or how its wait ended."""
    if isinstance(record, OrderHeld):
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, NewOrder)
        ordered = Ordered(record.source, record.item, record.reference, record.decision)
        event = _order(seq, 0, now_ns, command, ordered)
        return msgspec.structs.replace(event, exec_type=ExecType.HELD, status=OrderStatus.HELD)
    decision = record.decision
    if decision.effect in {HoldEffect.WAITS, HoldEffect.LATE}:
        text = f"held order {record.order_id}: {decision.effect.name} {decision.code.name}"
        return SystemEvent(seq, 0, now_ns, type(record).__name__, text)
    exec_type, status = _HOLD_ENDS[decision.effect]
    left_e9 = decision.quantity_e9
    return StatusEvent(
        seq, 0, now_ns, exec_type, record.account, record.client_order_id, record.order_id, status, left_e9, 0,
        decision.code, quantity_e9=left_e9, price_e9=decision.price_e9,
    )  # fmt: skip


def _paper(seq: int, now_ns: int, record: PaperOrdered) -> OrderEvent:
    """Return the order under the paper side of its account; ``code`` says why it is there."""
    command = command_decoder.decode(record.item.command)
    assert isinstance(command, NewOrder)
    event = _order(seq, 0, now_ns, command, Ordered(record.source, record.item, record.reference, record.decision))
    return msgspec.structs.replace(
        event, exec_type=ExecType.PENDING_NEW, status=OrderStatus.PENDING_NEW, account=paper_name(event.account)
    )


_HOLD_ENDS: Final = {
    HoldEffect.SENT: (ExecType.PENDING_NEW, OrderStatus.PENDING_NEW),
    HoldEffect.REJECTED: (ExecType.REJECTED, OrderStatus.REJECTED),
    HoldEffect.EXPIRED: (ExecType.EXPIRED, OrderStatus.EXPIRED),
}


def _several(seq: int, now_ns: int, record: Several) -> list[Event]:
    """Return what happened to several orders at once, and to one that had to wait for others."""
    match record:
        case BasketOrdered():
            return _basket(seq, now_ns, record)
        case ExitRequested():
            return _exit_requested(seq, now_ns, record)
        case ExitReleased() | OcoReleased():
            return [_exit_released(seq, now_ns, record)]
        case OcoOrdered():
            return _oco(seq, now_ns, record)
        case OcoTriggered():
            return _oco_triggered(seq, now_ns, record)


def _oco(seq: int, now_ns: int, record: OcoOrdered) -> list[Event]:
    """Return the order that goes to the venue, and the one that waits; or the refusal."""
    command = command_decoder.decode(record.item.command)
    assert isinstance(command, NewOco)
    if record.decision.kind is not OutcomeKind.ACCEPTED:
        return [_refused_leg(seq, now_ns, command.legs, record, record.reference)]
    first, second = (
        _order(seq, n, now_ns, leg, Ordered(record.source, record.item, record.reference, decided))
        for n, (leg, decided) in enumerate(zip(command.legs, record.decision.legs, strict=True))
    )
    waits = msgspec.structs.replace(second, exec_type=ExecType.SUSPENDED, status=OrderStatus.SUSPENDED)
    return [first, waits]


def _oco_triggered(seq: int, now_ns: int, record: OcoTriggered) -> list[Event]:
    price = format_e9(record.reference.price_e9)
    events: list[Event] = [
        SystemEvent(seq, 0, now_ns, "OcoTriggered", f"{record.order_id} reached its stop price at {price}")
    ]
    if record.cancel is not None:
        events.append(_engine_cancel(seq, 1, now_ns, record.cancel))
    return events


def _basket(seq: int, now_ns: int, record: BasketOrdered) -> list[Event]:
    """Return each leg as an order; of a refused basket the leg that was, which leaves no order."""
    basket = command_decoder.decode(record.item.command)
    assert isinstance(basket, NewBasket)
    decision = record.decision
    if decision.kind is OutcomeKind.ACCEPTED:
        legs = zip(basket.legs, record.references, decision.legs, strict=True)
        return [
            _order(seq, n, now_ns, leg, Ordered(record.source, record.item, reference, decided))
            for n, (leg, reference, decided) in enumerate(legs)
        ]
    at = max(decision.leg, 1) - 1
    reference = record.references[at] if at < len(record.references) else None
    return [_refused_leg(seq, now_ns, basket.legs, record, reference)]


def _refused_leg(
    seq: int,
    now_ns: int,
    legs: Sequence[NewOrder],
    record: BasketOrdered | OcoOrdered,
    reference: Reference | None,
) -> OrderEvent:
    decision = record.decision
    refused = NewDecision(
        decision.kind, decision.code, checks_passed=decision.checks_passed, takes_key=False, facts=decision.facts
    )
    leg = legs[max(decision.leg, 1) - 1]
    return _order(seq, 0, now_ns, leg, Ordered(record.source, record.item, reference, refused))


def _exit_requested(seq: int, now_ns: int, record: ExitRequested) -> list[Event]:
    """Return the exit as an order that waits, then the cancels of what it waits for; or the refusal."""
    command = command_decoder.decode(record.item.command)
    assert isinstance(command, ExitReplace)
    decision = record.decision
    decided = NewDecision(
        decision.kind, decision.code, decision.order_id, 0, decision.checks_passed, takes_key=decision.takes_key,
        facts=decision.facts,
    )  # fmt: skip
    event = _order(seq, 0, now_ns, order_of(command), Ordered(record.source, record.item, record.reference, decided))
    if decision.kind is not OutcomeKind.ACCEPTED:
        return [event]
    waits = msgspec.structs.replace(event, exec_type=ExecType.SUSPENDED, status=OrderStatus.SUSPENDED)
    return [waits, *(_engine_cancel(seq, n, now_ns, c) for n, c in enumerate(decision.cancels, start=1))]


def _exit_released(seq: int, now_ns: int, record: ExitReleased | OcoReleased) -> StatusEvent:
    if record.cancel is not None:
        return _engine_cancel(seq, 0, now_ns, record.cancel)
    return StatusEvent(
        seq, 0, now_ns, ExecType.PENDING_NEW, record.account, record.client_order_id, record.order_id,
        OrderStatus.PENDING_NEW, record.quantity_e9, 0, record.code, quantity_e9=record.quantity_e9,
        price_e9=record.price_e9,
    )  # fmt: skip


def _ordered(seq: int, now_ns: int, record: Ordered) -> OrderEvent:
    order = command_decoder.decode(record.item.command)
    assert isinstance(order, NewOrder)
    return _order(seq, 0, now_ns, order, record)


def _order(seq: int, n: int, now_ns: int, order: NewOrder, record: Ordered) -> OrderEvent:
    decision = record.decision
    accepted = decision.kind is OutcomeKind.ACCEPTED
    return OrderEvent(
        seq, n, now_ns, ExecType.PENDING_NEW if accepted else ExecType.REJECTED, order.account,
        order.client_order_id, decision.order_id, order.strategy, order.instrument, order.side, order.order_type,
        order.time_in_force, order.quantity_e9, order.price_e9, order.reduce_only,
        OrderStatus.PENDING_NEW if accepted else OrderStatus.REJECTED, decision.code, decision.facts,
        record.reference, record.source, record.item.principal, record.item.created_at_ns, record.item.trace_id,
        decision.takes_key,
    )  # fmt: skip


def _cancel_requested(seq: int, now_ns: int, record: CancelRequested) -> list[Event]:
    command = command_decoder.decode(record.item.command)
    assert isinstance(command, CancelOrder)
    decision = record.decision
    taken = decision.kind is OutcomeKind.ACCEPTED
    is_over = bool(decision.voids_seq) or (taken and decision.status is OrderStatus.CANCELED)  # it was never sent
    exec_type = ExecType.CANCELED if is_over else ExecType.PENDING_CANCEL
    client_order_id = decision.order_client_order_id or command.orig_client_order_id
    event = StatusEvent(
        seq, 0, now_ns, exec_type if taken else ExecType.CANCEL_REJECT, command.account, client_order_id,
        decision.order_id, decision.status, decision.leaves_quantity_e9, decision.cum_quantity_e9,
        decision.code, changes_order=taken and bool(decision.venue_seq or is_over), facts=decision.facts,
    )  # fmt: skip
    return [event] if decision.other is None else [event, _engine_cancel(seq, 1, now_ns, decision.other)]


def _replace_requested(seq: int, now_ns: int, record: ReplaceRequested) -> ReplaceEvent:
    command = command_decoder.decode(record.item.command)
    assert isinstance(command, ReplaceOrder)
    decision = record.decision
    taken = decision.kind is OutcomeKind.ACCEPTED
    exec_type = ExecType.PENDING_CANCEL if decision.cancels else ExecType.PENDING_REPLACE
    return ReplaceEvent(
        seq, 0, now_ns, exec_type if taken else ExecType.REPLACE_REJECT, command.account, command.client_order_id,
        command.orig_client_order_id, decision.order_client_order_id, decision.order_id, decision.status,
        decision.leaves_quantity_e9, decision.cum_quantity_e9, decision.quantity_e9 or command.quantity_e9,
        decision.price_e9 or command.price_e9, decision.code, decision.facts, record.reference, record.source,
        record.item.principal, record.item.trace_id, decision.takes_key,
    )  # fmt: skip


def _reported(seq: int, now_ns: int, record: Reported | FillEntered) -> list[Event]:
    report = report_decoder.decode(record.report)
    decision = record.decision
    if decision.effect in BOOKED:
        return [_applied(seq, 0, now_ns, record.venue, report, decision)]
    text = f"report {report.report_seq} {report.exec_type.name} of {report.order_id}: {decision.effect.name}"
    told = SystemEvent(seq, 0, now_ns, "Reported", text)
    if decision.effect is not ReportEffect.ORDER_UNKNOWN:
        return [told]
    in_suspense = suspended_fill(seq, 1, now_ns, record.venue, report)
    return [told] if in_suspense is None else [told, in_suspense]


def _applied(
    seq: int, n: int, now_ns: int, venue: str, report: Report, decision: ReportDecision
) -> StatusEvent | TradeEvent:
    if report.last_quantity_e9 == 0:
        return StatusEvent(
            seq, n, now_ns, report.exec_type, decision.account, decision.client_order_id, report.order_id,
            decision.status, decision.leaves_quantity_e9, decision.cum_quantity_e9, report.code, venue,
            report.venue_order_id, report.exch_ns, quantity_e9=decision.quantity_e9, price_e9=decision.price_e9,
        )  # fmt: skip
    takes = decision.replace_answer is ReplaceAnswer.TAKEN
    return TradeEvent(
        seq, n, now_ns, decision.account, decision.client_order_id, report.order_id, decision.strategy,
        decision.instrument, decision.side, decision.status, decision.leaves_quantity_e9, decision.cum_quantity_e9,
        decision.value_e9, report.last_quantity_e9, report.last_price_e9, report.trade_id, venue,
        report.venue_order_id, report.liquidity, report.fee_e9, report.currency, report.exch_ns,
        decision.position_e9, decision.trace_id, decision.quantity_e9 if takes else 0,
        decision.price_e9 if takes else 0,
    )  # fmt: skip


def _controlled(seq: int, now_ns: int, record: Controlled) -> list[Event]:
    events: list[Event] = [
        ControlEvent(
            seq, 0, now_ns, record.action, record.scope, record.key, record.operator, record.reason, record.automatic
        )
    ]
    events += [_engine_cancel(seq, n, now_ns, c) for n, c in enumerate(record.cancels, start=1)]
    if record.resolved is not None:
        r = record.resolved
        events.append(
            StatusEvent(
                seq, len(events), now_ns, ExecType.ORDER_STATUS, r.account, r.client_order_id, record.key, r.status,
                r.leaves_quantity_e9, r.cum_quantity_e9, Code.OPERATOR_RESOLVED,
            )
        )  # fmt: skip
        # What an operator says was filled has no trade; it moves the position as account truth.
        events.append(
            AdjustEvent(seq, len(events), now_ns, r.account, r.instrument, r.position_e9, 0, "", "", record.reason)
        )
    return events


def _engine_cancel(seq: int, n: int, now_ns: int, cancel: EngineCancel) -> StatusEvent:
    unsent = cancel.venue_seq == 0
    return StatusEvent(
        seq, n, now_ns, ExecType.CANCELED if unsent else ExecType.PENDING_CANCEL, cancel.account,
        cancel.client_order_id, cancel.order_id, OrderStatus.CANCELED if unsent else OrderStatus.PENDING_CANCEL,
        0 if unsent else -1, cancel.cum_quantity_e9, cancel.code,
    )  # fmt: skip
