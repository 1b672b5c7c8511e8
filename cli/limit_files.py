"""Reads rows of risk parameters: a limits file, presets, what a configuration says; every fault with file and line.

Rules: a file is taken whole or refused whole. A preset holds cited rows only; what it lacks is said (``INCOMPLETE``),
never guessed. A contract row of the file takes the place of the preset's rows of the same name, scope and key; beside a
preset's limit no second one of the same scope may stand, for it would never bind or the preset never would.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct, structs

from cli.limit_exits import resolution_faults
from cli.limit_rows import ContractRow, HoursRow, LimitRow, LimitsFile, RestrictionRow
from cli.limit_rules import Known, instruments_of, limit_faults, of_known, overlaps
from cli.limit_wire import to_risk_rows
from cli.settings import WojakConfig
from protocol.errors import ConfigError
from protocol.risk_rows import ROWS_MAX, RiskRows
from runtime.config import convert, read_text
from runtime.toml_lines import TomlLines

PRESETS: Final = ("crypto-perp", "nse-fo")
TABLES: Final[dict[str, type[Struct]]] = {
    "limits": LimitRow,
    "contracts": ContractRow,
    "hours": HoursRow,
    "restrictions": RestrictionRow,
}


class MissingRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What a preset has no row for, and why."""

    what: str
    why: str


