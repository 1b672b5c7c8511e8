"""Dated rows of contract parameters, trading hours and restrictions (RISK.md A8), and how they resolve on a date.

A row counts on trading dates from ``effective_from`` to ``effective_to``, both included, yyyymmdd; 0 = unbounded.
Rule: of the rows of one parameter the most specific scope wins (DECISIONS 34: instrument, underlying, class, venue,
global), within a scope the latest ``effective_from``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from msgspec import Struct

NS_PER_S: Final = 1_000_000_000
ALL_DAYS: Final = 0b1111111


class ContractClass(IntEnum):
    """What kind of contract an instrument is; NONE = not said, and no rule of a class holds for it."""

    NONE = 0
    EQUITY = 1
    INDEX_FUTURE = 2
    STOCK_FUTURE = 3
    CALL = 4
    PUT = 5
    SPOT = 6
    PERPETUAL = 7

    @property
    def is_option(self) -> bool:
        """Whether it is bought for a premium."""
        return self in OPTIONS

    @property
    def is_owned(self) -> bool:
        """Whether a sale needs what is held: cash equity and spot."""
        return self in OWNED


OPTIONS: Final = frozenset({ContractClass.CALL, ContractClass.PUT})
OWNED: Final = frozenset({ContractClass.EQUITY, ContractClass.SPOT})


class ContractScope(IntEnum):
    """What a contract row applies to; the higher number is the more specific one."""

    GLOBAL = 0
    VENUE = 1
    CLASS = 2  # key: the name of a ContractClass
    UNDERLYING = 3
    INSTRUMENT = 4


class ContractName(IntEnum):
    """Contract parameters (RISK.md A8). Prices, quantities, money in 1e-9; ``_BP`` in basis points; ``_NS`` in ns."""

    TICK = 1
    LOT = 2
    QUANTITY_MIN = 3
    QUANTITY_MAX = 4
    COLLAR_BP = 5
    COLLAR_SOFT_BP = 6
    FREEZE = 7  # the largest quantity of one order: QTY_FREEZE refuses more
    BAND_LOW = 8  # the exchange's price band of the day
    BAND_HIGH = 9
    LPP_BREAK = 10  # limit-price protection: up to this reference LPP_ABSOLUTE, above it LPP_BP of the reference
    LPP_ABSOLUTE = 11
    LPP_BP = 12
    ORDER_VALUE_MIN = 13
    MARGIN_LONG = 14  # money a lot, initial margin of the worst-case long position (DECISIONS 35)
    MARGIN_SHORT = 15
    MARGIN_CALENDAR = 16  # money a lot more, for the calendar charge that an order may cause
    EXPOSURE_LONG = 17  # money a unit of quantity 1: the weight of the worst-case long position (RISK.md A1)
    EXPOSURE_SHORT = 18
    DELTA_BP = 19  # of one long unit in units of the underlying; negative for puts; absent = 1
    CUTOFF_BUY_NS = 20  # before expiry: new risk on that side is refused from then on
    CUTOFF_SELL_NS = 21
    OTR_BP = 31  # so near to the last price messages do not count for RATIO_OTR; the wider of both
    OTR_ABSOLUTE = 32
    CHECK_CROSSED = 33  # 1: a reference of a book whose bid is not below its ask is REF_SUSPECT; 0: it is as any


class ContractRow(Struct, array_like=True, frozen=True):
    """One contract parameter. ``source``: who says so (circular, page, date); ``version``: of the file it came from."""

    name: ContractName
    scope: ContractScope
    key: str
    value: int
    effective_from: int = 0
    effective_to: int = 0
    source: str = ""
    version: str = ""


class VenueRow(Struct, array_like=True, frozen=True):
    """A venue's trading hours on its own clock; two rows of one venue: the latest ``effective_from`` wins.

    Attributes:
        open_ns: From the local midnight of the trading date; orders are taken from then on.
        close_ns: Likewise; from then on none is. 0 = around the clock.
        utc_offset_ns: Local time minus UTC.
        days: Bit n: trading dates of weekday n (0 = Monday) are trading days.
        holidays: Trading dates without a session.
        needs_algo_id: Each order needs its strategy's ``algo_id``.
    """

    venue: str
    open_ns: int = 0
    close_ns: int = 0
    utc_offset_ns: int = 0
    days: int = ALL_DAYS
    holidays: tuple[int, ...] = ()
    needs_algo_id: bool = False
    effective_from: int = 0
    effective_to: int = 0
    source: str = ""
    version: str = ""

    def hours_on(self, trading_date: int) -> tuple[int, int] | None:
        """Return from and until when orders are taken, UTC nanoseconds; both 0 = no session; None = always."""
        midnight = dt.datetime.strptime(str(trading_date), "%Y%m%d").replace(tzinfo=dt.UTC)
        if trading_date in self.holidays or not self.days >> midnight.weekday() & 1:
            return 0, 0
        if not self.close_ns:
            return None
        start_ns = int(midnight.timestamp()) * NS_PER_S - self.utc_offset_ns
        return start_ns + self.open_ns, start_ns + self.close_ns


class RestrictionKind(IntEnum):
    """What a restriction forbids."""

    NO_ORDERS = 1  # INSTR_RESTRICTED; exits pass with ``exits``
    EXITS_ONLY = 2  # INSTR_BAN_REDUCE_ONLY: the exchange's ban list


class RestrictionRow(Struct, array_like=True, frozen=True):
    """An instrument, or all of an underlying, that may not be traded, or be exited only.

    ``account`` or ``strategy`` empty = all of them.
    """

    kind: RestrictionKind
    instrument: str = ""
    underlying: str = ""
    account: str = ""
    strategy: str = ""
    exits: bool = True
    effective_from: int = 0
    effective_to: int = 0
    source: str = ""
    version: str = ""


def counts_on(effective_from: int, effective_to: int, trading_date: int) -> bool:
    """Whether a row with these dates counts on a trading date; 0 = unbounded."""
    return effective_from <= trading_date and not 0 < effective_to < trading_date


def resolve_contract(
    rows: Iterable[ContractRow], trading_date: int, *, venue: str, contract_class: ContractClass, underlying: str,
    instrument: str,
) -> dict[ContractName, ContractRow]:  # fmt: skip
    """Return the row that holds for each parameter of one instrument on a trading date."""
    own = {
        ContractScope.GLOBAL: "",
        ContractScope.VENUE: venue,
        ContractScope.CLASS: contract_class.name,
        ContractScope.UNDERLYING: underlying,
        ContractScope.INSTRUMENT: instrument,
    }
    found: dict[ContractName, ContractRow] = {}
    for row in rows:
        if row.key != own[row.scope] or not counts_on(row.effective_from, row.effective_to, trading_date):
            continue
        if row.scope is ContractScope.UNDERLYING and not underlying:
            continue
        known = found.get(row.name)
        if known is None or (row.scope, row.effective_from) >= (known.scope, known.effective_from):
            found[row.name] = row
    return found
