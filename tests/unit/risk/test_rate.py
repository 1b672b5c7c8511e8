"""RISK.md A5, exactly: a sliding log, never a bucket."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Scope
from protocol.params import LimitName, LimitRow
from risk.gate.limits import LimitTable
from risk.gate.rate import FORGET_EVERY, RateLog
from tests.unit.engine.desk import E9, limit


def test_ten_in_one_second() -> None:
    """10 at t=0 pass; the 11th at 0.999999999 s does not, at 1.000000000 s it does."""
    rate = RateLog(10, E9, 0)
    for _ in range(10):
        assert rate.allows(0, is_exit=False)
        rate.charge(0)
    assert not rate.allows(E9 - 1, is_exit=False)
    assert rate.allows(E9, is_exit=False)
    assert (rate.in_window(E9 - 1), rate.in_window(E9)) == (10, 0)


class CalendarSecond(RateLog):
    """The planted defect: counts by calendar window."""

    def allows(self, now_ns: int, is_exit: bool) -> bool:
        most = self.count + self.reserve_exit if is_exit else self.count
        return sum(t // self.window_ns == now_ns // self.window_ns for t in self.times) < most


def _check(kind: type[RateLog], count: int, window: int, reserve: int, steps: list[tuple[int, bool]]) -> None:
    rate, now = kind(count, window, reserve), 0
    charged: list[tuple[int, bool]] = []
    for step, is_exit in steps:
        now += step
        in_window = [e for t, e in charged if now - t < window]
        most = count + reserve if is_exit else count
        allows = rate.allows(now, is_exit)
        assert allows == (len(in_window) < most)
        if allows:
            rate.charge(now)
            charged.append((now, is_exit))
    for t, _ in charged:
        assert sum(t <= other < t + window for other, _ in charged) <= count + reserve


steps = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60)


@given(count=st.integers(0, 5), window=st.integers(1, 10), reserve=st.integers(0, 3), steps=steps)
def test_never_more_than_n_in_any_window(count: int, window: int, reserve: int, steps: list[tuple[int, bool]]) -> None:
    """Exactly what a naive count of the window says, exits with their reserve; refusals consume nothing."""
    _check(RateLog, count, window, reserve, steps)


@pytest.mark.plants
def test_a_calendar_second_is_seen_by_the_property() -> None:
    """The planted defect fails it."""
    with pytest.raises(AssertionError):
        given(count=st.just(2), window=st.just(5), reserve=st.just(0), steps=steps)(
            lambda count, window, reserve, steps: _check(CalendarSecond, count, window, reserve, steps)
        )()


def test_a_new_limit_remembers_what_was_charged() -> None:
    """Tightening binds at once; loosening gives room for the difference only."""
    rate = RateLog(3, 100, 0)
    for at in (1, 2, 3):
        rate.charge(at)
    assert not RateLog(2, 100, 0).remember(rate).allows(50, is_exit=False)
    loose = RateLog(4, 100, 0).remember(rate)
    assert loose.allows(50, is_exit=False)
    loose.charge(50)
    assert not loose.allows(60, is_exit=False)


def test_the_tighter_row_binds_the_rate() -> None:
    """An account's own row never loosens the global one; without rows there is no log."""
    glob, own = (
        limit(LimitName.RATE_COUNT, 5, window_ns=E9),
        limit(LimitName.RATE_COUNT, 9, Scope.ACCOUNT, "a1", window_ns=E9),
    )
    tight = LimitTable((glob, own)).rate(Scope.ACCOUNT, "a1", None)
    assert tight is not None
    for _ in range(5):
        assert tight.allows(0, is_exit=False)
        tight.charge(0)
    assert not tight.allows(1, is_exit=False)
    assert tight.refusing(1, is_exit=False).count == 5
    assert LimitTable(()).rate(Scope.ACCOUNT, "a1", None) is None


def test_of_two_rows_with_other_windows_both_bind() -> None:
    """DECISIONS 34: 10 in 1 s of the account never loosens 20 in 10 s for all."""
    rows = (
        LimitRow(LimitName.RATE_COUNT, Scope.GLOBAL, "", 20, 10 * E9),
        LimitRow(LimitName.RATE_COUNT, Scope.ACCOUNT, "a", 10, E9),
    )
    log = LimitTable(rows).rate(Scope.ACCOUNT, "a", None)
    assert log is not None
    taken = 0
    for second in range(3):
        while log.allows(second * E9, False):
            log.charge(second * E9)
            taken += 1

    assert taken == 20
    assert log.refusing(2 * E9, False).count == 20


@given(
    window=st.integers(1, 2_000),
    count=st.integers(1, 3_000),
    steps=st.lists(st.integers(0, 40), min_size=1, max_size=12),
)
def test_what_left_the_window_is_forgotten_and_never_missed(window: int, count: int, steps: list[int]) -> None:
    """Over thousands of charges it allows what a log that keeps all allows, and holds little more than a window."""
    log, everything, now = RateLog(count, window, 0), deque[int](), 0
    for n in range(3_000):
        now += steps[n % len(steps)]
        while everything and now - everything[0] >= window:
            everything.popleft()
        assert log.room <= 0 or len(everything) < count, "it promised room that is not there"
        assert log.allows(now, False) == (len(everything) < count)
        if len(everything) < count:
            log.charge(now)
            everything.append(now)
        assert len(log.times) <= len(everything) + 3 * FORGET_EVERY
