"""Following the feed: no tick twice, none skipped without a mark, holes closed by snapshots."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from protocol.channels import Publisher, Router
from protocol.codes import Side
from protocol.ticks import (
    BookClear,
    BookSnapshot,
    FeedStatus,
    SnapshotReply,
    Tick,
    Trade,
    encode_tick,
    snapshot_request_decoder,
    topic,
)
from tests.unit.venues.stage import Stage, new
from venues.core.log import Batch, read_log
from venues.feed import ASK_AGAIN_NS, BUFFER_MAX, FeedFollower
from venues.sandbox import FeedMarkKind, note_decoder


def clear(epoch: int, seq: int = 1) -> BookClear:
    return BookClear(epoch, seq, seq, seq)


def snapshot(epoch: int, seq: int) -> BookSnapshot:
    return BookSnapshot(epoch, seq, seq, seq, [(100, 10)], [(101, 8)])


def trade(epoch: int, seq: int) -> Trade:
    return Trade(epoch, seq, seq, seq, 100, 1, Side.SELL, seq)


class Followed:
    """What a follower did, in order."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.follower = FeedFollower(
            ["XY"],
            apply=lambda _, tick: self.seen.append((tick.feed_epoch, tick.feed_seq)),
            gap=lambda _: self.seen.append("gap"),
            resync=lambda _: self.seen.append("resync"),
        )

    def take(self, *ticks: Tick) -> list[object]:
        for tick in ticks:
            self.follower.on_tick("XY", tick)
        return self.flush()

    def reply(self, book: BookSnapshot | None) -> list[object]:
        self.follower.on_snapshot(SnapshotReply("XY", book))
        return self.flush()

    def flush(self) -> list[object]:
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def feed() -> Followed:
    """A follower that has seen epoch 0 to number 3."""
    followed = Followed()
    assert followed.take(clear(0), snapshot(0, 2), trade(0, 3)) == [(0, 1), (0, 2), (0, 3)]
    return followed


def test_a_tick_comes_once(feed: Followed) -> None:
    """Numbers already applied, and those of older epochs, are nothing new."""
    feed.take(clear(1), snapshot(1, 2))

    assert feed.take(trade(1, 2), trade(0, 4), trade(1, 3)) == [(1, 3)]


def test_a_late_joiner_asks_for_the_book() -> None:
    """Ticks are buffered meanwhile; those that the snapshot already holds are dropped."""
    feed = Followed()
    assert feed.take(trade(2, 7), trade(2, 8), trade(2, 9)) == []
    assert feed.follower.requests(ASK_AGAIN_NS) == ["XY"]

    assert feed.reply(snapshot(2, 8)) == [(2, 8), "resync", (2, 9)]
    assert feed.follower.requests(10 * ASK_AGAIN_NS) == []


def test_a_hole_is_a_gap_until_the_snapshot(feed: Followed) -> None:
    """Nothing is applied from the hole on; the snapshot closes it and buffered ticks follow."""
    assert feed.take(trade(0, 5), trade(0, 6)) == ["gap"]
    assert feed.reply(snapshot(0, 5)) == [(0, 5), "resync", (0, 6)]


def test_a_snapshot_from_before_what_was_applied_is_refused(feed: Followed) -> None:
    """Time never goes back; the feed is asked again."""
    feed.take(trade(0, 5))
    assert feed.reply(snapshot(0, 2)) == []
    assert feed.reply(None) == []
    feed.follower.asked("XY", ASK_AGAIN_NS)
    assert feed.follower.requests(2 * ASK_AGAIN_NS - 1) == []
    assert feed.follower.requests(2 * ASK_AGAIN_NS) == ["XY"]


def test_a_hole_behind_the_snapshot_asks_again(feed: Followed) -> None:
    """A buffer that does not join the snapshot is a second gap."""
    feed.take(trade(0, 5), trade(0, 9))

    assert feed.reply(snapshot(0, 5)) == [(0, 5), "resync", "gap"]
    assert feed.follower.requests(ASK_AGAIN_NS) == ["XY"]


