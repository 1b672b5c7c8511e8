"""A venue's statement against the state: what differs, what follows, and what never does."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw, structs

from engine.reconciling import DIFFERENCES_MAX, Stated
from engine.venue_state import TRADE_IDS_MAX
from protocol.codes import Code, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import ReportDecision, ReportEffect
from protocol.event_kinds import SystemEvent, TradeEvent
from protocol.events import events_of
from protocol.records import Adjusted, FillEntered, Queried
from protocol.statement import Difference, DifferenceKind, Reconciled, StatedFill, StatedOrder, StatedPosition
from protocol.texts import difference_text
from protocol.venue import Report
from tests.unit.engine.desk import E9, REFERENCE, Desk

K = DifferenceKind


class Told(Desk):
    """A desk whose venue states what it has; by default just what the desk thinks it has."""

    def stated(self) -> Stated:
        venue = self.state.venues["sandbox"]
        orders = [
            StatedOrder(o.order_id, o.account, "XY", o.leaves * E9, o.cum * E9) for o in self.state.orders.values()
        ]
        positions = [
            StatedPosition(account, instrument, (ledger.position - ledger.outside) * E9)
            for (account, instrument), ledger in self.state.book.ledgers.items()
            if ledger.position != ledger.outside
        ]
        fills = [StatedFill(t, "?", "a1", "XY", Side.BUY, E9, 100 * E9) for t in venue.trade_ids]
        return Stated(venue.last_seq, venue.report_seq, True, False, orders, fills, positions)

    def reconcile(self, stated: Stated) -> Reconciled:
        record = self.core.reconciler.decide(self.state.venues["sandbox"], stated, "asked", "op", "why")
        assert self.core.decide_again(record, self.now) is True
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Reconciled) == record
        self.apply(record)
        assert self.hash() == self.replayed_hash()
        return record

    def enter(self, order_id: str, trade_id: str, quantity: int, price: int = 100) -> ReportDecision | str:
        report = Report(
            0, ExecType.TRADE, order_id, "", 0, OrderStatus.NONE, 0, 0, self.now, trade_id, quantity * E9, price * E9
        )
        decision = self.core.reports.decide_entered(report)
        if isinstance(decision, ReportDecision):
            record = FillEntered("sandbox", "op", "why", Raw(msgspec.msgpack.encode(report)), decision)
            assert self.core.decide_again(record, self.now) is True
            self.apply(record)
        return decision

    @property
    def is_reducing(self) -> set[str]:
        return {key for (_, key), halt in self.state.halts.items() if halt.state is TradingState.REDUCING}


def kinds(record: Reconciled) -> list[DifferenceKind]:
    return [d.kind for d in record.differences]


def test_equal_sides_have_no_difference_and_nothing_follows() -> None:
    """Open, partly filled, cancelling, closed, opening positions: as the venue sees them."""
    desk = Told(position=7)
    desk.accept(desk.order("open"))
    desk.fill(desk.accept(desk.order("part", quantity=3)), 1)
    desk.fill(desk.accept(desk.order("all")), 1)
    desk.accept(desk.order("cancelling", account="a2"))
    desk.cancel("cancelling", account="a2")
    record = desk.reconcile(desk.stated())
    assert (record.differences, record.queries, record.more) == ([], [], 0)
    assert (record.orders, record.fills, record.positions) == (3, 2, 1)
    assert desk.state.halts == {}


def test_an_order_the_venue_does_not_list_is_unknown_and_reserved_and_asked_for() -> None:
    """Not rejected, not sent again though the venue says that it never saw it; only an operator ends that."""
    desk = Told()
    order = desk.accept(desk.order("1", quantity=4))
    desk.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
    record = desk.reconcile(desk.stated()._replace(orders=[]))
    assert kinds(record) == [K.UNKNOWN_AT_VENUE]
    assert (record.differences[0].scope, record.differences[0].key) == (Scope.ACCOUNT, "a1")
    assert desk.is_reducing == {"a1"}
    assert (order.status, order.leaves) == (OrderStatus.UNKNOWN, 4)
    assert desk.state.book.ledger("a1", "XY").buy == 4
    ((order_id, venue_seq),) = record.queries
    assert order_id == order.order_id
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=venue_seq)
    assert order.status is OrderStatus.UNKNOWN
    assert desk.state.venues["sandbox"].not_found == {}
    again = desk.reconcile(desk.stated()._replace(orders=[]))
    assert again.differences == []  # in doubt already
    assert desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 99) is None
    resolved = desk.core.controls.decide_resolve(order.order_id, OrderStatus.CANCELED, 0, 0, "op", "desk said so")
    assert not isinstance(resolved, str)
    desk.apply(resolved)
    assert desk.state.orders == {}
    assert desk.hash() == desk.replayed_hash()


@pytest.mark.parametrize("status", [OrderStatus.NEW, OrderStatus.CANCELED])
def test_what_the_query_answers_ends_the_doubt(status: OrderStatus) -> None:
    """It works after all, or it is over: as the venue says, if its fills agree."""
    desk = Told()
    order = desk.accept(desk.order("1"))
    desk.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
    record = desk.reconcile(desk.stated()._replace(orders=[]))
    desk.report(ExecType.ORDER_STATUS, order.order_id, venue_seq=record.queries[0][1], status=status)
    assert order.status is status
    assert (order.order_id in desk.state.orders) == (status is OrderStatus.NEW)
    assert desk.hash() == desk.replayed_hash()


def test_what_was_not_yet_received_there_is_no_difference() -> None:
    """An order numbered after the statement, one that was never sent, one that is to be sent again."""
    desk = Told()
    seen = desk.accept(desk.order("seen"))
    stated = desk.stated()
    desk.accept(desk.order("later"))
    assert desk.reconcile(stated).differences == []
    venue = desk.state.venues["sandbox"]
    queried = Queried("sandbox", [(seen.order_id, venue.last_seq + 1)])
    desk.apply(queried)
    assert desk.reconcile(desk.stated()._replace(orders=[], received_seq=1)).differences == []
    desk.report(ExecType.NOT_FOUND, seen.order_id, venue_seq=queried.queries[0][1])
    assert seen.order_id in venue.not_found
    assert desk.reconcile(desk.stated()._replace(orders=[], received_seq=1)).differences == []


def test_an_order_unknown_here_is_never_touched() -> None:
    """A stranger's reduces the account it names, else the instrument, else all; ours that is over is named so."""
    desk = Told()
    gone = desk.accept(desk.order("gone"))
    desk.report(ExecType.CANCELED, gone.order_id)
    strangers = [
        StatedOrder("x1", "a2", "XY", 5 * E9, 0), StatedOrder("x2", "nobody", "XY", E9, 0),
        StatedOrder("x3", "nobody", "nothing", E9, 0), StatedOrder(gone.order_id, "a1", "XY", E9, 0),
    ]  # fmt: skip
    record = desk.reconcile(desk.stated()._replace(orders=strangers))
    assert [(d.kind, d.scope, d.key) for d in record.differences] == [
        (K.UNKNOWN_HERE, Scope.ACCOUNT, "a2"), (K.UNKNOWN_HERE, Scope.INSTRUMENT, "XY"),
        (K.UNKNOWN_HERE, Scope.GLOBAL, ""), (K.CLOSED_HERE, Scope.ACCOUNT, "a1"),
    ]  # fmt: skip
    assert record.queries == []
    assert gone.status is OrderStatus.CANCELED


