"""One side of the venue's book: what the feed displays, what we took of it, what trades announced before their diff.

Why not the market's own book: matching needs three numbers a level, SANDBOX section 4's D (displayed), C (taken by
us) and S (trade seed), and the own orders that rest there. C and S are rare, so they live in their own dicts and a
level update pays one look-up for each.

Rule: a level is addressed by ``key`` = +price on the bid side and -price on the ask side, so that on both sides a
larger key is a better price and the best is the last one. Two opposite keys meet or cross when their sum is >= 0.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

from protocol.codes import Side
from protocol.ticks import Level

UNKNOWN: Final = -1
"""Queue position of an order whose level nobody has shown us: not fillable at its price."""

NO_LIMIT: Final = -(2**63)


class Order:
    """One order at the venue, in steps of its instrument. ``ahead`` is SANDBOX's f, the quantity before it.

    ``stop_price``: what a trade has to reach before the order is looked at; 0 = it is no stop order, or triggered.
    """

    __slots__ = ("ahead", "key", "leaves", "number", "order_id", "price", "quantity", "side", "stop_price", "symbol")

    def __init__(
        self, order_id: str, number: int, symbol: str, side: Side, price: int, quantity: int, stop_price: int = 0
    ) -> None:
        self.stop_price = stop_price
        self.order_id = order_id
        self.number = number
        self.symbol = symbol
        self.side = side
        self.set_price(price)
        self.quantity = quantity
        self.leaves = quantity
        self.ahead = UNKNOWN

    def set_price(self, price: int) -> None:
        """Set the price of an order that is in no queue."""
        self.price = price
        self.key = price if self.side is Side.BUY else -price


class BookSide:
    """One side of one book. Quantities in quantity steps, prices in price steps."""

    __slots__ = ("keys", "own", "own_keys", "replenishes", "seeds", "sign", "sizes", "taken", "worst_key")

    def __init__(self, sign: int, *, replenishes: bool) -> None:
        self.sign = sign
        self.replenishes = replenishes
        self.keys: list[int] = []
        self.sizes: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self.seeds: dict[int, tuple[int, int]] = {}
        # Worst key of the last snapshot; what is worse is known only where a level was shown.
        self.worst_key: int | None = None
        self.own: dict[int, list[Order]] = {}
        self.own_keys: list[int] = []

    # What the feed displays

    def clear(self) -> None:
        """Forget the book and freeze the queue: nothing rests at a known place until the next snapshot."""
        self.keys.clear()
        self.sizes.clear()
        self.taken.clear()
        self.seeds.clear()
        self.worst_key = None
        for queue in self.own.values():
            for order in queue:
                order.ahead = UNKNOWN

    def replace(self, levels: Sequence[Level], exch_ns: int) -> None:
        """Take a whole snapshot, best first."""
        sign = self.sign
        self.sizes = {sign * price: size for price, size in levels if size}
        self.keys = sorted(self.sizes)
        self.worst_key = self.keys[0] if self.keys else None
        for key in tuple(self.taken):
            self._consume_again(key, self.sizes.get(key, 0))
        for key in tuple(self.seeds):
            self._unseed(key, exch_ns)
        for key in self.own_keys:
            if self.is_known(key):
                self._requeue(key, self.sizes.get(key, 0))

    def update(self, levels: Sequence[Level], exch_ns: int) -> None:
        """Apply the levels of one message; sizes are absolute, 0 removes."""
        sign, keys, sizes = self.sign, self.keys, self.sizes
        taken, seeds, own = self.taken, self.seeds, self.own
        for price, size in levels:
            key = sign * price
            if size:
                if key not in sizes:
                    insort(keys, key)
                sizes[key] = size
            elif key in sizes:
                del sizes[key]
                del keys[bisect_left(keys, key)]
            if key in taken:
                self._consume_again(key, size)
            if key in seeds:
                self._unseed(key, exch_ns)
            if key in own:
                self._requeue(key, size)

    def is_known(self, key: int) -> bool:
        """Whether an absent size at ``key`` means empty: inside the known depth, or better than the best."""
        if key in self.sizes:
            return True
        if not self.keys:
            return False
        return key > self.keys[-1] or (self.worst_key is not None and key >= self.worst_key)

    # What we do to it

    def take(self, quantity: int, limit_key: int) -> list[tuple[int, int]]:
        """Take up to ``quantity`` from the best level to ``limit_key``; return (price, quantity) a level."""
        keys, sizes, taken, seeds = self.keys, self.sizes, self.taken, self.seeds
        walked: list[tuple[int, int]] = []
        at = len(keys) - 1
        while at >= 0:
            key = keys[at]
            if key < limit_key:
                break
            available = sizes[key]
            if key in taken:
                available -= taken[key]
            if key in seeds:
                available -= seeds[key][0]
            if available > 0:
                here = min(quantity, available)
                if not self.replenishes:
                    taken[key] = taken.get(key, 0) + here
                walked.append((self.sign * key, here))
                quantity -= here
                if quantity == 0:
                    break
            at -= 1
        return walked

    def reachable(self, quantity: int, limit_key: int) -> int:
        """Return how much of ``quantity`` ``take`` would get; takes nothing."""
        sizes, found, at = self.sizes, 0, len(self.keys) - 1
        while at >= 0 and found < quantity:
            key = self.keys[at]
            if key < limit_key:
                break
            found += max(0, sizes[key] - self.taken.get(key, 0) - self.seeds.get(key, (0, 0))[0])
            at -= 1
        return min(found, quantity)

    def available(self, price: int) -> int:
        """Return A = max(0, D - C - S) at a price."""
        key = self.sign * price
        seed = self.seeds.get(key, (0, 0))[0]
        return max(0, self.sizes.get(key, 0) - self.taken.get(key, 0) - seed)

    def seed(self, key: int, quantity: int, exch_ns: int) -> None:
        """Remember a trade that took ``quantity`` here until the level that shows it comes."""
        before, _ = self.seeds.get(key, (0, 0))
        self.seeds[key] = (before + quantity, exch_ns)

    def rest(self, order: Order, ahead: int) -> None:
        """Queue the order behind our own ones at its price."""
        order.ahead = ahead
        queue = self.own.get(order.key)
        if queue is None:
            self.own[order.key] = [order]
            insort(self.own_keys, order.key)
        else:
            queue.append(order)

    def remove(self, order: Order) -> None:
        """Take the order out of its queue."""
        queue = self.own[order.key]
        queue.remove(order)
        if not queue:
            del self.own[order.key]
            del self.own_keys[bisect_left(self.own_keys, order.key)]

    # What a level's change does to C, S and f (SANDBOX section 4: sticky, seed, risk_adverse)

    def _consume_again(self, key: int, size: int) -> None:
        if size == 0:
            del self.taken[key]
        elif self.taken[key] > size:
            self.taken[key] = size

    def _unseed(self, key: int, exch_ns: int) -> None:
        # Several trades before one diff: a diff older than the last of them shows at most the earlier ones.
        if exch_ns >= self.seeds[key][1]:
            del self.seeds[key]

    def _requeue(self, key: int, size: int) -> None:
        for order in self.own[key]:
            if order.ahead == UNKNOWN or order.ahead > size:
                order.ahead = size
