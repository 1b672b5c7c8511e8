"""One word from a process under load, waited for without asking: a named pipe, and the end of any process of the stack.

Rule: who waits opens the pipe before the process that speaks is started, so that speaking never blocks.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchError

WORD_BYTES_MAX: Final = 4_096  # PIPE_BUF: it comes as a whole
NS_PER_MS: Final = 1_000_000


class Told:
    """A word that will be written to ``path``, once."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self) -> None:
        """Close; a process that speaks now would wait for nobody, so it has ended before."""
        os.close(self._fd)

    def wait(self, within_ns: int, pids: Iterable[int]) -> bytes:
        """Return the word.

        Args:
            within_ns: The most to wait.
            pids: Of children that must live meanwhile.

        Returns:
            What was said; nothing if one of the processes ended first.

        Raises:
            BenchError: If nothing was said in time.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        ends = [os.pidfd_open(pid) for pid in pids]
        for end in ends:
            poll.register(end, select.POLLIN)
        try:
            ready = poll.poll(within_ns // NS_PER_MS)
        finally:
            for end in ends:
                os.close(end)
        if not ready:
            raise BenchError(f"{self.path.name} expected a word within {within_ns} ns, heard none")
        return os.read(self._fd, WORD_BYTES_MAX) if any(fd == self._fd for fd, _ in ready) else b""
