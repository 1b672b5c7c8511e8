"""The disk of the simulated machine: what was not synced is gone when the power goes, sector by sector.

Real files stand for the page cache: readers see them. Beside them the disk knows what the medium holds of each file
and which names are durable; ``cut_power`` leaves on the files what a machine would find when it comes back. One disk
outlives all processes that use it: what a killed process had not synced stays unsynced until somebody syncs it.

It also fails: a sync that errs, no space (only what makes files longer fails: overwriting needs none), an operation
in which the power goes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from journal.disk import Disk

SECTOR_BYTES = 512
FREE_BYTES = 1 << 40


class PowerCutError(SystemExit):
    """The machine went dark; no code of a dead machine runs on."""


class File:
    """One file: what the medium holds, and what was written since the last sync."""

    def __init__(self, durable: bytes | bytearray = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes]] = []
        self.size = len(durable)

    def write(self, data: bytes, offset: int) -> None:
        self.pending.append((offset, data))
        self.size = max(self.size, offset + len(data))

    def sync(self) -> None:
        for offset, data in self.pending:
            self._put(data, offset)
        self.pending.clear()

    def tear(self, random: Random) -> tuple[int, int]:
        """Leave what is there after the power went: of the unsynced sectors some, in no order; return (kept, lost)."""
        kept = lost = 0
        for offset, data in self.pending:
            share = random.choice((0.0, 0.5, 0.5, 0.5, 1.0))
            for at in range(0, len(data), SECTOR_BYTES):
                if random.random() < share:
                    self._put(data[at : at + SECTOR_BYTES], offset + at)
                    kept += 1
                else:
                    lost += 1
        self.pending.clear()
        self.size = len(self.durable)
        return kept, lost

    def _put(self, data: bytes, offset: int) -> None:
        if len(self.durable) < offset:
            self.durable.extend(bytes(offset - len(self.durable)))
        self.durable[offset : offset + len(data)] = data


class Folder:
    """Names of one folder: durable ones, and each change since the folder's last sync, in order."""

    def __init__(self) -> None:
        self.durable: dict[str, File] = {}
        self.current: dict[str, File] = {}
        self.changes: list[dict[str, File]] = []

    def change(self, name: str, file: File | None, *, gone: str = "") -> None:
        self.current.pop(gone, None)
        if file is None:
            self.current.pop(name, None)
        else:
            self.current[name] = file
        self.changes.append(dict(self.current))

    def sync(self) -> None:
        self.durable = dict(self.current)
        self.changes.clear()

    def tear(self, random: Random) -> None:
        """Names change in order: the power cut comes before, between or after them."""
        self.durable = random.choice([self.durable, *self.changes])
        self.current = dict(self.durable)
        self.changes.clear()


