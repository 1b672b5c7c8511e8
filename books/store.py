"""The contract of a store: rows and watermark change together, insert-only under seq, closed lists of reads.

A batch is what a run of records changed: new orders, trades and breaches, the newest form of orders, positions and
amended trades, and the mark behind the last record. Whoever reads sees all of it or nothing, by whatever means the
store has: a transaction, or documents that count only from the watermark on.

Rules: ``apply`` is all or nothing and may be repeated, also with other batches of the same records after a crash; a
store that holds another history raises FencedError; every filter has its index (DECISIONS 45), every list is paged by
a number that grows with the records. Errors by kind stand in ``books.errors``. A new store is one file, and a test
that inherits ``tests/conformance/store.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from books.errors import QueryError
from journal.projection import Changes, State
from journal.rows import BreachRow, OrderRow, PositionRow, TradeRow

LIMIT_MAX: Final = 500
Row = OrderRow | TradeRow | PositionRow | BreachRow

# Which filters each list takes, and no others. Each set is answered by an index of the store.
FILTERS: Final[dict[str, tuple[frozenset[str], ...]]] = {
    "orders": (
        frozenset(),
        frozenset({"account"}),
        frozenset({"account", "open"}),
        frozenset({"account", "strategy"}),
        frozenset({"account", "instrument"}),
        frozenset({"day"}),
        frozenset({"code"}),
        frozenset({"open"}),
    ),
    "trades": (
        frozenset(),
        frozenset({"account"}),
        frozenset({"account", "client_order_id"}),
        frozenset({"account", "strategy"}),
        frozenset({"account", "instrument"}),
        frozenset({"day"}),
        frozenset({"status"}),
    ),
    "positions": (frozenset(), frozenset({"account"}), frozenset({"account", "instrument"})),
    "breaches": (
        frozenset(),
        frozenset({"account"}),
        frozenset({"account", "strategy"}),
        frozenset({"account", "instrument"}),
        frozenset({"day"}),
        frozenset({"code"}),
    ),
}


class StoreMark(Struct, frozen=True):
    """How far the store is: the last record in it, its batch's chain and epoch, and the projection's state."""

    seq: int = 0
    crc: int = 0
    epoch: int = 0
    state: State = State()


class Progress(Struct, frozen=True):
    """What the books writer says of itself. ``lag_ms``: from decision to visible here, of the newest record."""

    lag_seq: int = 0
    lag_ms: int = 0
    stored_at_ns: int = 0
    retries: int = 0


class Counts(NamedTuple):
    """How many rows there are."""

    orders: int
    trades: int
    positions: int
    breaches: int


class Page(NamedTuple):
    """Rows in order. ``cursor``: ask again with it; 0 = this is the end. ``as_of_seq``: the watermark they reflect."""

    rows: list[Row]
    cursor: int
    as_of_seq: int


class Reader(Protocol):
    """What the API and the projection ask."""

    def watermark(self) -> StoreMark:
        """Return how far the store is."""

    def progress(self) -> Progress:
        """Return what the writer said last."""

    def counts(self) -> Counts:
        """Return the number of rows of each kind."""

    def find_order(self, account: str, client_order_id: str) -> OrderRow | None:
        """Return the order with this key."""

    def find_order_id(self, order_id: str) -> OrderRow | None:
        """Return the newest order with the engine's own id, which refusals may lack."""

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        """Return the position with this key."""

    def find_trade(self, venue: str, trade_id: str) -> TradeRow | None:
        """Return the trade with this key."""

    def trades_of(self, account: str, instrument: str, after_seq: int) -> Iterator[TradeRow]:
        """Yield the trades of a position that came after a record, oldest first, without holding them all."""

    def order_as_of(self, account: str, client_order_id: str) -> tuple[OrderRow | None, int]:
        """Return the order and the watermark it reflects."""

    def list_rows(self, kind: str, filters: dict[str, str | int], limit: int, cursor: int = 0) -> Page:
        """Return rows of ``orders``, ``trades``, ``positions`` or ``breaches`` in the order they were made.

        Raises:
            QueryError: If these filters are not one of FILTERS.
        """

    def close(self) -> None:
        """Let go."""


class Store(Reader, Protocol):
    """What the books writer needs on top."""

    def apply(self, after: StoreMark, changes: Changes, mark: StoreMark) -> None:
        """Move from ``after`` to ``mark`` with these rows, all or nothing; if it is there already, do nothing.

        Raises:
            FencedError: If the store is at neither, or holds another row under a seq or trade id.
            StoreUnavailableError: If it can't now; nothing of it is seen.
            StoreAmbiguousError: If it is not known whether it is there; the watermark says it to who asks again.
            StoreTooLargeError: If a row is larger than the store takes; nothing of it is seen.
            StoreLostError: If rows that the watermark covers are gone.
        """

    def publish(self, progress: Progress) -> None:
        """Store what the writer says of itself."""

    def drop(self) -> None:
        """Forget everything."""


def accepted_filters(kind: str) -> str:
    """Return the closed list of filters, for a person."""
    return ", ".join("+".join(sorted(f)) or "none" for f in FILTERS[kind])


def require_query(kind: str, filters: dict[str, str | int], limit: int) -> None:
    """Refuse what no store answers.

    Raises:
        QueryError: If these filters are not one of FILTERS, or the limit is out of bounds.
    """
    if frozenset(filters) not in FILTERS[kind]:
        raise QueryError("filters", "+".join(sorted(filters)), f"one of: {accepted_filters(kind)}")
    if not 1 <= limit <= LIMIT_MAX:
        raise QueryError("limit", str(limit), f"1 to {LIMIT_MAX}")


def mark_text(mark: StoreMark) -> str:
    """Return a watermark, for a person."""
    return f"record {mark.seq}, chain {mark.crc:08x}, epoch {mark.epoch}"
