"""Paper orders through the real loops (DESIGN 6.14): each is at the venue once whoever dies, and moves nothing real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from protocol.codes import Code, OrderStatus, OutcomeKind, Scope, Side
from protocol.orders import CancelOrder, NewOrder, command_decoder
from protocol.paper import PaperOrdered, paper_name
from protocol.params import LimitName, LimitRow, RiskParams
from protocol.records import Record
from tests.simulation.checkers import Watch
from tests.simulation.faults import GATEWAY_POINTS
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, params

PAPER_A1 = paper_name("a1")
POINTS = (
    "engine.after_receive", "engine.after_decide", "engine.after_sync", "engine.after_venue_send",
    "engine.after_outcome",
)  # fmt: skip


class PaperWatch(Watch):
    """Reads paper orders besides: each has the id of its real key, and is of another account."""

    def _take_rarest(self, seq: int, position: int, record: Record) -> None:
        if not isinstance(record, PaperOrdered):
            super()._take_rarest(seq, position, record)
            return
        asked = command_decoder.decode(record.item.command)
        assert isinstance(asked, NewOrder)
        assert record.seq == seq
        self._take_key(seq, position, asked)
        decision, paper = record.decision, structs.replace(asked, account=PAPER_A1)
        assert decision.order_id == self.expected_id(asked)
        self.ledgers.accept([(paper, decision, record.reference)])
        self.accepted[decision.order_id] = paper
        self._number(decision.venue_seq, decision.order_id)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose strategy may hold 3 lots; beyond that its orders are paper."""
    stage = Stage(tmp_path, 1, faults=False)
    given = params()
    limits = (*given.limits, LimitRow(LimitName.POSITION_MAX, Scope.STRATEGY, "s1", 3 * E9))
    rules = RiskParams((), sandbox=(Code.POS_LIMIT,))
    stage.settings = structs.replace(stage.settings, params=structs.replace(given, limits=limits, risk=rules))
    stage.watch.__class__ = PaperWatch
    with stage.patched():
        yield stage.begin()
        stage.close()


def positions(stage: Stage) -> tuple[int, int]:
    """Return what the account holds, and what its paper side does."""
    book = stage.state.book
    return book.ledger("a1", "XY").position, book.ledger(PAPER_A1, "XY").position


def end_flat(stage: Stage) -> None:
    """Sell the paper position of 5, and trade for real after it."""
    stage.submit(order("out", Side.SELL, 5, 99))
    stage.until(lambda: positions(stage) == (0, 0))
    stage.submit(order("real", quantity=2))
    stage.until(lambda: stage.is_at_venue("real"))
    stage.settle_all()
    assert [answers[:2] for answers in stage.answers_to("out")] == [(OutcomeKind.PAPER, Code.PAPER_KEY)]
    assert [answers[:2] for answers in stage.answers_to("real")] == [(OutcomeKind.ACCEPTED, Code.OK)]
    assert stage.state.book.ledger("a1", "XY").buy == 2
    stage.verify()


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_whoever_dies_a_paper_order_is_at_the_venue_once(stage: Stage, point: str, *, power: bool) -> None:
    """Before or after it is durable, sent, answered or filled: one order of the paper side, one position of it."""
    stage.crash_with(point, order("1", quantity=5, price=101), power=power)
    stage.until(lambda: stage.engine is not None)
    stage.settle_all()
    stage.until(lambda: positions(stage) == (0, 5))
    (sent,) = (s for s in stage.venue_side().sent)
    assert stage.watch.accepted[sent].account == PAPER_A1
    assert {answers[:2] for answers in stage.answers_to("1")} == {(OutcomeKind.PAPER, Code.POS_LIMIT)}
    end_flat(stage)


@pytest.mark.parametrize("point", ["engine.after_report", *GATEWAY_POINTS])
def test_whoever_dies_with_its_fill_books_it_once(stage: Stage, point: str) -> None:
    """What it had received and said is said once more, and counts once."""
    stage.armed = point
    stage.submit(order("1", quantity=5, price=101))
    stage.until(lambda: not stage.armed and stage.engine is not None and positions(stage) == (0, 5))
    stage.settle_all()
    end_flat(stage)


def test_a_cancel_reaches_a_paper_order_that_rests(stage: Stage) -> None:
    """By the id and the account that the client knows; then the key is real again."""
    stage.submit(order("1", quantity=5))
    stage.until(lambda: stage.is_at_venue("1"))
    stage.submit(CancelOrder("a1", "1"))
    stage.until(lambda: any(o.status is OrderStatus.CANCELED for o in stage.state.closed.values()))
    stage.submit(order("2", quantity=2, price=101))
    stage.until(lambda: positions(stage) == (2, 0))
    stage.settle_all()
    stage.verify()
