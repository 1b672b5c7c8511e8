"""What of the event stream is news here. Most records are orders and reports: those are told by their tag alone."""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.frames import iter_records, read_header
from protocol.marks import Marked, trip_line
from protocol.money import CollateralAdjusted, FxMarked
from protocol.records import Adjusted, ControlAction, Controlled, record_decoder
from protocol.statement import Reconciled
from protocol.system_text import system_text
from protocol.texts import difference_text
from protocol.units import format_e9

CONTROLLED, CLOCKED, ADJUSTED, FAILED, RECONCILED = 8, 9, 10, 11, 43
SUSPENSE, MARKED, COLLATERAL, FX = 46, 76, 83, 84
NEWS: Final = frozenset({CONTROLLED, CLOCKED, ADJUSTED, FAILED, RECONCILED, SUSPENSE, MARKED, COLLATERAL, FX})
SHOWN: Final = 3


class Seen(NamedTuple):
    """What a frame had: whether it is a reason to look, and what happened, as rule and line."""

    is_news: bool
    events: list[tuple[str, str]]


def seen_in(frame: bytes) -> Seen:
    """Return what is news in a whole frame."""
    header = read_header(frame)
    assert header is not None, "the event stream hands on whole frames only"
    is_news = False
    events: list[tuple[str, str]] = []
    for _, data in iter_records(frame, header):
        tag = _tag_of(data)
        if tag in NEWS:
            found = _events(data)
            is_news = is_news or tag != MARKED or bool(found)  # prices alone are none
            events += found
    return Seen(is_news, events)


def _tag_of(data: memoryview) -> int:
    """Return the record's tag: it stands behind the head of an array, of 1, 3 or 5 bytes (msgpack)."""
    at = {0xDC: 3, 0xDD: 5}.get(data[0], 1)
    return data[at] if at < len(data) else -1


def _events(data: memoryview) -> list[tuple[str, str]]:
    record = record_decoder.decode(data)
    match record:
        case Reconciled() if record.differences or record.more:
            lines = [difference_text(d) for d in record.differences[:SHOWN]]
            more = len(record.differences) + record.more - len(lines)
            return [("statement", f"venue {record.venue}: {'; '.join(lines)}{f'; and {more} more' if more else ''}")]
        case Controlled() if record.action is ControlAction.EXIT_STALE:
            return [("stale_exits", f"{len(record.cancels)} exits of more than is left are cancelled")]
        case Marked():
            return [("losses", trip_line(trip)) for trip in record.trips]
        case Adjusted() if record.operator:
            return [("truth", _adjusted(record))]
        case CollateralAdjusted() | FxMarked() if record.operator:
            return [("truth", system_text(record))]
        case _:
            return []


def _adjusted(record: Adjusted) -> str:
    if record.instrument:
        what = f"position {record.instrument} of {record.account} set to {format_e9(record.quantity_e9)}"
    else:
        what = f"cash of {record.account} set to {format_e9(int(record.cash_e9))} {record.currency}"
    return f"{what} by {record.operator}: {record.reason}"
