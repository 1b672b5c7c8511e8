"""What ``wojak top`` and ``wojak status`` say in numbers: two looks at all processes go in, one Struct comes out. Pure.

Durations are ns and whole numbers, rates are a second; None where a process does not answer or nothing was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from cli.processes import HTTP, source_of
from cli.scrape import Scraped

NS_PER_S: Final = 1_000_000_000
RECENT: Final = "_recent"
BROKER_LAG: Final = "wojak_sidecar_broker_lag"
# Process, what happens, its histogram without the unit: the way of an order from top to bottom.
HOPS: Final = (
    ("http", "receive → submit", "wojak_sidecar_receive_to_submit"),
    ("engine", "receive → decided", "wojak_engine_receive_to_decided"),
    ("engine", "receive → durable", "wojak_engine_receive_to_durable"),
    ("engine", "receive → venue sent", "wojak_engine_receive_to_sent"),
    ("engine", "receive → answered", "wojak_engine_receive_to_answered"),
    ("http", "submit → outcome", "wojak_sidecar_submit_to_outcome"),
    ("http", "outcome → settled", "wojak_sidecar_settle_latency"),
    ("http", "receive → settled", "wojak_sidecar_receive_to_settle"),
    ("gateway", "receive → durable", "wojak_gateway_receive_to_durable"),
    ("gateway", "receive → reported", "wojak_gateway_receive_to_reported"),
    ("engine", "sync", "wojak_engine_sync"),
    ("gateway", "sync", "wojak_gateway_sync"),
    ("books", "transaction", "wojak_books_writer_step"),
)
SOURCE_HOPS: Final = tuple((what, name) for process, what, name in HOPS if process == "http")  # of sidecars as well
LOOPS: Final = {
    "engine": "wojak_engine_turn", "gateway": "wojak_gateway_turn", "feed": "wojak_feed_turn",
    "http": "wojak_sidecar_loop_late",
}  # fmt: skip
BATCHES: Final = (
    ("engine", "items a turn", "wojak_engine_turn", "items"),
    ("engine", "records a sync", "wojak_engine_sync", "records"),
    ("gateway", "commands a turn", "wojak_gateway_turn", "commands"),
    ("gateway", "reports a sync", "wojak_gateway_sync", "reports"),
    ("books", "records a transaction", "wojak_books_writer_step", "records"),
    ("feed", "ticks a turn", "wojak_feed_turn", "ticks"),
)


class Percentiles(Struct, frozen=True):
    """A histogram's last five seconds: ns, or a count. ``per_s``: how many a second between the two looks."""

    process: str
    what: str
    per_s: int | None
    p50: int
    p99: int
    p999: int
    max: int


class ProcessRow(Struct, frozen=True):
    """One process. ``cpu_percent`` of one core; ``loop``: its lag; ``queues``: what waits in it, by name."""

    name: str
    state: str
    reason: str
    up_s: int
    cpu_percent: int | None
    memory_bytes: int
    loop_p99_ns: int | None
    loop_max_ns: int | None
    queues: dict[str, int]


class Figures(Struct, frozen=True):
    """A deployment at one instant."""

    mode: str
    shard: int
    epoch: int
    seq: int
    orders_per_s: int | None
    accepted: int
    rejected: int
    rejected_by_code: dict[str, int]
    duplicates: int
    cancels: int
    fills: int
    retries: int
    alarms: int
    open_orders: int
    unknown_orders: int
    suspense_fills: int
    held_orders: int
    risk_ready: bool
    dedup_keys: int
    dedup_keys_max: int
    disk_free_bytes: int
    journal_bytes_per_s: int | None
    halted: list[str]
    venues_not_ready: list[str]
    processes: list[ProcessRow]
    hops: list[Percentiles]
    batches: list[Percentiles]


def figures(now: Mapping[str, Scraped], before: Mapping[str, Scraped], wall_s: float) -> Figures:
    """Return what two looks say; the first may be empty: then there are no rates."""
    engine = now["engine"]
    first = before.get("engine")
    taken = ("wojak_engine_orders_accepted_total", "wojak_engine_rejected_total")
    info = next(engine.by("wojak_engine_info", "mode", "shard"), (("", "0"), 0.0))[0]
    return Figures(
        mode=info[0],
        shard=int(info[1]),
        epoch=int(engine.value("wojak_engine_epoch")),
        seq=int(engine.value("wojak_engine_seq")),
        orders_per_s=rate(engine, first, *taken),
        accepted=int(engine.value(taken[0])),
        rejected=int(engine.total(taken[1])),
        rejected_by_code={code: int(n) for (code,), n in engine.by(taken[1], "code")},
        duplicates=int(engine.value("wojak_engine_duplicates_total")),
        cancels=int(engine.value("wojak_engine_cancels_total")),
        fills=int(engine.value("wojak_engine_fills_total")),
        retries=int(engine.value("wojak_engine_retries_total")),
        alarms=int(engine.value("wojak_engine_alarms_total")),
        open_orders=int(engine.value("wojak_engine_open_orders")),
        unknown_orders=int(engine.value("wojak_engine_unknown_orders")),
        suspense_fills=int(engine.value("wojak_engine_suspense_fills")),
        held_orders=int(engine.value("wojak_engine_held_orders")),
        risk_ready=bool(engine.value("wojak_engine_risk_ready")),
        dedup_keys=int(engine.value("wojak_engine_dedup_keys")),
        dedup_keys_max=int(engine.value("wojak_engine_dedup_keys_max")),
        disk_free_bytes=int(engine.value("wojak_engine_disk_free_bytes")),
        journal_bytes_per_s=rate(engine, first, "wojak_engine_journal_bytes_total"),
        halted=[
            " ".join(part for part in (*labels, state) if part)
            for (*labels, state), _ in engine.by("wojak_engine_halted", "scope", "key", "state")
        ],
        venues_not_ready=[venue for (venue,), ready in engine.by("wojak_engine_venue_ready", "venue") if not ready],
        processes=[_process(scraped, before.get(name), wall_s) for name, scraped in now.items()],
        hops=[
            measured
            for process, what, name in (*HOPS, *_sidecar_hops(now))
            if (measured := _percentiles(now, before, process, what, name, "seconds"))
        ],
        batches=[
            measured
            for process, what, name, unit in BATCHES
            if (measured := _percentiles(now, before, process, what, name, unit))
        ],
    )


