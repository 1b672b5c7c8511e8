"""A table writer that dies half-way through a write again and again, and an auditor that reads what it left.

The writer is a child that kills itself (fail point feed.mid_write, armed by the environment) after some number of
writes; the parent waits for that, reads every row of the table as the engine would, and starts the next child. A
whole feed needs more than a second to start; this one is back at once, so that deaths come once a second.

Every row is written whole with last price = the middle of bid and ask. Two halves of different writes would break
that, for the halves are parted between the quote and the trade.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks import workload
from benchmarks.workload import PRICE_E9, TICK_E9
from market.table import TableReader
from market.table_writer import TableWriter
from runtime import failpoints
from runtime.clock import monotonic_ns, wall_ns
from runtime.priority import run_where_idle
from runtime.signals import StopSignal

POINT: Final = "feed.mid_write"
PRICES: Final = 199  # prime to the number of rows, so that a row's next price is another one
BATCH: Final = 64
NS_PER_S: Final = 1_000_000_000


class CrashSettings(Struct, frozen=True):
    """Which table, how many writes a second, and where the counts go."""

    table_path: str
    rate_per_s: int
    counts_path: str


class CrashCounts(Struct):
    """What was seen.

    Attributes:
        kills: Deaths half-way through a write.
        rows: Rows read after each death, in all.
        half_written: Rows whose newest side did not match its checksum; a death leaves one.
        stale: Rows that gave no value.
        torn: Rows whose value was made of two writes.
    """

    kills: int = 0
    rows: int = 0
    half_written: int = 0
    stale: int = 0
    torn: int = 0


def run(settings: CrashSettings) -> None:
    """Let child after child write and die until SIGTERM, then write the counts."""
    run_where_idle()  # as the feed that it stands for
    stop = StopSignal()
    counts = CrashCounts()
    while not stop.is_set:
        child = os.fork()
        if child == 0:
            _write_until_death(settings)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"the writer expected to die by SIGKILL at {POINT}, ended with status {status}")
        counts.kills += 1
        _audit(settings.table_path, counts)
    Path(settings.counts_path).write_bytes(msgspec.json.encode(counts))


def is_price(price_e9: int) -> bool:
    """Whether the writer, or the table's maker, ever writes this last price."""
    away, rest = divmod(price_e9 - PRICE_E9, TICK_E9)
    return rest == 0 and abs(away) <= PRICES // 2


def _write_until_death(settings: CrashSettings) -> None:
    table = TableWriter.create(settings.table_path, workload.instruments, lambda: failpoints.hit(POINT))
    slots = [table.slot(name) for name in workload.instruments]
    began_ns = monotonic_ns()
    written = 0
    while True:
        now_ns = wall_ns()
        for _ in range(BATCH):
            price = PRICE_E9 + (written % PRICES - PRICES // 2) * TICK_E9
            fields = (price - TICK_E9, price + TICK_E9, price, price, price, price, now_ns, now_ns, now_ns)
            table.write(slots[written % len(slots)], fields)
            written += 1
        due_ns = began_ns + written * NS_PER_S // settings.rate_per_s
        time.sleep(max(0, due_ns - monotonic_ns()) / NS_PER_S)  # the pace of the writes


def _audit(path: str, counts: CrashCounts) -> None:
    reader = TableReader.open(path)
    for name in workload.instruments:
        retried = reader.retried
        value = reader.read(reader.slot(name))
        counts.rows += 1
        counts.half_written += reader.retried > retried
        if value is None:
            counts.stale += 1
        elif value.last_price_e9 * 2 != value.bid_e9 + value.ask_e9 or not is_price(value.last_price_e9):
            counts.torn += 1
