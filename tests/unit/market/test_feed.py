"""The feed: what it plays reaches table, subscribers and latecomers, and it starts again where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Self

import msgspec
import pytest

from market import epochs, replay
from market.epochs import LOOP_GAP_NS, MarketTick
from market.errors import FeedError, RecordingError, TableError
from market.feed import Feed
from market.feed_settings import FeedSettings
from market.replay import Recording
from market.table import LastValue, TableReader
from protocol.channels import Context, Dealer, Subscriber, Waiter
from protocol.ticks import (
    BookClear,
    BookDelta,
    BookSnapshot,
    FeedStatus,
    Quote,
    SnapshotReply,
    SnapshotRequest,
    Tick,
    Trade,
    decode_tick,
    snapshot_reply_decoder,
    topic,
)
from runtime.failpoints import ENV_LOG, ENV_POINT
from tests.unit.market.recorded import BTCUSDT, ROOT

WAIT_MS = 10_000  # a test that waits longer for a condition has failed
WALL_NS = 1_800_000_000_000_000_000


class Switch:
    """A stop that a test sets, at once or when a condition becomes true; ``waits`` False: the feed never waits."""

    def __init__(self, until: Callable[[], bool] = lambda: False, *, waits: bool = True) -> None:
        self.fd, self._write_fd = os.pipe()
        if not waits:
            os.write(self._write_fd, b"\0")
        self._until = until
        self._is_set = False

    @property
    def is_set(self) -> bool:
        return self._is_set or self._until()

    def set(self) -> None:
        self._is_set = True
        os.write(self._write_fd, b"\0")

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)


def settings(folder: Path, recording: Path | str = "", **changes: object) -> FeedSettings:
    base = FeedSettings(
        publish_endpoint=f"ipc://{folder}/p",
        request_endpoint=f"ipc://{folder}/r",
        table_path=str(folder / "table"),
        instruments=(BTCUSDT,),
        recording=str(recording),
    )
    return msgspec.structs.replace(base, **changes)


def play_to_the_end(told: FeedSettings, context: Context, count: int, wall_ns: int = WALL_NS) -> Feed:
    """Play ``count`` ticks as fast as it goes."""
    feed = Feed(told, context, wall=lambda: wall_ns)
    switch = Switch(lambda: feed.published >= count, waits=False)
    feed.play(switch)
    switch.close()
    return feed


def receive_until(subscriber: Subscriber, done: Callable[[list[Tick]], bool]) -> list[Tick]:
    """Collect ticks until ``done`` says that they suffice."""
    waiter = Waiter(subscriber)
    ticks: list[Tick] = []
    while not done(ticks):
        assert waiter.wait(WAIT_MS), f"no tick came; have {len(ticks)}"
        ticks += [decode_tick(message)[1] for message in subscriber.receive(10_000)]
    return ticks


def ask(dealer: Dealer, body: bytes) -> SnapshotReply:
    """Send a request and wait for its answer."""
    waiter = Waiter(dealer)
    while not dealer.send(body):
        waiter.wait(5)  # not connected yet
    assert waiter.wait(WAIT_MS)
    return snapshot_reply_decoder.decode(dealer.receive(1)[0])


def row(path: Path, name: str) -> LastValue | None:
    reader = TableReader.open(path)
    return reader.read(reader.slot(name))


class Playing:
    """A feed that plays in a thread."""

    def __init__(self, told: FeedSettings, context: Context) -> None:
        self.feed = Feed(told, context)
        self.switch = Switch()
        self._thread = threading.Thread(target=self.feed.play, args=(self.switch,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.switch.set()
        self._thread.join()
        self.feed.close()
        self.switch.close()


def test_subscribers_get_the_recording_epoch_after_epoch(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """From the first Clear on, what arrives is the recording, tick by tick, and the next loop follows it."""
    n = len(short.ticks)
    subscriber = Subscriber(context, f"ipc://{folder}/p", 100_000, [topic("BTCUSDT")])

    def from_clear(ticks: list[Tick]) -> list[MarketTick]:
        market = [t for t in ticks if not isinstance(t, FeedStatus)]
        starts = [i for i, t in enumerate(market) if isinstance(t, BookClear)]
        return market[starts[0] :] if starts else []

    with Playing(settings(folder, short_path, speed=20.0), context):
        ticks = from_clear(receive_until(subscriber, lambda t: len(from_clear(t)) > n + 10))
    subscriber.close()
    epoch, shift_ns = ticks[0].feed_epoch, ticks[0].exch_ns - short.ticks[0].exch_ns
    assert ticks[:n] == list(epochs.events(short.ticks, epoch, shift_ns))
    assert (ticks[n].feed_epoch, ticks[n].feed_seq) == (epoch + 1, 1)
    assert ticks[n].exch_ns == ticks[n - 1].exch_ns + LOOP_GAP_NS


def test_a_latecomer_gets_the_book_by_asking(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """A snapshot as of the last message, then the diffs after it, is the book of one who heard everything."""
    subscriber = Subscriber(context, f"ipc://{folder}/p", 100_000)
    dealer = Dealer(context, f"ipc://{folder}/r", 100)
    request = msgspec.msgpack.encode(SnapshotRequest("BTCUSDT"))
    with Playing(settings(folder, short_path, speed=5.0, loop=False), context):
        ticks = receive_until(subscriber, lambda t: any(isinstance(x, BookDelta) for x in t))
        first = ask(dealer, request).snapshot
        assert first is not None
        ticks += receive_until(subscriber, lambda t: any(x.feed_seq == len(short.ticks) for x in t))
        last = ask(dealer, request).snapshot
    subscriber.close()
    dealer.close()
    bids, asks = dict(first.bids), dict(first.asks)
    for tick in ticks:
        if isinstance(tick, BookDelta) and tick.feed_seq > first.feed_seq:
            bids.update(tick.bids)
            asks.update(tick.asks)
    assert last is not None
    assert last.feed_seq == len(short.ticks)
    assert last.bids == sorted(((p, q) for p, q in bids.items() if q), reverse=True)
    assert last.asks == sorted((p, q) for p, q in asks.items() if q)


def test_one_who_comes_when_nobody_listened_misses_nothing_from_then_on(folder: Path, context: Context) -> None:
    """Ticks nobody asked for are not sent; from the first that arrives none is missing, and others stay unsent."""
    eth = msgspec.structs.replace(BTCUSDT, instrument="ETH")
    told = settings(folder, instruments=(BTCUSDT, eth), rate_per_s=2_000)
    with Playing(told, context) as playing:
        dealer = Dealer(context, f"ipc://{folder}/r", 100)
        request = msgspec.msgpack.encode(SnapshotRequest("BTCUSDT"))
        before = ask(dealer, request).snapshot  # it has played, and nobody listens
        subscriber = Subscriber(context, f"ipc://{folder}/p", 100_000, [topic("BTCUSDT")])

        def market(ticks: list[Tick]) -> list[MarketTick]:
            return [t for t in ticks if not isinstance(t, FeedStatus)]

        ticks = market(receive_until(subscriber, lambda t: len(market(t)) > 500))
        assert [line.is_heard for line in playing.feed._lines.values()] == [True, False]
    assert before is not None
    assert ticks[0].feed_seq > before.feed_seq
    assert [t.feed_seq for t in ticks] == list(range(ticks[0].feed_seq, ticks[0].feed_seq + len(ticks)))
    subscriber.close()
    dealer.close()


def test_requests_that_can_not_be_answered(folder: Path, context: Context, short_path: Path) -> None:
    """An instrument the feed does not play has no snapshot; a request that is none is counted and dropped."""
    dealer = Dealer(context, f"ipc://{folder}/r", 100)
    with Playing(settings(folder, short_path), context) as playing:
        assert ask(dealer, msgspec.msgpack.encode(SnapshotRequest("NONE"))) == SnapshotReply("NONE", None)
        dealer.send(b"\xc1")
        assert ask(dealer, msgspec.msgpack.encode(SnapshotRequest("NONE"))).snapshot is None
        assert playing.feed.refused == 1
    dealer.close()


def test_the_table_holds_the_last_quote_and_trade(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """In 1e-9, with the time of this host's clock."""
    feed = play_to_the_end(settings(folder, short_path, speed=0.0, loop=False), context, len(short.ticks))
    feed.close()
    quote = [t for t in short.ticks if isinstance(t, Quote)][-1]
    trade = [t for t in short.ticks if isinstance(t, Trade)][-1]
    value = row(folder / "table", "BTCUSDT")
    assert value is not None
    assert (value.bid_e9, value.bid_size_e9) == (quote.bid_steps * 10**8, quote.bid_quantity_steps * 10**6)
    assert (value.ask_e9, value.ask_size_e9) == (quote.ask_steps * 10**8, quote.ask_quantity_steps * 10**6)
    assert (value.last_price_e9, value.last_size_e9) == (trade.price_steps * 10**8, trade.quantity_steps * 10**6)
    assert value.exch_ns == max(quote.exch_ns, trade.exch_ns)
    assert value.written_at_ns == value.last_trade_written_at_ns == WALL_NS


