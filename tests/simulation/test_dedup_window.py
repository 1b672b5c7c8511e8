"""The window of deduplication through the real loops: what is said when it fills, what is kept over a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.core import Core
from protocol.codes import Code
from protocol.orders import CancelOrder
from tests.simulation.stage import Stage, order

KEYS = 20


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest whose table holds few keys."""
    stage = Stage(tmp_path, 1, faults=False)
    stage.settings = msgspec.structs.replace(stage.settings, dedup_keys_max=KEYS)
    stage.replica = Core(KEYS)
    with stage.patched():
        yield stage.begin()
        stage.close()


def alarms(stage: Stage) -> list[str]:
    return [str(f["text"]) for event, f in stage.log.lines if event == "alarm" and "order ids" in str(f["text"])]


def test_a_window_that_fills_alarms_once_at_80_percent(stage: Stage) -> None:
    """Not before, not again with each key; a restart says it again."""
    for n in range(KEYS * 8 // 10 - 1):
        stage.submit(CancelOrder("a1", str(n)))
    stage.settle_all()
    stage.rounds()
    assert alarms(stage) == []
    for n in range(2):
        stage.submit(CancelOrder("a1", f"more-{n}"))
        stage.settle_all()
        stage.rounds()
    (text,) = alarms(stage)
    assert "16 of 20 are taken" in text
    stage.kill_engine("again", power=False)
    stage.until(lambda: len(alarms(stage)) == 2)


def test_every_key_of_the_window_survives_a_power_cut(stage: Stage) -> None:
    """Each order's repeat is answered with its first outcome, in the next life too."""
    names = [str(n) for n in range(KEYS - 5)]
    for name in names:
        stage.submit(order(name))
    stage.settle_all()
    stage.kill_engine("power", power=True)
    for name in names:
        stage.submit(order(name))
    stage.settle_all()
    for name in names:
        first, again = stage.answers_to(name)
        assert first == again
        assert first[1] in {Code.OK, Code.COUNT_OPEN_MAX, Code.POS_LIMIT}
