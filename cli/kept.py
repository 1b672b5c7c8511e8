"""What retention has to know about a deployment: who has seen how much, which snapshots are whole, what they need."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from cli.configuration import Loaded
from cli.witnesses import books_held
from engine.core import Core
from engine.dedup import POSITION_MASK
from engine.snapshot import load_snapshot
from engine.state import State
from journal.errors import SnapshotDamagedError
from journal.format import split_position
from journal.reader import read_batches, start_of
from journal.recovery import pruned_to
from journal.retention import Keep, Known, SnapshotPlace
from journal.snapshots import SnapshotHead, SnapshotReader, snapshots
from journal.survey import Survey, survey


class Gathered(NamedTuple):
    """What is known, and what was found wrong with snapshots on the way."""

    known: Known
    notes: tuple[str, ...]


def gather(loaded: Loaded, keep: Keep) -> Gathered:
    """Return what retention decides from. Reads the whole journal and the newest whole snapshots.

    Raises:
        ConfigError: If the ids of a snapshot do not fit into ``engine.dedup_keys_max``.
        JournalVersionError: If a newer release wrote a segment.
    """
    folder = loaded.paths.journal
    found = survey(folder)
    heads, notes = _whole_snapshots(folder, found, keep.snapshots)
    places = [SnapshotPlace(head.seq, head.segment) for _, head in heads]
    key_segment = day_segment = None
    if len(heads) == keep.snapshots:
        # The oldest that a start may fall back to: what it remembers is what any start may have to answer.
        core, _ = load_snapshot(heads[-1][0], loaded.config.engine.dedup_keys_max)
        key_segment = oldest_key_segment(core.state, heads[-1][1])
        day_segment = oldest_day_segment(core.state)
    known = Known(found.segments, found.holders, books_held(loaded), places, day_segment, key_segment)
    return Gathered(known, tuple(notes))


def beginning(folder: Path, dedup_keys_max: int) -> tuple[Core, int, int]:
    """Return a core and the record and chain it stands behind: of a pruned journal, its oldest whole snapshot's."""
    if pruned_to(folder) is not None:
        for path in reversed(snapshots(folder)):
            with contextlib.suppress(SnapshotDamagedError):
                core, head = load_snapshot(path, dedup_keys_max)
                return core, head.seq, head.crc
    return Core(dedup_keys_max), 0, 0


def oldest_key_segment(state: State, head: SnapshotHead) -> int:
    """Return the oldest segment that a remembered id points into; the snapshot's own where none is remembered."""
    oldest = min((value & POSITION_MASK for *_, value in state.dedup.used()), default=0)
    return split_position(oldest)[0] or head.segment


def oldest_day_segment(state: State) -> int | None:
    """Return the segment in which the trading day before the state's began; None = no day was closed.

    The state keeps that place to let ids leave: what was first decided before it is older than day + 1 (DESIGN 6.4).
    """
    return split_position(state.day.retire_before)[0] or None


def _whole_snapshots(folder: Path, found: Survey, count: int) -> tuple[list[tuple[Path, SnapshotHead]], list[str]]:
    """Return the newest ``count`` snapshots that are as written and of this journal, newest first."""
    heads: list[tuple[Path, SnapshotHead]] = []
    notes: list[str] = []
    for path in snapshots(folder):
        if len(heads) == count:
            break
        try:
            head = _read_through(path)
        except SnapshotDamagedError as e:
            notes.append(str(e))
            continue
        if _is_of(folder, found, head):
            heads.append((path, head))
        else:
            notes.append(f"snapshot {path.name} is not of this journal: no batch of it ends with its record and chain")
    return heads, notes


def _read_through(path: Path) -> SnapshotHead:
    reader = SnapshotReader(path)
    try:
        for _ in reader.blocks():
            pass
        return reader.head
    finally:
        reader.close()


def _is_of(folder: Path, found: Survey, head: SnapshotHead) -> bool:
    """Whether a batch of the journal, durable and where the head says, ends with the snapshot's record and chain."""
    segment = found.segment_of(head.seq)
    if segment is None or segment.segment != head.segment or head.seq > found.durable.seq:
        return False
    for batch in read_batches(folder, *start_of(folder, head.seq), head.seq):
        if batch.last_seq >= head.seq:
            return batch.last_seq == head.seq and batch.header.crc == head.crc
    return False
