"""The venue's matching core for one instrument: profile ``prudent`` of SANDBOX section 4, in integers.

Ticks and orders come in exchange order; fills come out. What SANDBOX leaves open is read the careful way, and the
slow reference in tests/reference reads it the same way from the text alone:

- The book is STALE before the first snapshot and after a BookClear or a gap. Then nothing matches at all; what
  could only take (MARKET, IOC) is refused by the exchange, a limit order rests with f = UNKNOWN.
- f = UNKNOWN becomes D when a snapshot or a level names the price; only a trade through it or a book cross may
  fill it before.
- A price is inside the known depth if it is at or better than the last snapshot's worst level, or better than the
  best one.
- A trade is skipped as seed only when the book is newer than it; at the same nanosecond it seeds.
- A crossed message: of two best prices that cross, the one that the message did not name is stale (the ask, if it
  named both or none), until nothing crosses.
- One passive fill of a book cross covers all levels crossed: its price is our limit whatever they were.

Rule: own orders never match each other; the sum of own fills at a trade is at most its quantity; what is taken at
a level is at most what was displayed there since it was last empty or smaller.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from protocol.codes import Liquidity, Side
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Tick, Trade
from sandbox.book import NO_LIMIT, UNKNOWN, BookSide, Order

PROFILE: Final = "prudent"
BUY: Final = Side.BUY
MAKER: Final = Liquidity.MAKER
TAKER: Final = Liquidity.TAKER


class Fill(Struct, frozen=True, gc=False):
    """A fill of one own order: price and quantity in steps, ``leaves`` after it."""

    order: Order
    price: int
    quantity: int
    leaves: int
    liquidity: Liquidity


class Matcher:
    """One instrument. ``replenishes`` (benchmarks on a static book only): what is taken is there again at once."""

    __slots__ = ("_book_ns", "asks", "bids", "exch_ns", "feed_epoch", "feed_seq", "is_live", "last_price", "stops")

    def __init__(self, *, replenishes: bool = False) -> None:
        self.bids = BookSide(1, replenishes=replenishes)
        self.asks = BookSide(-1, replenishes=replenishes)
        self.is_live = False
        self.feed_epoch = 0
        self.feed_seq = 0
        # The venue's clock: never goes back, whatever the feed says.
        self.exch_ns = 0
        self._book_ns = 0
        self.last_price = 0  # of the last trade, in steps; 0 = none yet
        self.stops: dict[str, Order] = {}  # stop orders that wait for a trade, oldest first

    # Ticks

    def on_tick(self, tick: Tick) -> list[Fill]:
        """Apply one tick and return the passive fills it caused, in priority order."""
        self.feed_epoch = tick.feed_epoch
        self.feed_seq = tick.feed_seq
        exch_ns = tick.exch_ns
        self.exch_ns = max(self.exch_ns, exch_ns)
        if type(tick) is BookDelta:
            if not self.is_live:
                return []
            self.bids.update(tick.bids, exch_ns)
            self.asks.update(tick.asks, exch_ns)
            self._book_ns = exch_ns
            return self._match_book(tick)
        if type(tick) is Trade:
            return self._on_trade(tick) if self.is_live else []
        if type(tick) is BookSnapshot:
            self.is_live = True
            self.bids.replace(tick.bids, exch_ns)
            self.asks.replace(tick.asks, exch_ns)
            self._book_ns = exch_ns
            return self._match_book(tick)
        if type(tick) is BookClear:
            self.mark_stale()
        return []

    def mark_stale(self) -> None:
        """Forget the book until the next snapshot (DECISIONS 24)."""
        self.is_live = False
        self.bids.clear()
        self.asks.clear()

    # Orders

    def submit(self, order: Order, *, is_market: bool, rests: bool) -> list[Fill]:
        """Match an arriving order against the displayed book, then let the rest of it rest or be.

        The order of calls is the order of arrival. The caller closes what neither filled nor rests.
        """
        fills: list[Fill] = []
        if order.side is BUY:
            own, opposite = self.bids, self.asks
        else:
            own, opposite = self.asks, self.bids
        leaves = order.leaves
        for price, quantity in opposite.take(leaves, NO_LIMIT if is_market else -order.key):
            leaves -= quantity
            fills.append(Fill(order, price, quantity, leaves, TAKER))
        order.leaves = leaves
        if rests and leaves:
            own.rest(order, 0 if fills else self._ahead(own, order.key))
        return fills

    def wait(self, order: Order) -> None:
        """Let an order from before a restart wait for its stop price, or rest again.

        Its place in the queue is unknown until a snapshot.
        """
        if order.stop_price:
            self.stops[order.order_id] = order
            return
        (self.bids if order.side is BUY else self.asks).rest(order, UNKNOWN)

    def reachable(self, order: Order) -> int:
        """Return how much of an arriving LIMIT order would fill at once."""
        opposite = self.asks if order.side is BUY else self.bids
        return opposite.reachable(order.leaves, -order.key)

    def has_reached(self, order: Order) -> bool:
        """Whether the last trade triggers a stop order."""
        last = self.last_price
        return last > 0 and (last >= order.stop_price if order.side is BUY else last <= order.stop_price)

    def cancel(self, order: Order) -> None:
        """Take a resting order, or a stop order that waits, out."""
        if order.stop_price:
            del self.stops[order.order_id]
            return
        (self.bids if order.side is BUY else self.asks).remove(order)

    def _ahead(self, own: BookSide, key: int) -> int:
        if not self.is_live or not own.is_known(key):
            return UNKNOWN
        return own.sizes.get(key, 0)

    # Passive fills

    def _on_trade(self, trade: Trade) -> list[Fill]:
        self.last_price = trade.price_steps
        side = self.asks if trade.aggressor is BUY else self.bids
        key = side.sign * trade.price_steps
        if trade.exch_ns >= self._book_ns:
            side.seed(key, trade.quantity_steps, trade.exch_ns)
        if not side.own_keys or side.own_keys[-1] < key:
            return []
        left = trade.quantity_steps
        fills: list[Fill] = []
        for own_key in reversed(side.own_keys):
            if own_key < key:
                break
            for order in side.own[own_key]:
                left = self._serve(order, left, is_through=own_key > key, fills=fills)
        _drop_filled(side, fills)
        return fills

    @staticmethod
    def _serve(order: Order, left: int, *, is_through: bool, fills: list[Fill]) -> int:
        """Let one trade's quantity reach one order; return what is left of it for the orders behind.

        Quantity ahead of an order is not used up for the next one: each f counts from the front of the level.
        """
        if is_through:
            order.ahead = 0
        if order.ahead == UNKNOWN:
            return left
        quantity = min(max(left - order.ahead, 0), order.leaves)
        order.ahead = max(0, order.ahead - left)
        if quantity:
            order.leaves -= quantity
            fills.append(Fill(order, order.price, quantity, order.leaves, MAKER))
        return left - quantity

    def _match_book(self, tick: BookDelta | BookSnapshot) -> list[Fill]:
        bids, asks = self.bids, self.asks
        if bids.keys and asks.keys and bids.keys[-1] + asks.keys[-1] > 0:
            self._uncross(tick)
        fills: list[Fill] = []
        if bids.own_keys and asks.keys and bids.own_keys[-1] + asks.keys[-1] >= 0:
            self._cross(bids, asks, fills)
        if asks.own_keys and bids.keys and asks.own_keys[-1] + bids.keys[-1] >= 0:
            self._cross(asks, bids, fills)
        return fills

    def _uncross(self, tick: BookDelta | BookSnapshot) -> None:
        bids, asks = self.bids, self.asks
        named_bids = {price for price, _ in tick.bids}
        named_asks = {price for price, _ in tick.asks}
        while bids.keys and asks.keys and bids.keys[-1] + asks.keys[-1] > 0:
            bid, ask = bids.keys[-1], -asks.keys[-1]
            if ask in named_asks and bid not in named_bids:
                bids.update([(bid, 0)], tick.exch_ns)
            else:
                asks.update([(ask, 0)], tick.exch_ns)

    @staticmethod
    def _cross(own: BookSide, opposite: BookSide, fills: list[Fill]) -> None:
        """Fill own orders that the opposite best has reached, best price first, from what is available there."""
        crossed: list[Fill] = []
        for own_key in reversed(own.own_keys):
            if own_key + opposite.keys[-1] < 0:
                break
            for order in own.own[own_key]:
                order.ahead = 0
                quantity = sum(taken for _, taken in opposite.take(order.leaves, -own_key))
                if quantity:
                    order.leaves -= quantity
                    crossed.append(Fill(order, order.price, quantity, order.leaves, MAKER))
        _drop_filled(own, crossed)
        fills += crossed


def _drop_filled(side: BookSide, fills: list[Fill]) -> None:
    for fill in fills:
        if fill.leaves == 0:
            side.remove(fill.order)
