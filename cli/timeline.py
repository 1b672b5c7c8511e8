"""An order's life as the journal tells it: what happened, when, and how long after it was received.

Pure but for reading the journal. The times are the ones that stand there: the producer's, the engine's clock of the
batch, the end of the sync that made the batch durable (in the next batch's header), the venue's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from journal.reader import Batch, read_batches, start_of
from protocol.amend_events import AmendEvent
from protocol.codes import ExecType
from protocol.event_kinds import Event, OrderEvent, ReplaceEvent, StatusEvent, TradeEvent
from protocol.events import events_of
from protocol.records import record_decoder
from protocol.units import format_e9

NS_PER_US: Final = 1_000
_IDS: Final = ("order_id", "client_order_id", "orig_client_order_id", "order_client_order_id")
_WORDS: Final = {
    ExecType.NEW: "acknowledged",
    ExecType.PENDING_CANCEL: "cancel requested",
    ExecType.CANCELED: "cancelled",
}


class Step(NamedTuple):
    """One thing that happened; ``at_ns`` UTC."""

    word: str
    at_ns: int
    seq: int
    detail: str


def find_timeline(journal: Path, order_id: str) -> list[Step]:
    """Return what the journal says of an order, by its order id or client_order_id; empty if it has none.

    Reads the whole journal: about a second for a million records.
    """
    steps: list[Step] = []
    awaiting_durable: list[tuple[str, int]] = []
    for batch in read_batches(journal, *start_of(journal, 1)):
        for word, seq in awaiting_durable:
            steps.append(Step(word, batch.header.prev_durable_ns, seq, ""))
        awaiting_durable.clear()
        for event in _events(batch, order_id.encode()):
            if order_id not in {getattr(event, name, "") for name in _IDS}:
                continue
            steps += _steps(event)
            if isinstance(event, OrderEvent):
                awaiting_durable.append(("durable", event.seq))
    return [s for s in steps if s.at_ns]


def described(steps: list[Step]) -> Iterator[str]:
    """Yield lines: time since received in ms, what, at which record."""
    if not steps:
        return
    received_ns = next((s.at_ns for s in steps if s.word == "received"), steps[0].at_ns)
    for step in steps:
        us = (step.at_ns - received_ns) // NS_PER_US
        sign = "-" if us < 0 else "+"
        after = f"{sign}{abs(us) // 1000:>7}.{abs(us) % 1000:03d} ms"
        yield f"{after}   {step.word:<16} seq {step.seq:<9} {step.detail}".rstrip()


def _events(batch: Batch, needle: bytes) -> Iterator[Event]:
    for seq, _, data in batch.records:
        # Reports name the order id and orders the client's; decode only records that can be of this order.
        if needle in data:
            yield from events_of(seq, batch.header.now_ns, record_decoder.decode(data))


def _steps(event: Event) -> list[Step]:
    match event:
        case OrderEvent():
            what = f"{event.side.name} {format_e9(event.quantity_e9)} {event.instrument} {event.order_type.name}"
            price = f" {format_e9(event.price_e9)}" if event.price_e9 else ""
            decided = "accepted" if event.exec_type is not ExecType.REJECTED else f"rejected {event.code.name}"
            return [
                Step("created", event.created_at_ns, event.seq, f"by {event.principal} through {event.source}"),
                Step("received", event.at_ns, event.seq, f"{what}{price}"),
                Step(decided, event.at_ns, event.seq, event.order_id),
            ]
        case TradeEvent():
            fill = f"{format_e9(event.last_quantity_e9)} @ {format_e9(event.last_price_e9)}"
            fee = f"fee {format_e9(event.fee_e9)} {event.currency} {event.liquidity.name.lower()}"
            return [
                Step(
                    event.status.name.lower().replace("_", " "),
                    event.at_ns,
                    event.seq,
                    f"{fill}   {fee}   venue {event.trade_id}",
                )
            ]
        case AmendEvent():
            was = f"was {format_e9(event.quantity_e9)} @ {format_e9(event.price_e9)}"
            now = (
                f"{format_e9(event.last_quantity_e9)} @ {format_e9(event.last_price_e9)}   "
                if event.last_price_e9
                else ""
            )
            by = f"   by {event.operator}: {event.reason}" if event.operator else ""
            word = event.exec_type.name.lower().replace("_", " ")
            return [Step(word, event.at_ns, event.seq, f"{now}{was}   venue {event.trade_id}{by}")]
        case ReplaceEvent():
            terms = f"{format_e9(event.quantity_e9)} at {format_e9(event.price_e9)} as {event.client_order_id}"
            why = f" {event.code.name}" if event.code else ""
            return [Step(event.exec_type.name.lower().replace("_", " "), event.at_ns, event.seq, f"{terms}{why}")]
        case StatusEvent():
            venue = f"venue {event.venue_order_id}" if event.venue_order_id else ""
            code = event.code.name if event.code else ""
            word = _WORDS.get(event.exec_type, event.exec_type.name.lower().replace("_", " "))
            return [Step(word, event.at_ns, event.seq, f"{venue} {code}".strip())]
        case _:
            return []
