"""Time enters the process here: wall time that never goes back, and jumps that are seen (DESIGN 6.16, DECISIONS 7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

JUMP_MAX_NS: Final = 5_000_000_000


def wall_ns() -> int:
    """Return UTC nanoseconds of the host's wall clock."""
    return time.time_ns()


def monotonic_ns() -> int:
    """Return nanoseconds of the host's monotonic clock."""
    return time.monotonic_ns()


class Reading(NamedTuple):
    """One look at the clock: ``now_ns`` never goes back; ``jump_ns`` > 0 when the wall clock leapt forward."""

    now_ns: int
    jump_ns: int


class EngineClock:
    """Wall time for decisions: max(last given, wall), with forward jumps measured against monotonic time.

    A jump is wall progress minus monotonic progress between two reads of one process, above 5 s; a restart is none.
    """

    def __init__(
        self,
        last_ns: int,
        wall: Callable[[], int] = wall_ns,
        monotonic: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last_ns = last_ns
        self._last_wall_ns = wall()
        self._last_monotonic_ns = monotonic()

    def read(self) -> Reading:
        """Return the time of one batch. Two clock calls."""
        wall = self._wall()
        monotonic = self._monotonic()
        jump = (wall - self._last_wall_ns) - (monotonic - self._last_monotonic_ns)
        self._last_wall_ns = wall
        self._last_monotonic_ns = monotonic
        self._last_ns = max(wall, self._last_ns)
        return Reading(self._last_ns, jump if jump > JUMP_MAX_NS else 0)
