"""MARKS: the prices that positions are valued at, as the engine took them, and what came of it (RISK.md A2, LOSS_*).

Rule: they are the only input of profit and loss. What a mark means for a limit is decided on the state and stands in
the same record, so recovery, replicas and a second look at the journal come to the same.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from protocol.codes import Code, Scope
from protocol.units import format_e9

BP_OF_PERCENT: Final = 100


class Mark(Struct, array_like=True, frozen=True, gc=False):
    """What an instrument is valued at: long positions at ``low_e9``, short ones at ``high_e9``, 1e-9.

    They differ where the quotes are wide. ``age_ns``: of the price, when the record was made. Both prices 0: there is
    no fresh one any more, or nobody needs one.
    """

    instrument: str
    low_e9: int
    high_e9: int
    age_ns: int = 0


class LossLevel(IntEnum):
    """How far a limit is used up."""

    LIFTED = 0
    ALERT = 1  # a person should look; nothing is stopped
    REDUCING = 2
    HALTED = 3


class LossTrip(Struct, array_like=True, frozen=True):
    """A limit on losses or on used margin was reached at a scope, or is no longer.

    ``value_e9``, ``limit_e9``: text, 1e-9 of the currency; of MARGIN_UTILISATION basis points.
    """

    scope: Scope
    key: str
    code: Code
    level: LossLevel
    value_e9: str
    limit_e9: str
    currency: str = ""


class Marked(Struct, array_like=True, tag=76, frozen=True):
    """Positions were valued. Journaled only while there are limits that read it, and where something changed."""

    marks: list[Mark]
    trips: list[LossTrip]


def trip_text(trip: LossTrip) -> str:
    """Return why a scope is reduced or halted, or what a person should look at."""
    value, limit = int(trip.value_e9), int(trip.limit_e9)
    if trip.code is Code.MARGIN_UTILISATION:
        side = "at most" if trip.level is LossLevel.REDUCING else "less than"
        return f"{trip.code.name}: expected {side} {_percent(limit)} % of the margin used, was {_percent(value)} %"
    what = "a fall from the peak" if trip.code is Code.LOSS_DRAWDOWN else "a loss"
    return f"{trip.code.name}: expected {what} of less than {format_e9(limit)}, was {format_e9(value)} {trip.currency}"


def trip_line(trip: LossTrip) -> str:
    """Return the same with the scope and what became of it."""
    where = f"{trip.scope.name.lower()} {trip.key}".rstrip()
    return f"{where} {trip.level.name}: {trip_text(trip)}"


def _percent(bp: int) -> str:
    whole, part = divmod(bp, BP_OF_PERCENT)
    return f"{whole}.{part:02}"