def test_quantities_that_differ_are_named_and_kept() -> None:
    """The venue says more is filled: no cum, no position changes by that."""
    desk = Told()
    order = desk.accept(desk.order("1", quantity=5))
    stated = desk.stated()
    stated = stated._replace(
        orders=[structs.replace(stated.orders[0], leaves_quantity_e9=3 * E9, cum_quantity_e9=2 * E9)]
    )
    record = desk.reconcile(stated)
    (d,) = record.differences
    assert (d.kind, d.ours_e9, d.theirs_e9, d.ours_cum_e9, d.theirs_cum_e9) == (K.QUANTITY, 5 * E9, 3 * E9, 0, 2 * E9)
    assert (order.leaves, order.cum, desk.position) == (5, 0, 0)
    assert "has 5 open here, 3 there, filled 0 here, 2 there" in difference_text(d)


def test_a_fill_that_was_never_booked_is_named_until_it_is_entered() -> None:
    """Entered by hand it is a trade like another; the venue's own report of it counts no more."""
    desk = Told()
    order = desk.accept(desk.order("1", quantity=5))
    missing = StatedFill("T9", order.order_id, "a1", "XY", Side.BUY, 2 * E9, 101 * E9)
    record = desk.reconcile(desk.stated()._replace(fills=[missing]))
    assert kinds(record) == [K.FILL_MISSING]
    assert desk.position == 0
    entered = desk.enter(order.order_id, "T9", 2, 101)
    assert isinstance(entered, ReportDecision)
    assert (desk.position, order.cum, order.leaves) == (2, 2, 3)
    again = desk.report(ExecType.TRADE, order.order_id, quantity=2, price=101, trade_id="T9")
    assert again.effect is ReportEffect.DUPLICATE
    assert desk.position == 2
    assert desk.reconcile(desk.stated()._replace(fills=[missing])).differences == []
    desk.fill(order, 3)
    assert (order.status, desk.position) == (OrderStatus.FILLED, 5)
    (trade,) = [e for seq, now, _, r in desk.records if isinstance(r, FillEntered) for e in events_of(seq, now, r)]
    assert isinstance(trade, TradeEvent)
    assert (trade.trade_id, trade.position_e9) == ("T9", 2 * E9)


