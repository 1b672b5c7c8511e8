"""One row a record: the columns an export has, and which field of which record each of them is.

Rules: one table, for every format; a field without a column stands in ``rest``, so a row holds the whole record and a
new kind of record needs no change here; a column keeps its name and meaning for ever, new ones are appended.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgspec

from journal.readable import instant_name, readable
from journal.times import format_ns
from protocol.records import Record
from protocol.units import INT64_MAX

ColumnKind = Literal["int", "decimal", "text", "bool", "time", "json"]


class Column(NamedTuple):
    """One column. ``paths``: the fields it is taken from; the first one that the record has fills it."""

    name: str
    kind: ColumnKind
    text: str
    paths: tuple[str, ...] = ()


def _of_order(name: str, kind: ColumnKind, text: str, *more: str) -> Column:
    return Column(name, kind, text, (f"item.command.{name}", f"decision.{name}", *more))


FRAME_COLUMNS: Final = (
    Column("seq", "int", "the record's number"),
    Column("kind", "text", "what kind of record"),
    Column("at_ns", "int", "the engine's clock read of its batch, UTC nanoseconds"),
    Column("at", "time", "the same instant"),
    Column("epoch", "int", "the engine's start that wrote it"),
    Column("segment", "int", "the segment file it is in"),
    Column("offset", "int", "where in that file"),
)
FIELD_COLUMNS: Final = (
    Column("source", "text", "which source handed the command over", ("source",)),
    Column("principal", "text", "who asked", ("item.principal",)),
    Column("trace_id", "text", "hexadecimal", ("item.trace_id", "decision.trace_id")),
    Column("created_at_ns", "int", "when the producer made the command", ("item.created_at_ns",)),
    Column("command", "text", "which command", ("item.command.type",)),
    _of_order("account", "text", "account", "cancel.account", "resolved.account", "account"),
    _of_order("client_order_id", "text", "the order's id", "cancel.client_order_id", "resolved.client_order_id"),
    Column("orig_client_order_id", "text", "the order that is to change", ("item.command.orig_client_order_id",)),
    Column("order_id", "text", "the engine's id", ("decision.order_id", "report.order_id", "order_id")),
    _of_order("strategy", "text", "strategy"),
    _of_order("instrument", "text", "instrument", "instrument"),
    _of_order("side", "text", "BUY or SELL"),
    _of_order("order_type", "text", "order type"),
    _of_order("time_in_force", "text", "time in force"),
    _of_order("quantity", "decimal", "ordered quantity; what a position was set to", "quantity"),
    _of_order("price", "decimal", "limit price; what a position was valued at", "price"),
    Column("stop_price", "decimal", "where a stop order begins to work", ("item.command.stop_price",)),
    Column("reduce_only", "bool", "whether the order may only reduce", ("item.command.reduce_only",)),
    Column("outcome", "text", "how the command was answered", ("decision.kind",)),
    Column("code", "text", "why; OK else", ("decision.code", "report.code", "code")),
    Column("order_class", "text", "EXIT or INC", ("decision.order_class",)),
    Column("takes_key", "bool", "whether this is the answer of the order's id", ("decision.takes_key",)),
    Column("reference_price", "decimal", "the price it was checked against", ("reference.price",)),
    Column("reference_age_ns", "int", "that price's age", ("reference.age_ns",)),
    Column("reference_source", "text", "where that price came from", ("reference.source",)),
    Column("venue", "text", "venue", ("venue",)),
    Column("venue_seq", "int", "number of the command to the venue", ("decision.venue_seq", "venue_seq")),
    Column("venue_order_id", "text", "the venue's id", ("report.venue_order_id",)),
    Column("report_seq", "int", "number of the venue's report", ("report.report_seq",)),
    Column("exec_type", "text", "what the venue said", ("report.exec_type",)),
    Column("effect", "text", "what the report did", ("decision.effect",)),
    Column("status", "text", "the order's state after it", ("decision.status", "resolved.status")),
    Column("leaves_quantity", "decimal", "what still works", ("decision.leaves_quantity",)),
    Column("cum_quantity", "decimal", "what was filled so far", ("decision.cum_quantity",)),
    Column("value", "decimal", "value of all fills so far, multiplier included", ("decision.value",)),
    Column("position", "decimal", "position of (account, instrument) after it", ("decision.position",)),
    Column("trade_id", "text", "the venue's id of the fill; empty without one", ("report.trade_id",)),
    Column("last_quantity", "decimal", "quantity of the fill", ("report.last_quantity",)),
    Column("last_price", "decimal", "price of the fill", ("report.last_price",)),
    Column("liquidity", "text", "MAKER, TAKER or NONE", ("report.liquidity",)),
    Column("fee", "decimal", "what the fill cost; negative is a rebate", ("report.fee",)),
    Column("currency", "text", "of fee, or of cash", ("report.currency", "currency")),
    Column("exch_ns", "int", "the venue's clock, UTC nanoseconds", ("report.exch_ns",)),
    Column("action", "text", "what a control did", ("action",)),
    Column("scope", "text", "to what kind of scope", ("scope",)),
    Column("scope_key", "text", "to which one; the order id where an order was resolved", ("key",)),
    Column("operator", "text", "who did it", ("operator",)),
    Column("reason", "text", "why", ("reason",)),
    Column("created_at", "time", "created_at_ns as an instant"),
    Column("exch_at", "time", "exch_ns as an instant"),
)
REST: Final = "rest"
COLUMNS: Final = (*FRAME_COLUMNS, *FIELD_COLUMNS, Column(REST, "json", "every field without a column, as JSON"))
_Taken = tuple[str, bool, tuple[tuple[tuple[str, ...], str], ...]]
_taken: dict[type[Record], list[_Taken]] = {}


class Place(NamedTuple):
    """Where and when a record stands: its number, its batch's clock and epoch, its position."""

    seq: int
    at_ns: int
    epoch: int
    segment: int
    offset: int


