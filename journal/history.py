"""Whole frames behind any record, out of the segments: what the follower serves to readers that missed some.

Rules: nothing behind ``last_seq`` is returned, and only frames that are whole. An index of each segment, an entry every
64 KiB, is made when it is first asked for, by walking its headers; those of a few segments are kept, so that memory is
bounded and a reader that comes again does not walk again.
"""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple

from journal.errors import JournalDamagedError
from journal.format import SEGMENT_HEADER_BYTES, decode_segment_header, segment_index, segment_path, segments
from protocol.frames import FRAME_BYTES, FrameHeader, frame_is_whole, read_header

INDEX_EVERY_BYTES: Final = 1 << 16
INDEXES_MAX: Final = 64


class NotKept(NamedTuple):
    """Records behind ``after_seq`` are no longer all there; the first that is."""

    oldest_seq: int


class _Index:
    """Where in a segment frames begin: every so many bytes one, and how far it was walked."""

    def __init__(self, first_seq: int) -> None:
        self.seqs = array("Q", [first_seq])
        self.offsets = array("Q", [SEGMENT_HEADER_BYTES])
        self.next_seq = first_seq
        self.end = SEGMENT_HEADER_BYTES

    def find(self, seq: int) -> int:
        """Return the offset of a frame that holds the record or stands before it."""
        return self.offsets[bisect_right(self.seqs, seq) - 1]

    def walk(self, view: memoryview, last_seq: int) -> None:
        """Go on to the frame that holds ``last_seq``, or to the end of what is written."""
        at, seq = self.end, self.next_seq
        while seq <= last_seq:
            header = read_header(view, at)
            if header is None or header.first_seq != seq or at + FRAME_BYTES + header.body_bytes > len(view):
                break
            if at - self.offsets[-1] >= INDEX_EVERY_BYTES:
                self.seqs.append(seq)
                self.offsets.append(at)
            seq += header.records
            at += FRAME_BYTES + header.body_bytes
        self.end, self.next_seq = at, seq


class History:
    """Reads frames of one journal. Any process may; it changes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first_seqs: dict[int, int] = {}
        self._indexes: OrderedDict[int, _Index] = OrderedDict()

    def read(self, after_seq: int, last_seq: int, bytes_max: int) -> list[bytes] | NotKept:
        """Return the frames behind ``after_seq``: about ``bytes_max`` of them, one at least, none behind ``last_seq``.

        Raises:
            JournalDamagedError: If what was durable is not whole.
        """
        found = self._segments()
        if not found:  # the engine has not made the first yet: who is at the beginning misses nothing
            return [] if after_seq >= last_seq else NotKept(last_seq + 1)
        if after_seq + 1 < found[0][1]:
            return NotKept(found[0][1])
        if after_seq >= last_seq:
            return []
        which = bisect_right(found, after_seq + 1, key=lambda entry: entry[1]) - 1
        for segment, _ in found[which:]:
            # Behind the last frame of a segment the next one goes on.
            if frames := self._read_segment(segment, after_seq, last_seq, bytes_max):
                return frames
        raise JournalDamagedError(segment_path(self._folder, found[-1][0]), 0, after_seq + 1, "was durable, is absent")

    def _segments(self) -> list[tuple[int, int]]:
        """Return (segment, its first record) of what is kept now."""
        found: list[tuple[int, int]] = []
        known: dict[int, int] = {}
        for path in segments(self._folder):
            segment = segment_index(path)
            first_seq = self._first_seqs.get(segment)
            if first_seq is None:
                try:
                    with path.open("rb") as file:
                        first_seq = decode_segment_header(file.read(SEGMENT_HEADER_BYTES), path).first_seq
                except FileNotFoundError:
                    continue  # retention was faster
            known[segment] = first_seq
            found.append((segment, first_seq))
        self._first_seqs = known
        return found

    def _read_segment(self, segment: int, after_seq: int, last_seq: int, bytes_max: int) -> list[bytes]:
        path = segment_path(self._folder, segment)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
                index = self._index(segment)
                index.walk(view, last_seq)
                return _frames(path, view, index, after_seq, last_seq, bytes_max)
        finally:
            os.close(fd)

    def _index(self, segment: int) -> _Index:
        index = self._indexes.get(segment)
        if index is None:
            index = self._indexes[segment] = _Index(self._first_seqs[segment])
            if len(self._indexes) > INDEXES_MAX:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(segment)
        return index


def _frames(path: Path, view: memoryview, index: _Index, after_seq: int, last_seq: int, bytes_max: int) -> list[bytes]:
    frames: list[bytes] = []
    at = index.find(after_seq + 1)
    while at < index.end:
        header = read_header(view, at)
        assert header is not None, "the index walked over it"
        size = FRAME_BYTES + header.body_bytes
        if _last(header) > last_seq or (frames and size > bytes_max):
            break
        if _last(header) > after_seq:
            if not frame_is_whole(view, header, at):
                if frames:
                    break  # what is whole before it is true; who asks on behind that learns of the damage
                raise JournalDamagedError(path, at, header.first_seq, "is in a frame that does not match its checksum")
            frames.append(bytes(view[at : at + size]))
            bytes_max -= size
        at += size
    return frames


def _last(header: FrameHeader) -> int:
    return header.first_seq + header.records - 1
