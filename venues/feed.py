"""Following the feed without a hole: gaps are seen by (feed_epoch, feed_seq) and closed by a snapshot (DECISIONS 24).

Per instrument: LIVE applies contiguous ticks. A hole, a late join, or a new epoch whose beginning was missed makes
it WAITING: the book is stale, ticks are buffered, the feed is asked for the book as of its last message; then the
buffered ticks above that are applied. A BookClear of a newer epoch begins anew without asking.

Rule: what is applied per instrument never goes back in (feed_epoch, feed_seq), and never skips without a mark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from protocol.channels import Channel, Context, Dealer, Subscriber
from protocol.ticks import (
    BookClear,
    FeedStatus,
    SnapshotReply,
    SnapshotRequest,
    Tick,
    decode_tick,
    snapshot_reply_decoder,
    topic,
)

BUFFER_MAX: Final = 4_096
ASK_AGAIN_NS: Final = 500_000_000
ASKED_MAX: Final = 64
TICKS_HWM: Final = 100_000
SNAPSHOTS_HWM: Final = 1_024
_encode_request: Final = msgspec.msgpack.Encoder().encode


class _Cursor:
    """How far one instrument was followed. ``asked_at_ns`` 0 = nobody was asked since the gap."""

    __slots__ = ("asked_at_ns", "buffer", "epoch", "is_live", "seq")

    def __init__(self) -> None:
        self.epoch = -1
        self.seq = -1
        self.is_live = False
        self.buffer: deque[Tick] = deque()
        self.asked_at_ns = 0


class FeedFollower:
    """The order of ticks, without sockets.

    Args:
        instruments: What is followed; ticks of others are ignored.
        apply: Called with (instrument, tick) in order.
        gap: Called with the instrument when its book is lost.
        resync: Called with the instrument right after a snapshot that was asked for was applied.
    """

    def __init__(
        self,
        instruments: Iterable[str],
        *,
        apply: Callable[[str, Tick], None],
        gap: Callable[[str], None],
        resync: Callable[[str], None],
    ) -> None:
        self._cursors = {instrument: _Cursor() for instrument in instruments}
        self._waiting = dict.fromkeys(self._cursors)
        self._apply = apply
        self._gap = gap
        self._resync = resync
        self.gaps = 0
        self.dropped = 0

    @property
    def waiting_count(self) -> int:
        """Instruments without a live book."""
        return len(self._waiting)

    def on_tick(self, instrument: str, tick: Tick) -> None:
        """Take one tick as it came."""
        cursor = self._cursors.get(instrument)
        if cursor is None:
            return
        if type(tick) is FeedStatus:
            # It numbers nothing, but says what we should have seen.
            if cursor.is_live and (tick.feed_epoch, tick.feed_seq) > (cursor.epoch, cursor.seq):
                self._lose(instrument, cursor)
        elif cursor.is_live and tick.feed_epoch == cursor.epoch:
            if tick.feed_seq == cursor.seq + 1:
                cursor.seq = tick.feed_seq
                self._apply(instrument, tick)
            elif tick.feed_seq > cursor.seq:
                self._lose(instrument, cursor)
                cursor.buffer.append(tick)
        elif tick.feed_epoch < cursor.epoch:
            return
        elif type(tick) is BookClear and tick.feed_epoch > cursor.epoch:
            cursor.epoch, cursor.seq = tick.feed_epoch, tick.feed_seq
            self._found(instrument, cursor)
            cursor.buffer.clear()
            self._apply(instrument, tick)
        else:
            if cursor.is_live:
                self._lose(instrument, cursor)
            self._buffer(cursor, tick)

    def on_snapshot(self, reply: SnapshotReply) -> None:
        """Take the feed's answer to a request."""
        instrument, snapshot = reply.instrument, reply.snapshot
        cursor = self._cursors.get(instrument)
        if cursor is None or cursor.is_live or snapshot is None:
            return
        if (snapshot.feed_epoch, snapshot.feed_seq) < (cursor.epoch, cursor.seq):
            return  # older than what was applied; asked again when its time is up
        cursor.epoch, cursor.seq = snapshot.feed_epoch, snapshot.feed_seq
        self._found(instrument, cursor)
        self._apply(instrument, snapshot)
        self._resync(instrument)
        buffered = tuple(cursor.buffer)
        cursor.buffer.clear()
        for tick in buffered:
            self.on_tick(instrument, tick)

    def requests(self, now_ns: int) -> list[str]:
        """Return the instruments to ask the feed for now, a bounded number."""
        due: list[str] = []
        for instrument in self._waiting:
            cursor = self._cursors[instrument]
            if now_ns - cursor.asked_at_ns >= ASK_AGAIN_NS:
                due.append(instrument)
                if len(due) == ASKED_MAX:
                    break
        return due

    def asked(self, instrument: str, now_ns: int) -> None:
        """Remember that the feed was asked, so that the next request waits a while."""
        self._cursors[instrument].asked_at_ns = now_ns

    def _lose(self, instrument: str, cursor: _Cursor) -> None:
        cursor.is_live = False
        cursor.asked_at_ns = 0
        self.gaps += 1
        self._waiting[instrument] = None
        self._gap(instrument)

    def _found(self, instrument: str, cursor: _Cursor) -> None:
        cursor.is_live = True
        self._waiting.pop(instrument, None)

    def _buffer(self, cursor: _Cursor, tick: Tick) -> None:
        if len(cursor.buffer) >= BUFFER_MAX:
            # The oldest are the ones a snapshot makes superfluous; if it does not, the hole shows and it asks again.
            cursor.buffer.popleft()
            self.dropped += 1
        cursor.buffer.append(tick)


class FeedLink:
    """A follower's two sockets: ticks by subscription, snapshots by request."""

    def __init__(
        self, context: Context, follower: FeedFollower, instruments: Iterable[str], ticks: str, snapshots: str
    ) -> None:
        self._follower = follower
        self._ticks = Subscriber(context, ticks, TICKS_HWM, [topic(i) for i in instruments])
        self._snapshots = Dealer(context, snapshots, SNAPSHOTS_HWM)
        self.undecodable = 0

    def channels(self) -> tuple[Channel, ...]:
        """Return what to wait on."""
        return self._ticks, self._snapshots

    def pump(self, ticks_max: int, now_ns: int) -> None:
        """Apply what is there, at most ``ticks_max`` ticks, and ask for what is missing."""
        follower = self._follower
        for body in self._ticks.receive(ticks_max):
            try:
                instrument, tick = decode_tick(body)
            except (ValueError, msgspec.DecodeError):
                self.undecodable += 1  # its number is missing then, and the gap asks for a snapshot
                continue
            follower.on_tick(instrument, tick)
        for body in self._snapshots.receive(ASKED_MAX):
            try:
                follower.on_snapshot(snapshot_reply_decoder.decode(body))
            except msgspec.DecodeError:
                self.undecodable += 1
        if follower.waiting_count:
            for instrument in follower.requests(now_ns):
                if not self._snapshots.send(_encode_request(SnapshotRequest(instrument))):
                    break
                follower.asked(instrument, now_ns)

    def close(self) -> None:
        """Close both sockets."""
        self._ticks.close()
        self._snapshots.close()
