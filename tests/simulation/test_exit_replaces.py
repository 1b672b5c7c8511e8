"""Exits in the place of others through the real loops: whoever dies in the middle, what was held is sold once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from engine.settings import Opening, OpeningPosition
from protocol.codes import Code, OrderStatus, OrderType, Scope, Side, TimeInForce
from protocol.control import SetState
from protocol.orders import CancelOrder, ExitReplace
from protocol.records import ExitReleased, ExitRequested
from protocol.ticks import Trade
from tests.simulation.faults import ENGINE_POINTS, GATEWAY_POINTS
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS

S = OrderStatus
HELD = 6


@contextmanager
def holding(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose account is long, with a resting exit for all of it, far from the market."""
    stage = Stage(tmp_path, 1, faults=False, opening=HELD)
    stage.settings = structs.replace(
        stage.settings, opening=Opening((OpeningPosition("a1", "XY", HELD * E9, 100 * E9),))
    )
    with stage.patched():
        stage.begin()
        stage.submit(order("stop", Side.SELL, HELD, 105))
        stage.until(lambda: status_of(stage, "stop") is S.NEW)
        yield stage
        stage.close()


def exit_replace(name: str, *cancels: str, price: int = 98) -> ExitReplace:
    """An exit of all that is held, at a price that takes."""
    return ExitReplace(
        "a1", name, "s1", "XY", Side.SELL, OrderType.LIMIT, TimeInForce.DAY, HELD * E9, list(cancels), price * E9
    )


def status_of(stage: Stage, name: str) -> OrderStatus | None:
    """Return what an order is; None while the engine is dead or does not know it."""
    if stage.engine is None:
        return None
    orders = (*stage.state.orders.values(), *stage.state.closed.values())
    return next((o.status for o in orders if o.client_order_id == name), None)


def position(stage: Stage) -> int:
    return int(stage.state.book.ledger("a1", "XY").position)


def released(stage: Stage) -> list[ExitReleased]:
    """Every release in the journal."""
    stage.watch.read()
    return [record for _, _, _, record in stage.watch.records if isinstance(record, ExitReleased)]


def finish(stage: Stage) -> None:
    """Let everything end: the exit sells what is left, into a book that fills again."""

    def is_over() -> bool:
        stage.quote()
        return status_of(stage, "x") in {S.FILLED, S.CANCELED} and stage.is_at_rest()

    stage.settle_all()
    stage.until(is_over)
    assert status_of(stage, "stop") in {S.CANCELED, S.FILLED}
    assert position(stage) == 0
    assert len(released(stage)) == 1
    assert len([r for _, _, _, r in stage.watch.records if isinstance(r, ExitRequested)]) == 1
    (answer,) = set(stage.answers_to("x"))
    assert answer[1] is Code.OK
    stage.verify()


def test_the_stop_goes_then_the_exit_sells(tmp_path: Path) -> None:
    """Flat in the end, and the venue never had both; a repeat through another client changes nothing."""
    with holding(tmp_path) as stage:
        stage.submit(exit_replace("x", "stop"))
        stage.submit(exit_replace("x", "stop"), 1)
        finish(stage)
        assert released(stage)[0].quantity_e9 == HELD * E9
        assert status_of(stage, "stop") is S.CANCELED


@pytest.mark.parametrize("point", ENGINE_POINTS)
@pytest.mark.parametrize("power", [False, True])
def test_an_engine_that_dies_with_the_request(tmp_path: Path, point: str, *, power: bool) -> None:
    """Before or after it is durable: one request, one release, flat."""
    with holding(tmp_path) as stage:
        if point == "engine.after_report":
            stage.submit(exit_replace("x", "stop"))
            stage.armed = point
            stage.until(lambda: stage.engine is None)
            stage.armed = ""
        else:
            stage.crash_with(point, exit_replace("x", "stop"), power=power)
        finish(stage)


@pytest.mark.parametrize("point", [*ENGINE_POINTS, *GATEWAY_POINTS])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crash_at_any_point_until_it_is_over(tmp_path: Path, point: str, seed: int) -> None:
    """The engine or the gateway dies again and again while it waits and when it goes out: sold once, flat."""
    with holding(tmp_path) as stage:
        stage.random.seed(seed)
        stage.submit(exit_replace("x", "stop"))
        for n in range(10):
            stage.armed = point
            if n == 0 and point == "engine.after_receive":
                stage.submit(CancelOrder("a1", "nobody"), 1)
            for _ in range(3):
                stage.round()
                stage.quote()
        stage.armed = ""
        assert stage.crashes
        stage.until(lambda: stage.engine is not None)
        finish(stage)


def test_an_engine_that_dies_while_it_waits_goes_on_from_the_journal(tmp_path: Path) -> None:
    """The gateway is away, so the stop's cancel is unanswered; the next engine waits on, then sends."""
    with holding(tmp_path) as stage:
        stage.kill_gateway("test")
        stage.submit(exit_replace("x", "stop"))
        stage.until(lambda: status_of(stage, "x") is S.SUSPENDED)
        stage.settle_all()
        stage.kill_engine("test", power=True)
        stage.until(lambda: status_of(stage, "x") is not None)
        finish(stage)


@pytest.mark.parametrize("quantity", [2, HELD, 50])
def test_a_fill_at_the_venue_wins_the_race_with_the_cancel(tmp_path: Path, quantity: int) -> None:
    """The stop trades while its cancel is on the way: only the rest is sold, nothing if there is none."""
    with holding(tmp_path) as stage:
        stage.submit(exit_replace("x", "stop"))
        assert stage.engine is not None
        while status_of(stage, "x") is None:
            stage.clock.advance(MS)
            stage.clients[0].turn()
            stage.engine.turn()
        stage.tick(Trade(*stage._stamp(), 106, quantity, Side.BUY, 0))
        finish(stage)
        sold = min(quantity, HELD)
        assert released(stage)[0].quantity_e9 == (HELD - sold) * E9
        assert released(stage)[0].code is (Code.OK if sold < HELD else Code.NOTHING_LEFT)


def test_a_kill_while_it_waits_ends_it_for_good(tmp_path: Path) -> None:
    """The gateway is away, the operator kills the account, the engine dies: nothing of it is ever sent."""
    with holding(tmp_path) as stage:
        stage.kill_gateway("test")
        stage.submit(exit_replace("x", "stop"))
        stage.until(lambda: status_of(stage, "x") is S.SUSPENDED)
        stage.settle_all()
        stage.ask(SetState("kill", Scope.ACCOUNT, "a1", "enough"))
        stage.until(lambda: status_of(stage, "x") is S.CANCELED)
        stage.kill_engine("test", power=True)
        stage.until(lambda: stage.engine is not None and stage.is_at_rest())
        assert (status_of(stage, "stop"), position(stage), released(stage)) == (S.CANCELED, HELD, [])
        assert not stage.is_at_venue("x")
        stage.verify()
