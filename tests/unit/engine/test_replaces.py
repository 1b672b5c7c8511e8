"""Replaces: both terms reserved until the venue answers, every race, every name of the order, nothing twice."""

from __future__ import annotations

import pytest

from engine.order import Order, OutgoingKind
from engine.orders import Defer, Replay
from protocol.codes import Code, ExecType, OrderStatus, OrderType, OutcomeKind, RetryReason, Scope, Side, TimeInForce
from protocol.decisions import CancelDecision, NewDecision, ReplaceAnswer, ReportEffect
from protocol.params import LimitName, Params
from protocol.records import ControlAction, Controlled, SendDecided, VenueChanged
from protocol.replaces import ReplaceDecision, ReplaceUnsent
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus
REPLACED, REPLACE_REJECT = ExecType.REPLACED, ExecType.REPLACE_REJECT


def pending(quantity: int = 5, to: int = 8, price: int = 100, filled: int = 0) -> tuple[Desk, Order]:
    """Return a desk whose order 1 (number 1 at the venue) waits for the answer to its replace 2 (number 2)."""
    desk = Desk()
    order = desk.accept(desk.order("1", BUY, quantity))
    desk.report(ExecType.NEW, order.order_id, venue_seq=1)
    if filled:
        desk.fill(order, filled)
    taken(desk.replace("1", "2", to, price))
    return desk, order


def taken(decided: object) -> ReplaceDecision:
    assert isinstance(decided, ReplaceDecision)
    assert decided.kind is OutcomeKind.ACCEPTED, decided
    return decided


def refused(decided: object) -> Code:
    assert isinstance(decided, ReplaceDecision)
    assert decided.kind is OutcomeKind.REJECTED
    return decided.code


def reserved(desk: Desk) -> tuple[int, int]:
    """Steps that could still be bought, and their value in whole units."""
    return desk.state.book.ledger("a1", "XY").buy, desk.state.accounts["a1"].open_value_e9 // E9


def sound(desk: Desk) -> bool:
    """Whether recovery and a verifier come to the same."""
    return desk.hash() == desk.replayed_hash() and False not in desk.decided_again()


@pytest.mark.parametrize("to", [8, 3])
def test_price_and_quantity_change_when_the_venue_says_so(to: int) -> None:
    """In both directions; meanwhile the larger total at the higher value is reserved, afterwards the new terms are."""
    desk, order = pending(5, to, 101, filled=2)
    assert order.status is S.PENDING_REPLACE
    most = max(5, to) - 2
    assert reserved(desk) == (most, most * 101)
    done = desk.answer(REPLACED, order, to, 101, venue_seq=2)
    assert (done.effect, done.replace_answer) == (ReportEffect.APPLIED, ReplaceAnswer.TAKEN)
    assert (order.status, order.quantity, order.limit_price, order.cum) == (S.PARTIALLY_FILLED, to, 101, 2)
    assert reserved(desk) == (to - 2, (to - 2) * 101)
    assert (done.quantity_e9, done.price_e9, done.leaves_quantity_e9) == (to * E9, 101 * E9, (to - 2) * E9)
    assert sound(desk)


def test_a_refused_replace_leaves_the_old_terms() -> None:
    """While filled in part: the reservation shrinks back, the id of the replace is over, the order's is not."""
    desk, order = pending(5, 8, 101, filled=2)
    desk.answer(REPLACE_REJECT, order, 5, 100, venue_seq=2)
    assert (order.status, order.quantity, order.limit_price) == (S.PARTIALLY_FILLED, 5, 100)
    assert reserved(desk) == (3, 300)
    again = desk.cancel("2")
    assert isinstance(again, CancelDecision)
    assert again.code is Code.ORDER_TERMINAL
    assert desk.cancel("1").kind is OutcomeKind.ACCEPTED  # type: ignore[union-attr]
    assert sound(desk)


