"""One supervised process: its start, its log, its end, and when it may start again.

Rules: a child leads its own process group, so that Ctrl-C in a terminal reaches the supervisor alone; a child's log
stays below ``LOG_BYTES_MAX`` twice; a process that keeps dying is restarted ever more slowly, and not for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from runtime.clock import monotonic_ns, wall_ns

LOG_BYTES_MAX: Final = 8 << 20
STEADY_NS: Final = 10_000_000_000  # alive for this long: the next death is restarted at once again
BACKOFF_FIRST_NS: Final = 100_000_000
BACKOFF_MAX_NS: Final = 1_000_000_000
SHORT_LIVES_MAX: Final = 40
START_LIVES_MAX: Final = 3  # before a deployment was ready for the first time
TAIL_BYTES: Final = 4096


class Spec(NamedTuple):
    """What to run and how long it may take to stop.

    ``is_one_of_several``: the others go on without it. ``again_ms``: so often it is tried again when it can't run, for
    what it waits for is mended elsewhere; 0 = never.
    """

    name: str
    argv: tuple[str, ...]
    stop_within_ms: int
    is_one_of_several: bool = False
    again_ms: int = 0


class Ended(NamedTuple):
    """How a life ended; ``status`` as subprocess counts it, negative for a signal."""

    pid: int
    status: int
    at_ns: int


class Life:
    """A process that is started again when it dies."""

    def __init__(self, spec: Spec, log: Path) -> None:
        self.spec = spec
        self.log = log
        self.restarts = 0
        self.started_at_ns = 0
        self.ended: Ended | None = None
        self.given_up = False
        self.restart_due_ns: int | None = None
        self._short_lives = 0
        self._started_monotonic_ns = 0
        self._child: subprocess.Popen[bytes] | None = None
        self.pidfd = -1

    @property
    def pid(self) -> int:
        """Process id of the running life; 0 = none runs."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Start; ``pidfd`` becomes readable when it ends."""
        assert self._child is None
        with self.log.open("ab", buffering=0) as log:
            self._child = subprocess.Popen(  # noqa: S603 -- argv is ours, no shell
                self.spec.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pidfd = os.pidfd_open(self._child.pid)
        self.restart_due_ns = None
        self.started_at_ns = wall_ns()
        self._started_monotonic_ns = monotonic_ns()

    def reap(self) -> Ended:
        """Take the end of the life that ``pidfd`` announced."""
        assert self._child is not None
        ended = Ended(self._child.pid, self._child.wait(), wall_ns())
        os.close(self.pidfd)
        self.pidfd = -1
        self._child = None
        self.ended = ended
        return ended

    def schedule_restart(self, short_lives_max: int) -> bool:
        """Set when to start again: at once after a steady life; False when it died too often to go on."""
        now = monotonic_ns()
        if now - self._started_monotonic_ns >= STEADY_NS:
            self._short_lives = 0
        wait = min(BACKOFF_FIRST_NS << (self._short_lives - 1), BACKOFF_MAX_NS) if self._short_lives else 0
        self._short_lives += 1
        self.restarts += 1
        self.restart_due_ns = now + wait
        return self._short_lives <= short_lives_max

    @property
    def is_steady(self) -> bool:
        """Whether it runs for a while now."""
        return self.pid != 0 and monotonic_ns() - self._started_monotonic_ns >= STEADY_NS

    def signal(self, number: int) -> None:
        """Send a signal to the process and what it started."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def kill(self) -> None:
        """End it now."""
        self.signal(signal.SIGKILL)

    def rotate_log(self) -> None:
        """Keep the log bounded: copy what is there aside and cut it. Lines written in between are lost."""
        try:
            if self.log.stat().st_size < LOG_BYTES_MAX:
                return
            self.log.with_suffix(".log.1").write_bytes(self.log.read_bytes())
            os.truncate(self.log, 0)
        except FileNotFoundError:
            return

    def last_words(self) -> str:
        """Return the last lines of its log that belong together: an error message, or the final line."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").rstrip().splitlines()
        except FileNotFoundError:
            return ""
        start = len(lines) - 1
        while start > 0 and lines[start].startswith("  - "):
            start -= 1
        return "\n".join(lines[max(start, 0) :])


def argv_of(name: str, config: Path, ticks: Path | None) -> tuple[str, ...]:
    """Return the command line of a process of ours."""
    extra: Sequence[str] = ("--ticks", str(ticks)) if ticks is not None else ()
    return (sys.executable, "-m", "cli.run", name, "--config", str(config), "--parent", str(os.getpid()), *extra)
