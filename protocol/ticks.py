"""Ticks on the feed's PUB socket, and how a subscriber that missed some gets the book.

A message is ``<instrument> NUL <msgpack Tick>``, so a subscriber filters by instrument. Prices are integer
price steps and quantities integer quantity steps of the instrument master. ``feed_seq`` counts all messages of
one ``feed_epoch`` per instrument without gaps; an epoch begins with BookClear and a full BookSnapshot.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from protocol.codes import Side
from protocol.orders import Name

Level = tuple[int, int]
"""(price_steps, quantity_steps); an absolute size, 0 removes the level."""


class BookClear(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The book is empty until the next snapshot."""

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int


class BookSnapshot(Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The whole book, best first on both sides."""

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int
    bids: list[Level]
    asks: list[Level]


class BookDelta(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Levels that changed, in the venue's order: apply all, then match once."""

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int
    bids: list[Level]
    asks: list[Level]


class Quote(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Best bid and ask; a size of 0 means that the side is empty."""

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int
    bid_steps: int
    bid_quantity_steps: int
    ask_steps: int
    ask_quantity_steps: int


class Trade(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """A trade; ``aggressor`` took the liquidity."""

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int
    price_steps: int
    quantity_steps: int
    aggressor: Side
    trade_ref: int


class FeedStatus(Struct, array_like=True, tag=6, frozen=True):
    """Where the ticks come from; sent at least once a second. ``synthetic`` shows wherever prices show.

    ``feed_seq`` here is that of the last message published for the instrument; it numbers nothing itself.
    """

    feed_epoch: int
    feed_seq: int
    exch_ns: int
    local_ns: int
    origin: str
    synthetic: bool
    speed: float


Tick = BookClear | BookSnapshot | BookDelta | Quote | Trade | FeedStatus


class SnapshotRequest(Struct, array_like=True, tag=1, frozen=True):
    """Ask the feed for the book of one instrument as of its last message."""

    instrument: Name


class SnapshotReply(Struct, array_like=True, tag=1, frozen=True):
    """The book as of (snapshot.feed_epoch, snapshot.feed_seq); None while the feed has none."""

    instrument: Name
    snapshot: BookSnapshot | None


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Tick] = msgspec.msgpack.Decoder(Tick)
snapshot_request_decoder: msgspec.msgpack.Decoder[SnapshotRequest] = msgspec.msgpack.Decoder(SnapshotRequest)
snapshot_reply_decoder: msgspec.msgpack.Decoder[SnapshotReply] = msgspec.msgpack.Decoder(SnapshotReply)


def topic(instrument: str) -> bytes:
    """Return the prefix that every message of the instrument begins with."""
    return instrument.encode() + b"\0"


def encode_tick(prefix: bytes, tick: Tick) -> bytes:
    """Return the message; ``prefix`` is ``topic(instrument)``, made once."""
    return prefix + _encoder.encode(tick)


def decode_tick(message: bytes) -> tuple[str, Tick]:
    """Return (instrument, tick).

    Raises:
        ValueError: If there is no topic.
        msgspec.DecodeError: If the rest is no tick.
    """
    end = message.index(b"\0")
    return message[:end].decode(), _decoder.decode(memoryview(message)[end + 1 :])
