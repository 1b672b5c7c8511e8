"""What operators do to a running engine, through the real loops on virtual sockets and time, with restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import Code, Scope
from protocol.control import SetLimit, ShowLimits
from protocol.params import LimitName
from tests.simulation.stand_ins import E9
from tests.simulation.test_hand_over_rules import Stage, order


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest: one engine, one gateway, two clients."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def code_of(stage: Stage, name: str) -> Code:
    (answer,) = set(stage.answers_to(name))
    code = answer[1]
    assert isinstance(code, Code)
    return code


def submitted(stage: Stage, name: str, quantity: int) -> Code:
    stage.submit(order(name, quantity=quantity))
    stage.settle_all()
    return code_of(stage, name)


@pytest.mark.parametrize("power", [False, True])
def test_a_limit_set_at_run_time_outlives_the_engine(stage: Stage, *, power: bool) -> None:
    """A session that traded before is bound from its next order on, in this life and in the next."""
    assert submitted(stage, "1", 2) is Code.OK
    stage.replies.clear()
    stage.ask(SetLimit(LimitName.POSITION_MAX, Scope.ACCOUNT, "a1", 3 * E9, "volatile"))
    stage.until(lambda: bool(stage.replies))
    assert stage.replies[0].ok, stage.replies
    assert submitted(stage, "2", 2) is Code.POS_LIMIT
    stage.kill_engine("test", power=power)
    stage.until(stage.is_at_rest)
    assert submitted(stage, "3", 2) is Code.POS_LIMIT
    assert submitted(stage, "4", 1) is Code.OK
    stage.replies.clear()
    stage.ask(ShowLimits())
    stage.until(lambda: bool(stage.replies))
    shown = {(s.name, s.key): s for s in stage.replies[0].limits or []}
    change = shown[LimitName.POSITION_MAX, "a1"].change
    assert change is not None
    assert (change.value, change.operator, change.reason) == (3 * E9, "op", "volatile")
    assert shown[LimitName.POSITION_MAX, ""].change is None
    stage.verify()
