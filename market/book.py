"""An order book by price level, in integer steps: what the venue shows, nothing of ours.

Rule: a level event sets the absolute size and 0 removes it; removing an unknown level is normal. All levels of
a message are applied before anyone looks. Where the book is crossed then, the levels that the message did not
set are stale and dropped (SANDBOX section 2); a locked book stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.codes import Side
from protocol.ticks import Level

# Steps walked from a lost best price before the whole side is searched: neighbours are near, most of the time.
WALK_STEPS: Final = 100


class Book:
    """The levels of one instrument.

    Attributes:
        bids: price_steps → quantity_steps; ``asks`` likewise. Read them; change them only by the methods.
        best_bid: Highest bid price in steps, None when there is none; ``best_ask`` the lowest ask.
        dropped: Levels dropped because they crossed newer ones.
    """

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "dropped")

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.best_bid: int | None = None
        self.best_ask: int | None = None
        self.dropped = 0

    def clear(self) -> None:
        """Forget every level."""
        self.bids.clear()
        self.asks.clear()
        self.best_bid = None
        self.best_ask = None

    def apply_snapshot(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Replace the whole book."""
        self.clear()
        self.apply_levels(bids, asks)

    def apply_levels(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Set the absolute sizes of the levels of one message."""
        if bids:
            self._apply_bids(bids)
        if asks:
            self._apply_asks(asks)
        if self.best_bid is not None and self.best_ask is not None and self.best_bid > self.best_ask:
            self._uncross({price for price, _ in bids}, {price for price, _ in asks})

    def bid_size(self) -> int:
        """Return the size at the best bid in steps, 0 when there is none."""
        return 0 if self.best_bid is None else self.bids[self.best_bid]

    def ask_size(self) -> int:
        """Return the size at the best ask in steps, 0 when there is none."""
        return 0 if self.best_ask is None else self.asks[self.best_ask]

    def levels(self, side: Side) -> list[Level]:
        """Return the levels of a side (BUY = bids), best first; sorts, so not for the hot path."""
        if side == Side.BUY:
            return sorted(self.bids.items(), reverse=True)
        return sorted(self.asks.items())

    def _apply_bids(self, levels: Sequence[Level]) -> None:
        bids = self.bids
        best = self.best_bid
        for price, size in levels:
            if size:
                bids[price] = size
                if best is None or price > best:
                    best = price
            else:
                bids.pop(price, None)
        # The next best is looked for once a message, not once a level.
        if best is not None and best not in bids:
            best = _next(bids, best, -1)
        self.best_bid = best

    def _apply_asks(self, levels: Sequence[Level]) -> None:
        asks = self.asks
        best = self.best_ask
        for price, size in levels:
            if size:
                asks[price] = size
                if best is None or price < best:
                    best = price
            else:
                asks.pop(price, None)
        if best is not None and best not in asks:
            best = _next(asks, best, 1)
        self.best_ask = best

    def _uncross(self, fresh_bids: set[int], fresh_asks: set[int]) -> None:
        """Drop crossing levels: old asks, then old bids, then (both in one message) the asks."""
        for fresh, is_ask in ((fresh_asks, True), (fresh_bids, False), (frozenset[int](), True)):
            if self.best_bid is None or self.best_ask is None or self.best_bid <= self.best_ask:
                return
            if is_ask:
                stale = [p for p in self.asks if p < self.best_bid and p not in fresh]
            else:
                stale = [p for p in self.bids if p > self.best_ask and p not in fresh]
            for price in stale:
                del (self.asks if is_ask else self.bids)[price]
            self.dropped += len(stale)
            self.best_bid = max(self.bids, default=None)
            self.best_ask = min(self.asks, default=None)


def _next(levels: dict[int, int], lost: int, step: int) -> int | None:
    for price in range(lost + step, lost + step * WALK_STEPS, step):
        if price in levels:
            return price
    if not levels:
        return None
    return max(levels) if step < 0 else min(levels)
