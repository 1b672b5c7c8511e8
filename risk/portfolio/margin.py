"""The margin of an underlying from its totals, for many books at once (RISK.md B2).

``totals`` is float64[books, expiries, columns] of ``units``. Nothing here knows a contract or an order.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from market.pricing import Floats
from protocol.units import E9
from risk.portfolio import units as u
from risk.portfolio.catalogue import Ints
from risk.portfolio.params import Product
from risk.portfolio.valuation import SCENARIOS
from risk.portfolio.vols import BP

MONEY_DIGITS: Final = 1_000_000


class Spreads(NamedTuple):
    """What margins of one underlying need beside the totals.

    Attributes:
        forwards: Of each expiry.
        alone: Expiries that are in no spread today: those that expire today, where the product says so.
    """

    product: Product
    forwards: Floats
    alone: tuple[int, ...] = ()


class Margin(NamedTuple):
    """Its parts, money, one value a book; ``worst`` is the scenario 1..16 that ``scan`` comes from.

    ``total`` = span + exposure + addons; span = max(0, max(scan + calendar - credit, minimum) - nov).
    """

    total: Floats
    span: Floats
    scan: Floats
    calendar: Floats
    minimum: Floats
    nov: Floats
    exposure: Floats
    addons: Floats
    worst: Ints


def margin(totals: Floats, spreads: Spreads, *, addon: int = u.ADDON, credit: float = 0.0) -> Margin:
    """Return the margin of each book."""
    product = spreads.product
    sums = totals.sum(axis=1)
    losses = sums[:, u.LOSS]
    worst = np.argmax(losses, axis=1)
    scan = np.maximum(0.0, losses[np.arange(len(losses)), worst])
    calendar = calendar_charge(totals[:, :, u.DELTA], spreads)
    minimum = product.short_option_minimum_e9 / E9 * sums[:, u.SHORTS]
    nov = sums[:, u.NOV]
    span = np.maximum(0.0, np.maximum(scan + calendar - credit, minimum) - nov)
    exposure = sums[:, u.EXPOSURE] - calendar_relief(totals[:, :, u.FUTURES], spreads)
    addons = sums[:, addon]
    return Margin(span + exposure + addons, span, scan, calendar, minimum, nov, exposure, addons, worst + 1)


def margin_at_expiry(totals: Floats, spreads: Spreads, bucket: int) -> Floats:
    """Return what margin the same books need on the day that ``bucket`` expires, at today's prices.

    On that day its legs pay the expiry-day add-ons and offset nothing of later expiries (RISK.md B5); a share of the
    worst settlement is added by the caller.
    """
    leaving, staying = np.zeros_like(totals), totals.copy()
    leaving[:, bucket] = totals[:, bucket]
    staying[:, bucket] = 0.0
    return np.asarray(margin(leaving, spreads, addon=u.EXPIRY_ADDON).total + margin(staying, spreads).total)


def settlement(totals: Floats, bucket: int) -> Floats:
    """Return the most that has to be paid when ``bucket`` settles, over the spots of the stress grid."""
    return np.asarray(np.maximum(0.0, totals[:, bucket, u.SETTLE :].max(axis=1)))


def calendar_charge(deltas: Floats, spreads: Spreads) -> Floats:
    """Return the charge for deltas of opposite sign in two expiries, paired nearest first, each used once.

    ``deltas`` are composite, in units of the underlying, float64[books, expiries].
    """
    charge = np.zeros(len(deltas))
    for _, far, matched in _pairs(deltas, spreads):
        charge += matched * calendar_rate(spreads, far)
    return charge


def calendar_relief(futures: Floats, spreads: Spreads) -> Floats:
    """Return the exposure margin that pairs of futures in two expiries save: the near leg and a part of the far."""
    product = spreads.product
    saved = np.zeros(len(futures))
    if product.calendar_exposure_bp >= 1 / BP or not product.exposure_bp:
        return saved
    left = product.calendar_exposure_bp * BP
    for near, far, matched in _pairs(futures, spreads):
        legs = spreads.forwards[near] + spreads.forwards[far] * (1 - left)
        saved += matched * product.exposure_bp * BP * legs
    return saved


def calendar_rate(spreads: Spreads, far: int) -> float:
    """Return the charge for one delta unit spread to expiry ``far``."""
    product = spreads.product
    if product.calendar_charge_e9:
        return product.calendar_charge_e9 / E9
    return float(product.calendar_bp * BP * spreads.forwards[far])


def _pairs(units: Floats, spreads: Spreads) -> list[tuple[int, int, Floats]]:
    """Return (near, far, units matched of each book) in order of priority."""
    left = units.copy()
    used = [n for n in np.flatnonzero(np.any(left != 0, axis=0)) if n not in spreads.alone]
    found: list[tuple[int, int, Floats]] = []
    for place, near in enumerate(used):
        for far in used[place + 1 :]:
            a, b = left[:, near], left[:, far]
            matched = np.where(a * b < 0, np.minimum(np.abs(a), np.abs(b)), 0.0)
            if not matched.any():
                continue
            left[:, near] = a - np.sign(a) * matched
            left[:, far] = b - np.sign(b) * matched
            found.append((int(near), int(far), matched))
    return found


def price_risk(losses: Floats, worst: int) -> float:
    """Return SPAN's price risk of an underlying: its scan risk without what volatility and time do.

    ``worst`` is the scenario, 1..16, that its scan risk comes from.
    """
    if worst > SCENARIOS - 2:
        paired = losses[worst - 1]
    else:
        first = (worst - 1) // 2 * 2
        paired = (losses[first] + losses[first + 1]) / 2
    return float(max(0.0, paired - (losses[0] + losses[1]) / 2))


def up_e9(money: float) -> int:
    """Return money in 1e-9, rounded up to a millionth; what lies beyond float64's digits is not counted."""
    millionths = money * MONEY_DIGITS
    near = round(millionths)
    if abs(millionths - near) > 1e-3 + abs(millionths) * 1e-12:
        near = int(np.ceil(millionths))
    return near * (E9 // MONEY_DIGITS)
