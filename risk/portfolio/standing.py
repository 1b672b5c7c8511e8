"""A book on a valued snapshot: its totals by underlying and expiry, and what they would be after fills.

Rule: a change of a few contracts costs their difference, never a pass over the book.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

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


class Need(NamedTuple):
    """What an account needs for one underlying, money, one value a candidate quantity.

    Attributes:
        now: Margin and premiums of the worst case; ``worst`` is the scenario of the worst book.
        at_expiry: The same on the expiry day of the order's contract, its share of the settlement included.
    """

    now: Floats
    at_expiry: Floats
    worst: int


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
            leaving = np.unique(self.catalogue.bucket[today & of & bool(product.calendar_near_excluded)])
            self.spreads.append(Spreads(product, forwards, tuple(leaving.tolist())))

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
        kept: What each underlying needs without an order more, by number and expiry looked at: worked out once.
    """

    def __init__(self, book: Book, desk: Desk) -> None:
        self.book = book
        self.desk = desk
        find = desk.catalogue.index.get
        priced = np.append(desk.valued.is_priced, [False])  # the last row stands for what is unknown
        held = np.array([p.quantity_e9 for p in book.positions], np.float64) / E9
        rows = np.array([find(p.instrument, -1) for p in book.positions], np.int64)
        ordered = np.array([find(o.instrument, -1) for o in book.orders], np.int64)
        counts = priced[rows]
        self.quantity: Floats = np.zeros(len(priced) - 1)
        np.add.at(self.quantity, rows[counts], held[counts])
        missing = {book.positions[n].instrument for n in np.flatnonzero(~counts & (held != 0))}
        self.unpriced = sorted(missing | {book.orders[n].instrument for n in np.flatnonzero(~priced[ordered])})
        self._totals: dict[int, Floats] = {}
        self.kept: dict[tuple[int, int], Need] = {}

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
