"""From journal to store, one bounded step at a time. No waiting here: ``writer.py`` says when.

Rules: the holder file is durable before a record is used (DECISIONS 4); rows and watermark change together; a
process that dies between any two steps goes on from the store's watermark and arrives at the same rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from books.errors import StoreUnavailableError
from books.store import Store, StoreMark
from journal.holders import Holder
from journal.projection import Projection
from journal.reader import Batch, JournalReader
from journal.scan import decode_record
from runtime import failpoints

STEP_BYTES_MAX: Final = 4 << 20


class Projector:
    """Owns one reader, one projection and one store.

    Args:
        folder: The journal.
        store: Where rows go; what it holds says where to go on.
        holder: Name under which recovery finds what was seen; empty = a rebuild beside the books, no holder.

    Attributes:
        mark: How far the store is.

    Raises:
        StoreUnavailableError: If the store does not answer.
    """

    def __init__(self, folder: Path, store: Store, holder: str = "") -> None:
        self._store = store
        self.mark = store.watermark()
        self._reader = JournalReader(folder, self.mark.seq, self.mark.crc)
        self._projection = Projection(store, self.mark.state)
        self._holder: Holder | None = None
        self._holder_name = holder
        self._folder = folder
        self.now_ns = 0

    @property
    def lag_seq(self) -> int:
        """How many durable records the store does not have."""
        return max(0, self._reader.watermark.seq - self.mark.seq)

    def step(self, records_max: int, stop_seq: int = 0) -> int:
        """Bring about ``records_max`` more durable records into the store; return how many came.

        ``stop_seq`` > 0: nothing behind the batch that ends there.

        After an error this projector is done: make a new one, which begins at the store's watermark.

        Raises:
            StoreUnavailableError: Nothing of this step was kept.
            FencedError, JournalCutError, JournalDamagedError, JournalGapError, ProjectionError: Stop.
        """
        batches = self._read(records_max, stop_seq)
        if not batches:
            return 0
        last = batches[-1]
        failpoints.hit("books.after_read")
        self._hold(last)
        apply, records = self._projection.apply, 0
        for batch in batches:
            now_ns = batch.header.now_ns
            for seq, position, data in batch.records:
                apply(seq, now_ns, decode_record(data, self._folder, position, seq))
            records += len(batch.records)
        changes = self._projection.take()
        mark = StoreMark(last.last_seq, last.header.crc, last.header.epoch, changes.state)
        failpoints.hit("books.before_commit")
        self._store.apply(self.mark, changes, mark)
        failpoints.hit("books.after_commit")
        self.mark = mark
        self.now_ns = last.header.now_ns
        return records

    def close(self) -> None:
        """Let go of the journal; the store is its owner's."""
        self._reader.close()

    def _read(self, records_max: int, stop_seq: int) -> list[Batch]:
        batches: list[Batch] = []
        records = 0
        while records < records_max and (more := self._reader.poll(min(STEP_BYTES_MAX, records_max * 512))):
            batches += more
            records += sum(b.header.records for b in more)
            if stop_seq and batches[-1].last_seq >= stop_seq:
                return [b for b in batches if b.last_seq <= stop_seq]
        return batches

    def _hold(self, last: Batch) -> None:
        if not self._holder_name:
            return
        try:
            if self._holder is None:
                self._holder = Holder(self._folder, self._holder_name)
            self._holder.advance(last.last_seq, last.header.crc)
        except OSError as e:
            raise StoreUnavailableError(f"holder {self._holder_name} of {self._folder}", str(e)) from e
