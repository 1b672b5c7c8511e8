"""``decided`` and ``latency``: the engine through ZeroMQ, one order a message, durable before answered.

The floor is the bare loop receive → write → sync → answer behind the same generator and the same arrivals, writing
as many bytes an item as the engine journaled.
"""

from __future__ import annotations

from typing import Final

from benchmarks import workload
from benchmarks.arrivals import due_offsets_ns, percentiles
from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.generator import Answered, Generator, count_outcomes
from benchmarks.options import Options
from benchmarks.replay import replay
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import Stack
from protocol.orders import Command

ORDERS_PER_S: Final = 80_000
BAR_PER_S: Final = 120_000
BATCHED_BAR_PER_S: Final = 180_000
P50_BAR: Final = 1.25
P99_BAR: Final = 1.75
NS_PER_S: Final = 1_000_000_000


class Load:
    """The same commands and arrivals for every run, and what a record weighs once one engine has run."""

    def __init__(self, options: Options, commands: list[Command], offsets_ns: list[int], report: Report) -> None:
        self._folder = options.folder
        self._direct_io, self._direct_floor = options.direct_io, options.direct_floor
        self._batch = options.batch
        self._commands = commands
        self._offsets_ns = offsets_ns
        self._report = report
        self._record_bytes = 0
        self.said = ""

    def run(self, of: str) -> Answered:
        """Run the engine or its floor once."""
        return self._engine() if of == ENGINE else self._floor()

    def _engine(self) -> Answered:
        with Stack(self._folder, len(self._commands), direct_io=self._direct_io) as stack:
            stack.start_engine()
            stack.start_acknowledger()
            answered = self._drive(stack.sidecars, floor=False)
            status = stack.status(with_hash=True)
            stack.stop()
            outcome = count_outcomes(answered.bodies)
            replayed = replay(stack.journal, status)
        self._record_bytes = replayed.bytes // len(self._commands)
        self._report.hold(outcome.digest)
        kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(outcome.kinds.items()))
        self.said = (
            f"last run: {len(self._commands):,} submits, one outcome each ({kinds}); {status.open_orders:,} open at "
            f"the end; {replayed.records:,} records, {self._record_bytes} bytes an order; the journal replays to the "
            f"engine's state hash {status.state_hash}"
        )
        return answered

    def _floor(self) -> Answered:
        with Stack(self._folder, direct_io=self._direct_floor) as stack:
            return self._drive(stack.start_floor(self._record_bytes * self._batch), floor=True)

    def _drive(self, endpoint: str, *, floor: bool) -> Answered:
        generator = Generator(endpoint, floor=floor)
        try:
            return generator.run(generator.encode(self._commands, self._batch), self._offsets_ns)
        finally:
            generator.close()


def _written(options: Options) -> str:
    past = [name for name, is_so in (("engine", options.direct_io), ("floor", options.direct_floor)) if is_so]
    return f"; past the page cache: {', '.join(past)}" if past else ""


def decided(options: Options) -> Report:
    """Measure orders a second, decided and durable, saturated."""
    report = Report(
        "decided",
        f"through ZeroMQ, {'one order' if options.batch == 1 else f'{options.batch} orders'} a message, saturated; an "
        f"order counts when its decision is durable and answered{_written(options)}",
        str(conditions(options.folder)),
    )
    load = Load(options, workload.commands(options.orders(ORDERS_PER_S)), [], report)
    for of in interleaved(options.runs):
        answered = load.run(of)
        report.add(of, orders_per_s=len(answered.latencies_ns) * NS_PER_S / answered.duration_ns)
    report.say(load.said)
    middle = report.figure(ENGINE, "orders_per_s", "orders/s")
    report.figure(FLOOR, "orders_per_s", "orders/s")
    report.ratio("engine ÷ floor", (ENGINE, "orders_per_s"), (FLOOR, "orders_per_s"))
    bar = BAR_PER_S if options.batch == 1 else BATCHED_BAR_PER_S
    report.bar("decided and durable, orders/s", middle, at_least=bar)
    report.end()
    return report


def latency(options: Options) -> Report:
    """Measure submit → durable outcome from the due time, at a fixed rate."""
    arrivals = "Poisson" if options.poisson else "even"
    report = Report(
        "latency",
        f"submit → durable outcome from the due time, open loop, {options.rate_per_s:,}/s, {arrivals} arrivals"
        f"{_written(options)}",
        str(conditions(options.folder)),
    )
    if options.batch > 1:
        raise BenchError(f"--batch expected 1 for latency, was {options.batch}: each order has a due time of its own")
    commands = workload.commands(options.orders(options.rate_per_s))
    offsets_ns = due_offsets_ns(len(commands), options.rate_per_s, poisson=options.poisson)
    load = Load(options, commands, offsets_ns, report)
    for of in interleaved(options.runs):
        add_latencies(report, of, load.run(of).latencies_ns)
    report.say(load.said)
    for of in (ENGINE, FLOOR):
        for key in ("p50", "p99", "p99_9", "max"):
            report.figure(of, f"{key}_us", f"{key.replace('_', '.')} µs")
    report.ratio("p50 engine ÷ floor", (ENGINE, "p50_us"), (FLOOR, "p50_us"), P50_BAR)
    report.ratio("p99 engine ÷ floor", (ENGINE, "p99_us"), (FLOOR, "p99_us"), P99_BAR)
    report.end()
    return report


def add_latencies(report: Report, of: str, latencies_ns: list[int], **more: float) -> None:
    """Keep one run's percentiles, in µs."""
    found = percentiles(latencies_ns)
    us = {f"{name}_us": value / 1_000 for name, value in found._asdict().items() if name != "samples"}
    report.add(of, **us, **more)
