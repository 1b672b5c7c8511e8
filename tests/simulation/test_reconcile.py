"""Venue reconciliation through the real loops: when it is done, what a venue that differs leads to, hostile answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.statements import ANSWER_NS, ASKS_MAX
from protocol.codes import Code, OrderStatus, Side, TradingState
from protocol.control import BrokerPosition, ComparePositions, EnterFill, Reconcile
from protocol.money import Adjust, CashRow, CollateralRow, CompareMoney, FxRow, ShowMoney
from protocol.records import Adjusted, FillEntered
from protocol.statement import STATEMENT_ROWS_MAX, Reconciled, Statement
from protocol.ticks import Trade
from protocol.venue import Report, SendNew, gateway_decoder
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS
from venues.core.venue import VenueStatement

_encode = msgspec.msgpack.encode


class Compared(Stage):
    """A stage that reads what was compared."""

    def reconciled(self) -> list[Reconciled]:
        self.watch.read()
        return [r for *_, r in self.watch.records if isinstance(r, Reconciled)]

    def causes(self) -> list[tuple[str, int]]:
        return [(r.cause, len(r.differences)) for r in self.reconciled()]

    def ask_and_wait(self, body: Any) -> Any:
        before = len(self.replies)
        self.ask(body)
        self.until(lambda: len(self.replies) > before)
        return self.replies[-1]

    def alarms(self) -> list[str]:
        return [str(f["text"]) for event, f in self.log.lines if event == "alarm"]

    def reconnect(self) -> None:
        count = len(self.reconciled())
        self.kill_gateway("for a reconnect")
        self.until(lambda: len(self.reconciled()) > count and self.is_ready())

    def is_ready(self) -> bool:
        return self.engine is not None and all(v.ready for v in self.state.venues.values())

    def feed_fill(self) -> None:
        """A trade below our bids: what rests there is filled."""
        self.tick(Trade(*self._stamp(), 97, 12, Side.SELL, 0))

    @property
    def exchange(self) -> Any:
        assert self.venue is not None
        return self.venue.exchange


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Compared]:
    """A stage at rest with an opening position, which the venue knows nothing of."""
    stage = Compared(tmp_path, 1, faults=False, opening=3)
    with stage.patched():
        stage.begin()
        stage.until(lambda: len(stage.reconciled()) == 1)
        yield stage
        stage.close()


def rest(stage: Compared, name: str = "1", quantity: int = 2) -> str:
    stage.submit(order(name, quantity=quantity))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    (answer,) = stage.answers_to(name)
    return str(answer[2])


def test_it_is_done_at_the_start_on_every_reconnect_and_on_demand(stage: Compared) -> None:
    """Over crashes of both sides, with fills and open orders on both: no difference where there is none."""
    rest(stage)
    stage.submit(order("2", Side.BUY, 2, 101))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    stage.reconnect()
    stage.kill_engine("again", power=True)
    stage.until(lambda: len(stage.reconciled()) == 3 and stage.is_at_rest())
    reply = stage.ask_and_wait(Reconcile("", "before the open"))
    assert stage.causes() == [("start", 0), ("reconnect", 0), ("start", 0), ("asked", 0)]
    last = stage.reconciled()[-1]
    assert (last.operator, last.reason, last.orders, last.fills, last.positions) == ("op", "before the open", 1, 1, 1)
    (result,) = reply.reconciled
    assert (result.venue, result.orders, result.differences, result.failed) == ("sandbox", 1, [], "")
    assert stage.state.halts == {}
    stage.verify()


def test_orders_go_on_while_a_statement_is_on_its_way(stage: Compared) -> None:
    """What was decided after the ask is no difference, nor what was reported before it."""
    for n in range(6):
        stage.ask(Reconcile("", "busy"))
        stage.submit(order(str(n), Side.BUY if n % 2 else Side.SELL, 1, 101 if n % 2 else 103))
        stage.round()
    stage.settle_all()
    stage.until(lambda: stage.is_at_rest() and len(stage.replies) == 6)
    assert all(count == 0 for _, count in stage.causes())
    assert len(stage.causes()) > 1
    stage.verify()


def test_an_order_that_the_venue_lost_is_unknown_not_rejected_and_never_sent_again(stage: Compared) -> None:
    """It stays reserved; the operator's word ends it."""
    order_id = rest(stage)
    exchange = stage.exchange
    lost = exchange.open.pop(order_id)
    exchange.listings["XY"].matcher.cancel(lost)
    del exchange.commands[order_id]
    reply = stage.ask_and_wait(Reconcile("sandbox", "look"))
    assert "UNKNOWN_AT_VENUE" in reply.reconciled[0].differences[0]
    stage.rounds()
    assert stage.state.orders[order_id].status is OrderStatus.UNKNOWN
    assert stage.state.accounts["a1"].state is TradingState.REDUCING
    assert stage.state.book.ledger("a1", "XY").buy == 2
    assert len([s for s in stage.venue_side().sent if s == order_id]) == 1
    assert order_id not in exchange.open
    assert any("UNKNOWN_AT_VENUE" in text for text in stage.alarms())
    stage.kill_engine("in doubt", power=True)
    stage.until(stage.is_ready)
    stage.rounds()
    assert stage.state.orders[order_id].status is OrderStatus.UNKNOWN
    assert order_id not in exchange.open


