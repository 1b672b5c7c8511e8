"""Dated parameters as people write them: one TOML file, each value with its unit, its dates and its source.

A row is (name, underlying, value, unit, effective_from, effective_to, source). On a date the row with the latest
effective_from counts, one of the underlying before one of ``"*"``. Rule: an unknown name, another unit than the name's,
two rows of one name from one date, or a row without a source is refused with its place.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.errors import ConfigError, FieldError
from protocol.units import parse_e9
from risk.portfolio.errors import RiskParamsError
from risk.portfolio.params import (
    DAY_NS,
    Contract,
    ContractKind,
    CreditSpread,
    Limit,
    LimitKind,
    Params,
    Product,
    Settlement,
    StressGrid,
)

Unit = Literal["bp", "money", "volatility", "days", "count", "yes/no", "bp by day"]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
ANY: Final = "*"
MINUTE_NS: Final = 60_000_000_000

# Name of a row → (field of Product, its unit).
NAMES: Final[dict[str, tuple[str, Unit]]] = {
    "price_scan": ("price_scan_bp", "bp"),
    "price_scan_money": ("price_scan_e9", "money"),
    "vol_scan": ("vol_scan_e9", "volatility"),
    "extreme_multiple": ("extreme_multiple", "count"),
    "extreme_cover": ("extreme_cover_bp", "bp"),
    "look_ahead": ("look_ahead_ns", "days"),
    "interest_rate": ("rate_bp", "bp"),
    "calendar_charge": ("calendar_charge_e9", "money"),
    "calendar_charge_share": ("calendar_bp", "bp"),
    "calendar_near_excluded": ("calendar_near_excluded", "yes/no"),
    "short_option_minimum": ("short_option_minimum_e9", "money"),
    "exposure": ("exposure_bp", "bp"),
    "calendar_exposure": ("calendar_exposure_bp", "bp"),
    "expiry_exposure": ("expiry_exposure_bp", "bp"),
    "ad_hoc": ("ad_hoc_bp", "bp"),
    "deep_otm": ("deep_otm_bp", "bp"),
    "deep_otm_from": ("deep_otm_from_bp", "bp"),
    "delivery_margin": ("delivery_margin_bp", "bp"),
    "delivery_share": ("delivery_bp", "bp by day"),
    "hold_to_expiry": ("hold_to_expiry", "yes/no"),
}
_KINDS: Final = {"future": ContractKind.FUTURE, "call": ContractKind.CALL, "put": ContractKind.PUT}
_SETTLEMENTS: Final = {"cash": Settlement.CASH, "delivery": Settlement.DELIVERY}


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """One value of one parameter, from a date on (and to one, included). ``underlying`` ``"*"``: of all."""

    name: str
    underlying: str
    value: str
    unit: Unit
    effective_from: dt.date
    source: Text
    effective_to: dt.date | None = None


class ContractRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One contract; prices and quantities are decimal strings, the expiry an instant with its zone."""

    instrument: Text
    underlying: Text
    kind: Literal["future", "call", "put"]
    lot: str
    expiry: dt.datetime | None = None
    strike: str = "0"
    multiplier: str = "1"
    quantity_max: str = "0"
    tick: str = "0"
    settlement: Literal["cash", "delivery"] = "cash"


class LimitRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One bound of an account and an underlying; left out = of each account, over all underlyings."""

    limit: Literal["MARGIN", "DELTA", "GAMMA", "VEGA", "STRESS"]
    value: str
    source: Text
    account: str = ""
    underlying: str = ""
    effective_from: dt.date = dt.date.min
    effective_to: dt.date | None = None


class CreditRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Inter-commodity credit between two underlyings in a ratio."""

    underlying_a: Text
    underlying_b: Text
    ratio_a: str
    ratio_b: str
    rate_bp: Annotated[int, Meta(ge=0, le=10_000)]
    source: Text


class ParamsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as a whole."""

    version: Text
    contracts: tuple[ContractRow, ...]
    rows: tuple[Row, ...]
    limits: tuple[LimitRow, ...] = ()
    credits: tuple[CreditRow, ...] = ()
    stress: StressGrid = StressGrid()
    day_offset_minutes: Annotated[int, Meta(ge=-720, le=840)] = 0
    stress_buffer_bp: Annotated[int, Meta(ge=0)] = 0
    iv_age_max_s: Annotated[int, Meta(ge=0)] = 3_600
    answer_valid_ms: Annotated[int, Meta(ge=1)] = 500
    holidays: tuple[dt.date, ...] = ()


def parse_params(content: bytes, path: str) -> ParamsFile:
    """Return the file's rows.

    Raises:
        ConfigError: With every fault found and its place.
    """
    try:
        file = msgspec.toml.decode(content, type=ParamsFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError([str(e)], path) from e
    problems = [*_problems(file)]
    if problems:
        raise ConfigError(problems, path)
    return file


def resolve(file: ParamsFile, day: dt.date) -> Params:
    """Return the parameters that hold on a date.

    Raises:
        RiskParamsError: If an underlying has no scan ranges on that date.
    """
    underlyings = sorted({c.underlying for c in file.contracts})
    return Params(
        version=f"{file.version}@{day.isoformat()}",
        contracts=tuple(_contract(c) for c in file.contracts),
        products=tuple(_product(file.rows, underlying, day) for underlying in underlyings),
        credits=tuple(
            CreditSpread(
                c.underlying_a,
                c.underlying_b,
                parse_e9(c.ratio_a, "ratio_a"),
                parse_e9(c.ratio_b, "ratio_b"),
                c.rate_bp,
            )
            for c in file.credits
        ),
        limits=tuple(
            Limit(LimitKind[row.limit], parse_e9(row.value, "value"), row.account, row.underlying)
            for row in file.limits
            if _holds(row.effective_from, row.effective_to, day)
        ),
        stress=file.stress,
        day_offset_ns=file.day_offset_minutes * MINUTE_NS,
        stress_buffer_bp=file.stress_buffer_bp,
        iv_age_max_ns=file.iv_age_max_s * 1_000_000_000,
        answer_valid_ns=file.answer_valid_ms * 1_000_000,
        holidays=tuple(d.isoformat() for d in file.holidays),
    )


def day_of(file: ParamsFile, at_ns: int) -> dt.date:
    """Return the exchange's date of an instant."""
    return dt.datetime.fromtimestamp((at_ns + file.day_offset_minutes * MINUTE_NS) // 1_000_000_000, dt.UTC).date()


def sources_of(file: ParamsFile, underlying: str, day: dt.date) -> dict[str, Row]:
    """Return the row that holds for each name of an underlying on a date."""
    found: dict[str, Row] = {}
    for row in file.rows:
        if row.underlying not in {underlying, ANY} or not _holds(row.effective_from, row.effective_to, day):
            continue
        before = found.get(row.name)
        rank = (row.underlying != ANY, row.effective_from)
        if before is None or rank > (before.underlying != ANY, before.effective_from):
            found[row.name] = row
    return found


def _problems(file: ParamsFile) -> Iterable[str]:
    seen: set[tuple[str, str, dt.date]] = set()
    for n, row in enumerate(file.rows):
        place = f"rows[{n}] {row.name} of {row.underlying}"
        if row.name not in NAMES:
            yield f"{place} expected one of {', '.join(NAMES)}, was {row.name!r}"
            continue
        if row.unit != NAMES[row.name][1]:
            yield f"{place} expected unit {NAMES[row.name][1]!r}, was {row.unit!r}"
            continue
        if (row.name, row.underlying, row.effective_from) in seen:
            yield f"{place} expected one row from {row.effective_from}, was a second"
        seen.add((row.name, row.underlying, row.effective_from))
        if row.effective_to is not None and row.effective_to < row.effective_from:
            yield f"{place} expected effective_to from {row.effective_from} on, was {row.effective_to}"
        try:
            _value(row)
        except FieldError as e:
            yield f"{place} {e}"
    underlyings = {c.underlying for c in file.contracts}
    for n, limit in enumerate(file.limits):
        needs_one = limit.limit in {"DELTA", "GAMMA", "VEGA"}
        if needs_one is not (limit.underlying in underlyings):
            expected = "an underlying of the contracts" if needs_one else "no underlying: it is over all"
            yield f"limits[{n}] {limit.limit} expected {expected}, was {limit.underlying!r}"
    for n, credit in enumerate(file.credits):
        for underlying in (credit.underlying_a, credit.underlying_b):
            if underlying not in underlyings:
                yield f"credits[{n}] expected an underlying of the contracts, was {underlying!r}"
    yield from _decimal_problems(file)


def _decimal_problems(file: ParamsFile) -> Iterable[str]:
    for n, c in enumerate(file.contracts):
        place = f"contracts[{n}] {c.instrument}"
        try:
            found = _contract(c)
        except FieldError as e:
            yield f"{place} {e}"
            continue
        if found.lot_e9 <= 0 or found.multiplier_e9 <= 0:
            yield f"{place} expected lot and multiplier above 0, was {c.lot} and {c.multiplier}"
        if c.kind != "future" and (found.strike_e9 <= 0 or c.expiry is None):
            yield f"{place} expected a strike above 0 and an expiry, was {c.strike} and {c.expiry}"
        if c.expiry is not None and c.expiry.tzinfo is None:
            yield f"{place} expected an expiry with its zone (2026-06-30T15:30:00+05:30), was {c.expiry.isoformat()}"
    texts = [(f"limits[{n}].value", limit.value) for n, limit in enumerate(file.limits)]
    texts += [(f"credits[{n}].ratio", ratio) for n, c in enumerate(file.credits) for ratio in (c.ratio_a, c.ratio_b)]
    for place, text in texts:
        try:
            if parse_e9(text, place) <= 0:
                yield f"{place} expected a value above 0, was {text}"
        except FieldError as e:
            yield str(e)


def _contract(row: ContractRow) -> Contract:
    expiry_ns = 0 if row.expiry is None else int(row.expiry.timestamp()) * 1_000_000_000
    return Contract(
        row.instrument, row.underlying, _KINDS[row.kind], parse_e9(row.lot, "lot"), expiry_ns,
        parse_e9(row.strike, "strike"), parse_e9(row.multiplier, "multiplier"),
        parse_e9(row.quantity_max, "quantity_max"), parse_e9(row.tick, "tick"), _SETTLEMENTS[row.settlement],
    )  # fmt: skip


def _product(rows: tuple[Row, ...], underlying: str, day: dt.date) -> Product:
    file = ParamsFile("", (), rows)
    values = {NAMES[name][0]: _value(row) for name, row in sources_of(file, underlying, day).items()}
    product: Product = msgspec.convert({"underlying": underlying, **values}, Product)
    if not (product.price_scan_bp or product.price_scan_e9) or not product.vol_scan_e9:
        raise RiskParamsError(
            f"{underlying} on {day.isoformat()}", "rows price_scan and vol_scan", "none that holds then", "add its rows"
        )
    return product


def _value(row: Row) -> int | bool | tuple[int, ...]:
    """Return a row's value in the unit of its field; raises FieldError."""
    if row.unit == "yes/no":
        if row.value not in {"yes", "no"}:
            raise FieldError("value", row.value, '"yes" or "no"')
        return row.value == "yes"
    if row.unit == "bp by day":
        return tuple(_whole(part) for part in row.value.split())
    if row.unit in {"bp", "count"}:
        return _whole(row.value)
    exact = parse_e9(row.value, "value")
    if exact < 0:
        raise FieldError("value", row.value, "at least 0")
    return exact * DAY_NS // 1_000_000_000 if row.unit == "days" else exact


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII):
        raise FieldError("value", text, "a whole number of at least 0")
    return int(text)


def _holds(first: dt.date, last: dt.date | None, day: dt.date) -> bool:
    return first <= day and (last is None or day <= last)
