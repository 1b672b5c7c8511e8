"""What a row of risk parameters has to keep, by itself and beside the others: every fault one line.

Rules: a value is in the unit that its limit counts; rows of one limit at one scope never overlap in time, so that each
trading date has one; none may shut the way out: a rate, a size or a price band that no exit could pass is refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from cli.limit_rows import ContractRow, HoursRow, LimitRow, LimitsFile, RestrictionRow
from market.instruments import InstrumentRow
from protocol.contract_rows import ContractClass, ContractName
from protocol.errors import ConfigError, FieldError
from protocol.params import COUNTED, WINDOWED, LimitName
from protocol.units import parse_e9
from risk.gate.catalogue import CHECKED_CONTRACTS, CHECKED_LIMITS
from risk.gate.row_rules import ANYWHERE, BINDS_EXITS, NOBODY_OUT, RESERVED, SCOPES, SOFT

MONEY: Final = "money"
UNITS: Final = "units"
FLAG: Final = "0 or 1"
RATIO_UNITS: Final = {
    LimitName.CONCENTRATION_MAX_BP: "bp",
    LimitName.MARGIN_USED_MAX_BP: "bp",
    LimitName.MESSAGE_RATIO_MAX: "messages a trade",
    LimitName.REJECT_COUNT: "rejections",
    LimitName.EXECUTION_COUNT: "fills",
    LimitName.MESSAGE_FLOOR: "messages",
    LimitName.CLOCK_OFFSET_MAX_US: "us",
    LimitName.CLOCK_AGE_MAX_MS: "ms",
    LimitName.CHURN_COUNT: "fills",
    LimitName.CHURN_RATIO: "times",
    LimitName.REJECT_SHARE_BP: "bp",
}
QUANTITIES: Final = frozenset(
    {LimitName.POSITION_MAX, LimitName.QUANTITY_MAX, LimitName.NET_MAX, LimitName.UNDERLYING_MAX}
)
CONTRACT_UNITS: Final = {
    ContractName.LOT: UNITS, ContractName.QUANTITY_MIN: UNITS, ContractName.QUANTITY_MAX: UNITS,
    ContractName.FREEZE: UNITS, ContractName.COLLAR_BP: "bp", ContractName.COLLAR_SOFT_BP: "bp",
    ContractName.OTR_BP: "bp", ContractName.CHECK_CROSSED: FLAG,
    ContractName.LPP_BP: "bp", ContractName.DELTA_BP: "bp", ContractName.CUTOFF_BUY_NS: "ms",
    ContractName.CUTOFF_SELL_NS: "ms",
}  # fmt: skip
"""Units of contract parameters; the others are money: prices and amounts in the instrument's currency."""

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIRST, LAST = dt.date.min, dt.date.max

Dated = LimitRow | ContractRow | HoursRow | RestrictionRow


class Known(NamedTuple):
    """What rows may name. ``currencies``: of each account; ``instruments``: as the configuration has them."""

    currencies: dict[str, str]
    strategies: frozenset[str]
    instruments: dict[str, InstrumentRow]
    venues: tuple[str, ...]

    @property
    def underlyings(self) -> frozenset[str]:
        """The underlyings that an instrument has."""
        return frozenset(row.underlying for row in self.instruments.values()) - {""}

    def keys(self, scope: str) -> Iterable[str]:
        """Return what a key of this scope may be."""
        return {
            "account": self.currencies,
            "strategy": self.strategies,
            "instrument": self.instruments,
            "underlying": self.underlyings,
            "venue": self.venues,
            "class": [c.name.lower() for c in ContractClass if c],
        }[scope]


def limit_faults(file: LimitsFile, known: Known) -> Iterator[str]:
    """Yield every fault of the rows."""
    for n, row in enumerate(file.limits):
        yield from _limit(f"limits[{n}]", row, known)
    for n, contract in enumerate(file.contracts):
        yield from _contract(f"contracts[{n}]", contract, known)
    for n, hours in enumerate(file.hours):
        yield from _hours(f"hours[{n}]", hours, known)
    for n, restriction in enumerate(file.restrictions):
        yield from _restriction(f"restrictions[{n}]", restriction, known)
    yield from _overlap_faults("limits", file.limits, [(r.limit, r.scope, r.key) for r in file.limits])
    yield from _overlap_faults("contracts", file.contracts, [(r.parameter, r.scope, r.key) for r in file.contracts])
    yield from _overlap_faults("hours", file.hours, [(r.venue,) for r in file.hours])


def of_known(what: str, name: str, known: Iterable[str]) -> Iterator[str]:
    """Yield a fault if a name is none of the known ones."""
    names = sorted(set(known))
    if name not in names:
        yield f"{what}: expected one of {', '.join(names) or 'none configured'}, was {name!r}"


def scopes_of(name: LimitName) -> tuple[str, ...]:
    """Return the scopes at which a limit is read, as files name them."""
    return tuple(scope.name.lower() for scope in SCOPES.get(name, ANYWHERE))


