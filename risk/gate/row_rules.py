"""What rows of risk parameters have to keep, whoever gives them: the file's reader and the engine ask the same rules.

Rules: values inside int64; rows of one limit at one scope never overlap in time; and none may shut the way out: a rate,
a size or a price band that no exit could pass is refused before it can run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from protocol.codes import Scope
from protocol.contract_rows import ContractName, ContractRow, ContractScope, resolve_contract
from protocol.params import WINDOWED, InstrumentParams, LimitName, LimitRow
from protocol.units import INT64_MAX, format_e9
from risk.gate.catalogue import CHECKED_LIMITS
from risk.gate.flow import ANSWERS_MAX, FILLS_MAX
from risk.gate.losses import LOSS_LIMITS
from risk.gate.watch import CLOCKED, WATCHED

BINDS_EXITS: Final = frozenset(
    {LimitName.RATE_COUNT, LimitName.GLOBAL_RATE_COUNT, LimitName.VENUE_RATE_COUNT, LimitName.DUPLICATE_COUNT}
)
RESERVED: Final = BINDS_EXITS - {LimitName.DUPLICATE_COUNT}
"""Limits with a reserve for exits."""
SOFT: Final = frozenset(
    {
        LimitName.POSITION_MAX,
        LimitName.ORDER_VALUE_MAX,
        LimitName.OPEN_VALUE_MAX,
        LimitName.GROSS_MAX,
        LimitName.MESSAGE_RATIO_MAX,
    }
)
"""Limits with a soft value that a check reads."""
ANYWHERE: Final = (Scope.GLOBAL, Scope.ACCOUNT, Scope.STRATEGY, Scope.INSTRUMENT)
OF_WHO: Final = (Scope.GLOBAL, Scope.ACCOUNT, Scope.STRATEGY)
OF_ACCOUNT: Final = (Scope.GLOBAL, Scope.ACCOUNT)
SCOPES: Final[dict[LimitName, tuple[Scope, ...]]] = {
    LimitName.RATE_COUNT: OF_WHO,
    LimitName.DAILY_COUNT_MAX: OF_WHO,
    LimitName.GROSS_MAX: OF_ACCOUNT,
    LimitName.NET_MAX: (*OF_ACCOUNT, Scope.UNDERLYING),
    LimitName.UNDERLYING_MAX: (*OF_ACCOUNT, Scope.UNDERLYING),
    LimitName.CONCENTRATION_MAX_BP: (*OF_ACCOUNT, Scope.UNDERLYING),
    LimitName.DAILY_LOSS_MAX: OF_WHO,
    LimitName.DRAWDOWN_MAX: OF_WHO,
    LimitName.DUPLICATE_COUNT: OF_WHO,
    LimitName.INTENT_COUNT: (Scope.GLOBAL, Scope.STRATEGY),
    LimitName.REJECT_COUNT: (Scope.GLOBAL, Scope.STRATEGY, Scope.VENUE),
    LimitName.GLOBAL_RATE_COUNT: (Scope.GLOBAL,),
    LimitName.VENUE_RATE_COUNT: (Scope.GLOBAL, Scope.VENUE),
    LimitName.MESSAGE_RATIO_MAX: (*OF_WHO, Scope.VENUE),
    LimitName.CLOCK_OFFSET_MAX_US: (Scope.GLOBAL,),
    LimitName.CLOCK_AGE_MAX_MS: (Scope.GLOBAL,),
    LimitName.MESSAGE_FLOOR: (*OF_WHO, Scope.VENUE),
    LimitName.EXECUTION_COUNT: (Scope.GLOBAL, Scope.STRATEGY),
    LimitName.MARGIN_USED_MAX_BP: OF_ACCOUNT,
    LimitName.CHURN_COUNT: (Scope.GLOBAL, Scope.STRATEGY, Scope.INSTRUMENT),
    LimitName.CHURN_RATIO: (Scope.GLOBAL, Scope.STRATEGY, Scope.INSTRUMENT),
    LimitName.REJECT_SHARE_BP: (Scope.GLOBAL, Scope.STRATEGY, Scope.VENUE),
    LimitName.REJECT_SHARE_ORDERS: (Scope.GLOBAL, Scope.STRATEGY, Scope.VENUE),
}
"""Scopes at which a limit is read; of the others ``ANYWHERE``."""
OF_EVENTS: Final = frozenset((*WATCHED, *CLOCKED, *LOSS_LIMITS))
"""Limits that halt at the event that reaches them: 0 would never be reached by one."""
MOST: Final = {
    LimitName.CHURN_COUNT: FILLS_MAX,
    LimitName.REJECT_SHARE_ORDERS: ANSWERS_MAX,
    LimitName.REJECT_SHARE_BP: 10_000,
}
"""Limits above which nothing could be counted: so many are remembered, or it is more than all."""
NOBODY_OUT: Final = "nobody could leave a position"
DATE_MAX: Final = 99_991_231
COLLAR_BP_MAX: Final = 9_999  # below 100 %: a bound of 0 would let a MARKET order count for nothing


def limit_fault(row: LimitRow) -> str:
    """Return what is wrong with a limit by itself; empty if nothing is."""
    if row.name not in CHECKED_LIMITS:
        return f"limit expected one that a check of this release reads, was {row.name.name}: nothing would come of it"
    scopes = SCOPES.get(row.name, ANYWHERE)
    if row.scope not in scopes:
        return f"scope expected {', '.join(s.name.lower() for s in scopes)}, was {row.scope.name.lower()}"
    value = int(row.value)
    most = value if row.value_max is None else int(row.value_max)
    if not 0 <= value <= INT64_MAX or most > INT64_MAX:
        return f"value expected 0 to {INT64_MAX}, was {row.value}"
    if value > MOST.get(row.name, INT64_MAX):
        return f"value expected at most {MOST[row.name]} for {row.name.name}, was {row.value}"
    if most < value:
        return f"value_max expected at least the value ({value}), was {most}"
    if row.soft is not None and not 0 <= int(row.soft) <= value:
        return f"soft expected at most the value ({value}), was {row.soft}"
    if row.soft is not None and row.name not in SOFT:
        return f"soft expected with {', '.join(sorted(n.name for n in SOFT))} only, was {row.soft}"
    if (row.name in WINDOWED) != (row.window_ns > 0):
        return f"window expected with limits that count within a time, and with them alone, was {row.window_ns} ns"
    if row.reserve_exit < 0 or (row.reserve_exit and row.name not in RESERVED):
        return f"reserve_exit expected with the window of a rate only, was {row.reserve_exit}"
    if row.name in BINDS_EXITS and not value + row.reserve_exit:
        return f"value expected at least 1, or a reserve_exit, was 0: {row.name.name} binds exits too, {NOBODY_OUT}"
    if row.name in OF_EVENTS and not value:
        return f"value expected at least 1, was 0: {row.name.name} halts at the event that reaches it"
    return date_fault(row.effective_from, row.effective_to)


def date_fault(effective_from: int, effective_to: int) -> str:
    """Return what is wrong with the dates of a row; empty if nothing is."""
    if not (0 <= effective_from <= DATE_MAX and 0 <= effective_to <= DATE_MAX):
        return f"dates expected yyyymmdd, was {effective_from} to {effective_to}"
    if 0 < effective_to < effective_from:
        return f"effective_to expected {effective_from} or later, was {effective_to}"
    return ""


def overlap_faults(rows: Sequence[LimitRow]) -> Iterator[tuple[int, str]]:
    """Yield place and reason of each limit row beside which another one of its scope counts on some date."""
    seen: dict[tuple[LimitName, Scope, str], list[LimitRow]] = {}
    for place, row in enumerate(rows):
        for before in seen.setdefault((row.name, row.scope, row.key), []):
            if not (_is_before(row, before) or _is_before(before, row)):
                yield place, "expected one row a limit and scope on each trading date, was another one too"
        seen[row.name, row.scope, row.key].append(row)


def _is_before(row: LimitRow, other: LimitRow) -> bool:
    return 0 < row.effective_to < other.effective_from


def contract_faults(instruments: Iterable[InstrumentParams], rows: Sequence[ContractRow]) -> Iterator[tuple[int, str]]:
    """Yield place and reason of each row that an instrument can't take on some date, as the rows resolve on it."""
    places: dict[tuple[ContractScope, str], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row.scope, row.key), []).append(place)
    for params in instruments:
        concerned = [place for where in _scopes_of(params) for place in places.get(where, ())]
        said: set[tuple[int, str]] = set()
        own = [rows[place] for place in concerned]
        for date in sorted({0, *(r.effective_from for r in own), *(r.effective_to + 1 for r in own if r.effective_to)}):
            found = resolve_contract(
                own, date, venue=params.venue, contract_class=params.contract_class, underlying=params.underlying,
                instrument=params.instrument,
            )  # fmt: skip
            for name, why in _faults_of(params, {n: r.value for n, r in found.items()}):
                place = next(p for p in concerned if rows[p] is found[name])
                if (place, why) not in said:
                    said.add((place, why))
                    yield place, f"{why} for {params.instrument}"


