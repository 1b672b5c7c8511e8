"""A sidecar drains within 15, 30 and 120 s: what engine and broker did not finish is left to the broker, and counted.

The count is the exit code's: 0 settled, 3 something left (``sidecars.core.process``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from protocol.codes import OutcomeKind
from sidecars.core.source import Settlement, Verb
from tests.simulation.broker import Broker, BrokerSource
from tests.simulation.memory import VirtualClock
from tests.simulation.sidecar_host import SidecarHost
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import MS

BUDGETS_S = [15, 30, 120]
NEVER_S = 1_000_000.0
STEP_MS = 100
ORDERS = 3


class SlowSource(BrokerSource):
    """Its broker takes so long for a settle."""

    def __init__(self, broker: Broker, clock: VirtualClock, settle_s: float) -> None:
        super().__init__(broker, clock)
        self._settle_s = settle_s

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        await asyncio.sleep(self._settle_s)
        return await super().settle(settlements)


def slow(settle_s: float) -> Callable[[Broker, VirtualClock], BrokerSource]:
    return lambda broker, clock: SlowSource(broker, clock, settle_s)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage with one real sidecar loop in front of a broker."""
    stage = Stage(tmp_path, 1, faults=False, hosts=1)
    with stage.patched():
        yield stage
        stage.close()


def begin(stage: Stage, budget_s: int, settle_s: float = 0) -> SidecarHost:
    """Let the sidecar be open, then take orders that the engine has not looked at yet."""
    (host,) = stage.hosts
    host.drain_ms = budget_s * 1000
    host.make_source = slow(settle_s)
    stage.until(lambda: stage.is_at_rest() and host.loop is not None and host.sidecar.session.is_open)
    for number in range(ORDERS):
        stage.broker.publish(order(f"o{number}"))
    stage.turn_host(host)
    assert host.sidecar.session.in_flight == ORDERS
    return host


def drain(stage: Stage, host: SidecarHost, budget_s: int, *, engine_at_s: float) -> float:
    """Drain with an engine that goes on from this time only; return how long it took."""
    host.stop()
    started_ns = stage.clock.monotonic
    while True:
        waited_s = (stage.clock.monotonic - started_ns) / 1e9
        if host.turn():
            return waited_s
        assert waited_s <= budget_s + 1
        stage.clock.advance(STEP_MS * MS)
        if waited_s >= engine_at_s:
            stage.turn_engine()


def settle_everything(stage: Stage, host: SidecarHost) -> None:
    """Let the next sidecar, whose broker is quick again, carry what was left: each is decided once and ended once."""
    host.make_source = BrokerSource
    stage.until(lambda: not stage.broker.kept)
    stage.until(stage.is_at_rest)
    stage.watch.read()
    stage.broker.verify(stage.watch)


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_a_slow_engine_and_a_slow_broker_that_make_it_leave_nothing(stage: Stage, budget_s: int) -> None:
    """It leaves when the last settle is through, not at the end of its time; leases are extended all the while."""
    host = begin(stage, budget_s, settle_s=budget_s * 0.2)
    took_s = drain(stage, host, budget_s, engine_at_s=budget_s * 0.6)
    assert budget_s * 0.8 <= took_s < budget_s * 0.9
    assert host.left == 0
    assert {m.deliveries for m in stage.broker.messages} == {1}
    settle_everything(stage, host)


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_what_the_engine_did_not_answer_is_left_and_counted(stage: Stage, budget_s: int) -> None:
    """It leaves in time, the last part of which is for giving back, and says how many; each gets one outcome later."""
    host = begin(stage, budget_s)
    took_s = drain(stage, host, budget_s, engine_at_s=NEVER_S)
    assert budget_s * 0.8 <= took_s <= budget_s
    assert host.left == ORDERS
    assert [m.ends for m in stage.broker.messages] == [[]] * ORDERS
    settle_everything(stage, host)


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_what_the_broker_did_not_take_is_left_counted_and_answered_with_the_first_outcome(
    stage: Stage, budget_s: int
) -> None:
    """The engine decided, the settle hangs: the messages come again, and the second sidecar hears DUPLICATE."""
    host = begin(stage, budget_s, settle_s=NEVER_S)
    took_s = drain(stage, host, budget_s, engine_at_s=0)
    assert budget_s <= took_s <= budget_s + 1
    assert host.left == ORDERS
    settle_everything(stage, host)
    assert len(stage.watch.accepted) == ORDERS
    ends = [end for m in stage.broker.messages for end in m.ends]
    assert {(verb, outcome.kind) for verb, outcome, _ in ends if outcome} == {(Verb.ACCEPT, OutcomeKind.DUPLICATE)}
