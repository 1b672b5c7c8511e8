"""Limits changed while the engine runs: an operator's rows beside the file's, in one ``Params`` (DECISIONS 26).

Rules: the operator's row of (limit, scope, key) stands in the place of the file's until it is lifted, over restarts
too; it is never looser than the file's ``value_max``. A file edited since can tighten a limit that was loosened, and
never loosen one that was tightened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from engine.state import State
from protocol.codes import Code, Scope
from protocol.contract_rows import counts_on
from protocol.params import LimitChange, LimitName, LimitRow, Params, encode_params, params_hash
from protocol.records import ParamsSet
from protocol.texts import refusal_text
from risk.gate.row_rules import limit_fault

CHANGES_MAX: Final = 4_096
Key = tuple[LimitName, Scope, str]


class LimitView(NamedTuple):
    """One limit: the file's row, the operator's."""

    row: LimitRow | None
    change: LimitChange | None


def decide_limit(state: State, change: LimitChange) -> ParamsSet | str:
    """Return the record of a changed limit, or why it can't be taken. A value of None lifts the operator's row."""
    params = state.params
    assert params is not None
    if why := _refusal(state, params, change):
        return why
    key = key_of(change)
    kept = [c for c in params.changes if key_of(c) != key]
    if change.value is None and len(kept) == len(params.changes):
        return f"{_name(change)}: no operator's value is set; see: wojak limits show"
    if change.value is not None:
        kept.append(change)
    if len(kept) > CHANGES_MAX:
        return f"limits expected at most {CHANGES_MAX} operator's values, was one more; lift some: wojak limits lift"
    content = encode_params(structs.replace(params, changes=tuple(kept)))
    return ParamsSet(content, params_hash(content), change)


def _refusal(state: State, params: Params, change: LimitChange) -> str:
    if not _is_known(state, params, change):
        return f"{change.scope.name.lower()} {change.key!r} is not known; see wojak.toml"
    elsewhere = state.belongs_elsewhere(change.key) if change.scope is Scope.ACCOUNT else None
    if elsewhere is not None:
        return refusal_text(Code.WRONG_SHARD, elsewhere)
    value = change.value
    if value is None:
        return ""
    row = LimitRow(change.name, change.scope, change.key, value, change.window_ns, change.reserve_exit)
    if why := limit_fault(row):
        return f"{_name(change)}: {why}"
    return next((why for row in _rows(params.limits).get(key_of(change), ()) if (why := _too_loose(change, row))), "")


def _is_known(state: State, params: Params, change: LimitChange) -> bool:
    match change.scope:
        case Scope.UNDERLYING:
            return any(i.underlying == change.key for i in params.instruments) and change.key != ""
        case Scope.VENUE:
            return any(i.venue == change.key for i in params.instruments)
        case _:
            return state.knows(change.scope, change.key)


def _too_loose(change: LimitChange, row: LimitRow) -> str:
    """Return why the change goes beyond what the file lets an operator do; empty if it does not."""
    assert change.value is not None
    if row.value_max is None:
        return ""
    if change.value > int(row.value_max):
        return (
            f"{_name(change)}: expected at most {row.value_max}, the file's value_max, was {change.value}; "
            "more takes an edited file and a restart"
        )
    if change.window_ns < row.window_ns or change.reserve_exit > row.reserve_exit:
        return (
            f"{_name(change)}: where the file sets value_max, expected a window of at least {row.window_ns} ns and at "
            f"most {row.reserve_exit} more for exits, was {change.window_ns} ns and {change.reserve_exit}"
        )
    return ""


def carry_over(file: Params, journaled: Params | None) -> tuple[Params, list[str]]:
    """Return the file's parameters with the operators' values that stay in force, and a line on each, for the log.

    An operator's value leaves if the file now forbids it (``value_max``), or if the file's row was edited since and is
    the tighter one. One whose scope left the file waits for its return.
    """
    if journaled is None:
        return file, []
    now, before = _rows(file.limits), _rows(journaled.limits)
    kept: list[LimitChange] = []
    lines: list[str] = []
    for change in journaled.changes:
        rows, old = now.get(key_of(change), ()), before.get(key_of(change), ())
        why = next((why for row in rows if (why := _why_dropped(change, row, old))), "")
        said = str(rows[0].value) if rows else "no row"
        if why:
            lines.append(f"{_name(change)}: {change.operator}'s {change.value} is dropped: {why}")
        else:
            kept.append(change)
            lines.append(f"{_name(change)} is {change.value}, set by {change.operator}; the file says {said}")
    return structs.replace(file, changes=tuple(kept)), lines


def _why_dropped(change: LimitChange, row: LimitRow, before: Sequence[LimitRow]) -> str:
    assert change.value is not None
    if why := _too_loose(change, row):
        return why
    if row not in before and change.value > int(row.value):
        return f"the file was edited since, and its {row.value} is tighter"
    return ""


def limit_views(params: Params, trading_date: int = 0) -> dict[Key, LimitView]:
    """Return every limit with a row on a trading date, 0 = on any: what the file says and an operator said since."""
    rows = _rows(
        r for r in params.limits if not trading_date or counts_on(r.effective_from, r.effective_to, trading_date)
    )
    changes = {key_of(c): c for c in params.changes}
    return {key: LimitView(next(iter(rows.get(key, ())), None), changes.get(key)) for key in sorted({*rows, *changes})}


def key_of(row: LimitRow | LimitChange) -> Key:
    """Return what one limit is known by."""
    return row.name, row.scope, row.key


def _rows(limits: Iterable[LimitRow]) -> dict[Key, list[LimitRow]]:
    """Return the rows of each limit, the tightest first: of two that count on one date it binds (``LimitTable``)."""
    rows: dict[Key, list[LimitRow]] = {}
    for row in limits:
        rows.setdefault(key_of(row), []).append(row)
    for same in rows.values():
        same.sort(key=_value)
    return rows


def _value(row: LimitRow) -> int:
    return int(row.value)


def _name(change: LimitChange) -> str:
    return f"{change.name.name} of {change.scope.name.lower()} {change.key}".rstrip()
