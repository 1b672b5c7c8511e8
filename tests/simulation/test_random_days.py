"""Seeds with faults at every step whose operators also roll the trading day and ask venues what they have."""

from __future__ import annotations

from random import Random

import pytest

from engine.rolls import KEPT_MIN_NS
from protocol.control import Reconcile, RollSession
from protocol.records import DayOrdersExpired, Reconciled
from protocol.rolls import KeysRetired, SessionRolled
from tests.simulation.stand_ins import E9
from tests.simulation.world import World

SEEDS = (*range(12), 35)  # in the last one the venue miscounts
COMMANDS = 300


class RollingWorld(World):
    """A world in which days end every now and then; between two ends no message is old enough to matter."""

    keys_left = keys_living = -1

    def control(self) -> None:
        draw = self.random.random()
        if draw < 0.25:
            self.ask(RollSession(0, "early close"))
        elif draw < 0.4:
            self.ask(Reconcile("", "look"))
        else:
            super().control()

    def roll_to_the_end(self) -> None:
        """Two more days, long enough for every key that may leave; then all must be at rest again."""
        for _ in range(2):
            self.clock.advance(KEPT_MIN_NS + E9)
            self.ask(RollSession(0, "end of day"))
            for _ in range(200):
                self.round()
                if self.is_at_rest() and self.engine is not None and not self.engine._core.state.day.is_busy:
                    break
        assert self.engine is not None
        state = self.engine._core.state
        self.keys_left = state.dedup.keys
        self.keys_living = sum(1 + len(o.terms.keys if o.terms else ()) for o in state.orders.values())


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[RollingWorld]:
    """Every seed's world, at rest and checked, its days over."""
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"days-{seed}")
        opening = Random(seed).choice((0, 20, -20))
        world = RollingWorld(folder, seed, opening=opening, faults=seed > 0, is_slow=seed % 2 == 1, clients=1, hosts=2)
        with world.patched():
            try:
                world.run(COMMANDS)
                world.settle()
                world.roll_to_the_end()
                world.verify()
            except Exception as e:  # whatever it is: without its seed nobody can look at it again
                raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}; crashes {world.crashes}") from e
            finally:
                world.close()
        found.append(world)
    return found


def recorded(world: RollingWorld, kind: type) -> list[object]:
    return [r for *_, r in world.watch.records if isinstance(r, kind)]


def test_rolls_among_faults_lose_nothing(worlds: list[RollingWorld]) -> None:
    """Every checker holds over them; each roll has its record, and dates only go on."""
    assert len(worlds) == len(SEEDS)
    for world in worlds:
        dates = [r.to_date for r in recorded(world, SessionRolled) if isinstance(r, SessionRolled)]
        assert dates == sorted(set(dates))
    assert sum(len(recorded(w, SessionRolled)) for w in worlds) > 3 * len(SEEDS)
    assert sum(len(recorded(w, DayOrdersExpired)) for w in worlds) > len(SEEDS) // 2


def test_keys_leave_when_their_days_are_over(worlds: list[RollingWorld]) -> None:
    """At the end the table holds the ids of living orders and no other."""
    for world in worlds:
        assert recorded(world, KeysRetired)
        assert world.watch.accepted
        assert world.keys_left == world.keys_living


def test_statements_among_faults_find_no_difference_where_there_is_none(worlds: list[RollingWorld]) -> None:
    """Crashes, cuts, slow venues, unanswered replaces: both sides are compared as of one moment."""
    asked = [(world, r) for world in worlds for r in recorded(world, Reconciled) if isinstance(r, Reconciled)]
    assert len(asked) > 5 * len(SEEDS)
    assert {r.cause for _, r in asked} == {"start", "reconnect", "asked", "doubt"}
    assert all(world.miscounts for world, r in asked if r.cause == "doubt")  # no other venue raises one
    assert [d for _, r in asked for d in r.differences] == []