def test_without_quotes_the_table_holds_the_top_of_the_book(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """A recording of depth and trades alone still gives a best bid and ask."""
    path = folder / "depth"
    lines = short_path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b"@bookTicker" not in line))
    depth = replay.load(path, BTCUSDT)
    assert not depth.has_quotes
    feed = play_to_the_end(settings(folder, path, speed=0.0, loop=False), context, len(depth.ticks))
    feed.close()
    value = row(folder / "table", "BTCUSDT")
    last_diff = [t for t in short.ticks if isinstance(t, BookDelta)][-1]
    quote = [t for t in short.ticks if isinstance(t, Quote) and t.exch_ns <= last_diff.exch_ns][-1]
    assert value is not None
    assert (value.bid_e9, value.ask_e9) == (quote.bid_steps * 10**8, quote.ask_steps * 10**8)


def test_only_what_is_due_is_played(folder: Path, context: Context, short_path: Path, short: Recording) -> None:
    """At speed 2, 100 ms after the start 200 ms of exchange time have been played, to the tick."""
    told = settings(folder, short_path, speed=2.0)
    clock = [0]
    feed = Feed(told, context, monotonic=lambda: clock[0])
    turns = iter(range(40))
    switch = Switch(lambda: next(turns, None) is None, waits=False)
    limit_ns = short.ticks[0].exch_ns
    feed.play(switch)
    assert feed.published == sum(t.exch_ns <= limit_ns for t in short.ticks)
    feed.close()

    clock = [0]
    feed = Feed(msgspec.structs.replace(told, table_path=str(folder / "t2")), context, monotonic=lambda: clock[0])

    def later() -> bool:
        clock[0] = 100_000_000 if feed.published else 0
        return next(turns, None) is None

    turns = iter(range(40))
    switch = Switch(later, waits=False)
    feed.play(switch)
    limit_ns = short.ticks[0].exch_ns + 200_000_000
    assert feed.published == sum(t.exch_ns <= limit_ns for t in short.ticks)
    assert feed.rebased == 0
    feed.close()


