"""The gateway's one durable log: commands received, what the venue did, reports, epochs (DECISIONS 18).

A folder of segments. Each begins with a Checkpoint that holds everything needed from the segments before it, so a
start reads the newest segment only, and old ones are kept (``segments_kept``) for those who compare. A start always
makes a new segment: its checkpoint, file and folder synced, is the first thing anyone may rely on.

Frame, little endian, 24 bytes of header, then one msgpack record:

    offset  0  u32  magic       "WKG1"; zero = nothing was written here
            4  u32  crc         CRC-32 of header[8:24] and body
            8  u32  body_bytes
           12  u32  zero
           16  u64  frame_no    contiguous over all segments

Space is zero-filled ahead in steps of ``ZERO_BYTES`` and written in place: that sync costs a fifth less than one of a
growing file (MEASURED finding 4), and a crash can leave nothing but whole frames, one torn end, and zeros.

Rule: nothing is announced before the sync that covers it, so a torn end (no whole frame behind it, in the last
segment) was seen by nobody and is cut. Anything else that does not add up stops the start.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from venues.core.errors import LogDamagedError, LogInUseError

MAGIC: Final = 0x31474B57
HEADER: Final = struct.Struct("<IIIIQ")
HEADER_BYTES: Final = HEADER.size
CRC_FROM: Final = 8
FRAME_BYTES_MAX: Final = 256 << 20
ZERO_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(ZERO_BYTES)
_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "little")


class Checkpoint(Struct, array_like=True, tag=1, frozen=True):
    """Everything before this segment. ``is_start``: a new process, whose venue knows no book yet."""

    venue: str
    is_start: bool
    at_ns: int
    shard: int
    epoch: int
    instance: bytes
    received_seq: int
    report_seq: int
    reports_durable: int
    is_killed: bool
    reports: list[Raw]
    state: bytes


class EpochTaken(Struct, array_like=True, tag=2, frozen=True):
    """The engine instance this gateway serves from here on; lower epochs are refused for ever."""

    shard: int
    epoch: int
    instance: bytes


class Batch(Struct, array_like=True, tag=3, frozen=True):
    """One turn of the loop.

    ``messages``: Commands messages as received, duplicates included; new in them is what lies above the
    ``received_seq`` of the record before and at or below this one's. ``note``: the venue's own words.
    """

    received_seq: int
    reports_durable: int
    messages: list[bytes]
    note: bytes
    reports: list[Raw]


class KillChanged(Struct, array_like=True, tag=4, frozen=True):
    """The gateway's own kill was set or lifted; ``reports`` are the cancels it made."""

    is_killed: bool
    operator: str
    at_ns: int
    note: bytes
    reports: list[Raw]
    reason: str = ""


class TradeChanged(Struct, array_like=True, tag=5, frozen=True):
    """An operator had the venue take a trade back or correct it; ``reports`` say which."""

    operator: str
    at_ns: int
    note: bytes
    reports: list[Raw]
    reason: str = ""


LogRecord = Checkpoint | EpochTaken | Batch | KillChanged | TradeChanged

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[LogRecord]] = msgspec.msgpack.Decoder(LogRecord)


class LogWriter:
    """Appends frames; ``sync`` makes them durable in one write and one fdatasync."""

    def __init__(self, folder: Path, *, segment_bytes: int, segments_kept: int, segment_no: int, frame_no: int) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.segments_kept = segments_kept
        self.segment_no = segment_no
        self._frame_no = frame_no
        self._buffer = bytearray()
        self._fd = -1
        self._offset = 0
        self._zeroed_to = 0

    def append(self, record: LogRecord) -> None:
        """Frame one record into the buffer; not durable before ``sync``."""
        buffer = self._buffer
        at = len(buffer)
        _encoder.encode_into(record, buffer, at + HEADER_BYTES)
        body_bytes = len(buffer) - at - HEADER_BYTES
        self._frame_no += 1
        HEADER.pack_into(buffer, at, MAGIC, 0, body_bytes, 0, self._frame_no)
        with memoryview(buffer) as view:
            crc = crc32(view[at + CRC_FROM :])
        buffer[at + 4 : at + 8] = crc.to_bytes(4, "little")

    def sync(self) -> None:
        """Write what was appended and wait until it is on the disk. A failure here is fatal: the caller stops."""
        buffer = self._buffer
        if not buffer:
            return
        end = self._offset + len(buffer)
        while end > self._zeroed_to:
            _write_all(self._fd, _ZEROS, self._zeroed_to)
            self._zeroed_to += ZERO_BYTES
        _write_all(self._fd, buffer, self._offset)
        os.fdatasync(self._fd)
        self._offset = end
        buffer.clear()

    @property
    def is_full(self) -> bool:
        """Whether the segment has its size and the next record should open a new one."""
        return self._offset >= self.segment_bytes

    def start_segment(self, checkpoint: Checkpoint) -> None:
        """Open the next segment with its checkpoint, durable with its name, and drop the oldest ones."""
        self.sync()
        if self._fd >= 0:
            os.close(self._fd)
        self.segment_no += 1
        path = self.folder / segment_name(self.segment_no)
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._offset = 0
        self._zeroed_to = 0
        self.append(checkpoint)
        self.sync()
        sync_folder(self.folder)
        for old in segments(self.folder)[: -self.segments_kept]:
            old.unlink()

    def close(self) -> None:
        """Close the file; what was not synced is dropped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FolderLock:
    """An exclusive lock on a log folder, held until closed or the process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / "gateway.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise LogInUseError(str(folder)) from None

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._fd)