def test_a_strangers_order_at_the_venue_is_named_and_left_alone(stage: Compared) -> None:
    """Nobody here sent it, so nobody here cancels it."""
    out: list[Any] = []
    stranger = order("stranger")
    kind = stranger.order_type, stranger.time_in_force
    stage.exchange.execute(SendNew(0, "X-1", "a1", "XY", Side.BUY, *kind, 2 * E9, 95 * E9, b"t" * 16), out)
    stage.exchange.report_seq -= len(out)  # the venue did it without this gateway
    reply = stage.ask_and_wait(Reconcile("", "look"))
    assert ["UNKNOWN_HERE" in line for line in reply.reconciled[0].differences] == [True]
    stage.rounds()
    assert "X-1" in stage.exchange.open
    assert "a1" in {key for _, key in stage.state.halts}


def test_a_fill_that_was_never_reported_is_entered_once(stage: Compared) -> None:
    """The venue says it in a statement, an operator books it, the venue reports it at last: one position."""
    order_id = rest(stage, quantity=20)
    venue = stage.venue
    assert venue is not None
    said: list[Report] = []
    wake = venue.wake

    def swallow(now_ns: int) -> list[Report]:
        said.extend(wake(now_ns))
        return []

    def say(now_ns: int) -> list[Report]:
        late = [*said]
        said.clear()
        return late + wake(now_ns)

    venue.wake = swallow  # type: ignore[method-assign]
    stage.feed_fill()
    stage.until(lambda: bool(said))
    assert order_id in stage.exchange.open
    reply = stage.ask_and_wait(Reconcile("", "look"))
    found = " ".join(reply.reconciled[0].differences)
    assert all(kind in found for kind in ("FILL_MISSING", "POSITION"))
    before = stage.state.book.ledger("a1", "XY").position
    fill = next(r for r in said if r.trade_id)
    entered = stage.ask_and_wait(
        EnterFill(order_id, fill.trade_id, fill.last_quantity_e9, fill.last_price_e9, "drop copy")
    )
    assert entered.ok, entered.text
    after = stage.state.book.ledger("a1", "XY").position
    assert after == before + fill.last_quantity_e9 // E9
    venue.wake = say  # type: ignore[method-assign]
    stage.until(lambda: stage.is_at_rest() and not said)
    assert stage.state.book.ledger("a1", "XY").position == after
    assert stage.ask_and_wait(Reconcile("", "again")).reconciled[0].differences == []
    stage.kill_engine("after", power=True)
    stage.until(stage.is_ready)
    assert stage.state.book.ledger("a1", "XY").position == after
    assert len([r for *_, r in stage.watch.records if isinstance(r, FillEntered)]) == 1