def test_a_fill_after_the_request_counts_on_either_total() -> None:
    """All of the old total filled: the rest of the new one stays reserved until the answer."""
    for taken_, status in ((True, S.PARTIALLY_FILLED), (False, S.FILLED)):
        desk, order = pending(5, 8)
        desk.fill(order, 5)
        assert (order.status, reserved(desk)) == (S.PENDING_REPLACE, (3, 300))
        desk.answer(REPLACED if taken_ else REPLACE_REJECT, order, 8 if taken_ else 5, 100, venue_seq=2)
        assert (order.status, reserved(desk)) == (status, (3, 300) if taken_ else (0, 0))
        assert sound(desk)


def test_a_fill_beyond_the_old_total_says_that_the_new_terms_work() -> None:
    """Reports out of order: the answer that comes after it changes nothing any more."""
    desk, order = pending(5, 8, 101)
    done = desk.fill(order, 6)
    assert (done.replace_answer, order.status, order.quantity) == (ReplaceAnswer.TAKEN, S.PARTIALLY_FILLED, 8)
    late = desk.answer(REPLACED, order, 8, 101, venue_seq=2)
    assert (late.effect, order.leaves) == (ReportEffect.APPLIED, 2)
    assert desk.fill(order, 3).effect is ReportEffect.OVERFILL
    assert sound(desk)


def test_more_than_either_total_is_an_overfill() -> None:
    """It is booked, as every trade is."""
    desk, order = pending(5, 3)
    assert desk.fill(order, 6).effect is ReportEffect.OVERFILL
    assert (desk.position, order.leaves, order.status) == (6, 0, S.FILLED)
    assert sound(desk)


def test_below_what_filled_is_refused_and_equal_cancels_the_rest() -> None:
    """A replace to the filled total is a cancel, under the replace's id too."""
    desk = Desk()
    order = desk.accept(desk.order("1", BUY, 5))
    desk.fill(order, 3)
    assert refused(desk.replace("1", "2", 2)) is Code.QTY_BELOW_FILLED
    decided = taken(desk.replace("1", "3", 3))
    assert (decided.cancels, order.status, order.cancel_seq) == (True, S.PENDING_CANCEL, decided.venue_seq)
    assert desk.state.venues["sandbox"].awaiting[decided.venue_seq].kind is OutgoingKind.CANCEL
    desk.report(ExecType.CANCELED, order.order_id, venue_seq=decided.venue_seq)
    assert desk.replace("1", "3", 3) == Replay(desk.seq - 1, S.CANCELED)
    assert sound(desk)


def test_every_name_of_the_order_finds_it() -> None:
    """Cancel and replace by the first id or any later one, until the order is over."""
    desk, order = pending(5, 8)
    desk.answer(REPLACED, order, 8, 100, venue_seq=2)
    taken(desk.replace("2", "3", 6))
    desk.answer(REPLACED, order, 6, 100, venue_seq=3)
    taken(desk.replace("1", "4", 7))
    desk.answer(REPLACED, order, 7, 100, venue_seq=4)
    decided = desk.cancel("3")
    assert isinstance(decided, CancelDecision)
    assert (decided.order_id, decided.order_client_order_id) == (order.order_id, "1")
    desk.report(ExecType.CANCELED, order.order_id, venue_seq=decided.venue_seq)
    for name in ("1", "2", "3", "4"):
        assert desk.cancel(name).code is Code.ORDER_TERMINAL  # type: ignore[union-attr]
    assert refused(desk.replace("3", "5", 9)) is Code.ORDER_TERMINAL
    assert desk.state.renamed == {}
    assert sound(desk)


