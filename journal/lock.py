"""One engine a journal: an exclusive lock on the folder (DESIGN 6.10).

The kernel drops it with the process, however that dies; the pid in the file is for the message only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from journal.disk import FILE_MODE, Disk
from journal.errors import JournalLockedError

_LOCKS: Final = Path("/proc/locks")


def lock_pid(folder: Path) -> int:
    """Return the process that holds the folder, 0 if none does; a look that never stands in anybody's way.

    Only what this host's kernel shows us: a holder in another container or on another host is not seen, so nothing
    may be changed on the strength of this. Taking the FolderLock is what decides.
    Source: proc_locks(5): ``1: FLOCK ADVISORY WRITE pid major:minor:inode start end``.
    """
    try:
        inode = str((folder / "lock").stat().st_ino)
        lines = _LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    for words in map(str.split, lines):
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5].rpartition(":")[2] == inode:
            return int(words[4])
    return 0


class FolderLock:
    """Holds the folder from construction to ``close``.

    Raises:
        JournalLockedError: If another process, or another lock of this one, holds it.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        (disk or Disk()).make_folder(folder)
        self.folder = folder
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise JournalLockedError(folder, pid) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another engine have the folder."""
        os.close(self._fd)
