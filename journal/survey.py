"""Say what a journal's segments hold, read only and whatever their state: for people, and for retention.

Rule: a survey judges nothing and never stops at damage. It names the damage and goes on with the next segment, so
that an operator sees the whole folder at once; who may cut or remove anything is decided in recovery.py and
retention.py. Beside an engine that writes, a frame that is not whole is being written, not torn.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from journal.chain import Broken, Link, Torn, after, find_whole_frame, is_zero, next_frame
from journal.errors import JournalDamagedError
from journal.format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    segment_index,
    segments,
    split_position,
)
from journal.holders import Held, holders
from journal.lock import lock_pid
from journal.watermark import Watermark, WatermarkReader
from protocol.frames import FRAME_BYTES

SegmentState = Literal["whole", "open", "torn", "damaged"]


class SegmentRow(Struct, frozen=True):
    """One segment file.

    Attributes:
        first_seq: Number of its first record, as its header says; ``last_seq`` is one below while it has none.
        used_bytes: Up to the end of its last whole frame; the rest of ``file_bytes`` is zeros, or ``why`` says what.
        first_ns: Clock read of its first batch, UTC nanoseconds; 0 without one. Likewise ``last_ns``.
        crc: The chain behind its last whole frame.
        state: ``whole``: nothing but zeros behind the last frame. ``open``: whole, and the one that is written.
            ``torn``: the last segment ends in bytes that are no frame; recovery cuts them if nobody saw them.
            ``damaged``: anything else, ``why`` says what and where.
    """

    segment: int
    name: str
    first_seq: int
    last_seq: int
    records: int
    epoch_first: int
    epoch_last: int
    used_bytes: int
    file_bytes: int
    first_ns: int
    last_ns: int
    crc: int
    state: SegmentState
    why: str = ""


class Survey(Struct, frozen=True):
    """A journal folder at one moment. ``engine_pid`` 0: no engine holds it, as far as this host can see."""

    segments: tuple[SegmentRow, ...]
    durable: Watermark
    holders: tuple[Held, ...]
    engine_pid: int

    @property
    def last_seq(self) -> int:
        """Number of the last whole record, durable or not; 0 without one."""
        return self.segments[-1].last_seq if self.segments else 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged or torn, and all that was durable or seen is there."""
        seen = max([self.durable.seq, *(h.seq or 0 for h in self.holders)])
        return all(s.state in {"whole", "open"} for s in self.segments) and self.last_seq >= seen

    def segment_of(self, seq: int) -> SegmentRow | None:
        """Return the segment that holds the record."""
        return next((s for s in self.segments if s.first_seq <= seq <= s.last_seq), None)


def survey(folder: Path) -> Survey:
    """Return what is in the folder now. Reads every byte that was written, some seconds per GB.

    Raises:
        JournalVersionError: If a newer release wrote a segment.
    """
    marks = WatermarkReader(folder)
    # Marks first: segments that are read later hold at least what these say.
    seen = tuple(holders(folder))
    durable = marks.read()
    marks.close()
    engine_pid = lock_pid(folder)
    paths = segments(folder)
    rows: list[SegmentRow] = []
    for path in paths:
        look = _Look(path, rows[-1] if rows else None, durable, bool(engine_pid), path == paths[-1])
        rows.append(look.row())
    return Survey(tuple(rows), durable, seen, engine_pid)


class _Look(NamedTuple):
    """One segment, with what is known around it."""

    path: Path
    before: SegmentRow | None
    durable: Watermark
    is_held: bool
    is_last: bool

    def row(self) -> SegmentRow:
        """Return what is in the file."""
        size = self.path.stat().st_size
        if size < SEGMENT_HEADER_BYTES:
            return self._unreadable(size, f"has {size} bytes, a segment has at least {SEGMENT_HEADER_BYTES}")
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            view = memoryview(mapped)
            try:
                return self._walk(view)
            except JournalDamagedError as e:
                return self._unreadable(size, f"record {e.seq} {e.why} (offset {e.offset})")
            finally:
                view.release()

    def _walk(self, view: memoryview) -> SegmentRow:
        header = decode_segment_header(view, self.path)
        link, offset = Link(header.first_seq, header.prev_crc), SEGMENT_HEADER_BYTES
        epoch_first = epoch_last = first_ns = last_ns = 0
        while not isinstance(frame := next_frame(view, offset, link), Torn | Broken):
            epoch_first, first_ns = epoch_first or frame.epoch, first_ns or frame.now_ns
            epoch_last, last_ns = frame.epoch, frame.now_ns
            link, offset = after(frame), offset + FRAME_BYTES + frame.body_bytes
        state, why = self._state(view, header, offset, link, frame)
        return SegmentRow(
            header.segment, self.path.name, header.first_seq, link.next_seq - 1, link.next_seq - header.first_seq,
            epoch_first, epoch_last, offset, len(view), first_ns, last_ns, link.crc, state, why,
        )  # fmt: skip

    def _state(
        self, view: memoryview, header: SegmentHeader, offset: int, link: Link, frame: Torn | Broken
    ) -> tuple[SegmentState, str]:
        """Say whether the frames end as they must, and what is behind them."""
        if apart := self._apart(header):
            return "damaged", apart
        why = f"record {link.next_seq} {frame.why} (offset {offset})"
        segment, durable_end = split_position(self.durable.position)
        if isinstance(frame, Broken):
            return "damaged", why
        if segment == header.segment and durable_end > offset:
            return "damaged", f"{why}, and it was durable"
        if is_zero(view, offset):
            return ("open" if self.is_last else "whole"), ""
        if not self.is_last:
            return "damaged", f"{why}, and another segment follows"
        if self.is_held:
            return "open", ""  # the engine is writing it: the next look finds a frame there
        later = find_whole_frame(view, offset + 1, link.next_seq)
        return ("damaged", f"{why}, and a whole frame follows at {later}") if later >= 0 else ("torn", why)

    def _apart(self, header: SegmentHeader) -> str:
        """Return why the segment does not go on where the one before ended; empty if it does, or has none before."""
        before = self.before
        if before is None:
            return ""
        if header.segment != before.segment + 1:
            return f"segment {before.segment + 1:06d} is expected before it and is absent"
        if before.state in {"whole", "open"} and (header.first_seq, header.prev_crc) != (
            before.last_seq + 1,
            before.crc,
        ):
            return (
                f"it begins with record {header.first_seq} behind chain {header.prev_crc:08x}, "
                f"expected {before.last_seq + 1} behind {before.crc:08x}"
            )
        return ""

    def _unreadable(self, size: int, why: str) -> SegmentRow:
        """Return the row of a file without a header: it should begin where the one before ends."""
        last_seq, crc = (self.before.last_seq, self.before.crc) if self.before else (0, 0)
        name = self.path.name
        return SegmentRow(
            segment_index(self.path), name, last_seq + 1, last_seq, 0, 0, 0, 0, size, 0, 0, crc, "damaged", why
        )
