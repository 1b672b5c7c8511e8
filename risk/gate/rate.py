"""Exact rate limits: a log of the last accept times, never a bucket (RISK.md A5).

A sliding log guarantees at most N in *any* interval of length W; a token bucket with burst N lets 2N - 1 through,
a calendar second 2N.
"""

from __future__ import annotations

from collections import deque


class RateLog:
    """At most ``count`` charges in any interval of ``window_ns``, and ``reserve_exit`` more for exits."""

    __slots__ = ("count", "reserve_exit", "times", "window_ns")

    def __init__(self, count: int, window_ns: int, reserve_exit: int) -> None:
        self.count = count
        self.window_ns = window_ns
        self.reserve_exit = reserve_exit
        self.times: deque[int] = deque(maxlen=max(1, count + reserve_exit))

    def allows(self, now_ns: int, is_exit: bool) -> bool:
        """Whether one more at ``now_ns`` keeps the bound; the window is (now - W, now]."""
        most = self.count + self.reserve_exit if is_exit else self.count
        if most <= 0:
            return False
        times = self.times
        return len(times) < most or now_ns - times[-most] >= self.window_ns

    def charge(self, now_ns: int) -> None:
        """Count one."""
        self.times.append(now_ns)

    def in_window(self, now_ns: int) -> int:
        """Return how many were charged within the window that ends now."""
        return sum(now_ns - t < self.window_ns for t in self.times)

    def with_limit(self, count: int, window_ns: int, reserve_exit: int) -> RateLog:
        """Return a log under other parameters that remembers the same charges."""
        changed = RateLog(count, window_ns, reserve_exit)
        changed.times.extend(self.times)
        return changed
