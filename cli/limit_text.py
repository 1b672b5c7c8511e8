"""Rows of risk parameters as one line each, and what differs between two sets of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cli.limit_rules import WEEKDAYS
from protocol.contract_rows import ContractName, ContractRow, RestrictionRow, VenueRow
from protocol.params import COUNTED, LimitName, LimitRow
from protocol.risk_rows import RiskRows
from protocol.units import format_e9

MS_NS: Final = 1_000_000
MINUTE_NS: Final = 60 * 10**9
Row = LimitRow | ContractRow | VenueRow | RestrictionRow


def limit_value(name: LimitName, value: int | str, window_ns: int = 0, reserve_exit: int = 0) -> str:
    """Return the value of a limit as people write it."""
    text = str(value) if name in COUNTED else format_e9(int(value))
    if window_ns:
        text += f" in {window_ns // MS_NS} ms" + (f", {reserve_exit} more for exits" if reserve_exit else "")
    return text


def contract_value(name: ContractName, value: int) -> str:
    """Return the value of a contract parameter as people write it."""
    if name.name.endswith("_NS"):
        return f"{value // MS_NS} ms"
    return f"{value} bp" if name.name.endswith("_BP") else format_e9(value)


def name_of(row: Row) -> str:
    """Return what a row is about: limit or parameter, and its scope."""
    match row:
        case LimitRow() | ContractRow():
            return f"{row.name.name} of {row.scope.name.lower()} {row.key}".rstrip()
        case VenueRow():
            return f"hours of {row.venue}"
        case RestrictionRow():
            whom = [f"for {who}" for who in (row.account, row.strategy) if who]
            return " ".join([f"{row.kind.name} of {row.instrument or row.underlying}", *whom])


def value_of(row: Row) -> str:
    """Return what a row says."""
    match row:
        case LimitRow():
            text = limit_value(row.name, row.value, row.window_ns, row.reserve_exit)
            text += f", soft {limit_value(row.name, row.soft)}" if row.soft is not None else ""
            return text + (f" (at most {limit_value(row.name, row.value_max)})" if row.value_max is not None else "")
        case ContractRow():
            return contract_value(row.name, row.value)
        case VenueRow():
            hours = f"{_clock(row.open_ns)} to {_clock(row.close_ns)}" if row.close_ns else "around the clock"
            days = " ".join(day for n, day in enumerate(WEEKDAYS) if row.days >> n & 1)
            algo = ", algo_id needed" if row.needs_algo_id else ""
            return f"{hours} UTC{row.utc_offset_ns // MINUTE_NS:+d} min, {days}, {len(row.holidays)} holidays{algo}"
        case RestrictionRow():
            return "exits pass" if row.exits else "exits are refused too"


def dates_of(row: Row) -> str:
    """Return when a row counts; empty = always."""
    begins = f"from {_date(row.effective_from)}" if row.effective_from else ""
    ends = f"to {_date(row.effective_to)}" if row.effective_to else ""
    return " ".join(part for part in (begins, ends) if part)


def line_of_row(row: Row) -> str:
    """Return a row as a line: what, how much, when, who says so."""
    said = " ".join(part for part in (row.source, f"version {row.version}" if row.version else "") if part)
    parts = [f"{name_of(row):<40} {value_of(row)}", dates_of(row), f"[{said}]" if said else ""]
    return "   ".join(part for part in parts if part)


def all_rows(rows: RiskRows) -> Iterator[Row]:
    """Yield every row, table by table."""
    yield from rows.limits
    yield from rows.contracts
    yield from rows.venues
    yield from rows.restrictions


def differences(running: RiskRows, file: RiskRows) -> list[str]:
    """Return a line for each row that the engine runs otherwise than the file says: + new, - gone, ~ changed."""
    ours, theirs = _by_place(all_rows(running)), _by_place(all_rows(file))
    lines = []
    for place in [*ours, *(p for p in theirs if p not in ours)]:
        old, new = ours.get(place), theirs.get(place)
        if old == new:
            continue
        if old is None or new is None:
            row = new if old is None else old
            assert row is not None
            lines.append(f"{'+' if old is None else '-'} {line_of_row(row)}")
        else:
            lines.append(f"~ {line_of_row(old)}  →  {line_of_row(new).removeprefix(name_of(new)).strip()}")
    return lines


def _by_place(rows: Iterable[Row]) -> dict[tuple[str, int, int], Row]:
    return {(name_of(row), row.effective_from, row.effective_to): row for row in rows}


def _date(date: int) -> str:
    return f"{date // 10_000}-{date // 100 % 100:02d}-{date % 100:02d}"


def _clock(ns: int) -> str:
    return f"{ns // MINUTE_NS // 60:02d}:{ns // MINUTE_NS % 60:02d}"