def test_a_repeated_replace_is_answered_by_the_first_outcome() -> None:
    """Accepted or refused, with the order's state of now; other content under the id is a conflict."""
    desk, order = pending(5, 8)
    at = desk.seq
    assert desk.replace("1", "2", 8, 100) == Replay(at, S.PENDING_REPLACE)
    desk.answer(REPLACED, order, 8, 100, venue_seq=2)
    desk.fill(order, 8)
    assert desk.replace("1", "2", 8, 100) == Replay(at, S.FILLED)
    assert refused(desk.replace("1", "2", 9, 100)) is Code.ID_CONFLICT
    assert refused(desk.replace("zz", "9", 1)) is Code.ORDER_UNKNOWN
    assert desk.replace("zz", "9", 1) == Replay(desk.seq, S.REJECTED)
    assert isinstance(desk.submit(desk.order("9")), NewDecision)


def test_one_replace_at_a_time_and_none_of_what_is_in_doubt() -> None:
    """Pending replace, pending cancel, UNKNOWN: each says why."""
    desk, order = pending(5, 8)
    assert refused(desk.replace("1", "3", 9)) is Code.REPLACE_PENDING
    desk.answer(REPLACED, order, 8, 100, venue_seq=2)
    desk.cancel("1")
    assert refused(desk.replace("1", "4", 9)) is Code.CANCEL_PENDING
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 3))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 3)
    assert queried is not None
    desk.apply(queried)
    assert refused(desk.replace("1", "5", 9)) is Code.ORDER_IN_DOUBT


@pytest.mark.parametrize("was", [OrderType.MARKET, TimeInForce.IOC])
def test_what_never_rests_has_no_terms_to_change(was: OrderType | TimeInForce) -> None:
    """MARKET and IOC are over before a replace could reach them."""
    desk = Desk()
    changed = {"order_type": was} if isinstance(was, OrderType) else {"time_in_force": was}
    desk.accept(desk.order("1", BUY, 5, **changed))  # type: ignore[arg-type]
    assert refused(desk.replace("1", "2", 3)) is Code.TYPE_UNSUPPORTED


def test_a_cancel_while_the_replace_is_unanswered_is_for_what_works_then() -> None:
    """Both are answered in the venue's order; a refused cancel leaves the order on its new terms."""
    desk, order = pending(5, 8, 101)
    cancel = desk.cancel("2")
    assert isinstance(cancel, CancelDecision)
    assert (cancel.venue_seq, order.status, reserved(desk)[0]) == (3, S.PENDING_CANCEL, 8)
    desk.answer(REPLACED, order, 8, 101, venue_seq=2)
    assert (order.status, order.quantity, reserved(desk)) == (S.PENDING_CANCEL, 8, (8, 808))
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=3)
    assert (order.status, order.limit_price) == (S.NEW, 101)
    assert sound(desk)


def test_filled_whole_under_the_old_terms_is_filled_though_a_cancel_waits() -> None:
    """The fill leaves nothing, the replace is refused: over at once, whatever the cancel is answered with."""
    desk, order = pending(5, 8)
    desk.cancel("2")
    assert desk.fill(order, 5).effect is ReportEffect.APPLIED
    assert (order.status, reserved(desk)[0]) == (S.PENDING_CANCEL, 3)
    desk.report(REPLACE_REJECT, order.order_id, venue_seq=2)
    assert (order.status, reserved(desk), desk.state.orders) == (S.FILLED, (0, 0), {})
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=3)
    assert (order.status, desk.position) == (S.FILLED, 5)
    assert sound(desk)


def test_the_order_may_end_before_the_answer() -> None:
    """Cancelled by the venue itself: nothing is reserved, and the late answer changes nothing."""
    desk, order = pending(5, 8)
    desk.report(ExecType.CANCELED, order.order_id)
    assert (reserved(desk), desk.state.orders) == ((0, 0), {})
    assert desk.report(REPLACE_REJECT, order.order_id, venue_seq=2).effect is ReportEffect.APPLIED
    assert desk.cancel("2").code is Code.ORDER_TERMINAL  # type: ignore[union-attr]
    assert desk.fill(order, 2).effect is ReportEffect.APPLIED
    assert desk.position == 2
    assert sound(desk)


