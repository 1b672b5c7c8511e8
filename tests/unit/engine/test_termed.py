"""Stop orders, FOK, GTD, post-only: what the gate makes of them, and what a venue can't do is refused with evidence."""

from __future__ import annotations

import pytest

from engine.orders import Replay
from engine.sending import command_of
from protocol.codes import Code, ExecType, OrderStatus, OrderType, OutcomeKind, Side, TimeInForce
from protocol.decisions import NewDecision
from protocol.orders import NewOrder
from protocol.params import LimitName
from protocol.records import SendDecided, VenueChanged
from protocol.replaces import ReplaceDecision
from protocol.texts import refusal_text
from protocol.venue import Capabilities, SendNew
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit

BUY, SELL = Side.BUY, Side.SELL
T, F = OrderType, TimeInForce
COLLAR_BP = 1000  # of XY


def refused(decided: object) -> Code:
    assert isinstance(decided, NewDecision | ReplaceDecision)
    assert decided.kind is OutcomeKind.REJECTED, decided
    return decided.code


def test_a_stop_order_counts_at_the_collar_around_its_stop_price() -> None:
    """It may trade anywhere inside: BUY stop 200 at 220, SELL at 180; no price of now is needed."""
    for side, worst in ((BUY, 220), (SELL, 180)):
        desk = Desk()
        stop = desk.termed("1", side, 3, 0, order_type=T.STOP, stop_price=200)
        decided = desk.submit(stop, reference=None)
        assert isinstance(decided, NewDecision)
        assert decided.kind is OutcomeKind.ACCEPTED, decided
        order = desk.state.orders[decided.order_id]
        assert (order.price, order.limit_price, order.reserved_value_e9) == (worst, 0, 3 * worst * E9)
        assert desk.hash() == desk.replayed_hash()


def test_a_stop_limit_counts_at_its_limit_and_keeps_inside_the_collar_of_its_stop() -> None:
    """Stop 200: a limit of 220 passes, 221 does not; a limit that its stop has passed is no order."""
    desk = Desk()
    order = desk.accept(desk.termed("1", BUY, 2, 220, order_type=T.STOP_LIMIT, stop_price=200))
    assert (order.price, order.reserved_value_e9) == (220, 440 * E9)
    for price, code in ((221, Code.PRICE_COLLAR), (199, Code.PRICE_STOP_SIDE)):
        assert (
            refused(desk.submit(desk.termed(str(price), BUY, 2, price, order_type=T.STOP_LIMIT, stop_price=200)))
            is code
        )
    assert refused(desk.submit(desk.termed("s", SELL, 2, 201, order_type=T.STOP_LIMIT, stop_price=200))) is (
        Code.PRICE_STOP_SIDE
    )


def test_every_limit_binds_a_stop_order_as_any_other() -> None:
    """Value and open value at the worst price, position by quantity."""
    for name, most, code in (
        (LimitName.ORDER_VALUE_MAX, 659, Code.VALUE_ORDER_MAX), (LimitName.OPEN_VALUE_MAX, 659, Code.VALUE_OPEN_MAX),
        (LimitName.POSITION_MAX, 2, Code.POS_LIMIT),
    ):  # fmt: skip
        desk = Desk(limit(name, most))
        assert refused(desk.submit(desk.termed("1", BUY, 3, 0, order_type=T.STOP, stop_price=200))) is code


def test_a_date_that_is_over_is_refused_and_a_repeat_is_not() -> None:
    """t+1 passes, t does not; the same order again after its instant is a repeat, not a refusal."""
    desk = Desk()
    assert refused(desk.submit(desk.termed("1", time_in_force=F.GTD, expire_at_ns=desk.now))) is Code.TIME_EXPIRE_PAST
    order = desk.termed("2", time_in_force=F.GTD, expire_at_ns=desk.now + 1)
    desk.accept(order)
    at = desk.seq
    desk.now += 2
    assert desk.submit(order) == Replay(at, OrderStatus.PENDING_NEW)


def test_the_venue_gets_the_terms_and_a_late_send_is_judged_by_them() -> None:
    """An order whose instant came while it waited is cancelled unsent; a stop needs no price of now."""
    desk = Desk()
    stop = desk.accept(desk.termed("1", BUY, 3, 0, order_type=T.STOP, stop_price=200))
    dated = desk.accept(desk.termed("2", time_in_force=F.GTD, expire_at_ns=desk.now + 5, post_only=True))
    sent = [command_of(o) for o in desk.state.venues["sandbox"].awaiting.values()]
    assert all(isinstance(s, SendNew) for s in sent)
    assert [(s.price_e9, s.stop_price_e9, s.expire_at_ns, s.post_only) for s in sent if isinstance(s, SendNew)] == [
        (0, 200 * E9, 0, False), (100 * E9, 0, desk.now + 5, True),
    ]  # fmt: skip
    desk.now += 5
    assert desk.core.reports.decide_send(stop, 1, desk.now, None).cancel is None
    late = desk.core.reports.decide_send(dated, 2, desk.now, REFERENCE)
    assert isinstance(late, SendDecided)
    assert (late.code, late.cancel is not None) == (Code.TIME_EXPIRE_PAST, True)


