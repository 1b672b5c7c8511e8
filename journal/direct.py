"""Writes past the page cache: one call writes a batch and returns when the medium has it.

A sync of cached pages costs the kernel some 40 µs beside the medium's own time (decision 42): it copies, marks,
collects and waits. Here whole blocks go from our own aligned buffer, written and synced in one (RWF_DSYNC). Rules:
the file's bytes exist before, zero-filled, so nothing but data moves; the block in which a batch begins is written
again as it stands, with what was durable in it, which is what the page cache does too; what lies behind the batch in
its last block is zeros before and after. Readers go through the page cache as ever: the kernel drops its pages of
what was written here, so who reads what is durable reads it from the medium.
"""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path
from typing import Final

from journal.disk import FILE_MODE, Disk

BLOCK_BYTES: Final = 4_096  # of any medium and file system that we know: a multiple of what they ask for
BUFFER_BYTES: Final = 1 << 20
PROBE: Final = "direct.tmp"


class DirectDisk(Disk):
    """The real disk, whose journal is written past the page cache.

    Args:
        buffer_bytes: Whole blocks. Batches that need more, with the block that they begin in, go through the cache.
    """

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._buffer_bytes = buffer_bytes
        self._files: dict[int, _File] = {}

    def close(self, fd: int) -> None:
        """Give the descriptor back, and ours of the same file."""
        file = self._files.pop(fd, None)
        if file is not None:
            file.close()
        super().close(fd)

    def write_synced(self, fd: int, data: bytes, offset: int) -> bool:
        """Write and sync in one; False = nothing was done, whole blocks of it fit neither buffer nor file."""
        file = self._files.get(fd)
        if file is None:
            file = self._files[fd] = _File(fd, self._buffer_bytes)
        end = offset + len(data)
        if -(-end // BLOCK_BYTES) * BLOCK_BYTES > file.size or offset % BLOCK_BYTES + len(data) > self._buffer_bytes:
            return False
        file.write(data, offset)
        return True


class _File:
    """One file of a fixed size, written from its end on: the buffer begins with the block of the next batch."""

    def __init__(self, fd: int, buffer_bytes: int) -> None:
        self._cached_fd = fd
        self.size = os.fstat(fd).st_size
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        self._buffer = memoryview(mmap(-1, buffer_bytes))  # page-aligned
        self._end = -1  # where the last batch ended; -1 = the buffer says nothing

    def write(self, data: bytes, offset: int) -> None:
        buffer = self._buffer
        head = offset % BLOCK_BYTES
        start = offset - head
        if offset != self._end:
            buffer[:head] = os.pread(self._cached_fd, head, start)
        end = head + len(data)
        padded = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        buffer[head:end] = data
        buffer[end:padded] = bytes(padded - end)
        self._end = -1
        written = os.pwritev(self._fd, [buffer[:padded]], start, os.RWF_DSYNC)
        if written != padded:
            raise OSError(f"wrote {written} of {padded} bytes past the page cache")
        last = end - end % BLOCK_BYTES
        buffer[: end - last] = buffer[last:end]
        self._end = offset + len(data)

    def close(self) -> None:
        os.close(self._fd)  # the buffer goes with us


def can_write_directly(folder: Path) -> str:
    """Return why files of this folder can't be written past the page cache; empty if they can."""
    path = folder / PROBE
    disk = DirectDisk()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        try:
            os.pwrite(fd, bytes(BLOCK_BYTES), 0)
            os.fdatasync(fd)
            disk.write_synced(fd, b"probe", 0)
            found = os.pread(fd, 5, 0)
        finally:
            disk.close(fd)
            path.unlink()
    except (OSError, AttributeError) as e:  # AttributeError: no such call on this system
        return str(e)
    return "" if found == b"probe" else f"read {found!r} after writing b'probe'"