def test_a_feed_that_was_stopped_does_not_catch_up_in_a_burst(folder: Path, context: Context, short_path: Path) -> None:
    """More than a second behind it goes on from where it was: no tick is lost, none is hurried."""
    clock = [0]
    feed = Feed(settings(folder, short_path), context, monotonic=lambda: clock[0])
    turns = iter(range(10))

    def leap() -> bool:
        clock[0] = 100_000_000_000 if feed.published else 0
        return next(turns, None) is None

    switch = Switch(leap, waits=False)
    feed.play(switch)
    assert feed.rebased == 1
    assert 0 < feed.published < 200
    feed.close()


def test_status_says_where_ticks_come_from(folder: Path, context: Context, short_path: Path) -> None:
    """A recording by its file and hash; a synthetic session is labelled so."""
    for recording, origin, is_synthetic in ((short_path, "short sha256:", False), ("", "synthetic seed:1", True)):
        subscriber = Subscriber(context, f"ipc://{folder}/p", 100_000)
        with Playing(settings(folder, recording), context):
            ticks = receive_until(subscriber, lambda t: any(isinstance(x, FeedStatus) for x in t))
        subscriber.close()
        status = next(t for t in ticks if isinstance(t, FeedStatus))
        assert status.origin.startswith(origin)
        assert (status.synthetic, status.speed) == (is_synthetic, 1.0)