def test_a_trade_entered_by_hand_is_known_however_many_follow() -> None:
    """The window of trade ids moves on; what a person entered stays in it."""
    desk = Told()
    order = desk.accept(desk.order("1", quantity=5))
    desk.enter(order.order_id, "T9", 1)
    venue = desk.state.venues["sandbox"]
    for n in range(TRADE_IDS_MAX + 10):
        venue.remember_trade(f"n{n}", (order.order_id, order.route, 1, 100 * E9, 0, 0, ""))
    assert "T9" in venue.trade_ids
    assert len(venue.trade_ids) == TRADE_IDS_MAX + len(venue.manual_trades)
    assert "n0" not in venue.trade_ids


def test_what_cannot_be_entered_is_refused_with_the_reason() -> None:
    """Twice, too much, no id, no price, no such order; nothing changes."""
    desk = Told()
    order = desk.accept(desk.order("1", quantity=2))
    desk.fill(order, 1)
    before = desk.hash()
    for order_id, trade_id, quantity, price, why in (
        (order.order_id, "T1", 1, 100, "DUPLICATE"), (order.order_id, "T2", 2, 100, "OVERFILL"),
        (order.order_id, "", 1, 100, "a trade id"), (order.order_id, "T2", 1, 0, "a price"),
        ("stranger", "T2", 1, 100, "was neither"),
    ):  # fmt: skip
        refused = desk.enter(order_id, trade_id, quantity, price)
        assert isinstance(refused, str)
        assert why in refused
    assert desk.hash() == before


def test_a_trade_of_an_unknown_order_leaves_the_doubt_about_the_rest() -> None:
    """Then its final state frees what is left; a trade that fills it ends the doubt by itself."""
    for quantity, status in ((1, OrderStatus.UNKNOWN), (3, OrderStatus.FILLED)):
        desk = Told()
        order = desk.accept(desk.order("1", quantity=3))
        desk.apply(Queried("sandbox", [(order.order_id, desk.state.venues["sandbox"].last_seq + 1)]))
        desk.enter(order.order_id, "T1", quantity)
        assert (order.status, order.leaves) == (status, 3 - quantity)
        if status is OrderStatus.UNKNOWN:
            resolved = desk.core.controls.decide_resolve(order.order_id, OrderStatus.CANCELED, E9, 0, "op", "why")
            assert not isinstance(resolved, str)
            desk.apply(resolved)
        assert (desk.position, desk.state.orders) == (quantity, {})
        assert desk.hash() == desk.replayed_hash()


@pytest.mark.parametrize("whole", [False, True])
def test_positions_are_compared_as_the_venue_sees_them(*, whole: bool) -> None:
    """What came from outside is part of a whole position and no part of a traded one; no position is ever changed."""
    desk = Told(position=7)
    desk.fill(desk.accept(desk.order("1", quantity=2)), 2)
    theirs = 9 if whole else 2
    equal = desk.stated()._replace(whole_positions=whole, positions=[StatedPosition("a1", "XY", theirs * E9)])
    assert desk.reconcile(equal).differences == []
    for positions, ours, said in (
        ([StatedPosition("a1", "XY", (theirs + 1) * E9)], theirs, theirs + 1), ([], theirs, 0),
    ):  # fmt: skip
        record = desk.reconcile(equal._replace(positions=positions))
        (d,) = record.differences
        assert (d.kind, d.account, d.ours_e9, d.theirs_e9) == (K.POSITION, "a1", ours * E9, said * E9)
    assert desk.position == 9
    unstated = desk.reconcile(equal._replace(states_positions=False, positions=[]))
    assert (unstated.differences, unstated.positions) == ([], -1)
    strange = desk.reconcile(equal._replace(positions=[*equal.positions, StatedPosition("a2", "ZZ", E9)]))
    assert [(d.account, d.instrument, d.ours_e9) for d in strange.differences] == [("a2", "ZZ", 0)]


