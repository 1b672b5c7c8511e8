"""Drain within 15, 30 and 120 s: who is slow is named, nothing is lost, and the next engine goes on with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from protocol.codes import Code, OutcomeKind
from protocol.orders import CancelOrder
from protocol.session import Drained
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import MS

BUDGETS_S = [15, 30, 120]
_encode = msgspec.msgpack.Encoder().encode


@pytest.fixture
def stage(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A stage at rest."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def drain(stage: Stage, budget_s: int, *, venue_at_s: float, sources_at_s: float) -> tuple[float, list[str]]:
    """Drain with a gateway and sources that go on from these times only; return when it was over, and what is left."""
    engine = stage.engine
    assert engine is not None
    started_ns = stage.clock.monotonic
    engine.start_drain(budget_s * 1000, "planted")
    said = False
    while not engine._is_done():
        stage.clock.advance(100 * MS)
        waited_s = (stage.clock.monotonic - started_ns) / 1e9
        assert waited_s <= budget_s + 1
        if waited_s >= venue_at_s:
            stage.turn_gateway()
        if waited_s >= sources_at_s and not said:
            said = True
            for client in stage.clients:
                client.dealer.send(_encode(Drained()))
        engine.turn()
    return (stage.clock.monotonic - started_ns) / 1e9, engine._unfinished()


def start_again(stage: Stage) -> None:
    """Let the next engine begin, and come to rest."""
    stage.kill_engine("left", power=False)
    stage.settle_all()
    stage.until(stage.is_at_rest)


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_a_slow_venue_and_a_slow_source_that_make_it_in_time(stage: Stage, budget_s: int) -> None:
    """It leaves when the last one answered, not at the end of its time, and leaves nothing."""
    stage.submit(order("o1"))
    stage.clients[0].turn()
    stage.turn_engine()
    took_s, left = drain(stage, budget_s, venue_at_s=budget_s * 0.5, sources_at_s=budget_s * 0.7)
    assert budget_s * 0.7 <= took_s < budget_s * 0.8
    assert left == []
    assert stage.is_at_venue("o1")


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_a_venue_that_hangs_is_named_and_gets_its_order_once_later(stage: Stage, budget_s: int) -> None:
    """The command that no gateway acknowledged stays in the journal and goes out with the next engine, once."""
    stage.submit(order("o1"))
    stage.clients[0].turn()
    stage.turn_engine()
    took_s, left = drain(stage, budget_s, venue_at_s=1e9, sources_at_s=1)
    assert budget_s <= took_s <= budget_s + 1
    assert left == ["venue sandbox: 1 commands not acknowledged, its gateway is away; they are in the journal"]
    start_again(stage)
    assert stage.is_at_venue("o1")
    assert {kind for kind, *_ in stage.answers_to("o1")} == {OutcomeKind.ACCEPTED}


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_a_source_that_hangs_is_named_and_delivers_again(stage: Stage, budget_s: int) -> None:
    """A sidecar that never says Drained holds nobody longer than the budget; its message has the same answer later."""
    stage.submit(order("o1"))
    stage.clients[0].turn()
    took_s, left = drain(stage, budget_s, venue_at_s=0, sources_at_s=1e9)
    assert budget_s <= took_s <= budget_s + 1
    assert len(left) == len(stage.clients)
    assert all("its source delivers that again" in line for line in left)
    start_again(stage)
    assert len({order_id for _, _, order_id, *_ in stage.answers_to("o1")}) == 1


def test_new_risk_waits_and_a_cancel_passes_in_a_drain(stage: Stage) -> None:
    """Of an order and a cancel in the drain only the cancel is journaled; the next engine takes the order."""
    stage.submit(order("o1"))
    stage.settle_all()
    engine = stage.engine
    assert engine is not None
    engine.start_drain(30_000, "planted")
    seq = engine._writer.next_seq
    stage.submit(order("late"))
    stage.submit(CancelOrder("a1", "o1"))
    for _ in range(3):
        stage.clock.advance(MS)
        stage.clients[0].turn()
        engine.turn()
    assert engine._writer.next_seq == seq + 1
    assert next(iter(stage.state.orders.values())).cancel_seq
    start_again(stage)
    assert Code.OK in {code for _, code, *_ in stage.answers_to("late")}
