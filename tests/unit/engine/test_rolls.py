"""The trading day in the core: what a roll does at once, what its steps do, what survives it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Core
from engine.orders import Replay
from engine.rolls import EARLIER_MAX, KEPT_MIN_NS
from engine.state import state_hash
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind, Side, TimeInForce
from protocol.decisions import CancelDecision, NewDecision
from protocol.records import DayOrdersExpired
from protocol.rolls import KeysRetired, SessionRolled
from runtime.sessions import day_after
from tests.unit.engine.desk import E9, REFERENCE, Desk, params

DAY_NS = 86_400 * E9
DAY, GTC = TimeInForce.DAY, TimeInForce.GTC
NOTHING_UNSENT: dict[str, int] = {}


class Days(Desk):
    """A desk whose days end."""

    def roll(self, to_date: int = 0, *, after_ns: int = DAY_NS) -> SessionRolled:
        self.now += after_ns
        to_date = to_date or day_after(self.state.trading_date)
        record = self.core.rolls.decide_roll(to_date, "op", "why", 0)
        assert isinstance(record, SessionRolled), record
        self.take(record)
        return record

    def take(self, record: SessionRolled | DayOrdersExpired | KeysRetired) -> None:
        """Apply a record that must be decided the same again."""
        assert self.core.decide_again(record, self.now) is True
        self.apply(record)

    def step(self, unsent_from: dict[str, int] | None = None) -> DayOrdersExpired | KeysRetired | None:
        record = self.core.rolls.decide_step(unsent_from or NOTHING_UNSENT)
        if record is not None:
            self.take(record)
        return record

    def finish(self) -> None:
        while self.step() is not None:
            pass
        assert not self.state.day.is_busy


def test_a_roll_moves_the_date_and_never_back() -> None:
    """A date never comes again: ids of orders hold it."""
    desk = Days()
    desk.roll(20260601)
    assert desk.state.trading_date == 20260601
    for date in (20260601, 20260531):
        refused = desk.core.rolls.decide_roll(date, "op", "why", 0)
        assert isinstance(refused, str)
        assert "20260601" in refused
    assert desk.hash() == desk.replayed_hash()


def test_day_orders_expire_and_gtc_orders_stay() -> None:
    """What is at the venue is cancelled there, what was never sent is over; the rest keeps its id and its key."""
    desk = Days()
    sent, unsent = desk.accept(desk.order("sent")), desk.accept(desk.order("unsent"))
    kept = desk.accept(desk.order("kept", time_in_force=GTC))
    desk.roll()
    step = desk.step({"sandbox": unsent.venue_seq})
    assert isinstance(step, DayOrdersExpired)
    assert [(c.order_id, c.code, bool(c.venue_seq)) for c in step.cancels] == [
        (sent.order_id, Code.DAY_OVER, True), (unsent.order_id, Code.DAY_OVER, False),
    ]  # fmt: skip
    assert (sent.status, unsent.status) == (OrderStatus.PENDING_CANCEL, OrderStatus.CANCELED)
    desk.report(ExecType.EXPIRED, sent.order_id)
    assert list(desk.state.orders) == [kept.order_id]
    assert desk.submit(desk.order("kept", time_in_force=GTC)) == Replay(6, kept.status)
    assert desk.hash() == desk.replayed_hash()


def test_a_venue_that_expires_first_leaves_nothing_to_do() -> None:
    """Its EXPIRED is the end; the step finds no order and the cancel of a client is told so."""
    desk = Days()
    order = desk.accept(desk.order("1"))
    desk.roll()
    desk.report(ExecType.EXPIRED, order.order_id)
    step = desk.step()
    assert isinstance(step, DayOrdersExpired)
    assert (step.looked_at, step.cancels) == (1, [])
    decided = desk.cancel("1")
    assert isinstance(decided, CancelDecision)
    assert (decided.code, decided.status) == (Code.ORDER_TERMINAL, OrderStatus.EXPIRED)


def test_the_fill_of_an_order_that_is_expiring_counts() -> None:
    """The venue filled it before the cancel came."""
    desk = Days()
    order = desk.accept(desk.order("1", quantity=3))
    desk.roll()
    desk.step()
    desk.fill(order, 3)
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
    assert desk.position == 3
    assert order.status is OrderStatus.FILLED


@pytest.mark.parametrize("rolls", [1, 2, 5])
def test_a_cancel_finds_an_order_of_an_earlier_date(rolls: int) -> None:
    """However many days it was carried; an order of today under another id is found as ever."""
    desk = Days()
    old = desk.accept(desk.order("old", time_in_force=GTC))
    for _ in range(rolls):
        desk.roll()
        desk.finish()
    new = desk.accept(desk.order("new", time_in_force=GTC))
    for name, order in (("old", old), ("new", new)):
        decided = desk.cancel(name)
        assert isinstance(decided, CancelDecision)
        assert (decided.order_id, decided.kind) == (order.order_id, OutcomeKind.ACCEPTED)
        assert decided.venue_seq
    assert desk.hash() == desk.replayed_hash()


def test_an_order_that_was_never_sent_on_its_day_is_not_sent_on_the_next() -> None:
    """The send gate looks at the date too, before the step comes to it; a GTC order may go."""
    desk = Days(given=params(order_age_max_ns=2 * DAY_NS))
    day, gtc = desk.accept(desk.order("day")), desk.accept(desk.order("gtc", time_in_force=GTC))
    assert desk.core.reports.decide_send(day, day.venue_seq, desk.now, REFERENCE).code is Code.OK
    desk.roll()
    refused = desk.core.reports.decide_send(day, day.venue_seq, desk.now, REFERENCE)
    assert refused.code is Code.DAY_OVER
    assert refused.cancel is not None
    assert desk.core.reports.decide_send(gtc, gtc.venue_seq, desk.now, REFERENCE).code is Code.OK


def closed(desk: Days, name: str) -> None:
    order = desk.accept(desk.order(name))
    desk.fill(order, 1)


def test_keys_leave_at_the_second_roll_unless_their_order_lives() -> None:
    """Trading day + 1; tombstones and refusals too. Then the id may be used again and is another order."""
    desk = Days(given=params(order_age_max_ns=E9))
    closed(desk, "filled")
    desk.cancel("early")
    carried = desk.accept(desk.order("carried", time_in_force=GTC))
    desk.roll()
    desk.finish()
    closed(desk, "next day")
    assert isinstance(desk.submit(desk.order("filled")), Replay)
    desk.roll()
    desk.finish()
    table = desk.state.dedup
    assert table.keys == 2
    assert isinstance(desk.submit(desk.order("next day")), Replay)
    assert isinstance(desk.submit(desk.order("carried", time_in_force=GTC)), Replay)
    again = desk.submit(desk.order("filled"))
    assert isinstance(again, NewDecision)
    assert again.kind is OutcomeKind.ACCEPTED
    assert isinstance(desk.submit(desk.order("early")), NewDecision)
    desk.fill(carried, 1)
    desk.roll()
    desk.finish()
    assert table.find(*desk.state.keys.key("a1", "carried")[:2]) < 0
    assert desk.hash() == desk.replayed_hash()


def test_a_late_fill_of_an_order_whose_key_left_touches_no_other_key() -> None:
    """The slot may be another's by then."""
    desk = Days(given=params(order_age_max_ns=E9), keys_max=4)
    old = desk.accept(desk.order("old", quantity=5))
    desk.report(ExecType.CANCELED, old.order_id)
    for _ in range(2):
        desk.roll()
        desk.finish()
    others = [desk.accept(desk.order(str(n))) for n in range(4)]
    desk.fill(old, 5)
    assert desk.position == 5
    assert old.status is OrderStatus.FILLED
    for order in others:
        assert desk.state.dedup.entry(order.slot)[2] is OrderStatus.PENDING_NEW


