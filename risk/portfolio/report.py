"""What a report on one account says: margin, exposures, scenarios, stress, expiries, limits used. No layout.

Everything is of the positions, but for ``worst_case`` and the limits used, which count open orders too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from msgspec import Struct

from market.pricing import Floats
from protocol.units import E9
from risk.portfolio import units as u
from risk.portfolio.decide import GREEK, WHOLE
from risk.portfolio.margin import Margin, margin_at_expiry, settlement
from risk.portfolio.params import LimitKind
from risk.portfolio.standing import Standing
from risk.portfolio.stress import Cell, cells
from risk.portfolio.worst import legs, need, reach

PIN_BP: Final = 50  # a strike this near the underlying
PIN_DAYS: Final = 1  # this many trading days before expiry


class MarginRow(Struct, frozen=True):
    """Margin of one underlying, money; parts as of ``margin.Margin``. ``worst_case`` counts open orders."""

    underlying: str
    worst_scenario: int
    scan: float
    calendar: float
    credit: float
    minimum: float
    nov: float
    span: float
    exposure: float
    addons: float
    total: float
    worst_case: float


class ExposureRow(Struct, frozen=True):
    """What one cell of (underlying, expiry, strategy) holds.

    Attributes:
        net, gross: Units of the underlying. ``delta`` likewise: the futures equivalent.
        gamma: Change of delta per 1 % of the price. ``vega`` money per point, ``theta`` money per day.
        premium_at_risk: What the long options are worth, money.
        margin_share: Loss in the underlying's worst scenario, money: the cells' shares add up to its scan risk.
    """

    underlying: str
    expiry_ns: int
    strategy: str
    net: float
    gross: float
    delta: float
    gamma: float
    vega: float
    theta: float
    premium_at_risk: float
    margin_share: float


class ExpiryRow(Struct, frozen=True):
    """What happens when an expiry comes: margin on that day, the most to be paid, strikes that may pin."""

    underlying: str
    expiry_ns: int
    trading_days: int
    margin: float
    settlement: float
    pinned: tuple[str, ...]


class LimitRow(Struct, frozen=True):
    """How much of a bound is used."""

    name: str
    actual: float
    allowed: float

    @property
    def used(self) -> float:
        """Share of what is allowed; more than 1 = exceeded."""
        if self.allowed > 0:
            return self.actual / self.allowed
        return float("inf") if self.actual > 0 else 0.0


class Report(Struct, frozen=True):
    """The figures. ``scenarios``: P&L of each underlying in the 16; ``stress``: P&L of the account in each cell."""

    account: str
    currency: str
    at_ns: int
    funds: float
    margins: tuple[MarginRow, ...]
    exposures: tuple[ExposureRow, ...]
    scenarios: dict[str, tuple[float, ...]]
    stress: tuple[tuple[Cell, float], ...]
    expiries: tuple[ExpiryRow, ...]
    limits: tuple[LimitRow, ...]
    unpriced: tuple[str, ...]

    @property
    def total(self) -> float:
        """Margin of the positions."""
        return sum(row.total for row in self.margins)

    @property
    def worst_stress(self) -> tuple[Cell, float] | None:
        """The cell of the grid that loses most."""
        return min(self.stress, key=lambda cell: cell[1], default=None)


def report(standing: Standing) -> Report:
    """Return all figures of one account."""
    desk, book = standing.desk, standing.book
    numbers = standing.underlyings
    return Report(
        account=book.account,
        currency=book.currency,
        at_ns=desk.valued.snapshot.at_ns,
        funds=book.funds_e9 / E9,
        margins=tuple(_margin_row(standing, n) for n in numbers),
        exposures=tuple(_exposures(standing)),
        scenarios={
            desk.catalogue.products[n].underlying: tuple((-standing.totals(n)[:, u.LOSS].sum(axis=0)).tolist())
            for n in numbers
        },
        stress=tuple(zip(cells(desk.valued), (-standing.stress).tolist(), strict=True)),
        expiries=tuple(row for n in numbers for row in _expiries(standing, n)),
        limits=tuple(_limits(standing)),
        unpriced=tuple(standing.unpriced),
    )


def _margin_row(standing: Standing, number: int) -> MarginRow:
    credit = standing.credits.get(number, 0.0)
    found: Margin = standing.margin_of(number, credit)
    one = {name: float(getattr(found, name)[0]) for name in MarginRow.__struct_fields__ if name in Margin._fields}
    return MarginRow(
        underlying=standing.desk.catalogue.products[number].underlying,
        worst_scenario=int(found.worst[0]),
        credit=credit,
        worst_case=float(need(standing, number, None, WHOLE).now[0]),
        **one,
    )


def _exposures(standing: Standing) -> Iterable[ExposureRow]:
    desk = standing.desk
    c, one = desk.catalogue, desk.units.long
    held: dict[tuple[int, int, str], dict[int, float]] = {}
    for position in standing.book.positions:
        row = c.index.get(position.instrument, -1)
        if row >= 0 and desk.valued.is_priced[row]:
            cell = held.setdefault((int(c.underlying[row]), int(c.bucket[row]), position.strategy), {})
            cell[row] = cell.get(row, 0.0) + position.quantity_e9 / E9
    for (number, bucket, strategy), cell in sorted(held.items()):
        rows, quantity = np.array(list(cell)), np.array(list(cell.values()))
        units = quantity * c.multiplier[rows]
        greek: Floats = quantity @ one[rows, u.GREEKS]
        worst = int(standing.margin_of(number).worst[0]) - 1
        yield ExposureRow(
            underlying=c.products[number].underlying,
            expiry_ns=c.expiries[number][bucket],
            strategy=strategy,
            net=float(units.sum()),
            gross=float(np.abs(units).sum()),
            delta=float(greek[0]),
            gamma=float(greek[1]),
            vega=float(greek[2]),
            theta=float(greek[3]),
            premium_at_risk=float(np.maximum(quantity, 0.0) @ one[rows, u.NOV]),
            margin_share=float(quantity @ one[rows, worst]),
        )


def _expiries(standing: Standing, number: int) -> Iterable[ExpiryRow]:
    desk = standing.desk
    c, valued = desk.catalogue, desk.valued
    totals = standing.totals(number)[None]
    for bucket, expiry_ns in enumerate(c.expiries[number]):
        of = (c.underlying == number) & (c.bucket == bucket) & (standing.quantity != 0)
        if not expiry_ns or not of.any():
            continue
        rows = np.flatnonzero(of)
        days = int(valued.trading_days[rows[0]])
        near = np.abs(c.strike[rows] / valued.spot[rows] - 1) < PIN_BP / 10_000
        pinned = rows[near & c.is_option[rows] & (days <= PIN_DAYS)]
        yield ExpiryRow(
            underlying=c.products[number].underlying,
            expiry_ns=expiry_ns,
            trading_days=days,
            margin=float(margin_at_expiry(totals, desk.spreads[number], bucket)[0]),
            settlement=float(settlement(totals, bucket)[0]),
            pinned=tuple(c.params.contracts[row].instrument for row in pinned),
        )


def _limits(standing: Standing) -> Iterable[LimitRow]:
    book, params = standing.book, standing.desk.catalogue.params
    worst = sum(float(need(standing, n, None, WHOLE).now[0]) for n in standing.underlyings)
    yield LimitRow("margin of the worst case, beside funds", worst, book.funds_e9 / E9)
    number = {p.underlying: n for n, p in enumerate(standing.desk.catalogue.products)}
    for limit in params.limits:
        if limit.account not in {"", book.account}:
            continue
        name = " ".join(part for part in (limit.kind.name, limit.underlying, limit.account) if part)
        allowed = limit.value_e9 / E9
        if limit.kind is LimitKind.MARGIN:
            yield LimitRow(name, worst, allowed)
        elif limit.kind is LimitKind.STRESS:
            equity = (book.equity_e9 or book.funds_e9) / E9
            yield LimitRow(name, _stress_with_orders(standing), allowed * equity)
        else:
            column = u.GREEKS.start + GREEK[limit.kind]
            yield LimitRow(name, float(reach(standing, number[limit.underlying], column, None, WHOLE)[0]), allowed)


def _stress_with_orders(standing: Standing) -> float:
    losses = standing.stress.copy()
    for number in standing.underlyings:
        for leg in legs(standing, number):
            losses += np.maximum(leg.quantity * standing.desk.stress[leg.row], 0.0)
    return float(max(0.0, losses.max()))