class Preset(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that come with Wojak, for contracts in one currency; their sources were read last on ``checked_on``."""

    title: str
    currency: str
    checked_on: dt.date
    limits: tuple[LimitRow, ...] = ()
    contracts: tuple[ContractRow, ...] = ()
    missing: tuple[MissingRow, ...] = ()


class Rows(NamedTuple):
    """Rows that were checked as a whole: the file's and its presets'. ``incomplete``: what the presets lack."""

    file: LimitsFile
    incomplete: tuple[str, ...] = ()

    @property
    def wire(self) -> RiskRows:
        """The rows as the engine takes them."""
        return to_risk_rows(self.file)


def known_to(config: WojakConfig, venues: Sequence[str]) -> Known:
    """Return what rows may name in a configuration."""
    return Known(
        {r.account: r.currency for r in config.accounts},
        frozenset(r.strategy for r in config.strategies),
        {r.instrument: r for r in config.instruments},
        tuple(venues),
    )


def own_rows(config: WojakConfig) -> LimitsFile:
    """Return the rows that stand in the configuration itself."""
    return LimitsFile(config.risk.presets, config.limits, config.contracts, config.hours, config.restrictions)


def configured_rows(config: WojakConfig, path: Path, known: Known) -> Rows:
    """Return the rows that a configuration says: its own or those of the file it names, and of presets.

    Raises:
        ConfigError: Naming every fault, its file and line.
    """
    if config.risk.limits_file:
        return read_limits(path.parent / config.risk.limits_file, known)
    file = own_rows(config)
    faults = rows_faults(file, known)
    if faults:
        raise ConfigError(faults, str(path), TomlLines(read_text(path)).of_faults(faults))
    return with_presets(file, known)


def read_limits(path: Path, known: Known) -> Rows:
    """Return the rows of a limits file and its presets.

    Raises:
        ConfigError: Naming every fault, its file and line.
    """
    text = read_text(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError([f"expected TOML: {e}"], str(path)) from e
    file, faults = _decoded(raw, str(path))
    if not faults:
        faults = rows_faults(file, known)
    if faults:
        raise ConfigError(faults, str(path), TomlLines(text).of_faults(faults))
    return with_presets(file, known)


def _decoded(raw: dict[str, Any], path: str) -> tuple[LimitsFile, list[str]]:
    """Return the file, and a fault for each row that is none: row by row, so that none hides another."""
    faults: list[str] = []
    tables: dict[str, tuple[Struct, ...]] = {}
    for key, value in raw.items():
        kind = TABLES.get(key)
        if kind is None and key != "presets":
            faults.append(f"{key}: unknown key; expected one of presets, {', '.join(TABLES)}")
        elif kind is None or not isinstance(value, list):
            faults += _faults_of({key: value}, LimitsFile, path)
        else:
            rows = [(_faults_of(row, kind, path), row) for row in value]
            faults += [f"{key}[{n}]{'' if f.startswith('file:') else '.'}{f.removeprefix('file')}"
                       for n, (found, _) in enumerate(rows) for f in found]  # fmt: skip
            tables[key] = tuple(convert(row, kind, path) for found, row in rows if not found)
    if faults:
        return LimitsFile(), faults
    return structs.replace(convert({"presets": raw.get("presets", [])}, LimitsFile, path), **tables), []


def _faults_of(raw: object, kind: type[Struct], path: str) -> list[str]:
    try:
        convert(raw, kind, path)
    except ConfigError as e:
        return list(e.problems)
    return []


def rows_faults(file: LimitsFile, known: Known) -> list[str]:
    """Return every fault of rows: each by itself, beside the others, beside the presets."""
    count = len(file.limits) + len(file.contracts) + len(file.hours) + len(file.restrictions)
    if count > ROWS_MAX:
        return [f"limits: expected at most {ROWS_MAX} rows in all, was {count}"]
    faults = list(limit_faults(file, known))
    faults += [f for n, name in enumerate(file.presets) for f in of_known(f"presets[{n}]", name, PRESETS)]
    if not faults:
        faults = list(resolution_faults(with_presets(file, known).file, known))
        faults += _beside_presets(file)
    return faults


def _beside_presets(file: LimitsFile) -> list[str]:
    """Return a fault for each limit that a preset has too: of two rows of one scope only one would ever bind."""
    faults: list[str] = []
    names = [f"limits[{n}]" for n in range(len(file.limits))]
    rows = list(file.limits)
    for place, name in enumerate(file.presets):
        given = preset(name).limits
        both = [*given, *rows]
        found = overlaps(both, [(r.limit, r.scope, r.key) for r in both])
        faults += [
            f"{names[n - len(given)]}: expected no row for {said} on trading dates for which preset {name} has one, "
            f"was one {period}; put it at an account or a strategy, where the tighter of both binds"
            for n, other, said, period in found
            if n >= len(given) > other
        ]
        rows += given
        names += [f"presets[{place}]"] * len(given)
    return faults


def preset(name: str) -> Preset:
    """Return the rows that come under a name."""
    resource = resources.files("cli") / "presets" / f"{name}.toml"
    return convert(tomllib.loads(resource.read_text("utf-8")), Preset, f"preset {name}")


def with_presets(file: LimitsFile, known: Known) -> Rows:
    """Return the rows with those of its presets that this deployment has something for, and what they lack."""
    incomplete: list[str] = []
    for name in dict.fromkeys(file.presets):
        given = preset(name)
        own = {(r.parameter, r.scope, r.key) for r in file.contracts}
        rows = [r for r in given.contracts if (r.parameter, r.scope, r.key) not in own]
        foreign = [r for r in rows if not _is_about(r, given.currency, known)]
        file = structs.replace(
            file,
            limits=(*file.limits, *given.limits),
            contracts=(*file.contracts, *(r for r in rows if r not in foreign and _is_here(r, known))),
        )
        incomplete += [f"INCOMPLETE: preset {name} has no row for {m.what}: {m.why}" for m in given.missing]
        incomplete += [
            f"INCOMPLETE: preset {name}: {r.parameter} of {r.scope} {r.key} is left out, for it is about contracts in "
            f"{given.currency}, and others are among them here; write rows of your own"
            for r in foreign
        ]
    return Rows(file, tuple(incomplete))


def _is_here(row: ContractRow, known: Known) -> bool:
    return row.scope == "global" or row.key in known.keys(row.scope)


def _is_about(row: ContractRow, currency: str, known: Known) -> bool:
    return all(r.currency == currency for r in instruments_of(row.scope, row.key, known))


def over_on(file: LimitsFile, date: dt.date) -> list[str]:
    """Return a line for each contract parameter whose last cited row is over on a trading date, with none after it."""
    last: dict[tuple[str, str, str], ContractRow] = {}
    for row in file.contracts:
        known = last.get((row.parameter, row.scope, row.key))
        if known is None or (known.effective_to and (not row.effective_to or row.effective_to > known.effective_to)):
            last[row.parameter, row.scope, row.key] = row
    return [
        f"INCOMPLETE: {row.parameter} of {row.scope} {row.key} has no row on {date}: the last one ends "
        f"{row.effective_to}; add what holds since"
        for row in last.values()
        if row.effective_to and row.effective_to < date
    ]
