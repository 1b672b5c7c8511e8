"""The processes of a run and what they live on: engine, zombie, gateway, sidecars, books; disks, sockets, clocks.

Each is started, turned, killed and started again here. When and why is ``world``'s business.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

import engine.loop
import engine.start
from engine.core import Core
from engine.loop import EngineLoop
from engine.settings import EngineSettings, Opening, OpeningPosition
from engine.state import state_hash
from journal.errors import JournalFailedError
from market.table_writer import TableWriter
from protocol.codes import Mode, Scope
from protocol.control import ControlBody, ControlReply, ControlRequest, StartDrain
from protocol.session import Outcome
from protocol.ticks import BookClear, BookSnapshot, Tick
from tests.simulation.answers import Answers
from tests.simulation.books_side import BooksSide
from tests.simulation.broker import Broker
from tests.simulation.checkers import Watch
from tests.simulation.client import Client, Delivery
from tests.simulation.coverage import Fault, Reached
from tests.simulation.disk import PowerCutError, SimulatedDisk
from tests.simulation.following import Following
from tests.simulation.generator import ACCOUNT, INSTRUMENT, Generator
from tests.simulation.ledgers import Ledgers, require_same_exposure
from tests.simulation.memory import (
    CrashError,
    MemoryDealer,
    Net,
    VirtualClock,
)
from tests.simulation.patches import patched
from tests.simulation.risk_side import RiskSide
from tests.simulation.sidecar_host import SidecarHost
from tests.simulation.stand_ins import E9, KEYS_MAX, POSITION_MAX, Log, MoodyVenue, params
from tests.unit.venues.stage import XY
from venues.core.loop import GatewayLoop
from venues.core.settings import GatewaySettings

TOKEN = "t" * 40
SETTLE_ROUNDS = 600
LIFT_ROUND = 20
ENGINE_LOSS_MS = 1_500
ROUTERS = ("_control_router", "_venue_router", "_sidecar_router", "_risk_router")
SCOPES = ((Scope.GLOBAL, ""), (Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1"))


class Machines:
    """Everything that runs, and what it runs on. Everything random comes from ``seed``."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        opening: int = 0,
        faults: bool = True,
        is_slow: bool = False,
        clients: int = 2,
        hosts: int = 0,
    ) -> None:
        self.random, self.miscounts = Random(seed), Random(~seed) if faults and seed % 16 == 3 else None
        self.folder = folder
        self.clock = VirtualClock()
        self.disk = SimulatedDisk(self.random)
        self.gateway_disk = SimulatedDisk(self.random)
        self.journal = folder / "journal"
        self.watch = Watch(self.disk, self.journal, Ledgers(POSITION_MAX * E9))
        self.net = Net(self.clock, self.watch.on_output)
        self.answers = Answers()
        self.faults = faults
        self.is_slow = is_slow
        self.armed = ""
        self.clock_step: tuple[Fault, int] | None = None
        self.crashes: list[str] = []
        self.reached: Reached = Counter()
        self.replica = Core(KEYS_MAX)
        self.replicated = 0
        self.compared = self.from_snapshot = 0
        self.following = Following(seed)
        self.commands = 0
        (folder / "token").write_text(TOKEN)
        self.table = TableWriter.create(folder / "table", ["XY"])
        reserve_bytes = 1 << 20 if faults else 0
        self.settings = EngineSettings(
            mode=Mode.PAPER, shard=0, journal_dir=str(self.journal), sidecars_endpoint="sidecars",
            venues_endpoint="venues", events_endpoint="events", control_endpoint="control", risk_endpoint="risk",
            token_file=str(folder / "token"), table_path=str(folder / "table"), params=params(), credits=64,
            opening=Opening((OpeningPosition("a1", "XY", opening * E9, 100 * E9),) if opening else ()),
            segment_bytes=1 << 16, dedup_keys_max=KEYS_MAX, disk_reserve_bytes=reserve_bytes, lease_ms=1000,
            venue_window=8, drain_ms=2_000,
        )  # fmt: skip
        self.opening = opening
        self.gateway_settings = GatewaySettings(
            venue="sandbox", gateway="g", engine_endpoint="venues", control_endpoint="gcontrol",
            token_file=str(folder / "token"), log_dir=str(folder / "gateway"), instruments=(XY,), feed_endpoint="f",
            snapshots_endpoint="s", segments_kept=1_000_000,
            cancel_on_engine_loss_ms=ENGINE_LOSS_MS if faults and seed % 2 == 0 else 0,
        )  # fmt: skip
        self.log = Log()
        self.engine: EngineLoop | None = None
        self.zombie: EngineLoop | None = None
        self.zombie_lock: Any = None
        self.detoured_until_ns = self.disk_full_until_ns = self.hung_until_ns = 0
        self.gateway: GatewayLoop | None = None
        self.gateway_paused_until_ns = 0
        self.venue: MoodyVenue | None = None
        self.feed_epoch = self.feed_seq = 0
        self.broker = Broker(self.clock, self.random, self.answers)
        self.generator = self._make_generator("b")
        self.hosts = [SidecarHost(f"h{n}", folder, self.clock, self.broker) for n in range(hosts)]
        self.clients = [
            Client(self._make_generator(f"c{n}"), self.net, self.clock, self.random, self._answered)
            for n in range(clients)
        ]
        self.books = BooksSide(folder / "books.sqlite", self.watch)
        self.operator, self.replies = MemoryDealer(self.net, "control", 0), list[ControlReply]()
        self.risk = RiskSide(self.net, self.clock, Random(~seed << 1 & 0xFFFF), faults=faults)
        self.net.struck = self.broker.struck = self.disk.struck = self.gateway_disk.struck = self.struck
        self.disk.before_sync = self._peek

    def _make_generator(self, name: str) -> Generator:
        return Generator(
            name, self.random, self.clock.wall_ns, lambda: self.watch.ledgers.positions[ACCOUNT, INSTRUMENT]
        )

    def _answered(self, delivery: Delivery, outcome: Outcome) -> None:
        self.answers.take(delivery.body, outcome)

    def struck(self, fault: str) -> None:
        """Count a fault that took effect, in every state that an order is in now."""
        for state in self.watch.states():
            self.reached[fault, state] += 1

    def ask(self, body: ControlBody) -> None:
        """Let an operator ask; the answer is read later."""
        self.operator.send(msgspec.msgpack.encode(ControlRequest(TOKEN, "op", body)))

    # Processes

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Put memory and virtual time where processes have sockets and clocks."""
        with patched(self):
            yield

    def hit(self, name: str) -> None:
        """``failpoints.hit``: die here if this place is armed."""
        self._moment()
        if name == self.armed:
            self.armed = ""
            raise CrashError(name)

    def _moment(self) -> None:
        """Somewhere in the middle of a turn: the place where a clock that is to step does."""
        if self.clock_step is not None and self.random.random() < 0.3:
            (fault, step_ns), self.clock_step = self.clock_step, None
            self.clock.wall += step_ns
            self.struck(fault)

    def step_clock(self, fault: Fault, step_ns: int, *, at_once: bool) -> None:
        """Let the wall clock step: between two turns, or in the middle of whatever comes."""
        self.clock_step = fault, step_ns
        if at_once:
            self.clock_step = None
            self.clock.wall += step_ns
            self.struck(fault)

    def _peek(self) -> None:
        """Look at the journal between its write and its sync."""
        self._moment()
        if self.random.random() < 0.05:
            self.turn_books(peek=True)

    def dealers(self) -> list[MemoryDealer]:
        """Return every connection that can fail."""
        found: list[MemoryDealer | None] = [*(c.dealer for c in self.clients), *(h.dealer for h in self.hosts)]
        found.append(self.risk.dealer)
        if self.gateway is not None:
            found += [self.gateway._engine] * 2  # type: ignore[list-item]
        return [dealer for dealer in found if dealer is not None]

    # The engine

    def start_engine(self) -> None:
        started = engine.start.start(self.settings)
        self.lock = started.lock
        self.from_snapshot += started.snapshot_seq > 0
        stop = SimpleNamespace(fd=0, is_set=False, count=0)
        self.stop = stop
        self.engine = EngineLoop(self.settings, started, stop, self.log)  # type: ignore[arg-type]

    def kill_engine(self, why: str, *, power: bool) -> None:
        """Drop the engine; with ``power`` also what was not synced, and the gateway on the same machine."""
        self.crashes.append(f"engine {why}{' and power' if power else ''}")
        self.struck(Fault.POWER if power else Fault.CRASH_ENGINE)
        loop = self.engine
        self.engine = None
        if loop is not None:
            for name in ROUTERS:
                self.net.drop(getattr(loop, name))
            loop._writer.close()
            loop._records.close()
            self.lock.close()
        self.disk.close_all()
        if power:
            self.disk.cut_power()
            self.gateway_disk.cut_power()
            self.kill_gateway("power")
            self.following.drop()
        self.watch.restart()

    def turn_engine(self) -> None:
        """One turn of the engine, if it does not hang; a death is a death, the next call starts it again."""
        if self.hung_until_ns:
            if self.clock.monotonic < self.hung_until_ns:
                return
            self.hung_until_ns = 0
            self.struck(Fault.HANG)
        try:
            if self.engine is None:
                self._start_or_fail()
            else:
                self.engine.turn()
                if self.engine._is_done():
                    self._leave()
            if self.random.random() < 0.1:
                self.compare()
        except CrashError as e:
            self.kill_engine(str(e), power=self.random.random() < 0.3)
        except PowerCutError:
            self.kill_engine("in a disk operation", power=True)
        except JournalFailedError:
            self.kill_engine("failed sync", power=self.random.random() < 0.5)

    def hang_engine(self, ns: int) -> None:
        """Stop the engine for a while, as SIGSTOP does; it goes on with what it had read."""
        if self.engine is not None:
            self.hung_until_ns = self.clock.monotonic + ns

    def crash_follower(self) -> None:
        """Kill the follower; the next comparison starts it again."""
        self.following.crash()
        self.crashes.append("follower")
        self.struck(Fault.CRASH_FOLLOWER)

    def _start_or_fail(self) -> None:
        try:
            self.start_engine()
        except OSError:
            self.kill_engine("start", power=False)

    def _leave(self) -> None:
        loop = self.engine
        assert loop is not None
        loop._leave()
        self.crashes.append("engine stopped")
        self.struck(Fault.STOP)
        self.engine = None
        for name in ROUTERS:
            self.net.drop(getattr(loop, name))
        self.lock.close()
        self.disk.close_all()
        self.watch.restart()

    def stop_something(self) -> None:
        """Ask a process to stop as its supervisor would."""
        if self.hosts and self.random.random() < 0.5:
            self.random.choice(self.hosts).stop()
        elif self.random.random() < 0.3:
            self.ask(StartDrain(self.settings.drain_ms, "because"))
        elif self.engine is not None:
            self.stop.is_set, self.stop.count = True, 1

    # The gateway

    def start_gateway(self) -> None:
        self.venue = MoodyVenue(self.random, is_slow=self.is_slow, refuses=self.faults, miscounts=self.miscounts)
        self.gateway = GatewayLoop(self.gateway_settings, self.net, self.venue, TOKEN, self.log)  # type: ignore[arg-type]
        self.feed_epoch += 1
        self.feed_seq = 0
        self.tick(BookClear(*self._stamp()))
        if not self.faults or self.random.random() < 0.6:
            self.quote()

    def kill_gateway(self, why: str) -> None:
        self.crashes.append(f"gateway {why}")
        if self.gateway is not None:
            self.gateway.drop()
        self.gateway = None
        self.gateway_disk.close_all()

    def turn_gateway(self) -> None:
        """One turn of the gateway, if it is awake."""
        if self.gateway_paused_until_ns:
            if self.clock.monotonic < self.gateway_paused_until_ns:
                return
            self.gateway_paused_until_ns = 0
            self.struck(Fault.ZOMBIE_GATEWAY)
        try:
            if self.gateway is None:
                self.start_gateway()
            else:
                gateway = self.gateway.gateway
                was_cancelled = gateway._has_cancelled_for_loss
                self.gateway.turn(0)
                if gateway._has_cancelled_for_loss and not was_cancelled:
                    self.struck(Fault.ENGINE_LOSS)
        except CrashError as e:
            self.struck(Fault.CRASH_GATEWAY)
            self.kill_gateway(str(e))

    def kill_at_venue(self, *, is_killed: bool) -> None:
        """Use the gateway's own kill, or lift it."""
        if self.gateway is None:
            return
        try:
            self.gateway.gateway.set_killed("op", self.clock.wall, is_killed=is_killed)
            if is_killed:
                self.struck(Fault.GATEWAY_KILL)
        except CrashError as e:
            self.struck(Fault.CRASH_GATEWAY)
            self.kill_gateway(str(e))

    # The others

    def turn_host(self, host: SidecarHost) -> None:
        """One turn of a sidecar, if it is awake."""
        if host.paused_until_ns and self.clock.monotonic >= host.paused_until_ns:
            host.paused_until_ns = 0
            self.struck(Fault.ZOMBIE_SIDECAR)
        try:
            if host.turn():
                self.struck(Fault.STOP)
        except CrashError as e:
            self.crashes.append(str(e))
            self.struck(Fault.CRASH_SIDECAR)
            host.die()

    def turn_books(self, *, peek: bool = False) -> None:
        """One step of the books writer."""
        if not self.journal.is_dir():
            return
        try:
            self.books.step(self.journal, peek=peek)
        except CrashError as e:
            self.crashes.append(str(e))
            self.struck(Fault.CRASH_BOOKS)

    # The market

    def _stamp(self) -> tuple[int, int, int, int]:
        self.feed_seq += 1
        return self.feed_epoch, self.feed_seq, self.clock.wall, self.clock.wall

    def tick(self, tick: Tick) -> None:
        if self.venue is not None and self.gateway is not None:
            self.venue.on_tick("XY", tick)

    def quote(self) -> None:
        """The touch is 100 to 101, a few lots a level."""
        size = self.random.randint(2, 9)
        levels = [(100 - n, size) for n in range(5)], [(101 + n, size) for n in range(5)]
        self.tick(BookSnapshot(*self._stamp(), *levels))

    # What holds at any time

    def compare(self) -> None:
        """Whenever nothing is buffered, exposure is what the checkers compute, and a replica has the same state."""
        loop = self.engine
        if loop is None or loop._writer.buffered_records:
            return
        self.watch.read()
        state = loop._core.state
        if self.watch.ledgers.is_venue_honest:
            require_same_exposure(state, self.watch.ledgers)
        for record in self.watch.records[self.replicated :]:
            self.replica.apply(*record)
        self.replicated = len(self.watch.records)
        self.compared += 1
        assert state_hash(self.replica.state) == state_hash(state), "a replica differs from the live state"
        self.following.turn(self.journal)
