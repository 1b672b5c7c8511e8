"""An explanation as lines: each check with its comparison, below it the rows it reads, those that bind marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cli.limit_text import Row, all_rows, line_of_row
from protocol.codes import Code, Scope
from protocol.contract_rows import (
    ContractRow,
    ContractScope,
    RestrictionKind,
    RestrictionRow,
    VenueRow,
    counts_on,
    resolve_contract,
)
from protocol.explained import Explained
from protocol.orders import NewOrder
from protocol.params import InstrumentParams, LimitRow
from protocol.risk_rows import RiskRows
from protocol.texts import refusal_text
from protocol.units import format_e9
from risk.gate.catalogue import CATALOGUE

INDENT: Final = " " * 6
SAY_REFUSALS: Final = frozenset(
    {
        Code.INSTR_NOT_TRADABLE, Code.INSTR_EXPIRED, Code.STATE_HALTED, Code.STATE_REDUCING, Code.TYPE_UNSUPPORTED,
        Code.REF_STALE, Code.VENUE_DOWN, Code.ALGO_ID_MISSING, Code.SESSION_CLOSED, Code.INSTR_RESTRICTED,
        Code.INSTR_BAN_REDUCE_ONLY, Code.INSTR_EXPIRY_CUTOFF, Code.PERM_OPTION_WRITE, Code.PERM_SHORT_SELL,
        Code.LOOP_INTENT, Code.STP_CROSS, Code.REF_SUSPECT, Code.PNL_UNKNOWN,
    }
)  # fmt: skip
"""Their text is a statement that is true only where they refuse."""
WORST: Final = frozenset({Code.PRICE_COLLAR, Code.PRICE_LPP, Code.PRICE_BAND})
"""Their text says which side the price is off, which is none where they pass."""
CONTRACT_CHECK: Final = "check_quantity_max"
LIMIT_CHECK: Final = "check_quantity_limit"
SOFT: Final = "check_soft_"
APART: Final = {
    "check_rate_account": (Scope.STRATEGY,),
    "check_rate_strategy": (Scope.ACCOUNT,),
    "check_day_account": (Scope.STRATEGY,),
    "check_day_strategy": (Scope.ACCOUNT, Scope.GLOBAL),
}
"""Scopes whose rows a check does not read though another check of its limit does."""
HOURS_CODES: Final = frozenset({"SESSION_CLOSED", "ALGO_ID_MISSING"})
RESTRICTED: Final = {
    RestrictionKind.NO_ORDERS: "INSTR_RESTRICTED",
    RestrictionKind.EXITS_ONLY: "INSTR_BAN_REDUCE_ONLY",
}


class Explanation(NamedTuple):
    """What the checks say, and the rows they read, an operator's in the place of the file's."""

    checks: Sequence[Explained]
    rows: RiskRows
    instrument: InstrumentParams | None
    trading_date: int


def lines_of(found: Explanation, order: NewOrder) -> Iterator[str]:
    """Yield each check as a line, and the rows it reads below it; a row that binds is marked."""
    for check in found.checks:
        is_soft = check.check.startswith(SOFT)
        if is_soft and not check.is_bound:
            continue
        name = f"{check.code.name} (soft)" if is_soft else check.code.name
        yield f"{'✔' if check.passes else '✘'} {name:<24} {_said(check)}".rstrip()
        rows = list(_rows_of(check, found, order))
        binding = _binding(rows, found, order, is_soft=is_soft)
        for row in rows:
            yield f"{INDENT}{'▸' if row in binding else ' '} {line_of_row(row)}"
        entry = CATALOGUE.get(check.code)
        if entry is not None and entry.settings and not binding:
            yield f"{INDENT}▸ set by {entry.settings.replace('`', '')}"


def _said(check: Explained) -> str:
    """Return the comparison of a check in words, of one that passes too."""
    if not check.is_bound:
        return "no limit" if check.passes else ""
    if check.facts is None or (check.passes and check.code in SAY_REFUSALS):
        return ""
    if check.passes and check.code in WORST:
        facts = check.facts
        return f"expected no worse than {format_e9(int(facts.expected))}, was {format_e9(int(facts.actual))}"
    return refusal_text(check.code, check.facts).removeprefix(check.code.name).strip()


def _rows_of(check: Explained, found: Explanation, order: NewOrder) -> Iterator[Row]:
    """Yield the rows in force that a check reads of this order."""
    entry, instrument = CATALOGUE.get(check.code), found.instrument
    if entry is None or instrument is None:
        return
    apart = APART.get(check.check, ())
    places = {
        (Scope.GLOBAL, ""), (Scope.ACCOUNT, order.account), (Scope.STRATEGY, order.strategy),
        (Scope.INSTRUMENT, order.instrument), (Scope.UNDERLYING, instrument.underlying or None),
        (Scope.VENUE, instrument.venue),
    }  # fmt: skip
    contract_places = {
        (ContractScope.GLOBAL, ""), (ContractScope.VENUE, instrument.venue),
        (ContractScope.CLASS, instrument.contract_class.name),
        (ContractScope.UNDERLYING, instrument.underlying or None), (ContractScope.INSTRUMENT, order.instrument),
    }  # fmt: skip
    for row in all_rows(found.rows):
        if not counts_on(row.effective_from, row.effective_to, found.trading_date):
            continue
        if isinstance(row, LimitRow):
            is_read = row.name in entry.limits and (row.scope, row.key) in places and row.scope not in apart
            is_read = is_read and check.check != CONTRACT_CHECK
        elif isinstance(row, ContractRow):
            is_read = row.name in entry.contracts and (row.scope, row.key) in contract_places
            is_read = is_read and check.check != LIMIT_CHECK
        else:
            is_read = is_concerned(row, check.code, order, instrument)
        if is_read:
            yield row


def is_concerned(row: VenueRow | RestrictionRow, code: Code, order: NewOrder, instrument: InstrumentParams) -> bool:
    """Whether hours or a restriction are what a check reads of this order."""
    if isinstance(row, VenueRow):
        return row.venue == instrument.venue and code.name in HOURS_CODES
    return (
        RESTRICTED.get(row.kind) == code.name
        and row.account in {"", order.account}
        and row.strategy in {"", order.strategy}
        and (
            row.instrument == instrument.instrument or bool(row.underlying and row.underlying == instrument.underlying)
        )
    )


def _binding(rows: Sequence[Row], found: Explanation, order: NewOrder, *, is_soft: bool) -> list[Row]:
    """Return the rows that bind: of each limit the tightest, of each contract parameter the most specific."""
    limits = [row for row in rows if isinstance(row, LimitRow) and not (is_soft and row.soft is None)]
    binding: list[Row] = [row for row in rows if isinstance(row, VenueRow | RestrictionRow)]
    for name in {row.name for row in limits}:
        same = [row for row in limits if row.name is name]
        binding.append(min(same, key=lambda row: (int((row.soft or 0) if is_soft else row.value), -row.scope)))
    instrument = found.instrument
    if instrument is not None:
        resolved = resolve_contract(
            [row for row in rows if isinstance(row, ContractRow)], found.trading_date, venue=instrument.venue,
            contract_class=instrument.contract_class, underlying=instrument.underlying, instrument=order.instrument,
        )  # fmt: skip
        binding += resolved.values()
    return binding
