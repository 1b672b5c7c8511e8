"""Append records, one frame and one sync a batch. The engine's hot path.

Rules: what ``commit`` returned from is on the medium; a failed write or sync is fatal and never tried again
(the kernel may have dropped the pages, and a second sync would lie); a frame never spans segments.

Written for speed: records are encoded straight into one reused buffer behind their length, one CRC a batch,
one pwrite, one fdatasync into bytes that were zero-filled before (MEASURED findings 3-5), or both in one past the page
cache (``journal.direct``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from zlib import crc32

from journal.disk import Disk, write_all
from journal.errors import JournalFailedError, JournalFullError
from journal.format import (
    SEGMENT_HEADER_BYTES,
    JournalSettings,
    SegmentHeader,
    encode_segment_header,
    position_of,
    segment_path,
)
from journal.recovery import Recovered
from journal.segments import NextSegment
from journal.watermark import WatermarkWriter
from protocol.frames import FRAME, FRAME_BYTES, FRAME_MAGIC, LENGTH
from protocol.records import RECORD_BYTES_MAX, Record, record_encoder

_LENGTH_BYTES: Final = LENGTH.size
_CRC_AT: Final = 4
_CRC_FROM: Final = 8
_encode_into: Final = record_encoder.encode_into
_pack_length_into: Final = LENGTH.pack_into
_pack_header_into: Final = FRAME.pack_into


class JournalWriter:
    """The one writer of a journal whose lock the caller holds, from where ``recover`` left it.

    Attributes:
        next_seq: Number the next appended record gets.
        segment: Index of the segment that is written.

    Args:
        folder: The journal.
        recovered: What ``recover`` returned, just now.
        settings: The same as recovery's.
        wall_ns: Clock for the durable time of batches, UTC nanoseconds.
        disk: What changes go through.
    """

    __slots__ = (
        "_base", "_batch_end_max", "_buffer", "_crc", "_disk", "_end", "_epoch", "_failed", "_fd", "_first_seq",
        "_folder", "_frame_at", "_limit", "_next", "_path", "_prev_durable_ns", "_settings", "_shard", "_size",
        "_wall_ns", "_watermark", "next_seq", "segment",
    )  # fmt: skip

    def __init__(
        self,
        folder: Path,
        recovered: Recovered,
        settings: JournalSettings,
        wall_ns: Callable[[], int],
        disk: Disk | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._wall_ns = wall_ns
        self._disk = disk or Disk()
        self._shard = recovered.shard
        self._epoch = 0
        self._crc = recovered.crc
        self._prev_durable_ns = 0
        self._failed = False
        self._buffer = bytearray(FRAME_BYTES)
        self._batch_end_max = min(settings.batch_bytes_max, settings.segment_bytes // 2)
        self._end = FRAME_BYTES
        self._first_seq = self.next_seq = recovered.next_seq
        self.segment = recovered.segment
        self._path = segment_path(folder, self.segment)
        self._fd = self._disk.open(self._path)
        self._size = self._path.stat().st_size
        self._next = NextSegment(folder, settings, self._disk)
        self._watermark = WatermarkWriter(folder)
        self._go_on_at(recovered.offset)

    def start(self, epoch: int) -> None:
        """Take the epoch that every frame from here on carries, and make the next segment ahead."""
        self._epoch = epoch
        self._next.prepare()

    @property
    def buffered_records(self) -> int:
        """Records appended since the last commit."""
        return self.next_seq - self._first_seq

    @property
    def buffered_bytes(self) -> int:
        """Size of the frame as it stands; 0 when nothing was appended."""
        return self._end if self._end > FRAME_BYTES else 0

    @property
    def full(self) -> bool:
        """Whether the caller must commit before it appends more.

        True from half of ``batch_bytes_max`` on: with the default sizes any record (at most 4 MiB) still fits.
        """
        return self._end * 2 >= self._batch_end_max

    @property
    def durable_seq(self) -> int:
        """Number of the last committed record."""
        return self._first_seq - 1

    @property
    def crc(self) -> int:
        """Chain at the last commit."""
        return self._crc

    @property
    def prev_durable_ns(self) -> int:
        """When the last commit's sync ended, UTC nanoseconds; 0 = none yet."""
        return self._prev_durable_ns

    def append(self, record: Record) -> int:
        """Put the record into the batch and return the position it will have.

        Raises:
            JournalFullError: If the batch would grow over ``batch_bytes_max``; nothing was appended.
            JournalFailedError: If the journal failed before, or the roll to a new segment did.
        """
        start = self._end
        buffer = self._buffer
        # encode_into leaves the buffer exactly as long as what is in it: no copy, no allocation.
        _encode_into(record, buffer, start + _LENGTH_BYTES)
        end = len(buffer)
        if end > self._limit:
            return self._append_slowly(record, end)
        _pack_length_into(buffer, start, end - start - _LENGTH_BYTES)
        self._end = end
        self.next_seq += 1
        return self._base + start

    def commit(self, now_ns: int) -> bytes:
        """Make the batch durable and visible to readers.

        Args:
            now_ns: The clock read of this batch; every record in it carries this time.

        Returns:
            The frame as written; empty when nothing was appended.

        Raises:
            JournalFailedError: If the write or the sync failed; this writer is done, and so is its engine.
        """
        records = self.next_seq - self._first_seq
        if not records:
            return b""
        if self._failed:
            raise JournalFailedError(self._path, "commit", "the journal failed or was closed before")
        assert self._epoch, "start(epoch) comes first"
        end, first_seq, buffer = self._end, self._first_seq, self._buffer
        _pack_header_into(
            buffer, 0, FRAME_MAGIC, 0, end - FRAME_BYTES, records, first_seq, now_ns, self._prev_durable_ns,
            self._epoch, self._crc,
        )  # fmt: skip
        with memoryview(buffer) as view:
            crc = crc32(view[_CRC_FROM:end])
            _pack_length_into(buffer, _CRC_AT, crc)
            frame = bytes(view[:end])
        operation = "write"
        try:
            if not self._disk.write_synced(self._fd, frame, self._frame_at):
                write_all(self._disk, self._fd, frame, self._frame_at)
                operation = "sync"
                self._disk.fdatasync(self._fd)
        except OSError as e:
            raise self._fail(operation, e) from e
        durable_ns = self._prev_durable_ns = self._wall_ns()
        self._crc = crc
        self._first_seq = self.next_seq
        self._go_on_at(self._frame_at + end)
        self._watermark.publish(
            self._first_seq - 1, position_of(self.segment, self._frame_at), crc, self._epoch, durable_ns
        )
        return frame

    def free_bytes(self) -> int:
        """Return how many bytes are left on the journal's file system."""
        return self._disk.free_bytes(self._folder)

    def close(self) -> None:
        """Let go of the files. What was not committed is dropped."""
        self._next.close()
        self._watermark.close()
        self._disk.close(self._fd)
        self._failed = True
        self._limit = 0

    def _go_on_at(self, offset: int) -> None:
        """Begin the next frame at ``offset``; the roll waits for the next append, so that answers leave first."""
        self._frame_at = offset
        self._end = FRAME_BYTES
        self._base = position_of(self.segment, offset)
        has_room = self._size - offset >= self._batch_end_max
        self._limit = self._batch_end_max if has_room else 0

    def _append_slowly(self, record: Record, end: int) -> int:
        del self._buffer[self._end :]
        if self._failed:
            raise JournalFailedError(self._path, "append", "the journal failed or was closed before")
        if end > self._batch_end_max or end - self._end - _LENGTH_BYTES > RECORD_BYTES_MAX:
            raise JournalFullError(end, self._batch_end_max)
        assert self._end == FRAME_BYTES, "a roll is due at the first record of a batch only"
        self._roll()
        return self.append(record)

    def _roll(self) -> None:
        """Go on in the next segment. Everything before is committed."""
        index = self.segment + 1
        header = SegmentHeader(self._shard, index, self.next_seq, self._crc)
        path = segment_path(self._folder, index)
        try:
            fd = self._next.take()
            write_all(self._disk, fd, encode_segment_header(header), 0)
            self._disk.fdatasync(fd)
            self._disk.rename(self._next.path, path)
            self._disk.fsync_folder(self._folder)
            self._disk.close(self._fd)
        except OSError as e:
            raise self._fail("roll", e) from e
        self._fd, self._path, self._size, self.segment = fd, path, self._settings.segment_bytes, index
        self._go_on_at(SEGMENT_HEADER_BYTES)
        self._next.prepare()

    def _fail(self, operation: str, cause: OSError) -> JournalFailedError:
        self._failed = True
        self._limit = 0
        return JournalFailedError(self._path, operation, str(cause))
