"""The chain of batch frames: whether a frame is whole and goes on where the one before ended.

Rule: every reader of the journal (recovery, reader, verify) walks frames through ``next_frame`` and nothing else.
Pure: bytes in, a header or the reason why there is none out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.frames import FRAME_BYTES, FRAME_MAGIC, FrameHeader, frame_is_whole, read_header

MAGIC_BYTES: Final = FRAME_MAGIC.to_bytes(4, "little")
_ZERO_STEP: Final = 1 << 20
_ZEROS: Final = bytes(_ZERO_STEP)


class Link(NamedTuple):
    """Where a chain stands: the next record's number and the CRC of the frame before."""

    next_seq: int
    crc: int


class Torn(NamedTuple):
    """There is no whole frame at this place, and why."""

    why: str


class Broken(NamedTuple):
    """A whole frame that does not belong here, and why."""

    why: str


def next_frame(data: bytes | memoryview, offset: int, link: Link) -> FrameHeader | Torn | Broken:
    """Return the header of the frame at ``offset`` if it is whole and continues ``link``."""
    header = read_header(data, offset)
    if header is None:
        return Torn("has no frame where one must begin")
    if offset + FRAME_BYTES + header.body_bytes > len(data):
        return Torn(f"is in a frame of {header.body_bytes} bytes that ends beyond the file")
    if not frame_is_whole(data, header, offset):
        return Torn("is in a frame whose bytes do not match their checksum")
    if header.records < 1:
        return Broken("is in a frame without records")
    if header.first_seq != link.next_seq:
        return Broken(f"is expected next, the frame begins with record {header.first_seq}")
    if header.prev_crc != link.crc:
        return Broken(f"is in a frame that follows chain {header.prev_crc:08x}, was {link.crc:08x}: another history")
    return header


def after(header: FrameHeader) -> Link:
    """Return where the chain stands behind the frame."""
    return Link(header.first_seq + header.records, header.crc)


def is_zero(data: bytes | memoryview, start: int) -> bool:
    """Whether nothing was ever written from ``start`` on."""
    view = memoryview(data)
    for at in range(start, len(view), _ZERO_STEP):
        part = view[at : at + _ZERO_STEP]
        if part != memoryview(_ZEROS)[: len(part)]:
            return False
    return True


def find_whole_frame(data: bytes | memoryview, start: int, next_seq: int) -> int:
    """Return the offset of any whole frame of a later record behind ``start``, -1 if there is none.

    A torn write leaves none: the next batch is written only after the sync of the one before.
    """
    view = memoryview(data)
    for chunk in range(start, len(view), _ZERO_STEP):
        # Three bytes more, so that a magic across two chunks is seen.
        part = bytes(view[chunk : chunk + _ZERO_STEP + len(MAGIC_BYTES) - 1])
        at = part.find(MAGIC_BYTES)
        while at >= 0:
            header = read_header(view, chunk + at)
            if (
                header is not None
                and header.records
                and header.first_seq >= next_seq
                and frame_is_whole(view, header, chunk + at)
            ):
                return chunk + at
            at = part.find(MAGIC_BYTES, at + 1)
    return -1
