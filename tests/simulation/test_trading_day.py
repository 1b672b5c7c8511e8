"""The trading day through the real loops: midnight, weekends, clocks that step, engines that die just then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from protocol.codes import Code, OrderStatus, Side, TimeInForce
from protocol.control import ConfirmClock, RollSession
from protocol.orders import CancelOrder, NewOrder
from protocol.records import DayOrdersExpired, Started
from protocol.rolls import KeysRetired, SessionRolled
from protocol.venue import Report
from runtime.sessions import SessionRules
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS
from venues.sandbox import SandboxVenue

DAY_NS = 86_400 * E9
HOURS = 3_600 * E9
RULES = SessionRules(weekdays=("mon", "tue", "wed", "thu", "fri"), holidays=("2026-06-02",))
THURSDAY, FRIDAY, MONDAY, WEDNESDAY = 20260528, 20260529, 20260601, 20260603  # Tuesday is the holiday


def at(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp()) * E9


class DayStage(Stage):
    """A stage whose days end by the calendar, at the engine and, if it has one, at the venue."""

    venue_rules: SessionRules | None = RULES

    def start_gateway(self) -> None:
        rules = self.venue_rules
        kind = SandboxVenue.__init__

        def init(venue: SandboxVenue, instruments: object) -> None:
            kind(venue, instruments, session=rules)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SandboxVenue, "__init__", init)
            super().start_gateway()

    def go_to(self, text: str) -> None:
        """Let time pass on both clocks, then everybody have a turn."""
        self.clock.advance(at(text) - self.clock.wall)
        self.round(0)

    def recorded(self, kind: type) -> list[object]:
        self.watch.read()
        return [r for *_, r in self.watch.records if isinstance(r, kind)]

    def rolls(self) -> list[tuple[int, int]]:
        return [(r.from_date, r.to_date) for r in self.recorded(SessionRolled) if isinstance(r, SessionRolled)]

    def at_venue(self) -> set[str]:
        assert self.venue is not None
        return {c.order_id for c in self.venue.exchange.commands.values()}

    def venue_reports(self) -> list[Report]:
        return self.venue_side().reports

    def is_done(self) -> bool:
        return self.is_at_rest() and not self.state.day.is_busy


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[DayStage]:
    """A stage at rest on Thursday, 28 May 2026, 20:26 UTC."""
    yield from staged(DayStage(tmp_path, 1, faults=False))


@pytest.fixture
def stage_alone(tmp_path: Path) -> Iterator[DayStage]:
    """The same with a venue whose session never ends."""
    stage = DayStage(tmp_path, 1, faults=False)
    stage.venue_rules = None
    yield from staged(stage)


@pytest.fixture
def stage_early(tmp_path: Path) -> Iterator[DayStage]:
    """The same with a venue whose session ends two hours before the engine's."""
    stage = DayStage(tmp_path, 1, faults=False)
    stage.venue_rules = SessionRules(roll_time="22:00")
    yield from staged(stage)


def staged(stage: DayStage) -> Iterator[DayStage]:
    stage.settings = msgspec.structs.replace(stage.settings, session=RULES)
    with stage.patched():
        stage.begin()
        assert stage.state.trading_date == THURSDAY
        yield stage
        stage.until(stage.is_done)
        stage.verify()
        stage.close()


def gtc(name: str) -> NewOrder:
    return msgspec.structs.replace(order(name), time_in_force=TimeInForce.GTC)


def rest_two(stage: DayStage) -> tuple[str, str]:
    """Let a DAY and a GTC order rest; return their ids."""
    stage.submit(order("day"))
    stage.submit(gtc("gtc"))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    (day,), (kept,) = stage.answers_to("day"), stage.answers_to("gtc")
    return str(day[2]), str(kept[2])


def test_midnight_expires_day_orders_and_carries_the_rest(stage: DayStage) -> None:
    """Not a moment before; then once, at the venue too, and the carried order can be cancelled under its own id."""
    day, kept = rest_two(stage)
    stage.go_to("2026-05-28T23:59:58")
    stage.until(stage.is_at_rest)
    assert stage.rolls() == []
    assert stage.at_venue() == {day, kept}
    stage.until(lambda: bool(stage.rolls()) and stage.is_done())
    assert stage.rolls() == [(THURSDAY, FRIDAY)]
    assert stage.at_venue() == {kept}
    assert list(stage.state.orders) == [kept]
    stage.submit(CancelOrder("a1", "gtc"))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    assert stage.at_venue() == set()
    assert stage.state.orders == {}


def test_an_engine_expires_what_a_venue_without_sessions_would_keep(stage_alone: DayStage) -> None:
    """It cancels there what is DAY; the venue never says EXPIRED."""
    stage = stage_alone
    day, kept = rest_two(stage)
    stage.go_to("2026-05-29T00:00:01")
    stage.until(lambda: bool(stage.rolls()) and stage.is_done())
    assert stage.at_venue() == {kept}
    assert stage.state.closed[day].status is OrderStatus.CANCELED


