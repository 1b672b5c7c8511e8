"""The page of metrics, written from the tables that the processes themselves publish from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import books.metrics
import books.writer_metrics
import cli.alerting.process
import engine.follower_metrics
import engine.metrics
import market.feed_metrics
import sidecars.core.metrics
import venues.core.metrics
from runtime.metrics import (
    COUNTER,
    DURATION,
    DURATION_BOUNDS_NS,
    OBSERVED_AT,
    SIZE,
    SIZE_BOUNDS,
    Family,
    recent_name,
)

PROCESSES: Final[tuple[tuple[str, str, Sequence[Family]], ...]] = (
    ("Engine", "`[metrics] engine_port`.", engine.metrics.FAMILIES),
    ("Venue gateway", "`[metrics] gateway_port`.", venues.core.metrics.FAMILIES),
    ("Feed", "`[metrics] feed_port`.", market.feed_metrics.FAMILIES),
    ("Books writer", "`[metrics] books_port`.", books.writer_metrics.FAMILIES),
    ("Follower", "`[metrics] follower_port`.", engine.follower_metrics.FAMILIES),
    ("Sources", "On the source's own port; every sample has the label `source`.", sidecars.core.metrics.FAMILIES),
    ("Alerts", "`[alerts] port`.", cli.alerting.process.FAMILIES),
    ("REST API", "On the API's own port.", books.metrics.FAMILIES),
)
UNITS: Final = ("seconds", "bytes", "records", "items", "commands", "reports", "ticks", "ms")
NS_PER_S: Final = 1_000_000_000


def metrics_page(written: str) -> str:
    """Return the page; ``written`` is the line that says where it comes from."""
    bounds = ", ".join(f"{bound / NS_PER_S:g}" for bound in DURATION_BOUNDS_NS)
    head = (
        f"# Metrics\n\n{written}\n"
        "Served as Prometheus text at `/metrics`; [operate](../operate.md) says where, and what to watch. Numbers of "
        "engine, gateway, feed and books writer are taken once a second; "
        f"`{OBSERVED_AT}` says when, on the process's monotonic clock.\n\n"
        "A histogram `x_seconds` has the usual `x_seconds_bucket`, `_sum` and `_count`, and beside it gauges "
        '`x_recent_seconds{quantile="0.5" | "0.99" | "0.999" | "1"}`: the percentiles of the last five seconds, '
        "kept to 1.6 %, and the largest value. "
        f"Buckets of durations: {bounds} s; of sizes: 1, 2, 4 … {SIZE_BOUNDS[-1]}. Each process also tells its "
        "`process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_start_time_seconds` and "
        "`process_open_fds`.\n"
    )
    return head + "".join(_section(*process) for process in PROCESSES)


def names() -> set[str]:
    """Return every name that a rule or a panel may use."""
    found = {OBSERVED_AT}
    for _, _, families in PROCESSES:
        for family in families:
            found.add(_name(family))
            if family.kind in {DURATION, SIZE}:
                found |= {recent_name(family), *(f"{family.name}_{part}" for part in ("bucket", "sum", "count"))}
    return found


def _section(title: str, where: str, families: Sequence[Family]) -> str:
    rows = "".join(
        f"| `{_name(f)}` | {'histogram' if f.kind in {DURATION, SIZE} else f.kind} "
        f"| {', '.join(f'`{label}`' for label in f.labels) or '–'} | {_unit(f)} | {f.text} |\n"
        for f in families
    )
    return f"\n## {title}\n\n{where}\n\n| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n{rows}"


def _name(family: Family) -> str:
    return f"{family.name}_total" if family.kind == COUNTER else family.name


def _unit(family: Family) -> str:
    unit = family.name.rpartition("_")[2]
    return unit if unit in UNITS else "–"
