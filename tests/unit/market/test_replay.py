"""The replay: exchange order, one epoch after another, only what has a place in the book."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from market import epochs, replay
from market.book import Book
from market.epochs import LOOP_GAP_NS
from market.errors import RecordingError
from market.formats.binance import BestQuote, DepthDiff, Message, RestSnapshot, TradePrint
from market.recording import book_sha256
from market.replay import Recording
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Quote, Trade
from tests.unit.market.recorded import BTCUSDT


def _lines(*bodies: str) -> str:
    return "".join(f"{1723161255030314667 + n} {body}\n" for n, body in enumerate(bodies))


def _diff(first: int, last: int, previous: int, ms: int) -> str:
    return (
        f'{{"stream":"btcusdt@depth@0ms","data":{{"e":"depthUpdate","E":{ms},"T":{ms},"s":"BTCUSDT",'
        f'"U":{first},"u":{last},"pu":{previous},"b":[["1.0","1"]],"a":[]}}}}'
    )


SNAPSHOT = '{"lastUpdateId":100,"E":5,"T":5,"bids":[["0.9","2"]],"asks":[["1.1","3"]]}'


def test_exchange_order_is_a_stable_sort(recording: Recording, messages: list[Message]) -> None:
    """Exchange time never goes back, and lines of one instant stay in the order they were heard."""
    assert all(a.exch_ns <= b.exch_ns for a, b in pairwise(recording.ticks))
    start_ns = recording.ticks[0].exch_ns
    expected = sorted(
        (m for m in messages if isinstance(m, TradePrint) and m.exch_ns >= start_ns), key=lambda m: (m.exch_ns, m.line)
    )
    assert [t.trade_ref for t in recording.ticks if isinstance(t, Trade)] == [m.trade_id for m in expected]


def test_the_offset_is_one_constant(recording: Recording, messages: list[Message]) -> None:
    """Corrected local time is the recorder's plus 1,277,156,851 ns, so that no latency is below 5 ms."""
    assert recording.offset_ns == 1_272_156_851 + 5_000_000
    line = messages[41]
    first = next(t for t in recording.ticks if isinstance(t, BookDelta))
    assert (first.exch_ns, first.local_ns) == (line.exch_ns, line.local_ns + recording.offset_ns)
    lags = [t.local_ns - t.exch_ns for t in recording.ticks if isinstance(t, BookDelta | Trade)]
    assert min(lags) == 5_000_000


def test_an_epoch_begins_with_clear_and_snapshot(recording: Recording, messages: list[Message]) -> None:
    """The snapshot stands first, at its own exchange time, though it was heard after diffs that follow on it."""
    clear, snapshot, *rest = recording.ticks
    rest_snapshot = messages[54]
    assert isinstance(rest_snapshot, RestSnapshot)
    assert isinstance(clear, BookClear)
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.exch_ns, snapshot.bids) == (rest_snapshot.exch_ns, rest_snapshot.bids)
    assert not any(isinstance(t, BookClear | BookSnapshot) for t in rest)
    assert [t.feed_seq for t in recording.ticks] == list(range(1, len(recording.ticks) + 1))


def test_what_came_before_the_book_is_left_out(recording: Recording, messages: list[Message]) -> None:
    """All 6,547 kept diffs are there; quotes and trades from before the snapshot are not, and are counted."""
    start_ns = recording.ticks[0].exch_ns
    kinds = Counter(map(type, recording.ticks))
    assert kinds[BookDelta] == 6_547
    assert kinds[Trade] == sum(isinstance(m, TradePrint) and m.exch_ns >= start_ns for m in messages)
    assert kinds[Quote] == sum(isinstance(m, BestQuote) and m.exch_ns >= start_ns for m in messages)
    assert recording.left_out == 93_954 - 1 - (len(recording.ticks) - 2) == 41


def test_the_replayed_book_ends_as_the_recorded_one(recording: Recording) -> None:
    """In exchange order, from the first snapshot on, the diffs give the book that was measured."""
    book = Book()
    for tick in epochs.events(recording.ticks):
        if isinstance(tick, BookSnapshot):
            book.apply_snapshot(tick.bids, tick.asks)
        elif isinstance(tick, BookDelta):
            book.apply_levels(tick.bids, tick.asks)
    assert book_sha256(book) == "22c47c0fc96a985201ad641162f6cc299ed40512f7a00cd788f4e728351b9abd"
    assert book.dropped == 0


