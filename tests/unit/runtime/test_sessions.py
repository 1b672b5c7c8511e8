"""Trading dates of instants and ends of sessions: zones, weekends, holidays, changes of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigError
from runtime.sessions import SessionCalendar, SessionRules, day_after, number_date, parse_date_number, utc_date

E9 = 10**9
WORKDAYS = ("mon", "tue", "wed", "thu", "fri")
CHICAGO = SessionRules(timezone="America/Chicago", roll_time="17:00", weekdays=WORKDAYS, holidays=("2026-11-26",))
INDIA = SessionRules(timezone="Asia/Kolkata", roll_time="15:30", weekdays=WORKDAYS)
CALENDARS = [SessionRules(), CHICAGO, INDIA, SessionRules(timezone="Europe/Berlin", roll_time="02:30")]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * E9


@pytest.mark.parametrize(
    ("rules", "instant", "date"),
    [
        (SessionRules(), "2026-05-30T23:59:59+00:00", 20260530),
        (SessionRules(), "2026-05-31T00:00:00+00:00", 20260531),
        (SessionRules(), "2026-12-31T23:59:59+00:00", 20261231),
        (SessionRules(weekdays=WORKDAYS), "2026-05-29T23:59:59+00:00", 20260529),
        (SessionRules(weekdays=WORKDAYS), "2026-05-30T00:00:00+00:00", 20260601),  # Saturday is Monday's
        (INDIA, "2026-05-29T15:29:59+05:30", 20260529),
        (INDIA, "2026-05-29T15:30:00+05:30", 20260601),
        (CHICAGO, "2026-11-24T16:59:59-06:00", 20261124),
        (CHICAGO, "2026-11-25T17:00:00-06:00", 20261127),  # the 26th is a holiday
        (CHICAGO, "2026-11-27T17:00:00-06:00", 20261130),
    ],
)
def test_an_instant_belongs_to_the_first_session_that_has_not_ended(
    rules: SessionRules, instant: str, date: int
) -> None:
    """The end itself belongs to the next date; weekends and holidays to the trading day after them."""
    calendar = SessionCalendar(rules)
    assert calendar.trading_date(at(instant)) == date
    assert calendar.end_ns(date) > at(instant)


@pytest.mark.parametrize(
    ("roll_time", "date", "end"),
    [
        ("00:00", 20260328, "2026-03-28T23:00:00+00:00"),
        ("00:00", 20260329, "2026-03-29T22:00:00+00:00"),  # a day of 23 hours
        ("02:30", 20260329, "2026-03-29T01:30:00+00:00"),  # a time that was left out
        ("02:30", 20261025, "2026-10-25T00:30:00+00:00"),  # a time that comes twice: the first
    ],
)
def test_clocks_that_change_have_their_ends(roll_time: str, date: int, end: str) -> None:
    """Berlin, spring and autumn."""
    calendar = SessionCalendar(SessionRules(timezone="Europe/Berlin", roll_time=roll_time))
    assert calendar.end_ns(date) == at(end)


instants = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize("rules", CALENDARS, ids=lambda r: r.timezone)
@given(instant=instants, hours=st.integers(0, 400))
def test_dates_only_go_on(rules: SessionRules, instant: datetime, hours: int) -> None:
    """A later instant never has an earlier date; each lies between the end of the date before and its own."""
    calendar = SessionCalendar(rules)
    now, later = at(instant.isoformat()), at((instant + timedelta(hours=hours)).isoformat())
    date = calendar.trading_date(now)
    assert calendar.trading_date(later) >= date
    assert calendar.end_ns(date) > now
    assert calendar.trading_date(calendar.end_ns(date)) == calendar.next_date(date)
    assert calendar.trading_date(calendar.end_ns(date) - 1_000) == date


def test_faults_are_named_all_at_once() -> None:
    """Key, what was expected, what it was."""
    rules = SessionRules(timezone="Mars/Base", roll_time="25:00", weekdays=("monday",), holidays=("26-1-1",))
    with pytest.raises(ConfigError) as caught:
        SessionCalendar(rules)
    for key in ("timezone", "roll_time", "weekdays", "holidays"):
        assert f"session.{key}: expected" in str(caught.value)
    assert SessionRules(weekdays=()).problems()
    assert SessionRules(roll_time="15:30:00").problems()
    assert not SessionRules().problems()


def test_dates_as_numbers() -> None:
    """Months and years end where they do; text that is no date is none."""
    assert day_after(20261231) == 20270101
    assert day_after(20240228) == 20240229
    assert utc_date(at("2026-11-22T23:59:59+00:00")) == 20261122
    assert number_date(20261122).isoformat() == "2026-11-22"
    assert parse_date_number("2026-11-22") == 20261122
    assert parse_date_number("22.11.2026") is None
