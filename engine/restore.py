"""Where a core begins: the newest snapshot that is whole and of this journal, else the journal's beginning.

Rule: a snapshot only saves time. A damaged one is named and passed over for the one before; one of another journal, or
of more than the journal holds, stops the start, for then something is in the wrong place or was lost (DESIGN 6.2).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.core import Core
from engine.snapshot import journal_id, load_snapshot
from journal.chain import Link
from journal.disk import Disk
from journal.errors import SnapshotDamagedError, SnapshotForeignError
from journal.format import SEGMENT_HEADER_BYTES, JournalSettings, position_of, segment_path
from journal.reader import RecordReader
from journal.recovery import Recovered, recover
from journal.scan import Place
from journal.snapshots import SnapshotHead, SnapshotReader, snapshots
from protocol.frames import FRAME_BYTES
from protocol.records import Started


class Restored(NamedTuple):
    """A core and the place of the journal it stands at; None = the beginning. ``warnings``: what was passed over."""

    core: Core
    place: Place | None
    warnings: tuple[str, ...]

    @property
    def seq(self) -> int:
        """The last record in the core."""
        return 0 if self.place is None else self.place.link.next_seq - 1


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Run without looking for garbage: millions of objects are made and kept, and the looking took half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def recover_core(
    folder: Path, dedup_keys_max: int, settings: JournalSettings, *, shard: int = 0, disk: Disk | None = None
) -> tuple[Restored, Recovered]:
    """Return the core at the journal's end, and the journal ready for a writer. The caller holds the FolderLock.

    Raises:
        What ``restore`` and ``recover`` raise; nothing was changed.
    """
    with without_collector():
        restored = restore(folder, dedup_keys_max, shard)
        apply = restored.core.repeat
        return restored, recover(folder, apply, settings, shard=shard, disk=disk, start=restored.place)


def restore(folder: Path, dedup_keys_max: int, shard: int) -> Restored:
    """Return the core of the newest whole snapshot of this journal.

    Raises:
        SnapshotForeignError: If a snapshot is of another journal or shard.
        ConfigError: If its keys do not fit into ``dedup_keys_max``.
    """
    warnings: list[str] = []
    for path in snapshots(folder):
        try:
            _require_own(folder, path, shard)
            core, head = load_snapshot(path, dedup_keys_max)
        except SnapshotDamagedError as e:
            warnings.append(str(e))
            continue
        return Restored(core, place_of(path, head), tuple(warnings))
    return Restored(Core(dedup_keys_max), None, tuple(warnings))


def place_of(path: Path, head: SnapshotHead) -> Place:
    """Return where in the journal a snapshot stands."""
    link = Link(head.seq + 1, head.crc)
    return Place(f"snapshot {path.name}", link, head.segment, head.offset, head.epoch_max, head.now_ns)


def _require_own(folder: Path, path: Path, shard: int) -> None:
    """Refuse a snapshot of another journal, as far as the journal's first record is still there to say so.

    Where retention removed that record, the chain at the snapshot's place decides: ``journal.scan``.
    """
    reader = SnapshotReader(path)
    reader.close()
    head = reader.head
    if head.shard != shard:
        raise SnapshotForeignError(path, folder, f"it is of shard {head.shard}, expected {shard}")
    if not segment_path(folder, 1).exists():
        return
    records = RecordReader(folder)
    try:
        first = records.read(position_of(1, SEGMENT_HEADER_BYTES + FRAME_BYTES))
    finally:
        records.close()
    if isinstance(first, Started) and journal_id(first.order_id_key) != head.journal_id:
        raise SnapshotForeignError(path, folder, "it was made under another key of order ids")
