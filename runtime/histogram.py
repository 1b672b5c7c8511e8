"""Counts of durations and sizes on a log-linear scale, as an HDR histogram keeps them: 64 steps a power of two.

One owner records; others get snapshots. Our own few lines and not the HdrHistogram package, because reading that
one's percentiles takes 5-10 ms, during which a decision thread would stand still. Recording allocates nothing;
values are kept to 1.6 %, whatever their size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from operator import sub
from typing import Final, NamedTuple

SUB_BITS: Final = 6
SUB_COUNT: Final = 1 << SUB_BITS
EXACT: Final = 2 * SUB_COUNT  # below this each value has its own place
BITS_MAX: Final = 36  # 68 s in ns; longer counts as that
BINS: Final = (BITS_MAX - SUB_BITS + 1) * SUB_COUNT
PERCENTILES: Final = (("p50", 500), ("p99", 990), ("p99.9", 999))  # per mille


class Reading(NamedTuple):
    """A histogram at one instant: counts since its start, and the largest value since the snapshot before."""

    counts: list[int]
    total: int
    sum: int
    max: int


class Histogram:
    """What one thread records; whoever else wants to know gets ``snapshot`` from it."""

    __slots__ = ("_counts", "_max", "_sum", "_total")

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._total = 0
        self._sum = 0
        self._max = 0

    def record(self, value: int, count: int = 1) -> None:
        """Count ``value`` ``count`` times; what is negative counts as 0."""
        if value < EXACT:
            value = max(value, 0)
            index = value
        else:
            shift = value.bit_length() - SUB_BITS - 1
            index = (shift << SUB_BITS) + (value >> shift)
            if index >= BINS:
                index = BINS - 1
        self._counts[index] += count
        self._total += count
        self._sum += value * count
        if value > self._max:  # noqa: PLR1730 -- a call of max costs as much as all the rest
            self._max = value

    def snapshot(self) -> Reading:
        """Return a copy that never changes, and begin a new largest value. A few µs: one copy of 1,984 counts."""
        reading = self.peek()
        self._max = 0
        return reading

    def peek(self) -> Reading:
        """Return a copy that never changes; the largest value goes on to the next snapshot."""
        return Reading(self._counts.copy(), self._total, self._sum, self._max)


EMPTY: Final = Histogram().snapshot()


def recent(readings: Sequence[Reading]) -> dict[str, int]:
    """Return count, largest value and percentiles of what came after the first of these readings."""
    if not readings:
        return recent((EMPTY, EMPTY))
    first, last = readings[0], readings[-1]
    seen = list(accumulate(map(sub, last.counts, first.counts)))
    count = last.total - first.total
    answer = {"count": count, "max": max((r.max for r in readings[1:]), default=0)}
    for name, rank in PERCENTILES:
        place = bisect_left(seen, -(-count * rank // 1000))
        answer[name] = min(upper(place), answer["max"]) if count else 0
    return answer


def up_to(reading: Reading, bounds: Sequence[int]) -> list[int]:
    """Return how many values were at most each of the ascending ``bounds``, to the precision of the histogram."""
    total, start = 0, 0
    answer: list[int] = []
    for bound in bounds:
        end = _bins_within(bound)
        total += sum(reading.counts[start:end])
        start = end
        answer.append(total)
    return answer


def upper(index: int) -> int:
    """Return the largest value that a place of the histogram stands for."""
    shift = max(0, (index >> SUB_BITS) - 1)
    return ((index - (shift << SUB_BITS) + 1) << shift) - 1


def _bins_within(bound: int) -> int:
    """Return the number of places that hold no value above ``bound``."""
    return bisect_left(_UPPERS, bound + 1)


_UPPERS: Final = [upper(index) for index in range(BINS)]
