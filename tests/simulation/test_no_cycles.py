"""The engine and the gateway run without the garbage collector: no turn may leave what only it can free.

The sidecar loop and the books writer have one, and give it nothing to do for orders either.
"""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from protocol.codes import Code
from tests.simulation.world import World

WARM_UP = 300
STEPS = 1_500
MISUSED_EVERY = 50
SEEDS = (8, 31)


class Looping(World):
    """A planted defect: each turn of the engine leaves a list that holds itself."""

    def turn_engine(self) -> None:
        """Turn, and leave a cycle."""
        super().turn_engine()
        holds: list[object] = []
        holds.append(holds)


def misuse(world: World) -> None:
    """Let a sidecar, a gateway and an operator say what nobody understands."""
    world.clients[0].dealer.send(b"\xc1")
    if world.gateway is not None:
        world.gateway._engine.send(b"\xc1")
    world.operator.send(b"\xc1")


def cycles_after(world: World, steps: int) -> Counter[str]:
    """Return by type what so many steps left in cycles."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)  # an idle engine collects too: what it finds is kept for us
    try:
        for step in range(steps):
            world.step()
            if step % MISUSED_EVERY == 0:
                misuse(world)
        gc.collect()
        return Counter(type(thing).__qualname__ for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def cycles_of(folder: Path, seed: int, kind: type[World] = World) -> tuple[World, Counter[str]]:
    """Return a world that has lived, and what it left in cycles after it was warm."""
    world = kind(folder, seed, faults=False, hosts=2)
    with world.patched():
        for _ in range(WARM_UP):
            world.step()
        cycles = cycles_after(world, STEPS)
        world.close()
    return world, cycles


@pytest.mark.parametrize("seed", SEEDS)
def test_turns_leave_no_cycles(seed: int, tmp_path: Path) -> None:
    """Orders, repeats, conflicts, cancels, refusals, fills, halts, kills, and messages that are none."""
    world, cycles = cycles_of(tmp_path, seed)

    assert not cycles
    assert len(world.watch.records) > STEPS // 2
    assert world.answers.codes.keys() >= {Code.OK, Code.ORDER_TERMINAL, Code.ID_CONFLICT, Code.STATE_HALTED}


def test_one_cycle_a_turn_is_found(tmp_path: Path) -> None:
    """The test above bites."""
    assert cycles_of(tmp_path, SEEDS[0], Looping)[1]["list"] > STEPS // 10
