"""The follower of a simulated world: the real replica, on the journal's real files."""

from __future__ import annotations

from pathlib import Path
from random import Random

from engine.replica import Replica
from tests.simulation.stand_ins import KEYS_MAX


class Following:
    """Decides and applies what is durable, and now and then writes a snapshot, from which the next engine starts."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"follower {seed}")  # its own: what it does changes no other draw
        self._replica: Replica | None = None
        self.snapshots = 0

    def turn(self, journal: Path) -> None:
        if self._replica is None:
            self._replica = Replica(journal, KEYS_MAX, holder="follower")
        while self._replica.step():
            pass
        assert self._replica.parted is None, f"the follower parted: {self._replica.parted}"
        if self._random.random() < 0.3:
            for _ in self._replica.snapshot():
                pass
            self._replica.prune(2)
            self.snapshots += 1

    def crash(self) -> None:
        """Die, maybe in the middle of a snapshot; the next turn begins with what is whole."""
        if self._replica is not None and self._random.random() < 0.5:
            for n, _ in enumerate(self._replica.snapshot()):
                if n == self._random.randint(0, 3):
                    break
        self.drop()

    def drop(self) -> None:
        if self._replica is not None:
            self._replica.close()
        self._replica = None
