"""The order's life as a table: every row reached, every walk adds up, what is not in the table changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.order_state import TRANSITIONS, WORKING, Happening, happening_of, next_status
from protocol.codes import TERMINAL, Code, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import ReportEffect
from tests.unit.engine.desk import Desk

S = OrderStatus
START = S.SUSPENDED


def test_every_row_is_reachable() -> None:
    """From SUSPENDED and HELD along the table every row can be walked; a row that can't is a wish, not a rule."""
    seen, front, rows = {START, S.HELD}, [START, S.HELD], set()
    while front:
        status = front.pop()
        for row in TRANSITIONS:
            if row[0] is not status:
                continue
            rows.add(row)
            for partly in (False, True):
                after = next_status(*row, is_filled_partly=partly)
                assert after is not None
                if after not in seen:
                    seen.add(after)
                    front.append(after)
    assert rows == set(TRANSITIONS)
    assert seen == {s for s, _ in TRANSITIONS}


def test_terminal_states_are_left_by_fills_only() -> None:
    """What has ended comes to life by nothing; a late fill may complete it, and one taken back undo just that."""
    undone = (S.FILLED, Happening.FILLS_AMENDED, S.CANCELED)
    for (status, happening), after in TRANSITIONS.items():
        if status in TERMINAL:
            assert after in {status, S.FILLED} or (status, happening, after) == undone


def test_working_stands_for_how_much_is_filled() -> None:
    """A refused cancel gives back NEW or PARTIALLY_FILLED."""
    rejected = Happening.CANCEL_REJECTED
    assert TRANSITIONS[S.PENDING_CANCEL, rejected] is WORKING
    assert next_status(S.PENDING_CANCEL, rejected, is_filled_partly=False) is S.NEW
    assert next_status(S.PENDING_CANCEL, rejected, is_filled_partly=True) is S.PARTIALLY_FILLED
    assert next_status(S.FILLED, Happening.CANCELED, is_filled_partly=True) is None


def test_a_status_says_what_happened() -> None:
    """ORDER_STATUS counts by the state it names; what nobody defined is nothing."""
    assert happening_of(ExecType.ORDER_STATUS, S.CANCELED, leaves_nothing=False) is Happening.CANCELED
    assert happening_of(ExecType.ORDER_STATUS, S.UNKNOWN, leaves_nothing=False) is None
    assert happening_of(ExecType.TRADE, S.NONE, leaves_nothing=True) is Happening.FILL
    assert happening_of(ExecType.TRADE, S.NONE, leaves_nothing=False) is Happening.PARTIAL_FILL
    assert happening_of(ExecType.PENDING_CANCEL, S.NONE, leaves_nothing=False) is None


KINDS = (
    ExecType.NEW, ExecType.TRADE, ExecType.TRADE, ExecType.CANCELED, ExecType.REJECTED, ExecType.EXPIRED,
    ExecType.CANCEL_REJECT, ExecType.NOT_FOUND, ExecType.PENDING_NEW, ExecType.ORDER_STATUS,
)  # fmt: skip
walks = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KINDS), st.integers(1, 6), st.sampled_from(S)),
        st.tuples(st.just("cancel"), st.integers(0, 0), st.just(S.NONE)),
        st.tuples(st.just("again"), st.integers(1, 6), st.just(S.NONE)),
    ),
    max_size=25,
)


@settings(max_examples=250, deadline=None)
@given(walk=walks, quantity=st.integers(1, 12), side=st.sampled_from(Side))
def test_cum_and_leaves_add_up_on_any_walk(
    walk: list[tuple[ExecType | str, int, OrderStatus]], quantity: int, side: Side
) -> None:
    """Whatever a venue says in whatever order, nothing is raised, and the book is what was traded."""
    desk = Desk()
    order = desk.accept(desk.order("1", side, quantity))
    traded = 0
    for kind, amount, status in walk:
        if isinstance(kind, str):
            if kind == "cancel":
                desk.cancel("1")
            elif desk.trades:
                done = desk.report(ExecType.TRADE, order.order_id, quantity=amount, trade_id=f"T{desk.trades}")
                assert done.effect is ReportEffect.DUPLICATE
            continue
        before, is_fill = order.status, kind is ExecType.TRADE
        done = desk.report(kind, order.order_id, quantity=amount if is_fill else 0, status=status, cum=order.cum)
        traded += amount if is_fill else 0
        if done.effect is ReportEffect.REFUSED:
            assert not is_fill, "a trade was not booked"
            assert order.status is before
        assert order.cum == traded
        assert order.leaves == (0 if order.status in TERMINAL else quantity - traded)
    ledger = desk.state.book.ledger("a1", "XY")
    pending = ledger.buy if side is Side.BUY else ledger.sell
    assert ledger.position == (traded if side is Side.BUY else -traded)
    assert pending == order.leaves
    assert (order.order_id in desk.state.orders) == (order.status not in TERMINAL)
    assert desk.hash() == desk.replayed_hash()


def test_more_than_ordered_is_booked_and_halts_the_instrument() -> None:
    """An overfill is truth: it counts, ends the order and halts until a person looks; exits pass."""
    desk = Desk()
    order = desk.accept(desk.order("1", Side.BUY, 5))
    assert desk.fill(order, 7).effect is ReportEffect.OVERFILL
    assert (desk.position, order.leaves, order.status) == (7, 0, S.FILLED)
    assert desk.state.instruments["XY"].state is TradingState.HALTED_AUTO
    assert desk.submit(desk.order("2", Side.BUY)).code is Code.STATE_HALTED  # type: ignore[union-attr]
    assert desk.submit(desk.order("3", Side.SELL, 7)).code is Code.OK  # type: ignore[union-attr]


def test_a_fill_of_nobodys_order_stops_new_risk() -> None:
    """The position is not what we think; only exits until an operator looked."""
    desk = Desk()
    assert desk.report(ExecType.TRADE, "stranger", quantity=3).effect is ReportEffect.ORDER_UNKNOWN
    assert desk.state.halts[Scope.GLOBAL, ""].state is TradingState.REDUCING
    assert desk.report(ExecType.NEW, "stranger").effect is ReportEffect.ORDER_UNKNOWN


@pytest.mark.parametrize("ended", [ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED])
def test_a_fill_after_the_end_counts(ended: ExecType) -> None:
    """Reported late or after a rejection: what traded is position, also in part."""
    desk = Desk()
    order = desk.accept(desk.order("1", Side.BUY, 5))
    desk.report(ended, order.order_id)
    assert desk.fill(order, 2).effect is ReportEffect.APPLIED
    assert desk.fill(order, 3).effect is ReportEffect.APPLIED
    assert (desk.position, order.cum, order.status) == (5, 5, S.FILLED)


def test_a_refused_report_is_recorded_and_changes_nothing() -> None:
    """A status that contradicts the fills, or a transition that is none."""
    desk = Desk()
    order = desk.accept(desk.order("1", Side.BUY, 5))
    desk.fill(order, 2)
    before = desk.state.orders[order.order_id].status
    lied = desk.report(ExecType.ORDER_STATUS, order.order_id, status=S.FILLED, cum=5)
    odd = desk.report(ExecType.NOT_FOUND, order.order_id)
    assert (lied.effect, odd.effect) == (ReportEffect.REFUSED, ReportEffect.REFUSED)
    assert (order.status, order.cum, order.leaves) == (before, 2, 3)
