"""``kill``: from an operator's command to the answer that 1,000 cancels are durable and handed to the gateway.

The engine answers a control after the batch's sync and after the venue commands left, so the answer says all of it.
The floor is the bare loop receive → write → sync → answer, writing as many bytes as the engine journals for a kill.
"""

from __future__ import annotations

from typing import Final

from benchmarks import workload
from benchmarks.arrivals import percentiles
from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.generator import Generator
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import Stack
from journal.reader import JournalReader
from protocol.codes import Scope
from protocol.control import EngineStatus, SetState
from protocol.orders import Command, NewOrder
from protocol.records import ControlAction, Controlled, record_decoder
from runtime.clock import monotonic_ns

OPEN: Final = 1_000
OPEN_QUICK: Final = 50
KILLS: Final = 20
KILLS_QUICK: Final = 3
P99_BAR_MS: Final = 10.0
NS_PER_MS: Final = 1_000_000
SETTLE_NS: Final = 30_000_000_000


def kill(options: Options) -> Report:
    """Measure kills of 1,000 open orders through a real gateway process."""
    report = Report(
        "kill",
        f"operator's command → {OPEN:,} open orders' cancels durable and handed to the gateway, real gateway "
        "process and sandbox, durable logs on; floor = receive, write as many bytes, sync, answer",
        str(conditions(options.folder)),
    )
    runner = _Runner(options, report)
    latencies: dict[str, list[int]] = {ENGINE: [], FLOOR: []}
    for of in interleaved(options.runs):
        taken = runner.engine() if of == ENGINE else runner.floor()
        latencies[of] += taken
        report.add(of, **_figures(taken))
    for of in (ENGINE, FLOOR):
        report.figure(of, "p50_ms", "kill p50, ms, of a run")
    whole = _figures(latencies[ENGINE])
    kills = len(latencies[ENGINE])
    report.say(f"all {kills} kills: p50 {whole['p50_ms']:.3f} ms, max {whole['max_ms']:.3f} ms")
    report.ratio("engine ÷ floor, p50", (ENGINE, "p50_ms"), (FLOOR, "p50_ms"))
    report.bar(
        f"kill of {OPEN:,} open orders, p99 of {len(latencies[ENGINE])}, ms", whole["p99_ms"], at_most=P99_BAR_MS
    )
    report.end()
    return report


def _figures(taken_ns: list[int]) -> dict[str, float]:
    found = percentiles(taken_ns)
    return {"p50_ms": found.p50 / NS_PER_MS, "p99_ms": found.p99 / NS_PER_MS, "max_ms": found.max / NS_PER_MS}


class _Runner:
    """Kills what rests at the venue, again and again, or has the floor write as much."""

    def __init__(self, options: Options, report: Report) -> None:
        self._folder = options.folder
        self._report = report
        self._open = OPEN_QUICK if options.quick else OPEN
        self._kills = KILLS_QUICK if options.quick else KILLS
        self._record_bytes = 0

    def engine(self) -> list[int]:
        taken: list[int] = []
        with Stack(self._folder, self._open * self._kills) as stack:
            stack.start_engine()
            stack.start_gateway()
            generator = Generator(stack.sidecars, floor=False)
            for number in range(self._kills):
                generator.run(generator.encode(resting(self._open, workload.SEED + number)))
                _wait(stack, self._open)
                reply, took_ns = stack.ask_timed(SetState("kill", Scope.GLOBAL, "", "bench"))
                taken.append(took_ns)
                if reply.cancels != self._open:
                    raise BenchError(f"kill: expected {self._open} cancels, was {reply.cancels}: {reply.text}")
                _wait(stack, 0)
                stack.ask(SetState("resume", Scope.GLOBAL, "", "bench"))
            generator.close()
            stack.stop()
            self._record_bytes = _kill_bytes(stack)
        self._report.hold(f"{self._kills} kills of {self._open} orders each, nothing open after each")
        return taken

    def floor(self) -> list[int]:
        with Stack(self._folder) as stack:
            generator = Generator(stack.start_floor(self._record_bytes or OPEN * 80), floor=True, sessions=1)
            taken = []
            for number in range(self._kills):
                messages = generator.encode(resting(1, workload.SEED + number))
                taken += generator.run([(0, messages[0][1], 1)]).latencies_ns
            generator.close()
        return taken


def resting(count: int, seed: int) -> list[Command]:
    """Return ``count`` orders of W that are accepted and rest."""
    drawn = workload.commands(count * 2 + 100, seed=seed)
    orders: list[Command] = [c for c in drawn if isinstance(c, NewOrder) and c.strategy == workload.STRATEGY]
    return orders[:count]


def _wait(stack: Stack, open_orders: int) -> EngineStatus:
    """Wait until so many orders are open and the venue has answered for each."""
    until_ns = monotonic_ns() + SETTLE_NS
    while monotonic_ns() < until_ns:
        status = stack.status()
        if status.open_orders == open_orders and not any(v.unreported for v in status.venues):
            return status
    raise BenchError(f"expected {open_orders} open orders within {SETTLE_NS} ns, was {stack.status().open_orders}")


def _kill_bytes(stack: Stack) -> int:
    """Return the size of one kill in the journal."""
    reader = JournalReader(stack.journal)
    try:
        while batches := reader.poll():
            for batch in batches:
                for _, _, raw in batch.records:
                    record = record_decoder.decode(raw)
                    if isinstance(record, Controlled) and record.action is ControlAction.KILL:
                        return len(raw)
    finally:
        reader.close()
    raise BenchError("the journal holds no kill")
