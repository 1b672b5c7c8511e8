"""Follow the journal up to the durable watermark, from another process or the same.

Rule: nothing beyond the watermark is ever returned, and whatever is returned continues the chain that was
read before; a reader whose history is gone stops (JournalCutError). A restart of the engine replaces the last
segment by a copy with the same offsets: the reader sees another inode and opens that.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from journal.chain import MAGIC_BYTES, Broken, Link, Torn, after, next_frame
from journal.errors import JournalCutError, JournalDamagedError, JournalGapError
from journal.format import (
    SEGMENT_HEADER_BYTES,
    decode_segment_header,
    position_of,
    segment_path,
    segments,
    split_position,
)
from journal.scan import decode_record, frame_records
from journal.watermark import Watermark, WatermarkReader
from protocol.frames import FRAME_BYTES, LENGTH, FrameHeader, read_header
from protocol.records import RECORD_BYTES_MAX, Record

POLL_BYTES: Final = 1 << 20
_RECORD_GUESS_BYTES: Final = 1024
_OPEN_SEGMENTS_MAX: Final = 8


class Batch(NamedTuple):
    """One durable batch. ``records``: (seq, position, record bytes) in order; ``end``: position behind it."""

    header: FrameHeader
    records: list[tuple[int, int, bytes]]
    end: int

    @property
    def last_seq(self) -> int:
        """Number of its last record."""
        return self.header.first_seq + self.header.records - 1


class JournalReader:
    """Reads on from where a reader stood before.

    Args:
        folder: The journal; it need not be there yet.
        after_seq: The last record already used, the end of a batch; 0 = from the beginning.
        after_crc: The chain there.
        position: The end of that batch, where it is known (``Batch.end``); else the place is looked for.

    Attributes:
        seq: The last record returned.
        crc: The chain there.
    """

    def __init__(self, folder: Path, after_seq: int = 0, after_crc: int = 0, position: int = 0) -> None:
        self._folder = folder
        self._begin = position
        self._watermark = WatermarkReader(folder)
        self._link = Link(after_seq + 1, after_crc)
        self._segment = 0
        self._offset = 0
        self._fd = -1
        self._inode = 0

    @property
    def seq(self) -> int:
        """The last record returned."""
        return self._link.next_seq - 1

    @property
    def crc(self) -> int:
        """The chain at the last record returned."""
        return self._link.crc

    @property
    def watermark(self) -> Watermark:
        """How far the journal is durable now."""
        return self._watermark.read()

    def poll(self, bytes_max: int = POLL_BYTES) -> list[Batch]:
        """Return the durable batches that are new, about ``bytes_max`` of them; empty when there are none.

        Raises:
            JournalCutError: If what was read before is no longer in the journal.
            JournalDamagedError, JournalGapError, JournalVersionError: If durable bytes are not as written.
        """
        mark = self._watermark.read()
        if mark.seq <= self.seq:
            self._require_same_history(mark)
            return []
        if self._fd < 0:
            self._find_place(mark)
        self._reopen_if_replaced()
        batches: list[Batch] = []
        while bytes_max > 0 and self.seq < mark.seq:
            read = self._read_some(mark, bytes_max, batches)
            if read == 0:
                self._next_segment()
            bytes_max -= read
        return batches

    def close(self) -> None:
        """Let go of the files."""
        self._watermark.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _require_same_history(self, mark: Watermark) -> None:
        if mark.position and mark.seq < self.seq:
            raise JournalCutError(self._folder, self.seq, self.crc, f"it ends at record {mark.seq}")
        if mark.seq == self.seq and mark.crc != self.crc:
            raise JournalCutError(self._folder, self.seq, self.crc, f"it has chain {mark.crc:08x} there")

    def _read_some(self, mark: Watermark, bytes_max: int, batches: list[Batch]) -> int:
        """Append whole batches of this segment; return how many bytes they have, 0 at its end."""
        end = split_position(mark.position)[1] if mark.segment == self._segment else -1
        room = max(bytes_max, FRAME_BYTES)
        data = os.pread(self._fd, room if end < 0 else min(room, end - self._offset), self._offset)
        at = 0
        while self.seq < mark.seq:
            header = read_header(data, at)
            if header is None:
                # A cut-off header is read again with the next chunk; zeros end a segment that is not the last.
                if at == 0 and (end >= 0 or any(data[: len(MAGIC_BYTES)])):
                    self._take(data, at, batches)
                break
            if at + FRAME_BYTES + header.body_bytes > len(data):
                if at:
                    break
                # One batch larger than what was asked for.
                data = os.pread(self._fd, FRAME_BYTES + header.body_bytes, self._offset)
            at += self._take(data, at, batches)
        self._offset += at
        return at

    def _take(self, data: bytes, at: int, batches: list[Batch]) -> int:
        path, offset = segment_path(self._folder, self._segment), self._offset + at
        header = next_frame(data, at, self._link)
        if isinstance(header, Torn):
            raise JournalDamagedError(path, offset, self._link.next_seq, f"{header.why}, and it was durable")
        if isinstance(header, Broken):
            raise JournalCutError(self._folder, self.seq, self.crc, f"the next record {header.why} ({path}, {offset})")
        size = FRAME_BYTES + header.body_bytes
        frame = data[at : at + size]
        base = position_of(self._segment, offset)
        records = [
            (seq, base + where, bytes(record))
            for seq, (where, record) in enumerate(frame_records(path, offset, header, frame), start=header.first_seq)
        ]
        batches.append(Batch(header, records, base + size))
        self._link = after(header)
        return size

    def _open(self, segment: int) -> None:
        path = segment_path(self._folder, segment)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise JournalGapError(path, self._link.next_seq, "which is absent") from None
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment, self._inode = fd, segment, os.fstat(fd).st_ino

    def _reopen_if_replaced(self) -> None:
        path = segment_path(self._folder, self._segment)
        try:
            inode = path.stat().st_ino
        except FileNotFoundError:
            raise JournalGapError(path, self._link.next_seq, "which is gone") from None
        if inode != self._inode:
            self._open(self._segment)

    def _next_segment(self) -> None:
        self._open(self._segment + 1)
        path = segment_path(self._folder, self._segment)
        header = decode_segment_header(os.pread(self._fd, SEGMENT_HEADER_BYTES, 0), path)
        if (header.first_seq, header.prev_crc) != self._link:
            was = f"segment {self._segment} begins with {header.first_seq} behind chain {header.prev_crc:08x}"
            raise JournalCutError(self._folder, self.seq, self.crc, was)
        self._offset = SEGMENT_HEADER_BYTES

    def _find_place(self, mark: Watermark) -> None:
        """Go behind the batch that ends with ``seq`` and see that it is the one that was read.

        Where its position is known, the chain of the next batch shows that.
        """
        if self._begin:
            segment, self._offset = split_position(self._begin)
            self._open(segment)
            return
        start, at_start = 0, Link(1, 0)
        for path in segments(self._folder):
            with path.open("rb") as file:
                header = decode_segment_header(file.read(SEGMENT_HEADER_BYTES), path)
            if header.first_seq > self._link.next_seq or header.segment > mark.segment:
                break
            start, at_start = header.segment, Link(header.first_seq, header.prev_crc)
        if not start:
            oldest = segments(self._folder)
            begins = f": the journal begins with {oldest[0].name}, what was before is pruned or lost" if oldest else ""
            raise JournalGapError(segment_path(self._folder, 1), self._link.next_seq, f"which is absent{begins}")
        self._open(start)
        self._offset = SEGMENT_HEADER_BYTES
        target, self._link = self._link, at_start
        skipped: list[Batch] = []
        while self._link.next_seq < target.next_seq and self._read_some(mark, FRAME_BYTES, skipped):
            skipped.clear()
        if self._link != target:
            was = f"a batch there ends at record {self.seq} with chain {self.crc:08x}"
            self._link = target
            raise JournalCutError(self._folder, self.seq, self.crc, was)


def read_batches(folder: Path, after_seq: int = 0, after_crc: int = 0, stop_seq: int = 0) -> Iterator[Batch]:
    """Yield the durable batches behind ``after_seq``, up to the watermark of now or the one that has ``stop_seq``."""
    reader = JournalReader(folder, after_seq, after_crc)
    try:
        last = stop_seq or reader.watermark.seq
        while reader.seq < last and (batches := reader.poll()):
            for batch in batches:
                if batch.header.first_seq <= last:
                    yield batch
    finally:
        reader.close()


def start_of(folder: Path, seq: int) -> tuple[int, int]:
    """Return (after_seq, after_crc) of a reader that comes to record ``seq`` without reading the segments before it.

    A record whose segment was pruned gives the beginning of the oldest segment that is there.

    Raises:
        JournalDamagedError, JournalVersionError: If a segment's header can't be read.
    """
    start = (0, 0)
    for n, path in enumerate(segments(folder)):
        with path.open("rb") as file:
            header = decode_segment_header(file.read(SEGMENT_HEADER_BYTES), path)
        if n and header.first_seq > seq:
            break
        start = (header.first_seq - 1, header.prev_crc)
    return start


class RecordReader:
    """Reads single durable records by position, for the first outcome of a duplicate.

    Records of the batch that is not yet committed are not on disk and can't be read. The frame's checksum is
    not computed again (recovery did, or the writer wrote it); a place that holds no record is an error.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: OrderedDict[int, int] = OrderedDict()

    def read(self, position: int) -> Record:
        """Return the record whose length prefix is at ``position``. One pread for all but large records.

        Raises:
            JournalGapError: If its segment is not there.
            JournalDamagedError: If no record begins there.
        """
        segment, offset = split_position(position)
        fd = self._fds.get(segment)
        if fd is None:
            fd = self._open(segment)
        data = os.pread(fd, _RECORD_GUESS_BYTES, offset)
        size = LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else 0
        if not 0 < size <= RECORD_BYTES_MAX:
            path = segment_path(self._folder, segment)
            raise JournalDamagedError(path, offset, 0, "is expected here, but nothing was written")
        end = LENGTH.size + size
        if end > len(data):
            data = os.pread(fd, end, offset)
        return decode_record(data[LENGTH.size : end], segment_path(self._folder, segment), offset, 0)

    def close(self) -> None:
        """Let go of the files."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, segment: int) -> int:
        path = segment_path(self._folder, segment)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise JournalGapError(path, 0, "which is absent") from None
        if len(self._fds) >= _OPEN_SEGMENTS_MAX:
            os.close(self._fds.popitem(last=False)[1])
        self._fds[segment] = fd
        return fd