class SegmentReader:
    """Reads the records of one segment and knows where its whole part ends.

    ``frame_no`` is that of the last whole frame read; ``torn_at`` the offset of a torn end, -1 without one.
    """

    def __init__(self, path: Path, *, is_last: bool) -> None:
        self.path = path
        self.is_last = is_last
        self.frame_no = 0
        self.torn_at = -1
        self._data = path.read_bytes()

    def records(self) -> Iterator[tuple[int, LogRecord]]:
        """Yield (offset, record) of every whole frame.

        Raises:
            LogDamagedError: If what follows the last one is neither the end nor a torn end.
        """
        data, at = self._data, 0
        while at < len(data):
            if (size := self._frame_bytes(at)) == 0:
                self._check_end(at)
                return
            (*_, frame_no) = HEADER.unpack_from(data, at)
            if self.frame_no and frame_no != self.frame_no + 1:
                raise LogDamagedError(str(self.path), at, f"frame {self.frame_no + 1}", f"frame {frame_no}")
            try:
                record = _decoder.decode(memoryview(data)[at + HEADER_BYTES : at + size])
            except msgspec.DecodeError as e:
                raise LogDamagedError(str(self.path), at, "a record of this version", str(e)) from e
            self.frame_no = frame_no
            yield at, record
            at += size

    def _frame_bytes(self, at: int) -> int:
        """Return the size of the whole frame at ``at``, 0 where there is none."""
        data = self._data
        if len(data) - at < HEADER_BYTES:
            return 0
        magic, crc, body_bytes, _, _ = HEADER.unpack_from(data, at)
        end = at + HEADER_BYTES + body_bytes
        if magic != MAGIC or body_bytes > FRAME_BYTES_MAX or end > len(data):
            return 0
        return end - at if crc32(memoryview(data)[at + CRC_FROM : end]) == crc else 0

    def _check_end(self, at: int) -> None:
        rest = self._data[at:]
        if rest.count(0) == len(rest):
            return
        if not self.is_last:
            raise LogDamagedError(str(self.path), at, "a whole frame or zeros", "other bytes, in a segment left whole")
        found = self._data.find(_MAGIC_BYTES, at + 1)
        while found >= 0:
            if self._frame_bytes(found):
                raise LogDamagedError(str(self.path), at, "a whole frame", f"other bytes; one follows at {found}")
            found = self._data.find(_MAGIC_BYTES, found + 1)
        self.torn_at = at


def read_log(folder: Path) -> Iterator[tuple[Path, int, LogRecord]]:
    """Yield (segment, offset, record) of all segments kept, oldest first: for those who compare, not for a start.

    Raises:
        LogDamagedError: At the first place that does not add up; a torn end is skipped.
    """
    paths = segments(folder)
    frame_no = 0
    for path in paths:
        reader = SegmentReader(path, is_last=path == paths[-1])
        for offset, record in reader.records():
            if frame_no and reader.frame_no != frame_no + 1:
                raise LogDamagedError(str(path), offset, f"frame {frame_no + 1}", f"frame {reader.frame_no}")
            frame_no = reader.frame_no
            yield path, offset, record


def read_newest(folder: Path) -> tuple[list[LogRecord], int, int]:
    """Return (records of the newest segment with a checkpoint, its number, its last frame), cutting a torn end.

    Without any segment: ([], 0, 0). What is returned is durable: a process killed between its write and its sync may
    have left frames that so far only the page cache holds, and the segments after this one build on them.

    Raises:
        LogDamagedError: If the segment can't be read or does not begin with a checkpoint.
    """
    paths = segments(folder)
    for path in reversed(paths):
        reader = SegmentReader(path, is_last=path == paths[-1])
        records = [record for _, record in reader.records()]
        if not records and path == paths[-1]:
            # A crash while the segment was made: its checkpoint never became durable, so nobody relied on it.
            path.unlink()
            sync_folder(folder)
            paths = paths[:-1]
            continue
        if not records or not isinstance(records[0], Checkpoint):
            raise LogDamagedError(str(path), 0, "a checkpoint", type(records[0]).__name__ if records else "nothing")
        if reader.torn_at >= 0:
            cut(path, reader.torn_at)
        else:
            sync_file(path)
        return records, segment_number(path), reader.frame_no
    return [], 0, 0


def segment_name(number: int) -> str:
    """Return a segment's file name; names sort as numbers do."""
    return f"gateway-{number:09d}.log"


def segment_number(path: Path) -> int:
    """Return the number in a segment's name."""
    return int(path.stem.removeprefix("gateway-"))


def segments(folder: Path) -> list[Path]:
    """Return the segments in a folder, oldest first."""
    return sorted(folder.glob("gateway-*.log"))


def cut(path: Path, offset: int) -> None:
    """Cut a file durably."""
    with path.open("r+b") as file:
        file.truncate(offset)
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Make what can be read of a file durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.pwrite(fd, view[done:], offset + done)
