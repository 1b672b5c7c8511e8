"""Messages a trade of one trading date (RISK.md A2, RATIO_OTR): what is counted of a route.

New orders, replaces and cancels count as they are numbered for the venue, but for those whose price is within a band
around the last price of the instrument: the band that the exchange exempts. The last price is the reference of the
newest order that had one, so recovery knows it too; before the first one everything counts. Exits and cancels pass and
count. The counters are state (``flow``); limits and bands are resolved for a trading date.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import Scope
from risk.gate.flow import Messages, Tally

BP: Final = 10_000
FLOOR: Final = 500
"""Fewer messages are no matter, where no row says otherwise (RISK.md A2)."""


class RatioBound:
    """Counters of one scope and its limits: messages a trade that are refused (``hard``), or judged (``soft``)."""

    __slots__ = ("floor", "hard", "key", "messages", "scope", "soft")

    def __init__(self, messages: Messages, hard: int, soft: int, floor: int, scope: Scope, key: str) -> None:
        self.messages = messages
        self.hard = hard
        self.soft = soft
        self.floor = floor
        self.scope = scope
        self.key = key

    def is_over(self, most: int) -> bool:
        """Whether there are more messages a trade. 500 for 13 are 38.5, 530 for 13 are 40.8; no trade counts as one."""
        counted = self.messages
        return counted.sent >= self.floor and counted.sent > most * max(1, counted.trades)


class Ratio:
    """What an order of one route counts for, and what may refuse it. Prices in steps of the instrument."""

    __slots__ = ("_last", "_width", "_width_bp", "bounds")

    def __init__(self, bounds: list[RatioBound], last: Tally, width_bp: int, width: int) -> None:
        self.bounds = bounds
        self._last = last
        self._width_bp = width_bp
        self._width = width

    def take(self, price: int) -> None:
        """Count a message about an order of this price; 0 = MARKET, which is as near as can be."""
        last = self._last.count
        width = max(last * self._width_bp // BP, self._width)
        if last > 0 and width > 0 and (not price or abs(price - last) <= width):
            return
        for bound in self.bounds:
            bound.messages.sent += 1

    def see(self, price: int) -> None:
        """Take the instrument's newest price."""
        self._last.count = price

    def take_trade(self) -> None:
        """Count a trade."""
        for bound in self.bounds:
            bound.messages.trades += 1

    def hard(self) -> RatioBound | None:
        """Return the first scope above its hard limit."""
        for bound in self.bounds:
            if bound.is_over(bound.hard):
                return bound
        return None

    def soft(self) -> RatioBound | None:
        """Return the first scope above its soft limit."""
        for bound in self.bounds:
            if bound.is_over(bound.soft):
                return bound
        return None
