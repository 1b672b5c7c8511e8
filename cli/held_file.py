"""A file that one process holds while it lives, with its pid in it: who comes second is told who was first."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from protocol.errors import WojakError


class HeldError(WojakError):
    """Another process holds the file."""

    code = "HELD"

    def __init__(self, path: Path, pid: str) -> None:
        self.path = path
        self.pid = pid
        super().__init__(f"{self.code}: {path} expected nobody to hold it, was held by pid {pid}; stop that one first")


def hold(path: Path) -> int:
    """Hold the file until its descriptor, which is returned, is closed or this process ends.

    Raises:
        HeldError: If another process holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise HeldError(path, pid) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd
