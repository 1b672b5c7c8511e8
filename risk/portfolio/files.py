"""A book and a market as people write them: JSON with decimal strings, the edge family of DECISIONS 8.

Rule: a JSON number for a price, a quantity or an amount is refused, and so is an unknown field: each by its place.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from protocol.codes import Side
from protocol.errors import NOT_DECODED, ConfigError, FieldError
from protocol.units import E9, parse_e9
from risk.portfolio.book import Book, OpenOrder, Position
from risk.portfolio.snapshot import Forward, MarketSnapshot, Quote, RiskArray, Spot

_File = TypeVar("_File")
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class PositionRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What is held; negative = short."""

    instrument: Name
    quantity: str
    strategy: str = ""


class OrderRow(Struct, frozen=True, forbid_unknown_fields=True):
    """An open order; ``quantity`` is what may still fill, ``reserved`` the money kept for it."""

    instrument: Name
    side: Literal["BUY", "SELL"]
    quantity: str
    price: str = "0"
    client_order_id: str = ""
    reserved: str = "0"


class BookFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One account: funds that margin may use, equity that stress is a share of (left out = funds)."""

    account: Name
    currency: Name
    funds: str
    positions: tuple[PositionRow, ...] = ()
    orders: tuple[OrderRow, ...] = ()
    equity: str = "0"


class QuoteRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A contract's price, or for an option its volatility (0.15 = 15 % a year), or both."""

    instrument: Name
    price: str = "0"
    volatility: str = "0"


class SpotRow(Struct, frozen=True, forbid_unknown_fields=True):
    """An underlying's own price."""

    underlying: Name
    price: str


class ForwardRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A price for delivery at an expiry without a quoted future."""

    underlying: Name
    expiry: dt.datetime
    price: str


class ArrayRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A clearing house's 16 losses of one long unit, and its composite delta."""

    instrument: Name
    losses: Annotated[tuple[str, ...], Meta(min_length=16, max_length=16)]
    delta: str
    source: Name


class MarketFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The market at an instant, with its zone."""

    at: dt.datetime
    quotes: tuple[QuoteRow, ...]
    spots: tuple[SpotRow, ...] = ()
    forwards: tuple[ForwardRow, ...] = ()
    arrays: tuple[ArrayRow, ...] = ()


def parse_book(content: bytes, path: str) -> Book:
    """Return the account of a file; ConfigError names what can't be taken."""
    file = _decode(content, BookFile, path)
    try:
        return Book(
            account=file.account,
            currency=file.currency,
            funds_e9=parse_e9(file.funds, "funds"),
            positions=tuple(
                Position(p.instrument, parse_e9(p.quantity, f"quantity of {p.instrument}"), p.strategy)
                for p in file.positions
            ),
            orders=tuple(_order(o) for o in file.orders),
            equity_e9=parse_e9(file.equity, "equity"),
        )
    except FieldError as e:
        raise ConfigError([str(e)], path) from e


def parse_market(content: bytes, path: str) -> MarketSnapshot:
    """Return the market of a file; ConfigError names what can't be taken."""
    file = _decode(content, MarketFile, path)
    try:
        return MarketSnapshot(
            snapshot_id=path,
            at_ns=_instant(file.at, "at"),
            quotes=tuple(
                Quote(q.instrument, _positive(q.price, q.instrument), _positive(q.volatility, q.instrument))
                for q in file.quotes
            ),
            spots=tuple(Spot(s.underlying, _positive(s.price, s.underlying)) for s in file.spots),
            forwards=tuple(
                Forward(f.underlying, _instant(f.expiry, f.underlying), _positive(f.price, f.underlying))
                for f in file.forwards
            ),
            arrays=tuple(
                RiskArray(
                    a.instrument,
                    tuple(parse_e9(n, f"losses of {a.instrument}") for n in a.losses),
                    parse_e9(a.delta, f"delta of {a.instrument}"),
                    a.source,
                )
                for a in file.arrays
            ),
        )
    except FieldError as e:
        raise ConfigError([str(e)], path) from e


def _decode(content: bytes, kind: type[_File], path: str) -> _File:
    try:
        return msgspec.json.decode(content, type=kind)
    except NOT_DECODED as e:
        raise ConfigError([str(e)], path) from e


def _order(row: OrderRow) -> OpenOrder:
    leaves = parse_e9(row.quantity, f"quantity of {row.instrument}")
    if leaves <= 0:
        raise FieldError(f"quantity of {row.instrument}", row.quantity, "more than 0: the side says the direction")
    return OpenOrder(
        row.client_order_id, row.instrument, Side[row.side], leaves, _positive(row.price, row.instrument),
        _positive(row.reserved, row.instrument),
    )  # fmt: skip


def _positive(text: str, of: str) -> int:
    value = parse_e9(text, of)
    if value < 0:
        raise FieldError(of, text, "a value of at least 0")
    return value


def _instant(at: dt.datetime, of: str) -> int:
    if at.tzinfo is None:
        raise FieldError(of, at.isoformat(), "an instant with its zone, such as 2026-05-29T15:30:00+05:30")
    return int(at.timestamp()) * E9 + at.microsecond * 1_000
