"""Rows of risk parameters as files have them: ``wojak.toml`` and a limits file alike. What they mean: ``limit_rules``.

Rule: every row can say from when to when it counts (trading dates, both included), its unit, who says so and in which
version. Money, prices and quantities are decimal strings, counts and basis points whole numbers, durations whole
milliseconds.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from msgspec import Meta, Struct

LimitKind = Literal[
    "ORDER_VALUE_MAX", "OPEN_VALUE_MAX", "POSITION_MAX", "OPEN_COUNT_MAX", "RATE_COUNT", "QUANTITY_MAX",
    "DAILY_COUNT_MAX", "GROSS_MAX", "NET_MAX", "UNDERLYING_MAX", "CONCENTRATION_MAX_BP", "DAILY_LOSS_MAX",
    "DRAWDOWN_MAX", "DUPLICATE_COUNT", "INTENT_COUNT", "REJECT_COUNT", "GLOBAL_RATE_COUNT", "VENUE_RATE_COUNT",
    "MESSAGE_RATIO_MAX", "EXECUTION_COUNT", "MARGIN_USED_MAX_BP",
    "CHURN_COUNT", "CHURN_RATIO", "REJECT_SHARE_BP", "REJECT_SHARE_ORDERS", "MESSAGE_FLOOR", "CLOCK_OFFSET_MAX_US",
    "CLOCK_AGE_MAX_MS",
]  # fmt: skip
ContractKind = Literal[
    "TICK", "LOT", "QUANTITY_MIN", "QUANTITY_MAX", "COLLAR_BP", "COLLAR_SOFT_BP", "FREEZE", "BAND_LOW", "BAND_HIGH",
    "LPP_BREAK", "LPP_ABSOLUTE", "LPP_BP", "ORDER_VALUE_MIN", "MARGIN_LONG", "MARGIN_SHORT", "MARGIN_CALENDAR",
    "EXPOSURE_LONG", "EXPOSURE_SHORT", "DELTA_BP", "CUTOFF_BUY_MS", "CUTOFF_SELL_MS", "OTR_BP", "OTR_ABSOLUTE",
    "CHECK_CROSSED",
]  # fmt: skip
Short = Annotated[str, Meta(max_length=255)]
Day = dt.date | None


class LimitRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One risk limit. Every scope with a row is checked, the tightest binds.

    Attributes:
        limit: Which limit.
        value: The hard value: decimal string for money and quantities, whole number for counts and basis points.
        scope: What it applies to; ``key`` names it and is empty for ``global``.
        window_ms: Of limits that count within a time: at most ``value`` in any interval of this length.
        reserve_exit: RATE_COUNT only: so many more for exits.
        value_max: The loosest value that `wojak limits set` and `apply` may set while the engine runs; absent = any.
        soft: Above it an order goes to the portfolio risk service where that route exists; absent = none.
        effective_from: First trading date it counts on, yyyy-mm-dd without quotes; absent = ever since.
        effective_to: Last one; absent = until further notice.
        unit: What ``value`` counts, checked against the limit: a currency, ``units``, ``orders``, ``bp``, …
        source: Who says so: a circular, a decision, with its date.
        version: Of that source.
    """

    limit: LimitKind
    value: str | int
    scope: Literal["global", "account", "strategy", "instrument", "underlying", "venue"] = "global"
    key: str = ""
    window_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    reserve_exit: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    value_max: str | int | None = None
    soft: str | int | None = None
    effective_from: Day = None
    effective_to: Day = None
    unit: Short = ""
    source: Short = ""
    version: Short = ""


class ContractRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One contract parameter. The most specific scope with a row wins: instrument, underlying, class, venue, global.

    Attributes:
        parameter: Which parameter.
        value: Decimal string for prices, quantities and money, whole number for basis points and milliseconds.
        scope: What it applies to; ``key`` names it and is empty for ``global``.
        effective_from: First trading date it counts on, yyyy-mm-dd without quotes; absent = ever since.
        effective_to: Last one; absent = until further notice.
        unit: What ``value`` counts, checked against the parameter: a currency, ``units``, ``bp``, ``ms``.
        source: Who says so: a circular, a contract file, with its date.
        version: Of that source.
    """

    parameter: ContractKind
    value: str | int
    scope: Literal["global", "venue", "class", "underlying", "instrument"]
    key: str = ""
    effective_from: Day = None
    effective_to: Day = None
    unit: Short = ""
    source: Short = ""
    version: Short = ""


class HoursRow(Struct, frozen=True, forbid_unknown_fields=True):
    """When a venue takes orders (SESSION_CLOSED); absent = always.

    Attributes:
        venue: Its name.
        open: HH:MM of the venue's own clock; orders are taken from then on.
        close: HH:MM from which none is; equal to ``open`` = around the clock.
        utc_offset_min: Its clock minus UTC, in minutes: 330 for India.
        weekdays: Trading days, of mon tue wed thu fri sat sun.
        holidays: Dates without a session.
        needs_algo_id: Each order needs its strategy's ``algo_id``.
        effective_from: First trading date it counts on, yyyy-mm-dd without quotes; absent = ever since.
        effective_to: Last one; absent = until further notice.
        source: Who says so.
        version: Of that source.
    """

    venue: str
    open: str = "00:00"
    close: str = "00:00"
    utc_offset_min: Annotated[int, Meta(ge=-840, le=840)] = 0
    weekdays: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    holidays: tuple[dt.date, ...] = ()
    needs_algo_id: bool = False
    effective_from: Day = None
    effective_to: Day = None
    source: Short = ""
    version: Short = ""


class RestrictionRow(Struct, frozen=True, forbid_unknown_fields=True):
    """An instrument, or all of an underlying, that may not be traded, or be exited only.

    Attributes:
        restriction: ``no-orders``: INSTR_RESTRICTED; ``exits-only``: INSTR_BAN_REDUCE_ONLY.
        instrument: This one; or
        underlying: all of this one.
        account: For this account only; empty = for all.
        strategy: For this strategy only; empty = for all.
        exits: Whether exits pass ``no-orders``.
        effective_from: First trading date it counts on, yyyy-mm-dd without quotes; absent = ever since.
        effective_to: Last one; absent = until further notice.
        source: Who says so.
        version: Of that source.
    """

    restriction: Literal["no-orders", "exits-only"]
    instrument: str = ""
    underlying: str = ""
    account: str = ""
    strategy: str = ""
    exits: bool = True
    effective_from: Day = None
    effective_to: Day = None
    source: Short = ""
    version: Short = ""


class RiskSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Where limits come from, besides the rows in this file.

    Attributes:
        presets: Rows that come with Wojak, cited ones only: ``nse-fo``, ``crypto-perp``.
        limits_file: A file that holds ``presets`` and the tables ``limits``, ``contracts``, ``hours`` and
            ``restrictions`` instead of this one; relative to it.
    """

    presets: tuple[str, ...] = ()
    limits_file: str = ""


class LimitsFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of rows, named by ``risk.limits_file``, or given to `wojak limits check`, `diff` and `apply`."""

    presets: tuple[str, ...] = ()
    limits: tuple[LimitRow, ...] = ()
    contracts: tuple[ContractRow, ...] = ()
    hours: tuple[HoursRow, ...] = ()
    restrictions: tuple[RestrictionRow, ...] = ()
