"""The whole path in one process under one seed, with faults drawn at every step.

The real sidecar loop, engine loop, core and journal, gateway loop, sandbox venue and books, on virtual sockets, disks
and clocks; a broker, and clients of our own beside it. What goes wrong is drawn by ``faults``, counted by ``coverage``.
After ``run`` the faults stop and ``settle`` must come to rest: every message settled, nothing pending at the venue.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from random import Random

from protocol.codes import Code, OrderStatus, Scope, Side
from protocol.control import ConfirmClock, SetLimit, SetState, StartFlatten, reply_decoder
from protocol.params import LimitName
from protocol.records import ControlAction, FlattenPlan
from protocol.ticks import Trade
from tests.simulation.client import Client
from tests.simulation.disk import PowerCutError
from tests.simulation.faults import Faults
from tests.simulation.memory import CrashError
from tests.simulation.money import verify_money
from tests.simulation.sidecar_host import SidecarHost
from tests.simulation.stand_ins import E9, MS, POSITION_MAX
from tests.simulation.venue_side import VenueSide, verify_positions
from tests.simulation.zombie import Haunted
from tests.unit.venues.stage import XY

SETTLE_ROUNDS = 600
LIFT_ROUND = 20
SAID_CHARS = 1_000  # of a failure
SCOPES = ((Scope.GLOBAL, ""), (Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1"))


class World(Haunted):
    """One run."""

    last_price = 100  # of the market, as the table of last values has it

    def control(self) -> None:
        """Let an operator do something."""
        draw = self.random
        stopped = [where for where, action in self.watch.halts.items() if action is not ControlAction.RESUME]
        if draw.random() < 0.1:
            self.flatten_or_limit()
        elif draw.random() < 0.65:
            self.ask(ConfirmClock("checked"))
            for scope, key in stopped or SCOPES:
                self.ask(SetState("resume", scope, key, "because"))
            if self.gateway is not None and self.gateway.gateway.state.is_killed:
                self.kill_at_venue(is_killed=False)
        elif draw.random() < 0.8:
            action = draw.choice(("halt", "kill", "kill", "reduce_only"))
            self.ask(SetState(action, *draw.choice(SCOPES), "because"))
        elif self.gateway is not None:
            self.kill_at_venue(is_killed=not self.gateway.gateway.state.is_killed)

    def flatten_or_limit(self) -> None:
        """Bring a scope to nothing within seconds, or change a limit of the account, or lift the change."""
        draw = self.random
        if draw.random() < 0.6:
            plan = FlattenPlan(f"f{draw.getrandbits(32):08x}", draw.randint(1, 4) * E9, draw.choice((-1, 300)))
            self.ask(StartFlatten(plan, *draw.choice(SCOPES), "because"))
            return
        value = draw.choice((None, 5 * E9, POSITION_MAX * E9))
        self.ask(SetLimit(LimitName.POSITION_MAX, Scope.ACCOUNT, "a1", value, "because"))

    def publish(self) -> None:
        """Let producers publish a few commands: to the broker, or to a client that is its own broker."""
        draw = self.random
        client = draw.choice([None, *self.clients]) if self.hosts else draw.choice(self.clients)
        for _ in range(draw.randint(1, 4)):
            self.commands += 1
            if client is not None:
                client.produce()
                continue
            command = self.generator.next()
            principal = "nobody" if draw.random() < 0.01 else "all"
            self.broker.publish(command if draw.random() < 0.99 else None, principal)
            if draw.random() < 0.05:
                self.commands += 1
                self.broker.publish(command)
        if client is not None:
            client.turn()

    # The market

    def trade(self) -> None:
        """A trade that may reach what rests."""
        side = self.random.choice((Side.BUY, Side.SELL))
        price = self.random.choice((101, 102, 103) if side is Side.BUY else (100, 99, 98))
        self.last_price = price
        self.tick(Trade(*self._stamp(), price, self.random.randint(1, self.random.choice((3, 40))), side, 0))

    def expire(self) -> None:
        """The venue ends an order by itself."""
        if self.venue is not None and self.gateway is not None:
            self.venue.expire_one()

    # Turns

    @functools.cached_property
    def _drawn(self) -> Faults:
        return Faults(self)

    @functools.cached_property
    def _deeds(self) -> list[Callable[[], None]]:
        return [
            self.publish, self._turn_some_client, self._turn_some_host, self.turn_engine, self.turn_gateway,
            self._move_market, self.control, self.turn_books, self.risk.turn,
        ]  # fmt: skip

    @property
    def _deed_weights(self) -> tuple[int, ...]:
        return 22, 8, 12, 20, 18, 14, 2, 3, 8

    def _turn_some_client(self) -> None:
        self.random.choice(self.clients).turn()

    def _turn_some_host(self) -> None:
        if self.hosts:
            self.turn_host(self.random.choice(self.hosts))

    def _move_market(self) -> None:
        self.random.choice((self.quote, self.trade, self.trade, self.quote, self.expire))()

    def step(self) -> None:
        """One thing happens, drawn by the seed; time passes."""
        draw = self.random
        self.clock.advance(draw.choice((MS, 5 * MS, 20 * MS, 120 * MS)))
        if draw.random() < 0.9:
            self.table.write_trade(0, self.last_price * E9, E9, self.clock.wall, self.clock.wall)
        if self.faults and draw.random() < 0.05:
            self._drawn.strike()
        if self.disk.is_full and self.clock.monotonic > self.disk_full_until_ns:
            self.disk.is_full = False
        if self.zombie is not None and draw.random() < 0.5:
            self.turn_zombie()
        (deed,) = draw.choices(self._deeds, self._deed_weights)
        deed()
        self._read_replies()

    def _read_replies(self) -> None:
        self.replies += [reply_decoder.decode(b) for b in self.operator.receive(10)]

    def round(self, ms: int = 50) -> None:
        """Everybody has a turn, nothing goes wrong."""
        self.clock.advance(ms * MS)
        self.table.write_trade(0, self.last_price * E9, E9, self.clock.wall, self.clock.wall)
        for client in self.clients:
            client.turn()
        for host in self.hosts:
            self.turn_host(host)
        self.turn_engine()
        self.turn_gateway()
        self.risk.turn()
        self.turn_engine()
        self._read_replies()

    def run(self, commands: int) -> None:
        """Go on until so many commands were published."""
        while self.commands < commands:
            self.step()

    # Rest

    def stop_faults(self) -> None:
        """From here on nothing fails any more, and the operators lift what is halted."""
        self.faults = self.risk.faults = False
        self.armed = ""
        self.clock_step = None
        self.hung_until_ns = min(self.hung_until_ns, self.clock.monotonic)
        self.disk.heal()
        self.bury_zombie()
        for dealer in self.dealers():
            dealer.heal()
        if self.venue is not None:
            self.venue.refuses = False
        self.broker.doubles = self.broker.shuffles = self.broker.refuses = 0
        self.gateway_paused_until_ns = min(self.gateway_paused_until_ns, self.clock.monotonic)
        for host in self.hosts:
            host.paused_until_ns = min(host.paused_until_ns, self.clock.monotonic)

    def lift(self) -> None:
        self.ask(ConfirmClock("checked"))
        for scope, key in SCOPES:
            self.ask(SetState("resume", scope, key, "over"))
        if self.gateway is not None and self.gateway.gateway.state.is_killed:
            self.kill_at_venue(is_killed=False)

    def is_at_rest(self) -> bool:
        everybody: list[Client | SidecarHost] = [*self.clients, *self.hosts]
        if self.engine is None or self.gateway is None or not all(c.is_settled for c in everybody) or self.broker.kept:
            return False
        state = self.engine._core.state
        doubtful = {OrderStatus.UNKNOWN, OrderStatus.SUSPENDED, OrderStatus.HELD}
        waiting = {s for s in OrderStatus if s.name.startswith("PENDING") or s in doubtful}
        for_a_price = {g.second for g in state.groups.values() if not g.triggered}  # and that may never come
        return (
            all(v.ready for v in state.venues.values())
            and not any(o.status in waiting for o in state.orders.values() if o.order_id not in for_a_price)
            and self.gateway.gateway.state.report_seq == state.venues["sandbox"].report_seq
            and self.gateway.gateway.state.received_seq == state.venues["sandbox"].last_seq
        )

    def settle(self) -> None:
        """Liveness: without faults everything comes to rest."""
        self.stop_faults()
        for n in range(SETTLE_ROUNDS):
            if n % LIFT_ROUND == 0 and n:
                self.lift()
            self.round()
            if n > LIFT_ROUND + 2 and self.is_at_rest():
                return
        raise AssertionError(f"not at rest after {SETTLE_ROUNDS} rounds: {self.describe()}")

    def describe(self) -> str:
        clients = [(c._phase, len(c.waiting), len(c.in_flight)) for c in self.clients]
        hosts = [(h.sidecar.session.state.name, h.is_settled) if h.loop else "dead" for h in self.hosts]
        state = self.engine._core.state if self.engine else None
        orders = [(o.client_order_id, o.status.name) for o in state.orders.values()] if state else []
        venues_ = (
            [(v.ready, v.last_seq, v.received_seq, len(v.awaiting)) for v in state.venues.values()] if state else []
        )
        return (
            f"clients={clients} hosts={hosts} broker={len(self.broker.kept)} orders={orders} venues={venues_} "
            f"log={self.log.lines[-5:]}"
        )

    def verify(self) -> None:
        """Let every checker look."""
        assert self.engine is not None
        self.watch.read()
        self.answers.verify(self.watch)
        self.broker.verify(self.watch)
        assert Code.INTERNAL not in self.answers.codes, f"decide raised: {self.log.lines[-3:]}"
        venue = VenueSide(self.folder / "gateway")
        venue.verify(self.watch)
        state = self.engine._core.state
        ours = {k: v.position * XY.quantity_step_e9 for k, v in state.book.ledgers.items()}
        if self.opening:
            ours["a1", "XY"] = ours["a1", "XY"] - self.opening * E9
        verify_positions(venue, ours)
        if self.watch.ledgers.is_venue_honest:
            verify_money((record for *_, record in self.watch.records), self.watch.ledgers, state)
        most = max(POSITION_MAX, abs(self.opening)) + self.watch.ledgers.drifted_e9 // E9
        assert all(abs(v.position) <= most for v in state.book.ledgers.values())
        self.compare()
        self.books.verify(self.journal)

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(AssertionError):
            self.stop_faults()
            if self.engine is not None:
                self.kill_engine("end", power=False)
        if self.gateway is not None:
            self.kill_gateway("end")
        for host in self.hosts:
            host.die()
        self.books.close()
        self.following.drop()
        self.table.close()


def make(folder: Path, seed: int) -> World:
    """Return the world of a seed: every eighth without faults, three of four with a slow venue, some with positions."""
    folder.mkdir(parents=True, exist_ok=True)
    opening = Random(seed).choice((0, 0, 20, -20))
    return World(folder, seed, opening=opening, faults=seed % 8 != 0, is_slow=seed % 4 != 2, clients=1, hosts=2)


def simulate(folder: Path, seed: int, commands: int = 500) -> World:
    """Run one seed to its end and check it; raises with the command that repeats it."""
    world = make(folder, seed)
    with world.patched():
        try:
            world.run(commands)
            world.settle()
            world.verify()
        except (Exception, CrashError, PowerCutError) as e:
            again = f"make simulate SEED={seed}"
            raise AssertionError(
                f"seed {seed}: {type(e).__name__}: {str(e)[:SAID_CHARS]}; crashes {world.crashes}; again: {again}"
            ) from e
        finally:
            world.close()
    return world
