"""``filled``: new → acknowledged → filled, with a real venue process and its durable log.

The engine, the gateway process and the sandbox on static books, each order crossing the book. An order counts when
its fill is durable in the engine's journal. The floor moves the same bytes through two bare loops in sequence: the
first receives, writes, syncs, answers and passes on; the second receives, writes, syncs and reports back; the first
writes and syncs the report. An order counts there when its report is synced.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import Final, NamedTuple

from benchmarks import workload
from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.floors import FloorSettings
from benchmarks.generator import Generator, count_outcomes
from benchmarks.options import Options
from benchmarks.replay import Replayed, replay
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import Stack
from cli.evidence import at_venue
from journal.watermark import WatermarkReader
from protocol.codes import Side
from protocol.control import EngineStatus
from protocol.orders import Command, NewOrder
from runtime.clock import monotonic_ns

ORDERS_PER_S: Final = 25_000
BAR_PER_S: Final = 35_000
NS_PER_S: Final = 1_000_000_000
LOOK_S: Final = 0.002
QUIET_NS: Final = 100_000_000
STALL_NS: Final = 120 * NS_PER_S


class Sizes(NamedTuple):
    """Bytes per order: in the journal without reports, of reports there, and in the venue's log."""

    ordered: int
    reported: int
    venue_log: int


def filled(options: Options) -> Report:
    """Measure orders a second from new to filled."""
    report = Report(
        "filled",
        "new → acknowledged → filled through a real gateway process and the sandbox on static books, durable logs on; "
        "an order counts when its fill is durable in the engine; floor = two bare loops in sequence",
        str(conditions(options.folder)),
    )
    commands = workload.commands(options.orders(ORDERS_PER_S), marketable=True)
    runner = _Runner(options, commands, report)
    for of in interleaved(options.runs):
        per_s = runner.engine() if of == ENGINE else runner.floor()
        report.add(of, filled_per_s=per_s)
    report.say(runner.said)
    middle = report.figure(ENGINE, "filled_per_s", "filled/s")
    report.figure(FLOOR, "filled_per_s", "reported back/s")
    report.ratio("engine ÷ floor", (ENGINE, "filled_per_s"), (FLOOR, "filled_per_s"))
    report.bar("new → acknowledged → filled, orders/s", middle, at_least=BAR_PER_S)
    report.end()
    return report


