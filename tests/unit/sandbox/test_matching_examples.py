"""The worked examples of SANDBOX section 12 that profile prudent's limit, market and IOC orders cover."""

from __future__ import annotations

from itertools import count

from protocol.codes import Liquidity, Side
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Level, Trade
from sandbox.book import UNKNOWN, Order
from sandbox.matching import Fill, Matcher

BUY, SELL = Side.BUY, Side.SELL
BIDS = [(100, 10), (99, 20), (98, 30)]
ASKS = [(101, 8), (102, 12), (103, 40)]


class Desk:
    """A matcher on book B, spoken to in the words of the examples."""

    def __init__(self) -> None:
        self.matcher = Matcher()
        self._seq = count(1)
        self._ids = count(1)
        self.snapshot(BIDS, ASKS)

    def _stamp(self) -> tuple[int, int, int, int]:
        n = next(self._seq)
        return 1, n, n * 10, n * 10

    def snapshot(self, bids: list[Level], asks: list[Level]) -> list[Fill]:
        return self.matcher.on_tick(BookSnapshot(*self._stamp(), bids, asks))

    def delta(self, bids: list[Level] = [], asks: list[Level] = []) -> list[tuple[int, int]]:  # noqa: B006
        return shown(self.matcher.on_tick(BookDelta(*self._stamp(), bids, asks)))

    def trade(self, aggressor: Side, price: int, quantity: int) -> list[Fill]:
        return self.matcher.on_tick(Trade(*self._stamp(), price, quantity, aggressor, 0))

    def sold(self, price: int, quantity: int) -> list[tuple[int, int]]:
        return shown(self.trade(SELL, price, quantity))

    def clear(self) -> None:
        self.matcher.on_tick(BookClear(*self._stamp()))

    def order(self, side: Side, price: int, quantity: int) -> Order:
        n = next(self._ids)
        return Order(f"O-{n}", n, "X", side, price, quantity)

    def market(self, side: Side, quantity: int) -> list[tuple[int, int]]:
        return shown(self.matcher.submit(self.order(side, 0, quantity), is_market=True, rests=False))

    def ioc(self, side: Side, price: int, quantity: int) -> list[tuple[int, int]]:
        return shown(self.matcher.submit(self.order(side, price, quantity), is_market=False, rests=False))

    def limit(self, side: Side, price: int, quantity: int) -> tuple[Order, list[tuple[int, int]]]:
        order = self.order(side, price, quantity)
        return order, shown(self.matcher.submit(order, is_market=False, rests=True))


def shown(fills: list[Fill]) -> list[tuple[int, int]]:
    return [(f.quantity, f.price) for f in fills]


def test_example_1_a_market_order_walks_the_book() -> None:
    """BUY MARKET 15 takes 8@101 and 7@102; the average against mid 100.5 is +0.966667 ticks."""
    fills = Desk().market(BUY, 15)

    assert fills == [(8, 101), (7, 102)]
    average_e6 = sum(q * p for q, p in fills) * 10**6 // 15
    assert average_e6 - 100_500_000 == 966_666  # 0.966667 rounded


def test_example_2_an_ioc_order_leaves_nothing_behind() -> None:
    """BUY IOC 102 x 25 takes 20; the rest is for the caller to cancel and rests nowhere."""
    desk = Desk()

    assert desk.ioc(BUY, 102, 25) == [(8, 101), (12, 102)]
    assert desk.matcher.bids.own_keys == []


def test_example_2_what_a_limit_order_leaves_rests_at_the_front() -> None:
    """BUY GTC 102 x 25 takes 20 and rests 5 at 102 with nothing ahead."""
    order, fills = Desk().limit(BUY, 102, 25)

    assert fills == [(8, 101), (12, 102)]
    assert (order.leaves, order.ahead) == (5, 0)


def test_example_5_taken_liquidity_stays_taken() -> None:
    """Consumption is sticky: an increase is fresh, a decrease comes from what is left to us, 0 clears it."""
    desk = Desk()
    assert desk.ioc(BUY, 101, 5) == [(5, 101)]
    assert desk.ioc(BUY, 101, 5) == [(3, 101)]

    available = []
    for size in (12, 6, 0, 9):
        desk.delta(asks=[(101, size)])
        available.append(desk.matcher.asks.available(101))

    assert available == [4, 0, 0, 9]


def test_example_6_a_resting_order_waits_for_its_turn() -> None:
    """BUY LIMIT 100 x 4 behind 10 fills 2, 1 and 1, and the exact match closes it."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 4)
    assert order.ahead == 10
    assert desk.sold(100, 7) == []
    assert order.ahead == 3
    desk.delta(bids=[(100, 3)])
    assert order.ahead == 3

    assert desk.sold(100, 5) == [(2, 100)]
    assert order.ahead == 0
    assert desk.sold(100, 1) == [(1, 100)]
    assert desk.sold(100, 9) == [(1, 100)]
    assert desk.matcher.bids.own == {}


def test_example_7_cancels_ahead_only_shorten_the_queue() -> None:
    """The queue ahead follows the level down, never up; an emptied level leaves nothing ahead."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 4)

    ahead = []
    for size in (6, 14, 0):
        desk.delta(bids=[(100, size)])
        ahead.append(order.ahead)

    assert ahead == [6, 6, 0]
    assert desk.sold(100, 1) == [(1, 100)]