class SimulatedDisk(Disk):
    """journal.disk.Disk over real files that play the page cache.

    Attributes:
        before_sync: Called before each sync of a file: what others can see there is written and not durable.
        sync_fails_in: 1 = the next sync errs; 0 = none does.
        cut_in: 1 = the power goes in the next operation; 0 = in none.
        is_full: Nothing may grow.
        struck: Faults that took effect, for the table of what was reached.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.folders: dict[Path, Folder] = {}
        self.fds: dict[int, File] = {}
        self.before_sync: Callable[[], None] = lambda: None
        self.struck: Callable[[str], None] = lambda _: None
        self.sync_fails_in = 0
        self.cut_in = 0
        self.is_full = False

    # journal.disk.Disk

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._require_space()
        fd = super().open(path, create=create)
        folder = self._folder(path.parent)
        if create:
            self.fds[fd] = File()
            folder.change(path.name, self.fds[fd])
        else:
            self.fds[fd] = folder.current.setdefault(path.name, File(path.read_bytes()))
        return fd

    def close(self, fd: int) -> None:
        self.fds.pop(fd, None)
        super().close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        file = self.fds[fd]
        if offset + len(data) > file.size:
            self._require_space()
        file.write(bytes(data), offset)
        written = os.pwrite(fd, data, offset)
        self._tick()
        return written

    def fdatasync(self, fd: int) -> None:
        self.before_sync()
        if self.sync_fails_in:
            self.sync_fails_in -= 1
            if not self.sync_fails_in:
                self.struck("sync failed")
                raise OSError(errno.EIO, "planted")
        self._tick()
        self.fds[fd].sync()
        self._tick()

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        folder = self._folder(source.parent)
        folder.change(target.name, folder.current.get(source.name), gone=source.name)
        self._tick()

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._folder(path.parent).change(path.name, None)

    def fsync_folder(self, folder: Path) -> None:
        self._tick()
        self._folder(folder).sync()
        self._tick()

    def free_bytes(self, folder: Path) -> int:
        if self.is_full:
            self.struck("disk full")
        return 0 if self.is_full else FREE_BYTES

    # What happens to it

    def heal(self) -> None:
        """Nothing fails any more."""
        self.sync_fails_in = self.cut_in = 0
        self.is_full = False

    def cut_power(self) -> None:
        """Leave on disk what a machine would find when it comes back; unknown files (a map, a mark) may be there."""
        for path, folder in self.folders.items():
            before = set(folder.current)
            folder.tear(self.random)
            for file in folder.current.values():
                kept, lost = file.tear(self.random)
                if lost:
                    self.struck("lost write")
                if kept and lost:
                    self.struck("torn write")
            for name in before:
                (path / name).unlink(missing_ok=True)
            for name, file in folder.current.items():
                (path / name).write_bytes(file.durable)
            if self.random.random() < 0.5:
                (path / "durable").unlink(missing_ok=True)

    def durable(self, folder: Path, suffix: str) -> dict[str, bytearray]:
        """Return what the medium holds under the durable names that end so."""
        known = self.folders.get(folder)
        return {n: f.durable for n, f in known.durable.items() if n.endswith(suffix)} if known else {}

    def take_over(self, other: SimulatedDisk, source: Path, target: Path) -> None:
        """Take the volume that another machine had: what is on its medium, and of what is not, some."""
        known = self.folders[target] = Folder()
        for name, theirs in other._folder(source).durable.items():
            file = known.current[name] = File(theirs.durable)
            file.pending = list(theirs.pending)
            file.tear(self.random)
            (target / name).write_bytes(file.durable)
        known.sync()

    def close_all(self) -> None:
        """The processes are gone, and their descriptors with them."""
        for fd in list(self.fds):
            self.close(fd)

    def _folder(self, path: Path) -> Folder:
        return self.folders.setdefault(path, Folder())

    def _require_space(self) -> None:
        if self.is_full:
            self.struck("disk full")
            raise OSError(errno.ENOSPC, "planted")

    def _tick(self) -> None:
        """Let the power go where it shall: before or after an operation takes effect."""
        if self.cut_in:
            self.cut_in -= 1
            if not self.cut_in:
                raise PowerCutError


class LogOs:
    """``os`` as venues.core.log sees it: its files lie on the simulated disk too."""

    def __init__(self, disk: SimulatedDisk, hit: Callable[[str], None]) -> None:
        self._disk = disk
        self._hit = hit
        self._folders: dict[int, Path] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECTORY:
            fd = os.open(path, flags)
            self._folders[fd] = path
            return fd
        if path.name.endswith(".lock"):
            return os.open(path, flags, mode)
        fd = os.open(path, flags, mode)
        file = self._disk.fds[fd] = File()
        self._disk.folders.setdefault(path.parent, Folder()).change(path.name, file)
        return fd

    def close(self, fd: int) -> None:
        self._folders.pop(fd, None)
        self._disk.fds.pop(fd, None)
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._disk.fds[fd].write(bytes(data), offset)
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self._hit("gateway.in_sync")
        self._disk.fds[fd].sync()

    def fsync(self, fd: int) -> None:
        if fd in self._folders:
            path = self._folders[fd]
            folder = self._disk.folders.setdefault(path, Folder())
            for name in [n for n in folder.current if not (path / n).exists()]:
                del folder.current[name]
            folder.sync()
            return
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))  # opened elsewhere, to be cut
        file = self._disk.folders[path.parent].current[path.name]
        file.durable[:] = path.read_bytes()
        file.pending.clear()
        file.size = len(file.durable)
