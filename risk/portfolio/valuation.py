"""A snapshot valued: for every contract its price, Greeks and 16 scenario losses, per unit, multiplier included.

Made once per snapshot, for all contracts at once; a book on it costs a dot product. A clearing house's array comes
before ours. Contracts that nothing prices are nan and named by ``is_priced``.

Source: RISK.md B2 (the 16 scenarios), B4; CME's SPAN.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Final

import numpy as np

from market.pricing import TIME_MIN_YEARS, VOL_MIN, YEAR_S, Floats, Greeks, greeks, price
from protocol.units import E9
from risk.portfolio.catalogue import Bools, Catalogue, Ints
from risk.portfolio.params import DAY_NS
from risk.portfolio.snapshot import MarketSnapshot
from risk.portfolio.vols import BP, Quoted, forwards, vols, years_to

SCENARIOS: Final = 16
EXTREMES: Final = 2
PRICE_MIN_SHARE: Final = 1e-4  # a scenario leaves at least this share of a price: a logarithm needs more than 0
# Thirds of the scan range, and sign of the volatility's move (RISK.md B2); 15 and 16 are the extremes.
MOVES: Final[Floats] = np.array([0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3, 3, -3], np.float64) / 3
VOL_MOVES: Final[Floats] = np.array([1, -1] * 7 + [0, 0], np.float64)
POINT_DELTA: Final = (E9, 0, 0, 0)
DELTA_MOVES: Final[Floats] = np.array([0, 1, -1, 2, -2, 3, -3], np.float64) / 3


class Valued:
    """All contracts at one snapshot; every array has one row a contract.

    Attributes:
        price, losses, delta, greeks: Money per unit of quantity; ``losses`` is float64[contracts, 16], a loss positive.
            ``delta`` is the composite delta that spreads are made of.
        forward, spot, vol, years: Of the contract's expiry and underlying, per unit of the underlying.
        trading_days: To its expiry, 0 = on the day; a large number for what never expires.
    """

    def __init__(self, snapshot: MarketSnapshot, catalogue: Catalogue) -> None:
        self.snapshot = snapshot
        self.catalogue = catalogue
        quoted = Quoted(catalogue, snapshot)
        self.rate: Floats = catalogue.of_product("rate_bp", BP)
        self.years: Floats = years_to(catalogue, snapshot.at_ns, TIME_MIN_YEARS)
        self.forward, self.spot = forwards(catalogue, snapshot, quoted.price, self.years)
        self.vol: Floats = vols(catalogue, quoted, self.forward, self.years, self.rate)
        option = catalogue.is_option
        model = price(catalogue.is_call, self.forward, self._strike, self.years, self._vol, self.rate)
        self.model: Floats = np.where(option, model, self.forward)
        self.price: Floats = np.where(quoted.price > 0, quoted.price, self.model) * catalogue.multiplier
        self.losses: Floats = self._losses()
        self.delta: Floats = self._composite_delta()
        for array in snapshot.arrays:
            row = catalogue.index.get(array.instrument)
            if row is not None:
                self.losses[row] = np.array(array.losses_e9, np.float64) / E9
                self.delta[row] = array.delta_e9 / E9
        told = (self.price, self.delta, self.forward, self.spot, self.greeks.vega)
        self.is_priced: Bools = np.isfinite(self.losses).all(axis=1) & np.all([np.isfinite(of) for of in told], axis=0)

    @property
    def _strike(self) -> Floats:
        return np.where(self.catalogue.is_option, self.catalogue.strike, self.forward)

    @property
    def _vol(self) -> Floats:
        return np.where(self.catalogue.is_option, self.vol, 1.0)

    def reprice(self, forward: Floats, vol: Floats, years: Floats) -> Floats:
        """Return prices of a unit of the underlying, float64[contracts, moves], of what broadcasts to that shape."""
        c = self.catalogue
        shape = np.broadcast_shapes(forward.shape, vol.shape, years.shape)
        worth = np.broadcast_to(forward, shape).copy()
        o = np.flatnonzero(c.is_option)
        if o.size:
            moved = price(
                c.is_call[o, None],
                forward[o],
                c.strike[o, None],
                years[o],
                np.maximum(vol[o], VOL_MIN),
                self.rate[o, None],
            )
            worth[o] = moved
        return worth

    def scan_range(self) -> Floats:
        """Return the scan range of every contract, in money per unit of the underlying: all its expiries move alike."""
        absolute = self.catalogue.of_product("price_scan_e9", 1 / E9)
        return np.where(absolute > 0, absolute, self.catalogue.of_product("price_scan_bp", BP) * self.spot)

    def _losses(self) -> Floats:
        c = self.catalogue
        moved = MOVES * self.scan_range()[:, None]
        moved[:, -EXTREMES:] *= c.of_product("extreme_multiple")[:, None]
        moved += self.forward[:, None]
        np.maximum(moved, PRICE_MIN_SHARE * self.forward[:, None], out=moved)
        vol = VOL_MOVES * c.of_product("vol_scan_e9", 1 / E9)[:, None]
        vol += self._vol[:, None]
        left = np.maximum(self.years - c.of_product("look_ahead_ns", 1 / (YEAR_S * E9)), TIME_MIN_YEARS)
        losses = self.reprice(moved, vol, left[:, None])
        np.subtract(self.model[:, None], losses, out=losses)
        losses *= c.multiplier[:, None]
        losses[:, -EXTREMES:] *= c.of_product("extreme_cover_bp", BP)[:, None]
        return losses

    def _composite_delta(self) -> Floats:
        c = self.catalogue
        if all(p.delta_weights_e9 == POINT_DELTA for p in c.products):
            return self.greeks.delta.copy()
        weights = np.array([p.delta_weights_e9 for p in c.products], np.float64).reshape(-1, 4)[c.underlying] / E9
        found = np.where(c.is_option, 0.0, 1.0)
        o = np.flatnonzero(c.is_option)
        for n, move in enumerate(DELTA_MOVES):
            weight = weights[o, (n + 1) // 2]
            if not np.any(weight):
                continue
            forward = np.maximum(self.forward[o] + move * self.scan_range()[o], PRICE_MIN_SHARE * self.forward[o])
            found[o] += weight * greeks(
                c.is_call[o], forward, c.strike[o], self.years[o], self.vol[o], self.rate[o]
            ).delta  # fmt: skip
        return found * c.multiplier

    @cached_property
    def greeks(self) -> Greeks:
        """Delta, gamma, vega and theta per unit of quantity."""
        c = self.catalogue
        g = greeks(c.is_call, self.forward, self._strike, self.years, self._vol, self.rate)
        m, o = c.multiplier, c.is_option
        return Greeks(np.where(o, g.delta, 1.0) * m, *(np.where(o, part, 0.0) * m for part in g[1:]))

    @cached_property
    def trading_days(self) -> Ints:
        """Trading days to expiry: 0 on the day itself and after it."""
        offset = self.catalogue.params.day_offset_ns
        today = _date(self.snapshot.at_ns + offset)
        holidays = np.array(self.catalogue.params.holidays, "datetime64[D]")
        expiry = ((self.catalogue.expiry_ns + offset) // DAY_NS).astype("datetime64[D]")
        left = np.busday_count(today, expiry, holidays=holidays)
        return np.where(self.catalogue.expiry_ns == 0, np.iinfo(np.int64).max, np.maximum(left, 0)).astype(np.int64)


def _date(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns / E9, dt.UTC).date().isoformat()