def test_a_restart_is_a_greater_epoch_that_goes_on(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """Even with a clock that stands still or goes back, the epoch rises and exchange time does not go back."""
    n = len(short.ticks)
    seen: list[tuple[int, int]] = []
    for wall_ns in (WALL_NS, WALL_NS, WALL_NS - 10**12):
        feed = play_to_the_end(settings(folder, short_path, speed=0.0), context, 2 * n, wall_ns)
        snapshot = feed._snapshot("BTCUSDT")
        assert snapshot is not None
        seen.append((snapshot.feed_epoch, snapshot.exch_ns))
        feed.close()
    assert seen[0][0] >= WALL_NS
    assert all(a < b and s < t for (a, s), (b, t) in pairwise(seen))


def test_spread_updates_one_instrument_after_the_other(
    folder: Path, context: Context, short_path: Path, short: Recording
) -> None:
    """For benchmarks: tick i goes to the row of instrument i mod N as well, and to nobody else."""
    names = tuple(f"I{n}" for n in range(7))
    told = settings(folder, short_path, speed=0.0, loop=False, spread_over=names)
    play_to_the_end(told, context, len(short.ticks)).close()
    for n, name in enumerate(names):
        mine = [t for i, t in enumerate(short.ticks) if i % 7 == n and not isinstance(t, BookClear)]
        value = row(folder / "table", name)
        assert value is not None
        assert value.sequence == len(mine)
        assert value.exch_ns == mine[-1].exch_ns


def test_several_synthetic_instruments(folder: Path, context: Context) -> None:
    """Each has its own row, topic and numbers."""
    eth = msgspec.structs.replace(BTCUSDT, instrument="ETH")
    told = settings(folder, instruments=(BTCUSDT, eth), start_prices_e9=(61_800 * 10**9, 2_500 * 10**9), speed=0.0)
    feed = play_to_the_end(told, context, 5_000)
    for name, price_e9 in (("BTCUSDT", 61_800 * 10**9), ("ETH", 2_500 * 10**9)):
        value = row(folder / "table", name)
        snapshot = feed._snapshot(name)
        assert value is not None
        assert snapshot is not None
        assert abs(value.last_price_e9 - price_e9) < price_e9 // 100
        assert abs(snapshot.bids[0][0] * 10**8 - price_e9) < price_e9 // 100
    feed.close()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"recording": "/nowhere/r.gz"}, RecordingError),
        ({"instruments": ()}, FeedError),
        ({"recording": "r.gz", "instruments": (BTCUSDT, msgspec.structs.replace(BTCUSDT, instrument="B"))}, FeedError),
        ({"start_prices_e9": (1, 2)}, FeedError),
        ({"speed": -1.0}, FeedError),
        ({"rate_per_s": 0}, FeedError),
        ({"table_path": "/nowhere/table"}, TableError),
    ],
)
def test_what_can_not_be_played_is_named(
    folder: Path, context: Context, changes: dict[str, object], error: type[Exception]
) -> None:
    """The start stops with what was wrong and what to do, before a socket is bound."""
    with pytest.raises(error):
        Feed(settings(folder, **changes), context)
    assert not (folder / "p").exists()


def start(folder: Path, recording: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a feed process on the recording."""
    code = (
        "import sys, msgspec; from market.feed import run; from market.feed_settings import FeedSettings;"
        "run(msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=FeedSettings))"
    )
    told = msgspec.msgpack.encode(settings(folder, recording)).hex()
    return subprocess.Popen([sys.executable, "-c", code, told], cwd=ROOT, env={**os.environ, **environment})


def await_value(folder: Path, sequence: int, context: Context) -> LastValue:
    """Wait until the table has a value newer than ``sequence``; each tick published is a reason to look."""
    reader = TableReader.open(folder / "table")
    slot = reader.slot("BTCUSDT")
    subscriber = Subscriber(context, f"ipc://{folder}/p", 100_000)
    waiter = Waiter(subscriber)
    while (value := reader.read(slot)) is None or value.sequence <= sequence:
        assert waiter.wait(WAIT_MS), "no tick came"
        subscriber.receive(10_000)
    subscriber.close()
    return value


def test_sigterm_ends_the_process_cleanly(folder: Path, context: Context, short_path: Path) -> None:
    """Asked to stop, the process ends with 0 and another may take the table."""
    process = start(folder, short_path)
    await_value(folder, 10, context)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_MS / 1_000) == 0


def test_a_feed_killed_in_the_middle_of_a_write_hurts_nobody(folder: Path, context: Context, short_path: Path) -> None:
    """SIGKILL half-way through a table write: the value before is still read, and the next feed goes on."""
    log = folder / "fail.log"
    armed = {ENV_POINT: "feed.mid_write:50:1", ENV_LOG: str(log)}
    process = start(folder, short_path, **armed)
    assert process.wait(WAIT_MS / 1_000) == -signal.SIGKILL
    assert log.read_text().startswith("feed.mid_write ")
    value = row(folder / "table", "BTCUSDT")
    assert value is not None
    assert value.sequence == 49
    process = start(folder, short_path, **armed)
    after = await_value(folder, 60, context)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_MS / 1_000) == 0
    assert after.exch_ns > value.exch_ns


def test_the_snapshot_is_the_whole_book(folder: Path, context: Context, short_path: Path, short: Recording) -> None:
    """Before the first tick there is none; after the last it has every level, best first."""
    told = settings(folder, short_path, speed=0.0, loop=False)
    feed = Feed(told, context)
    assert feed._snapshot("BTCUSDT") is None
    feed.close()
    feed = play_to_the_end(told, context, len(short.ticks))
    snapshot = feed._snapshot("BTCUSDT")
    feed.close()
    assert isinstance(snapshot, BookSnapshot)
    assert len(snapshot.bids) > 1_000
    assert snapshot.bids == sorted(snapshot.bids, reverse=True)
    assert snapshot.asks == sorted(snapshot.asks)