@pytest.mark.parametrize("order_age_max_ns", [60 * E9, 3 * DAY_NS])
def test_rolls_in_a_row_forget_nothing_that_may_still_come(order_age_max_ns: int) -> None:
    """An operator who rolls again and again does not shorten the window, and a long one ends too."""
    desk = Days(given=params(order_age_max_ns=order_age_max_ns))
    closed(desk, "1")
    window_ns = max(order_age_max_ns + E9, KEPT_MIN_NS)
    passed_ns = -DAY_NS  # since the first roll, which is a day from now
    for after_ns in [DAY_NS, *[window_ns // 4] * 4]:
        desk.roll(after_ns=after_ns)
        passed_ns += after_ns
        desk.finish()
        assert passed_ns <= window_ns
        assert isinstance(desk.submit(desk.order("1")), Replay)
    desk.roll(after_ns=4)
    desk.finish()
    assert isinstance(desk.submit(desk.order("1")), NewDecision)
    assert desk.hash() == desk.replayed_hash()


def test_many_rolls_in_a_row_are_remembered_within_bounds() -> None:
    """More than fit are as one: their keys leave with a later roll."""
    desk = Days()
    for n in range(200):
        closed(desk, str(n))
        desk.roll(after_ns=E9)
    assert len(desk.state.day.earlier) <= EARLIER_MAX
    desk.roll()
    desk.roll()
    desk.finish()
    assert desk.state.dedup.keys == 0
    assert desk.hash() == desk.replayed_hash()


def test_a_roll_while_the_last_one_is_not_done_goes_on_from_there() -> None:
    """Orders and keys that the first left over are the second's."""
    desk = Days(given=params(order_age_max_ns=E9), keys_max=3000)
    for n in range(600):
        desk.accept(desk.order(f"{n}", account="a2"))
    closed(desk, "x")
    desk.roll()
    desk.step()
    desk.roll()
    assert len(desk.state.day.expiring) == 600
    desk.finish()
    assert all(o.cancel_seq for o in desk.state.orders.values())
    assert desk.state.dedup.keys == 600
    assert desk.hash() == desk.replayed_hash()


def test_every_cut_of_a_rolls_records_comes_to_the_same_end() -> None:
    """Recovery after any record of it, then the steps that are left: the state of an engine that never stopped."""
    desk = Days(given=params(order_age_max_ns=E9), keys_max=3000)
    for n in range(40):
        closed(desk, f"c{n}")
        desk.accept(desk.order(f"o{n}", time_in_force=GTC if n % 3 else DAY))
    desk.roll()
    desk.finish()
    desk.roll()
    first = len(desk.records) - 1
    desk.finish()
    expected = desk.hash()
    for cut in range(first, len(desk.records)):
        core = Core(desk.state.dedup.keys_max)
        for record in desk.records[:cut]:
            core.apply(*record)
        if core.state.trading_date != desk.state.trading_date:
            core.apply(*desk.records[first])
        for seq, now, position, _ in desk.records[max(cut, first + 1) :]:
            step = core.rolls.decide_step(NOTHING_UNSENT)
            assert step is not None
            core.apply(seq, now, position, step)
        assert core.rolls.decide_step(NOTHING_UNSENT) is None
        assert state_hash(core.state) == expected


happenings = st.lists(
    st.tuples(
        st.sampled_from(("order", "order", "order", "fill", "cancel", "cancelled", "repeat", "step", "roll")),
        st.integers(0, 14), st.booleans(),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(happenings=happenings)
def test_no_living_order_is_ever_lost_by_rolls(happenings: list[tuple[str, int, bool]]) -> None:
    """Whatever comes between rolls and steps: a living order's key answers, a cancel finds it, replay is equal."""
    desk = Days(given=params(order_age_max_ns=E9), keys_max=64)
    for kind, n, flag in happenings:
        name = str(n)
        living = {o.client_order_id: o for o in desk.state.orders.values()}
        order = living.get(name)
        if kind == "order" and order is None:
            desk.submit(desk.order(name, time_in_force=GTC if flag else DAY))
        elif kind == "fill" and order is not None:
            desk.fill(order, 1)
        elif kind == "cancel" and order is not None:
            decided = desk.cancel(name)
            assert isinstance(decided, CancelDecision)
            assert decided.order_id == order.order_id
        elif kind == "cancelled" and order is not None:
            desk.report(ExecType.CANCELED, order.order_id)
        elif kind == "step":
            desk.step()
        elif kind == "roll":
            desk.roll(after_ns=KEPT_MIN_NS + 1 if flag else E9)
        for open_order in desk.state.orders.values():
            low, high, _ = desk.state.keys.key(open_order.account, open_order.client_order_id)
            assert desk.state.dedup.find(low, high) == open_order.slot
            repeat = desk.order(open_order.client_order_id, time_in_force=open_order.time_in_force)
            assert isinstance(desk.decide(repeat), Replay)
    assert desk.hash() == desk.replayed_hash()


def test_the_expired_are_told_as_cancels() -> None:
    """Readers of the stream see each order's end with its reason."""
    from protocol.event_kinds import StatusEvent, SystemEvent
    from protocol.events import events_of

    desk = Days()
    desk.accept(desk.order("1", Side.SELL))
    rolled = desk.roll()
    (told,) = events_of(1, 2, rolled)
    assert isinstance(told, SystemEvent)
    assert "20260530 is over, 20260531 begins, by op: why" in told.text
    step = desk.step({"sandbox": 1})
    assert step is not None
    (event,) = events_of(1, 2, step)
    assert isinstance(event, StatusEvent)
    assert (event.status, event.code) == (OrderStatus.CANCELED, Code.DAY_OVER)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(step), type=DayOrdersExpired) == step
