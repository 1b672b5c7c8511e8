"""Rows of a limits file put in the place of the running ones while the engine runs, all or none (DECISIONS 26).

Rules: refused as a whole if anything is wrong, the running rows untouched; what a row says with ``value_max`` is never
loosened so, for that takes an edited file and a restart; operators' values of single limits stay as at a start
(``limit_changes.carry_over``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.limit_changes import carry_over, key_of
from engine.state import State
from protocol.codes import Scope
from protocol.contract_rows import ContractScope
from protocol.params import LimitRow, Params, RowsApplied, encode_params, params_decoder, params_hash
from protocol.records import ParamsSet
from protocol.risk_rows import ROWS_MAX, RiskRows, rows_of
from risk.gate.row_rules import contract_faults, date_fault, limit_fault, overlap_faults

FAULTS_MAX: Final = 20
CONTENT_BYTES_MAX: Final = 3 << 20  # below records.RECORD_BYTES_MAX


class Applied(NamedTuple):
    """The record of rows that can run, and a line on each operator's value beside them."""

    record: ParamsSet
    lines: list[str]


def decide_rows(state: State, rows: RiskRows, applied: RowsApplied) -> Applied | str:
    """Return what applying the rows means, or why they can't be: every fault, a line each, up to a bound."""
    params = state.params
    assert params is not None
    faults: list[str] = []
    for fault in _faults(state, params, rows):
        faults.append(fault)
        if len(faults) == FAULTS_MAX:
            faults.append("… and perhaps more")
            break
    if faults:
        return "\n".join(faults)
    kept, lines = carry_over(rows.put_into(params), params)
    content = encode_params(kept)
    if len(content) > CONTENT_BYTES_MAX:
        return f"rows expected at most {CONTENT_BYTES_MAX} bytes with all other parameters, was {len(content)}"
    if content == encode_params(params):
        return "nothing to apply: the engine runs these rows"
    return Applied(ParamsSet(content, params_hash(content), None, applied), lines)


def is_decided_again(state: State, record: ParamsSet) -> bool:
    """Return whether a recorded application is what is decided now of its rows."""
    assert record.applied is not None
    decided = decide_rows(state, rows_of(params_decoder.decode(record.content)), record.applied)
    return isinstance(decided, Applied) and decided.record == record


def _faults(state: State, params: Params, rows: RiskRows) -> Iterator[str]:
    count = len(rows.limits) + len(rows.contracts) + len(rows.venues) + len(rows.restrictions)
    if count > ROWS_MAX:
        yield f"rows expected at most {ROWS_MAX} in all, was {count}"
        return
    yield from _limit_faults(state, params, rows)
    yield from _loosened(params, rows)
    yield from _contract_faults(state, params, rows)
    for hours in rows.venues:
        if hours.venue not in state.venues:
            yield f"hours: venue {hours.venue!r} is not known; see wojak.toml"
        elif why := date_fault(hours.effective_from, hours.effective_to):
            yield f"hours of {hours.venue}: {why}"
    for restriction in rows.restrictions:
        if why := date_fault(restriction.effective_from, restriction.effective_to):
            yield f"restriction of {restriction.instrument or restriction.underlying}: {why}"


def _limit_faults(state: State, params: Params, rows: RiskRows) -> Iterator[str]:
    underlyings = {i.underlying for i in params.instruments} - {""}
    for row in rows.limits:
        if not _is_known(state, underlyings, row.scope, row.key):
            yield f"{_name(row)}: {row.scope.name.lower()} {row.key!r} is not known; see wojak.toml"
        elif why := limit_fault(row):
            yield f"{_name(row)}: {why}"
    for place, why in overlap_faults(rows.limits):
        yield f"{_name(rows.limits[place])}: {why}"


def _contract_faults(state: State, params: Params, rows: RiskRows) -> Iterator[str]:
    for contract in rows.contracts:
        if why := date_fault(contract.effective_from, contract.effective_to):
            yield f"{contract.name.name} of {contract.scope.name.lower()} {contract.key}: {why}"
        elif contract.scope is ContractScope.INSTRUMENT and contract.key not in state.instruments:
            yield f"{contract.name.name}: instrument {contract.key!r} is not known; see wojak.toml"
    for place, why in contract_faults(params.instruments, rows.contracts):
        contract = rows.contracts[place]
        yield f"{contract.name.name} of {contract.scope.name.lower()} {contract.key}: {why}"


def _loosened(params: Params, rows: RiskRows) -> Iterator[str]:
    """Yield a fault for each running row with ``value_max`` that the new rows would let go beyond it, on any date."""
    guarded = [row for row in params.limits if row.value_max is not None]
    for row in guarded:
        same = [new for new in rows.limits if key_of(new) == key_of(row)]
        stays = any(new.effective_from <= row.effective_from and _last(new) >= _last(row) for new in same)
        looser = [new for new in same if not _is_within(new, row)]
        if not stays or looser:
            was = "no row of it" if not stays else str(looser[0].value)
            yield (
                f"{_name(row)}: expected a row of at most {row.value_max}, the running value_max, with a value_max no "
                f"looser and for all of its dates, was {was}; more takes an edited file and a restart"
            )


def _is_within(new: LimitRow, row: LimitRow) -> bool:
    assert row.value_max is not None
    return (
        new.value_max is not None
        and int(new.value_max) <= int(row.value_max)
        and new.window_ns >= row.window_ns
        and new.reserve_exit <= row.reserve_exit
    )


def _last(row: LimitRow) -> int:
    return row.effective_to or 1 << 40


def _is_known(state: State, underlyings: set[str], scope: Scope, key: str) -> bool:
    if scope is Scope.UNDERLYING:
        return key in underlyings
    if scope is Scope.VENUE:
        return key in state.venues
    return state.knows(scope, key)


def _name(row: LimitRow) -> str:
    return f"{row.name.name} of {row.scope.name.lower()} {row.key}".rstrip()
