"""SIGTERM and SIGINT as something a loop can wait for: a flag and a readable file descriptor, no work in handlers."""

from __future__ import annotations

import os
import signal
from types import FrameType


class StopSignal:
    """Set by SIGTERM or SIGINT. ``fd`` becomes readable then, so that a poll wakes up."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        os.write(self._write_fd, b"\0")

    @property
    def is_set(self) -> bool:
        """Whether the process was asked to stop."""
        return self.count > 0
