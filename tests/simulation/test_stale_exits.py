"""Exits of more than is left, through the real loops: cancelled in the turn that hears of it, over crashes too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import Code, OrderStatus, Side
from protocol.control import BrokerPosition, ComparePositions
from protocol.records import ControlAction, Controlled
from tests.simulation.stage import order
from tests.simulation.stand_ins import E9
from tests.simulation.test_amends import Amended
from tests.simulation.test_exit_replaces import status_of

S = OrderStatus


class Exiting(Amended):
    """A stage that bought three under trade S-T1 and rests two exits, of one and of two."""

    def begin_long(self) -> None:
        self.begin()
        self.submit(order("1", Side.BUY, 3, 101))
        self.settle_all()
        self.until(lambda: self.position == 3 and self.is_at_rest())
        for name, quantity in (("old", 1), ("new", 2)):
            self.submit(order(name, Side.SELL, quantity, 105))
            self.until(lambda n=name: status_of(self, n) is S.NEW)  # type: ignore[misc]

    def stale(self) -> list[list[tuple[str, Code]]]:
        self.watch.read()
        return [
            [(c.client_order_id, c.code) for c in r.cancels]
            for *_, r in self.watch.records
            if isinstance(r, Controlled) and r.action is ControlAction.EXIT_STALE
        ]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Exiting]:
    stage = Exiting(tmp_path, 1, faults=False)
    with stage.patched():
        stage.begin_long()
        yield stage
        stage.close()


def test_a_trade_taken_back_cancels_the_exits_it_leaves_nothing_for(stage: Exiting) -> None:
    """Corrected to one: the newer exit goes, the older stays. Taken back: that too. A person hears of each."""
    assert stage.bust("S-T1", 1, 100) == ""
    stage.until(lambda: status_of(stage, "new") is S.CANCELED and stage.is_at_rest())
    assert (stage.position, status_of(stage, "old")) == (1, S.NEW)
    assert stage.bust("S-T1") == ""
    stage.until(lambda: status_of(stage, "old") is S.CANCELED and stage.is_at_rest())
    assert stage.stale() == [[("new", Code.EXIT_STALE)], [("old", Code.EXIT_STALE)]]
    assert sum("are of more than is left" in text for text in stage.alarms()) == 2
    assert not stage.exchange.open
    stage.compare()
    stage.books.verify(stage.journal)


def test_an_adjustment_cancels_them_though_the_engine_dies_behind_it(stage: Exiting) -> None:
    """The power goes behind the sync, before anything leaves: the next engine sends the cancel, once."""
    stage.armed = "engine.after_sync"
    stage.ask(ComparePositions([BrokerPosition("a1", "XY", 1 * E9, 100 * E9)], True, "statement"))
    stage.until(lambda: status_of(stage, "new") is S.CANCELED and stage.is_at_rest())
    assert (stage.position, status_of(stage, "old")) == (1, S.NEW)
    assert stage.stale() == [[("new", Code.EXIT_STALE)]]
    assert stage.state.stale == {}
    stage.compare()


def test_a_refused_cancel_of_one_is_made_again(stage: Exiting) -> None:
    """The venue looks at the order and refuses: until it takes the cancel it is told again, at a pace."""
    venue = stage.venue
    assert venue is not None
    venue.refuses = True
    venue.random.seed(3)
    assert stage.bust("S-T1") == ""
    stage.until(lambda: not stage.state.stale and stage.is_at_rest())
    assert {status_of(stage, "old"), status_of(stage, "new")} == {S.CANCELED}
    stage.compare()
