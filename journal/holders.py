"""What each local reader has seen, so that no start cuts away what somebody already used (DESIGN 6.2).

Rule: a holder's file is durable before the holder uses a record up to its seq. A file that can't be read
counts as having seen everything (DECISIONS 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from journal.disk import Disk, write_all
from protocol.errors import LocalProtocolError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LINE: Final = re.compile(r"(\d+) ([0-9a-f]{8}) ([0-9a-f]{8})\n")


class Held(NamedTuple):
    """A holder has seen records up to ``seq``; ``crc`` is the chain at the end of its batch. None = unreadable."""

    name: str
    seq: int | None
    crc: int = 0


class Holder:
    """One reader's own mark.

    Raises:
        LocalProtocolError: If the name can't be a file name.
    """

    def __init__(self, folder: Path, name: str, disk: Disk | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise LocalProtocolError(f"holder name expected {_NAME.pattern}, was {name!r}")
        self._disk = disk or Disk()
        self._folder = folder / "holders"
        self._path = self._folder / name
        self._disk.make_folder(self._folder)

    def read(self) -> Held:
        """Return what this holder has said before; seq 0 if nothing."""
        return _read(self._path) if self._path.exists() else Held(self._path.name, 0)

    def advance(self, seq: int, crc: int) -> None:
        """Say durably that records up to ``seq`` are about to be used. Two syncs."""
        temporary = self._path.with_suffix(".tmp")
        body = f"{seq} {crc:08x}"
        line = f"{body} {crc32(body.encode()):08x}\n".encode()
        fd = self._disk.open(temporary, create=True)
        try:
            write_all(self._disk, fd, line, 0)
            self._disk.fdatasync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(temporary, self._path)
        self._disk.fsync_folder(self._folder)


def holders(folder: Path) -> list[Held]:
    """Return every holder of the journal, by name."""
    place = folder / "holders"
    names = sorted(p for p in place.iterdir() if p.suffix != ".tmp") if place.is_dir() else []
    return [_read(p) for p in names]


def forget(folder: Path, names: Iterable[str], disk: Disk | None = None) -> None:
    """Remove what these holders have said. Only after a cut that an operator accepted: they must begin anew."""
    disk = disk or Disk()
    for name in names:
        disk.remove(folder / "holders" / name)
    disk.fsync_folder(folder / "holders")


def _read(path: Path) -> Held:
    match = _LINE.fullmatch(path.read_text("ascii", "replace"))
    if match is None or int(match[3], 16) != crc32(f"{match[1]} {match[2]}".encode()):
        return Held(path.name, None)
    return Held(path.name, int(match[1]), int(match[2], 16))
