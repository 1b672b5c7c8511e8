"""Records of a session roll that name no order; the one that does is ``records.DayOrdersExpired``."""

from __future__ import annotations

from msgspec import Struct


class SessionRolled(Struct, array_like=True, tag=40, frozen=True):
    """The trading date moved on (SESSION_ROLL). Dates are yyyymmdd.

    ``due_ns``: when the calendar said that the session ends, UTC nanoseconds; 0 = an operator's roll.
    """

    from_date: int
    to_date: int
    operator: str
    reason: str
    due_ns: int = 0


class KeysRetired(Struct, array_like=True, tag=42, frozen=True):
    """One step after a roll: of one part of the dedup table what is over and stands before a position left."""

    part: int
    parts: int
    before: int
