"""Exact rate limits: a log of the last accept times, never a bucket (RISK.md A5).

A sliding log guarantees at most N in *any* interval of length W; a token bucket with burst N lets 2N - 1 through,
a calendar second 2N.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

FORGET_EVERY: Final = 256
"""Charges between two looks at what left the window; at most twice as many are let go in one. A power of two."""
FORGET_MASK: Final = FORGET_EVERY - 1


class RateLog:
    """At most ``count`` charges in any interval of ``window_ns``, and ``reserve_exit`` more for exits.

    ``wider``: the log of another scope's row that binds too; of two windows neither need be the tighter one.
    ``room``: so many more pass for certain, whenever they come, so nobody has to look; 0 = ``allows`` says.
    """

    __slots__ = ("_charged", "_charged_ns", "count", "reserve_exit", "room", "times", "wider", "window_ns")

    def __init__(self, count: int, window_ns: int, reserve_exit: int, wider: RateLog | None = None) -> None:
        self.wider = wider
        self.count = count
        self.window_ns = window_ns
        self.reserve_exit = reserve_exit
        self.room = 0
        self.times: deque[int] = deque(maxlen=max(1, count + reserve_exit))
        self._charged_ns = -1
        self._charged: Any = -1

    def allows(self, now_ns: int, is_exit: bool) -> bool:
        """Whether one more at ``now_ns`` keeps the bound; the window is (now - W, now]."""
        most = self.count + self.reserve_exit if is_exit else self.count
        if most <= 0:
            return False
        times = self.times
        if len(times) >= most and now_ns - times[-most] < self.window_ns:
            return False
        if self.wider is not None and not self.wider.allows(now_ns, is_exit):
            return False
        self.room = self._room()
        return True

    def _room(self) -> int:
        """Return how many more no log can refuse: of what a log holds, all may be within the window."""
        own = self.count - len(self.times)
        if self.wider is not None:
            own = min(own, self.wider._room())
        return max(0, own)

    def charge(self, now_ns: int) -> None:
        """Count one."""
        self.room -= 1
        if now_ns != self._charged_ns:
            # Charges of one batch share one object: compiled, each would make its own, and free it a window later.
            self._charged_ns = now_ns
            self._charged = now_ns
        times = self.times
        times.append(self._charged)
        if not len(times) & FORGET_MASK:
            self._forget(now_ns)
        if self.wider is not None:
            self.wider.charge(now_ns)

    def _forget(self, now_ns: int) -> None:
        """Let go of charges that left the window: the clock of records never steps back, so they count no more."""
        times = self.times
        forget = times.popleft
        for _ in range(2):
            # One look for all of them: the youngest tells that the others left too.
            if len(times) < FORGET_EVERY or now_ns - times[FORGET_EVERY - 1] < self.window_ns:
                return
            for _ in range(FORGET_EVERY):
                forget()

    def refusing(self, now_ns: int, is_exit: bool) -> RateLog:
        """Return which of the logs refuses one more at ``now_ns``; the last one if none does."""
        if self.wider is None:
            return self
        alone = RateLog(self.count, self.window_ns, self.reserve_exit)
        alone.times = self.times
        return self.wider.refusing(now_ns, is_exit) if alone.allows(now_ns, is_exit) else self

    def in_window(self, now_ns: int) -> int:
        """Return how many were charged within the window that ends now."""
        return sum(now_ns - t < self.window_ns for t in self.times)

    def charges(self) -> list[list[int]]:
        """Return the times of each log; part of the state hash."""
        return [list(self.times), *(self.wider.charges() if self.wider is not None else [])]

    def copy(self) -> RateLog:
        """Return a log of its own with the same charges."""
        wider = self.wider.copy() if self.wider is not None else None
        return RateLog(self.count, self.window_ns, self.reserve_exit, wider).remember(self)

    def remember(self, charges: RateLog) -> RateLog:
        """Take over what another log was charged, under this one's limits; returns this one."""
        self.room = 0
        self.times.extend(charges.times)
        if self.wider is not None:
            self.wider.remember(charges.wider or charges)
        return self
