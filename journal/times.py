"""Instants as people read them: ISO 8601 in UTC to the nanosecond, by integers."""

from __future__ import annotations

import datetime as dt
from typing import Final

NS_PER_S: Final = 1_000_000_000
_SECONDS_MAX: Final = 253_402_300_799  # the last second of year 9999; a producer may claim any time


def format_ns(at_ns: int) -> str:
    """Return UTC nanoseconds as ``2026-01-02T03:04:05.123456789Z``; empty for 0 and for what no calendar has."""
    seconds, ns = divmod(at_ns, NS_PER_S)
    if at_ns == 0 or not -_SECONDS_MAX // 8 <= seconds <= _SECONDS_MAX:
        return ""
    at = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)  # noqa: DTZ001  # UTC by definition
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def format_s(at_ns: int) -> str:
    """Return UTC nanoseconds as ``2026-01-02 03:04:05``, the second it is in; ``-`` for none."""
    text = format_ns(at_ns)
    return f"{text[:10]} {text[11:19]}" if text else "-"
