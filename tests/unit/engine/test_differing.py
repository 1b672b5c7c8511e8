"""A venue that counts other fills of an order than are here: noticed at once, booked once, asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.differing import decide_differing
from engine.order import Order
from protocol.codes import ExecType, OrderStatus, Scope, TradingState
from protocol.decisions import ReportDecision, ReportEffect
from protocol.event_kinds import StatusEvent, TradeEvent
from protocol.events import events_of
from protocol.records import Queried
from protocol.venue import Capabilities
from tests.unit.engine.amending import Amending
from tests.unit.engine.test_reconciling import Told

S = OrderStatus
APPLIED, DIFFERS, DUPLICATE = ReportEffect.APPLIED, ReportEffect.CUM_DIFFERS, ReportEffect.DUPLICATE


class Counting(Amending, Told):
    """A desk whose venue sums up fills of its own, and whose engine asks when that differs."""

    def told(self, order: Order, quantity: int, cum: int, trade_id: str = "") -> ReportDecision:
        done = self.report(ExecType.TRADE, order.order_id, quantity=quantity, cum=cum, trade_id=trade_id)
        self.query()
        return done

    def query(self) -> Queried | None:
        """Do what the loop does behind a report."""
        queried = decide_differing(self.state, self.venue)
        if queried is not None:
            self.apply(queried)
        return queried

    def answer_query(self, order: Order, cum: int, status: OrderStatus = S.PARTIALLY_FILLED) -> ReportDecision:
        return self.report(ExecType.ORDER_STATUS, order.order_id, status=status, cum=cum, venue_seq=self.venue.last_seq)

    @property
    def is_reduced(self) -> bool:
        return self.state.accounts["a1"].state is TradingState.REDUCING


@pytest.fixture
def desk() -> Counting:
    return Counting()


@pytest.fixture
def order(desk: Counting) -> Order:
    """An order over ten that works, two of which have filled as the venue counts too."""
    order = desk.working()
    assert desk.told(order, 2, 2, "T1").effect is APPLIED
    assert not desk.is_reduced
    return order


def test_a_fill_behind_a_missed_one_is_booked_and_the_order_is_asked_for(desk: Counting, order: Order) -> None:
    """UNKNOWN, reserved as before, its account may only reduce, a query; the missed one counts when it comes."""
    assert desk.told(order, 1, 6, "T3").effect is DIFFERS
    assert (order.status, order.cum, order.leaves, desk.position) == (S.UNKNOWN, 3, 7, 3)
    assert desk.state.book.ledger("a1", "XY").buy == 7
    assert desk.is_reduced
    assert [o.order.order_id for o in desk.venue.awaiting.values()] == [order.order_id]
    assert desk.told(order, 3, 6, "T2").effect is APPLIED
    assert (order.status, order.cum, order.leaves, desk.position) == (S.PARTIALLY_FILLED, 6, 4, 6)
    desk.check()


def test_a_fill_counted_there_is_none_twice_whatever_the_sums_say(desk: Counting, order: Order) -> None:
    """Repeated with any sum it changes nothing; under another id it counts, and the sum shows it."""
    for cum in (2, 4, 1):
        assert desk.told(order, 2, cum, "T1").effect is DUPLICATE
    assert not desk.is_reduced
    assert desk.told(order, 2, 2, "T1-again").effect is DIFFERS
    assert (order.cum, desk.position) == (4, 4)
    assert desk.is_reduced
    assert desk.bust(order, "T1-again") is APPLIED
    assert (order.cum, desk.position) == (2, 2)
    assert desk.told(order, 1, 3, "T2").effect is APPLIED
    desk.check()


def test_fills_in_another_order_are_each_booked_and_end_the_doubt(desk: Counting, order: Order) -> None:
    """The later one first: more there than here, then less, then the same."""
    assert desk.told(order, 5, 10, "T3").effect is DIFFERS
    assert desk.told(order, 3, 5, "T2").effect is DIFFERS
    assert (order.status, order.cum, desk.position) == (S.FILLED, 10, 10)
    assert order.order_id not in desk.state.orders
    assert desk.venue.differing == ()
    desk.check()


def test_a_trade_taken_back_lowers_both_sums(desk: Counting, order: Order) -> None:
    """By the venue: the next fill agrees. By an operator alone: the venue counts it still."""
    assert desk.bust(order, "T1") is APPLIED
    assert desk.told(order, 3, 3, "T2").effect is APPLIED
    assert not desk.is_reduced
    desk.bust_by_hand(order.order_id, "T2")
    assert desk.told(order, 1, 4, "T3").effect is DIFFERS
    assert (order.cum, desk.position) == (1, 1)
    assert desk.bust(order, "T2") is DUPLICATE
    assert desk.told(order, 1, 2, "T4").effect is APPLIED
    desk.check()


def test_a_fill_that_was_refused_shows_at_the_next(desk: Counting, order: Order) -> None:
    """The venue counts it; entered by hand, which says no sum, both count the same again."""
    assert desk.report(ExecType.TRADE, order.order_id, quantity=3, price=0, cum=5, trade_id="T2").effect is (
        ReportEffect.REFUSED
    )
    assert desk.told(order, 1, 6, "T3").effect is DIFFERS
    entered = desk.enter(order.order_id, "T2", 3)
    assert isinstance(entered, ReportDecision)
    assert (entered.effect, order.status, order.cum) == (APPLIED, S.UNKNOWN, 6)
    assert desk.told(order, 1, 7, "T4").effect is APPLIED
    assert order.status is S.PARTIALLY_FILLED
    desk.check()


def test_the_answer_ends_the_doubt_only_if_its_sum_agrees(desk: Counting, order: Order) -> None:
    """Else it is refused, and the order stays UNKNOWN and reserved until a fill or a person says what is missing."""
    desk.told(order, 1, 6, "T3")
    assert desk.answer_query(order, 6).effect is ReportEffect.REFUSED
    assert (order.status, order.leaves) == (S.UNKNOWN, 7)
    desk.told(order, 3, 6, "T2")
    desk.told(order, 1, 8, "T5")
    assert order.status is S.UNKNOWN
    assert desk.answer_query(order, 7).effect is APPLIED
    assert order.status is S.PARTIALLY_FILLED
    desk.check()


def test_an_order_that_filled_is_never_sent_again(desk: Counting, order: Order) -> None:
    """Though the venue answers that it never saw it."""
    desk.told(order, 1, 6, "T3")
    assert desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=desk.venue.last_seq).effect is APPLIED
    assert (order.status, desk.venue.not_found) == (S.UNKNOWN, {})
    desk.check()


def test_a_cancel_on_its_way_goes_on(desk: Counting, order: Order) -> None:
    """It is not sent twice, and its answer counts."""
    desk.cancel("o")
    desk.told(order, 1, 6, "T3")
    assert order.status is S.UNKNOWN
    assert order.cancel_seq
    assert desk.cancel("o").venue_seq == 0  # type: ignore[union-attr]
    desk.report(ExecType.CANCELED, order.order_id, venue_seq=order.cancel_seq)
    assert order.status is S.CANCELED
    desk.check()


@pytest.mark.parametrize("kind", [ExecType.CANCELED, ExecType.EXPIRED])
def test_an_end_behind_a_missed_fill_reduces_and_the_fill_counts_when_it_comes(
    desk: Counting, order: Order, kind: ExecType
) -> None:
    """It is over there, so it is here; nothing is left to ask for."""
    assert desk.report(kind, order.order_id, cum=5).effect is DIFFERS
    assert desk.query() is None
    assert desk.is_reduced
    assert (order.status, order.leaves, order.cum) == (S[kind.name], 0, 2)
    assert desk.told(order, 3, 5, "T2").effect is APPLIED
    assert (order.cum, desk.position) == (5, 5)
    desk.check()


def test_a_replaced_order_is_compared_likewise(desk: Counting) -> None:
    """While the replace is unanswered, and after it."""
    order = desk.working()
    desk.replace("o", "o2", 12)
    assert desk.told(order, 2, 3, "T1").effect is DIFFERS
    assert (order.status, order.leaves) == (S.UNKNOWN, 10)
    desk.answer(ExecType.REPLACED, order, 12, 100, venue_seq=2)
    assert desk.told(order, 1, 3, "T2").effect is APPLIED
    assert desk.told(order, 1, 5, "T3").effect is DIFFERS
    desk.check()


def test_what_is_not_said_differs_from_nothing(desk: Counting, order: Order) -> None:
    """A venue that sums nothing up is not held to it."""
    assert desk.told(order, 1, 0, "T2").effect is APPLIED
    assert desk.report(ExecType.CANCELED, order.order_id, cum=0).effect is APPLIED
    assert not desk.is_reduced


def test_a_venue_that_answers_no_query_is_asked_none(desk: Counting, order: Order) -> None:
    """Its account reduces all the same."""
    desk.venue.capabilities = Capabilities((), (), idempotent_ids=True, query=False)
    assert desk.told(order, 1, 6, "T3").effect is DIFFERS
    assert (desk.is_reduced, desk.venue.differing, order.status) == (True, (), S.PARTIALLY_FILLED)


def test_what_is_still_to_be_asked_is_state(desk: Counting, order: Order) -> None:
    """A crash before the query: the next engine knows, and asks; what is over by then is not asked for."""
    desk.report(ExecType.TRADE, order.order_id, quantity=1, cum=6, trade_id="T3")
    assert desk.venue.differing == (order.order_id,)
    assert desk.hash() == desk.replayed_hash()
    before = desk.hash()
    desk.venue.differing = ()
    assert desk.hash() != before
    desk.venue.differing = (order.order_id,)
    desk.report(ExecType.CANCELED, order.order_id, cum=6)
    assert desk.query() is None
    desk.check()


def test_a_reader_sees_the_fill_and_the_doubt(desk: Counting, order: Order) -> None:
    """The fill is a trade like any; the query is told of as the venue's other count."""
    desk.told(order, 1, 6, "T3")
    desk.report(ExecType.EXPIRED, order.order_id, cum=6)
    (_, fill), (_, asked), (_, end) = [
        (seq, events_of(seq, now_ns, record)) for seq, now_ns, _, record in desk.records[-3:]
    ]
    assert isinstance(fill[0], TradeEvent)
    assert "counts other fills" in asked[0].text  # type: ignore[union-attr]
    assert isinstance(end[0], StatusEvent)


