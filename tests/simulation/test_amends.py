"""Trades taken back and fills of nobody, through the real loops: gateway, its log, engine, journal, operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import ExecType, OrderStatus, Scope, Side, TradingState
from protocol.control import EnterBust, Reconcile, ResolveSuspense, SetState, Status, SuspenseFills
from protocol.records import Queried
from protocol.venue import Details, Report
from tests.simulation.stage import order
from tests.simulation.stand_ins import E9
from tests.simulation.test_reconcile import Compared


class Amended(Compared):
    """A stage whose venue has second thoughts."""

    def bust(self, trade_id: str, quantity: int = 0, price: int = 0) -> str:
        assert self.gateway is not None
        return self.gateway.gateway.amend_trade(trade_id, quantity * E9, price * E9, "desk", self.clock.wall, "why")

    def amended(self) -> list[TradeAmended]:
        self.watch.read()
        return [r for *_, r in self.watch.records if isinstance(r, TradeAmended)]

    def until_amended(self, count: int) -> None:
        self.until(lambda: len(self.amended()) == count and self.is_at_rest())

    @property
    def position(self) -> int:
        return self.state.book.ledger("a1", "XY").position


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Amended]:
    """A stage that bought three, which filled at once under trade S-T1."""
    stage = Amended(tmp_path, 1, faults=False)
    with stage.patched():
        stage.begin()
        stage.submit(order("1", Side.BUY, 3, 101))
        stage.settle_all()
        stage.until(lambda: stage.position == 3 and stage.is_at_rest())
        yield stage
        stage.close()


def test_a_trade_taken_back_by_the_venue_is_gone_everywhere(stage: Amended) -> None:
    """Position, venue's statement, books; also after gateway and engine lost their power; again it is refused there."""
    assert stage.bust("S-T1") == ""
    stage.until_amended(1)
    assert stage.position == 0
    stage.kill_gateway("after")
    stage.kill_engine("after", power=True)
    stage.until(stage.is_ready)
    assert stage.position == 0
    assert stage.ask_and_wait(Reconcile("", "look")).reconciled[0].differences == []
    assert "was none" in stage.bust("S-T1")
    stage.compare()
    stage.books.verify(stage.journal)


def test_a_correction_is_the_trade_from_then_on(stage: Amended) -> None:
    """Less at another price; a person hears of it; venue and engine agree."""
    assert stage.bust("S-T1", 2, 99) == ""
    stage.until_amended(1)
    assert stage.position == 2
    assert any("TRADE_CORRECT" in text for text in stage.alarms())
    assert stage.ask_and_wait(Reconcile("", "look")).reconciled[0].differences == []
    stage.books.verify(stage.journal)


def test_what_the_sandbox_cannot_take_back_it_says(stage: Amended) -> None:
    """No such trade, more than was ordered: refused by name, nothing logged."""
    assert "expected one of this session" in stage.bust("S-T9")
    assert "expected at most what the order has open" in stage.bust("S-T1", 4, 99)
    assert stage.amended() == []
    assert stage.position == 3


def test_a_trade_taken_back_by_hand_is_taken_back_once(stage: Amended) -> None:
    """The operator says it; the venue's own word of it later changes nothing."""
    (order_id,) = {r.order_id for r in stage.watch.ledgers.trades.values()}
    refused = stage.ask_and_wait(EnterBust(order_id, "S-T9", "desk called"))
    assert not refused.ok
    reply = stage.ask_and_wait(EnterBust(order_id, "S-T1", "desk called"))
    assert reply.ok, reply.text
    assert stage.position == 0
    (record,) = stage.amended()
    assert (record.operator, record.reason) == ("op", "desk called")
    assert stage.bust("S-T1") == ""
    stage.until_amended(2)
    assert stage.position == 0
    assert stage.ask_and_wait(Reconcile("", "look")).reconciled[0].differences == []
    stage.kill_engine("after", power=True)
    stage.until(stage.is_ready)
    assert stage.position == 0