def limit_unit(name: LimitName) -> str:
    """Return what the values of a limit count; ``money`` stands for a currency."""
    if name in QUANTITIES:
        return UNITS
    if name in COUNTED:
        return RATIO_UNITS.get(name, "orders")
    return MONEY


def _limit(at: str, row: LimitRow, known: Known) -> Iterator[str]:
    name = LimitName[row.limit]
    scopes = scopes_of(name)
    if row.scope not in scopes:
        yield f"{at}.scope: expected {_listed(scopes)} for {row.limit}, was {row.scope!r}"
    yield from _key(at, row.scope, row.key, known)
    yield from _dates(at, row)
    if name not in CHECKED_LIMITS:
        yield f"{at}.limit: expected one that a check of this release reads, was {row.limit!r}"
    values = {"value": row.value, "soft": row.soft, "value_max": row.value_max}
    stated = {field: value for field, value in values.items() if value is not None}
    faults = [f for field, value in stated.items() for f in _value(f"{at}.{field}", row.limit, value, name in COUNTED)]
    yield from faults
    yield from _unit(at, row.unit, limit_unit(name), _currencies(row.scope, row.key, known))
    if not faults:
        yield from _order_of_values(at, row)
        yield from _way_out(at, row, name)
    if row.soft is not None and name not in SOFT:
        yield f"{at}.soft: expected only with {_listed(sorted(n.name for n in SOFT))}, was {row.limit}; remove it"
    if name in WINDOWED and row.window_ms == 0:
        yield f"{at}.window_ms: expected the interval that {row.limit} counts in, in ms, was 0"
    if name not in WINDOWED and row.window_ms:
        yield f"{at}.window_ms: expected only with a limit that counts within a time, was {row.limit}; remove it"
    if name not in RESERVED and row.reserve_exit:
        those = _listed(sorted(n.name for n in RESERVED))
        yield f"{at}.reserve_exit: expected only with {those}, was {row.limit}; remove it"


def _order_of_values(at: str, row: LimitRow) -> Iterator[str]:
    if row.value_max is not None and exact_value(row.value) > exact_value(row.value_max):
        yield f"{at}.value_max: expected at least the value ({row.value}), was {row.value_max!r}"
    if row.soft is not None and exact_value(row.soft) > exact_value(row.value):
        yield f"{at}.soft: expected at most the value ({row.value}), was {row.soft!r}"


def _way_out(at: str, row: LimitRow, name: LimitName) -> Iterator[str]:
    if name in BINDS_EXITS and exact_value(row.value) + row.reserve_exit == 0:
        yield (
            f"{at}.value: expected at least 1, or a reserve_exit, was 0: {row.limit} binds exits too, "
            f"{NOBODY_OUT}; to stop new risk: wojak reduce-only"
        )


def _value(where: str, name: str, value: str | int, is_counted: bool) -> Iterator[str]:
    if is_counted:
        if not isinstance(value, int) or value < 0:
            yield f"{where}: expected a whole number for {name}, was {value!r}"
    elif not isinstance(value, str):
        yield f'{where}: expected a decimal string such as "5.00" for {name}, was {value!r}'
    else:
        try:
            if parse_e9(value, "value") < 0:
                yield f"{where}: expected a value of at least 0, was {value!r}"
        except FieldError as e:
            yield f"{where}: expected {e.expected}, was {e.value!r}"


def exact_value(value: str | int) -> int:
    """Return a value that was checked in exact integers: 1e-9, or the plain number."""
    return value if isinstance(value, int) else parse_e9(value, "value")


def _unit(at: str, unit: str, expected: str, currencies: frozenset[str]) -> Iterator[str]:
    if not unit:
        return
    if expected != MONEY:
        if unit != expected:
            yield f"{at}.unit: expected {expected!r}, was {unit!r}"
    elif currencies != {unit}:
        said = f"{_listed(sorted(currencies))}, in which it is counted" if currencies else "the currency it counts"
        yield f"{at}.unit: expected {said}, was {unit!r}"


def _currencies(scope: str, key: str, known: Known) -> frozenset[str]:
    """Return the currencies that money of this scope is counted in."""
    if scope == "account":
        return frozenset({known.currencies[key]}) if key in known.currencies else frozenset()
    if scope in {"instrument", "underlying", "venue", "class"}:
        return frozenset(row.currency for row in instruments_of(scope, key, known))
    return frozenset(known.currencies.values())


def instruments_of(scope: str, key: str, known: Known) -> list[InstrumentRow]:
    """Return the instruments that a contract row is about."""
    rows = known.instruments.values()
    match scope:
        case "instrument":
            return [r for r in rows if r.instrument == key]
        case "underlying":
            return [r for r in rows if r.underlying == key]
        case "venue":
            return [r for r in rows if r.venue == key]
        case "class":
            return [r for r in rows if r.contract_class == key]
        case _:
            return list(rows)


