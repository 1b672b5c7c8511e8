"""Turns a recording into the one normalised stream of ticks, in exchange order; market/epochs.py plays it.

Order is the stable sort by (exch_ns, line), SANDBOX section 1: a recorder hears the venue's streams interleaved.
The recorder's clock is corrected by one constant, -min(local - exchange) over depth and trades plus a base
latency, never per event. An epoch begins with BookClear and the synchronised BookSnapshot; what the venue did
before that instant is left out, for there was no book to do it to.

Rule: depth and trades make the book. A Quote (bookTicker) is for the last-value table and for checks only.

A recording is held in memory whole: about 1 KiB a line, 100 MiB for 94,000 lines; sorting needs it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final

from msgspec import Struct

from market.epochs import MarketTick, restamp
from market.errors import RecordingError
from market.formats import binance
from market.formats.binance import BestQuote, DepthDiff, RestSnapshot, TradePrint
from protocol.params import InstrumentParams
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Quote, Trade

BASE_LATENCY_NS: Final = 5_000_000


class Recording(Struct, frozen=True):
    """A recording in exchange order, as one epoch numbered (0, 1), (0, 2), ….

    Attributes:
        offset_ns: Added to the recorder's local time.
        ticks: BookClear, BookSnapshot, then the rest; ``exch_ns`` never decreases, ``local_ns`` is corrected.
        has_quotes: Whether there are Quotes; else the best quote is the top of the book.
        left_out: Messages from before the book began, or without a place in it.
    """

    instrument: InstrumentParams
    path: str
    sha256: str
    offset_ns: int
    ticks: tuple[MarketTick, ...]
    has_quotes: bool
    left_out: int


def load(path: Path | str, instrument: InstrumentParams, base_latency_ns: int = BASE_LATENCY_NS) -> Recording:
    """Read, check and sort a recording.

    Raises:
        RecordingError: If a line can't be taken, there is no snapshot or no diff that follows on it, or the chain
            of diffs has a gap: a book built across it would be wrong.
    """
    messages = list(binance.read(path, instrument))
    diffs = [m for m in messages if isinstance(m, DepthDiff)]
    if not messages:
        raise binance.empty(path)
    snapshot = _require_snapshot(path, messages)
    kept = diffs[_require_sync(path, diffs, snapshot, instrument) :]
    for line in binance.gaps(kept)[:1]:
        raise RecordingError(str(path), line, "the diff that follows on the one before", "a gap", binance.REMEDY)
    lag_ns = min(m.local_ns - m.exch_ns for m in messages if isinstance(m, DepthDiff | TradePrint))
    offset_ns = base_latency_ns - lag_ns
    start_ns = min(snapshot.exch_ns or kept[0].exch_ns, kept[0].exch_ns)
    ticks: list[MarketTick] = [
        tick
        for message in messages
        if not (isinstance(message, DepthDiff) and message.line < kept[0].line)
        and (tick := _tick(message, offset_ns, lag_ns)) is not None
        and tick.exch_ns >= start_ns
    ]
    left_out = len(messages) - len(ticks) - 1  # the snapshot is not left out
    ticks.sort(key=attrgetter("exch_ns"))  # stable: lines of one instant stay in file order
    ticks[:0] = [
        BookClear(0, 0, start_ns, snapshot.local_ns + offset_ns),
        BookSnapshot(0, 0, start_ns, snapshot.local_ns + offset_ns, snapshot.bids, snapshot.asks),
    ]
    return Recording(
        instrument=instrument,
        path=str(path),
        sha256=sha256_of(path),
        offset_ns=offset_ns,
        ticks=tuple(restamp(tick, 0, seq, 0) for seq, tick in enumerate(ticks, 1)),
        has_quotes=any(isinstance(tick, Quote) for tick in ticks),
        left_out=left_out,
    )


def sha256_of(path: Path | str) -> str:
    """Return the hash of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tick(message: binance.Message, offset_ns: int, lag_ns: int) -> MarketTick | None:
    """Return the tick of a message; None for what has no place in the stream."""
    local_ns = message.local_ns + offset_ns
    if isinstance(message, BestQuote):
        # Spot sends no time with it: the earliest the venue can have done it, by the same constant.
        exch_ns = message.exch_ns or message.local_ns - lag_ns
        return Quote(
            0,
            0,
            exch_ns,
            local_ns,
            message.bid_steps,
            message.bid_quantity_steps,
            message.ask_steps,
            message.ask_quantity_steps,
        )
    if isinstance(message, TradePrint):
        if not message.is_market:
            return None
        return Trade(
            0,
            0,
            message.exch_ns,
            local_ns,
            message.price_steps,
            message.quantity_steps,
            message.aggressor,
            message.trade_id,
        )
    if isinstance(message, DepthDiff):
        return BookDelta(0, 0, message.exch_ns, local_ns, message.bids, message.asks)
    return None


def _require_snapshot(path: Path | str, messages: Sequence[binance.Message]) -> RestSnapshot:
    for message in messages:
        if isinstance(message, RestSnapshot):
            return message
    raise RecordingError(str(path), 0, "a REST snapshot", "none", "record the session with its snapshot")


def _require_sync(
    path: Path | str, diffs: Sequence[DepthDiff], snapshot: RestSnapshot, instrument: InstrumentParams
) -> int:
    index = binance.first_kept(diffs, snapshot.last_id, instrument.kind)
    if index is None:
        expected = f"a diff with U <= {snapshot.last_id} <= u, the snapshot's lastUpdateId"
        raise RecordingError(str(path), snapshot.line, expected, "none", "record the session with its snapshot")
    return index
