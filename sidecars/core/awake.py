"""When did this process surely run? A lease counts from the hand-over, and a frozen process does not see that pass.

Rule: what arrives just after the process did not run was perhaps sent long before: its lease is counted from the last
moment at which we surely ran. The loop's own beat tells; a stall of the loop alone is taken for a freeze, which errs on
the side of giving up too early (R7).
"""

from __future__ import annotations

from typing import Final

BEAT_S: Final = 0.1
STALL_NS: Final = 1_000_000_000


class Awake:
    """Told of each beat; times are monotonic nanoseconds."""

    def __init__(self, now_ns: int) -> None:
        self._beat_ns = self._before_ns = now_ns
        self._woke_ns = now_ns - STALL_NS

    def beat(self, now_ns: int) -> None:
        """Note that the loop runs."""
        if now_ns - self._beat_ns > STALL_NS:
            self._before_ns, self._woke_ns = self._beat_ns, now_ns
        self._beat_ns = now_ns

    def counted_from(self, arrived_ns: int) -> int:
        """Return from when the lease of what arrived then counts, at or before that."""
        if arrived_ns - self._beat_ns > STALL_NS:
            return self._beat_ns  # woken, and the loop has not noticed yet
        if arrived_ns - self._woke_ns < STALL_NS:
            return min(arrived_ns, self._before_ns)
        return arrived_ns
