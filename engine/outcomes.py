"""Decisions as the outcomes that answer them, live and read again from the journal for a repeated delivery."""

from __future__ import annotations

from typing import Final

import msgspec

from engine.hold import HoldEnd
from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.decisions import BasketDecision, ExitDecision, NewDecision
from protocol.held_records import OrderHeld
from protocol.oco_records import OcoDecision, OcoOrdered
from protocol.paper import PaperOrdered
from protocol.records import BasketOrdered, ExitRequested, Failed, Ordered, Record, ReplaceRequested
from protocol.replaces import ReplaceDecision
from protocol.session import Facts, Item, Outcome

ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
STATUSES: Final = {
    ACCEPTED: OrderStatus.PENDING_NEW, OutcomeKind.HELD: OrderStatus.HELD, OutcomeKind.PAPER: OrderStatus.PENDING_NEW,
}  # fmt: skip


def pending(item: Item) -> Outcome:
    """Return what holds the place of a duplicate's answer until the sync is done."""
    return Outcome(item.seq, OutcomeKind.DUPLICATE, Code.OK, "", 0, OrderStatus.NONE)


def failed(item_seq: int, record_seq: int) -> Outcome:
    """Return the outcome of a command that could not be decided."""
    return Outcome(item_seq, REJECTED, Code.INTERNAL, "", record_seq, OrderStatus.REJECTED)


def replace_outcome(item: Item, record_seq: int, decided: ReplaceDecision) -> Outcome:
    """Return the outcome of a replace."""
    return Outcome(
        item.seq, decided.kind, decided.code, decided.order_id, record_seq, decided.status, decided.checks_passed,
        decided.position_after_e9, decided.position_limit_e9, decided.facts,
    )  # fmt: skip


def basket_outcome(item: Item, record_seq: int, decided: BasketDecision | OcoDecision) -> Outcome:
    """Return the outcome of a basket or an OCO group: one for all legs; the facts of a refusal name the leg."""
    facts = decided.facts
    if decided.leg:
        facts = msgspec.structs.replace(facts or Facts(), leg=decided.leg)
    status = OrderStatus.PENDING_NEW if decided.kind is ACCEPTED else OrderStatus.REJECTED
    return Outcome(
        item.seq, decided.kind, decided.code, "", record_seq, status, decided.checks_passed, facts=facts
    )  # fmt: skip


def exit_outcome(item: Item, record_seq: int, decided: ExitDecision) -> Outcome:
    """Return the outcome of an ExitReplace: accepted, it waits."""
    status = OrderStatus.SUSPENDED if decided.kind is ACCEPTED else OrderStatus.REJECTED
    return Outcome(
        item.seq, decided.kind, decided.code, decided.order_id, record_seq, status, decided.checks_passed,
        facts=decided.facts,
    )  # fmt: skip


def new_outcome(item_seq: int, record_seq: int, decided: NewDecision) -> Outcome:
    """Return the outcome of a new order."""
    status = STATUSES.get(decided.kind, OrderStatus.REJECTED)
    return Outcome(
        item_seq, decided.kind, decided.code, decided.order_id, record_seq, status, decided.checks_passed,
        decided.position_after_e9, decided.position_limit_e9, decided.facts,
    )  # fmt: skip


def first_outcome(item: Item, position: int, record: Record) -> Outcome:
    """Return the outcome that the record's own delivery got."""
    if isinstance(record, Ordered | OrderHeld | PaperOrdered):
        return new_outcome(item.seq, record.seq, record.decision)
    if isinstance(record, BasketOrdered | OcoOrdered):
        return basket_outcome(item, record.seq, record.decision)
    if isinstance(record, ExitRequested):
        return exit_outcome(item, record.seq, record.decision)
    if isinstance(record, ReplaceRequested):
        return replace_outcome(item, record.seq, record.decision)
    assert isinstance(record, Failed), f"record at position {position} expected an order, was {type(record).__name__}"
    return failed(item.seq, record.seq)


def held_outcome(item: Item, record_seq: int, decided: NewDecision) -> Outcome:
    """Return the outcome of an order that waits for the risk service."""
    return Outcome(
        item.seq, decided.kind, decided.code, decided.order_id, record_seq, OrderStatus.HELD, decided.checks_passed,
        decided.position_after_e9, decided.position_limit_e9, decided.facts,
    )  # fmt: skip


def final_outcome(item_seq: int, order_id: str, status: OrderStatus, end: HoldEnd | None, record_seq: int) -> Outcome:
    """Return how a hold ended: accepted if the order went out, whatever became of it since, else why not.

    ``end``: as remembered; None = too long ago, then the order's state is what is known.
    """
    if end is None:
        end = HoldEnd(_CODES.get(status, Code.OK), status not in _CODES)
    return Outcome(item_seq, ACCEPTED if end.is_sent else REJECTED, end.code, order_id, record_seq, status)


_CODES: Final = {OrderStatus.REJECTED: Code.RISK_REJECTED, OrderStatus.EXPIRED: Code.RISK_DEADLINE}
