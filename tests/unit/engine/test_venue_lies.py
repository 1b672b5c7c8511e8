"""A venue that says what can't be: refused, recorded and told apart; what is reserved stays reserved."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from msgspec import Raw

from engine.order import Order
from engine.state import state_hash
from protocol.codes import ExecType, OrderStatus, Scope, TradingState
from protocol.decisions import ReportDecision, ReportEffect
from protocol.params import InstrumentParams
from protocol.records import Reported, VenueChanged
from protocol.venue import Details, Report
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.venues.stage import XY

INT64_MAX = 2**63 - 1
_encode = msgspec.msgpack.encode


def say(desk: Desk, order_id: str, venue: str = "sandbox", **facts: object) -> ReportDecision:
    """Let a venue report a fill of one lot at 100, but for ``facts``."""
    state = desk.state.venues[venue]
    plain = Report(
        state.report_seq + 1, ExecType.TRADE, order_id, "v", 0, OrderStatus.NONE, 0, 0, desk.now, "T", E9, 100 * E9
    )
    said = msgspec.structs.replace(plain, **facts)
    order = desk.state.orders.get(order_id) or desk.state.closed.get(order_id)
    if order is not None and "cum_quantity_e9" not in facts and said.exec_type is ExecType.TRADE:
        said = msgspec.structs.replace(said, cum_quantity_e9=min(order.cum * E9 + said.last_quantity_e9, INT64_MAX))
    decided = desk.core.reports.decide_report(state, said)
    desk.apply(Reported(venue, Raw(_encode(said)), decided))
    _encode(desk.records[-1][3])  # the journal takes it
    return decided


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def order(desk: Desk) -> Order:
    """An order over three that works, one of which has filled."""
    order = desk.accept(desk.order("o", quantity=3))
    desk.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
    desk.fill(order, 1)
    return order


@pytest.mark.parametrize(
    "facts",
    [
        {"last_price_e9": 0},
        {"last_price_e9": -E9},
        {"last_price_e9": 2**64 - 1},
        {"last_quantity_e9": -E9},
        {"last_quantity_e9": E9 // 2},
        {"last_quantity_e9": (2**64 - 1) // E9 * E9},
        {"trade_id": ""},
        {"exec_type": ExecType.REPLACED, "details": Details(3 * E9, 100 * E9)},
    ],
)
def test_a_fill_that_cant_be_moves_nothing(desk: Desk, order: Order, facts: dict[str, object]) -> None:
    """No price, no id, less than nothing, more than there is: refused; the true one that comes after it counts."""
    before = (order.cum, order.status, desk.position, desk.state.book.ledger("a1", "XY").buy)
    assert say(desk, order.order_id, **facts).effect is ReportEffect.REFUSED
    assert (order.cum, order.status, desk.position, desk.state.book.ledger("a1", "XY").buy) == before
    assert say(desk, order.order_id).effect is ReportEffect.APPLIED
    assert (order.cum, desk.position) == (2, 2)
    assert desk.replayed_hash() == state_hash(desk.state)
    assert all(again is not False for again in desk.decided_again())


@pytest.mark.parametrize("cum", [0, 3, -1, INT64_MAX])
def test_a_status_with_another_cum_is_not_believed(desk: Desk, order: Order, cum: int) -> None:
    """A fill that was never reported is none; the order stays as it is, and reserved."""
    told = say(
        desk, order.order_id, exec_type=ExecType.ORDER_STATUS, status=OrderStatus.CANCELED, trade_id="",
        last_quantity_e9=0, cum_quantity_e9=cum if cum == INT64_MAX else cum * E9,
    )  # fmt: skip
    assert told.effect is ReportEffect.REFUSED
    assert (order.cum, order.status) == (1, OrderStatus.PARTIALLY_FILLED)
    assert order.order_id in desk.state.orders


def test_a_fill_twice_is_one(desk: Desk, order: Order) -> None:
    """Under another number, with another price, for another order: the trade's id decides."""
    other = desk.accept(desk.order("o2"))
    assert say(desk, order.order_id).effect is ReportEffect.APPLIED
    assert say(desk, order.order_id, last_price_e9=90 * E9).effect is ReportEffect.DUPLICATE
    assert say(desk, other.order_id).effect is ReportEffect.DUPLICATE
    assert (order.cum, other.cum, desk.position) == (2, 0, 2)


def test_fills_without_end_stop_the_instrument_and_still_fit_the_journal(desk: Desk, order: Order) -> None:
    """More than was ordered is booked, for it is held now, and halts; what no number can hold is refused."""
    lots = INT64_MAX // E9 - 10
    assert say(desk, order.order_id, last_quantity_e9=lots * E9).effect is ReportEffect.OVERFILL
    assert desk.state.halts[Scope.INSTRUMENT, "XY"].state is TradingState.HALTED_AUTO
    assert say(desk, order.order_id, trade_id="T'", last_quantity_e9=lots * E9).effect is ReportEffect.REFUSED
    assert desk.position == lots + 1


def test_a_report_of_another_venues_order_changes_it_in_nothing() -> None:
    """The order is none of that venue's; a fill of it is one that nobody can place: reduce-only of everything."""
    elsewhere: InstrumentParams = msgspec.structs.replace(XY, instrument="ZZ", venue="other")
    desk = Desk(given=params(instruments=(XY, elsewhere)))
    desk.apply(VenueChanged("other", True, b"h" * 16, 0))
    order = desk.accept(desk.order("o"))
    told = say(desk, order.order_id, "other", exec_type=ExecType.CANCELED, last_quantity_e9=0, trade_id="")
    assert told.effect is ReportEffect.ORDER_UNKNOWN
    assert order.status is OrderStatus.PENDING_NEW
    assert not desk.state.halts
    assert say(desk, order.order_id, "other").effect is ReportEffect.ORDER_UNKNOWN
    assert (order.cum, desk.position) == (0, 0)
    assert desk.state.halts[Scope.GLOBAL, ""].state is TradingState.REDUCING


@pytest.mark.parametrize("number", [lambda o: o.venue_seq, lambda _: 99, lambda _: -1, lambda _: 2**64 - 1])
def test_a_report_that_names_the_number_of_another_command_answers_none(
    desk: Desk, order: Order, number: Callable[[Order], int]
) -> None:
    """What waits for an answer goes on waiting: after a reconnect it is asked for."""
    other = desk.accept(desk.order("o2"))
    say(desk, order.order_id, venue_seq=number(other))
    assert other.venue_seq in desk.state.venues["sandbox"].awaiting
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], other.venue_seq)
    assert queried is not None


def test_a_venue_that_answers_after_the_order_was_forgotten_stops_new_risk(desk: Desk, order: Order) -> None:
    """A fill days later of an order that left memory: recorded, reduce-only of everything; a word alone: recorded."""
    desk.report(ExecType.CANCELED, order.order_id)
    assert say(desk, order.order_id, trade_id="late").effect is ReportEffect.APPLIED  # while it is remembered it counts
    desk.state.closed.pop(order.order_id)
    told = say(desk, order.order_id, exec_type=ExecType.EXPIRED, last_quantity_e9=0, trade_id="")
    assert told.effect is ReportEffect.ORDER_UNKNOWN
    assert not desk.state.halts
    assert say(desk, order.order_id, trade_id="later").effect is ReportEffect.ORDER_UNKNOWN
    assert desk.state.halts[Scope.GLOBAL, ""].state is TradingState.REDUCING
    assert desk.position == 2
