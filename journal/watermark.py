"""How far the journal is durable, for readers in other processes: an mmap'd file of two slots.

Rule: it is written after the sync and never says more than the medium holds. A slot is whole when its CRC
matches; the writer alternates, so the other slot is always whole. Slot, little endian, 64 bytes:

    u64 counter, u64 seq, u64 position (of the end), u32 crc (chain), u32 epoch, u64 durable_ns, 20x, u32 crc

The mapping itself is not synced: after a power cut it may be old or gone, then holders and frames decide.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from journal.disk import FILE_MODE
from journal.format import split_position

FILE_BYTES: Final = 4096
SLOT_BYTES: Final = 64
READ_TRIES: Final = 4
_SLOT: Final = struct.Struct("<QQQIIQ20x")
_CRC: Final = struct.Struct("<I")
assert _SLOT.size + _CRC.size == SLOT_BYTES


class Watermark(NamedTuple):
    """Durable up to record ``seq``, whose batch ends at ``position`` with chain ``crc``."""

    counter: int = 0
    seq: int = 0
    position: int = 0
    crc: int = 0
    epoch: int = 0
    durable_ns: int = 0

    @property
    def segment(self) -> int:
        """Index of the segment that is being written."""
        return split_position(self.position)[0]


def watermark_path(folder: Path) -> Path:
    """Return where the watermark of a journal is."""
    return folder / "durable"


def _newest(data: bytes) -> tuple[Watermark, bool]:
    """Return the newest whole slot (empty if none) and whether both slots are whole or unused."""
    newest = Watermark()
    whole = True
    for at in (0, SLOT_BYTES):
        slot = data[at : at + _SLOT.size]
        if _CRC.unpack_from(data, at + _SLOT.size)[0] == crc32(slot):
            newest = max(newest, Watermark(*_SLOT.unpack(slot)))
        elif any(data[at : at + SLOT_BYTES]):
            whole = False
    return newest, whole


class WatermarkWriter:
    """The one writer: the holder of the folder's lock."""

    def __init__(self, folder: Path) -> None:
        fd = os.open(watermark_path(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            if os.fstat(fd).st_size < FILE_BYTES:
                os.ftruncate(fd, FILE_BYTES)
            self._map = mmap.mmap(fd, FILE_BYTES)
        finally:
            os.close(fd)
        self.last, _ = _newest(self._map[: 2 * SLOT_BYTES])
        self._counter = self.last.counter

    def publish(self, seq: int, position: int, crc: int, epoch: int, durable_ns: int) -> None:
        """Let readers see everything up to ``seq``. About 1 µs."""
        counter = self._counter = self._counter + 1
        slot = _SLOT.pack(counter, seq, position, crc, epoch, durable_ns)
        at = SLOT_BYTES if counter & 1 else 0
        self._map[at : at + SLOT_BYTES] = slot + _CRC.pack(crc32(slot))

    def close(self) -> None:
        """Unmap."""
        self._map.close()


class WatermarkReader:
    """Any number of readers, in any process."""

    def __init__(self, folder: Path) -> None:
        self._path = watermark_path(folder)
        self._map: mmap.mmap | None = None
        self._inode = 0

    def read(self) -> Watermark:
        """Return the newest watermark; an empty one before the journal was ever started.

        A slot caught in the middle of a write is read again; if it stays torn, its writer died there
        and the older slot holds.
        """
        self._open_if_new()
        if self._map is None:
            return Watermark()
        newest = Watermark()
        for _ in range(READ_TRIES):
            newest, whole = _newest(self._map[: 2 * SLOT_BYTES])
            if whole:
                break
        return newest

    def _open_if_new(self) -> None:
        """Map the file, also one that took its place: a removed watermark is made anew at the next start."""
        try:
            if self._map is not None and self._path.stat().st_ino == self._inode:
                return
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            stat = os.fstat(fd)
            if stat.st_size >= FILE_BYTES:
                self.close()
                self._map, self._inode = mmap.mmap(fd, FILE_BYTES, prot=mmap.PROT_READ), stat.st_ino
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap."""
        if self._map is not None:
            self._map.close()
            self._map = None