class _Runner:
    """Runs the engine with its venue, or the floor, over the same commands."""

    def __init__(self, options: Options, commands: list[Command], report: Report) -> None:
        self._folder = options.folder
        self._commands = commands
        self._report = report
        self._sizes = Sizes(0, 0, 0)
        self._expected = expected_positions(commands)
        self._fills = sum(isinstance(c, NewOrder) and c.strategy == workload.STRATEGY for c in commands)
        self.said = ""

    def engine(self) -> float:
        with Stack(self._folder, len(self._commands)) as stack:
            stack.start_engine()
            stack.start_gateway()
            generator = Generator(stack.sidecars, floor=False)
            answered = generator.run(generator.encode(self._commands))
            duration_ns = self._wait_filled(stack) - answered.begin_ns
            status = stack.status(with_hash=True)
            generator.close()
            stack.stop()
            outcome = count_outcomes(answered.bodies, with_positions=False)
            self._check(stack, status, replay(stack.journal, status))
        positions = hashlib.sha256(repr(sorted(self._expected.items())).encode()).hexdigest()
        self._report.hold(hashlib.sha256(f"{outcome.digest} {positions}".encode()).hexdigest())
        return self._fills * NS_PER_S / duration_ns

    def floor(self) -> float:
        sizes = self._sizes
        with Stack(self._folder) as stack:
            first, second = stack.endpoint("floor"), stack.endpoint("venue-floor")
            stack.spawn(
                "venue-floor",
                FloorSettings(
                    endpoint=second, path=str(stack.folder / "venue.dat"), record_bytes=sizes.venue_log,
                    report_bytes=sizes.reported,
                ),
            )  # fmt: skip
            stack.spawn(
                "chained-floor",
                FloorSettings(
                    endpoint=first, path=str(stack.folder / "floor.dat"), record_bytes=sizes.ordered,
                    onward_endpoint=second, onward_bytes=max(0, sizes.venue_log - sizes.reported),
                    report_bytes=sizes.reported,
                ),
            )  # fmt: skip
            generator = Generator(first, floor=True)
            answered = generator.run(generator.encode(self._commands))
            until_ns = monotonic_ns() + STALL_NS
            while generator.ask() < len(self._commands):
                stack.require_alive()
                _require(monotonic_ns() < until_ns, "floor: expected every report back, still waiting")
                time.sleep(LOOK_S)  # only after the last answer: nothing is sent any more
            duration_ns = monotonic_ns() - answered.begin_ns
            generator.close()
        return len(self._commands) * NS_PER_S / duration_ns

    def _wait_filled(self, stack: Stack) -> int:
        """Wait until every fill is durable; return when the last record became so, monotonic ns.

        The journal's watermark is looked at, a shared map: asking the engine would cost it milliseconds each time.
        """
        watermark = WatermarkReader(stack.journal)
        seq, moved_ns, fills = 0, monotonic_ns(), 0
        until_ns = moved_ns + STALL_NS
        try:
            while fills < self._fills:
                _require(monotonic_ns() < until_ns, f"expected {self._fills} fills, was {fills}, still waiting")
                time.sleep(LOOK_S)
                durable = watermark.read().seq
                if durable > seq:
                    seq, moved_ns = durable, monotonic_ns()
                elif monotonic_ns() - moved_ns > QUIET_NS:
                    fills = stack.status().fills
        finally:
            watermark.close()
        return moved_ns

    def _check(self, stack: Stack, status: EngineStatus, replayed: Replayed) -> None:
        """Require that engine, journal and venue agree, and that positions are what the commands add up to."""
        venue = at_venue(stack.gateway_log)
        ledgers = replayed.core.state.book.ledgers
        found = {key: ledger.position for key, ledger in ledgers.items() if ledger.position}
        _require(found == self._expected, "positions replayed from the journal are not what the commands add up to")
        _require(status.fills == self._fills, f"fills expected {self._fills}, was {status.fills}")
        _require(status.open_orders == 0, f"open orders expected 0, was {status.open_orders}")
        if venue.complete:
            _require(len(venue.trades) == self._fills, f"venue trades expected {self._fills}, was {len(venue.trades)}")
        log_bytes = sum(len(path.read_bytes().rstrip(b"\0")) for path in stack.gateway_log.glob("*") if path.is_file())
        count = len(self._commands)
        self._sizes = Sizes(
            (replayed.bytes - replayed.report_bytes) // count, replayed.report_bytes // count, log_bytes // count
        )
        self.said = (
            f"last run: {count:,} submits, one outcome each; {self._fills:,} filled, {replayed.reports:,} venue "
            f"reports in the journal; {self._sizes.ordered} + {self._sizes.reported} bytes an order in the journal, "
            f"{self._sizes.venue_log} in the venue's log; fills and positions agree with the journal's replay, state "
            f"{replayed.state_hash}"
        )


def expected_positions(commands: list[Command]) -> dict[tuple[str, str], int]:
    """Return what every accepted order filled whole adds up to: (account, instrument) → signed lots, not 0."""
    lots: Counter[tuple[str, str]] = Counter()
    for command in commands:
        if isinstance(command, NewOrder) and command.strategy == workload.STRATEGY:
            count = command.quantity_e9 // workload.LOT_E9
            lots[command.account, command.instrument] += count if command.side is Side.BUY else -count
    return {key: count for key, count in lots.items() if count}


def _require(ok: bool, text: str) -> None:
    if not ok:
        raise BenchError(text)
