"""The trading day as state: what is left of a roll to do, and how far back keys are kept.

A roll does at once what is bounded and leaves the rest to steps, each in a record of its own: expiring open DAY orders,
retiring old keys. Both are lists or counters here, so an engine that dies between two steps goes on with the next.
"""

from __future__ import annotations

from collections import deque

Row = tuple[object, ...]


class TradingDay:
    """Since the last roll.

    Attributes:
        began_ns: When the last roll was, UTC nanoseconds; 0 = never.
        position: Of its record in the journal: keys taken before it are of earlier trading dates.
        earlier: Rolls before the last whose keys are still here, oldest first: began_ns and position in turn.
        retire_before: Keys first decided before this position leave when their order is over.
        part: The part of the dedup table that is retired next, of ``parts``; equal = nothing to do.
        expiring: Ids of DAY orders of earlier dates, still to be looked at.
        past_dates: Earlier trading dates under which orders were open at the last roll, newest first.
    """

    __slots__ = ("began_ns", "earlier", "expiring", "part", "parts", "past_dates", "position", "retire_before")

    def __init__(self) -> None:
        self.began_ns = 0
        self.position = 0
        self.earlier: list[int] = []
        self.retire_before = 0
        self.part = 0
        self.parts = 0
        self.expiring: deque[str] = deque()
        self.past_dates: list[int] = []

    @property
    def is_busy(self) -> bool:
        """Whether a step is left to do."""
        return self.part < self.parts or len(self.expiring) > 0

    def row(self) -> Row:
        """Return everything, for the state's hash."""
        return (
            self.began_ns, self.position, self.retire_before, self.part, self.parts, list(self.expiring),
            self.past_dates, self.earlier,
        )  # fmt: skip
