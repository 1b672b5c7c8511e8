"""The journal as the medium holds it, read from docs alone: no reader, no watermark, no recovery of ours is used.

Follows the synced bytes of the simulated disk. What was once durable must stay, byte for byte, in every life;
numbers go up by one, without a gap and without a second use; the chain holds.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tests.simulation.disk import SimulatedDisk

MAGIC = 0x31424B57
FRAME = struct.Struct("<IIIIQQQII")  # magic crc body records first_seq now prev_durable epoch prev_crc
LENGTH = struct.Struct("<I")
HEAD_BYTES = 64


class Durable(NamedTuple):
    """One record on the medium."""

    seq: int
    now_ns: int
    position: int
    data: bytes
    epoch: int


class Medium:
    """What is durable of one journal, from its first record on.

    Attributes:
        seq: The last durable record.
        epoch: The one that wrote it.
    """

    def __init__(self, disk: SimulatedDisk, folder: Path) -> None:
        self._disk = disk
        self.folder = folder
        self.seq = 0
        self.epoch = 0
        self._crc = 0
        self._segment = 1
        self._offset = HEAD_BYTES
        self._frames: list[tuple[int, int, int, int]] = []  # (segment, offset, crc, bytes) of all that was seen

    def read(self) -> list[Durable]:
        """Return the records that became durable since the last call."""
        files = self._disk.durable(self.folder, ".wal")
        found: list[Durable] = []
        while True:
            data = files.get(f"{self._segment:06d}.wal")
            if data is None:
                return found
            frame = self._frame(data)
            if frame is None:
                if f"{self._segment + 1:06d}.wal" not in files:
                    return found
                self._segment, self._offset = self._segment + 1, HEAD_BYTES
                continue
            found += self._take(data, *frame)

    def read_again(self, disk: SimulatedDisk, folder: Path) -> list[Durable]:
        """After a restart, maybe elsewhere: everything seen before must be there as it was."""
        self._disk, self.folder = disk, folder
        files = disk.durable(folder, ".wal")
        for segment, offset, crc, size in self._frames:
            data = files.get(f"{segment:06d}.wal", b"")
            whole = bytes(data[offset : offset + size])
            assert len(whole) == size, f"what was durable is gone: segment {segment} offset {offset}"
            assert FRAME.unpack_from(whole)[1] == crc == crc32(whole[8:]), "what was durable has changed"
        return self.read()

    def _frame(self, data: bytearray) -> tuple[int, ...] | None:
        at = self._offset
        if len(data) - at < FRAME.size:
            return None
        magic, crc, body_bytes, *rest = FRAME.unpack_from(data, at)
        end = at + FRAME.size + body_bytes
        if magic != MAGIC or len(data) < end or crc32(memoryview(data)[at + 8 : end]) != crc:
            return None  # torn, or not yet written
        return (crc, body_bytes, *rest)

    def _take(
        self, data: bytearray, crc: int, body_bytes: int, records: int, first_seq: int, now_ns: int, _: int, epoch: int,
        prev_crc: int,
    ) -> list[Durable]:  # fmt: skip
        assert first_seq == self.seq + 1, f"record {first_seq} on the medium behind record {self.seq}"
        assert prev_crc == self._crc, f"the chain breaks at record {first_seq}"
        assert epoch >= self.epoch, f"epoch {epoch} wrote after epoch {self.epoch}"
        start, at = self._offset, self._offset + FRAME.size
        found: list[Durable] = []
        for seq in range(first_seq, first_seq + records):
            (size,) = LENGTH.unpack_from(data, at)
            body = bytes(data[at + LENGTH.size : at + LENGTH.size + size])
            found.append(Durable(seq, now_ns, self._segment << 32 | at, body, epoch))
            at += LENGTH.size + size
        assert at == start + FRAME.size + body_bytes
        self._frames.append((self._segment, start, crc, at - start))
        self._offset, self._crc, self.epoch, self.seq = at, crc, epoch, first_seq + records - 1
        return found