def _key(at: str, scope: str, key: str, known: Known) -> Iterator[str]:
    if scope != "global":
        yield from of_known(f"{at}.key", key, known.keys(scope))
    elif key:
        yield f'{at}.key: expected "" for scope global, was {key!r}'


def _dates(at: str, row: Dated) -> Iterator[str]:
    if row.effective_from and row.effective_to and row.effective_to < row.effective_from:
        yield f"{at}.effective_to: expected {row.effective_from} or later, was {row.effective_to}"


def _overlap_faults(table: str, rows: Sequence[Dated], names: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for n, other, said, period in overlaps(rows, names):
        yield (
            f"{table}[{n}]: expected one row for {said} on each trading date, was {table}[{other}] too, {period}; "
            "end the one the day before the other begins"
        )


def overlaps(rows: Sequence[Dated], names: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, int, str, str]]:
    """Yield (row, earlier row, what both say, when) for rows of one name that count on one date."""
    seen: dict[tuple[str, ...], list[tuple[int, Dated]]] = {}
    for n, (row, name) in enumerate(zip(rows, names, strict=True)):
        for other, before in seen.setdefault(name, []):
            first, last = max(_first(row), _first(before)), min(_last(row), _last(before))
            if first <= last:
                yield n, other, " ".join(part for part in name if part), _period(first, last)
        seen[name].append((n, row))


def _first(row: Dated) -> dt.date:
    return row.effective_from or FIRST


def _last(row: Dated) -> dt.date:
    return row.effective_to or LAST


def _period(first: dt.date, last: dt.date) -> str:
    begins = "from the start" if first == FIRST else f"from {first}"
    return f"{begins} on" if last == LAST else f"{begins} to {last}"


def _contract(at: str, row: ContractRow, known: Known) -> Iterator[str]:
    name = contract_name(row.parameter)
    yield from _key(at, row.scope, row.key, known)
    yield from _dates(at, row)
    if name not in CHECKED_CONTRACTS:
        yield f"{at}.parameter: expected one that a check of this release reads, was {row.parameter!r}"
    is_whole = CONTRACT_UNITS.get(name) in {"bp", "ms", FLAG}
    if is_whole and name is ContractName.DELTA_BP:
        faults = [] if isinstance(row.value, int) else [f"{at}.value: expected a whole number, was {row.value!r}"]
    else:
        faults = list(_value(f"{at}.value", row.parameter, row.value, is_whole))
    yield from faults
    yield from _unit(at, row.unit, CONTRACT_UNITS.get(name, MONEY), _currencies(row.scope, row.key, known))


def contract_name(parameter: str) -> ContractName:
    """Return the parameter that a file's name means: durations are milliseconds there."""
    return ContractName[f"{parameter.removesuffix('_MS')}_NS" if parameter.endswith("_MS") else parameter]


def _hours(at: str, row: HoursRow, known: Known) -> Iterator[str]:
    yield from of_known(f"{at}.venue", row.venue, known.venues)
    yield from _dates(at, row)
    minutes = [minutes_of(text) for text in (row.open, row.close)]
    for field, text, minute in zip(("open", "close"), (row.open, row.close), minutes, strict=True):
        if minute is None:
            yield f"{at}.{field}: expected HH:MM, was {text!r}"
    if None not in minutes and row.open > row.close:
        yield f"{at}.close: expected {row.open} or later, was {row.close!r}; hours over midnight can't be said"
    for day in row.weekdays:
        yield from of_known(f"{at}.weekdays", day, WEEKDAYS)


def minutes_of(text: str) -> int | None:
    """Return HH:MM in minutes; None if it is no time of day. 24:00 is the end of it."""
    hours, colon, minutes = text.partition(":")
    if len(text) != 5 or not colon or not (hours + minutes).isdecimal() or not text.isascii():
        return None
    total = int(hours) * 60 + int(minutes)
    return total if int(minutes) < 60 and total <= 24 * 60 else None


def _restriction(at: str, row: RestrictionRow, known: Known) -> Iterator[str]:
    yield from _dates(at, row)
    if bool(row.instrument) == bool(row.underlying):
        yield f"{at}: expected either instrument or underlying, was {'both' if row.instrument else 'neither'}"
    for field, name in (("instrument", row.instrument), ("underlying", row.underlying), ("account", row.account),
                        ("strategy", row.strategy)):  # fmt: skip
        if name:
            yield from of_known(f"{at}.{field}", name, known.keys(field))
    if not row.exits and row.restriction == "exits-only":
        yield f"{at}.exits: expected true with exits-only, was false"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{n}"' for n in names)


def refuse(faults: Sequence[str], path: str) -> None:
    """Raise what was found, if anything was.

    Raises:
        ConfigError: With every fault.
    """
    if faults:
        raise ConfigError(faults, path)
