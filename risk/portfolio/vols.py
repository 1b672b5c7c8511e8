"""Forwards and volatilities of a snapshot: what is quoted first, then what follows from it, each step named.

A forward is the future of that expiry, else the one the snapshot gives, else put-call parity, else spot with interest.
A volatility is the one that came with the quote, else implied from its price, else read between the nearest strikes of
the same expiry, else the last one known if it is young enough. What has none stays nan: the decision refuses on it.

Source: RISK.md B4.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from market.pricing import YEAR_S, Floats, implied_vol
from protocol.units import E9
from risk.portfolio.catalogue import Catalogue
from risk.portfolio.snapshot import MarketSnapshot

PARITY_STRIKES: Final = 3
BP: Final = 1e-4


class Quoted:
    """The snapshot's quotes as columns, one row a contract; 0 where nothing is quoted."""

    def __init__(self, catalogue: Catalogue, snapshot: MarketSnapshot) -> None:
        find, quotes = catalogue.index.get, snapshot.quotes
        rows = np.array([find(q.instrument, -1) for q in quotes], np.int64)
        known = rows >= 0
        at = rows[known]
        self.price, self.vol, self.vol_before = (np.zeros(len(catalogue.index)) for _ in range(3))
        self.price[at] = np.array([q.price_e9 for q in quotes], np.float64)[known] / E9
        self.vol[at] = np.array([q.iv_e9 for q in quotes], np.float64)[known] / E9
        oldest_ns = snapshot.at_ns - catalogue.params.iv_age_max_ns
        before = [q.iv_before_e9 if q.iv_before_ns >= oldest_ns else 0 for q in quotes]
        self.vol_before[at] = np.array(before, np.float64)[known] / E9


def forwards(catalogue: Catalogue, snapshot: MarketSnapshot, prices: Floats, years: Floats) -> tuple[Floats, Floats]:
    """Return the forward of every contract's expiry, and its underlying's spot; nan where nothing tells it."""
    spots = {s.underlying: s.price_e9 / E9 for s in snapshot.spots}
    given = {(f.underlying, f.expiry_ns): f.price_e9 / E9 for f in snapshot.forwards}
    forward, spot = np.full(prices.shape, np.nan), np.full(prices.shape, np.nan)
    for number, product in enumerate(catalogue.products):
        of = catalogue.underlying == number
        known = spots.get(product.underlying, np.nan)
        nearest = np.nan
        for bucket, expiry_ns in enumerate(catalogue.expiries[number]):
            rows = np.flatnonzero(of & (catalogue.bucket == bucket))
            growth = float(np.exp(product.rate_bp * BP * years[rows[0]])) if expiry_ns else 1.0
            found = _future(catalogue, prices, rows)
            if np.isnan(found):
                found = given.get((product.underlying, expiry_ns), np.nan)
            if np.isnan(found):
                found = _parity(catalogue, prices, rows, growth)
            if np.isnan(found):
                found = known * growth
            forward[rows] = found
            nearest = found if np.isnan(nearest) else nearest
        spot[of] = nearest if np.isnan(known) else known
    return forward, spot


def vols(catalogue: Catalogue, quoted: Quoted, forward: Floats, years: Floats, rate: Floats) -> Floats:
    """Return the volatility of every option, nan where nothing tells it and for futures."""
    prices = quoted.price
    found = np.where(catalogue.is_option & (quoted.vol > 0), quoted.vol, np.nan)
    before = np.where(catalogue.is_option & (quoted.vol_before > 0), quoted.vol_before, np.nan)
    wanted = np.flatnonzero(catalogue.is_option & np.isnan(found) & (prices > 0) & (forward > 0))
    if wanted.size:
        found[wanted] = implied_vol(
            catalogue.is_call[wanted], forward[wanted], catalogue.strike[wanted], years[wanted], rate[wanted],
            prices[wanted], catalogue.tick[wanted],
        )  # fmt: skip
    _between_strikes(catalogue, found)
    return np.where(np.isnan(found), before, found)


def years_to(catalogue: Catalogue, at_ns: int, least: float) -> Floats:
    """Return the time to expiry in years, at least ``least``; of what never expires too."""
    return np.maximum((catalogue.expiry_ns - at_ns) / (YEAR_S * E9), least)


def _future(catalogue: Catalogue, prices: Floats, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
    quoted = rows[~catalogue.is_option[rows] & (prices[rows] > 0)]
    return float(prices[quoted[0]]) if quoted.size else np.nan


def _parity(
    catalogue: Catalogue, prices: Floats, rows: np.ndarray[tuple[int], np.dtype[np.intp]], growth: float
) -> float:
    """Return the median forward of the strikes whose call and put cost about the same."""
    sides: dict[float, dict[bool, float]] = {}
    for row in rows[catalogue.is_option[rows] & (prices[rows] > 0)]:
        sides.setdefault(float(catalogue.strike[row]), {})[bool(catalogue.is_call[row])] = float(prices[row])
    gaps = sorted((abs(both[True] - both[False]), k, both) for k, both in sides.items() if len(both) == 2)
    implied = [k + growth * (both[True] - both[False]) for _, k, both in gaps[:PARITY_STRIKES]]
    return float(np.median(implied)) if implied else np.nan


def _between_strikes(catalogue: Catalogue, found: Floats) -> None:
    """Fill in what lies between (or beyond) strikes whose volatility is known; beyond the last it stays level."""
    for row in np.flatnonzero(catalogue.is_option & np.isnan(found)):
        peers = (
            catalogue.is_option & (catalogue.underlying == catalogue.underlying[row])
            & (catalogue.bucket == catalogue.bucket[row]) & ~np.isnan(found)
        )  # fmt: skip
        if np.any(peers):
            strikes, where = np.unique(catalogue.strike[peers], return_inverse=True)
            level = np.bincount(where, found[peers]) / np.bincount(where)
            found[row] = np.interp(catalogue.strike[row], strikes, level)
