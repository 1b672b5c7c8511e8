"""The frame of one batch of records, on disk and on the PUB stream alike.

Frame, little endian, 48 bytes of header, then ``records`` times (u32 length, msgpack record):

    offset  0  u32  magic            "WKB1"; zero = nothing was written here
            4  u32  crc              CRC-32 of header[8:48] and body
            8  u32  body_bytes
           12  u32  records
           16  u64  first_seq
           24  u64  now_ns           the clock read of the batch, UTC
           32  u64  prev_durable_ns  when the sync of the batch before ended, UTC; 0 = unknown
           40  u32  epoch
           44  u32  prev_crc         ``crc`` of the batch before: the chain
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

FRAME_MAGIC: Final = 0x31424B57
FRAME: Final = struct.Struct("<IIIIQQQII")
FRAME_BYTES: Final = FRAME.size
LENGTH: Final = struct.Struct("<I")


class FrameHeader(NamedTuple):
    """The header of one batch, unpacked."""

    crc: int
    body_bytes: int
    records: int
    first_seq: int
    now_ns: int
    prev_durable_ns: int
    epoch: int
    prev_crc: int


def read_header(data: bytes | memoryview, offset: int = 0) -> FrameHeader | None:
    """Return the header at ``offset``, or None where no frame begins."""
    if len(data) - offset < FRAME_BYTES:
        return None
    magic, *rest = FRAME.unpack_from(data, offset)
    return FrameHeader(*rest) if magic == FRAME_MAGIC else None


def frame_is_whole(data: bytes | memoryview, header: FrameHeader, offset: int = 0) -> bool:
    """Whether all bytes of the frame at ``offset`` are there and match its CRC."""
    end = offset + FRAME_BYTES + header.body_bytes
    return len(data) >= end and crc32(memoryview(data)[offset + 8 : end]) == header.crc


def iter_records(data: bytes | memoryview, header: FrameHeader, offset: int = 0) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset of the length prefix, record bytes) of a whole frame.

    Raises:
        ValueError: If the lengths do not add up to the body.
    """
    view = memoryview(data)
    at = offset + FRAME_BYTES
    end = at + header.body_bytes
    for _ in range(header.records):
        (size,) = LENGTH.unpack_from(view, at)
        if at + LENGTH.size + size > end:
            raise ValueError(f"record at {at} expected at most {end - at - LENGTH.size} bytes, was {size}")
        yield at, view[at + LENGTH.size : at + LENGTH.size + size]
        at += LENGTH.size + size
    if at != end:
        raise ValueError(f"frame body expected {header.body_bytes} bytes, records have {at - offset - FRAME_BYTES}")
