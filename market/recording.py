"""What a recording holds, counted and checked: the import report of ``wojak ticks info`` (SANDBOX section 10).

Rule: it reports faults as numbers and lines and stops for none, except a line that can't be read at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from market.book import Book
from market.formats import binance
from market.formats.binance import BestQuote, DepthDiff, Message, RestSnapshot, TradePrint
from market.replay import sha256_of
from protocol.codes import Side
from protocol.params import InstrumentParams


class DepthInfo(Struct, frozen=True):
    """The depth stream. ``gap_lines`` are those that do not follow on the diff before.

    ``dropped_lines`` are the diffs that the first snapshot already holds, ``first_kept_line`` the one it goes on
    with; 0 = there is no such diff, so no book can be built.
    """

    diffs: int
    chained: int
    gap_lines: tuple[int, ...]
    levels: int
    removals: int
    snapshot_line: int
    dropped_lines: tuple[int, ...]
    first_kept_line: int
    kept: int


class TradeInfo(Struct, frozen=True):
    """The trades. Prices and volume in 1e-9; ``sells`` are trades whose aggressor sold."""

    trades: int
    not_market: int
    missing_ids: int
    duplicate_ids: int
    volume_e9: int
    price_min_e9: int
    price_max_e9: int
    sells: int
    buys: int


class BookInfo(Struct, frozen=True):
    """The book that snapshot and diffs build.

    ``tops_equal`` of ``tops_compared`` kept diffs leave a top that equals, prices and sizes, the last best quote
    with an id up to the diff's. ``sha256`` is over the lines "B <price steps> <quantity steps>" best first, then "A …".
    """

    tops_equal: int
    tops_compared: int
    crossed: int
    locked: int
    bid_levels: int
    ask_levels: int
    best_bid_e9: int
    best_bid_size_e9: int
    best_ask_e9: int
    best_ask_size_e9: int
    sha256: str


class RecordingInfo(Struct, frozen=True):
    """A recording in numbers.

    ``clock_lag_ns`` is min(local - exchange) over depth and trades, ``clock_lag_all_ns`` with the quotes.
    ``exch_backward`` counts neighbouring stream lines whose exchange time goes back, ``local_backward`` likewise.
    """

    path: str
    bytes: int
    sha256: str
    instrument: str
    lines: int
    quotes: int
    quote_ids_backward: int
    snapshots: int
    first_local_ns: int
    last_local_ns: int
    silence_max_ns: int
    local_backward: int
    exch_backward: int
    clock_lag_ns: int
    clock_lag_all_ns: int
    depth: DepthInfo
    trade: TradeInfo
    book: BookInfo | None


def info(path: Path | str, instrument: InstrumentParams) -> RecordingInfo:
    """Read a recording and count what is in it.

    Raises:
        RecordingError: If the file is missing, empty or a line can't be taken.
    """
    messages = list(binance.read(path, instrument))
    if not messages:
        raise binance.empty(path)
    quotes = [m for m in messages if isinstance(m, BestQuote)]
    timed = [m for m in messages if m.exch_ns and not isinstance(m, RestSnapshot)]
    placed = [m for m in timed if isinstance(m, DepthDiff | TradePrint)]
    return RecordingInfo(
        path=str(path),
        bytes=Path(path).stat().st_size,
        sha256=sha256_of(path),
        instrument=instrument.instrument,
        lines=len(messages),
        quotes=len(quotes),
        quote_ids_backward=sum(b.update_id < a.update_id for a, b in pairwise(quotes)),
        snapshots=sum(isinstance(m, RestSnapshot) for m in messages),
        first_local_ns=messages[0].local_ns,
        last_local_ns=messages[-1].local_ns,
        silence_max_ns=max((b.local_ns - a.local_ns for a, b in pairwise(messages)), default=0),
        local_backward=sum(b.local_ns < a.local_ns for a, b in pairwise(messages)),
        exch_backward=sum(b.exch_ns < a.exch_ns for a, b in pairwise(timed)),
        clock_lag_ns=min((m.local_ns - m.exch_ns for m in placed), default=0),
        clock_lag_all_ns=min((m.local_ns - m.exch_ns for m in timed), default=0),
        depth=_depth(messages, instrument),
        trade=_trade([m for m in messages if isinstance(m, TradePrint)], instrument),
        book=_book(messages, instrument),
    )


def book_sha256(book: Book) -> str:
    """Return the hash of a book over the lines that ``BookInfo`` names."""
    lines = [f"B {price} {size}\n" for price, size in book.levels(Side.BUY)]
    lines += [f"A {price} {size}\n" for price, size in book.levels(Side.SELL)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _depth(messages: Sequence[Message], instrument: InstrumentParams) -> DepthInfo:
    diffs = [m for m in messages if isinstance(m, DepthDiff)]
    snapshot = next((m for m in messages if isinstance(m, RestSnapshot)), None)
    first = None if snapshot is None else binance.first_kept(diffs, snapshot.last_id, instrument.kind)
    gap_lines = tuple(binance.gaps(diffs))
    sizes = [size for diff in diffs for side in (diff.bids, diff.asks) for _, size in side]
    return DepthInfo(
        diffs=len(diffs),
        chained=max(0, len(diffs) - 1) - len(gap_lines),
        gap_lines=gap_lines,
        levels=len(sizes),
        removals=sizes.count(0),
        snapshot_line=0 if snapshot is None else snapshot.line,
        dropped_lines=() if first is None else tuple(diff.line for diff in diffs[:first]),
        first_kept_line=0 if first is None else diffs[first].line,
        kept=0 if first is None else len(diffs) - first,
    )


def _trade(trades: Sequence[TradePrint], instrument: InstrumentParams) -> TradeInfo:
    ids = sorted(t.trade_id for t in trades)
    prices = [t.price_steps for t in trades] or [0]
    sells = sum(t.aggressor == Side.SELL for t in trades)
    return TradeInfo(
        trades=len(trades),
        not_market=sum(not t.is_market for t in trades),
        missing_ids=sum(b - a - 1 for a, b in pairwise(ids) if b > a),
        duplicate_ids=sum(a == b for a, b in pairwise(ids)),
        volume_e9=sum(t.quantity_steps for t in trades) * instrument.quantity_step_e9,
        price_min_e9=min(prices) * instrument.price_step_e9,
        price_max_e9=max(prices) * instrument.price_step_e9,
        sells=sells,
        buys=len(trades) - sells,
    )


def _book(messages: Sequence[Message], instrument: InstrumentParams) -> BookInfo | None:
    """Build the book and compare its top with the quotes; None without a snapshot that diffs follow on."""
    diffs = [m for m in messages if isinstance(m, DepthDiff)]
    quotes = sorted((m for m in messages if isinstance(m, BestQuote)), key=lambda q: q.update_id)
    snapshot = next((m for m in messages if isinstance(m, RestSnapshot)), None)
    first = None if snapshot is None else binance.first_kept(diffs, snapshot.last_id, instrument.kind)
    if snapshot is None or first is None:
        return None
    book = Book()
    book.apply_snapshot(snapshot.bids, snapshot.asks)
    equal = compared = locked = crossed = upto = 0
    for diff in diffs[first:]:
        dropped = book.dropped
        book.apply_levels(diff.bids, diff.asks)
        crossed += book.dropped > dropped
        locked += book.best_bid is not None and book.best_bid == book.best_ask
        while upto < len(quotes) and quotes[upto].update_id <= diff.last_id:
            upto += 1
        if upto:
            q = quotes[upto - 1]
            compared += 1
            equal += (book.best_bid, book.bid_size(), book.best_ask, book.ask_size()) == (
                q.bid_steps,
                q.bid_quantity_steps,
                q.ask_steps,
                q.ask_quantity_steps,
            )
    return BookInfo(
        tops_equal=equal,
        tops_compared=compared,
        crossed=crossed,
        locked=locked,
        bid_levels=len(book.bids),
        ask_levels=len(book.asks),
        best_bid_e9=(book.best_bid or 0) * instrument.price_step_e9,
        best_bid_size_e9=book.bid_size() * instrument.quantity_step_e9,
        best_ask_e9=(book.best_ask or 0) * instrument.price_step_e9,
        best_ask_size_e9=book.ask_size() * instrument.quantity_step_e9,
        sha256=book_sha256(book),
    )
