"""Replaces through the real loops: engine, journal, gateway and sandbox venue, with what breaks in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import Code, OrderStatus, Scope, Side
from protocol.control import SetState
from protocol.orders import CancelOrder, ReplaceOrder
from protocol.ticks import Trade
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS

S = OrderStatus


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest with order 1 resting at 99."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        stage.begin()
        stage.submit(order("1"))
        stage.until(lambda: has_status(stage, S.NEW))
        yield stage
        stage.close()


def the_order(stage: Stage):  # type: ignore[no-untyped-def]
    """Return the only order, open or closed."""
    (found,) = [*stage.state.orders.values(), *stage.state.closed.values()]
    return found


def has_status(stage: Stage, status: OrderStatus) -> bool:
    """Whether the engine lives and its only order is that."""
    if stage.engine is None:
        return False
    return [o.status for o in (*stage.state.orders.values(), *stage.state.closed.values())] == [status]


def replace(name: str, orig: str, quantity: int, price: int = 99) -> ReplaceOrder:
    return ReplaceOrder("a1", name, orig, quantity * E9, price * E9)


def test_a_replace_works_at_the_venue_and_trades_there(stage: Stage) -> None:
    """More, at a price that takes: REPLACED, then the fills of the new terms; a repeat changes nothing."""
    stage.submit(replace("2", "1", 3, 101))
    stage.submit(replace("2", "1", 3, 101), 1)
    stage.until(lambda: has_status(stage, S.FILLED))
    assert (the_order(stage).quantity, the_order(stage).cum) == (3, 3)
    stage.settle_all()
    assert len(stage.answers_to("2")) == 2
    assert len(set(stage.answers_to("2"))) == 1
    stage.until(stage.is_at_rest)
    stage.verify()


@pytest.mark.parametrize("point", ["engine.after_decide", "engine.after_sync", "engine.after_venue_send"])
@pytest.mark.parametrize("power", [False, True])
def test_a_crash_loses_no_replace_and_sends_none_twice(stage: Stage, point: str, *, power: bool) -> None:
    """Wherever the engine dies: one outcome, and engine and venue agree on the terms in the end."""
    stage.crash_with(point, replace("2", "1", 5, 98), power=power)
    stage.settle_all()
    stage.until(lambda: has_status(stage, S.NEW))
    stage.until(stage.is_at_rest)
    assert (the_order(stage).quantity, the_order(stage).limit_price) == terms_at_venue(stage) == (5, 98)
    (answer,) = set(stage.answers_to("2"))
    assert answer[1] is Code.OK
    stage.verify()


@pytest.mark.parametrize("point", ["gateway.after_receive", "gateway.after_sync", "gateway.before_report"])
def test_a_gateway_that_dies_with_the_replace_is_asked_which_terms_work(stage: Stage, point: str) -> None:
    """Before or after it made the replace durable: what its query says is what the engine believes."""
    stage.submit(replace("2", "1", 5, 98))
    stage.armed = point
    stage.until(lambda: stage.gateway is None)
    stage.until(lambda: stage.gateway is not None and stage.is_at_rest() and has_status(stage, S.NEW))
    assert (the_order(stage).quantity, the_order(stage).limit_price) == terms_at_venue(stage) == (5, 98)
    stage.verify()


def test_a_kill_behind_a_replace_that_was_never_sent_takes_the_order_alone(stage: Stage) -> None:
    """The venue's window is full: the replace is void, what it reserved is free at once, and the cancel goes."""
    assert stage.engine is not None
    first = the_order(stage)
    for n in range(stage.settings.venue_window):
        stage.submit(order(f"full-{n}", quantity=1))
    stage.submit(replace("2", "1", 5, 98))
    while first.terms is None:
        stage.clock.advance(MS)
        stage.clients[0].turn()
        stage.engine.turn()
    stage.ask(SetState("kill", Scope.GLOBAL, "", "stop"))
    stage.engine.turn()
    stage.compare()
    assert (first.status, first.leaves) == (S.PENDING_CANCEL, 2)
    stage.until(stage.is_at_rest)
    assert first.status is S.CANCELED
    stage.verify()


def test_a_cancel_behind_a_replace_takes_what_works_then(stage: Stage) -> None:
    """Both in one turn, by the new id: nothing is left at the venue."""
    stage.submit(replace("2", "1", 5, 98))
    stage.submit(CancelOrder("a1", "2"))
    stage.until(lambda: has_status(stage, S.CANCELED))
    assert stage.venue is not None
    assert stage.venue.exchange.open == {}
    stage.until(stage.is_at_rest)
    stage.verify()


@pytest.mark.parametrize(("to", "status"), [(1, S.FILLED), (5, S.FILLED), (2, S.FILLED)])
def test_a_fill_at_the_venue_wins_the_race_with_a_replace(stage: Stage, to: int, status: OrderStatus) -> None:
    """All of the old total traded while the replace was on its way: refused there, and FILLED with what traded."""
    stage.submit(replace("2", "1", to, 98))
    assert stage.engine is not None
    while the_order(stage).terms is None:
        stage.clock.advance(MS)
        stage.clients[0].turn()
        stage.engine.turn()
    stage.tick(Trade(*stage._stamp(), 98, 50, Side.SELL, 0))
    stage.until(lambda: has_status(stage, status))
    assert (the_order(stage).quantity, the_order(stage).cum) == (2, 2)
    stage.until(stage.is_at_rest)
    stage.verify()


def terms_at_venue(stage: Stage) -> tuple[int, int]:
    """Return quantity and price of the only order that rests."""
    assert stage.venue is not None
    ((order_id, command),) = stage.venue.exchange.commands.items()
    assert command.side is Side.BUY
    assert order_id in stage.venue.exchange.open
    return command.quantity_e9 // E9, command.price_e9 // E9


def test_rule_08_a_late_order_takes_its_replace_with_it(tmp_path: Path) -> None:
    """Both wait in the outbox, a halt keeps the order back: its replace has nothing left to be decided for."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        stage.begin()
        for n in range(10):  # two more than the venue's window
            stage.submit(order(str(n), quantity=1))
        stage.clients[0].turn()
        stage.turn_engine()
        stage.submit(replace("r", "9", 2))
        stage.clients[0].turn()
        stage.turn_engine()
        stage.ask(SetState("halt", Scope.GLOBAL, "", "stop"))
        stage.clock.advance(700 * MS)
        stage.turn_engine()
        stage.until(stage.is_at_rest)
        assert not stage.is_at_venue("9")
        stage.verify()
        stage.close()