def _scopes_of(params: InstrumentParams) -> tuple[tuple[ContractScope, str], ...]:
    return (
        (ContractScope.GLOBAL, ""),
        (ContractScope.VENUE, params.venue),
        (ContractScope.CLASS, params.contract_class.name),
        (ContractScope.UNDERLYING, params.underlying),
        (ContractScope.INSTRUMENT, params.instrument),
    )


def _faults_of(params: InstrumentParams, found: dict[ContractName, int]) -> Iterator[tuple[ContractName, str]]:
    """Yield a parameter that was found, and the reason, where the instrument can't take it; exits have to pass too."""
    for name, unit, step in (
        (ContractName.TICK, "price_step", params.price_step_e9),
        (ContractName.LOT, "quantity_step", params.quantity_step_e9),
    ):
        value = found.get(name, step)
        if value <= 0 or value % step:
            yield name, f"expected a multiple of {unit} {format_e9(step)}, was {format_e9(value)}"
    yield from _size_faults(params, found)
    low, high = found.get(ContractName.BAND_LOW, 0), found.get(ContractName.BAND_HIGH)
    if high is not None and low > high:
        yield (
            ContractName.BAND_HIGH,
            f"expected BAND_HIGH of at least BAND_LOW {format_e9(low)}, was {format_e9(high)}: {NOBODY_OUT}",
        )
    flag = found.get(ContractName.CHECK_CROSSED, 0)
    if flag not in {0, 1}:
        yield ContractName.CHECK_CROSSED, f"expected 0 or 1, was {flag}"
    collar_bp = found.get(ContractName.COLLAR_BP, 1)
    if not 1 <= collar_bp <= COLLAR_BP_MAX:
        yield ContractName.COLLAR_BP, f"expected 1 to {COLLAR_BP_MAX} basis points, was {collar_bp}"


def _size_faults(params: InstrumentParams, found: dict[ContractName, int]) -> Iterator[tuple[ContractName, str]]:
    lot = found.get(ContractName.LOT, params.lot_e9)
    least = max(lot, found.get(ContractName.QUANTITY_MIN, params.quantity_min_e9))
    for name, most in (
        (ContractName.FREEZE, found.get(ContractName.FREEZE, least)),
        (ContractName.QUANTITY_MAX, found.get(ContractName.QUANTITY_MAX, params.quantity_max_e9)),
    ):
        culprits = [n for n in (name, ContractName.LOT, ContractName.QUANTITY_MIN) if n in found]
        if most < least and culprits:
            why = f"expected {name.name} of at least the lot and QUANTITY_MIN, {format_e9(least)}"
            yield culprits[0], f"{why}, was {format_e9(most)}: {NOBODY_OUT}"