def test_a_fill_of_nobody_waits_for_a_word_and_everything_reduces_until_then(stage: Amended) -> None:
    """Listed, counted in the status; a resume of all is refused; assigned it moves the position, over a restart too."""
    exchange = stage.exchange
    exchange.report_seq += 1
    said = Report(
        exchange.report_seq, ExecType.TRADE, "P-elsewhere", "v", 0, OrderStatus.FILLED, 0, 2 * E9, 0, "X-1", 2 * E9,
        100 * E9, details=Details(account="a1", instrument="XY", side=Side.BUY),
    )  # fmt: skip
    assert stage.venue is not None
    stage.venue._reports.append(said)
    stage.until(lambda: bool(stage.state.suspense))
    assert stage.position == 3
    assert stage.state.book.state is TradingState.REDUCING
    assert stage.ask_and_wait(Status()).status.suspense_fills == 1
    (fill,) = stage.ask_and_wait(SuspenseFills()).suspense
    assert (fill.trade_id, fill.account, fill.side, fill.quantity_e9) == ("X-1", "a1", "BUY", 2 * E9)
    refused = stage.ask_and_wait(SetState("resume", Scope.GLOBAL, "", "go on"))
    assert not refused.ok
    assert "in suspense" in refused.text
    stage.kill_engine("after", power=False)
    stage.until(stage.is_ready)
    assert not stage.ask_and_wait(ResolveSuspense("sandbox", "X-1", "why", "a1")).ok  # whose part of it?
    assert not stage.ask_and_wait(ResolveSuspense("sandbox", "X-1", "why", "a1", "s1", side="UP")).ok
    assigned = stage.ask_and_wait(ResolveSuspense("sandbox", "X-1", "drop copy", "a1", "s1"))
    assert assigned.ok, assigned.text
    assert stage.position == 5
    stage.watch.read()
    (record,) = [r for *_, r in stage.watch.records if isinstance(r, SuspenseResolved)]
    assert (record.operator, record.reason, record.position_e9) == ("op", "drop copy", 5 * E9)
    assert stage.ask_and_wait(SetState("resume", Scope.GLOBAL, "", "go on")).ok
    stage.kill_engine("again", power=False)
    stage.until(stage.is_ready)
    assert stage.position == 5
    assert stage.ask_and_wait(SuspenseFills()).suspense == []
    assert msgspec.msgpack.encode(record)


def test_a_sum_that_differs_calls_a_person_and_asks_the_venue(stage: Amended) -> None:
    """A numbered query, a statement, an alarm; what was booked and what is reserved stay over a crash."""
    stage.submit(order("2", Side.BUY, 5, 99))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    (order_id,) = stage.state.orders
    exchange = stage.exchange
    exchange.report_seq += 1
    assert stage.venue is not None
    lost = Report(  # of one of three that filled together: the venue counts them, and says only the last
        exchange.report_seq, ExecType.TRADE, order_id, "S-2", 0, OrderStatus.PARTIALLY_FILLED, 2 * E9, 3 * E9,
        0, "S-T9", E9, 99 * E9,
    )  # fmt: skip
    stage.venue._reports.append(lost)
    stage.until(lambda: any(r.cause == "doubt" for r in stage.reconciled()))
    (record,) = [r for r in stage.reconciled() if r.cause == "doubt"]
    assert record.differences  # it has none of these fills
    assert stage.position == 4
    assert stage.state.orders[order_id].leaves == 4
    assert stage.state.accounts["a1"].state is TradingState.REDUCING
    assert any("counts 3000000000 e9 filled, here are 1000000000 e9" in text for text in stage.alarms())
    stage.watch.read()
    queried = [r for *_, r in stage.watch.records if isinstance(r, Queried) and r.is_of_cum]
    assert [[asked for asked, _ in q.queries] for q in queried] == [[order_id]]
    stage.kill_engine("after", power=True)
    stage.until(stage.is_ready)
    assert stage.position == 4