def test_a_venue_that_ends_first_is_taken_at_its_word(stage_early: DayStage) -> None:
    """EXPIRED is final here before the engine's own roll; nothing is cancelled a second time."""
    stage = stage_early
    day, kept = rest_two(stage)
    stage.go_to("2026-05-28T22:00:01")
    stage.until(lambda: day in stage.state.closed and stage.is_done())
    assert stage.state.closed[day].status is OrderStatus.EXPIRED
    assert stage.rolls() == []
    stage.go_to("2026-05-29T00:00:01")
    stage.until(lambda: len(stage.rolls()) == 1 and stage.is_done())
    assert stage.recorded(DayOrdersExpired) == []
    assert [r.code for r in stage.venue_reports() if r.order_id == day] == [Code.OK, Code.DAY_OVER]
    assert stage.at_venue() == {kept}


def test_weekends_and_holidays_have_no_roll_of_their_own(stage: DayStage) -> None:
    """Friday's end begins Monday's date; Monday's, over the holiday, Wednesday's."""
    days = ("05-29T00:00:01", "05-30T00:00:01", "05-30T12:00:00", "05-31T23:59:59", "06-01T00:00:01")
    for text in (f"2026-{day}" for day in (*days, "06-02T00:00:01", "06-02T13:00:00", "06-03T09:00:00")):
        stage.go_to(text)
        stage.until(stage.is_done)
    assert stage.rolls() == [(THURSDAY, FRIDAY), (FRIDAY, MONDAY), (MONDAY, WEDNESDAY)]
    assert stage.state.trading_date == WEDNESDAY


def test_a_clock_that_steps_back_over_midnight_rolls_once(stage: DayStage) -> None:
    """The date was begun; the same midnight again is none."""
    day, kept = rest_two(stage)
    stage.go_to("2026-05-29T00:00:01")
    stage.until(lambda: bool(stage.rolls()) and stage.is_done())
    stage.clock.wall -= 2 * E9
    stage.submit(order("again"))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    for _ in range(100):
        stage.round()
    assert stage.rolls() == [(THURSDAY, FRIDAY)]
    (again,) = stage.answers_to("again")
    assert stage.at_venue() == {kept, again[2]}
    assert day not in stage.at_venue()


def test_a_clock_that_leaps_over_midnight_rolls_nothing_until_confirmed(stage_alone: DayStage) -> None:
    """A wrong clock must not expire what still works."""
    stage = stage_alone
    day, kept = rest_two(stage)
    stage.clock.wall = at("2026-05-29T00:00:01")
    for _ in range(100):
        stage.round()
    assert stage.state.unconfirmed_jump
    assert stage.rolls() == []
    assert stage.at_venue() == {day, kept}
    stage.ask(ConfirmClock("checked"))
    stage.until(lambda: bool(stage.rolls()) and stage.is_done())
    assert stage.at_venue() == {kept}


def test_an_engine_that_was_down_over_many_ends_rolls_once_at_its_start(stage: DayStage) -> None:
    """Before it takes anything: the first order of the new life is of the new date."""
    _, kept = rest_two(stage)
    stage.kill_engine("down", power=True)
    stage.go_to("2026-06-03T10:00:00")
    stage.submit(order("first"))
    stage.settle_all()
    assert stage.rolls() == [(THURSDAY, WEDNESDAY)]
    (first,) = stage.answers_to("first")
    assert stage.engine is not None
    assert stage.engine._core.orders.date_of(str(first[2])) == WEDNESDAY
    stage.until(stage.is_done)
    assert stage.at_venue() == {kept, first[2]}
    assert [s.trading_date for s in stage.recorded(Started) if isinstance(s, Started)] == [THURSDAY, THURSDAY]


@pytest.mark.parametrize("point", ["engine.after_sync", "engine.after_venue_send"])
@pytest.mark.parametrize("power", [False, True])
def test_a_crash_exactly_at_the_roll_rolls_once(stage: DayStage, point: str, *, power: bool) -> None:
    """With the roll's own batch durable or lost: the next life has one roll and one end of each DAY order."""
    day, kept = rest_two(stage)
    stage.go_to("2026-05-28T23:59:59")
    stage.until(stage.is_at_rest)
    while not stage.rolls():
        stage.round()
        if stage.engine is not None and stage.clock.wall + 50 * MS >= at("2026-05-29T00:00:00"):
            stage.armed = point
        if any(point in why for why in stage.crashes):
            break
    stage.armed = ""
    if stage.engine is not None:
        stage.kill_engine(point, power=power)
    stage.until(lambda: stage.engine is not None and bool(stage.rolls()) and stage.is_done())
    assert stage.rolls() == [(THURSDAY, FRIDAY)]
    assert stage.at_venue() == {kept}
    assert stage.state.closed[day].status in {OrderStatus.EXPIRED, OrderStatus.CANCELED}