def test_a_position_that_differs_is_never_changed_silently(stage: Compared) -> None:
    """Alarm, reduce-only of the account, and the position as it was; in the next life too."""
    stage.exchange.positions["a1", "XY"] = 5
    reply = stage.ask_and_wait(Reconcile("", "look"))
    assert ["POSITION a1 XY: position is 0 here, 5 there" in d for d in reply.reconciled[0].differences] == [True]
    stage.kill_engine("after", power=True)
    stage.until(stage.is_ready)
    assert stage.state.book.ledger("a1", "XY").position == 3
    assert stage.state.accounts["a1"].state is TradingState.REDUCING


def test_a_brokers_statement_is_compared_and_adopted_by_name(stage: Compared) -> None:
    """First only said; then journaled with operator and reason; then equal. A row too many is refused whole."""
    rows = [BrokerPosition("a1", "XY", 5 * E9, 100 * E9)]
    found = stage.ask_and_wait(ComparePositions(rows, False, "day"))
    assert [(d.account, d.ours_e9, d.theirs_e9) for d in found.positions] == [("a1", 3 * E9, 5 * E9)]
    assert stage.state.book.ledger("a1", "XY").position == 3
    adopted = stage.ask_and_wait(ComparePositions(rows, True, "day"))
    assert adopted.seq
    assert stage.state.book.ledger("a1", "XY").position == 5
    stage.watch.read()
    last = [r for *_, r in stage.watch.records if isinstance(r, Adjusted)][-1]
    assert (last.quantity_e9, last.operator, last.reason) == (5 * E9, "op", "day")
    assert stage.ask_and_wait(ComparePositions(rows, False, "day")).positions == []
    assert stage.ask_and_wait(Reconcile("", "look")).reconciled[0].differences == []
    for bad in (BrokerPosition("zz", "XY", E9), BrokerPosition("a1", "ZZ", E9), BrokerPosition("a1", "XY", 1)):
        refused = stage.ask_and_wait(ComparePositions([*rows, bad], True, "day"))
        assert not refused.ok
        assert "expected" in refused.text


