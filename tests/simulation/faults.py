"""Drawing faults: which, where, how hard. What each does is the world's, the net's and the disk's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.coverage import Fault
from tests.simulation.memory import MemoryDealer
from tests.simulation.stand_ins import E9, MS

if TYPE_CHECKING:
    from tests.simulation.world import World

ENGINE_POINTS = (
    "engine.after_receive", "engine.after_decide", "engine.after_report", "engine.after_sync",
    "engine.after_venue_send", "engine.after_outcome",
)  # fmt: skip
GATEWAY_POINTS = (
    "gateway.after_receive", "gateway.after_sync", "gateway.before_report", "gateway.after_report", "gateway.in_sync",
)  # fmt: skip
SIDECAR_POINTS = ("sidecar.after_receive", "sidecar.after_submit", "sidecar.after_outcome", "sidecar.before_settle")
BOOKS_POINTS = ("books.after_read", "books.before_commit", "books.after_commit")
WEIGHTS = {
    Fault.LOSS: 6, Fault.DUPLICATION: 6, Fault.REORDER: 6, Fault.DELAY: 6, Fault.PARTITION: 4, Fault.CUT: 6,
    Fault.CRASH_ENGINE: 6, Fault.CRASH_GATEWAY: 5, Fault.CRASH_SIDECAR: 5, Fault.CRASH_BOOKS: 3, Fault.POWER: 8,
    Fault.SYNC: 4, Fault.DISK_FULL: 3, Fault.CLOCK_BACK: 3, Fault.CLOCK_FORWARD: 3, Fault.ZOMBIE_ENGINE: 3,
    Fault.ZOMBIE_GATEWAY: 3, Fault.ZOMBIE_SIDECAR: 4, Fault.STOP: 4, Fault.BUST: 6, Fault.CORRECT: 6,
    Fault.CRASH_FOLLOWER: 4, Fault.HANG: 8, Fault.GATEWAY_KILL: 2,
}  # fmt: skip


class Faults:
    """Draws what goes wrong next."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random

    def strike(self) -> None:
        """Let something go wrong now, or soon."""
        (fault,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        match fault:
            case Fault.LOSS | Fault.DUPLICATION | Fault.REORDER | Fault.DELAY | Fault.PARTITION:
                self._network(fault)
            case Fault.CUT:
                self._cut()
            case Fault.CLOCK_BACK | Fault.CLOCK_FORWARD:
                self._clock(fault)
            case Fault.BUST | Fault.CORRECT:
                self._amend(fault)
            case Fault.ZOMBIE_ENGINE | Fault.ZOMBIE_GATEWAY | Fault.ZOMBIE_SIDECAR:
                self._zombie(fault)
            case _:
                self._process(fault)

    def _network(self, fault: Fault) -> None:
        draw = self._random
        if fault is not Fault.DELAY and fault is not Fault.PARTITION and draw.random() < 0.3:
            self._broker(fault)
            return
        dealer = self._dealer()
        if dealer is None:
            return
        if fault is Fault.PARTITION:
            until_ns = self._world.clock.monotonic + draw.choice((200, 1_500, 4_000)) * MS
            for blocked in draw.choice(((dealer.up, dealer.down), (dealer.up,), (dealer.down,))):
                blocked.blocked_until_ns = until_ns
            return
        way = draw.choice((dealer.up, dealer.down))
        match fault:
            case Fault.LOSS:
                way.lose = draw.randint(1, 4)
            case Fault.DUPLICATION:
                way.double = draw.randint(1, 3)
            case Fault.REORDER:
                way.swap = 1
            case _:
                way.delay_ns = draw.choice((0, 5, 60, 400)) * MS

    def _broker(self, fault: Fault) -> None:
        """The broker's own: settlements that fail, messages handed out twice, and in no order."""
        broker, draw = self._world.broker, self._random
        match fault:
            case Fault.LOSS:
                broker.refuses = draw.randint(1, 5)
            case Fault.DUPLICATION:
                broker.doubles = draw.randint(2, 6)
            case _:
                broker.shuffles = draw.randint(1, 3)

    def _dealer(self) -> MemoryDealer | None:
        found = self._world.dealers()
        return self._random.choice(found) if found else None

    def _cut(self) -> None:
        dealer = self._dealer()
        if dealer is not None:
            dealer.cut(self._random)
            self._world.struck(Fault.CUT)

    def _clock(self, fault: Fault) -> None:
        draw = self._random
        seconds = draw.choice((6, 20)) if fault is Fault.CLOCK_FORWARD else -draw.choice((1, 4))
        self._world.step_clock(fault, seconds * E9, at_once=draw.random() < 0.3)

    def _amend(self, fault: Fault) -> None:
        """The venue has second thoughts about a trade of the last ones."""
        world = self._world
        if world.venue is not None and world.gateway is not None and world.venue.amend_one(bust=fault is Fault.BUST):
            world.struck(fault)

    def _zombie(self, fault: Fault) -> None:
        world, draw = self._world, self._random
        until_ns = world.clock.monotonic + draw.choice((500, 2_000, 5_000)) * MS
        match fault:
            case Fault.ZOMBIE_ENGINE:
                world.take_over()
            case Fault.ZOMBIE_GATEWAY:
                world.gateway_paused_until_ns = until_ns
            case _ if world.clients and draw.random() < 0.3:
                draw.choice(world.clients).speak_as_before()
                world.struck(fault)
            case _ if world.hosts:
                draw.choice(world.hosts).paused_until_ns = until_ns
            case _:
                pass

    def _process(self, fault: Fault) -> None:
        world, draw = self._world, self._random
        match fault:
            case Fault.CRASH_ENGINE:
                world.armed = draw.choice(ENGINE_POINTS)
            case Fault.CRASH_GATEWAY:
                world.armed = draw.choice(GATEWAY_POINTS)
            case Fault.CRASH_SIDECAR:
                world.armed = draw.choice(SIDECAR_POINTS)
            case Fault.CRASH_BOOKS:
                world.armed = draw.choice(BOOKS_POINTS)
            case Fault.POWER:
                world.disk.cut_in = draw.randint(1, 12)
            case Fault.SYNC:
                world.disk.sync_fails_in = draw.randint(1, 3)
            case Fault.CRASH_FOLLOWER:
                world.crash_follower()
            case Fault.HANG:
                world.hang_engine(draw.choice((700, 2_500, 4_000)) * MS)
                if draw.random() < 0.3:
                    world.kill_at_venue(is_killed=True)
            case Fault.GATEWAY_KILL:
                world.kill_at_venue(is_killed=True)
            case Fault.DISK_FULL:
                world.disk.is_full = True
                world.disk_full_until_ns = world.clock.monotonic + draw.choice((300, 1_500)) * MS
            case _:
                world.stop_something()