def test_what_no_plain_order_can_be_is_refused_whoever_sends_it() -> None:
    """A STOP without its stop price, GTD without its instant, MARKET good till cancelled."""
    desk = Desk()
    for n, (kind, time) in enumerate([(T.STOP, F.DAY), (T.STOP_LIMIT, F.DAY), (T.LIMIT, F.GTD), (T.MARKET, F.GTC)]):
        order = desk.order(str(n), order_type=kind, time_in_force=time)
        assert refused(desk.submit(order)) is Code.TYPE_UNSUPPORTED
    assert refused(desk.submit(desk.termed("s", order_type=T.STOP, price=0))) is Code.PRICE_NOT_POSITIVE
    assert refused(desk.submit(desk.termed("p", time_in_force=F.IOC, post_only=True))) is Code.TYPE_UNSUPPORTED


def poor(desk: Desk) -> None:
    """The gateway says: LIMIT, day or IOC, nothing else."""
    able = Capabilities((T.LIMIT,), (F.DAY, F.IOC), True, True)
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 0, able))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: d.order("x", order_type=T.MARKET), "MARKET DAY"),
        (lambda d: d.order("x", time_in_force=F.GTC), "LIMIT GTC"),
        (lambda d: d.order("x", time_in_force=F.FOK), "LIMIT FOK"),
        (lambda d: d.termed("x", order_type=T.STOP, price=0, stop_price=200, time_in_force=F.DAY), "STOP DAY"),
        (lambda d: d.termed("x", post_only=True, time_in_force=F.DAY), "LIMIT DAY post-only"),
    ],
)
def test_what_the_venue_cannot_do_is_refused_with_evidence(make: object, words: str) -> None:
    """By what its gateway's HELLO said; the text names what was asked for and where."""
    desk = Desk()
    poor(desk)
    order: NewOrder = make(desk)  # type: ignore[operator]
    decided = desk.submit(order)
    assert refused(decided) is Code.TYPE_UNSUPPORTED
    assert isinstance(decided, NewDecision)
    assert refusal_text(decided.code, decided.facts) == (
        f"TYPE_UNSUPPORTED the venue does not take {words} (instrument XY)"
    )
    desk.accept(desk.order("1", time_in_force=F.IOC))
    assert desk.hash() == desk.replayed_hash()


def test_a_venue_without_replace_is_not_asked_for_one() -> None:
    """The refusal says so; a cancel always goes."""
    desk = Desk()
    poor(desk)
    desk.accept(desk.order("1", BUY, 5))
    decided = desk.replace("1", "2", 3)
    assert refused(decided) is Code.TYPE_UNSUPPORTED
    assert isinstance(decided, ReplaceDecision)
    assert refusal_text(decided.code, decided.facts) == (
        "TYPE_UNSUPPORTED the venue does not take LIMIT DAY replaced (instrument XY)"
    )
    assert desk.cancel("1").kind is OutcomeKind.ACCEPTED  # type: ignore[union-attr]


def test_a_stop_order_can_be_replaced_by_its_stop_price() -> None:
    """Reserved at the worse of both collars until the venue answers."""
    desk = Desk()
    order = desk.accept(desk.termed("1", BUY, 3, 0, order_type=T.STOP, stop_price=200))
    decided = desk.replace("1", "2", stop_price=300)
    assert isinstance(decided, ReplaceDecision)
    assert decided.kind is OutcomeKind.ACCEPTED, decided
    assert (order.price, order.reserved_value_e9) == (330, 990 * E9)
    desk.report(ExecType.REPLACED, order.order_id, venue_seq=2, details=desk.details(3, 0, 300))
    assert order.terms is not None
    assert (order.terms.stop_price, order.price, order.status) == (300, 330, OrderStatus.NEW)
    assert desk.hash() == desk.replayed_hash()


def test_a_triggered_stop_is_an_order_that_works() -> None:
    """The venue says TRIGGERED; it fills as any other."""
    desk = Desk()
    order = desk.accept(desk.termed("1", BUY, 3, 0, order_type=T.STOP, stop_price=200))
    desk.report(ExecType.NEW, order.order_id, venue_seq=1)
    desk.report(ExecType.TRIGGERED, order.order_id, details=desk.details(3, 0, 200))
    assert order.status is OrderStatus.NEW
    desk.fill(order, 3, 205)
    assert (order.status, desk.position) == (OrderStatus.FILLED, 3)