def test_each_loop_is_a_new_epoch_that_goes_on(recording: Recording) -> None:
    """The second loop has the next epoch, numbers from 1, and begins a gap after the first one's end."""
    n = len(recording.ticks)
    ticks = list(islice(epochs.loops(recording.ticks, 7), 2 * n))
    assert [(t.feed_epoch, t.feed_seq) for t in (ticks[0], ticks[n - 1], ticks[n])] == [(7, 1), (7, n), (8, 1)]
    assert isinstance(ticks[n], BookClear)
    assert ticks[n].exch_ns == ticks[n - 1].exch_ns + LOOP_GAP_NS
    shift_ns = ticks[n].exch_ns - ticks[0].exch_ns
    assert ticks[n:] == [epochs.restamp(t, 8, t.feed_seq, shift_ns) for t in ticks[:n]]
    assert ticks[-1].exch_ns - ticks[n].exch_ns == recording.ticks[-1].exch_ns - recording.ticks[0].exch_ns


def test_a_replay_goes_on_from_an_exchange_time(recording: Recording) -> None:
    """A feed that restarts tells where exchange time was; an earlier time than the recording's changes nothing."""
    later = recording.ticks[0].exch_ns + 12_345
    assert next(epochs.loops(recording.ticks, 1, later)).exch_ns == later
    assert next(epochs.loops(recording.ticks, 1, 5)).exch_ns == recording.ticks[0].exch_ns


def test_events_are_the_recording(recording: Recording) -> None:
    """One epoch, unshifted, is the recording itself; stamped anew only stamps differ."""
    assert tuple(epochs.events(recording.ticks)) == recording.ticks
    stamped = next(islice(epochs.events(recording.ticks, 3, 10), 50, None))
    tick = recording.ticks[50]
    assert (stamped.feed_epoch, stamped.feed_seq) == (3, tick.feed_seq)
    assert (stamped.exch_ns, stamped.local_ns) == (tick.exch_ns + 10, tick.local_ns + 10)
    assert epochs.restamp(stamped, 0, tick.feed_seq, -10) == tick


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 0, "at least one line"),
        (_lines(_diff(99, 100, 98, 6)), 0, "a REST snapshot"),
        (_lines(_diff(200, 210, 199, 6), SNAPSHOT), 2, "U <= 100 <= u"),
        (_lines(SNAPSHOT, _diff(99, 101, 98, 6), _diff(103, 104, 102, 7)), 3, "follows on the one before"),
    ],
)
def test_a_recording_without_a_whole_book_is_refused(tmp_path: Path, text: str, line: int, expected: str) -> None:
    """No snapshot, no diff that follows on it, or a gap: the line and what was missing are named."""
    path = tmp_path / "r.txt"
    path.write_text(text)
    with pytest.raises(RecordingError) as error:
        replay.load(path, BTCUSDT)
    assert (error.value.path, error.value.line) == (str(path), line)
    assert expected in error.value.expected


def test_a_diff_before_the_snapshots_time_does_not_come_before_it(tmp_path: Path) -> None:
    """The snapshot takes the first kept diff's time if that is earlier, so that the book always begins first."""
    path = tmp_path / "r.txt"
    path.write_text(_lines(_diff(99, 101, 98, 3), SNAPSHOT, _diff(102, 104, 101, 7)))
    ticks = replay.load(path, BTCUSDT).ticks
    assert [type(t) for t in ticks] == [BookClear, BookSnapshot, BookDelta, BookDelta]
    assert [t.exch_ns // 1_000_000 for t in ticks] == [3, 3, 3, 7]


def test_the_sync_rule_of_the_futures_venue(messages: list[Message]) -> None:
    """The first kept diff spans lastUpdateId: U <= lastUpdateId <= u."""
    snapshot = messages[54]
    kept = messages[41]
    assert isinstance(snapshot, RestSnapshot)
    assert isinstance(kept, DepthDiff)
    assert kept.first_id <= snapshot.last_id <= kept.last_id
