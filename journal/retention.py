"""Which segments may go: one pure function over what is known, and the removal that keeps what is left readable.

Rules. A segment goes only when nothing can need it any more (DESIGN 6.2, 6.4, DECISIONS 4):

1. It is whole, and everything before it goes too: what is left is always one chain without a hole.
2. The newest two snapshots begin behind it: a start falls back to the second when the newest is damaged.
3. Every holder and the books are past it. Who can't be asked counts as having seen nothing.
4. It is older than the trading day before today's (day + 1).
5. No id that is remembered was first answered in it: the engine reads that answer by its position. Rule 4 covers this
   for ids that left at their SESSION_ROLL, but the id of an order that is still open never leaves, however old.

What is not known keeps everything. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from journal.disk import Disk
from journal.format import segment_path
from journal.holders import Held
from journal.survey import SegmentRow

SNAPSHOTS_MIN = 2


class Keep(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator wants kept beyond what must be. ``snapshots``: a start may fall back over so many."""

    snapshots: Annotated[int, Meta(ge=SNAPSHOTS_MIN)] = SNAPSHOTS_MIN


class SnapshotPlace(NamedTuple):
    """A whole snapshot: the last record in it, and the segment that record is in."""

    seq: int
    segment: int


class Known(NamedTuple):
    """What a decision is made of.

    Attributes:
        segments: In order, as surveyed.
        holders: Everybody who reads the journal and keeps a mark.
        books: The books store's own watermark; None = there is no store.
        snapshots: Whole ones, in any order.
        day_segment: The oldest segment of today's and the trading day before; None = not known, or no day was closed.
        key_segment: The oldest segment that holds the first answer of an id that is remembered; None = not known.
    """

    segments: Sequence[SegmentRow]
    holders: Sequence[Held]
    books: Held | None
    snapshots: Sequence[SnapshotPlace]
    day_segment: int | None
    key_segment: int | None


class Verdict(NamedTuple):
    """One segment; ``reasons`` why it stays, none = it may go."""

    segment: SegmentRow
    reasons: tuple[str, ...]

    @property
    def may_go(self) -> bool:
        """Whether nothing needs it."""
        return not self.reasons


def judge(known: Known, keep: Keep) -> list[Verdict]:
    """Return for every segment whether it may go, and if not, everything that needs it."""
    verdicts: list[Verdict] = []
    for row in known.segments:
        reasons = tuple(_reasons(row, known, keep))
        if not reasons and verdicts and not verdicts[-1].may_go:
            reasons = (f"segment {verdicts[-1].segment.segment:06d} before it stays",)
        verdicts.append(Verdict(row, reasons))
    return verdicts


def _reasons(row: SegmentRow, known: Known, keep: Keep) -> Iterator[str]:
    if row is known.segments[-1]:
        yield "it is being written"
    if row.state not in {"whole", "open"}:
        yield f"it is {row.state}: {row.why}"
    yield from _needed_by_start(row, known.snapshots, keep)
    for held in (*known.holders, *([known.books] if known.books is not None else [])):
        if held.seq is None:
            yield f"what {held.name} has seen can't be read"
        elif held.seq < row.last_seq:
            yield f"{held.name} has seen record {held.seq}, it ends with {row.last_seq}"
    if known.books is None:
        yield "there is no books store"
    if known.day_segment is None:
        yield "which trading day it is of is not known, or no day was closed since"
    elif row.segment >= known.day_segment:
        yield f"it is of today or of the trading day before (from segment {known.day_segment:06d} on)"
    if known.key_segment is None:
        yield "which ids are remembered is not known"
    elif row.segment >= known.key_segment:
        yield f"an id that is remembered was first answered in segment {known.key_segment:06d}"


def _needed_by_start(row: SegmentRow, snapshots: Sequence[SnapshotPlace], keep: Keep) -> Iterator[str]:
    newest = sorted(snapshots, reverse=True)[: keep.snapshots]
    if len(newest) < keep.snapshots:
        yield f"snapshots expected {keep.snapshots}, was {len(newest)}"
        return
    oldest = newest[-1]
    if row.segment >= oldest.segment or row.last_seq > oldest.seq:
        yield f"a start from the snapshot at record {oldest.seq} reads from segment {oldest.segment:06d} on"


def remove(folder: Path, verdicts: Sequence[Verdict], disk: Disk | None = None) -> Iterator[SegmentRow]:
    """Remove the segments that may go, oldest first, each durably before the next; yield each when it is gone.

    One sync of the folder each: a power cut may make removals durable in any order, and a hole in the middle would
    stop the next start.

    Raises:
        OSError: If one can't be removed; what was yielded is gone, the rest is there.
    """
    disk = disk or Disk()
    for verdict in verdicts:
        if not verdict.may_go:
            return
        disk.remove(segment_path(folder, verdict.segment.segment))
        disk.fsync_folder(folder)
        yield verdict.segment
