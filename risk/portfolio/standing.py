"""A book on a valued snapshot: its totals by underlying and expiry, and what they would be after fills.

Rule: a change of a few contracts costs their difference, never a pass over the book.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from market.pricing import Floats
from protocol.units import E9
from risk.portfolio import units as u
from risk.portfolio.book import Book
from risk.portfolio.margin import Margin, Spreads, margin, price_risk
from risk.portfolio.stress import stress_losses
from risk.portfolio.units import Units, expires_today
from risk.portfolio.valuation import Valued
from risk.portfolio.vols import BP


class Desk:
    """A valued snapshot with its unit columns: shared by all accounts."""

    def __init__(self, valued: Valued) -> None:
        self.valued = valued
        self.catalogue = valued.catalogue
        self.units = Units(valued)
        today = expires_today(valued)
        self.spreads: list[Spreads] = []
        for number, product in enumerate(self.catalogue.products):
            of = self.catalogue.underlying == number
            forwards = np.full(len(self.catalogue.expiries[number]), np.nan)
            forwards[self.catalogue.bucket[of]] = valued.forward[of]
            excluded = product.calendar_near_excluded and bool(np.any(today & of & (self.catalogue.bucket == 0)))
            self.spreads.append(Spreads(product, forwards, excluded))

    @cached_property
    def stress(self) -> Floats:
        """What a long unit of each contract loses in each cell of the stress grid, float64[contracts, cells]."""
        return stress_losses(self.valued)

    def totals(self, number: int, rows: ArrayLike, quantities: Floats) -> Floats:
        """Return the totals of books that hold ``quantities``, float64[books, rows], of one underlying's contracts."""
        at = np.asarray(rows, np.intp)
        places = self.catalogue.bucket[at]
        expiries = np.zeros((len(at), len(self.catalogue.expiries[number])))
        expiries[np.arange(len(at)), places] = 1.0
        held = np.swapaxes(quantities[:, :, None] * expiries, 1, 2)
        found = np.maximum(held, 0.0) @ self.units.long[at] + np.maximum(-held, 0.0) @ self.units.short[at]
        return np.asarray(found)


class Standing:
    """One account's positions on a desk.

    Attributes:
        quantity: float64[contracts], signed.
        unpriced: Instruments held, or in open orders, that are unknown or that nothing prices.
    """

    def __init__(self, book: Book, desk: Desk) -> None:
        self.book = book
        self.desk = desk
        index, priced = desk.catalogue.index, desk.valued.is_priced
        self.quantity: Floats = np.zeros(len(index))
        named = [p.instrument for p in book.positions if p.quantity_e9] + [o.instrument for o in book.orders]
        rows = [index.get(name, -1) for name in named]
        self.unpriced = sorted({n for n, row in zip(named, rows, strict=True) if row < 0 or not priced[row]})
        for p in book.positions:
            row = index.get(p.instrument, -1)
            if row >= 0 and priced[row]:
                self.quantity[row] += p.quantity_e9 / E9
        self._totals: dict[int, Floats] = {}

    def totals(self, number: int) -> Floats:
        """Return the totals of one underlying, float64[expiries, columns]."""
        found = self._totals.get(number)
        if found is None:
            rows = np.flatnonzero((self.desk.catalogue.underlying == number) & (self.quantity != 0))
            found = self.desk.totals(number, rows, self.quantity[None, rows])[0]
            self._totals[number] = found
        return found

    def totals_with(self, number: int, rows: Sequence[int], quantities: Floats) -> Floats:
        """Return the totals of books that hold ``quantities``, float64[books, rows], of these, the rest as it is."""
        before = self.desk.totals(number, rows, self.quantity[None, list(rows)])
        return self.totals(number) - before + self.desk.totals(number, rows, quantities)

    @cached_property
    def underlyings(self) -> tuple[int, ...]:
        """Numbers of the underlyings with positions or open orders."""
        c = self.desk.catalogue
        held = set(c.underlying[self.quantity != 0].tolist())
        held |= {int(c.underlying[c.index[o.instrument]]) for o in self.book.orders if o.instrument in c.index}
        return tuple(sorted(held))

    @cached_property
    def stress(self) -> Floats:
        """What the positions lose in each cell of the stress grid."""
        held = np.flatnonzero(self.quantity)
        return np.asarray(self.quantity[held] @ self.desk.stress[held])

    def margin_of(self, number: int, credit: float = 0.0) -> Margin:
        """Return the margin of the positions in one underlying."""
        return margin(self.totals(number)[None], self.desk.spreads[number], credit=credit)

    @cached_property
    def credits(self) -> dict[int, float]:
        """Inter-commodity credit of each underlying, from the positions alone (RISK.md B2.4)."""
        left: dict[int, float] = {}
        weighted: dict[int, float] = {}
        found: dict[int, float] = {}
        number = {p.underlying: n for n, p in enumerate(self.desk.catalogue.products)}
        for spread in self.desk.catalogue.params.credits:
            legs = (
                (number[spread.underlying_a], spread.ratio_a_e9 / E9),
                (number[spread.underlying_b], spread.ratio_b_e9 / E9),
            )
            for leg, _ in legs:
                if leg not in left:
                    sums = self.totals(leg).sum(axis=0)
                    delta = left[leg] = float(sums[u.DELTA])
                    risk = price_risk(sums[u.LOSS], int(self.margin_of(leg).worst[0]))
                    weighted[leg] = risk / abs(delta) if delta else 0.0
            (a, ratio_a), (b, ratio_b) = legs
            if left[a] * left[b] >= 0:
                continue
            count = min(abs(left[a]) / ratio_a, abs(left[b]) / ratio_b)
            for leg, ratio in legs:
                found[leg] = found.get(leg, 0.0) + spread.rate_bp * BP * count * ratio * weighted[leg]
                left[leg] -= float(np.sign(left[leg])) * count * ratio
        return found
