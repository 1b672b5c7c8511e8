"""Reader of raw Binance recordings: one line is ``<local ns> <websocket JSON>``, gzip or plain.

Linear (USD-M), inverse (coin-margined) and spot recordings; prices and quantities become whole steps without a
float. What the venue documents about its streams stands here, nothing of how we replay them.

Rules of the venue (binance-docs, "How to manage a local order book correctly", futures and spot):

- futures: drop diffs with u < lastUpdateId; the first kept one has U <= lastUpdateId <= u; then each pu is the u
  of the diff before, else there is a gap.
- spot: drop u <= lastUpdateId; the first kept one has U <= lastUpdateId + 1 <= u; then each U is the u before + 1.

A snapshot comes late: the diffs received before it must be applied again on top of it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, cast
from zlib import error as ZlibError  # noqa: N812 (it is a class)

import msgspec
from msgspec import Struct

from market.errors import RecordingError, StepError
from market.instruments import Steps
from protocol.codes import Side
from protocol.errors import FieldError
from protocol.params import ContractKind, InstrumentParams
from protocol.ticks import Level

MS_NS: Final = 1_000_000
LINE_BYTES_MAX: Final = 4 << 20
STAMP_DIGITS: Final = 19
_JSON_AT: Final = STAMP_DIGITS + 1
_STREAM: Final = b'{"stream":"'
_GZIP_MAGIC: Final = b"\x1f\x8b"
SHAPE: Final = "<19 digits of local ns> <JSON>"
STEP_REMEDY: Final = "give the instrument's own recording, or correct its price_step and quantity_step"
REMEDY: Final = "record it again, or cut the file before this line"


class DepthDiff(Struct, frozen=True, gc=False):
    """Levels that changed. ``previous_id`` is the last id of the diff before, as the venue says it."""

    line: int
    local_ns: int
    exch_ns: int
    first_id: int
    last_id: int
    previous_id: int
    bids: list[Level]
    asks: list[Level]


class BestQuote(Struct, frozen=True, gc=False):
    """Best bid and ask. ``exch_ns`` 0: the venue sends no time (spot)."""

    line: int
    local_ns: int
    exch_ns: int
    update_id: int
    bid_steps: int
    bid_quantity_steps: int
    ask_steps: int
    ask_quantity_steps: int


class TradePrint(Struct, frozen=True, gc=False):
    """A trade. ``is_market`` False: no trade of the book (insurance fund, auto-deleveraging)."""

    line: int
    local_ns: int
    exch_ns: int
    trade_id: int
    price_steps: int
    quantity_steps: int
    aggressor: Side
    is_market: bool


class RestSnapshot(Struct, frozen=True, gc=False):
    """The REST snapshot, best first. ``exch_ns`` 0: the venue sends no time (spot)."""

    line: int
    local_ns: int
    exch_ns: int
    last_id: int
    bids: list[Level]
    asks: list[Level]


Message = DepthDiff | BestQuote | TradePrint | RestSnapshot


def read(path: Path | str, instrument: InstrumentParams) -> Iterator[Message]:
    """Yield the messages in file order, prices and quantities in the instrument's steps.

    Raises:
        RecordingError: If the file is missing or damaged, or a line can't be taken; names file and line.
    """
    parse = _Parser(instrument).parse
    for number, line in _lines(path):
        try:
            yield parse(number, line)
        except StepError as e:
            expected = f"{e.field} in multiples of {e.instrument}'s step {e.step}"
            raise RecordingError(str(path), number, expected, e.value, STEP_REMEDY) from e
        except (ValueError, msgspec.MsgspecError, FieldError) as e:
            raise RecordingError(str(path), number, SHAPE, f"{_shown(line)} ({e})", REMEDY) from e


def empty(path: Path | str) -> RecordingError:
    """Return the error for a recording without a line."""
    return RecordingError(str(path), 0, "at least one line", "none", "give another recording")


def first_kept(diffs: Sequence[DepthDiff], last_id: int, kind: ContractKind) -> int | None:
    """Return the index of the first diff on top of the snapshot of ``last_id``; None if there is no such diff."""
    next_id = last_id + 1 if kind == ContractKind.SPOT else last_id
    for n, diff in enumerate(diffs):
        if diff.last_id >= next_id:
            return n if diff.first_id <= next_id else None
    return None


def gaps(diffs: Sequence[DepthDiff]) -> list[int]:
    """Return the line of each diff that does not follow on the one before it."""
    return [diff.line for before, diff in pairwise(diffs) if diff.previous_id != before.last_id]


class _FuturesDepth(Struct):
    T: int
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _SpotDepth(Struct):
    E: int
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Ticker(Struct):
    u: int
    b: str
    B: str
    a: str
    A: str
    T: int = 0


class _Trade(Struct):
    T: int
    t: int
    p: str
    q: str
    m: bool
    X: str = "MARKET"


class _FuturesDepthLine(Struct):
    data: _FuturesDepth


class _SpotDepthLine(Struct):
    data: _SpotDepth


class _TickerLine(Struct):
    data: _Ticker


class _TradeLine(Struct):
    data: _Trade


class _Snapshot(Struct):
    lastUpdateId: int  # noqa: N815 (the venue's name)
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    T: int = 0


class _Parser:
    """Decodes lines of one recording; remembers which stream is which kind."""

    def __init__(self, instrument: InstrumentParams) -> None:
        self._price = Steps(instrument.instrument, "price", instrument.price_step_e9)
        self._quantity = Steps(instrument.instrument, "quantity", instrument.quantity_step_e9)
        self._is_spot = instrument.kind == ContractKind.SPOT
        self._futures_depth = msgspec.json.Decoder(_FuturesDepthLine)
        self._spot_depth = msgspec.json.Decoder(_SpotDepthLine)
        self._ticker = msgspec.json.Decoder(_TickerLine)
        self._trade = msgspec.json.Decoder(_TradeLine)
        self._snapshot = msgspec.json.Decoder(_Snapshot)
        self._parsers: dict[bytes, Callable[[int, int, memoryview], Message]] = {}

    def parse(self, number: int, line: bytes) -> Message:
        """Return the message of a line; ValueError or a decode error if it is none."""
        stamp = line[:STAMP_DIGITS]
        if not stamp.isdigit() or line[STAMP_DIGITS:_JSON_AT] != b" ":
            raise ValueError("no time stamp")
        body = memoryview(line)[_JSON_AT:]
        if not line.startswith(_STREAM, _JSON_AT):
            return self._parse_snapshot(number, int(stamp), body)
        at = _JSON_AT + len(_STREAM)
        stream = line[at : line.index(b'"', at)]
        parser = self._parsers.get(stream)
        if parser is None:
            parser = self._parsers[stream] = self._parser_of(stream)
        return parser(number, int(stamp), body)

    def _parser_of(self, stream: bytes) -> Callable[[int, int, memoryview], Message]:
        kind = stream.partition(b"@")[2]
        if kind.startswith(b"depth@") or kind == b"depth":
            return self._parse_spot_depth if self._is_spot else self._parse_futures_depth
        if kind == b"bookTicker":
            return self._parse_ticker
        if kind == b"trade":
            return self._parse_trade
        raise ValueError(f"stream {stream.decode(errors='replace')!r} is not depth, bookTicker or trade")

    def _parse_futures_depth(self, number: int, local_ns: int, body: memoryview) -> DepthDiff:
        data = self._futures_depth.decode(body).data
        bids, asks = self._levels(data.b), self._levels(data.a)
        return DepthDiff(number, local_ns, data.T * MS_NS, data.U, data.u, data.pu, bids, asks)

    def _parse_spot_depth(self, number: int, local_ns: int, body: memoryview) -> DepthDiff:
        data = self._spot_depth.decode(body).data
        bids, asks = self._levels(data.b), self._levels(data.a)
        return DepthDiff(number, local_ns, data.E * MS_NS, data.U, data.u, data.U - 1, bids, asks)

    def _parse_ticker(self, number: int, local_ns: int, body: memoryview) -> BestQuote:
        data = self._ticker.decode(body).data
        price, quantity = self._price, self._quantity
        return BestQuote(
            number,
            local_ns,
            data.T * MS_NS,
            data.u,
            price[data.b],
            quantity[data.B],
            price[data.a],
            quantity[data.A],
        )

    def _parse_trade(self, number: int, local_ns: int, body: memoryview) -> TradePrint:
        data = self._trade.decode(body).data
        # m: the buyer was the maker, so the aggressor sold.
        return TradePrint(
            number,
            local_ns,
            data.T * MS_NS,
            data.t,
            self._price[data.p],
            self._quantity[data.q],
            Side.SELL if data.m else Side.BUY,
            data.X == "MARKET",
        )

    def _parse_snapshot(self, number: int, local_ns: int, body: memoryview) -> RestSnapshot:
        data = self._snapshot.decode(body)
        bids, asks = self._levels(data.bids), self._levels(data.asks)
        return RestSnapshot(number, local_ns, data.T * MS_NS, data.lastUpdateId, bids, asks)

    def _levels(self, levels: list[tuple[str, str]]) -> list[Level]:
        price, quantity = self._price, self._quantity
        return [(price[p], quantity[q]) for p, q in levels]


def _lines(path: Path | str) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with open(path, "rb") as raw, _unpacked(raw) as file:
            for number, line in enumerate(iter(partial(file.readline, LINE_BYTES_MAX), b""), 1):
                yield number, line
    except (EOFError, gzip.BadGzipFile, ZlibError) as e:
        raise RecordingError(str(path), number + 1, "whole gzip data", str(e), "copy the file again") from e
    except OSError as e:
        remedy = "give the path of a recording, or run the synthetic session"
        raise RecordingError(str(path), 0, "a file that can be read", str(e.strerror), remedy) from e


def _unpacked(raw: BufferedReader) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(raw)) if raw.peek(2)[:2] == _GZIP_MAGIC else raw


def _shown(line: bytes) -> str:
    return repr(line[:80])