def flat_row(place: Place, record: Record) -> dict[str, Any]:
    """Return the row of a record: every column that it has, amounts as decimal text, ``rest`` as a dict.

    The ISO form of an instant (``at``, ``created_at``, ``exch_at``) is made by the writer that wants text.
    """
    nested = readable(record)
    row: dict[str, Any] = {
        "seq": place.seq, "kind": type(record).__name__, "at_ns": place.at_ns, "epoch": place.epoch,
        "segment": place.segment, "offset": place.offset,
    }  # fmt: skip
    taken = _taken.get(type(record))
    if taken is None:
        taken = _taken[type(record)] = _columns_of(nested)
    for name, is_int, paths in taken:
        for steps, last in paths:
            parent: Any = nested
            for step in steps:
                parent = parent.get(step) if isinstance(parent, dict) else None
            if not isinstance(parent, dict) or (value := parent.get(last)) is None:
                continue
            if is_int and not -INT64_MAX <= value <= INT64_MAX:
                continue  # a producer may claim any time: what no column holds stays in ``rest``
            row[name] = parent.pop(last)
            if is_int:
                parent.pop(instant_name(last), None)
            break
    row[REST] = nested
    return row


def _columns_of(nested: dict[str, Any]) -> list[_Taken]:
    """Return the columns that this kind of record may fill: those whose path begins with a field it has."""
    found: list[_Taken] = []
    for column in FIELD_COLUMNS:
        split = [path.split(".") for path in column.paths]
        paths = tuple((tuple(steps), last) for *steps, last in split if [*steps, last][0] in nested)
        if paths:
            found.append((column.name, column.kind == "int", paths))
    return found


def as_json_line(row: dict[str, Any]) -> bytes:
    """Return a row as one line of JSON, instants in ISO 8601 beside their nanoseconds."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        shown[name] = value
        if name in {"at_ns", "created_at_ns", "exch_ns"}:
            shown[instant_name(name)] = format_ns(value)
    return msgspec.json.encode(shown) + b"\n"
