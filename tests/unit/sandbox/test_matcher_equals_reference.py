"""Fast matcher and slow reference agree on any history: crossed messages, clears, holes, out-of-order times."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import Liquidity, Side
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Tick, Trade
from sandbox.book import Order
from sandbox.matching import Matcher
from tests.reference.prudent import Own, Prudent

sides = st.sampled_from([Side.BUY, Side.SELL])
prices = st.integers(95, 106)
sizes = st.integers(1, 30)
levels = st.lists(st.tuples(prices, st.integers(0, 30)), max_size=4, unique_by=lambda level: level[0])
steps = st.one_of(
    st.tuples(st.just("delta"), levels, levels, st.integers(0, 2)),
    st.tuples(st.just("delta"), levels, levels, st.integers(0, 2)),
    st.tuples(st.just("trade"), sides, prices, sizes, st.integers(0, 2)),
    st.tuples(st.just("order"), sides, prices, sizes, st.booleans()),
    st.tuples(st.just("order"), sides, prices, sizes, st.booleans()),
    st.tuples(st.just("market"), sides, sizes),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("snapshot"), st.integers(96, 100)),
)


class Pair:
    """Both of them, told the same."""

    def __init__(self) -> None:
        self.fast, self.slow = Matcher(), Prudent()
        self.fills: list[tuple[str, int, int, int, bool]] = []
        self.orders: list[Order] = []
        self.ns = 10

    def tick(self, tick: Tick) -> None:
        for fill in self.fast.on_tick(tick):
            self.fills.append((fill.order.order_id, self.fast.exch_ns, fill.price, fill.quantity, True))
        self.slow.on_event(tick)

    def on_delta(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]], later: int) -> None:
        self.ns += later
        self.tick(BookDelta(1, 1, self.ns, 0, bids, asks))

    def on_trade(self, side: Side, price: int, size: int, later: int) -> None:
        self.ns += later
        self.tick(Trade(1, 1, self.ns, 0, price, size, side, 0))

    def on_clear(self) -> None:
        self.tick(BookClear(1, 1, self.ns, 0))

    def on_snapshot(self, bid: int) -> None:
        bids = [(bid, 10), (bid - 1, 20), (bid - 3, 30)]
        asks = [(bid + 1, 8), (bid + 2, 12), (bid + 5, 40)]
        self.tick(BookSnapshot(1, 1, self.ns, 0, bids, asks))

    def on_order(self, side: Side, price: int, size: int, rests: bool) -> None:
        self.submit(side, price, size, is_market=False, rests=rests)

    def on_market(self, side: Side, size: int) -> None:
        self.submit(side, 0, size, is_market=True, rests=False)

    def submit(self, side: Side, price: int, size: int, *, is_market: bool, rests: bool) -> None:
        name = f"O-{len(self.orders)}"
        order = Order(name, len(self.orders) + 1, "X", side, price, size)
        self.orders.append(order)
        if self.fast.is_live or rests:  # else the exchange refuses it
            for fill in self.fast.submit(order, is_market=is_market, rests=rests):
                taker = fill.liquidity is Liquidity.MAKER
                self.fills.append((name, self.fast.exch_ns, fill.price, fill.quantity, taker))
        self.slow.new(Own(name, side, price, size), is_market=is_market, rests=rests)

    def on_cancel(self, which: int) -> None:
        resting = [o for s in (self.fast.bids, self.fast.asks) for q in s.own.values() for o in q]
        if resting:
            order = resting[which % len(resting)]
            self.fast.cancel(order)
            self.slow.cancel(order.order_id)


@settings(max_examples=1_500, deadline=None)
@given(st.lists(steps, min_size=1, max_size=50))
def test_fast_and_slow_agree(history: list[tuple]) -> None:
    """The same fills in the same order, and the same queue before every resting order, after every step."""
    pair = Pair()
    pair.on_snapshot(100)
    for kind, *args in history:
        getattr(pair, f"on_{kind}")(*args)

        assert pair.fills == pair.slow.fills
        fast = {o.order_id: o.ahead for s in (pair.fast.bids, pair.fast.asks) for q in s.own.values() for o in q}
        slow = [own for side in Side for own in pair.slow.by_priority(side)]
        assert fast == {own.order_id: -1 if own.ahead is None else own.ahead for own in slow}
