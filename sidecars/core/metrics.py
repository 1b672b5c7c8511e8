"""What a sidecar counts, under the names all sources share (SOURCES section 1), as Prometheus text.

Plain integers and small arrays while orders pass; the Prometheus families are made when somebody asks. A latency
histogram has four buckets per power of two, so a reading is at most 25 % off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

PREFIX: Final = "wojak_sidecar_"
SUB_BITS: Final = 2
POWERS: Final = 26  # up to 67 s in µs
NS_PER_US: Final = 1_000


class Latency:
    """A histogram of durations given in ns, kept in µs."""

    __slots__ = ("buckets", "sum_us")

    def __init__(self) -> None:
        self.buckets = [0] * ((POWERS + 1) << SUB_BITS)
        self.sum_us = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; what is negative counts as 0, what is longer than the last bucket in that."""
        us = max(0, duration_ns // NS_PER_US)
        self.sum_us += us
        self.buckets[min(bucket_of(us), len(self.buckets) - 1)] += 1

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """Yield (upper bound in seconds, count up to it), as Prometheus wants them."""
        total = 0
        for index, count in enumerate(self.buckets):
            total += count
            yield str(upper_us(index) / 1e6), total
        yield "+Inf", total


def bucket_of(us: int) -> int:
    """Return the bucket of a duration: exact below 8 µs, then four per power of two."""
    if us < 1 << (SUB_BITS + 1):
        return us
    shift = us.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (us >> shift)


def upper_us(index: int) -> int:
    """Return the largest duration of a bucket in µs."""
    if index < 1 << (SUB_BITS + 1):
        return index
    shift = (index >> SUB_BITS) - 1
    return ((index - (shift << SUB_BITS) + 1) << shift) - 1


class Metrics(Collector):
    """Counters, gauges and latencies of one sidecar."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.received = 0
        self.forwarded = 0
        self.settled_ok = 0
        self.settled_reject = 0
        self.settled_parked = 0
        self.handed_back = 0
        self.abandoned = 0
        self.lost_lease = 0
        self.redelivered = 0
        self.settle_errors = 0
        self.extensions_ok = 0
        self.extensions_failed = 0
        self.reconnects = 0
        self.paused_ns = 0
        self.in_flight = 0
        self.credits = 0
        self.epoch = 0
        self.oldest_unsettled_ns = 0
        self.broker_lag = -1
        self.broker_oldest_age_ns = -1
        self.answers: dict[str, int] = {}
        self.receive_to_submit = Latency()
        self.submit_to_outcome = Latency()
        self.settle_latency = Latency()
        self.receive_to_settle = Latency()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the Prometheus exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield the families; called by Prometheus' registry."""
        yield from self._counters()
        yield from self._gauges()
        for name, text, latency in (
            ("receive_to_submit", "From the receipt of a delivery to its submit", self.receive_to_submit),
            ("submit_to_outcome", "From the submit to the engine's outcome", self.submit_to_outcome),
            ("settle_latency", "From the outcome to the settled delivery", self.settle_latency),
            ("receive_to_settle", "From the receipt to the settled delivery", self.receive_to_settle),
        ):
            family = HistogramMetricFamily(f"{PREFIX}{name}_seconds", text, labels=["source"])
            family.add_metric([self._source], list(latency.cumulative()), latency.sum_us / 1e6)
            yield family

    def _counters(self) -> Iterator[Metric]:
        for name, text, value in (
            ("received", "Deliveries received from the source", self.received),
            ("forwarded", "Deliveries submitted to the engine, repeats included", self.forwarded),
            ("handed_back", "Deliveries given back because the engine had not taken them", self.handed_back),
            ("abandoned", "Deliveries left without an outcome that the engine may have taken", self.abandoned),
            ("lost_lease", "Deliveries whose lease ended first", self.lost_lease),
            ("redelivered", "Deliveries that the source says came before", self.redelivered),
            ("settle_errors", "Settles that failed and were tried again", self.settle_errors),
            ("reconnects", "Engine sessions after the first", self.reconnects),
            ("paused_seconds", "Time without an open engine session", self.paused_ns / 1e9),
        ):
            family = CounterMetricFamily(PREFIX + name, text, labels=["source"])
            family.add_metric([self._source], value)
            yield family
        for name, text, pairs in (
            (
                "settled",
                "Deliveries settled",
                (("ok", self.settled_ok), ("reject", self.settled_reject), ("parked", self.settled_parked)),
            ),
            (
                "lease_extensions",
                "Lease extensions",
                (("ok", self.extensions_ok), ("failed", self.extensions_failed)),
            ),
        ):
            family = CounterMetricFamily(PREFIX + name, text, labels=["source", "result"])
            for result, value in pairs:
                family.add_metric([self._source, result], value)
            yield family

        if self.answers:
            family = CounterMetricFamily(
                f"{PREFIX}answers", "Answers to callers by status", labels=["source", "status"]
            )
            for status, count in self.answers.items():
                family.add_metric([self._source, status], count)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        for name, text, value in (
            ("in_flight", "Deliveries submitted and unanswered", self.in_flight),
            ("credits", "What the engine lets be unanswered", self.credits),
            ("epoch", "Epoch of the engine spoken with", self.epoch),
            ("oldest_unsettled_age_seconds", "Age of the oldest unsettled delivery", self.oldest_unsettled_ns / 1e9),
            ("broker_lag", "Messages that wait at the broker", self.broker_lag),
            ("broker_oldest_age_seconds", "Age of the oldest of them", self.broker_oldest_age_ns / 1e9),
        ):
            if value >= 0:
                family = GaugeMetricFamily(PREFIX + name, text, labels=["source"])
                family.add_metric([self._source], value)
                yield family
