"""Rows of a file as the engine takes them: exact integers, trading dates as yyyymmdd."""

from __future__ import annotations

import datetime as dt
from typing import Final

from cli.limit_rows import ContractRow, HoursRow, LimitRow, LimitsFile, RestrictionRow
from cli.limit_rules import WEEKDAYS, contract_name, exact_value, minutes_of
from protocol import contract_rows as wire
from protocol.codes import Scope
from protocol.params import LimitName
from protocol.params import LimitRow as WireLimitRow
from protocol.risk_rows import RiskRows

MS_NS: Final = 1_000_000
MINUTE_NS: Final = 60 * 10**9
_RESTRICTIONS: Final = {
    "no-orders": wire.RestrictionKind.NO_ORDERS,
    "exits-only": wire.RestrictionKind.EXITS_ONLY,
}


def to_limit_row(row: LimitRow) -> WireLimitRow:
    """Return a risk limit."""
    return WireLimitRow(
        LimitName[row.limit], Scope[row.scope.upper()], row.key, exact_value(row.value), row.window_ms * MS_NS,
        row.reserve_exit, _maybe(row.value_max), _maybe(row.soft), _date(row.effective_from), _date(row.effective_to),
        row.source, row.version,
    )  # fmt: skip


def to_contract_row(row: ContractRow) -> wire.ContractRow:
    """Return a contract parameter."""
    name = contract_name(row.parameter)
    value = exact_value(row.value) * (MS_NS if name.name.endswith("_NS") else 1)
    key = row.key.upper() if row.scope == "class" else row.key
    return wire.ContractRow(
        name, wire.ContractScope[row.scope.upper()], key, value, _date(row.effective_from), _date(row.effective_to),
        row.source, row.version,
    )  # fmt: skip


def to_venue_row(row: HoursRow) -> wire.VenueRow:
    """Return a venue's hours; around the clock is a close of 0."""
    opens, closes = minutes_of(row.open), minutes_of(row.close)
    assert opens is not None, row.open
    assert closes is not None, row.close
    return wire.VenueRow(
        venue=row.venue,
        open_ns=opens * MINUTE_NS,
        close_ns=0 if opens == closes else closes * MINUTE_NS,
        utc_offset_ns=row.utc_offset_min * MINUTE_NS,
        days=sum(1 << WEEKDAYS.index(day) for day in set(row.weekdays)),
        holidays=tuple(map(_date, sorted(row.holidays))),
        needs_algo_id=row.needs_algo_id,
        effective_from=_date(row.effective_from),
        effective_to=_date(row.effective_to),
        source=row.source,
        version=row.version,
    )


def to_restriction_row(row: RestrictionRow) -> wire.RestrictionRow:
    """Return a restriction."""
    return wire.RestrictionRow(
        _RESTRICTIONS[row.restriction], row.instrument, row.underlying, row.account, row.strategy, row.exits,
        _date(row.effective_from), _date(row.effective_to), row.source, row.version,
    )  # fmt: skip


def to_risk_rows(file: LimitsFile) -> RiskRows:
    """Return all rows of a file that has no fault."""
    return RiskRows(
        tuple(map(to_limit_row, file.limits)),
        tuple(map(to_contract_row, file.contracts)),
        tuple(map(to_venue_row, file.hours)),
        tuple(map(to_restriction_row, file.restrictions)),
    )


def _maybe(value: str | int | None) -> int | None:
    return None if value is None else exact_value(value)


def _date(day: dt.date | None) -> int:
    return int(f"{day:%Y%m%d}") if day is not None else 0
