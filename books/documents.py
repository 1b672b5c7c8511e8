"""Rows as documents of a key-value store, each with the form it had before, so that a watermark decides what counts.

A document says at which watermark it was written and what it was until then. Whoever reads at watermark W takes the
new form where it was written at W or before, else the older one; so what a writer left behind half-way is never seen,
and the next writer finds what it goes on from. Pure.

Keys: ``<type>::<shard>::<name>``. Rows are named by the number that pages them; what is asked for by another name has a
small document that says the number: two reads by key, no query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Struct

from books.schema import TABLES, Coder
from books.store import FILTERS, Counts, Row, StoreMark
from journal.rows import BreachRow, OrderRow, PositionRow, TradeRow

KEY_BYTES_MAX: Final = 250
EPOCHS: Final = "epochs"
# Type of document → the collection it is in, where there are named ones.
COLLECTIONS: Final = {
    "order": "orders", "order-of": "orders", "order-id": "orders", "orders-by": "orders",
    "trade": "trades", "trade-of": "trades", "trades-by": "trades",
    "position": "positions", "position-of": "positions", "positions-by": "positions",
    "breach": "breaches", "breaches-by": "breaches",
    "watermark": EPOCHS, "progress": EPOCHS,
}  # fmt: skip
ROW_TYPES: Final = {"orders": "order", "trades": "trade", "positions": "position", "breaches": "breach"}
_CODERS: Final = {kind: Coder(table) for kind, table in TABLES.items()}
_BYTES: Final = "trace_id"


class Document(Struct, omit_defaults=True):
    """``mark`` and ``value``: its newest form and the watermark that makes it count; ``was``: the one before.

    A value of null means that there is none.
    """

    mark: int
    value: Any
    was_mark: int = 0
    was: Any = None

    def at(self, seq: int) -> Any:
        """Return the form that counts at a watermark; None if there is none.

        For who writes: of a form that the store's watermark does not reach, if the store lost it, nothing is left.
        """
        if self.mark <= seq:
            return self.value
        return self.was if self.was_mark <= seq else None

    def is_beyond(self, seq: int) -> bool:
        """Whether what counted at this watermark is no longer here: the reader has to begin anew with a newer one."""
        return self.mark > seq and self.was_mark > seq

    def next(self, seq: int, mark: int, value: Any) -> Document:
        """Return the document that counts from ``mark`` on, where the store is at ``seq``."""
        if self.mark <= seq:
            return Document(mark, value, self.mark, self.value)
        return Document(mark, value, *((self.was_mark, self.was) if self.was_mark <= seq else (0, None)))


class Head(Struct):
    """How far the store is, how many rows it has, and which writer has it."""

    mark: StoreMark = StoreMark()
    orders: int = 0
    trades: int = 0
    positions: int = 0
    breaches: int = 0
    owner: str = ""

    @property
    def counts(self) -> Counts:
        """How many rows there are."""
        return Counts(self.orders, self.trades, self.positions, self.breaches)


encode: Final = msgspec.json.Encoder().encode
decode_document: Final = msgspec.json.Decoder(Document).decode
decode_head: Final = msgspec.json.Decoder(Head).decode


class Keys:
    """The keys of one shard."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self.watermark = self._key("watermark", "0")
        self.progress = self._key("progress", "0")

    def row(self, kind: str, number: int) -> str:
        """Return the key of a row."""
        return self._key(ROW_TYPES[kind], str(number))

    def order_of(self, account: str, client_order_id: str) -> str:
        """Return where it says which orders a client's id is of."""
        return self._key("order-of", _name(account, client_order_id))

    def order_id(self, order_id: str) -> str:
        """Return where it says which order has the engine's id."""
        return self._key("order-id", _name(order_id))

    def trade_of(self, venue: str, trade_id: str) -> str:
        """Return where it says which row a venue's trade is."""
        return self._key("trade-of", _name(venue, trade_id))

    def position_of(self, account: str, instrument: str) -> str:
        """Return where it says which row a position is."""
        return self._key("position-of", _name(account, instrument))

    def page(self, kind: str, index: str, level: int, number: int) -> str:
        """Return the key of a page of an index."""
        return self._key(f"{kind}-by", f"{level}::{number}::{index}")

    def _key(self, kind: str, name: str) -> str:
        key = f"{kind}::{self._shard}::{name}"
        if len(key) <= KEY_BYTES_MAX:  # names are quoted: one byte a character
            return key
        return f"{kind}::{self._shard}::sha256-{hashlib.sha256(key.encode()).hexdigest()}"


def collection_of(key: str) -> str:
    """Return the collection that a key belongs to."""
    return COLLECTIONS[key.split("::", 1)[0]]


def _name(*parts: str) -> str:
    return "::".join(quote(part, safe="@+") for part in parts)


def row_value(kind: str, row: Struct) -> dict[str, Any]:
    """Return a row as JSON has it: what may be wider than 64 bits as text, the trace id in hex, codes as numbers."""
    coder = _CODERS[kind]
    value = dict(zip(coder.columns, coder.encode(row), strict=True))
    if _BYTES in value:
        value[_BYTES] = value[_BYTES].hex()
    return value


def row_of(kind: str, value: dict[str, Any]) -> Any:
    """Return the row of a value."""
    coder = _CODERS[kind]
    values = {**value, _BYTES: bytes.fromhex(value[_BYTES])} if _BYTES in value else value
    return coder.decode(tuple(values[name] for name in coder.columns))


def number_of(kind: str, row: Row) -> int:
    """Return the number that pages a row; a position's is given when it is first stored."""
    if isinstance(row, OrderRow):
        return row.accepted_seq
    assert isinstance(row, TradeRow | BreachRow), kind
    return row.seq


def indexes_of(kind: str, row: Row | None) -> frozenset[str]:
    """Return the names of the indexes that a row is in: one for each set of filters that is answered."""
    if row is None:
        return frozenset()
    return frozenset(index_name({f: _filtered(row, f) for f in names}) for names in FILTERS[kind])


def index_name(filters: dict[str, str | int]) -> str:
    """Return the name of the index that answers these filters."""
    return "&".join(f"{name}={quote(str(filters[name]), safe='@+')}" for name in sorted(filters)) or "all"


def _filtered(row: Row, name: str) -> str | int:
    value = getattr(row, "is_open" if name == "open" else name)
    return value if isinstance(value, str) else int(value)


class Pointer(NamedTuple):
    """What a key says: the number of a row, or numbers by trading date."""

    key: str
    kind: str


def pointers_of(keys: Keys, kind: str, row: Row) -> Iterable[Pointer]:
    """Yield under what other names a row is found."""
    if isinstance(row, OrderRow):
        yield Pointer(keys.order_of(row.account, row.client_order_id), kind)
        if row.order_id:
            yield Pointer(keys.order_id(row.order_id), kind)
    elif isinstance(row, TradeRow):
        yield Pointer(keys.trade_of(row.venue, row.trade_id), kind)
    elif isinstance(row, PositionRow):
        yield Pointer(keys.position_of(row.account, row.instrument), kind)
