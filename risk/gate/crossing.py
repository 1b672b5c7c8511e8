"""Prices at which own open orders of one account and instrument may trade: what the other side must not meet.

RISK.md A2, STP_CROSS. Prices are kept sorted, so the best one is at an end and a change costs a search and a move of at
most as many numbers as there are open orders. They derive from open orders: in no snapshot and no hash, made anew by
``further``. Each order is known by itself, so noting it twice changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from protocol.codes import Side

BUY: Final = Side.BUY


class OwnPrices:
    """Prices, in steps, of the open orders of one (account, instrument) by side; lowest first."""

    __slots__ = ("_known", "buys", "sells")

    def __init__(self) -> None:
        self.buys: list[int] = []
        self.sells: list[int] = []
        self._known: dict[object, int] = {}

    def note(self, order: object, side: Side, price: int) -> None:
        """Set the price at which an order may trade now; 0 = it may not: over, at no venue, no LIMIT order."""
        prices = self.buys if side is BUY else self.sells
        before = self._known.pop(order, 0)
        if before:
            del prices[bisect_left(prices, before)]
        if price > 0:
            insort(prices, price)
            self._known[order] = price

    def best(self, side: Side) -> int:
        """Return the own price that an order of ``side`` would meet first; 0 = none is open on the other side."""
        if side is BUY:
            return self.sells[0] if self.sells else 0
        return self.buys[-1] if self.buys else 0

    def copy(self) -> OwnPrices:
        """Return one of its own, for orders that are only looked at."""
        made = OwnPrices()
        made.buys, made.sells, made._known = self.buys.copy(), self.sells.copy(), self._known.copy()
        return made
