"""What the journal folder looks like: segment names, their header, positions and settings.

    NNNNNN.wal      segments from 000001; zero-filled ahead, batch frames of protocol/records.py back to back
    durable         the watermark (watermark.py)
    holders/<name>  what each local reader has seen (holders.py)
    snapshots/      whole states of the engine, made by the follower (snapshots.py)
    lock            held by the engine (lock.py)
    *.tmp           segments in the making; whoever holds the lock may remove them

Segment header, little endian, 64 bytes:

    offset  0  8s   magic "WOJAKWAL"
            8  u32  format_version
           12  u32  shard
           16  u64  segment index
           24  u64  first_seq        number of the first record in it
           32  u32  prev_crc         chain: CRC of the last frame of the segment before; 0 in the first
           36  24x
           60  u32  crc              CRC-32 of the 60 bytes before

Position of a record = segment index << 32 | offset of its length prefix: known when it is appended.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from msgspec import Struct

from journal.errors import JournalDamagedError, JournalVersionError
from protocol.frames import FRAME_BYTES
from protocol.records import FORMAT_VERSION

SEGMENT_MAGIC: Final = b"WOJAKWAL"
_HEADER: Final = struct.Struct("<8sIIQQI24x")
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _HEADER.size + _CRC.size
assert SEGMENT_HEADER_BYTES == 64
OFFSET_BITS: Final = 32
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
SEGMENT_BYTES_MAX: Final = 1 << 31
_NAME: Final = re.compile(r"(\d{6,9})\.wal")


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of a journal.

    Attributes:
        segment_bytes: Size of a segment file, written out as zeros before use.
        batch_bytes_max: Most bytes of one batch; a frame never spans segments, so this much may stay unused.
        prepare_ahead: Whether a thread makes the next segment; without it the roll does (deterministic).
    """

    segment_bytes: int = 64 << 20
    batch_bytes_max: int = 8 << 20
    prepare_ahead: bool = True

    def problems(self) -> list[str]:
        """Return what is wrong with these settings, one line each."""
        found: list[str] = []
        if not SEGMENT_HEADER_BYTES + 2 * FRAME_BYTES <= self.segment_bytes <= SEGMENT_BYTES_MAX:
            found.append(f"journal.segment_bytes expected at most {SEGMENT_BYTES_MAX}, was {self.segment_bytes}")
        if not FRAME_BYTES < self.batch_bytes_max <= self.segment_bytes // 2:
            found.append(
                f"journal.batch_bytes_max expected more than {FRAME_BYTES} and at most half of "
                f"segment_bytes ({self.segment_bytes}), was {self.batch_bytes_max}"
            )
        return found


class SegmentHeader(NamedTuple):
    """The first bytes of a segment file."""

    shard: int
    segment: int
    first_seq: int
    prev_crc: int


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the 64 bytes a segment begins with."""
    head = _HEADER.pack(
        SEGMENT_MAGIC, FORMAT_VERSION, header.shard, header.segment, header.first_seq, header.prev_crc
    )  # fmt: skip
    return head + _CRC.pack(crc32(head))


def decode_segment_header(data: bytes | memoryview, path: Path) -> SegmentHeader:
    """Return the header of the segment at ``path``.

    Raises:
        JournalDamagedError: If the bytes are no segment header, or not the one of this file name.
        JournalVersionError: If a newer release wrote it.
    """
    head = bytes(data[:SEGMENT_HEADER_BYTES])
    index = segment_index(path)
    if len(head) < SEGMENT_HEADER_BYTES or _CRC.unpack_from(head, _HEADER.size)[0] != crc32(head[: _HEADER.size]):
        raise JournalDamagedError(path, 0, 0, "can't be found: the segment's header does not match its checksum")
    magic, version, shard, was_index, first_seq, prev_crc = _HEADER.unpack_from(head)
    if magic != SEGMENT_MAGIC:
        raise JournalDamagedError(path, 0, 0, f"can't be found: the file begins with {magic!r}, no segment does")
    if version != FORMAT_VERSION:
        raise JournalVersionError(path, 8, f"format version {version}", f"format version {FORMAT_VERSION}")
    if was_index != index:
        raise JournalDamagedError(path, 16, first_seq, f"is in segment {was_index}, the file's name says {index}")
    return SegmentHeader(shard, was_index, first_seq, prev_crc)


def segment_path(folder: Path, index: int) -> Path:
    """Return where segment ``index`` is."""
    return folder / f"{index:06d}.wal"


def segment_index(path: Path) -> int:
    """Return the number in a segment's name, 0 for any other file."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def segments(folder: Path) -> list[Path]:
    """Return the segment files that are there, in order."""
    found = [p for p in folder.iterdir() if segment_index(p)] if folder.is_dir() else []
    return sorted(found, key=segment_index)


def position_of(index: int, offset: int) -> int:
    """Return the position of ``offset`` in segment ``index``."""
    return index << OFFSET_BITS | offset


def split_position(position: int) -> tuple[int, int]:
    """Return (segment index, offset) of a position."""
    return position >> OFFSET_BITS, position & OFFSET_MASK