def test_a_kill_takes_the_replace_back_that_was_not_sent() -> None:
    """Its number is VOID and the cancel goes; one that was sent is answered before the cancel is."""
    for unsent_from in (2, 3):
        desk, order = pending(5, 8, 101)
        (record,) = desk.control(ControlAction.KILL, unsent_from=unsent_from)
        (cancel,) = record.cancels
        was_unsent = unsent_from == 2
        assert (cancel.venue_seq, cancel.voids_seq) == (3, 2 if was_unsent else 0)
        waiting = desk.state.venues["sandbox"].awaiting[2]
        assert (waiting.kind is OutgoingKind.VOID) == was_unsent
        assert reserved(desk) == ((5, 500) if was_unsent else (8, 808))
        desk.report(ExecType.CANCELED, order.order_id, venue_seq=3)
        assert (reserved(desk), order.status) == ((0, 0), S.CANCELED)
        assert sound(desk)


def in_doubt() -> tuple[Desk, Order]:
    """Return a desk whose gateway was lost with the replace 2 in its hands; the query has number 3."""
    desk, order = pending(5, 8, 101, filled=2)
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 2))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 2))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 2)
    assert queried is not None
    desk.apply(queried)
    assert (order.status, reserved(desk)) == (S.UNKNOWN, (6, 606))
    return desk, order


@pytest.mark.parametrize(("quantity", "price"), [(8, 101), (5, 100)])
def test_after_a_lost_session_the_query_says_which_terms_work(quantity: int, price: int) -> None:
    """The new ones or the old ones; until then the worst of both is reserved."""
    desk, order = in_doubt()
    unsaid = desk.report(ExecType.ORDER_STATUS, order.order_id, status=S.PARTIALLY_FILLED, cum=2)
    other = desk.answer(ExecType.ORDER_STATUS, order, 7, 101, venue_seq=3, status=S.PARTIALLY_FILLED)
    assert (unsaid.effect, other.effect) == (ReportEffect.REFUSED, ReportEffect.REFUSED)
    assert (order.status, reserved(desk)) == (S.UNKNOWN, (6, 606))
    desk.answer(ExecType.ORDER_STATUS, order, quantity, price, venue_seq=3, status=S.PARTIALLY_FILLED)
    assert (order.status, order.quantity, order.limit_price) == (S.PARTIALLY_FILLED, quantity, price)
    assert reserved(desk) == (quantity - 2, (quantity - 2) * price)
    assert sound(desk)


def test_a_status_from_before_the_replace_is_no_answer_to_it() -> None:
    """A query that the venue read first names the old terms, and the replace may still be taken."""
    desk, order = pending(5, 8)
    done = desk.answer(ExecType.ORDER_STATUS, order, 5, 100, venue_seq=1, status=S.NEW)
    assert (done.effect, done.replace_answer) == (ReportEffect.APPLIED, ReplaceAnswer.NONE)
    assert (order.status, reserved(desk)[0]) == (S.PENDING_REPLACE, 8)


def test_an_operator_may_resolve_on_either_total() -> None:
    """Filled to the old or to the new total, as he says."""
    for cum in (5, 8):
        desk, order = in_doubt()
        said = desk.core.controls.decide_resolve(order.order_id, S.FILLED, cum * E9, 100 * E9, "op", "called")
        assert isinstance(said, Controlled)
        desk.apply(said)
        assert (desk.position, order.quantity, reserved(desk)) == (cum, cum, (0, 0))
        assert sound(desk)


def test_an_order_that_the_venue_never_saw_goes_again_on_its_own_terms() -> None:
    """What was asked of it in between went to nobody."""
    desk = Desk()
    order = desk.accept(desk.order("1", BUY, 5))
    taken(desk.replace("1", "2", 8))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 2))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], 2)
    assert queried is not None
    desk.apply(queried)
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=3)
    assert (order.status, order.quantity, reserved(desk)) == (S.PENDING_NEW, 5, (5, 500))
    assert desk.cancel("2").code is Code.ORDER_TERMINAL  # type: ignore[union-attr]
    assert sound(desk)


