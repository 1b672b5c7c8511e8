"""Durations and sizes are kept to 1.6 % whatever their size; snapshots never change; the last seconds stand apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.histogram import BITS_MAX, EMPTY, Histogram, recent, up_to

values_in_scale = st.lists(st.integers(0, (1 << BITS_MAX) - 1), min_size=1, max_size=200)


@given(values_in_scale, values_in_scale)
def test_percentiles_are_those_of_the_sorted_values_to_two_per_cent(earlier: list[int], values: list[int]) -> None:
    """Against sorting: the smallest value that enough of the others do not exceed, of the later ones alone."""
    histogram = Histogram()
    for value in earlier:
        histogram.record(value)
    before = histogram.snapshot()
    for value in values:
        histogram.record(value)
    ordered = sorted(values)

    figures = recent([before, histogram.snapshot()])

    assert figures["count"] == len(values)
    assert figures["max"] == ordered[-1]
    for name, rank in (("p50", 500), ("p99", 990), ("p99.9", 999)):
        exact = ordered[-(-len(values) * rank // 1000) - 1]
        assert exact <= figures[name] <= exact + exact // 64 + 1


@given(values_in_scale, st.lists(st.integers(0, 1 << BITS_MAX), min_size=1, max_size=20, unique=True).map(sorted))
def test_buckets_count_what_is_within_their_bound_to_two_per_cent(values: list[int], bounds: list[int]) -> None:
    """No value above a bound is ever counted within it, and none is missed that is 1.6 % below."""
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    reading = histogram.snapshot()

    counts = up_to(reading, bounds)

    assert reading.total == len(values)
    assert reading.sum == sum(values)
    for bound, count in zip(bounds, counts, strict=True):
        assert sum(v + v // 64 + 1 <= bound for v in values) <= count <= sum(v <= bound for v in values)


def test_a_batch_counts_once_per_command() -> None:
    """One long batch of many outweighs a short one of few."""
    histogram = Histogram()
    histogram.record(1_000, count=1)
    histogram.record(1_000_000, count=99)

    assert recent([EMPTY, histogram.snapshot()])["p50"] > 900_000


def test_what_is_beyond_the_scale_counts_as_the_longest_or_as_nothing() -> None:
    """No duration can break the histogram."""
    histogram = Histogram()
    histogram.record(1 << 60)
    histogram.record(-5)
    reading = histogram.snapshot()

    assert reading.total == 2
    assert (reading.counts[0], reading.counts[-1]) == (1, 1)


def test_a_snapshot_stays_as_it_was() -> None:
    """What is recorded later changes no snapshot, and a largest value counts in one snapshot only."""
    histogram = Histogram()
    histogram.record(7)
    first = histogram.snapshot()
    histogram.record(3)
    second = histogram.snapshot()

    assert (first.total, first.max, sum(first.counts)) == (1, 7, 1)
    assert (second.total, second.max) == (2, 3)


def test_nothing_recorded_reads_as_nothing() -> None:
    """Before the first value every figure is 0."""
    assert recent([]) == {"count": 0, "max": 0, "p50": 0, "p99": 0, "p99.9": 0}