def test_an_operator_rolls_twice_in_a_row(stage: DayStage) -> None:
    """To the calendar's next dates; the calendar goes on from there and does not roll the same night again."""
    _, kept = rest_two(stage)
    for _ in range(2):
        stage.ask(RollSession(0, "early close"))
    stage.until(lambda: len(stage.rolls()) == 2 and stage.is_done())
    assert stage.rolls() == [(THURSDAY, FRIDAY), (FRIDAY, MONDAY)]
    assert kept in stage.state.orders
    stage.go_to("2026-05-29T00:00:01")
    stage.until(stage.is_done)
    assert len(stage.rolls()) == 2
    stage.ask(RollSession(FRIDAY, "again"))
    stage.until(lambda: len(stage.replies) == 3)
    assert [r.ok for r in stage.replies] == [True, True, False]
    assert "after 20260601" in stage.replies[-1].text


def test_what_a_dead_gateway_missed_expires_before_it_takes_orders(stage: DayStage) -> None:
    """The venue's session ended while its gateway was down; an order of the new date that comes at once stays."""
    day, kept = rest_two(stage)
    stage.kill_gateway("over midnight")
    stage.go_to("2026-05-29T00:00:01")
    stage.submit(order("new"))
    stage.settle_all()
    stage.until(stage.is_done)
    (new,) = stage.answers_to("new")
    assert stage.at_venue() == {kept, new[2]}
    stage.kill_gateway("again")
    stage.until(stage.is_done)
    assert stage.at_venue() == {kept, new[2]}
    assert day not in stage.state.orders


def test_a_day_order_that_was_never_sent_ends_with_its_day(stage: DayStage) -> None:
    """Accepted, durable, unsent at midnight: void, whatever comes first, the step or the send gate."""
    stage.crash_with("engine.after_sync", order("late"), power=False)
    stage.go_to("2026-05-29T00:00:01")
    stage.settle_all()
    stage.until(stage.is_done)
    assert not stage.is_at_venue("late")
    assert stage.state.orders == {}


def test_rule_04_a_key_outlives_every_message_that_may_bring_it_again(stage: DayStage) -> None:
    """By the clock no key leaves; by rolls it does, and by then its message is too old to be taken as new."""
    stage.submit(order("1", Side.BUY, 1, 101))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    made_ns = stage.clock.wall
    client = stage.clients[0]

    def deliver_again() -> Code:
        stage.submit(order("1", Side.BUY, 1, 101))
        client.waiting[-1].created_at_ns = made_ns
        stage.settle_all()
        code = stage.answers_to("1")[-1][1]
        assert isinstance(code, Code)
        return code

    stage.go_to("2026-05-28T23:59:00")
    assert deliver_again() is Code.OK
    stage.go_to("2026-05-29T00:00:01")
    stage.until(stage.is_done)
    assert deliver_again() is Code.OK
    stage.go_to("2026-05-30T00:00:01")
    stage.until(stage.is_done)
    assert stage.state.dedup.keys == 0
    assert deliver_again() is Code.MESSAGE_EXPIRED
    assert len(stage.venue_side().sent) == 1
    stage.answers.contents.pop(("a1", "1"))  # two outcomes of one id, a window apart: what the checker forbids


def test_keys_leave_in_steps_and_orders_go_on_between(stage: DayStage) -> None:
    """After the second roll the first day's ids are free; each step is a record, and a crash among them loses none."""
    for n in range(5):
        stage.submit(order(f"old-{n}", Side.BUY, 1, 101))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    for text in ("2026-05-29T00:00:01", "2026-05-30T00:00:01"):
        stage.go_to(text)
        stage.until(stage.is_at_rest)
    stage.until(lambda: bool(stage.recorded(KeysRetired)))
    stage.kill_engine("among steps", power=True)
    stage.submit(order("new"))
    stage.settle_all()
    stage.until(stage.is_done)
    parts = [r.part for r in stage.recorded(KeysRetired) if isinstance(r, KeysRetired)]
    assert parts == list(range(stage.state.dedup.parts))
    assert stage.state.dedup.keys == 1
    stage.submit(order("old-0", Side.BUY, 1, 101))
    stage.settle_all()
    first, again = stage.answers_to("old-0")
    assert first[1] is again[1] is Code.OK
    assert first[2] != again[2]
    stage.answers.contents.pop(("a1", "old-0"))  # two orders under one id, a window apart: what the checker forbids


@pytest.mark.plants
def test_day_orders_expire_in_steps(stage_alone: DayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn looks at more than its share, and each order is looked at once, over a crash too."""
    stage = stage_alone
    monkeypatch.setattr("engine.rolls.EXPIRED_MAX", 2)
    for n in range(5):
        stage.submit(order(str(n)))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    stage.go_to("2026-05-29T00:00:01")
    stage.until(lambda: bool(stage.recorded(DayOrdersExpired)))
    stage.kill_engine("among steps", power=True)
    stage.until(lambda: stage.engine is not None and stage.is_done())
    steps = [s for s in stage.recorded(DayOrdersExpired) if isinstance(s, DayOrdersExpired)]
    assert [s.looked_at for s in steps] == [2, 2, 1]
    assert len({c.order_id for s in steps for c in s.cancels}) == 5
    assert stage.at_venue() == set()
