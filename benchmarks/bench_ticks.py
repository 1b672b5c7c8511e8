"""``ticks``: do ticks slow orders? Orders at a fixed rate with and without a feed on the same instruments.

The real feed replays the recording; message i also updates W's instrument i mod 1,000 in the last-value table that
every order is checked against (DECISIONS 50). Then the same with a writer that is killed half-way through a write
once a second: every read must be verified, and none may be made of two writes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import workload
from benchmarks.arrivals import due_offsets_ns
from benchmarks.bench_decided import add_latencies
from benchmarks.conditions import conditions
from benchmarks.counted_feed import CountedFeedSettings, FeedCounts
from benchmarks.crashing_writer import POINT, CrashCounts, CrashSettings, is_price
from benchmarks.errors import BenchError
from benchmarks.generator import Generator, count_outcomes
from benchmarks.options import Options
from benchmarks.replay import replay
from benchmarks.report import Report, interleaved
from benchmarks.stack import READY_NS, Stack
from market.feed_settings import FeedSettings
from market.instruments import InstrumentRow, to_params
from market.table import TableReader
from protocol.errors import ConfigError
from protocol.orders import Command
from protocol.records import Ordered, Record
from runtime.clock import monotonic_ns
from runtime.failpoints import ENV_POINT

QUIET: Final = "quiet"
FEED: Final = "feed"
KILLED: Final = "killed writer"
P99_BAR: Final = 1.3
# Of btcusdt_20240808.gz: 93,954 lines in 344.8 s. The rate that was reached is measured and printed.
RECORDED_PER_S: Final = 272
SPEED_MARGIN: Final = 1.2
KILL_AFTER: Final = 25_000
KILL_AFTER_QUICK: Final = 1_000
NS_PER_S: Final = 1_000_000_000
LOOK_S: Final = 0.01


def ticks(options: Options) -> Report:
    """Measure the latency of orders with and without ticks on their instruments."""
    if not options.recording.is_file():
        absent = f"expected the recorded session, was {options.recording}, which is absent; give another FILE"
        raise ConfigError([f"{absent}, or set WOJAK_TEST_DATA to the folder that has it"], "--recording")
    report = Report(
        "ticks",
        f"orders at {options.rate_per_s:,}/s, without and with the recording replayed at {options.ticks_per_s:,}/s "
        "and more on the instruments being ordered; then with a table writer killed half-way through a write",
        str(conditions(options.folder)),
    )
    runner = _Runner(options, report)
    for of in interleaved(options.runs, QUIET, FEED):
        runner.run(of)
    for _ in range(max(1, options.runs // 2)):
        runner.run(KILLED)
    for of in (QUIET, FEED, KILLED):
        for key in ("p50", "p99", "p99_9"):
            report.figure(of, f"{key}_us", f"{key.replace('_', '.')} µs")
    rate = report.figure(FEED, "ticks_per_s", "messages/s")
    for of in (FEED, KILLED):
        for key in ("reads_verified", "reads_retried", "reads_stale"):
            report.say(f"{of} table {key.replace('_', ' ')}, all runs: {sum(report.values(of, key)):,}")
    for key in ("kills", "rows_audited", "rows_half_written", "rows_stale", "torn_accepted"):
        report.say(f"{KILLED} {key.replace('_', ' ')}, all runs: {sum(report.values(KILLED, key)):,}")
    report.bar("ticks replayed, messages/s", rate, at_least=options.ticks_per_s)
    report.ratio("p99 with ÷ without ticks", (FEED, "p99_us"), (QUIET, "p99_us"), P99_BAR)
    report.bar("torn values accepted", sum(report.values(KILLED, "torn_accepted")), at_most=0)
    report.end()
    return report


class _Runner:
    def __init__(self, options: Options, report: Report) -> None:
        self._options = options
        self._report = report
        self._commands: list[Command] = workload.commands(options.orders(options.rate_per_s))
        self._offsets_ns = due_offsets_ns(len(self._commands), options.rate_per_s, poisson=options.poisson)

    def run(self, of: str) -> None:
        """Run once and keep the figures."""
        with Stack(self._options.folder, len(self._commands)) as stack:
            stack.start_engine()
            stack.start_acknowledger()
            counts = stack.folder / "counts"
            if of == FEED:
                self._start_feed(stack, counts)
            elif of == KILLED:
                self._start_writer(stack, counts)
            before = stack.status().table_reads
            generator = Generator(stack.sidecars, floor=False)
            answered = generator.run(generator.encode(self._commands), self._offsets_ns)
            status = stack.status(with_hash=True)
            generator.close()
            stack.require_alive()
            stack.stop()
            reads = {f"reads_{key}": count - before[key] for key, count in status.table_reads.items()}
            torn = _References()
            replay(stack.journal, status, torn.visit if of == KILLED else None)
            figures = _feed_figures(counts) if of == FEED else _crash_figures(counts, torn) if of == KILLED else {}
        self._report.hold(count_outcomes(answered.bodies).digest)
        add_latencies(self._report, of, answered.latencies_ns, **reads, **figures)

    def _start_feed(self, stack: Stack, counts: Path) -> None:
        row = InstrumentRow(
            "BTCUSDT", workload.VENUE, "USDT", price_step="0.1", quantity_step="0.001", quantity_max="1000"
        )
        feed = FeedSettings(
            publish_endpoint=stack.endpoint("ticks"),
            request_endpoint=stack.endpoint("snapshots"),
            table_path=str(stack.table),
            instruments=(to_params(row),),
            recording=str(self._options.recording),
            speed=self._options.ticks_per_s * SPEED_MARGIN / RECORDED_PER_S,
            spread_over=workload.instruments,
        )
        stack.spawn("feed", CountedFeedSettings(feed, str(counts)))
        _wait_played(stack)

    def _start_writer(self, stack: Stack, counts: Path) -> None:
        hits = KILL_AFTER_QUICK if self._options.quick else KILL_AFTER
        settings = CrashSettings(str(stack.table), KILL_AFTER, str(counts))
        stack.spawn("crashing-writer", settings, {ENV_POINT: f"{POINT}:{hits}"})


class _References:
    """The prices that orders were checked against, as journaled: each must be one that was written."""

    def __init__(self) -> None:
        self.torn = 0

    def visit(self, record: Record) -> None:
        """Look at one record."""
        if isinstance(record, Ordered) and record.reference is not None:
            self.torn += not is_price(record.reference.price_e9)


def _wait_played(stack: Stack) -> None:
    """Wait until the feed wrote every row that orders will be checked against."""
    until_ns = monotonic_ns() + READY_NS
    while monotonic_ns() < until_ns:
        stack.require_alive()
        table = TableReader.open(stack.table)
        values = [table.read(table.slot(name)) for name in workload.instruments]
        if all(value is not None and value.exch_ns for value in values) and table.read(table.slot("BTCUSDT")):
            return
        time.sleep(LOOK_S)  # a shared map gives no event
    raise BenchError(f"feed expected every row of {stack.table} written within {READY_NS} ns; see {stack.folder}")


def _feed_figures(counts: Path) -> dict[str, float]:
    found = msgspec.json.decode(counts.read_bytes(), type=FeedCounts)
    return {"ticks_per_s": found.published * NS_PER_S / found.duration_ns, "feed_rebased": found.rebased}


def _crash_figures(counts: Path, references: _References) -> dict[str, float]:
    found = msgspec.json.decode(counts.read_bytes(), type=CrashCounts)
    return {
        "kills": found.kills,
        "rows_audited": found.rows,
        "rows_half_written": found.half_written,
        "rows_stale": found.stale,
        "torn_accepted": found.torn + references.torn,
    }
