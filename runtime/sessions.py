"""The calendar of trading days: when a session ends, and which trading date an instant belongs to.

The session of a trading date ends at ``roll_time`` of that date in the venue's own time zone; ``00:00`` is the midnight
that ends it. An instant belongs to the first trading day whose session has not ended: what happens on a weekend or a
holiday belongs to the next trading day, and there is one roll from Friday to Monday.

Rule: a pure function of the rules and of an instant; dates are numbers, yyyymmdd. Ambiguous local times are the first
of the two, those that a change of clocks leaves out are counted with the offset before it (PEP 495, fold 0).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from protocol.errors import ConfigError

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class SessionRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When trading days end.

    Attributes:
        timezone: IANA name of the zone that ``roll_time`` is in.
        roll_time: HH:MM at which the session of a trading date ends; 00:00 = the midnight after it.
        weekdays: Days that are trading days.
        holidays: Dates that are none, yyyy-mm-dd.
    """

    timezone: str = "UTC"
    roll_time: str = "00:00"
    weekdays: tuple[str, ...] = WEEKDAYS
    holidays: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return every fault, one line each."""
        found = []
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            found.append(
                f"session.timezone: expected an IANA time zone such as Asia/Kolkata, was {self.timezone!r}; "
                "if the name is right, this host lacks the time zone database (package tzdata)"
            )
        if _parse_time(self.roll_time) is None:
            found.append(f'session.roll_time: expected HH:MM such as "15:30", was {self.roll_time!r}')
        found += [
            f"session.weekdays: expected names among {', '.join(WEEKDAYS)}, was {name!r}"
            for name in self.weekdays
            if name not in WEEKDAYS
        ]
        if not self.weekdays:
            found.append("session.weekdays: expected at least one trading day, was none")
        found += [
            f"session.holidays: expected dates such as 2026-12-25, was {text!r}"
            for text in self.holidays
            if _parse_date(text) is None
        ]
        return found


class SessionCalendar:
    """Answers for instants and dates.

    Raises:
        ConfigError: If the rules have faults.
    """

    def __init__(self, rules: SessionRules) -> None:
        if problems := rules.problems():
            raise ConfigError(problems)
        self._zone = ZoneInfo(rules.timezone)
        at = _parse_time(rules.roll_time)
        assert at is not None
        self._at = at
        self._weekdays = frozenset(WEEKDAYS.index(name) for name in rules.weekdays)
        self._holidays = frozenset(_parse_date(text) for text in rules.holidays)

    def trading_date(self, now_ns: int) -> int:
        """Return the trading date of an instant, UTC nanoseconds, as yyyymmdd."""
        instant = _EPOCH + timedelta(microseconds=now_ns // 1_000)
        return self._first_open(instant.astimezone(self._zone).date() - _DAY, now_ns)

    def next_date(self, trading_date: int) -> int:
        """Return the trading day after a date."""
        return self._first_open(number_date(trading_date) + _DAY, -1)

    def end_ns(self, trading_date: int) -> int:
        """Return when the session of a date ends, UTC nanoseconds; also of a date that is no trading day."""
        return self._end_ns(number_date(trading_date))

    def _first_open(self, day: date, after_ns: int) -> int:
        # Holidays are finite and at least one weekday trades, so this ends.
        while day.weekday() not in self._weekdays or day in self._holidays or self._end_ns(day) <= after_ns:
            day += _DAY
        return date_number(day)

    def _end_ns(self, day: date) -> int:
        last = day + _DAY if self._at == time.min else day
        end = datetime.combine(last, self._at, self._zone)
        return (end.astimezone(UTC) - _EPOCH) // _MICROSECOND * 1_000


def date_number(day: date) -> int:
    """Return a date as yyyymmdd."""
    return day.year * 10_000 + day.month * 100 + day.day


def number_date(number: int) -> date:
    """Return yyyymmdd as a date."""
    return date(number // 10_000, number // 100 % 100, number % 100)


def utc_date(now_ns: int) -> int:
    """Return the UTC date of an instant as yyyymmdd: the trading date where there is no calendar."""
    return date_number((_EPOCH + timedelta(microseconds=now_ns // 1_000)).date())


def day_after(trading_date: int) -> int:
    """Return the calendar day after a date, as yyyymmdd."""
    return date_number(number_date(trading_date) + _DAY)


def parse_date_number(text: str) -> int | None:
    """Return yyyy-mm-dd as yyyymmdd; None if it is no date."""
    day = _parse_date(text)
    return None if day is None else date_number(day)


def _parse_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _parse_time(text: str) -> time | None:
    try:
        at = time.fromisoformat(text)
    except ValueError:
        return None
    return at if len(text) == 5 and at.tzinfo is None else None
