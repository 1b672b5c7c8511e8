"""An engine whose clock nobody vouches for takes exits only: what the kernel says, and what comes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.synced import SyncedClock
from engine.unsynced import decide_unsynced
from protocol.codes import Code, Scope, Side, TradingState
from protocol.decisions import NewDecision
from protocol.params import LimitName, LimitRow
from protocol.records import ClockUnsynced, ControlAction
from protocol.system_text import system_text
from risk.gate.row_rules import limit_fault
from runtime.kernel_clock import ERROR, IN_NS, UNSYNCHRONISED, Timex, kernel_offset_ns, offset_of
from tests.unit.engine.desk import E9, Desk

MS = 10**6
OFFSET = LimitRow(LimitName.CLOCK_OFFSET_MAX_US, Scope.GLOBAL, "", 10_000)
AGE = LimitRow(LimitName.CLOCK_AGE_MAX_MS, Scope.GLOBAL, "", 5_000)
ALL = (Scope.GLOBAL, "")


class Sampled:
    """A desk, its loop's clock watch, and what the kernel says."""

    def __init__(self, desk: Desk, offset_ns: int | None = 0) -> None:
        self.desk = desk
        self.offset_ns = offset_ns
        self.asked = 0
        self.alarms: list[str] = []
        self.monotonic_ns = 10**15
        writer = SimpleNamespace(next_seq=1, append=lambda _: 0)
        desk_core = SimpleNamespace(state=desk.state, apply=lambda *a: desk.apply(a[3]))
        parts = SimpleNamespace(
            core=desk_core, writer=writer, make_room=lambda _: None, alarm=self.alarms.append
        )  # fmt: skip
        self.clock = SyncedClock(cast("Any", parts), self.sample)

    def sample(self) -> int | None:
        self.asked += 1
        return self.offset_ns

    def after(self, ns: int) -> int:
        """Let time go by as housekeeping does, ten times a second at most; return how often the clock was refused."""
        end = self.monotonic_ns + ns
        while self.monotonic_ns < end:
            self.monotonic_ns = min(end, self.monotonic_ns + 100 * MS)
            self.clock.watch(self.desk.now, self.monotonic_ns)
        return sum(isinstance(r[3], ClockUnsynced) for r in self.desk.records)


@pytest.mark.parametrize(("offset_ns", "age_ns", "is_refused"), [
    (10 * MS, 0, False), (-10 * MS, 0, False), (11 * MS, 0, True), (-11 * MS, 0, True), (0, 60 * E9, False),
    (0, 61 * E9, True),
])  # fmt: skip
def test_the_worked_example(offset_ns: int, age_ns: int, is_refused: bool) -> None:
    """10 ms off pass, 11 ms do not; a sample of 60 s ago passes, one of 61 s does not."""
    assert (decide_unsynced(Desk(OFFSET).state, offset_ns, age_ns) is not None) is is_refused


def test_a_clock_that_is_off_leaves_exits_and_cancels_until_an_operator_resumes() -> None:
    """New risk is STATE_REDUCING; the record decides again the same, and recovery reaches the same state."""
    desk = Desk(OFFSET, position=5)
    record = decide_unsynced(desk.state, 11 * MS, 0)
    assert record is not None
    assert desk.core.decide_again(record, desk.now) is True
    open_order = desk.accept(desk.order("open"))
    desk.apply(record)
    assert desk.state.halts[ALL].state is TradingState.REDUCING
    assert desk.state.halts[ALL].reason == (
        "TIME_CLOCK_UNSYNCED: expected a clock at most 10000 us off, by a sample of the last 60000 ms, was 11000 us "
        "off, 0 ms ago"
    )
    refused = desk.submit(desk.order("new"))
    assert isinstance(refused, NewDecision)
    assert refused.code is Code.STATE_REDUCING
    desk.accept(desk.order("exit", Side.SELL, 5))
    assert desk.cancel(open_order.client_order_id).code is Code.OK  # type: ignore[union-attr]
    assert desk.core.decide_again(record, desk.now) is False
    desk.control(ControlAction.RESUME, *ALL)
    desk.accept(desk.order("again"))
    assert desk.hash() == desk.replayed_hash()
    assert "11000000 ns off" in system_text(record)


def test_a_kernel_that_says_nothing_is_waited_for_and_then_refused_once_a_minute() -> None:
    """Nobody keeps the clock: 5 s from the start on all is reduced; resumed early, it is again after the minute."""
    at = Sampled(Desk(OFFSET, AGE), None)
    assert at.after(5 * E9) == 0
    assert at.after(2 * E9) == 1
    assert "reduce-only until the clock is right" in at.alarms[0]
    assert at.after(70 * E9) == 1
    at.desk.control(ControlAction.RESUME, *ALL)
    assert at.after(2 * E9) == 2
    at.desk.control(ControlAction.RESUME, *ALL)
    assert at.after(50 * E9) == 2
    at.offset_ns = 0
    assert at.after(70 * E9) == 2
    assert at.desk.hash() == at.desk.replayed_hash()


def test_good_samples_are_no_records_and_are_taken_once_a_second() -> None:
    """What changes nothing is not journaled. One bad sample is enough; a good one before it helps no more."""
    at = Sampled(Desk(OFFSET))
    assert at.after(20 * E9) == 0
    assert 18 <= at.asked <= 21
    at.offset_ns = -12 * MS
    assert at.after(2 * E9) == 1
    assert at.desk.records[-1][3] == ClockUnsynced(-12 * MS, 0, 10 * MS, 60 * E9)


def test_without_a_limit_nobody_asks_the_kernel() -> None:
    """Absent parameters cost one test; a limit that comes later counts from then on."""
    at = Sampled(Desk(), None)
    assert at.after(120 * E9) == 0
    assert at.asked == 0
    at.desk.set_params(Desk(OFFSET, AGE).state.params)  # type: ignore[arg-type]
    assert at.after(4 * E9) == 0
    assert at.after(4 * E9) == 1


@pytest.mark.parametrize(("answer", "status", "offset", "error_us", "expected"), [
    (0, IN_NS, 1_500, 0, 1_500), (0, 0, -3, 0, -3_000), (0, IN_NS, 10, 7, 7_000), (0, UNSYNCHRONISED, 0, 0, None),
    (ERROR, 0, 0, 0, None), (-1, 0, 0, 0, None), (1, IN_NS, -9_000, 9, -9_000),
])  # fmt: skip
def test_what_the_kernel_says(answer: int, status: int, offset: int, error_us: int, expected: int | None) -> None:
    """The larger of offset and estimated error, in ns; a leap second ahead is no fault; an error is no sample."""
    said = Timex()
    said.status, said.offset, said.esterror = status, offset, error_us
    assert offset_of(answer, said) == expected


def test_this_host_answers_or_has_no_sample() -> None:
    """The real call: a number of ns, or None where nobody keeps the clock; never an exception."""
    said = kernel_offset_ns()
    assert said is None or abs(said) < 10**12


def test_a_limit_that_no_clock_could_keep_is_refused() -> None:
    """0 µs, or 0 ms, is no limit; it stands at the whole engine only."""
    for row in (OFFSET, AGE):
        assert not limit_fault(row)
        assert "at least 1" in limit_fault(LimitRow(row.name, Scope.GLOBAL, "", 0))
        assert "scope" in limit_fault(LimitRow(row.name, Scope.ACCOUNT, "a1", 1))
