"""Reads the books from documents, as of one watermark, without a query service.

Rule: an answer is what the books were at ``as_of_seq``. A document that was written twice since that watermark was read
no longer has what counted then: the read begins anew with a newer watermark, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from books.bucket import Bucket, Found
from books.documents import Document, Head, Keys, decode_document, decode_head, index_name, row_of
from books.errors import StoreDamagedError, StoreLostError, StoreUnavailableError
from books.pages import Page as IndexPage
from books.pages import numbers_after
from books.store import LIMIT_MAX, Counts, Page, Progress, StoreMark, require_query
from journal.rows import OrderRow, PositionRow, TradeRow

T = TypeVar("T")
ATTEMPTS: Final = 50
_decode_progress = msgspec.json.Decoder(Progress).decode


class MovedError(Exception):
    """What counted at the watermark is no longer there: the writer was faster."""


class DocumentReader:
    """What the API asks. ``where``: what errors call the store."""

    def __init__(self, bucket: Bucket, where: str, shard: int = 0) -> None:
        self.bucket = bucket
        self.where = where
        self.keys = Keys(shard)

    # The contract

    def watermark(self) -> StoreMark:
        """See ``Reader.watermark``."""
        return self.head().mark

    def counts(self) -> Counts:
        """See ``Reader.counts``."""
        return self.head().counts

    def progress(self) -> Progress:
        """See ``Reader.progress``."""
        found = self.bucket.read([self.keys.progress]).get(self.keys.progress)
        return _decode_progress(found.data) if found else Progress()

    def find_order(self, account: str, client_order_id: str) -> OrderRow | None:
        """See ``Reader.find_order``."""
        return self.as_of(lambda seq: self._order(account, client_order_id, seq))[0]

    def find_order_id(self, order_id: str) -> OrderRow | None:
        """See ``Reader.find_order_id``."""
        found: OrderRow | None = self._find("orders", self.keys.order_id(order_id))
        return found

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        """See ``Reader.find_position``."""
        found: PositionRow | None = self._find("positions", self.keys.position_of(account, instrument))
        return found

    def find_trade(self, venue: str, trade_id: str) -> TradeRow | None:
        """See ``Reader.find_trade``."""
        found: TradeRow | None = self._find("trades", self.keys.trade_of(venue, trade_id))
        return found

    def trades_of(self, account: str, instrument: str, after_seq: int) -> Iterator[TradeRow]:
        """See ``Reader.trades_of``."""
        filters: dict[str, str | int] = {"account": account, "instrument": instrument}
        cursor = after_seq
        while True:
            page = self.list_rows("trades", filters, LIMIT_MAX, cursor)
            for row in page.rows:
                assert isinstance(row, TradeRow)
                yield row
            if not page.cursor:
                return
            cursor = page.cursor

    def order_as_of(self, account: str, client_order_id: str) -> tuple[OrderRow | None, int]:
        """See ``Reader.order_as_of``."""
        return self.as_of(lambda seq: self._order(account, client_order_id, seq))

    def list_rows(self, kind: str, filters: dict[str, str | int], limit: int, cursor: int = 0) -> Page:
        """See ``Reader.list_rows``."""
        require_query(kind, filters, limit)
        index = index_name(filters)

        def look(seq: int) -> tuple[list[Any], int]:
            numbers = list(islice(numbers_after(kind, index, cursor, lambda page: self._page(page, seq)), limit + 1))
            shown = numbers[:limit]
            rows = self._rows(kind, shown, seq)
            return rows, shown[-1] if len(numbers) > limit else 0

        (rows, following), as_of_seq = self.as_of(look)
        return Page(rows, following, as_of_seq)

    def close(self) -> None:
        """Nothing is held: the bucket is its owner's."""

    # Inside

    def head(self) -> Head:
        """Return the watermark document; that of an empty store if there is none."""
        found = self.bucket.read([self.keys.watermark]).get(self.keys.watermark)
        return self.head_of(found)

    def head_of(self, found: Found | None) -> Head:
        """Return what a watermark document says."""
        if found is None:
            return Head()
        try:
            return decode_head(found.data)
        except msgspec.MsgspecError as e:
            raise StoreDamagedError(f"{self.where} {self.keys.watermark}", str(e)) from e

    def as_of(self, look: Callable[[int], T]) -> tuple[T, int]:
        """Return what ``look`` finds at a watermark, and the watermark."""
        for _ in range(ATTEMPTS):
            seq = self.head().mark.seq
            try:
                return look(seq), seq
            except MovedError:
                continue
        raise StoreUnavailableError(self.where, f"the books moved on {ATTEMPTS} times while they were read")

    def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Return the documents there are."""
        return {key: self.decode(key, found.data) for key, found in self.bucket.read(keys).items()}

    def decode(self, key: str, data: bytes) -> Document:
        """Return a document."""
        try:
            return decode_document(data)
        except msgspec.MsgspecError as e:
            raise StoreDamagedError(f"{self.where} {key}", str(e)) from e

    def values(self, keys: Iterable[str], seq: int) -> dict[str, Any]:
        """Return what counts of some documents at a watermark."""
        found: dict[str, Any] = {}
        for key, document in self.documents(keys).items():
            if document.is_beyond(seq):
                raise MovedError
            value = document.at(seq)
            if value is not None:
                found[key] = value
        return found

    def _find(self, kind: str, pointer: str) -> Any:
        def look(seq: int) -> Any:
            number = self.values([pointer], seq).get(pointer)
            return None if number is None else self._rows(kind, [number], seq)[0]

        return self.as_of(look)[0]

    def _order(self, account: str, client_order_id: str, seq: int) -> OrderRow | None:
        pointer = self.keys.order_of(account, client_order_id)
        by_day: dict[str, int] = self.values([pointer], seq).get(pointer, {})
        if not by_day:
            return None
        newest = by_day[max(by_day, key=int)]
        found: OrderRow = self._rows("orders", [newest], seq)[0]
        return found

    def _page(self, page: IndexPage, seq: int) -> list[int]:
        key = self.keys.page(*page)
        held: list[int] = self.values([key], seq).get(key, [])
        return held

    def _rows(self, kind: str, numbers: list[int], seq: int) -> list[Any]:
        keys = [self.keys.row(kind, number) for number in numbers]
        found = self.values(keys, seq)
        for key in keys:
            if key not in found:
                raise StoreLostError(f"{self.where} {key}", seq)
        return [row_of(kind, found[key]) for key in keys]