def test_a_new_epoch_begins_by_itself(feed: Followed) -> None:
    """A BookClear of a later epoch needs no snapshot by request, whether the book was live or waited."""
    assert feed.take(clear(1), snapshot(1, 2)) == [(1, 1), (1, 2)]
    assert feed.take(trade(1, 9)) == ["gap"]
    assert feed.take(clear(2), snapshot(2, 2)) == [(2, 1), (2, 2)]


def test_a_new_epoch_whose_beginning_was_missed_is_a_gap(feed: Followed) -> None:
    """The old book says nothing about the new epoch."""
    assert feed.take(trade(1, 4)) == ["gap"]
    assert feed.reply(snapshot(1, 3)) == [(1, 3), "resync", (1, 4)]


def test_a_status_shows_a_hole_at_the_end(feed: Followed) -> None:
    """When the last tick before a silence was lost, the status says so."""
    status = FeedStatus(0, 3, 3, 3, "x", True, 1.0)
    assert feed.take(status) == []
    assert feed.take(msgspec.structs.replace(status, feed_seq=4)) == ["gap"]


def test_the_buffer_is_bounded() -> None:
    """While no snapshot comes the oldest ticks go; the hole that makes is seen."""
    feed = Followed()
    feed.take(*(trade(0, n) for n in range(1, BUFFER_MAX + 11)))
    assert feed.follower.dropped == 10

    assert feed.reply(snapshot(0, 5)) == [(0, 5), "resync", "gap"]


class Feed:
    """A feed process in small: PUB of ticks, ROUTER for snapshots."""

    def __init__(self, stage: Stage) -> None:
        self.publisher = Publisher(stage.context, stage.settings.feed_endpoint, 1000)
        self.router = Router(stage.context, stage.settings.snapshots_endpoint, 1000)
        self.asked: list[str] = []

    def publish(self, *ticks: Tick) -> None:
        for tick in ticks:
            self.publisher.send(encode_tick(topic("XY"), tick))

    def answer(self, book: BookSnapshot) -> bool:
        """Answer requests that came; True once there was one."""
        for identity, body in self.router.receive(10):
            instrument = snapshot_request_decoder.decode(body).instrument
            self.asked.append(instrument)
            self.router.send(identity, msgspec.msgpack.encode(SnapshotReply(instrument, book)))
        return bool(self.asked)


@pytest.fixture
def live(stage: Stage) -> Iterator[tuple[Stage, Feed]]:
    """A stage whose venue follows a feed over sockets."""
    feed = Feed(stage)
    yield stage, feed
    feed.publisher.close()
    feed.router.close()


def test_a_gateway_joins_late_fills_and_marks_its_holes(live: tuple[Stage, Feed]) -> None:
    """Over real sockets: snapshot by request, a hole, another snapshot; the log names each place."""
    stage, feed = live
    stage.start_following()
    matcher = stage.venue.exchange.listings["XY"].matcher
    stage.until(lambda: feed.answer(snapshot(1, 5)) and matcher.is_live)
    stage.ready()
    stage.order(new(1, "P-1"))

    stage.until(lambda: feed.publish(trade(1, 6)) or matcher.feed_seq == 6)
    feed.publish(trade(1, 9))
    stage.until(lambda: not matcher.is_live)
    stage.until(lambda: feed.answer(snapshot(1, 9)) and matcher.is_live)
    stage.order(new(2, "P-2"))

    notes = [note_decoder.decode(r.note) for _, _, r in read_log(stage.folder) if isinstance(r, Batch)]
    marks = [
        (m.kind, m.feed_epoch, m.feed_seq) for note in notes for m in note.feed if m.kind is not FeedMarkKind.FILLED
    ]
    assert marks == [(FeedMarkKind.RESYNC, 1, 5), (FeedMarkKind.STALE, 1, 6), (FeedMarkKind.RESYNC, 1, 9)]
    assert [note.acted for note in notes if note.acted] == [[1, 5, 5], [1, 9, 9]]
