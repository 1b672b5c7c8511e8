"""The contract of a store: rows and watermark in one transaction, insert-only under seq, closed lists of reads.

Rules: ``apply`` is all or nothing and may be repeated; a store that holds another history raises FencedError;
every filter has its index (DECISIONS 45), every list is paged by the record number that made the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

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
        """Move from ``after`` to ``mark`` with these rows, in one transaction; if it is there already, do nothing.

        Raises:
            FencedError: If the store is at neither, or holds another row under a seq or trade id.
            StoreUnavailableError: If it can't now; nothing was changed.
        """

    def publish(self, progress: Progress) -> None:
        """Store what the writer says of itself."""

    def drop(self) -> None:
        """Forget everything."""
