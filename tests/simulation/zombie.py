"""A zombie engine, beside the machines that go on without it.

Its machine falls silent, another one takes the volume over as it is on the medium, and when a gateway has confirmed the
new epoch the old engine goes on with what it had read, and for a while every address leads to it.
"""

from __future__ import annotations

import shutil

import msgspec

from journal.errors import JournalFailedError
from protocol.errors import FencedError
from tests.simulation.coverage import Fault
from tests.simulation.disk import SimulatedDisk
from tests.simulation.machines import ROUTERS, Machines
from tests.simulation.memory import CrashError
from tests.simulation.stand_ins import MS


class Haunted(Machines):
    """Machines of which one may be thought dead and is not."""

    def take_over(self) -> None:
        """The engine's machine falls silent; another one has its volume from here on."""
        loop = self.engine
        if loop is None or self.zombie is not None:
            return
        self.crashes.append("engine silent")
        self.zombie, self.zombie_lock, self.engine = loop, self.lock, None
        for name in ROUTERS:
            router = getattr(loop, name)
            router.on_output = None
            del self.net.routers[router.endpoint]
        loop._events.on_output = None  # type: ignore[attr-defined]
        for dealer in (*self.dealers(), self.operator):
            dealer.router = None
        disk, journal = SimulatedDisk(self.random), self.folder / f"journal-{len(self.crashes)}"
        disk.struck, disk.before_sync = self.struck, self._peek
        self.disk.before_sync = lambda: None
        self.disk.heal()
        journal.mkdir()
        disk.take_over(self.disk, self.journal, journal)
        for beside in ("holders", "snapshots"):
            if (self.journal / beside).is_dir():
                shutil.copytree(self.journal / beside, journal / beside)
        self.following.drop()
        self.books.close()
        self.disk, self.journal = disk, journal
        self.settings = msgspec.structs.replace(self.settings, journal_dir=str(journal))
        self.watch.restart(disk, journal)

    def turn_zombie(self) -> None:
        """The old engine goes on, once the gateway serves a newer epoch."""
        zombie = self.zombie
        if zombie is None or self.gateway is None:
            return
        epoch = zombie._core.state.epoch
        if self.gateway.gateway.state.epoch <= epoch:
            return
        knows_newer = all(c.epoch > epoch for c in self.clients) and all(
            h.loop is not None and h.sidecar.session.epoch > epoch for h in self.hosts
        )
        if not self.detoured_until_ns and knows_newer:
            self.detoured_until_ns = self.clock.monotonic + self.random.choice((1_000, 4_000)) * MS
            self.net.detours["sidecars"] = zombie._sidecar_router  # type: ignore[assignment]
            if self.random.random() < 0.2:  # a gateway's hello ends the zombie at once
                self.net.detours["venues"] = zombie._venue_router  # type: ignore[assignment]
            for dealer in self.dealers():
                dealer.cut(self.random)
        try:
            zombie.turn()
            self.struck(Fault.ZOMBIE_ENGINE)
        except (FencedError, JournalFailedError, CrashError):
            self.bury_zombie()
            return
        if self.detoured_until_ns and self.clock.monotonic > self.detoured_until_ns:
            self.bury_zombie()

    def bury_zombie(self) -> None:
        """The old engine ends at last."""
        zombie, self.zombie = self.zombie, None
        self.detoured_until_ns = 0
        self.net.detours.clear()
        if zombie is not None:
            self.crashes.append("zombie buried")
            for name in ROUTERS:
                self.net.drop(getattr(zombie, name))
            zombie._writer.close()
            zombie._records.close()
            self.zombie_lock.close()
