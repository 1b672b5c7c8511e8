"""The books of all shards as one thing to read: which shard a question is for, and pages that go from one to the next.

Rules: each shard has a store file of its own, with one writer that owns it, so that no shard waits for another's
transaction and none is lost with another's file; records are numbered by shard, so a page is of one shard and says
which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from books.access import Books
from books.errors import QueryError
from books.queries import Query
from books.settings import ApiSettings
from protocol.shards import SHARDS_MAX, ShardMap

SHARD_BITS: Final = 10
assert SHARDS_MAX == 1 << SHARD_BITS


class Start(NamedTuple):
    """Where a page begins: the shard, the cursor within it, and whether the shards behind it follow."""

    shard: int
    cursor: int
    goes_on: bool


class AllBooks:
    """The stores of all shards, shard 0 first. ``open`` and ``close`` belong to the application's lifespan."""

    def __init__(self, settings: ApiSettings) -> None:
        self.shards: Sequence[Books] = [Books(store) for store in settings.stores]
        self._map = ShardMap(len(self.shards), settings.account_shards)

    @property
    def is_one(self) -> bool:
        """Whether there is one shard: then nothing says so."""
        return len(self.shards) == 1

    def shard_of(self, account: str) -> int:
        """Return the shard that the account belongs to."""
        return self._map.shard_of(account)

    def open(self) -> None:
        """Listen for the books writers' progress; needs the running loop."""
        for books in self.shards:
            books.open()

    def close(self) -> None:
        """Stop listening and reading."""
        for books in self.shards:
            books.close()

    def start_of(self, query: Query) -> Start:
        """Return where the page that is asked for begins.

        Raises:
            QueryError: For a shard that is none, or a ``min_seq`` of nobody knows which shard.
        """
        shards = len(self.shards)
        if query.shard is not None or self.is_one:
            shard = query.shard or 0
            if shard >= shards:
                raise QueryError("shard", str(shard), f"0 to {shards - 1}")
            return Start(shard, query.cursor, goes_on=False)
        account = query.filters.get("account")
        if account is not None:
            return Start(self.shard_of(str(account)), query.cursor, goes_on=False)
        if query.min_seq:
            raise QueryError("min_seq", str(query.min_seq), "beside it account or shard: each shard numbers its own")
        shard = query.cursor & (SHARDS_MAX - 1)
        if shard >= shards:
            raise QueryError("cursor", str(query.cursor), "that of an answer of this API")
        return Start(shard, query.cursor >> SHARD_BITS, goes_on=True)

    def cursor_after(self, start: Start, cursor: int) -> int:
        """Return the cursor of the next page; 0 = there is none. ``cursor``: what the shard's own page ended with."""
        if not start.goes_on:
            return cursor
        if cursor:
            return cursor << SHARD_BITS | start.shard
        return start.shard + 1 if start.shard + 1 < len(self.shards) else 0
