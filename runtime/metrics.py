"""What a process tells of itself: its loop publishes snapshots on a board, readers make Prometheus text of them.

Rule: a reader never touches what a loop works on. The loop replaces whole snapshots, which never change afterwards,
and stores plain numbers; both are single assignments. So a slow or hostile reader costs the loop nothing but the
processor's time of the reader's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from runtime.histogram import EMPTY, Reading, recent, up_to

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
DURATION: Final = "duration"  # a histogram of ns, told in seconds
SIZE: Final = "size"  # a histogram of counts
SNAPSHOTS_MAX: Final = 6
PUBLISH_NS: Final = 1_000_000_000
NS_PER_S: Final = 1_000_000_000
US: Final = 1_000
DURATION_BOUNDS_NS: Final = tuple(
    step * US * 10**power for power in range(1, 8) for step in (1, 2, 5) if step * 10**power <= 10_000_000
)
"""10 µs to 10 s, three buckets a power of ten."""
SIZE_BOUNDS: Final = tuple(1 << power for power in range(14))
QUANTILES: Final = (("p50", "0.5"), ("p99", "0.99"), ("p99.9", "0.999"), ("max", "1"))

OBSERVED_AT: Final = "wojak_observed_at_seconds"

Labelled = Mapping[tuple[str, ...], float]


class Family(NamedTuple):
    """One metric: its full name, kind, meaning, and the names of its labels."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """A process at one instant. Values by family name: a number, or numbers by label values."""

    at_ns: int
    values: Mapping[str, float | Labelled]
    histograms: Mapping[str, Reading]


class Board:
    """What a loop tells the world. One writer; readers take ``snapshots`` and the plain fields as they are.

    Attributes:
        turned_ns: When the loop last began a turn, monotonic ns; 0 = it has not begun, or waits on purpose.
        not_ready: Why the process can't do its work now, one line each; empty = it can.
        snapshots: The newest last, one a second, at most ``SNAPSHOTS_MAX``.
    """

    __slots__ = ("_due_ns", "_recent", "not_ready", "snapshots", "turned_ns")

    def __init__(self) -> None:
        self.turned_ns = 0
        self.not_ready: tuple[str, ...] = ("starting",)
        self.snapshots: tuple[Snapshot, ...] = ()
        self._due_ns = 0
        self._recent: dict[str, dict[str, int]] = {}

    def is_due(self, now_ns: int) -> bool:
        """Whether the next snapshot is due."""
        return now_ns >= self._due_ns

    def publish(self, snapshot: Snapshot) -> None:
        """Make this the newest snapshot."""
        self._due_ns = snapshot.at_ns + PUBLISH_NS
        self._recent = {}
        self.snapshots = (*self.snapshots[1 - SNAPSHOTS_MAX :], snapshot)

    def recent(self, name: str) -> dict[str, int]:
        """Return count, max and percentiles of a histogram over the last five seconds; counted once a snapshot."""
        found = self._recent
        if name not in found:
            found[name] = recent_of(self.snapshots, name)
        return found[name]


def recent_of(snapshots: tuple[Snapshot, ...], name: str) -> dict[str, int]:
    """Return what came between the first and the last of these snapshots; of one alone: since the start."""
    readings = [s.histograms[name] for s in snapshots if name in s.histograms]
    return recent(readings if len(readings) >= SNAPSHOTS_MAX else [EMPTY, *readings])


class BoardCollector(Collector):
    """Snapshots as Prometheus families.

    Args:
        snapshots: Returns the snapshots now, the newest last.
        families: What of them is told.
        constant: Labels that every sample carries.
    """

    def __init__(
        self,
        snapshots: Callable[[], tuple[Snapshot, ...]],
        families: Iterable[Family],
        constant: Mapping[str, str] | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._families = tuple(families)
        constant = constant or {}
        self._names = tuple(constant)
        self._values = tuple(constant.values())

    def collect(self) -> Iterator[Metric]:
        """Yield the families; called by Prometheus' registry. What a snapshot does not hold has no samples."""
        snapshots = self._snapshots()
        last = snapshots[-1] if snapshots else Snapshot(0, {}, {})
        observed = GaugeMetricFamily(
            OBSERVED_AT, "When these numbers were taken, on the process's monotonic clock", labels=self._names
        )
        if snapshots:
            observed.add_metric(self._values, last.at_ns / NS_PER_S)
        yield observed
        for family in self._families:
            if family.kind in {DURATION, SIZE}:
                yield from self._histogram(family, last.histograms.get(family.name), snapshots)
            else:
                yield self._single(family, last.values.get(family.name, {}))

    def _single(self, family: Family, value: float | Labelled) -> Metric:
        kind = CounterMetricFamily if family.kind == COUNTER else GaugeMetricFamily
        made = kind(family.name, family.text, labels=(*self._names, *family.labels))
        for labels, number in value.items() if isinstance(value, Mapping) else (((), value),):
            made.add_metric((*self._values, *labels), number)
        return made

    def _histogram(self, family: Family, reading: Reading | None, snapshots: tuple[Snapshot, ...]) -> Iterator[Metric]:
        """Yield a histogram with fixed buckets, and its percentiles over the last seconds as gauges."""
        bounds, per_unit = (DURATION_BOUNDS_NS, NS_PER_S) if family.kind == DURATION else (SIZE_BOUNDS, 1)
        made = HistogramMetricFamily(family.name, family.text, labels=self._names)
        gauges = GaugeMetricFamily(
            recent_name(family), f"Percentiles of the last 5 s: {family.text}", labels=(*self._names, "quantile")
        )
        if reading is not None:
            counts = zip((str(bound / per_unit) for bound in bounds), up_to(reading, bounds), strict=True)
            made.add_metric(self._values, [*counts, ("+Inf", reading.total)], reading.sum / per_unit)
            figures = recent_of(snapshots, family.name)
            for figure, quantile in QUANTILES:
                gauges.add_metric((*self._values, quantile), figures[figure] / per_unit)
        yield made
        yield gauges


def recent_name(family: Family) -> str:
    """Return the name of a histogram's gauges: ``x_seconds`` has ``x_recent_seconds``."""
    head, _, unit = family.name.rpartition("_")
    return f"{head}_recent_{unit}"


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """Return a registry of these and of the process itself: memory, processor time, open files."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def text_of(registry: CollectorRegistry) -> bytes:
    """Return the Prometheus exposition."""
    return generate_latest(registry)
