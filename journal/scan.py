"""Walk every segment and frame of a journal in order, read only.

Rule: segments are contiguous from 1, each continues the chain of the one before, and behind the last frame of
a segment there are zeros only. The one exception, a torn frame at the very end, is returned, not judged: who
may cut it is decided in recovery.py.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from journal.chain import Broken, Link, Torn, after, find_whole_frame, is_zero, next_frame
from journal.errors import JournalDamagedError, JournalGapError, JournalVersionError
from journal.format import SEGMENT_HEADER_BYTES, decode_segment_header, segment_index, segment_path, segments
from protocol.frames import FRAME_BYTES, FrameHeader, iter_records
from protocol.records import Record, record_decoder

OnFrame = Callable[[int, int, FrameHeader, bytes], None]
"""Called with (segment index, offset of the frame, its header, its bytes)."""


class End(NamedTuple):
    """Where a journal ends.

    Attributes:
        link: The number of the next record and the chain.
        segment: Index of the last segment; 0 = there is none.
        offset: Behind its last whole frame.
        file_bytes: Size of the last segment.
        epoch_max: Highest epoch of any frame.
        now_ns: Clock read of the last batch.
        records: How many were walked.
        shard: As in the segments.
        torn: Why what is behind ``offset`` is no frame; empty when nothing is there.
    """

    link: Link = Link(1, 0)
    segment: int = 0
    offset: int = 0
    file_bytes: int = 0
    epoch_max: int = 0
    now_ns: int = 0
    records: int = 0
    shard: int = 0
    torn: str = ""


class Place(NamedTuple):
    """Behind a batch, where somebody's state stands; a scan may begin there.

    Attributes:
        name: Whose state it is, for messages.
        link: The number of the next record and the chain.
        segment: Index of the segment the batch is in.
        offset: Behind it.
        epoch_max: Highest epoch up to there.
        now_ns: Clock read of that batch.
    """

    name: str
    link: Link
    segment: int
    offset: int
    epoch_max: int
    now_ns: int


def scan(folder: Path, on_frame: OnFrame, start: Place | None = None) -> End:
    """Hand every whole frame to ``on_frame`` and return where the journal ends.

    Args:
        folder: The journal.
        on_frame: What is called.
        start: Begin there. Segments before its own are not looked at; its own is, so that the place is surely one of
            this journal.

    Raises:
        JournalGapError: If a segment is missing.
        JournalDamagedError: If anything but the end of the last segment is not as written, or the journal ends
            before ``start`` or has another chain there.
        JournalVersionError: If a newer release wrote it.
    """
    end = End()
    first = start.segment if start is not None else 1
    paths = [path for path in segments(folder) if segment_index(path) >= first]
    if start is not None:
        end = End(start.link, epoch_max=start.epoch_max, now_ns=start.now_ns)
        if not paths:
            why = f"which is absent, but {start.name} holds record {start.link.next_seq - 1}"
            raise JournalGapError(segment_path(folder, first), start.link.next_seq, why)
    for expected, path in enumerate(paths, start=first):
        if segment_index(path) != expected:
            missing = segment_path(folder, expected)
            raise JournalGapError(missing, end.link.next_seq, f"but the next file is {path.name}")
        end = _scan_segment(path, end, on_frame, start, is_last=path is paths[-1])
        start = None
    return end


def _scan_segment(path: Path, end: End, on_frame: OnFrame, start: Place | None, *, is_last: bool) -> End:
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < SEGMENT_HEADER_BYTES:
            raise JournalDamagedError(path, 0, end.link.next_seq, f"is expected in it, the file has {size} bytes only")
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    view = memoryview(mapped)
    try:
        return _walk(path, view, end, on_frame, start, is_last=is_last)
    finally:
        view.release()
        mapped.close()


def _walk(path: Path, view: memoryview, end: End, on_frame: OnFrame, start: Place | None, *, is_last: bool) -> End:
    header = decode_segment_header(view, path)
    link = end.link
    if start is None and (header.first_seq, header.prev_crc) != (link.next_seq, link.crc):
        why = f"but this segment begins with {header.first_seq} behind chain {header.prev_crc:08x}, was {link.crc:08x}"
        raise JournalGapError(path, link.next_seq, why)
    if end.segment and header.shard != end.shard:
        raise JournalDamagedError(path, 12, link.next_seq, f"is of shard {header.shard}, expected {end.shard}")
    index, offset = header.segment, SEGMENT_HEADER_BYTES
    if start is not None:
        _require_place(path, view, Link(header.first_seq, header.prev_crc), start)
        offset = start.offset
    epoch_max, now_ns, records = end.epoch_max, end.now_ns, end.records
    while True:
        frame = next_frame(view, offset, link)
        if isinstance(frame, Torn):
            break
        if isinstance(frame, Broken):
            raise JournalDamagedError(path, offset, link.next_seq, frame.why)
        end_offset = offset + FRAME_BYTES + frame.body_bytes
        # A copy: what keeps a piece of it must not keep the segment mapped.
        on_frame(index, offset, frame, bytes(view[offset:end_offset]))
        link = after(frame)
        offset = end_offset
        epoch_max, now_ns = max(epoch_max, frame.epoch), frame.now_ns
        records += frame.records
    torn = "" if is_zero(view, offset) else frame.why
    if torn:
        _require_last(path, view, offset, link, torn, is_last=is_last)
    return End(link, index, offset, len(view), epoch_max, now_ns, records, header.shard, torn)


def _require_place(path: Path, view: memoryview, link: Link, start: Place) -> None:
    """Refuse a journal that ends before the place, or has another history there."""
    offset, seq = SEGMENT_HEADER_BYTES, start.link.next_seq - 1
    while offset < start.offset:
        frame = next_frame(view, offset, link)
        if isinstance(frame, Torn | Broken):
            raise JournalDamagedError(path, offset, link.next_seq, f"{frame.why}, but {start.name} holds record {seq}")
        link = after(frame)
        offset += FRAME_BYTES + frame.body_bytes
    if offset != start.offset or link != start.link:
        why = (
            f"is behind chain {link.crc:08x}, but {start.name} stands behind record {seq} "
            f"with chain {start.link.crc:08x} at offset {start.offset}: another history"
        )
        raise JournalDamagedError(path, offset, link.next_seq, why)


def _require_last(path: Path, view: memoryview, offset: int, link: Link, torn: str, *, is_last: bool) -> None:
    """Refuse a torn frame that has something valid behind it: that is no torn write."""
    if not is_last:
        raise JournalDamagedError(path, offset, link.next_seq, f"{torn}, and another segment follows")
    later = find_whole_frame(view, offset + 1, link.next_seq)
    if later >= 0:
        raise JournalDamagedError(path, offset, link.next_seq, f"{torn}, and a whole frame follows at {later}")


def frame_records(path: Path, offset: int, header: FrameHeader, frame: bytes) -> list[tuple[int, memoryview]]:
    """Return (offset in the frame, bytes) of every record of a whole frame.

    Raises:
        JournalDamagedError: If the lengths do not add up: the frame was written wrong.
    """
    try:
        return list(iter_records(frame, header))
    except (ValueError, struct.error) as e:
        raise JournalDamagedError(path, offset, header.first_seq, f"is not as framed: {e}") from e


def decode_record(data: bytes, path: Path, offset: int, seq: int) -> Record:
    """Return the record.

    Raises:
        JournalVersionError: If it is of a type, or holds a value, that this release does not know.
        JournalDamagedError: If it is no msgpack at all.
    """
    try:
        return record_decoder.decode(data)
    except msgspec.ValidationError as e:
        raise JournalVersionError(path, offset, f"record {seq}: {e}", "a record this release knows") from e
    except msgspec.DecodeError as e:
        raise JournalDamagedError(path, offset, seq, f"is no record: {e}") from e
