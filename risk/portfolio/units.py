"""What one unit of a contract adds to its underlying's totals: a column a figure, for a long and for a short unit.

Everything margin and limits are made of is a sum of these over positions, by expiry; so a book is one matrix product,
and a change of it a difference. Money unless the name says otherwise.

Source: RISK.md B2, B3, B5.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from market.pricing import Floats
from risk.portfolio.catalogue import Bools
from risk.portfolio.params import DAY_NS
from risk.portfolio.valuation import SCENARIOS, Valued
from risk.portfolio.vols import BP

LOSS: Final = slice(0, SCENARIOS)
DELTA: Final = 16  # composite, units of the underlying: what spreads are made of
NOV: Final = 17  # net option value
FUTURES: Final = 18  # units of the underlying held in futures
SHORTS: Final = 19  # units of the underlying in short options
EXPOSURE: Final = 20
ADDON: Final = 21
EXPIRY_ADDON: Final = 22  # what ADDON will be on the day of expiry
GREEKS: Final = slice(23, 27)  # delta, gamma per 1 % of the price, vega per point, theta per day
SETTLE: Final = 27  # from here: what is paid at settlement, at each spot of the stress grid


class Units:
    """``long`` and ``short``: float64[contracts, columns], what one unit bought or sold adds."""

    def __init__(self, valued: Valued) -> None:
        c = valued.catalogue
        one = np.zeros((len(c.index), SETTLE + len(c.params.stress.spot_bp)))
        one[:, LOSS] = valued.losses
        one[:, DELTA] = valued.delta
        one[:, NOV] = np.where(c.is_option, valued.price, 0.0)
        one[:, FUTURES] = np.where(c.is_option, 0.0, c.multiplier)
        g = valued.greeks
        one[:, GREEKS] = np.stack([g.delta, g.gamma * valued.forward / 100, g.vega, g.theta], axis=1)
        one[:, SETTLE:] = _paid_at_settlement(valued)
        self.long = one
        self.short = -one
        value = np.where(c.is_option, valued.spot * c.multiplier, valued.price)
        exposed = c.of_product("exposure_bp", BP) * value
        self.long[:, EXPOSURE] = np.where(c.is_option, 0.0, exposed)
        self.short[:, EXPOSURE] = exposed
        self.short[:, SHORTS] = np.where(c.is_option, c.multiplier, 0.0)
        more = c.of_product("ad_hoc_bp", BP) * value
        sold = more + np.where(_is_deep(valued), c.of_product("deep_otm_bp", BP) * value, 0.0)
        on_expiry = np.where(c.is_option, c.of_product("expiry_exposure_bp", BP) * value, 0.0)
        bought = np.where(c.is_option, 0.0, more)
        self.long[:, ADDON] = bought + _delivery(valued, at_expiry=False)
        self.long[:, EXPIRY_ADDON] = bought + _delivery(valued, at_expiry=True)
        self.short[:, ADDON] = sold + np.where(expires_today(valued), on_expiry, 0.0)
        self.short[:, EXPIRY_ADDON] = sold + on_expiry


def expires_today(valued: Valued) -> Bools:
    """Return which contracts expire on the exchange's day of the snapshot."""
    offset = valued.catalogue.params.day_offset_ns
    today = (valued.snapshot.at_ns + offset) // DAY_NS
    return np.asarray((valued.catalogue.expiry_ns + offset) // DAY_NS == today, bool)


def _is_deep(valued: Valued) -> Bools:
    c = valued.catalogue
    away = np.where(c.is_call, c.strike / valued.spot - 1, 1 - c.strike / valued.spot)
    return np.asarray(c.is_option & (away >= c.of_product("deep_otm_from_bp", BP)))


def _delivery(valued: Valued, *, at_expiry: bool) -> Floats:
    """Return the delivery margin of one long option in the money: a share that grows towards expiry (RISK.md B3)."""
    c = valued.catalogue
    shares = np.zeros(len(c.index))
    for number, product in enumerate(c.products):
        of = c.underlying == number
        for days, share_bp in enumerate(product.delivery_bp):
            left = np.zeros_like(valued.trading_days) if at_expiry else valued.trading_days
            shares[of & (left == days)] = share_bp * BP
    in_money = np.where(c.is_call, valued.spot > c.strike, valued.spot < c.strike)
    counts = c.is_option & c.is_delivered & in_money
    margin = c.of_product("delivery_margin_bp", BP) * c.strike * c.multiplier
    return np.asarray(np.where(counts, shares * margin, 0.0))


def _paid_at_settlement(valued: Valued) -> Floats:
    """Return what a long unit costs at settlement, at each spot of the grid: negative is received."""
    c = valued.catalogue
    moves = 1 + np.array(c.params.stress.spot_bp, np.float64) * BP
    spot = valued.spot[:, None] * moves
    strike = c.strike[:, None]
    worth = np.where(c.is_call[:, None], np.maximum(spot - strike, 0), np.maximum(strike - spot, 0))
    future = spot - valued.forward[:, None]
    return np.asarray(-np.where(c.is_option[:, None], worth, future) * c.multiplier[:, None])
