"""When each message of an open loop is due, and what its latencies were: the same for every path.

Latency runs from the due time, never from the send: a server that stalls is charged for all that should have been
sent meanwhile (no coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, NamedTuple

from hdrh.histogram import HdrHistogram

LATENCY_NS_MAX: Final = 60_000_000_000
SIGNIFICANT_DIGITS: Final = 3
NS_PER_S: Final = 1_000_000_000
SEED: Final = 20_240_808


class Percentiles(NamedTuple):
    """Latencies of one run in ns, read from an HDR histogram of three digits."""

    samples: int
    p50: int
    p99: int
    p99_9: int
    max: int


def due_offsets_ns(count: int, rate_per_s: int, *, poisson: bool = False) -> list[int]:
    """Return when each of ``count`` messages is due, in ns after the first: evenly, or as a Poisson process."""
    if not poisson:
        return [n * NS_PER_S // rate_per_s for n in range(count)]
    draw = random.Random(SEED)
    at_ns = 0.0
    offsets: list[int] = []
    for _ in range(count):
        offsets.append(int(at_ns))
        at_ns += draw.expovariate(rate_per_s) * NS_PER_S
    return offsets


def percentiles(latencies_ns: Iterable[int]) -> Percentiles:
    """Return what an HDR histogram says of the latencies."""
    histogram = HdrHistogram(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
    for latency_ns in latencies_ns:
        histogram.record_value(min(max(1, latency_ns), LATENCY_NS_MAX))
    at = histogram.get_value_at_percentile
    return Percentiles(histogram.get_total_count(), at(50), at(99), at(99.9), histogram.get_max_value())
