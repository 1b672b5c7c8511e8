"""What the engine counts: outcomes by kind and code, latencies as HDR histograms. Never read by a decision."""

from __future__ import annotations

from typing import Final

from hdrh.histogram import HdrHistogram

from protocol.codes import Code

LATENCY_NS_MAX: Final = 60_000_000_000
SIGNIFICANT_DIGITS: Final = 3
PERCENTILES: Final = (50.0, 99.0, 99.9)


class Latency:
    """Durations since the last reading, in ns; a batch counts once per command in it."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)

    def record(self, duration_ns: int, count: int = 1) -> None:
        """Count ``count`` commands that took ``duration_ns``."""
        self._histogram.record_value(min(max(1, duration_ns), LATENCY_NS_MAX), count)

    def take(self) -> dict[str, int]:
        """Return count and percentiles in ns, and begin anew."""
        histogram = self._histogram
        reading = {"count": histogram.get_total_count(), "max": histogram.get_max_value()}
        for percentile in PERCENTILES:
            reading[f"p{percentile:g}"] = histogram.get_value_at_percentile(percentile)
        histogram.reset()
        return reading


class Meters:
    """Counters since the start of this process."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.cancels = 0
        self.fills = 0
        self.failed = 0
        self.reports_refused = 0
        self.rejected: dict[Code, int] = {}
        self.receive_to_durable = Latency()
        self.sync = Latency()

    def refuse(self, code: Code) -> None:
        """Count a refusal."""
        self.rejected[code] = self.rejected.get(code, 0) + 1
