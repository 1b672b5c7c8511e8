"""OCO groups through the real loops: whoever dies in the middle, what was held is sold once, by one of the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from engine.settings import Opening, OpeningPosition
from protocol.codes import Code, OrderStatus, OrderType, Scope, Side, TimeInForce
from protocol.control import SetState
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import CancelOrder, NewOco, NewOrder, TermedOrder
from protocol.ticks import Trade
from tests.simulation.faults import ENGINE_POINTS, GATEWAY_POINTS
from tests.simulation.stage import Stage
from tests.simulation.stand_ins import E9, MS
from tests.simulation.test_exit_replaces import HELD, position, status_of

S = OrderStatus
STOP = 97
OVER = {S.FILLED, S.CANCELED}


def oco(name: str) -> NewOco:
    """A target and a stop for all that is held, both far from the market."""
    names = "a1", f"{name}/1", "s1", "XY", Side.SELL
    target = NewOrder(*names, OrderType.LIMIT, TimeInForce.GTC, HELD * E9, 105 * E9, True)
    names = "a1", f"{name}/2", "s1", "XY", Side.SELL
    stop = TermedOrder(*names, OrderType.STOP, TimeInForce.GTC, HELD * E9, 0, True, STOP * E9)
    return NewOco("a1", name, [target, stop])


@contextmanager
def holding(tmp_path: Path, *, is_sent: bool = True) -> Iterator[Stage]:
    """A stage whose account is long, with a group that exits all of it."""
    stage = Stage(tmp_path, 1, faults=False, opening=HELD)
    stage.settings = structs.replace(
        stage.settings, opening=Opening((OpeningPosition("a1", "XY", HELD * E9, 100 * E9),))
    )
    with stage.patched():
        stage.begin()
        if is_sent:
            stage.submit(oco("g"))
            stage.until(lambda: status_of(stage, "g/1") is S.NEW)
            assert status_of(stage, "g/2") is S.SUSPENDED
        yield stage
        stage.close()


def fall(stage: Stage) -> None:
    """The market falls to the stop price: in the table of last values, and at the venue."""
    stage.last_price = STOP
    stage.tick(Trade(*stage._stamp(), STOP, 1, Side.SELL, 0))


def count(stage: Stage, kind: type) -> int:
    """How many such records the journal has."""
    stage.watch.read()
    return sum(isinstance(record, kind) for *_, record in stage.watch.records)


def finish(stage: Stage) -> None:
    """Let everything end, into a book that fills again: flat, by one group, one trigger at most and one release."""

    def is_over() -> bool:
        stage.quote()
        if stage.gateway is not None:
            fall(stage)
        return {status_of(stage, "g/1"), status_of(stage, "g/2")} <= OVER and stage.is_at_rest()

    stage.settle_all()
    stage.until(is_over)
    assert position(stage) == 0
    assert [count(stage, kind) for kind in (OcoOrdered, OcoReleased)] == [1, 1]
    assert count(stage, OcoTriggered) <= 1
    assert stage.state.groups == {}
    (answer,) = set(stage.answers_to("g"))
    assert answer[1] is Code.OK
    stage.verify()


def test_the_target_goes_then_the_stop_sells(tmp_path: Path) -> None:
    """Flat in the end; the price stands above the stop for long before, and nothing moves."""
    with holding(tmp_path) as stage:
        stage.submit(oco("g"), 1)
        stage.rounds()
        assert (status_of(stage, "g/1"), count(stage, OcoTriggered)) == (S.NEW, 0)
        finish(stage)
        assert (status_of(stage, "g/1"), status_of(stage, "g/2")) == (S.CANCELED, S.FILLED)


def test_a_target_that_fills_leaves_no_stop(tmp_path: Path) -> None:
    """It trades at the venue: the stop ends, and never was there."""
    with holding(tmp_path) as stage:
        stage.tick(Trade(*stage._stamp(), 106, 50, Side.BUY, 0))
        stage.until(lambda: status_of(stage, "g/2") is S.CANCELED)
        assert (status_of(stage, "g/1"), position(stage)) == (S.FILLED, 0)
        finish(stage)
        assert (stage.is_at_venue("g/2"), count(stage, OcoTriggered)) == (False, 0)


@pytest.mark.parametrize("quantity", [2, HELD, 50])
def test_a_fill_at_the_venue_wins_the_race_with_the_cancel(tmp_path: Path, quantity: int) -> None:
    """The target trades while its cancel is on the way: only the rest is sold by the stop."""
    with holding(tmp_path) as stage:
        stage.last_price = STOP
        stage.clock.advance(MS)
        stage.table.write_trade(0, STOP * E9, E9, stage.clock.wall, stage.clock.wall)
        assert stage.engine is not None
        while status_of(stage, "g/1") is not S.PENDING_CANCEL:
            stage.clock.advance(MS)
            stage.engine.turn()
        stage.tick(Trade(*stage._stamp(), 106, quantity, Side.BUY, 0))
        finish(stage)
        stage.watch.read()
        (released,) = (r for *_, r in stage.watch.records if isinstance(r, OcoReleased))
        assert released.quantity_e9 == max(0, HELD - quantity) * E9


@pytest.mark.parametrize("point", [p for p in ENGINE_POINTS if p != "engine.after_report"])
@pytest.mark.parametrize("power", [False, True])
def test_an_engine_that_dies_with_the_request(tmp_path: Path, point: str, *, power: bool) -> None:
    """Before or after it is durable: one group, one order out of it, flat."""
    with holding(tmp_path, is_sent=False) as stage:
        stage.crash_with(point, oco("g"), power=power)
        finish(stage)


@pytest.mark.parametrize("point", [*ENGINE_POINTS, *GATEWAY_POINTS])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_crash_at_any_point_until_it_is_over(tmp_path: Path, point: str, seed: int) -> None:
    """The engine or the gateway dies again and again while the one goes and the other comes: sold once, flat."""
    with holding(tmp_path) as stage:
        stage.random.seed(seed)
        for n in range(10):
            stage.armed = point
            if n == 0 and point in {"engine.after_receive", "engine.after_decide", "engine.after_outcome"}:
                stage.submit(CancelOrder("a1", "nobody"), 1)
            for _ in range(3):
                fall(stage)
                stage.round()
                stage.quote()
        stage.armed = ""
        assert stage.crashes
        stage.until(lambda: stage.engine is not None)
        finish(stage)


def test_an_engine_that_starts_after_the_price_was_reached(tmp_path: Path) -> None:
    """The market fell while it was dead: the next one looks anew, and the stop sells."""
    with holding(tmp_path) as stage:
        stage.kill_engine("test", power=True)
        fall(stage)
        finish(stage)
        assert status_of(stage, "g/2") is S.FILLED


def test_a_price_that_comes_while_the_venue_is_away(tmp_path: Path) -> None:
    """Nothing is cancelled for a stop that could not leave; when the venue is back it is."""
    with holding(tmp_path) as stage:
        stage.kill_gateway("test")
        stage.until(lambda: not stage.state.venues["sandbox"].ready)
        stage.last_price = STOP
        assert stage.engine is not None
        for _ in range(20):
            stage.clock.advance(MS)
            stage.table.write_trade(0, STOP * E9, E9, stage.clock.wall, stage.clock.wall)
            stage.engine.turn()
        assert (status_of(stage, "g/1"), count(stage, OcoTriggered)) == (S.NEW, 0)
        finish(stage)
        assert status_of(stage, "g/2") is S.FILLED


def test_a_stop_without_a_price_calls_a_person(tmp_path: Path) -> None:
    """The feed is silent: one alarm a minute while the stop sees nothing, and it goes on when a price is there."""
    with holding(tmp_path) as stage:
        assert stage.engine is not None

        def alarms() -> int:
            texts = [str(facts["text"]) for event, facts in stage.log.lines if event == "alarm"]
            return sum(text.startswith("no fresh price of XY: 1 stop orders") for text in texts)

        def blind(seconds: int) -> None:
            for _ in range(seconds * 10):
                stage.clock.advance(100 * MS)
                stage.turn_engine()
                stage.turn_gateway()

        blind(50)
        assert alarms() == 1
        blind(30)
        assert (alarms(), status_of(stage, "g/2")) == (2, S.SUSPENDED)
        finish(stage)
        assert status_of(stage, "g/2") is S.FILLED


def test_a_kill_ends_both_for_good(tmp_path: Path) -> None:
    """The operator kills the account, the engine dies, the price comes: nothing of it is ever sent."""
    with holding(tmp_path) as stage:
        stage.ask(SetState("kill", Scope.ACCOUNT, "a1", "enough"))
        stage.until(lambda: status_of(stage, "g/2") is S.CANCELED)
        stage.kill_engine("test", power=True)
        fall(stage)
        stage.until(lambda: stage.engine is not None and stage.is_at_rest())
        stage.rounds()
        assert (status_of(stage, "g/1"), position(stage), stage.state.groups) == (S.CANCELED, HELD, {})
        assert not stage.is_at_venue("g/2")
        stage.verify()
