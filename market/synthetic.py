"""A made-up trading session: random books with quotes and trades, so that everything runs without a recording.

The whole session follows from the seed, in integers; FeedStatus says ``synthetic`` wherever its prices show.
Books behave as recorded ones do: a trade comes before the level change that shows it, both at one exchange time,
and a Quote follows each change of the top.

Rule: prices stay near the start: the farther away, the more trades lean back, so a session runs without end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from msgspec import Struct

from market.book import Book
from market.epochs import MarketTick
from market.errors import InstrumentError
from market.replay import BASE_LATENCY_NS
from protocol.codes import Side
from protocol.params import InstrumentParams
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Level, Quote, Trade
from protocol.units import format_e9

SECOND_NS: Final = 1_000_000_000
DEPTH: Final = 20  # levels a side
LOTS_MAX: Final = 500  # at a level
PRICE_TICKS_MIN: Final = 1_000  # so that the walk never comes near zero
BAND_PERCENT: Final = 2  # at this distance from the start nine of ten trades lean back


class SyntheticInstrument(Struct, frozen=True):
    """An instrument and the price its session begins around."""

    params: InstrumentParams
    start_price_e9: int


def session(
    instruments: Sequence[SyntheticInstrument], *, seed: int, feed_epoch: int, start_exch_ns: int, rate_per_s: int = 100
) -> Iterator[tuple[str, MarketTick]]:
    """Yield (instrument, tick) without end, in exchange order; each instrument begins with BookClear and BookSnapshot.

    ``rate_per_s`` is the mean number of things that happen a second in each instrument; most are two ticks.

    Raises:
        InstrumentError: If a start price is below 1,000 ticks or no multiple of the tick.
    """
    mean_gap_ns = max(1, SECOND_NS // rate_per_s)
    markets = [_Market(i, seed, feed_epoch, mean_gap_ns) for i in instruments]
    for market in markets:
        for tick in market.begin(start_exch_ns):
            yield market.name, tick
    due = [(start_exch_ns + market.gap_ns(), n) for n, market in enumerate(markets)]
    heapq.heapify(due)
    while due:
        exch_ns, n = due[0]
        market = markets[n]
        for tick in market.step(exch_ns):
            yield market.name, tick
        heapq.heapreplace(due, (exch_ns + market.gap_ns(), n))


class _Market:
    """One instrument's book and what happens to it. Prices are counted in ticks here, sizes in lots."""

    def __init__(self, instrument: SyntheticInstrument, seed: int, feed_epoch: int, mean_gap_ns: int) -> None:
        params = instrument.params
        self.name = params.instrument
        self._price_steps = params.tick_e9 // params.price_step_e9
        self._quantity_steps = params.lot_e9 // params.quantity_step_e9
        self._start, rest = divmod(instrument.start_price_e9, params.tick_e9)
        if rest or self._start < PRICE_TICKS_MIN:
            expected = f"a multiple of the tick {format_e9(params.tick_e9)}, at least {PRICE_TICKS_MIN} ticks"
            raise InstrumentError(self.name, "start_price", format_e9(instrument.start_price_e9), expected)
        # A text seeds by its SHA-512, whatever PYTHONHASHSEED is.
        self._random = Random(f"{seed}|{self.name}")  # noqa: S311 (a simulation, no secret)
        self._gap_ns_max = 2 * mean_gap_ns
        self._epoch = feed_epoch
        self._seq = 0
        self._trade_ref = 0
        self._exch_ns = 0
        self._book = Book()
        self._top: tuple[int | None, int, int | None, int] = (None, 0, None, 0)

    def gap_ns(self) -> int:
        """Draw the time to the next thing that happens."""
        return 1 + self._random.randrange(self._gap_ns_max)

    def begin(self, exch_ns: int) -> Iterator[MarketTick]:
        """Yield the first ticks of the epoch."""
        self._exch_ns = exch_ns
        bids = [(self._start - 1 - n, self._lots()) for n in range(DEPTH)]
        asks = [(self._start + 1 + n, self._lots()) for n in range(DEPTH)]
        self._book.apply_snapshot(bids, asks)
        yield BookClear(*self._stamp())
        yield BookSnapshot(*self._stamp(), self._levels(bids), self._levels(asks))
        yield from self._quote_if_changed()

    def step(self, exch_ns: int) -> Iterator[MarketTick]:
        """Let one thing happen: an order inside the spread, a trade, a cancel at the top, or a resized level."""
        self._exch_ns = exch_ns
        draw = self._random.randrange(100)
        # Half of what happens in a wide spread closes it, so that it stays a tick or two.
        if draw < 50 and self._spread() > 1:
            yield self._narrow()
        elif draw % 50 < 15:
            yield from self._trade()
        elif draw % 50 < 17:
            yield self._cancel_top()
        else:
            yield self._resize()
        yield from self._quote_if_changed()

    def _trade(self) -> Iterator[MarketTick]:
        side = Side.BUY if self._random.randrange(100) < self._buy_percent() else Side.SELL
        price, available = self._best(Side.SELL if side == Side.BUY else Side.BUY)
        lots = 1 + self._random.randrange(self._lots())
        lots = min(lots, available)
        self._trade_ref += 1
        yield Trade(*self._stamp(), price * self._price_steps, lots * self._quantity_steps, side, self._trade_ref)
        yield self._set(Side.SELL if side == Side.BUY else Side.BUY, price, available - lots)

    def _spread(self) -> int:
        return self._best(Side.SELL)[0] - self._best(Side.BUY)[0]

    def _narrow(self) -> MarketTick:
        if self._random.randrange(2):
            return self._set(Side.BUY, self._best(Side.BUY)[0] + 1, self._lots())
        return self._set(Side.SELL, self._best(Side.SELL)[0] - 1, self._lots())

    def _cancel_top(self) -> MarketTick:
        side = Side.BUY if self._random.randrange(2) else Side.SELL
        return self._set(side, self._best(side)[0], 0)

    def _resize(self) -> MarketTick:
        side = Side.BUY if self._random.randrange(2) else Side.SELL
        away = min(self._random.randrange(DEPTH), self._random.randrange(DEPTH))  # nearer the top more often
        price = self._best(side)[0] + (-away if side == Side.BUY else away)
        return self._set(side, price, self._lots())

    def _set(self, side: Side, price: int, lots: int) -> MarketTick:
        """Change a level, and keep the side ``DEPTH`` levels deep at its far end."""
        changed = [(price, lots)]
        levels = self._book.bids if side == Side.BUY else self._book.asks
        self._apply(side, changed)
        away = -1 if side == Side.BUY else 1
        while len(levels) < DEPTH:
            far = (min(levels) if side == Side.BUY else max(levels)) + away
            changed.append((far, self._lots()))
            self._apply(side, changed[-1:])
        while len(levels) > DEPTH:
            changed.append((min(levels) if side == Side.BUY else max(levels), 0))
            self._apply(side, changed[-1:])
        moved = self._levels(changed)
        return BookDelta(*self._stamp(), *((moved, []) if side == Side.BUY else ([], moved)))

    def _apply(self, side: Side, levels: list[Level]) -> None:
        if side == Side.BUY:
            self._book.apply_levels(levels, [])
        else:
            self._book.apply_levels([], levels)

    def _quote_if_changed(self) -> Iterator[MarketTick]:
        book = self._book
        top = (book.best_bid, book.bid_size(), book.best_ask, book.ask_size())
        if top != self._top:
            self._top = top
            bid, bid_lots = self._best(Side.BUY)
            ask, ask_lots = self._best(Side.SELL)
            price, quantity = self._price_steps, self._quantity_steps
            yield Quote(*self._stamp(), bid * price, bid_lots * quantity, ask * price, ask_lots * quantity)

    def _best(self, side: Side) -> Level:
        book = self._book
        price = book.best_bid if side == Side.BUY else book.best_ask
        assert price is not None, "a side always has DEPTH levels"
        return price, (book.bids if side == Side.BUY else book.asks)[price]

    def _buy_percent(self) -> int:
        distance = self._best(Side.BUY)[0] - self._start
        band = max(1, self._start * BAND_PERCENT // 100)
        return 50 - max(-40, min(40, 40 * distance // band))

    def _lots(self) -> int:
        return 1 + self._random.randrange(LOTS_MAX)

    def _levels(self, levels: Sequence[Level]) -> list[Level]:
        return [(price * self._price_steps, lots * self._quantity_steps) for price, lots in levels]

    def _stamp(self) -> tuple[int, int, int, int]:
        """Return the next (feed_epoch, feed_seq, exch_ns, local_ns)."""
        self._seq += 1
        return self._epoch, self._seq, self._exch_ns, self._exch_ns + BASE_LATENCY_NS