def test_a_late_replace_passes_the_send_gate_again() -> None:
    """What takes away always goes; more goes only as an order would, else the old terms work on."""
    desk, order = pending(5, 8)
    reports = desk.core.reports
    assert isinstance(reports.decide_send_replace(order, 2, desk.now, REFERENCE), SendDecided)
    stale = reports.decide_send_replace(order, 2, desk.now, None)
    assert isinstance(stale, ReplaceUnsent)
    assert stale.code is Code.REF_STALE
    desk.apply(stale)
    assert (order.status, order.quantity, reserved(desk)) == (S.NEW, 5, (5, 500))
    assert desk.state.venues["sandbox"].awaiting[2].kind is OutgoingKind.VOID
    less = taken(desk.replace("1", "3", 4))
    sent = reports.decide_send_replace(order, less.venue_seq, desk.now, None)
    assert isinstance(sent, SendDecided)
    desk.now += 1
    desk.apply(sent)
    assert desk.state.venues["sandbox"].awaiting[less.venue_seq].at_ns == desk.now
    assert sound(desk)


# The gate


def test_limits_bind_what_a_replace_adds() -> None:
    """Quantity, order value, open value, position: judged with both terms reserved; the old order stays."""
    for name, most, asked, code in (
        (LimitName.QUANTITY_MAX, 7, 8, Code.QTY_MAX), (LimitName.ORDER_VALUE_MAX, 799, 800, Code.VALUE_ORDER_MAX),
        (LimitName.OPEN_VALUE_MAX, 799, 800, Code.VALUE_OPEN_MAX), (LimitName.POSITION_MAX, 7, 8, Code.POS_LIMIT),
    ):  # fmt: skip
        desk = Desk(limit(name, most))
        desk.accept(desk.order("1", BUY, 5))
        decided = desk.replace("1", "2", 8)
        assert refused(decided) is code, name
        assert isinstance(decided, ReplaceDecision)
        assert decided.facts is not None
        assert (decided.facts.expected, decided.facts.actual) == (most * E9, asked * E9)
        assert reserved(desk) == (5, 500)
        taken(desk.replace("1", "3", 7, 100))


def test_while_a_replace_is_unanswered_others_meet_the_worst_of_both() -> None:
    """L3 of RISK.md: a decrease frees nothing before the venue took it."""
    desk = Desk(limit(LimitName.POSITION_MAX, 10))
    order = desk.accept(desk.order("1", BUY, 8))
    taken(desk.replace("1", "2", 3))
    other = desk.submit(desk.order("9", BUY, 5))
    assert isinstance(other, NewDecision)
    assert other.code is Code.POS_LIMIT
    desk.answer(REPLACED, order, 3, 100, venue_seq=2)
    desk.accept(desk.order("10", BUY, 7))


@pytest.mark.parametrize("state", [ControlAction.HALT, ControlAction.REDUCE_ONLY])
def test_less_and_more_passive_is_never_refused(state: ControlAction) -> None:
    """Halted, reducing, rate used up, every limit at zero, no price: a decrease and a lower bid pass."""
    desk = Desk(limit(LimitName.RATE_COUNT, 1, Scope.ACCOUNT, "a1", window_ns=E9), position=-50)
    order = desk.accept(desk.order("1", BUY, 8))
    desk.set_params(_strict())
    desk.control(state)
    order.cancel_seq = 0
    if order.status is S.PENDING_CANCEL:
        desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=2)
    taken(desk.decide_replace("1", "2", 5, 99, reference=None))
    assert isinstance(desk.decide_replace("1", "2", 9, 99), ReplaceDecision)


