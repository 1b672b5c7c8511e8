"""How the API reaches the store: reads in a few threads, and a wait for a record that is on its way.

Rules: each thread has its own read-only connection to a file; a file that was removed and made anew is opened anew; a
wait for ``min_seq`` is woken by the books writer's message, never by a clock, and is bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from books.errors import StoreUnavailableError
from books.settings import ShardStore
from books.store import Progress, Reader, StoreMark
from books.stores import Stores
from journal.watermark import WatermarkReader
from protocol.channels import Context, Subscriber
from protocol.errors import StoreError

T = TypeVar("T")
THREADS: Final = 4
WAIT_S_MAX: Final = 1
_MESSAGES_MAX: Final = 1_000


class NotYetError(StoreError):
    """The store does not have the record that the caller wants to see."""

    code = "NOT_YET"

    def __init__(self, min_seq: int, as_of_seq: int) -> None:
        self.min_seq = min_seq
        self.as_of_seq = as_of_seq
        super().__init__(
            f"{self.code}: min_seq expected record {min_seq} in the books within {WAIT_S_MAX} s, "
            f"was {as_of_seq} (lag {min_seq - as_of_seq}); try again"
        )


class Books:
    """One shard's store as the API sees it. Used from one event loop; ``open`` and ``close`` belong to its lifespan."""

    def __init__(self, settings: ShardStore) -> None:
        self._stores = Stores(settings.store, settings.couchbase)
        self._endpoint = settings.stored_endpoint
        self._pool = ThreadPoolExecutor(THREADS, "books-read")
        self._local = threading.local()
        self._journal = WatermarkReader(Path(settings.journal)) if settings.journal else None
        self._context: Context | None = None
        self._subscriber: Subscriber | None = None
        self._stored = asyncio.Event()

    def open(self) -> None:
        """Listen for the books writer's progress; needs the running loop."""
        if self._endpoint:
            self._context = Context()
            self._subscriber = Subscriber(self._context, self._endpoint, _MESSAGES_MAX)
            asyncio.get_running_loop().add_reader(self._subscriber.fd, self._on_stored)
            self._on_stored()

    def close(self) -> None:
        """Stop listening and reading."""
        if self._subscriber is not None and self._context is not None:
            asyncio.get_running_loop().remove_reader(self._subscriber.fd)
            self._subscriber.close()
            self._context.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stores.close()
        if self._journal is not None:
            self._journal.close()

    async def read(self, ask: Callable[[Reader], T]) -> T:
        """Return what ``ask`` finds, in a thread.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, ask)

    async def require(self, min_seq: int) -> None:
        """Return when the store has ``min_seq``.

        Raises:
            NotYetError: If it has not within a second, or at once where nothing tells of progress.
        """
        if min_seq == 0:
            return
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + WAIT_S_MAX
        while True:
            stored = self._stored  # taken before the look, so that no message is missed between
            mark = await self.read(lambda reader: reader.watermark())
            if mark.seq >= min_seq:
                return
            left_s = deadline_s - loop.time()
            if self._subscriber is None or left_s <= 0:
                raise NotYetError(min_seq, mark.seq)
            try:
                await asyncio.wait_for(stored.wait(), left_s)
            except TimeoutError:
                continue  # one last look: a message before the subscription was made is lost

    async def lag(self) -> tuple[StoreMark, Progress, int]:
        """Return (watermark, what the writer said last, number of the journal's last durable record)."""
        mark, progress = await self.read(lambda reader: (reader.watermark(), reader.progress()))
        if self._journal is None:
            return mark, progress, mark.seq + progress.lag_seq
        return mark, progress, max(self._journal.read().seq, mark.seq)

    def _on_stored(self) -> None:
        # The descriptor tells of an edge: whatever is there must be taken now.
        assert self._subscriber is not None
        while self._subscriber.receive(_MESSAGES_MAX):
            pass
        waiting, self._stored = self._stored, asyncio.Event()
        waiting.set()

    def _read(self, ask: Callable[[Reader], T]) -> T:
        return ask(self._connection())

    def _connection(self) -> Reader:
        path = self._stores.path
        if path is None:
            return self._stores.reader()
        try:
            inode = path.stat().st_ino
        except OSError as e:
            raise StoreUnavailableError(str(path), str(e)) from e
        known: tuple[int, Reader] | None = getattr(self._local, "connection", None)
        if known is not None and known[0] == inode:
            return known[1]
        if known is not None:
            known[1].close()
            self._local.connection = None
        opened = self._stores.reader()
        self._local.connection = (inode, opened)
        return opened
