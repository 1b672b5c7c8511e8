"""The feed process: plays a session, keeps the last-value table, publishes ticks, answers snapshot requests.

One thread. It waits for its sockets no longer than until the next tick is due, then publishes what is due in
batches. At speed 0 nothing is waited for.

Rules: the table is written before the tick is published, with this host's clock as ``written_at_ns``, and
nothing refreshes it between ticks: age is age. Every start and every loop is a new, greater ``feed_epoch``, and
exchange time goes on across them (DECISIONS 24).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from market import epochs, replay, synthetic
from market.epochs import MarketTick
from market.feed_metrics import FAMILIES, FeedMeters
from market.feed_settings import FeedSettings, require_playable
from market.line import Line
from market.synthetic import SyntheticInstrument
from market.table_writer import TableWriter
from protocol.channels import Context, Router, TopicPublisher, Waiter
from protocol.ticks import (
    BookSnapshot,
    FeedStatus,
    SnapshotReply,
    encode_tick,
    snapshot_request_decoder,
)
from runtime import failpoints
from runtime.clock import monotonic_ns, wall_ns
from runtime.health import served
from runtime.metrics import Board
from runtime.priority import run_where_idle
from runtime.signals import StopSignal

BATCH_MAX: Final = 64  # ticks of one look at the clocks; at 1.5 µs each, 0.1 ms
REQUESTS_MAX: Final = 8  # answered in one turn, 2 ms each for the recorded book
REQUEST_HWM: Final = 1_000
SUBSCRIPTIONS_MAX: Final = 1_000  # taken in one turn
STATUS_NS: Final = 1_000_000_000
LAG_MAX_NS: Final = 1_000_000_000
"""A feed that was stopped for longer than this goes on from where it was, instead of catching up in a burst."""
RESTART_GAP_NS: Final = 1_000_000_000
"""Exchange time between the table's last value and a restart's first tick: more than any diff can be ahead of it."""
WAIT_MAX_MS: Final = 1_000
START_TICKS: Final = 618_000
"""Default start price of a synthetic session, in ticks: 61,800.0 at a tick of 0.1, as in the recordings."""

_reply_encoder = msgspec.msgpack.Encoder()


class Stop(Protocol):
    """What ends a feed: ``fd`` becomes readable when ``is_set`` becomes true (runtime.signals.StopSignal)."""

    fd: int

    @property
    def is_set(self) -> bool:
        """Whether to end."""


def run(settings: FeedSettings, stop: Stop | None = None) -> None:
    """Play until SIGTERM or SIGINT (or ``stop``).

    Raises:
        MarketError: If the recording or the table can't be used; names the path and what to do.
        ConfigError: If an endpoint can't be bound.
    """
    stop = stop or StopSignal()
    context = Context()
    board = Board()
    board.not_ready = ("loading",)
    try:
        with served(settings.health, board, FAMILIES) as serve:
            serve()  # before the next line: who asks whether the feed lives must not wait until the host is idle
            run_where_idle()
            feed = Feed(settings, context, board=board)
            try:
                # What was loaded stays; the collector need not look at it again.
                gc.collect()
                gc.freeze()
                feed.play(stop)
            finally:
                feed.close()
    finally:
        context.close()


class Feed:
    """The feed without its process: made, played, closed. Clocks come in for tests.

    Attributes:
        published: Ticks published, status messages aside.
        rebased: Times it was found more than a second behind and went on from there.
        refused: Snapshot requests that could not be read.
        snapshots: Snapshot requests answered.
    """

    def __init__(
        self,
        settings: FeedSettings,
        context: Context,
        wall: Callable[[], int] = wall_ns,
        monotonic: Callable[[], int] = monotonic_ns,
        board: Board | None = None,
    ) -> None:
        require_playable(settings)
        self._board = board or Board()
        self._meters = FeedMeters()
        self.snapshots = 0
        self.published = 0
        self.rebased = 0
        self.refused = 0
        self._settings = settings
        self._wall = wall
        self._monotonic = monotonic
        self._is_synthetic = not settings.recording
        recording = None if self._is_synthetic else replay.load(settings.recording, settings.instruments[0])
        names = [i.instrument for i in settings.instruments]
        mid_write = (lambda: failpoints.hit("feed.mid_write")) if _is_armed("feed.mid_write") else None
        self._dies_after_publish = _is_armed("feed.after_publish")
        rows = tuple(dict.fromkeys([*names, *settings.spread_over]))
        self._table = TableWriter.create(settings.table_path, rows, mid_write)
        self._lines = {
            i.instrument: Line(i, self._table, has_quotes=recording is None or recording.has_quotes)
            for i in settings.instruments
        }
        self._spread = [self._table.slot(name) for name in settings.spread_over]
        self._epoch_path = Path(settings.epoch_path or settings.table_path + ".epoch")
        self._epoch = max(wall(), _read_epoch(self._epoch_path) + 1)
        self._origin, self._stream = self._open(recording)
        self._pending = next(self._stream, None)
        topics = [line.topic for line in self._lines.values()]
        self._publisher = TopicPublisher(context, settings.publish_endpoint, settings.publish_hwm, topics)
        self._router = Router(context, settings.request_endpoint, REQUEST_HWM)

    def play(self, stop: Stop) -> None:
        """Publish ticks as they come due until ``stop`` is set."""
        waiter = Waiter(self._router, self._publisher)
        waiter.add_fd(stop.fd)
        speed = self._settings.speed
        start_ns = self._monotonic()
        start_exch_ns = self._pending[1].exch_ns if self._pending else 0
        status_at_ns = start_ns
        while not stop.is_set:
            now_ns = self._monotonic()
            if now_ns >= status_at_ns:
                self._publish_status()
                status_at_ns = now_ns + STATUS_NS
                self._tell(now_ns)
            limit_ns = start_exch_ns + int((now_ns - start_ns) * speed) if speed else None
            published = self.published
            behind_ns = self._publish_due(limit_ns)
            self._measure(now_ns, self.published - published, int(behind_ns / speed) if speed else 0)
            if speed and behind_ns > LAG_MAX_NS * speed:
                self.rebased += 1
                start_ns, start_exch_ns = now_ns, self._pending[1].exch_ns if self._pending else 0
            wait_ns = min(int(-behind_ns / speed) if speed else 0, status_at_ns - self._monotonic())
            if self._pending is None:
                wait_ns = status_at_ns - self._monotonic()
            if waiter.wait(min(WAIT_MAX_MS, max(0, -(-wait_ns // 1_000_000)))):
                self._hear()
                self._answer()

    def _measure(self, began_ns: int, ticks: int, behind_ns: int) -> None:
        self._board.turned_ns = began_ns
        if ticks:
            meters = self._meters
            meters.last_tick_ns = now_ns = self._monotonic()
            meters.turn.record(now_ns - began_ns)
            meters.behind.record(behind_ns)
            meters.batch.record(ticks)

    def _tell(self, now_ns: int) -> None:
        """Put on the board how the feed is, once a second."""
        if not self.published:
            self._board.not_ready = ("no tick yet",)
        elif self._pending is None:
            self._board.not_ready = ("the recording has ended",)
        else:
            self._board.not_ready = ()
        counts: dict[str, float] = {
            "wojak_feed_ticks": self.published,
            "wojak_feed_rebased": self.rebased,
            "wojak_feed_snapshots": self.snapshots,
            "wojak_feed_refused": self.refused,
            "wojak_feed_epoch": self._epoch,
            "wojak_feed_instruments": len(self._lines),
        }
        self._meters.publish(self._board, counts, now_ns)

    def close(self) -> None:
        """Let go of sockets and table."""
        self._publisher.close()
        self._router.close()
        self._table.close()

    def _open(self, recording: replay.Recording | None) -> tuple[str, Iterator[tuple[str, MarketTick]]]:
        """Return where ticks come from, and the ticks."""
        settings = self._settings
        last_exch_ns = self._table.last_exch_ns()
        start_exch_ns = last_exch_ns + RESTART_GAP_NS if last_exch_ns else 0
        if recording is not None:
            name = recording.instrument.instrument
            shift_ns = max(0, start_exch_ns - recording.ticks[0].exch_ns)
            ticks = (
                epochs.loops(recording.ticks, self._epoch, start_exch_ns)
                if settings.loop
                else epochs.events(recording.ticks, self._epoch, shift_ns)
            )
            return f"{Path(recording.path).name} sha256:{recording.sha256[:16]}", _named(name, ticks)
        prices = settings.start_prices_e9 or tuple(START_TICKS * i.tick_e9 for i in settings.instruments)
        made = synthetic.session(
            [SyntheticInstrument(i, price) for i, price in zip(settings.instruments, prices, strict=True)],
            seed=settings.seed,
            feed_epoch=self._epoch,
            start_exch_ns=max(self._wall(), start_exch_ns),
            rate_per_s=settings.rate_per_s,
        )
        return f"synthetic seed:{settings.seed}", made

    def _publish_due(self, limit_ns: int | None) -> int:
        """Publish a batch of ticks up to the limit; return how far the next is behind it, negative: early."""
        pending = self._pending
        send = self._publisher.send
        lines, spread, stream = self._lines, self._spread, self._stream
        written_at_ns = self._wall()
        for _ in range(BATCH_MAX):
            if pending is None:
                break
            name, tick = pending
            if limit_ns is not None and tick.exch_ns > limit_ns:
                break
            line = lines[name]
            if tick.feed_epoch != self._epoch or line.last is None:
                self._begin(tick.feed_epoch)
            line.take(tick, written_at_ns)
            if spread:
                line.write(spread[self.published % len(spread)], tick, written_at_ns)
            if line.is_heard:
                send(encode_tick(line.topic, tick))
            self.published += 1
            if self._dies_after_publish:
                failpoints.hit("feed.after_publish")
            pending = next(stream, None)
        self._pending = pending
        return 0 if pending is None or limit_ns is None else limit_ns - pending[1].exch_ns

    def _begin(self, epoch: int) -> None:
        """Remember an epoch that begins."""
        self._epoch = epoch
        _write_epoch(self._epoch_path, epoch)

    def _hear(self) -> None:
        """Take what subscribers ask for: ticks that nobody asked for are neither encoded nor sent."""
        if self._publisher.receive(SUBSCRIPTIONS_MAX):
            for line in self._lines.values():
                line.is_heard = self._publisher.is_heard(line.topic)

    def _publish_status(self) -> None:
        for line in self._lines.values():
            last = line.last
            at = (last.feed_epoch, last.feed_seq, last.exch_ns, last.local_ns) if last else (self._epoch, 0, 0, 0)
            status = FeedStatus(*at, self._origin, self._is_synthetic, self._settings.speed)
            self._publisher.send(encode_tick(line.topic, status))

    def _answer(self) -> None:
        """Answer snapshot requests that are there; a requester that is gone is forgotten."""
        for identity, body in self._router.receive(REQUESTS_MAX):
            try:
                name = snapshot_request_decoder.decode(body).instrument
            except msgspec.MsgspecError:
                self.refused += 1
                continue
            self.snapshots += 1
            self._router.send(identity, _reply_encoder.encode(SnapshotReply(name, self._snapshot(name))))

    def _snapshot(self, name: str) -> BookSnapshot | None:
        line = self._lines.get(name)
        return None if line is None else line.snapshot()


def _named(name: str, ticks: Iterator[MarketTick]) -> Iterator[tuple[str, MarketTick]]:
    # Not a generator expression: compiled, that is a list, and this one has no end.
    for tick in ticks:
        yield name, tick


def _is_armed(point: str) -> bool:
    return os.environ.get(failpoints.ENV_POINT, "").partition(":")[0] == point


def _read_epoch(path: Path) -> int:
    """Return the last epoch that was begun here; 0 where nothing readable says so: the wall clock decides."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _write_epoch(path: Path, epoch: int) -> None:
    # Not synced: after a power cut the wall clock is ahead of any epoch, unless it was set back as well.
    new = path.with_name(path.name + ".new")
    new.write_text(str(epoch), encoding="ascii")
    os.replace(new, path)