def _strict() -> Params:
    return params(
        *(limit(name, 0) for name in (
            LimitName.QUANTITY_MAX, LimitName.ORDER_VALUE_MAX, LimitName.OPEN_VALUE_MAX, LimitName.POSITION_MAX,
        )),
        limit(LimitName.RATE_COUNT, 1, Scope.ACCOUNT, "a1", window_ns=E9),
    )  # fmt: skip


def test_a_bolder_price_is_checked_as_a_new_order_is() -> None:
    """Collar, stale reference, halt; a tick is a tick for every price."""
    desk = Desk()
    desk.accept(desk.order("1", BUY, 5))
    assert refused(desk.decide_replace("1", "2", 0, 100_000)) is Code.PRICE_COLLAR
    assert refused(desk.decide_replace("1", "2", 0, 101, reference=None)) is Code.REF_STALE
    desk.control(ControlAction.HALT)
    assert refused(desk.decide_replace("1", "2", 0, 101)) is Code.STATE_HALTED
    taken(desk.decide_replace("1", "2", 0, 99))


def test_more_of_an_exit_is_an_exit_only_while_it_cannot_flip() -> None:
    """Reduce-only and a reducing account: judged by what the replace adds to all that is pending."""
    desk = Desk(limit(LimitName.POSITION_MAX, 0), position=10)
    desk.accept(desk.order("1", SELL, 4, reduce_only=True))
    desk.control(ControlAction.REDUCE_ONLY)
    taken(desk.decide_replace("1", "2", 10))
    assert refused(desk.decide_replace("1", "2", 11)) is Code.STATE_REDUCING
    desk.control(ControlAction.RESUME)
    assert refused(desk.decide_replace("1", "2", 11)) is Code.REDUCE_ONLY_VIOLATION


def test_a_bolder_replace_is_counted_a_milder_one_is_not() -> None:
    """Two in the window: the order and one increase; decreases cost nothing, as cancels."""
    desk = Desk(limit(LimitName.RATE_COUNT, 2, Scope.ACCOUNT, "a1", window_ns=E9))
    order = desk.accept(desk.order("1", BUY, 5))
    for n, to in enumerate((4, 3, 6), start=2):
        taken(desk.replace("1", str(n), to))
        desk.answer(REPLACED, order, to, 100, venue_seq=n)
    assert refused(desk.replace("1", "9", 7)) is Code.RATE_ACCOUNT
    taken(desk.replace("1", "10", 2))


def test_more_waits_while_new_risk_waits_and_less_does_not() -> None:
    """A session in RETRY, a full table; without a venue both wait."""
    desk = Desk(keys_max=1)
    desk.accept(desk.order("1", BUY, 5))
    assert desk.decide_replace("1", "2", 8) == Defer(RetryReason.DEDUP_FULL)
    taken(desk.decide_replace("1", "2", 3))
    desk = Desk()
    desk.accept(desk.order("1", BUY, 5))
    assert desk.decide_replace("1", "2", 8, defer=RetryReason.DRAINING) == Defer(RetryReason.DRAINING)
    taken(desk.decide_replace("1", "2", 3, defer=RetryReason.DRAINING))
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 1))
    assert desk.decide_replace("1", "2", 3) == Defer(RetryReason.VENUE_NOT_READY)


def test_who_may_not_trade_may_not_replace() -> None:
    """By account or by the order's strategy; no key is taken, no trace is left."""
    desk = Desk()
    desk.accept(desk.order("1", BUY, 5, strategy="s2"))
    desk.accept(desk.order("2", BUY, 5, account="a2"))
    keys = desk.state.dedup.keys
    assert refused(desk.replace("1", "3", 3, principal="one")) is Code.AUTH_NOT_PERMITTED
    assert refused(desk.replace("2", "3", 3, account="a2", principal="one")) is Code.AUTH_NOT_PERMITTED
    assert refused(desk.replace("1", "3", 3, principal="nobody")) is Code.AUTH_NOT_PERMITTED
    assert desk.state.dedup.keys == keys
    taken(desk.replace("1", "3", 3))
