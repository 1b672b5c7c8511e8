"""Make the next segment ahead, so that the engine's roll is a rename and not 64 MiB of writing.

Rule: a segment under this temporary name is worth nothing; only the roll gives it a header and its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from journal.disk import Disk, fill_zeros
from journal.format import JournalSettings

NAME: Final = "next.tmp"


class _StoppedError(Exception):
    """The writer closes; the half-made segment is dropped."""


class NextSegment:
    """Zero-fills one file in a thread, or when it is taken if there is none."""

    def __init__(self, folder: Path, settings: JournalSettings, disk: Disk) -> None:
        self.path = folder / NAME
        self._settings = settings
        self._disk = disk
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._fd = -1

    def prepare(self) -> None:
        """Start making the file, unless settings say that the roll does."""
        if self._settings.prepare_ahead and self._thread is None:
            self._thread = threading.Thread(target=self._prepare, name="journal-next-segment", daemon=True)
            self._thread.start()

    def take(self) -> int:
        """Return the descriptor of a zero-filled, synced file at ``path``; waits for the thread or makes it here.

        Raises:
            OSError: If it can't be made.
        """
        if self._thread is not None:
            # What is left of its work is less than beginning again.
            self._thread.join()
            self._thread = None
        if self._fd < 0:
            self._fd = self._make(None)
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Stop the thread and drop the file."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._disk.remove(self.path)

    def _prepare(self) -> None:
        try:
            self._fd = self._make(self._sync_or_stop)
        except (OSError, _StoppedError):
            # The roll makes it again, and its error stops the engine with the reason named.
            self._disk.remove(self.path)

    def _make(self, after_chunk: Callable[[int], None] | None) -> int:
        fd = self._disk.open(self.path, create=True)
        try:
            fill_zeros(self._disk, fd, 0, self._settings.segment_bytes, after_chunk)
            self._disk.fdatasync(fd)
        except BaseException:
            self._disk.close(fd)
            raise
        return fd

    def _sync_or_stop(self, fd: int) -> None:
        """Sync chunk by chunk: one sync of 64 MiB would hold up the engine's own."""
        if self._stop.is_set():
            raise _StoppedError
        self._disk.fdatasync(fd)
