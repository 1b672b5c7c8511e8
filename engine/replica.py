"""A second core over the journal's durable part: checks the first one's decisions, and has its snapshots made of it.

Rules: records are applied up to the durable watermark and no further; the holder's file is durable before anything
that holds a record leaves (a snapshot, an answer), so that no start cuts it away (DESIGN 6.2). Every decision is made
again before its record is applied, and compared; at the first difference no snapshot is made any more: which of the
two states is right, an operator has to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from engine.restore import restore, without_collector
from engine.snapshot import blocks_of, hash_layout, head_of
from engine.state import state_hash
from journal.disk import Disk
from journal.format import split_position
from journal.holders import Holder
from journal.reader import Batch, JournalReader
from journal.scan import decode_record
from journal.snapshots import prune_snapshots, write_snapshot
from protocol.records import Record, StateChecked

STEP_BYTES: Final = 1 << 20


class Parted(NamedTuple):
    """Where engine and replica are known to differ, and what shows it."""

    seq: int
    what: str


class Replica:
    """One replica, from the newest snapshot on.

    Attributes:
        core: What it has applied.
        position: Journal position behind that.
        parted: The first difference; None = none was found.
        decided: Decisions that were made again and were the same.
        hashes: Hashes of the whole state that the engine journaled and that were the same.
        unchecked: Records that were applied without deciding again: ``check`` was False.
        snapshot_seq: The last record of the newest snapshot.
        warnings: Snapshots that were passed over.

    Raises:
        SnapshotForeignError: If a snapshot is of another journal.
    """

    def __init__(
        self, folder: Path, dedup_keys_max: int, shard: int = 0, *, holder: str = "", release: str = "",
        disk: Disk | None = None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._disk = disk or Disk()
        self._release = release
        with without_collector():
            restored = restore(folder, dedup_keys_max, shard)
        self.core = restored.core
        self.warnings = restored.warnings
        self.seq = self.snapshot_seq = restored.seq
        self.crc = self.position = self._epoch_max = 0
        if (place := restored.place) is not None:
            self.crc, self._epoch_max = place.link.crc, place.epoch_max
            self.position = place.segment << 32 | place.offset
        self._reader = JournalReader(folder, self.seq, self.crc, self.position)
        self._holder_name = holder
        self._holder: Holder | None = None
        self._held = 0
        self.parted: Parted | None = None
        self.decided = self.hashes = self.unchecked = 0
        self._hash_seq = 0

    @property
    def lag_seq(self) -> int:
        """How many durable records were not applied yet."""
        return max(0, self._reader.watermark.seq - self.seq)

    def step(self, bytes_max: int = STEP_BYTES, *, check: bool = True) -> list[Batch]:
        """Apply what is newly durable, about ``bytes_max`` of it, and return it.

        Args:
            bytes_max: Bounds the work of one step.
            check: Decide every decision again and compare.

        Raises:
            JournalCutError, JournalDamagedError, JournalGapError, JournalVersionError: This replica is done.
        """
        batches = self._reader.poll(bytes_max)
        for batch in batches:
            now_ns = batch.header.now_ns
            for seq, position, data in batch.records:
                self._take(seq, now_ns, position, decode_record(data, self._folder, position, seq), check)
            self.seq, self.crc, self.position = batch.last_seq, batch.header.crc, batch.end
            self._epoch_max = max(self._epoch_max, batch.header.epoch)
        return batches

    def _take(self, seq: int, now_ns: int, position: int, record: Record, check: bool) -> None:
        if self.parted is None and (check or type(record) is StateChecked):
            self._compare(seq, now_ns, record)
        else:
            self.unchecked += 1
        self.core.repeat(seq, now_ns, position, record)

    def _compare(self, seq: int, now_ns: int, record: Record) -> None:
        """Find the first record at which this core is not what the engine's was."""
        if isinstance(record, StateChecked):
            if not record.layout or record.layout != hash_layout(self.core):
                return  # of a release that hashes other fields, or of a table of another size
            found = state_hash(self.core.state)
            if found == record.state_hash:
                self.hashes += 1
                self._hash_seq = seq
            else:
                since = f"the same up to record {self._hash_seq}" if self._hash_seq else "never compared before"
                self.parted = Parted(
                    seq, f"state before record {seq} expected {record.state_hash}, was {found}; {since}"
                )
            return
        try:
            same = self.core.decide_again(record, now_ns)
        except Exception as e:  # noqa: BLE001 -- whatever it is, the engine's own core decided without it
            self.parted = Parted(seq, f"record {seq} {type(record).__name__} can't be decided: {type(e).__name__}: {e}")
            return
        if same is False:
            self.parted = Parted(seq, f"record {seq} {type(record).__name__} is decided otherwise here")
        elif same:
            self.decided += 1

    def hold(self) -> None:
        """Make it durable that records up to here were used. Two syncs, the first time after new records.

        Raises:
            OSError: If the holder's file can't be written; nothing may be used.
        """
        if not self._holder_name or self._held == self.seq:
            return
        if self._holder is None:
            self._holder = Holder(self._folder, self._holder_name, self._disk)
        self._holder.advance(self.seq, self.crc)
        self._held = self.seq

    def snapshot(self) -> Iterator[int]:
        """Write a snapshot of the state as it is: yields between its blocks. No ``step`` before it has ended.

        Raises:
            OSError: If it can't be written.
        """
        assert self.parted is None, "a state that is not the engine's is never written"
        self.hold()
        segment, offset = split_position(self.position)
        head = head_of(
            self.core.state, seq=self.seq, crc=self.crc, segment=segment, offset=offset, epoch_max=self._epoch_max,
            release=self._release,
        )  # fmt: skip
        yield from write_snapshot(self._folder, head, blocks_of(self.core.state), self._disk)
        self.snapshot_seq = head.seq

    def prune(self, keep: int) -> list[Path]:
        """Remove all but the newest snapshots."""
        return prune_snapshots(self._folder, keep, self._disk)

    def close(self) -> None:
        """Let go of the files."""
        self._reader.close()