def _sidecar_hops(now: Mapping[str, Scraped]) -> list[tuple[str, str, str]]:
    return [(name, what, histogram) for name in now if source_of(name) for what, histogram in SOURCE_HOPS]


def _kind(name: str) -> str:
    """Return the process whose figures a process has: a sidecar those of the HTTP source."""
    return HTTP if source_of(name) else name


def rate(now: Scraped, before: Scraped | None, *names: str) -> int | None:
    """Return by how much counters grew a second; None without a first look at the same life of the process."""
    if before is None or not before.answers or not now.answers or now.at_s <= before.at_s:
        return None
    grown = sum(now.total(name) - before.total(name) for name in names)
    return None if grown < 0 else round(grown / (now.at_s - before.at_s))


def _percentiles(
    now: Mapping[str, Scraped], before: Mapping[str, Scraped], process: str, what: str, name: str, unit: str
) -> Percentiles | None:
    scraped = now[process]
    count = f"{name}_{unit}_count"
    if not scraped.total(count):
        return None
    scale = NS_PER_S if unit == "seconds" else 1
    p50, p99, p999, most = (
        round(scraped.value(f"{name}{RECENT}_{unit}", quantile=q) * scale) for q in ("0.5", "0.99", "0.999", "1")
    )
    return Percentiles(process, what, rate(scraped, before.get(process), count), p50, p99, p999, most)


def _process(now: Scraped, before: Scraped | None, wall_s: float) -> ProcessRow:
    state = "ready" if not now.reason else "not ready" if now.answers else "DOWN"
    cpu = "process_cpu_seconds_total"
    share: int | None = None
    if before is not None and before.answers and now.answers and now.at_s > before.at_s:
        share = max(0, round(100 * (now.value(cpu) - before.value(cpu)) / (now.at_s - before.at_s)))
    loop = LOOPS.get(_kind(now.name), "")
    has_loop = bool(loop) and now.total(f"{loop}_seconds_count") > 0
    started_s = now.value("process_start_time_seconds")
    return ProcessRow(
        name=now.name, state=state, reason=now.reason, up_s=round(wall_s - started_s) if started_s else 0,
        cpu_percent=share, memory_bytes=int(now.value("process_resident_memory_bytes")),
        loop_p99_ns=_recent_ns(now, loop, "0.99") if has_loop else None,
        loop_max_ns=_recent_ns(now, loop, "1") if has_loop else None,
        queues=_queues(now),
    )  # fmt: skip


def _recent_ns(scraped: Scraped, name: str, quantile: str) -> int:
    return round(scraped.value(f"{name}{RECENT}_seconds", quantile=quantile) * NS_PER_S)


def _queues(now: Scraped) -> dict[str, int]:
    if not now.answers:
        return {}
    names = {
        "engine": {
            "outbox": "wojak_engine_outbox_commands",
            "unacked": "wojak_engine_unacknowledged_commands",
            "unreported": "wojak_engine_unreported_commands",
            "sessions": "wojak_engine_sessions",
            "retrying": "wojak_engine_sessions_in_retry",
        },
        "gateway": {
            "unsent reports": "wojak_gateway_unsent_reports",
            "kept": "wojak_gateway_kept_reports",
            "open": "wojak_gateway_open_orders",
        },
        "books": {"lag records": "wojak_books_writer_lag_records"},
        "http": {
            "in flight": "wojak_sidecar_in_flight",
            "held": "wojak_sidecar_held",
            "credits": "wojak_sidecar_credits",
        },
        "api": {"lag records": "wojak_books_lag_records"},
    }.get(_kind(now.name), {})
    found = {shown: int(now.total(name)) for shown, name in names.items()}
    if source_of(now.name) and now.samples.get(BROKER_LAG):
        found["at the broker"] = int(now.total(BROKER_LAG))
    if now.name == "gateway":
        found["feed gaps"] = int(now.value("wojak_gateway_venue", fact="feed_gaps"))
    if now.name == "feed":
        found["behind µs p99"] = _recent_ns(now, "wojak_feed_behind", "0.99") // 1_000
    return found
