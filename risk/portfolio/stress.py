"""Stress: every contract revalued at each cell of a grid of spot, volatility and time; and historical VaR.

Full revaluation, never delta-normal: an option book's loss is not a line. All underlyings move together.

Source: RISK.md B5.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from market.pricing import TIME_MIN_YEARS, YEAR_S, Floats
from protocol.units import E9
from risk.portfolio.valuation import PRICE_MIN_SHARE, Valued
from risk.portfolio.vols import BP


class Cell(NamedTuple):
    """One cell of the grid; units as in ``StressGrid``."""

    spot_bp: int
    vol_bp: int
    time_ns: int


def cells(valued: Valued) -> list[Cell]:
    """Return the grid, spot outermost."""
    grid = valued.catalogue.params.stress
    return [Cell(s, v, t) for s in grid.spot_bp for v in grid.vol_bp for t in grid.time_ns]


def stress_losses(valued: Valued) -> Floats:
    """Return what a long unit of each contract loses in each cell, float64[contracts, cells], money."""
    c = valued.catalogue
    columns = []
    for spot_bp, vol_bp, time_ns in cells(valued):
        forward = np.maximum(valued.forward * (1 + spot_bp * BP), PRICE_MIN_SHARE * valued.forward)
        vol = np.where(c.is_option, _vol_at(valued, spot_bp), 1.0) * (1 + vol_bp * BP)
        gone = valued.years if time_ns < 0 else time_ns / (YEAR_S * E9)
        left = np.maximum(valued.years - gone, TIME_MIN_YEARS)
        after = valued.reprice(forward[:, None], vol[:, None], left[:, None])[:, 0]
        columns.append((valued.model - after) * c.multiplier)
    return np.stack(columns, axis=1)


def _vol_at(valued: Valued, spot_bp: int) -> Floats:
    """Return volatilities when spot has moved: of the strike, or of the moneyness, read from the same expiry's."""
    c = valued.catalogue
    if not c.params.stress.sticky_delta or not spot_bp:
        return valued.vol
    found = valued.vol.copy()
    keys = c.underlying * (c.bucket.max() + 1) + c.bucket
    for key in np.unique(keys[c.is_option]):
        rows = np.flatnonzero((keys == key) & c.is_option & ~np.isnan(valued.vol))
        strikes, where = np.unique(c.strike[rows], return_inverse=True)
        level = np.bincount(where, valued.vol[rows]) / np.bincount(where)
        found[rows] = np.interp(c.strike[rows] / (1 + spot_bp * BP), strikes, level)
    return found


def returns_pnl(valued: Valued, quantity: Floats, returns: Floats) -> Floats:
    """Return the P&L of a book at each return of its underlyings, volatility and time as they are.

    ``quantity`` is float64[contracts]; ``returns`` float64[days, products], as fractions (-0.02 = 2 % down).
    """
    held = np.flatnonzero(quantity)
    pnl = np.zeros(len(returns))
    for n, day in enumerate(returns):
        move = np.maximum(1 + day[valued.catalogue.underlying], PRICE_MIN_SHARE)
        vol = np.where(valued.catalogue.is_option, valued.vol, 1.0)
        after = valued.reprice((valued.forward * move)[:, None], vol[:, None], valued.years[:, None])[:, 0]
        gain = (after - valued.model) * valued.catalogue.multiplier
        pnl[n] = float(quantity[held] @ gain[held])
    return pnl


def value_at_risk(pnl: Floats, confidence_bp: int) -> tuple[float, float]:
    """Return (VaR, expected shortfall) of historical P&L: the k-th worst loss and the mean of the k worst.

    ``pnl`` has one value a day, a gain positive; ``confidence_bp`` 9,900 = 99 %. k = ceil((1 - c)·n), at least 1.
    """
    ordered = np.sort(pnl)
    worst = max(1, math.ceil((10_000 - confidence_bp) * len(ordered) / 10_000))
    return float(-ordered[worst - 1]), float(-ordered[:worst].mean())