def test_money_is_set_by_name_and_a_statement_of_it_is_compared(stage: Compared) -> None:
    """Whole or not at all; a statement changes nothing until it is adopted; all of it survives a power cut."""
    said = stage.ask_and_wait(Adjust("deposit", [CashRow("a1", "USDT", str(9 * E9)), CashRow("zz", "USDT", "1")]))
    assert not said.ok
    assert "cash zz USDT: expected an account of this engine" in said.text
    assert stage.ask_and_wait(Adjust("deposit", [CashRow("a1", "USDT", str(9 * E9), adds=True)])).seq
    pledge = [CollateralRow("a1", "BOND", str(4 * E9), "EUR", 500)]
    assert stage.ask_and_wait(Adjust("pledge", collateral=pledge, fx=[FxRow("EUR", "USDT", 2 * E9)])).ok
    cash = [CashRow("a1", "USDT", str(8 * E9))]
    for adopt in (False, True):
        found = stage.ask_and_wait(CompareMoney(cash, pledge, adopt, "day"))
        assert [(d.asset, d.ours_e9, d.theirs_e9) for d in found.money] == [("", str(9 * E9), str(8 * E9))]
    assert stage.ask_and_wait(CompareMoney(cash, pledge, False, "day")).money == []
    stage.kill_engine("power", power=True)
    stage.start_engine()
    stage.settle_all()
    shown = stage.ask_and_wait(ShowMoney())
    account = next(a for a in shown.accounts if a.account == "a1")
    assert account.usable_e9 == str(8 * E9 + 2 * 4 * E9 * 95 // 100)
    assert shown.fx[0].rate_e9 == 2 * E9
    stage.watch.read()
    last = [r for *_, r in stage.watch.records if isinstance(r, Adjusted)][-1]
    assert (last.cash_e9, last.was_e9, last.operator, last.reason) == (str(8 * E9), str(9 * E9), "op", "day")


def test_a_venue_that_never_answers_alarms_and_trading_goes_on(stage: Compared) -> None:
    """Asked some times, then given up, the operator told; the next reconnect asks anew."""
    venue = stage.venue
    assert venue is not None
    venue.statement = lambda: None  # type: ignore[method-assign]
    stage.ask(Reconcile("", "look"))
    stage.until(lambda: not stage.replies)
    for _ in range((ASKS_MAX + 1) * ANSWER_NS // (100 * MS)):
        stage.round(100)
    assert [r.reconciled[0].failed for r in stage.replies if r.reconciled]
    assert any("gave no statement" in text for text in stage.alarms())
    stage.submit(order("1"))
    stage.settle_all()
    assert [a[1] for a in stage.answers_to("1")] == [Code.OK]
    stage.reconnect()
    assert stage.causes()[-1] == ("reconnect", 0)


def test_nobody_to_ask_is_said_at_once(stage: Compared) -> None:
    """No venue of that name, or none READY."""
    reply = stage.ask_and_wait(Reconcile("elsewhere", "look"))
    assert not reply.ok
    assert "no venue is READY" in reply.text


def test_parts_out_of_order_end_the_session_and_the_next_one_compares(stage: Compared) -> None:
    """A gateway that breaks the protocol is not believed; a late part of an old ask is dropped."""
    gateway = stage.gateway
    assert gateway is not None
    dealer = gateway._engine
    state = stage.state
    venue = state.venues["sandbox"]

    def part(number: int, part: int, parts: int) -> bytes:
        return _encode(
            Statement(state.epoch, venue.received_seq, number, venue.report_seq, part, parts, False, False, [], [], [])
        )

    count = len(stage.reconciled())
    dealer.send(part(99, 0, 1))
    stage.turn_engine()
    assert len(stage.reconciled()) == count
    venue_of = stage.venue
    assert venue_of is not None
    venue_of.statement = lambda: None  # type: ignore[method-assign]
    stage.ask(Reconcile("", "look"))
    stage.turn_engine()
    assert stage.engine is not None
    number = stage.engine.gateways.statements._numbers
    dealer.send(part(number, 1, 2))
    stage.turn_engine()
    assert not stage.state.venues["sandbox"].ready
    del venue_of.statement
    stage.until(lambda: stage.is_ready() and len(stage.reconciled()) > count)
    assert stage.causes()[-1] == ("reconnect", 0)


def test_a_long_statement_comes_in_parts(stage: Compared) -> None:
    """More rows than one message holds: all of them are compared."""
    rows = STATEMENT_ROWS_MAX * 2 + 5
    said: list[int] = []
    send = type(stage.gateway._engine).send  # type: ignore[union-attr]

    def watch(self: Any, body: bytes) -> bool:
        if self.endpoint == "venues" and isinstance(message := gateway_decoder.decode(body), Statement):
            said.append(message.part)
        return bool(send(self, body))

    stage.exchange.positions.update({(f"n{n}", "XY"): 1 for n in range(rows)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stage.gateway._engine), "send", watch)  # type: ignore[union-attr]
        reply = stage.ask_and_wait(Reconcile("", "look"))
    assert said == [0, 1, 2]
    (result,) = reply.reconciled
    assert (result.positions, len(result.differences) + result.more) == (rows, rows)


def test_a_statement_of_a_venue_is_what_the_contract_says(stage: Compared) -> None:
    """None while the book is ahead of the reports; then orders, fills and positions as reported."""
    venue = stage.venue
    assert venue is not None
    rest(stage)
    stage.feed_fill()
    assert venue.statement() is None
    stage.until(lambda: venue.statement() is not None and stage.is_at_rest())
    said = venue.statement()
    assert isinstance(said, VenueStatement)
    assert said.positions is not None
    assert sum(f.quantity_e9 for f in said.fills) == abs(sum(p.quantity_e9 for p in said.positions))
