"""What must hold for every history of ticks and orders (SANDBOX section 9, metamorphic)."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import Liquidity, Side
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Tick, Trade
from sandbox.book import Order
from sandbox.matching import Fill, Matcher

LOW, HIGH = 95, 105
sides = st.sampled_from([Side.BUY, Side.SELL])
prices = st.integers(LOW, HIGH)
sizes = st.integers(1, 30)
levels = st.lists(st.tuples(prices, st.integers(0, 30)), max_size=3)
steps = st.one_of(
    st.tuples(st.just("delta"), levels, levels),
    st.tuples(st.just("trade"), sides, prices, sizes),
    st.tuples(st.just("order"), sides, prices, sizes, st.booleans()),
    st.tuples(st.just("market"), sides, sizes),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("snapshot")),
)
histories = st.lists(steps, max_size=60)
BOOK = ([(100, 10), (99, 20), (98, 30)], [(101, 8), (102, 12), (103, 40)])


class World:
    """A matcher that is told a history, and everything that came of it: (event number, fill)."""

    def __init__(self, *, scale: int = 1, shift: int = 0, extra_ahead: int = 0) -> None:
        self.matcher = Matcher()
        self.scale, self.shift, self.extra_ahead = scale, shift, extra_ahead
        self.seq = 0
        self.fills: list[tuple[int, Fill]] = []
        self.orders: list[Order] = []
        self.arrived: dict[str, int] = {}
        self.trades: dict[int, int] = {}
        self.shown: dict[int, tuple[dict[int, int], dict[int, int]]] = {}
        self.snapshot()

    def stamp(self) -> tuple[int, int, int, int]:
        self.seq += 1
        return 1, self.seq, self.seq, self.seq

    def level(self, level: tuple[int, int]) -> tuple[int, int]:
        return level[0] + self.shift, level[1] * self.scale

    def tick(self, tick: Tick) -> None:
        self.fills += [(self.seq, fill) for fill in self.matcher.on_tick(tick)]

    def snapshot(self) -> None:
        bids, asks = ([self.level(x) for x in side] for side in BOOK)
        self.tick(BookSnapshot(*self.stamp(), bids, asks))

    def run(self, history: list[tuple]) -> World:
        for kind, *args in history:
            getattr(self, f"on_{kind}")(*args)
        return self

    def on_delta(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        # No level named on both sides of the touch at once: a feed's book is not crossed.
        self.tick(BookDelta(*self.stamp(), [self.level(x) for x in bids], [self.level(x) for x in asks]))

    def on_trade(self, side: Side, price: int, size: int) -> None:
        stamp = self.stamp()
        self.trades[self.seq] = size * self.scale
        self.tick(Trade(*stamp, price + self.shift, size * self.scale, side, 0))

    def on_clear(self) -> None:
        self.tick(BookClear(*self.stamp()))

    def on_snapshot(self) -> None:
        self.snapshot()

    def on_order(self, side: Side, price: int, size: int, rests: bool) -> None:
        self.submit(side, price + self.shift, size, is_market=False, rests=rests)

    def on_market(self, side: Side, size: int) -> None:
        self.submit(side, 0, size, is_market=True, rests=False)

    def submit(self, side: Side, price: int, size: int, *, is_market: bool, rests: bool) -> None:
        self.seq += 1
        order = Order(f"O-{len(self.orders)}", len(self.orders) + 1, "X", side, price, size * self.scale)
        self.orders.append(order)
        self.arrived[order.order_id] = self.seq
        fills = self.matcher.submit(order, is_market=is_market, rests=rests)
        if order in self.resting() and order.ahead > 0:
            order.ahead += self.extra_ahead
        self.fills += [(self.seq, fill) for fill in fills]

    def on_cancel(self, which: int) -> None:
        self.seq += 1
        resting = self.resting()
        if resting:
            self.matcher.cancel(resting[which % len(resting)])

    def resting(self) -> list[Order]:
        sides = (self.matcher.bids, self.matcher.asks)
        return [o for side in sides for queue in side.own.values() for o in queue]

    def summary(self, *, scale: int = 1, shift: int = 0) -> list[tuple[int, str, int, int]]:
        return [(n, f.order.order_id, (f.price - shift), f.quantity // scale) for n, f in self.fills]


@settings(max_examples=300, deadline=None)
@given(histories)
def test_quantities_add_up(history: list[tuple]) -> None:
    """Fills plus leaves are the order; a filled order rests nowhere; no fill is empty."""
    world = World().run(history)
    filled: dict[str, int] = defaultdict(int)
    for _, fill in world.fills:
        assert fill.quantity > 0
        filled[fill.order.order_id] += fill.quantity
        assert fill.leaves == fill.order.quantity - filled[fill.order.order_id]

    for order in world.orders:
        assert order.leaves + filled[order.order_id] == order.quantity
    assert all(order.leaves > 0 for order in world.resting())


@settings(max_examples=300, deadline=None)
@given(histories)
def test_a_trade_gives_us_at_most_its_quantity(history: list[tuple]) -> None:
    """The sum of own fills at one trade is bounded by the trade."""
    world = World().run(history)
    given_: dict[int, int] = defaultdict(int)
    for n, fill in world.fills:
        if n in world.trades:
            given_[n] += fill.quantity

    assert all(total <= world.trades[n] for n, total in given_.items())


@settings(max_examples=300, deadline=None)
@given(histories)
def test_what_is_taken_was_displayed(history: list[tuple]) -> None:
    """At any time C <= D at each level: nothing displayed once is taken twice."""
    world = World()
    for step in history:
        world.run([step])
        for side in (world.matcher.bids, world.matcher.asks):
            assert all(taken <= side.sizes.get(key, 0) for key, taken in side.taken.items())


@settings(max_examples=300, deadline=None)
@given(histories)
def test_prices_are_within_the_limit(history: list[tuple]) -> None:
    """A taker pays at most its limit, a maker exactly its own; nothing fills before it arrives."""
    world = World().run(history)
    for n, fill in world.fills:
        order = fill.order
        assert n >= world.arrived[order.order_id]
        if fill.liquidity is Liquidity.MAKER:
            assert fill.price == order.price
            assert n > world.arrived[order.order_id]
        elif order.price:
            assert fill.price <= order.price if order.side is Side.BUY else fill.price >= order.price


@settings(max_examples=200, deadline=None)
@given(histories, st.integers(2, 7))
def test_scaling_all_lots_scales_fills(history: list[tuple], scale: int) -> None:
    """Ten times the quantities everywhere are ten times the fills."""
    assert World(scale=scale).run(history).summary(scale=scale) == World().run(history).summary()


@settings(max_examples=200, deadline=None)
@given(histories, st.integers(-50, 1000))
def test_a_price_shift_shifts_fills(history: list[tuple], shift: int) -> None:
    """The same book somewhere else fills the same there."""
    assert World(shift=shift).run(history).summary(shift=shift) == World().run(history).summary()


@settings(max_examples=300, deadline=None)
@given(history=histories, extra=st.integers(1, 20), size=sizes)
def test_more_ahead_never_fills_earlier(history: list[tuple], extra: int, size: int) -> None:
    """One resting order and any feed: with more in front of it, its total is never larger at any event."""
    feed = [step for step in history if step[0] in {"delta", "trade", "clear", "snapshot"}]
    totals = []
    for ahead in (0, extra):
        world = World(extra_ahead=ahead)
        world.on_order(Side.BUY, 100, size, True)
        reached = []
        for step in feed:
            world.run([step])
            reached.append(sum(fill.quantity for _, fill in world.fills))
        totals.append(reached)

    assert all(more <= less for less, more in zip(*totals, strict=True))


@settings(max_examples=300, deadline=None)
@given(history=histories, first=sizes, second=sizes)
def test_two_orders_at_once_fill_like_one(history: list[tuple], first: int, second: int) -> None:
    """Splitting one resting order in two at the same price and time fills the same total at every event."""
    feed = [step for step in history if step[0] in {"delta", "trade", "clear", "snapshot"}]
    totals = []
    for parts in ([first + second], [first, second]):
        world = World()
        for part in parts:
            world.on_order(Side.BUY, 99, part, True)
        reached = []
        for step in feed:
            world.run([step])
            reached.append(sum(fill.quantity for _, fill in world.fills))
        totals.append(reached)

    assert totals[0] == totals[1]
