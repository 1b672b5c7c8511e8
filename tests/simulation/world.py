"""The whole path in one process under one seed, with faults drawn at every step.

Clients of our own; the real engine loop, core and journal, the real gateway loop and sandbox venue, on virtual sockets
and a virtual clock.

Faults: the engine dies at a named point, inside a disk operation, by a failed sync, with or without the machine's
power; the gateway dies at a named point; any session is cut with part of what was on the way; the wall clock jumps.
After ``run`` the faults stop and ``settle`` must come to rest: every delivery answered, nothing pending at the venue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

import engine.loop
import engine.start
import runtime.failpoints
import venues.core.gateway
import venues.core.loop
from engine.core import Core
from engine.loop import EngineLoop
from engine.settings import EngineSettings, Opening, OpeningPosition
from engine.state import state_hash
from journal.errors import JournalFailedError
from journal.format import JournalSettings
from market.table import TableWriter
from protocol.codes import Code, Mode, OrderStatus, Scope, Side
from protocol.control import ConfirmClock, ControlBody, ControlReply, ControlRequest, SetState, reply_decoder
from protocol.session import Outcome
from protocol.ticks import BookClear, BookSnapshot, Tick, Trade
from runtime.clock import EngineClock
from tests.simulation.checkers import Answers, VenueSide, Watch, verify_positions
from tests.simulation.client import Client, Delivery
from tests.simulation.ledgers import Ledgers
from tests.simulation.memory import (
    CrashError,
    MemoryDealer,
    MemoryPublisher,
    MemoryRouter,
    MemoryWaiter,
    Net,
    VirtualClock,
)
from tests.simulation.stand_ins import KEYS_MAX, POSITION_MAX, FaultyDisk, Log, SlowVenue, params
from tests.unit.journal.samples import PowerCutError
from tests.unit.venues.stage import XY
from venues.core.loop import GatewayLoop
from venues.core.settings import GatewaySettings
from venues.sandbox import SandboxVenue

E9 = 10**9
MS = 10**6
TOKEN = "t" * 40
ENGINE_POINTS = (
    "engine.after_receive", "engine.after_decide", "engine.after_report", "engine.after_sync",
    "engine.after_venue_send", "engine.after_outcome",
)  # fmt: skip
GATEWAY_POINTS = ("gateway.after_receive", "gateway.after_sync", "gateway.before_report", "gateway.after_report")
SETTLE_ROUNDS = 400
LIFT_ROUND = 20


class World:
    """One run. Everything random comes from ``seed``; defects are planted by ``loop_kind`` and ``after_start``."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        loop_kind: type[EngineLoop] = EngineLoop,
        after_start: Callable[[Core], None] | None = None,
        opening: int = 0,
        faults: bool = True,
        is_slow: bool = False,
    ) -> None:
        self.random = Random(seed)
        self.folder = folder
        self.clock = VirtualClock()
        self.watch = Watch(folder / "journal", Ledgers(POSITION_MAX * E9))
        self.net = Net(self.watch.on_output)
        self.answers = Answers()
        self.loop_kind = loop_kind
        self.after_start = after_start
        self.faults = faults
        self.is_slow = is_slow
        self.armed = ""
        self.crashes: list[str] = []
        self.replica = Core(KEYS_MAX)
        self.replicated = 0
        self.compared = 0
        (folder / "token").write_text(TOKEN)
        self.table = TableWriter.create(folder / "table", ["XY"])
        self.settings = EngineSettings(
            mode=Mode.PAPER, shard=0, journal_dir=str(folder / "journal"), sidecars_endpoint="sidecars",
            venues_endpoint="venues", events_endpoint="events", control_endpoint="control",
            token_file=str(folder / "token"), table_path=str(folder / "table"), params=params(), credits=64,
            opening=Opening((OpeningPosition("a1", "XY", opening * E9, 100 * E9),) if opening else ()),
            segment_bytes=1 << 16, dedup_keys_max=KEYS_MAX, disk_reserve_bytes=0, lease_ms=1000, venue_window=8,
        )  # fmt: skip
        self.opening = opening
        self.gateway_settings = GatewaySettings(
            venue="sandbox", gateway="g", engine_endpoint="venues", control_endpoint="gcontrol",
            token_file=str(folder / "token"), log_dir=str(folder / "gateway"), instruments=(XY,), feed_endpoint="f",
            snapshots_endpoint="s", segments_kept=1_000_000,
        )  # fmt: skip
        self.log = Log()
        self.engine: EngineLoop | None = None
        self.gateway: GatewayLoop | None = None
        self.venue: SandboxVenue | None = None
        self.feed_epoch = self.feed_seq = 0
        self.clients = [Client(f"c{n}", self.net, self.clock, self.random, self._answered) for n in range(2)]
        self.operator = MemoryDealer(self.net, "control", 0)
        self.replies: list[ControlReply] = []

    def _answered(self, delivery: Delivery, outcome: Outcome) -> None:
        self.answers.take(delivery.body, outcome)

    # Processes

    def token_bytes(self, count: int) -> bytes:
        """``secrets``, from the seed."""
        return self.random.randbytes(count)

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Put memory and virtual time where processes have sockets and clocks."""
        clock, net = self.clock, self.net
        time = SimpleNamespace(monotonic_ns=clock.monotonic_ns)
        sockets: dict[str, Any] = {"Router": MemoryRouter, "Waiter": MemoryWaiter}
        with contextlib.ExitStack() as stack:
            for target, names in (
                (engine.loop, {**sockets, "Context": lambda: net, "Publisher": MemoryPublisher, "time": time}),
                (
                    engine.start,
                    {
                        "Disk": self._make_disk,
                        "wall_ns": clock.wall_ns,
                        "secrets": self,
                        "time": time,
                        "EngineClock": partial(EngineClock, wall=clock.wall_ns, monotonic=clock.monotonic_ns),
                        "JournalSettings": partial(JournalSettings, prepare_ahead=False),
                    },
                ),
                (venues.core.loop, {**sockets, "Dealer": MemoryDealer, "clock": clock}),
                (venues.core.gateway, {"hit": self._hit}),
                (runtime.failpoints, {"hit": self._hit}),
            ):
                stack.enter_context(patch.multiple(target, **names))
            # The gateway's log is killed, never unplugged: its real syncs only cost time here.
            stack.enter_context(patch("os.fdatasync"))
            stack.enter_context(patch("os.fsync"))
            yield

    def _make_disk(self) -> FaultyDisk:
        self.disk = FaultyDisk(self.random)
        return self.disk

    def _hit(self, name: str) -> None:
        if name == self.armed:
            self.armed = ""
            raise CrashError(name)

    def start_engine(self) -> None:
        started = engine.start.start(self.settings)
        self.lock = started.lock
        if self.after_start is not None:
            self.after_start(started.core)
        stop = SimpleNamespace(fd=0, is_set=False, count=0)
        self.engine = self.loop_kind(self.settings, started, stop, self.log)  # type: ignore[arg-type]

    def kill_engine(self, why: str, *, power: bool) -> None:
        """Drop the engine; with ``power`` also what was not synced, and the gateway on the same machine."""
        self.crashes.append(f"engine {why}{' and power' if power else ''}")
        loop = self.engine
        self.engine = None
        if loop is not None:
            for name in ("_control_router", "_venue_router", "_sidecar_router"):
                self.net.drop(getattr(loop, name))
            loop._writer.close()
            loop._records.close()
            self.lock.close()
        if power:
            self.disk.cut_power()
            self.kill_gateway("power")
        self.watch.restart()

    def start_gateway(self) -> None:
        self.venue = SlowVenue(self.random) if self.is_slow else SandboxVenue([XY])
        self.gateway = GatewayLoop(self.gateway_settings, self.net, self.venue, TOKEN, self.log)  # type: ignore[arg-type]
        self.feed_epoch += 1
        self.feed_seq = 0
        self.tick(BookClear(*self._stamp()))
        self.quote()

    def kill_gateway(self, why: str) -> None:
        self.crashes.append(f"gateway {why}")
        if self.gateway is not None:
            self.gateway.drop()
        self.gateway = None

    # The market

    def _stamp(self) -> tuple[int, int, int, int]:
        self.feed_seq += 1
        return self.feed_epoch, self.feed_seq, self.clock.wall, self.clock.wall

    def tick(self, tick: Tick) -> None:
        if self.venue is not None and self.gateway is not None:
            self.venue.on_tick("XY", tick)

    def quote(self) -> None:
        """The touch is 100 to 101, a few lots a level."""
        size = self.random.randint(3, 12)
        levels = [(100 - n, size) for n in range(5)], [(101 + n, size) for n in range(5)]
        self.tick(BookSnapshot(*self._stamp(), *levels))

    def trade(self) -> None:
        """A trade that may reach what rests."""
        side = self.random.choice((Side.BUY, Side.SELL))
        price = self.random.choice((101, 102, 103) if side is Side.BUY else (100, 99, 98))
        self.tick(Trade(*self._stamp(), price, self.random.randint(1, 40), side, 0))

    # Turns

    def turn_engine(self) -> None:
        """One turn of the engine; a death is a death, the supervisor starts it again at the next call."""
        try:
            if self.engine is None:
                self.start_engine()
            else:
                self.engine.turn()
            if self.random.random() < 0.1:
                self.compare()
        except CrashError as e:
            self.kill_engine(str(e), power=self.random.random() < 0.3)
        except PowerCutError:
            self.kill_engine("in a disk operation", power=True)
        except JournalFailedError:
            self.kill_engine("failed sync", power=self.random.random() < 0.5)

    def turn_gateway(self) -> None:
        try:
            if self.gateway is None:
                self.start_gateway()
            else:
                self.gateway.turn(0)
        except CrashError as e:
            self.kill_gateway(str(e))

    def ask(self, body: ControlBody) -> None:
        """Let an operator ask; the answer is read later."""
        self.operator.send(msgspec.msgpack.encode(ControlRequest(TOKEN, "op", body)))

    def fault(self) -> None:
        """Draw one."""
        draw = self.random
        match draw.choice(("engine", "engine", "disk", "sync", "gateway", "client", "client", "session", "clock")):
            case "engine":
                self.armed = draw.choice(ENGINE_POINTS)
            case "disk" if self.engine is not None:
                self.disk.cut_in(draw.randint(1, 6))
            case "sync" if self.engine is not None:
                self.disk.sync_fails_in = draw.randint(1, 3)
            case "gateway":
                self.armed = draw.choice(GATEWAY_POINTS)
            case "client":
                draw.choice(self.clients).cut()
            case "session" if self.gateway is not None:
                self.gateway._engine.cut(draw)  # type: ignore[attr-defined]
            case "clock" if draw.random() < 0.2:
                self.clock.wall += 6 * E9

    def control(self) -> None:
        draw = self.random
        action = draw.choice(("halt", "kill", "kill", "reduce_only", *["resume"] * 10))
        scope, key = draw.choice(((Scope.GLOBAL, ""), (Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1")))
        self.ask(SetState(action, scope, key, "because"))

    def step(self) -> None:
        """One thing happens, drawn by the seed; time passes."""
        draw = self.random
        self.clock.advance(draw.choice((MS, 5 * MS, 20 * MS, 120 * MS)))
        if draw.random() < 0.9:
            self.table.write_trade(0, 100 * E9, E9, self.clock.wall, self.clock.wall)
        if self.faults and draw.random() < 0.04:
            self.fault()
        chance = draw.random()
        if chance < 0.30:
            client = draw.choice(self.clients)
            for _ in range(draw.randint(1, 3)):
                client.produce()
            client.turn()
        elif chance < 0.40:
            draw.choice(self.clients).turn()
        elif chance < 0.66:
            self.turn_engine()
        elif chance < 0.86:
            self.turn_gateway()
        elif chance < 0.97:
            draw.choice((self.quote, self.trade))()
        elif chance < 0.99:
            self.control()
        self.replies += [reply_decoder.decode(b) for b in self.operator.receive(10)]

    def round(self, ms: int = 50) -> None:
        """Everybody has a turn, nothing goes wrong."""
        self.clock.advance(ms * MS)
        self.table.write_trade(0, 100 * E9, E9, self.clock.wall, self.clock.wall)
        for client in self.clients:
            client.turn()
        self.turn_engine()
        self.turn_gateway()
        self.turn_engine()
        self.replies += [reply_decoder.decode(b) for b in self.operator.receive(10)]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    # Rest

    def stop_faults(self) -> None:
        """From here on nothing fails any more, and the operators lift what is halted."""
        self.faults = False
        self.armed = ""
        if self.engine is not None:
            self.disk._cut_at = self.disk.sync_fails_in = 0

    def lift(self) -> None:
        self.ask(ConfirmClock("checked"))
        for scope, key in ((Scope.GLOBAL, ""), (Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1")):
            self.ask(SetState("resume", scope, key, "over"))

    def is_at_rest(self) -> bool:
        if self.engine is None or self.gateway is None or not all(c.is_settled for c in self.clients):
            return False
        state = self.engine._core.state
        waiting = {OrderStatus.PENDING_NEW, OrderStatus.PENDING_CANCEL, OrderStatus.UNKNOWN}
        return (
            all(v.ready for v in state.venues.values())
            and not any(o.status in waiting for o in state.orders.values())
            and self.gateway.gateway.state.report_seq == state.venues["sandbox"].report_seq
            and self.gateway.gateway.state.received_seq == state.venues["sandbox"].last_seq
        )

    def settle(self) -> None:
        """Liveness: without faults everything comes to rest."""
        self.stop_faults()
        for n in range(SETTLE_ROUNDS):
            if n == LIFT_ROUND:
                self.lift()
            self.round()
            if n > LIFT_ROUND + 2 and self.is_at_rest():
                return
        raise AssertionError(f"not at rest after {SETTLE_ROUNDS} rounds: {self.describe()}")

    def describe(self) -> str:
        clients = [(c._phase, len(c.waiting), len(c.in_flight)) for c in self.clients]
        state = self.engine._core.state if self.engine else None
        orders = [(o.client_order_id, o.status.name) for o in state.orders.values()] if state else []
        venues_ = (
            [(v.ready, v.last_seq, v.received_seq, len(v.awaiting)) for v in state.venues.values()] if state else []
        )
        return f"crashes={self.crashes} clients={clients} orders={orders} venues={venues_} log={self.log.lines[-5:]}"

    def verify(self) -> None:
        """Let every checker look."""
        assert self.engine is not None
        self.watch.read()
        self.answers.verify()
        assert Code.INTERNAL not in self.answers.codes, f"decide raised: {self.log.lines[-3:]}"
        venue = VenueSide(self.folder / "gateway")
        venue.verify(self.watch)
        state = self.engine._core.state
        ours = {k: v.position * XY.quantity_step_e9 for k, v in state.book.ledgers.items()}
        if self.opening:
            ours["a1", "XY"] = ours["a1", "XY"] - self.opening * E9
        verify_positions(venue, ours)
        assert all(abs(v.position) <= max(POSITION_MAX, abs(self.opening)) for v in state.book.ledgers.values())
        self.compare()

    def compare(self) -> None:
        """A replica that applies the durable records alone has the engine's state, whenever nothing is buffered."""
        loop = self.engine
        if loop is None or loop._writer.buffered_records:
            return
        self.watch.read()
        for record in self.watch.records[self.replicated :]:
            self.replica.apply(*record)
        self.replicated = len(self.watch.records)
        self.compared += 1
        assert state_hash(self.replica.state) == state_hash(loop._core.state), "a replica differs from the live state"

    def close(self) -> None:
        self.stop_faults()
        if self.engine is not None:
            self.kill_engine("end", power=False)
        if self.gateway is not None:
            self.kill_gateway("end")
        self.watch.restart()
        self.table.close()


def simulate(folder: Path, seed: int, steps: int = 250, **planted: Any) -> World:
    """Run one seed to its end and check it; raises with the command that repeats it."""
    folder.mkdir(parents=True, exist_ok=True)
    opening = Random(seed).choice((0, 0, 20, -20))
    world = World(folder, seed, opening=opening, faults=seed % 8 != 0, is_slow=seed % 2 == 1, **planted)
    with world.patched():
        try:
            world.run(steps)
            world.settle()
            world.verify()
        except Exception as e:
            again = f"WOJAK_SIM_SEEDS={seed}:{seed + 1} pytest tests/simulation/test_simulation.py -k every_seed"
            raise AssertionError(
                f"seed {seed}: {type(e).__name__}: {e}; crashes {world.crashes}; again: {again}"
            ) from e
        finally:
            world.close()
    return world