def test_an_adjustment_moves_what_came_from_outside() -> None:
    """A broker's word on the position is no trade of the venue."""
    desk = Told()
    desk.fill(desk.accept(desk.order("1", quantity=2)), 2)
    desk.apply(Adjusted("a1", "XY", 5 * E9, 100 * E9, "", "", "statement", "op"))
    ledger = desk.state.book.ledger("a1", "XY")
    assert (ledger.position, ledger.outside) == (5, 3)
    assert desk.reconcile(desk.stated()._replace(positions=[StatedPosition("a1", "XY", 2 * E9)])).differences == []


def test_more_than_a_record_holds_is_counted_and_reduces_everything() -> None:
    """One record, bounded; nothing that differs goes unsaid."""
    desk = Told()
    strangers = [StatedOrder(f"x{n}", "a2", "XY", E9, 0) for n in range(DIFFERENCES_MAX + 3)]
    record = desk.reconcile(desk.stated()._replace(orders=strangers))
    assert (len(record.differences), record.more) == (DIFFERENCES_MAX, 3)
    assert desk.is_reducing == {"a2", ""}


def test_a_decision_that_was_not_so_is_seen_when_it_is_made_again() -> None:
    """Planted: a difference that is none, another scope, a query too few."""
    desk = Told()
    order = desk.accept(desk.order("1"))
    venue = desk.state.venues["sandbox"]
    right = desk.core.reconciler.decide(venue, desk.stated()._replace(orders=[]), "asked", "op", "why")
    assert desk.core.decide_again(right, desk.now) is True
    (d,) = right.differences
    wrong: list[Difference] = [
        structs.replace(d, order_id="x"), structs.replace(d, ours_e9=9), structs.replace(d, scope=Scope.GLOBAL, key=""),
        structs.replace(d, kind=K.UNKNOWN_HERE), Difference(K.POSITION, Scope.ACCOUNT, "a1", "a1", "XY", "", "", 0, 0),
    ]  # fmt: skip
    for planted in wrong:
        assert desk.core.decide_again(structs.replace(right, differences=[planted]), desk.now) is False
    assert desk.core.decide_again(structs.replace(right, queries=[]), desk.now) is False
    assert order.status is OrderStatus.PENDING_NEW


def test_the_result_is_an_event_with_a_line_for_each_difference() -> None:
    """Who asked, as of what, and both sides of each difference."""
    desk = Told()
    desk.accept(desk.order("1"))
    record = desk.reconcile(desk.stated()._replace(orders=[]))
    events = events_of(5, 6, record)
    assert [e.n for e in events] == [0, 1]
    assert all(isinstance(e, SystemEvent) and e.kind == "Reconciled" for e in events)
    first, second = events
    assert isinstance(first, SystemEvent)
    assert isinstance(second, SystemEvent)
    assert "asked by op: why" in first.text
    assert "1 differences" in first.text
    assert "UNKNOWN_AT_VENUE a1 XY" in second.text


def test_the_gate_takes_exits_only_of_an_account_that_differs() -> None:
    """The narrowest scope: another account trades on."""
    desk = Told(position=5)
    desk.reconcile(desk.stated()._replace(positions=[StatedPosition("a1", "XY", E9)]))
    refused = desk.submit(desk.order("in"), reference=REFERENCE)
    assert getattr(refused, "code", None) is Code.STATE_REDUCING
    desk.accept(desk.order("out", Side.SELL))
    desk.accept(desk.order("other", account="a2"))


def test_an_exit_that_waits_is_not_expected_at_the_venue() -> None:
    """It is at no venue: that the venue does not list it is no difference, and it waits on."""
    desk = Told(position=10)
    stop = desk.accept(desk.order("stop", Side.SELL, 10, 105))
    desk.submit_exit(desk.exit_replace("x", ["stop"], 10))
    stated = desk.stated()
    listed = [o for o in stated.orders if o.order_id == stop.order_id]
    record = desk.reconcile(stated._replace(orders=listed))
    assert not [d for d in record.differences if d.order_id != stop.order_id]
    assert record.queries == []
    assert len(desk.state.exits) == 1
