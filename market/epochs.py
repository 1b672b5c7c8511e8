"""Plays ticks epoch after epoch: each loop is a new, greater ``feed_epoch``, and exchange time goes on across them.

Compiled ahead of time (docs/decisions/0010), for it runs for every tick: no ``msgspec.Struct`` is defined here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final

from protocol.ticks import BookClear, BookDelta, BookSnapshot, Quote, Trade

LOOP_GAP_NS: Final = 100_000_000
"""Exchange time between the last tick of a loop and the first of the next."""

MarketTick = BookClear | BookSnapshot | BookDelta | Quote | Trade
"""A tick that feed_seq numbers: every kind but FeedStatus."""


def events(ticks: tuple[MarketTick, ...], feed_epoch: int = 0, shift_ns: int = 0) -> Iterator[MarketTick]:
    """Yield one epoch of a recording's ticks: ``feed_seq`` from 1, all times shifted by ``shift_ns``."""
    for tick in ticks:
        yield restamp(tick, feed_epoch, tick.feed_seq, shift_ns)


def loops(ticks: tuple[MarketTick, ...], feed_epoch: int, start_exch_ns: int = 0) -> Iterator[MarketTick]:
    """Yield epoch after epoch without end, from ``feed_epoch`` up; exchange time goes on across them.

    ``start_exch_ns`` is the exchange time to begin at, where it is later than the recording's own.
    """
    first_ns = ticks[0].exch_ns
    span_ns = ticks[-1].exch_ns - first_ns
    shift_ns = max(0, start_exch_ns - first_ns)
    for epoch in count(feed_epoch):
        yield from events(ticks, epoch, shift_ns)
        shift_ns += span_ns + LOOP_GAP_NS


def restamp(tick: MarketTick, feed_epoch: int, feed_seq: int, shift_ns: int) -> MarketTick:
    """Return the tick with another place in the stream and its times shifted."""
    exch_ns = tick.exch_ns + shift_ns
    local_ns = tick.local_ns + shift_ns
    if isinstance(tick, Quote):
        return Quote(
            feed_epoch,
            feed_seq,
            exch_ns,
            local_ns,
            tick.bid_steps,
            tick.bid_quantity_steps,
            tick.ask_steps,
            tick.ask_quantity_steps,
        )
    if isinstance(tick, Trade):
        return Trade(
            feed_epoch,
            feed_seq,
            exch_ns,
            local_ns,
            tick.price_steps,
            tick.quantity_steps,
            tick.aggressor,
            tick.trade_ref,
        )
    if isinstance(tick, BookClear):
        return BookClear(feed_epoch, feed_seq, exch_ns, local_ns)
    kind = BookDelta if isinstance(tick, BookDelta) else BookSnapshot
    return kind(feed_epoch, feed_seq, exch_ns, local_ns, tick.bids, tick.asks)