@dataclass
class Trade:
    """One trade at the venue, and whether its report is lost, or comes twice."""

    quantity: int
    place: int
    copies: int = field(default=1)


@given(st.lists(st.builds(Trade, st.integers(1, 3), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=8))
def test_any_loss_repeat_and_disorder_books_each_trade_once_and_shows(trades: list[Trade]) -> None:
    """What came is booked, each once; a report whose sum is not the sum of what came is one that differs."""
    desk = Counting()
    order = desk.working(quantity=30)
    said: list[tuple[int, str, int, int]] = []
    total = 0
    for n, trade in enumerate(trades):
        total += trade.quantity
        said += [(trade.place, f"T{n}", trade.quantity, total)] * trade.copies
    booked: dict[str, int] = {}
    for _, trade_id, quantity, cum in sorted(said):
        is_again = trade_id in booked
        booked[trade_id] = quantity
        expected = DUPLICATE if is_again else APPLIED if sum(booked.values()) == cum else DIFFERS
        assert desk.told(order, quantity, cum, trade_id).effect is expected
        assert order.cum == desk.position == sum(booked.values())
        assert order.leaves == 30 - order.cum
        assert is_again or (order.status is S.UNKNOWN) == (expected is DIFFERS)
    desk.check()


def test_the_reason_of_the_reduce_only_names_the_order(desk: Counting, order: Order) -> None:
    """Who looks at the halts finds which order it is about."""
    desk.told(order, 1, 6, "T3")
    assert order.order_id in desk.state.halts[Scope.ACCOUNT, "a1"].reason
