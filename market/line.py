"""One instrument of the feed on its way out: its book, its row of the last-value table, its last tick.

Compiled ahead of time (docs/decisions/0010), for it runs for every tick: no ``msgspec.Struct`` is defined here, and the
kinds of ticks are asked for in the order of how many there are.
"""

from __future__ import annotations

from market.book import Book
from market.epochs import MarketTick
from market.table_writer import TableWriter
from protocol.codes import Side
from protocol.params import InstrumentParams
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Quote, Trade, topic


class Line:
    """What the feed keeps of one instrument.

    Attributes:
        topic: What its messages begin with.
        is_heard: Whether anybody has asked for its ticks.
        last: The last tick taken, None before the first.
    """

    __slots__ = ("book", "has_quotes", "is_heard", "last", "price_e9", "quantity_e9", "slot", "table", "topic")

    def __init__(self, params: InstrumentParams, table: TableWriter, *, has_quotes: bool) -> None:
        self.table = table
        self.slot = table.slot(params.instrument)
        self.has_quotes = has_quotes
        self.topic = topic(params.instrument)
        self.is_heard = False
        self.price_e9 = params.price_step_e9
        self.quantity_e9 = params.quantity_step_e9
        self.book = Book()
        self.last: MarketTick | None = None

    def take(self, tick: MarketTick, written_at_ns: int) -> None:
        """Keep book and row as of this tick."""
        self.last = tick
        if isinstance(tick, Quote) or isinstance(tick, Trade):  # noqa: SIM101 (compiled, one is a slower call)
            self.write(self.slot, tick, written_at_ns)
        elif isinstance(tick, BookDelta):
            self.book.apply_levels(tick.bids, tick.asks)
            # A diff comes later than the quotes of the same moment: where there are quotes they know better.
            if not self.has_quotes:
                self._write_top(self.slot, tick.exch_ns, written_at_ns)
        elif isinstance(tick, BookSnapshot):
            self.book.apply_snapshot(tick.bids, tick.asks)
            self._write_top(self.slot, tick.exch_ns, written_at_ns)
        else:
            self.book.clear()

    def write(self, slot: int, tick: MarketTick, written_at_ns: int) -> None:
        """Write a row of the table with what the tick, taken before, says in this instrument's prices."""
        price_e9 = self.price_e9
        quantity_e9 = self.quantity_e9
        if isinstance(tick, Quote):
            self.table.write_quote(
                slot,
                tick.bid_steps * price_e9,
                tick.ask_steps * price_e9,
                tick.bid_quantity_steps * quantity_e9,
                tick.ask_quantity_steps * quantity_e9,
                tick.exch_ns,
                written_at_ns,
            )
        elif isinstance(tick, Trade):
            price, size = tick.price_steps * price_e9, tick.quantity_steps * quantity_e9
            self.table.write_trade(slot, price, size, tick.exch_ns, written_at_ns)
        elif not isinstance(tick, BookClear):
            self._write_top(slot, tick.exch_ns, written_at_ns)

    def snapshot(self) -> BookSnapshot | None:
        """Return the book as of the last tick; None before the first."""
        last, book = self.last, self.book
        if last is None:
            return None
        bids, asks = book.levels(Side.BUY), book.levels(Side.SELL)
        return BookSnapshot(last.feed_epoch, last.feed_seq, last.exch_ns, last.local_ns, bids, asks)

    def _write_top(self, slot: int, exch_ns: int, written_at_ns: int) -> None:
        book = self.book
        self.table.write_quote(
            slot,
            (book.best_bid or 0) * self.price_e9,
            (book.best_ask or 0) * self.price_e9,
            book.bid_size() * self.quantity_e9,
            book.ask_size() * self.quantity_e9,
            exch_ns,
            written_at_ns,
        )
