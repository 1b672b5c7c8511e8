"""Held orders through the real loops (DESIGN 6.13): each leaves once, whoever dies; who heard HELD hears the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import Code, OrderStatus
from protocol.orders import CancelOrder
from protocol.risk import RiskAnswer, Verdict
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest: one engine, one gateway, two clients, a risk service."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def held_by_a_silent_service(stage: Stage) -> str:
    """Submit an order far beyond the collar; return its id once it is held."""
    stage.risk.is_silent, stage.risk.verdict = True, Verdict.APPROVE
    stage.until(lambda: stage.state.risk.ready)
    stage.submit(order("1", price=500))
    stage.until(lambda: bool(stage.state.risk.holds))
    (order_id,) = stage.state.risk.holds
    stage.until(lambda: bool(stage.clients[0].held))
    return order_id


def test_the_deadline_ends_what_nobody_judged(stage: Stage) -> None:
    """One FINAL, refused; the answer that comes after it is recorded and changes nothing."""
    order_id = held_by_a_silent_service(stage)
    stage.until(lambda: stage.clients[0].finals == 1)
    assert stage.state.risk.ends[order_id].code is Code.RISK_DEADLINE
    late = RiskAnswer(order_id, 1, Verdict.APPROVE, valid_until_ns=stage.clock.wall + E9)
    stage.risk.session.answer(late)
    stage.until(lambda: stage.state.risk.ends[order_id].is_late)
    assert (stage.is_at_venue("1"), stage.clients[0].finals) == (False, 1)
    stage.verify()


def test_a_cancel_ends_a_hold_and_its_key_stays(stage: Stage) -> None:
    """At any time; the service that approves then is late, and the id is not free."""
    order_id = held_by_a_silent_service(stage)
    stage.submit(CancelOrder("a1", "1"), 1)
    stage.until(lambda: stage.clients[0].finals == 1)
    stage.risk.is_silent = False
    stage.submit(order("1", price=500))
    stage.settle_all()
    stage.until(lambda: stage.clients[0].finals == 2)
    assert stage.state.closed[order_id].status is OrderStatus.CANCELED
    assert not stage.is_at_venue("1")
    stage.verify()


@pytest.mark.parametrize("point", ["engine.after_decide", "engine.after_sync", "engine.after_outcome"])
def test_whoever_dies_with_the_request_holds_it_once(stage: Stage, point: str) -> None:
    """Before or after it is durable: one order, judged and sent once."""
    stage.risk.verdict = Verdict.APPROVE
    stage.until(lambda: stage.state.risk.ready)
    stage.crash_with(point, order("1", price=500), power=True)
    stage.settle_all()
    stage.until(lambda: stage.is_at_venue("1") and stage.is_at_rest())
    assert len(stage.venue_side().sent) == 1
    stage.verify()


def test_an_older_service_decides_nothing(stage: Stage) -> None:
    """After a newer one was here, one of before is told to go, also by the next engine."""
    stage.until(lambda: stage.state.risk.ready)
    stage.risk.die()
    stage.until(lambda: stage.state.risk.instance_epoch == 2)
    stage.kill_engine("test", power=True)
    stage.until(lambda: stage.engine is not None)
    stage.risk.dealer.die()
    stage.risk.starts = 0
    stage.risk.die()
    stage.until(lambda: stage.risk.fenced > 0)
    stage.until(lambda: stage.state.risk.instance_epoch >= 2 and stage.state.risk.ready)
