"""The worst case of positions with open orders: which of them fill is the market's choice (RISK.md B2.9).

Up to six open orders of an underlying: every subset is a book. More: the margin of the positions plus what is reserved
for each order, which bounds every subset. What is needed of an unfilled purchase of an option is its premium too.
Underlyings add up: no inter-commodity credit is taken here, so the sum over underlyings is the worst of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from market.pricing import Floats
from protocol.codes import Side
from protocol.units import E9
from risk.portfolio.book import OpenOrder
from risk.portfolio.margin import calendar_rate, margin, margin_at_expiry, settlement
from risk.portfolio.standing import Desk, Need, Standing
from risk.portfolio.vols import BP

SUBSET_ORDERS_MAX: Final = 6


class Leg(NamedTuple):
    """An order as the worst case sees it: a row, a signed quantity, and what it costs besides margin if it fills."""

    row: int
    quantity: float
    premium: float
    reserved: float  # 0 = nothing was: ``bound_of`` says what it can need


def legs(standing: Standing, number: int) -> list[Leg]:
    """Return the open orders of one underlying."""
    c = standing.desk.catalogue
    found = []
    for order in standing.book.orders:
        row = c.index.get(order.instrument, -1)
        if row >= 0 and c.underlying[row] == number and order.leaves_e9:
            found.append(leg_of(standing.desk, row, order))
    return found


def leg_of(desk: Desk, row: int, order: OpenOrder) -> Leg:
    """Return an order as a leg. Without a price of its own a purchase costs what the contract is worth."""
    signed = order.leaves_e9 / E9 if order.side is Side.BUY else -order.leaves_e9 / E9
    each = order.price_e9 / E9 * float(desk.catalogue.multiplier[row]) or float(desk.valued.price[row])
    premium = signed * each if signed > 0 and desk.catalogue.is_option[row] else 0.0
    return Leg(row, signed, premium, order.reserved_e9 / E9)


def bound_of(desk: Desk, leg: Leg) -> float:
    """Return what is reserved for an order, or what it can need at most where nothing is."""
    return leg.reserved or alone(desk, leg.row, leg.quantity) + leg.premium


def alone(desk: Desk, row: int, signed: float) -> float:
    """Return a bound of what any book's margin grows by with this order: its own margin and its calendar charge."""
    number = int(desk.catalogue.underlying[row])
    spreads = desk.spreads[number]
    totals = desk.totals(number, [row], np.array([[signed]]))
    far = len(spreads.forwards) - 1
    rate = max(calendar_rate(spreads, n) for n in range(far + 1)) if far else 0.0
    return float(margin(totals, spreads).total[0]) + abs(signed * float(desk.valued.delta[row])) * rate


def need(standing: Standing, number: int, order: Leg | None, shares: Floats, bucket: int = -1) -> Need:
    """Return what the underlying needs with ``order`` at these shares of its quantity, each in turn.

    ``order`` is the one that is asked for; None = none, and one share is enough. ``bucket`` is the expiry whose day is
    looked at too; -1 = none.
    """
    if order is None and (kept := standing.kept.get((number, bucket))) is not None:
        return kept
    asked = order
    others = legs(standing, number)
    spreads = standing.desk.spreads[number]
    fills = _subsets(len(others))
    extra = np.zeros(len(shares))
    if fills is None:
        desk = standing.desk
        extra += sum(bound_of(desk, leg) for leg in others) + (shares * bound_of(desk, order) if order else 0.0)
        others, fills, order = [], np.zeros((1, 0)), None
    rows = sorted({leg.row for leg in chain(others, [order] if order else [])})
    held = np.tile(standing.quantity[rows], (len(fills), 1))
    premium = np.zeros(len(fills))
    for n, leg in enumerate(others):
        held[:, rows.index(leg.row)] += fills[:, n] * leg.quantity
        premium += fills[:, n] * leg.premium
    books, premiums = [held], [premium]
    if order:
        for share in shares:
            filled = held.copy()
            filled[:, rows.index(order.row)] += share * order.quantity
            books.append(filled)
            premiums.append(premium + share * order.premium)
    totals = standing.totals_with(number, rows, np.concatenate(books))
    found = margin(totals, spreads)
    paid = np.concatenate(premiums)
    now, worst = _worst((found.total + paid).reshape(len(books), -1), len(shares), found.worst)
    at_expiry = now
    if bucket >= 0:
        buffer = standing.desk.catalogue.params.stress_buffer_bp * BP * settlement(totals, bucket)
        later = margin_at_expiry(totals, spreads, bucket) + buffer + paid
        at_expiry, _ = _worst(later.reshape(len(books), -1), len(shares), found.worst)
    needed = Need(now + extra, at_expiry + extra, worst)
    if asked is None:
        standing.kept[number, bucket] = needed
    return needed


def reach(standing: Standing, number: int, column: int | slice, order: Leg | None, shares: Floats) -> Floats:
    """Return the largest absolute total of a linear column, whichever orders fill, one value a candidate."""
    one = standing.desk.units.long[:, column]
    base = standing.totals(number)[:, column].sum(axis=0)
    parts = [leg.quantity * one[leg.row] for leg in legs(standing, number)]
    high = base + sum((np.maximum(p, 0.0) for p in parts), np.zeros_like(base))
    low = base + sum((np.minimum(p, 0.0) for p in parts), np.zeros_like(base))
    own = order.quantity * one[order.row] if order else np.zeros_like(base)
    return np.asarray(
        np.maximum(np.abs(high + shares * max(own, 0.0)), np.abs(low + shares * min(own, 0.0)))
    )  # fmt: skip


def _worst(
    needs: Floats, shares: int, scenarios: Floats | np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[Floats, int]:
    """Return the worst of the books without the order and with it, and the scenario of the first candidate's."""
    before = needs[0].max()
    if len(needs) == 1:
        return np.full(shares, before), int(scenarios[int(np.argmax(needs[0]))])
    after = np.maximum(needs[1:].max(axis=1), before)
    first = np.concatenate([needs[0], needs[1]])
    return after, int(scenarios[int(np.argmax(first))])


def _subsets(orders: int) -> Floats | None:
    """Return every subset as a row of zeros and ones; None if there are too many."""
    if orders > SUBSET_ORDERS_MAX:
        return None
    bits: Sequence[int] = range(orders)
    return np.array([[subset >> n & 1 for n in bits] for subset in range(2**orders)], np.float64).reshape(
        2**orders, orders
    )