def test_example_10_own_orders_share_one_trade() -> None:
    """One trade of 20 fills A 3 and B 3: what A got is not there for B."""
    desk = Desk()
    desk.limit(BUY, 100, 3)
    desk.delta(bids=[(100, 14)])
    b, _ = desk.limit(BUY, 100, 5)
    assert b.ahead == 14

    assert desk.sold(100, 20) == [(3, 100), (3, 100)]
    assert (b.leaves, b.ahead) == (2, 0)


def test_example_11_a_trade_through_fills_at_most_its_quantity_at_our_price() -> None:
    """SELL trade 2@99 fills 2@100 of our 6, and the queue ahead is gone."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 6)

    assert desk.sold(99, 2) == [(2, 100)]
    assert (order.leaves, order.ahead) == (4, 0)
    assert desk.sold(100, 1) == [(1, 100)]


def test_example_12_a_book_cross_fills_what_is_displayed() -> None:
    """Ask 100 x 4 against our BUY 100 x 6 fills 4 as maker and counts as taken; one more displayed fills 1."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 6)

    fills = desk.matcher.on_tick(BookDelta(1, 2, 20, 20, [(100, 0)], [(100, 4)]))

    assert [(f.quantity, f.price, f.liquidity) for f in fills] == [(4, 100, Liquidity.MAKER)]
    assert order.leaves == 2
    assert desk.matcher.asks.taken == {-100: 4}
    assert desk.delta(asks=[(100, 5)]) == [(1, 100)]


def test_example_13_a_trade_seen_before_its_diff_is_gone_already() -> None:
    """The seed of a BUY trade 8@102 leaves 4@102, then 1@103; the diff that shows it ends the seed."""
    desk = Desk()
    desk.delta(asks=[(101, 0)])
    desk.trade(BUY, 102, 8)
    assert desk.matcher.asks.available(102) == 4

    assert desk.market(BUY, 5) == [(4, 102), (1, 103)]

    desk.delta(asks=[(102, 9)])
    assert desk.matcher.asks.available(102) == 5


def test_a_trade_older_than_the_book_seeds_nothing() -> None:
    """The book already shows what an older trade took."""
    desk = Desk()
    desk.matcher.on_tick(BookDelta(1, 50, 500, 500, [], [(101, 8)]))

    desk.matcher.on_tick(Trade(1, 51, 499, 499, 101, 3, BUY, 0))

    assert desk.matcher.asks.available(101) == 8


def test_a_price_outside_the_known_depth_waits_until_it_is_shown() -> None:
    """At 90 nobody showed us the queue: no fill at the price before a level names it, then f = D."""
    desk = Desk()
    order, _ = desk.limit(BUY, 90, 5)
    assert order.ahead == UNKNOWN
    assert desk.sold(90, 100) == []

    desk.delta(bids=[(90, 7)])
    assert order.ahead == 7
    assert desk.sold(90, 9) == [(2, 90)]


def test_a_trade_through_an_unknown_queue_fills() -> None:
    """Who sold lower passed our price, whatever stood there."""
    desk = Desk()
    desk.limit(BUY, 90, 5)

    assert desk.sold(89, 3) == [(3, 90)]


def test_an_empty_price_inside_the_known_depth_has_nothing_ahead() -> None:
    """Inside the spread, and in a hole of the snapshot, we are first."""
    desk = Desk()
    desk.snapshot([(100, 10), (97, 5)], [(105, 8)])

    assert [desk.limit(BUY, price, 1)[0].ahead for price in (104, 99, 97, 96)] == [0, 0, 5, UNKNOWN]


def test_a_stale_book_fills_nothing_and_a_snapshot_puts_orders_at_the_end() -> None:
    """After a clear nothing matches; the snapshot shows the queue, and we stand behind all of it."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 4)
    desk.clear()
    assert order.ahead == UNKNOWN
    assert not desk.matcher.is_live
    assert desk.sold(99, 50) == []
    assert desk.delta(asks=[(100, 4)]) == []

    desk.snapshot([(100, 25)], [(101, 8)])

    assert order.ahead == 25


def test_one_message_is_applied_whole_before_it_matches() -> None:
    """A level that appears and goes within one message never filled anything."""
    desk = Desk()
    desk.limit(BUY, 100, 6)

    assert desk.delta(asks=[(100, 4), (100, 0)]) == []


def test_orders_of_both_own_sides_never_match_each_other() -> None:
    """An own BUY resting at 102 and an own SELL at 102 stand side by side."""
    desk = Desk()
    desk.limit(BUY, 102, 25)

    _, fills = desk.limit(SELL, 102, 5)

    assert fills == []


def test_a_trade_serves_better_prices_first() -> None:
    """Our 100 is filled before our 99 where a trade at 99 reaches both."""
    desk = Desk()
    desk.limit(BUY, 99, 5)
    desk.limit(BUY, 100, 2)

    assert desk.sold(99, 24) == [(2, 100), (2, 99)]  # 24 - 2 reach 99, where 20 are ahead


def test_a_cancelled_order_never_fills() -> None:
    """Nothing is left in the queue of an order that was cancelled."""
    desk = Desk()
    order, _ = desk.limit(BUY, 100, 4)
    desk.matcher.cancel(order)

    assert desk.sold(99, 50) == []


def test_levels_that_a_newer_best_has_passed_are_dropped() -> None:
    """A bid shown at 102 makes the asks below it stale; a locked book is left alone."""
    desk = Desk()
    desk.delta(bids=[(102, 1)])
    assert [-k for k in reversed(desk.matcher.asks.keys)] == [102, 103]

    desk.delta(asks=[(99, 3)])
    assert list(reversed(desk.matcher.bids.keys)) == [99, 98]
