"""What a sidecar tells: each hop once per delivery, nothing it can't know, with bounded work for its readers."""

from __future__ import annotations

from sidecars.core.metrics import TEXT_NS, Metrics


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_each_hop_has_its_figures() -> None:
    """Counts, sums and percentiles carry the source; durations are in seconds."""
    metrics = Metrics("queue")
    for microseconds in (40, 400, 4_000):
        metrics.receive_to_submit.record(microseconds * 1_000)
    metrics.held = 3
    metrics.answers["201"] = 2

    told = lines(metrics)

    for line in (
        'wojak_sidecar_receive_to_submit_seconds_count{source="queue"} 3.0',
        'wojak_sidecar_receive_to_submit_seconds_sum{source="queue"} 0.00444',
        'wojak_sidecar_receive_to_submit_seconds_bucket{le="0.0005",source="queue"} 2.0',
        'wojak_sidecar_receive_to_submit_recent_seconds{quantile="1",source="queue"} 0.004',
        'wojak_sidecar_held{source="queue"} 3.0',
        'wojak_sidecar_answers_total{source="queue",status="201"} 2.0',
    ):
        assert line in told


def test_a_broker_that_tells_no_lag_has_none() -> None:
    """Absent, not 0 and not -1; there as soon as it is known."""
    metrics = Metrics("queue")
    assert not [line for line in lines(metrics) if line.startswith("wojak_sidecar_broker")]

    known = Metrics("queue")
    known.broker_lag, known.broker_oldest_age_ns = 0, 1_500_000_000

    assert 'wojak_sidecar_broker_lag{source="queue"} 0.0' in lines(known)
    assert 'wojak_sidecar_broker_oldest_age_seconds{source="queue"} 1.5' in lines(known)


def test_asking_without_end_makes_the_text_five_times_a_second() -> None:
    """Within a fifth of a second everybody gets the same text; after it, what is true then."""
    now_ns = [10**9]
    metrics = Metrics("queue", lambda: now_ns[0])
    first = metrics.text()
    metrics.received = 7
    now_ns[0] += TEXT_NS - 1
    assert metrics.text() is first

    now_ns[0] += 1

    assert 'wojak_sidecar_received_total{source="queue"} 7.0' in lines(metrics)


def test_a_reader_takes_no_largest_value_from_the_next() -> None:
    """Who asked between two snapshots has not used up what was longest."""
    now_ns = [10**9]
    metrics = Metrics("queue", lambda: now_ns[0])
    metrics.publish(now_ns[0])
    metrics.settle_latency.record(5_000_000)
    wanted = 'wojak_sidecar_settle_latency_recent_seconds{quantile="1",source="queue"} 0.005'
    assert wanted in lines(metrics)
    now_ns[0] += 10**9
    metrics.publish(now_ns[0])

    assert wanted in lines(metrics)
