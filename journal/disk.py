"""The few disk operations that durability hangs on, behind one object so that tests can cut the power.

Rule: the writer and recovery change files through a ``Disk`` only. Reading needs none of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1 << 20
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_ZEROS: Final = bytes(CHUNK_BYTES)


class Disk:
    """The real disk. Every method may raise OSError."""

    def make_folder(self, folder: Path) -> None:
        """Create the folder, readable by its owner only, and make its name durable."""
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self.fsync_folder(folder.parent)

    def open(self, path: Path, *, create: bool = False) -> int:
        """Return a descriptor for reading and writing; ``create`` starts an empty file."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        return os.open(path, flags, FILE_MODE)

    def close(self, fd: int) -> None:
        """Give the descriptor back; says nothing about durability."""
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at ``offset``; return how many bytes were taken."""
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        """Return when the file's bytes (and its size) are on the medium."""
        os.fdatasync(fd)

    def write_synced(self, fd: int, data: bytes, offset: int) -> bool:
        """Write and sync in one where this disk can (``journal.direct``); False = nothing was done."""
        return False

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target``; durable after ``fsync_folder``."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        path.unlink(missing_ok=True)

    def fsync_folder(self, folder: Path) -> None:
        """Return when names created, replaced or removed in the folder are on the medium."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, folder: Path) -> int:
        """Return how many bytes this user may still write on the folder's file system."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize


def write_all(disk: Disk, fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write every byte; a disk that takes none is an error."""
    written = disk.pwrite(fd, data, offset)
    while written < len(data):
        more = disk.pwrite(fd, memoryview(data)[written:], offset + written)
        if more <= 0:
            raise OSError(f"wrote {written} of {len(data)} bytes")
        written += more


def fill_zeros(disk: Disk, fd: int, start: int, end: int, after_chunk: Callable[[int], None] | None = None) -> None:
    """Write zeros over [start, end) in chunks of 1 MiB.

    Written, not only reserved: a sync into unwritten extents costs 1.1-1.8 times as much (MEASURED section 1).
    """
    for at in range(start, end, CHUNK_BYTES):
        write_all(disk, fd, memoryview(_ZEROS)[: min(CHUNK_BYTES, end - at)], at)
        if after_chunk is not None:
            after_chunk(fd)
