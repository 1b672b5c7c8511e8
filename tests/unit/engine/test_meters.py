"""Latencies are kept to 1.6 % whatever their size, and reading them begins anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.meters import BITS_MAX, Latency


@given(st.lists(st.integers(0, (1 << BITS_MAX) - 1), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_sorted_values_to_two_per_cent(values: list[int]) -> None:
    """Against sorting: the smallest value that enough of the others do not exceed."""
    latency = Latency()
    for value in values:
        latency.record(value)
    ordered = sorted(values)

    reading = latency.take()

    assert reading["count"] == len(values)
    assert reading["max"] == ordered[-1]
    for name, rank in (("p50", 500), ("p99", 990), ("p99.9", 999)):
        exact = ordered[-(-len(values) * rank // 1000) - 1]
        assert exact <= reading[name] <= exact + exact // 64 + 1
    assert latency.take()["count"] == 0


def test_a_batch_counts_once_per_command() -> None:
    """One long batch of many outweighs a short one of few."""
    latency = Latency()
    latency.record(1_000, count=1)
    latency.record(1_000_000, count=99)

    assert latency.take()["p50"] > 900_000


def test_what_is_beyond_the_scale_counts_as_the_longest() -> None:
    """No duration can break the histogram."""
    latency = Latency()
    latency.record(1 << 60)
    latency.record(-5)

    assert latency.take()["count"] == 2
