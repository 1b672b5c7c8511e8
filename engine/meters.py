"""What the engine counts: outcomes by kind and code, latencies in log-linear histograms. Never read by a decision."""

from __future__ import annotations

from typing import Final

from protocol.codes import Code

SUB_BITS: Final = 6
SUB_COUNT: Final = 1 << SUB_BITS
BITS_MAX: Final = 36  # 68 s; longer counts as that
PERCENTILES: Final = (500, 990, 999)  # per mille


class Latency:
    """Durations since the last reading, in ns; a batch counts once per command in it.

    A histogram with 64 steps a power of two: values are kept to 1.6 %. Our own twenty lines and not the HdrHistogram
    package, because reading that one's percentiles takes 5-10 ms, during which the decision thread would stand still.
    """

    __slots__ = ("_counts", "_max", "_total")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._counts = [0] * ((BITS_MAX - SUB_BITS + 1) * SUB_COUNT)
        self._total = 0
        self._max = 0

    def record(self, duration_ns: int, count: int = 1) -> None:
        """Count ``count`` commands that took ``duration_ns``."""
        shift = max(0, min(duration_ns.bit_length(), BITS_MAX) - SUB_BITS - 1)
        index = (shift << SUB_BITS) + min(duration_ns >> shift, 2 * SUB_COUNT - 1)
        self._counts[max(0, index)] += count
        self._total += count
        self._max = max(self._max, duration_ns)

    def take(self) -> dict[str, int]:
        """Return count, largest and percentiles in ns, and begin anew. One pass over some 2,000 counts."""
        reading = {"count": self._total, "max": self._max}
        wanted = [(-(-self._total * rank // 1000), name) for rank, name in zip(PERCENTILES, _NAMES, strict=True)]
        seen = 0
        place = 0
        for index, count in enumerate(self._counts):
            seen += count
            while count and place < len(wanted) and seen >= wanted[place][0]:
                reading[wanted[place][1]] = _upper(index)
                place += 1
        for _, name in wanted[place:]:
            reading[name] = 0
        self._clear()
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


def _upper(index: int) -> int:
    """Return the largest duration that a place of the histogram stands for, ns."""
    shift = max(0, (index >> SUB_BITS) - 1)
    return ((index - (shift << SUB_BITS) + 1) << shift) - 1


_NAMES: Final = ("p50", "p99", "p99.9")
