"""Ways in which a journal's files come to harm, for the tests."""

from __future__ import annotations

from pathlib import Path

from journal.format import SEGMENT_HEADER_BYTES, segments
from journal.watermark import watermark_path
from protocol.frames import FRAME, FRAME_BYTES, FRAME_MAGIC


def frame_offsets(path: Path) -> list[int]:
    """Return where the frames of a segment begin, and where the last one ends."""
    data = path.read_bytes()
    found, at = [], SEGMENT_HEADER_BYTES
    while data[at : at + 4] == FRAME_MAGIC.to_bytes(4, "little"):
        found.append(at)
        at += FRAME_BYTES + FRAME.unpack_from(data, at)[2]
    return [*found, at]


def tear(folder: Path, *, forget_watermark: bool = True) -> Path:
    """Take the end of the last frame, as a power cut in the middle of a write would; return the segment.

    From its last byte that is not zero on: a frame that ends in zeros would not notice that those are gone.
    """
    path = segments(folder)[-1]
    data, end = path.read_bytes(), frame_offsets(path)[-1]
    kept = len(data[:end].rstrip(b"\0")) - 1
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    if forget_watermark:
        watermark_path(folder).unlink()  # its mapping was never synced
    return path


def flip(path: Path, frame: int = 0) -> int:
    """Turn one bit of a frame's body; return the frame's offset."""
    data = bytearray(path.read_bytes())
    offset = frame_offsets(path)[frame]
    data[offset + FRAME_BYTES] ^= 1
    path.write_bytes(data)
    return offset


def crc_behind(path: Path, frame: int) -> int:
    """Return the chain behind a frame."""
    return int(FRAME.unpack_from(path.read_bytes(), frame_offsets(path)[frame])[1])
