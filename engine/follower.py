"""The follower process: the replica's loop, its snapshots, and the history of the event stream.

The engine's PUB message is only the wake-up; the journal is what is read, to its durable watermark. What can go wrong
on the other side of the history socket and what happens here:
- slow: an answer that its queue does not take is dropped, the reader asks again;
- gone: likewise;
- a flood: a peer has one answer a turn, all peers together ``SERVE_BYTES`` of them; beyond that they are told to come
  later, and what the socket does not take waits at the peer: following goes on between any two turns;
- repeated: asking changes nothing, the answer is the same;
- lying: what is no request is answered with why.

While a snapshot is written nothing is applied, requests are answered between its blocks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct
from structlog.stdlib import BoundLogger

from engine.follower_metrics import FAMILIES, FollowerMeters
from engine.replica import Replica
from journal.history import History, NotKept
from protocol.channels import Context, Router, Subscriber, Waiter
from protocol.errors import NOT_DECODED, JournalError
from protocol.history import (
    HISTORY_BYTES_MAX,
    Frames,
    Gone,
    HistoryAnswer,
    Later,
    Malformed,
    encode_history,
    since_decoder,
)
from runtime import logs
from runtime.clock import monotonic_ns
from runtime.failpoints import hit
from runtime.health import HealthSettings, served
from runtime.metrics import Board
from runtime.priority import stand_behind_orders
from runtime.signals import StopSignal

EVENTS_HWM: Final = 1_000
REQUESTS_HWM: Final = 256
REQUESTS_MAX: Final = 64
SERVE_BYTES: Final = 2 << 20
RETRY_AFTER_MS: Final = 20
CHECK_LAG_MAX: Final = 1_000_000
REST_FACTOR: Final = 4
NS_PER_MS: Final = 1_000_000
Positive = Annotated[int, Meta(ge=1)]


class FollowerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The follower.

    Attributes:
        journal: Folder of the journal.
        shard: Of the journal.
        dedup_keys_max: The same as the engine's.
        events_endpoint: The engine's PUB socket; a message there means that the journal has more.
        history_endpoint: Where readers ask for frames they missed.
        snapshot_records: A snapshot after so many records,
        snapshot_ms: or after this time, if there was any record.
        snapshots_kept: The newest so many; older ones are removed.
        pace_ms: Rest between two looks at a journal that moves: how far behind the follower may be without need.
        look_ms: With no message, look at the journal this often: a PUB message may be lost.
        lag_seq_max: ``/readyz`` says no above this lag.
    """

    journal: str
    shard: Annotated[int, Meta(ge=0)] = 0
    dedup_keys_max: Positive
    events_endpoint: str
    history_endpoint: str
    holder: str = "follower"
    release: str = "0.1.0"
    snapshot_records: Positive = 250_000
    snapshot_ms: Positive = 300_000
    snapshots_kept: Positive = 2
    pace_ms: Positive = 10
    look_ms: Positive = 1_000
    lag_seq_max: Positive = 1_000_000
    health: HealthSettings = HealthSettings()


def run(settings: FollowerSettings) -> None:
    """Follow until SIGTERM or SIGINT.

    Raises:
        WojakError: If the journal is not the one that was followed, or is damaged.
    """
    stop = StopSignal()
    stand_behind_orders()
    log = logs.configure("follower")
    board = Board()
    context = Context()
    try:
        with served(settings.health, board, FAMILIES) as serve:
            serve()
            Follower(settings, context, stop, log, board).run()
    finally:
        context.close()


class Follower:
    """The process's loop."""

    def __init__(
        self, settings: FollowerSettings, context: Context, stop: StopSignal, log: BoundLogger, board: Board
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._log = log
        self._board = board
        self._folder = Path(settings.journal)
        board.not_ready = ("recovering",)
        self.replica = Replica(
            self._folder, settings.dedup_keys_max, settings.shard, holder=settings.holder, release=settings.release
        )
        for warning in self.replica.warnings:
            log.warning("snapshot passed over", text=warning)
        self._history = History(self._folder)
        self._events = Subscriber(context, settings.events_endpoint, EVENTS_HWM)
        self._router = Router(context, settings.history_endpoint, REQUESTS_HWM)
        self._waiter = Waiter(self._events, self._router)
        self._waiter.add_fd(stop.fd)
        self._pause = Waiter(self._router)
        self._pause.add_fd(stop.fd)
        self.meters = FollowerMeters()
        self._writing: Iterator[int] | None = None
        self._writing_since_ns = 0
        self._next_snapshot_ns = monotonic_ns() + settings.snapshot_ms * NS_PER_MS
        self._rest_until_ns = 0
        self._said = False
        self._snapshot_failed = ""
        self._history_failed = ""

    def run(self) -> None:
        """Follow until asked to stop."""
        self._log.info("following", seq=self.replica.seq, lag=self.replica.lag_seq)
        # As the engine: what is kept makes no cycles, and looking through it for some would take more than following.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while not self._stop.is_set:
                self.turn(self._settings.look_ms)
        finally:
            self.close()
        self._log.info("stopped", seq=self.replica.seq)

    def turn(self, wait_ms: int) -> None:
        """Apply what is new or go on with the snapshot, answer who asked; wait at most so long if nothing was to do."""
        now_ns = self._board.turned_ns = monotonic_ns()
        # Only the wake-up: what came is dropped.
        self._events.receive(EVENTS_HWM)
        moved = self._go_on_writing() if self._writing is not None else self._follow()
        asked = self._serve()
        if self._writing is None:
            self._begin_snapshot_if_due(now_ns)
        self._tell(now_ns)
        if self._writing is not None:
            return
        if moved:
            # At a low rate each message would wake us for a record or two, on the processor of those who send them.
            if not self.replica.lag_seq:
                self._pause.wait(self._settings.pace_ms)
        elif not asked:
            gc.collect(0)
            self._waiter.wait(wait_ms)

    def close(self) -> None:
        """Let go of the files. A snapshot on the way is dropped: the one before holds."""
        if self._writing is not None:
            self._drop_writing()
        self.replica.close()

    # Following

    def _follow(self) -> bool:
        check = self.replica.lag_seq <= CHECK_LAG_MAX
        batches = self.replica.step(check=check)
        hit("follower.after_step")
        parted = self.replica.parted
        if parted is not None and not self._said:
            self._said = True
            self._log.error("alarm", text=f"engine and follower differ: {parted.what}", seq=parted.seq)
        return bool(batches)

    # Snapshots

    def _begin_snapshot_if_due(self, now_ns: int) -> None:
        replica, settings = self.replica, self._settings
        new = replica.seq - replica.snapshot_seq
        is_due = new >= settings.snapshot_records or (new > 0 and now_ns >= self._next_snapshot_ns)
        if is_due and now_ns >= self._rest_until_ns and replica.parted is None:
            self._writing = replica.snapshot()
            self._writing_since_ns = now_ns

    def _go_on_writing(self) -> bool:
        assert self._writing is not None
        try:
            for _ in self._writing:
                hit("follower.in_snapshot")
                return True
        except OSError as e:
            self._snapshot_failed = f"snapshot can't be written: {e}"
            self._log.error("alarm", text=self._snapshot_failed)
        else:
            self._snapshot_failed = ""
            self.meters.snapshots += 1
            self.replica.prune(self._settings.snapshots_kept)
            hit("follower.after_snapshot")
        self._writing = None
        now_ns = monotonic_ns()
        took_ns = now_ns - self._writing_since_ns
        self.meters.snapshot.record(took_ns)
        self._next_snapshot_ns = now_ns + self._settings.snapshot_ms * NS_PER_MS
        self._rest_until_ns = now_ns + REST_FACTOR * took_ns  # never more than a fifth of its time
        return True

    def _drop_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None and hasattr(writing, "close"):
            writing.close()

    # History

    def _serve(self) -> bool:
        """Answer who asked; whether anybody did."""
        requests = self._router.receive(REQUESTS_MAX)
        if not requests:
            return False
        left = SERVE_BYTES
        answered: set[bytes] = set()
        for identity, body in requests:
            answer, size = self._answer(body, 0 if identity in answered else left)
            answered.add(identity)
            left = max(0, left - size)
            self._router.send(identity, encode_history(answer))
        return True

    def _answer(self, body: bytes, bytes_max: int) -> tuple[HistoryAnswer, int]:
        """Return the answer to one request and the bytes of frames in it."""
        try:
            asked = since_decoder.decode(body)
        except NOT_DECODED as e:
            self.meters.malformed += 1
            return Malformed(f"request expected a Since: {e}"), 0
        if not bytes_max:
            self.meters.later += 1
            return Later(asked.after_seq, RETRY_AFTER_MS), 0
        try:
            self.replica.hold()
        except OSError as e:
            self._log.error("alarm", text=f"holder can't be written, nothing is served: {e}")
            return Later(asked.after_seq, RETRY_AFTER_MS), 0
        last_seq = self.replica.seq
        try:
            found = self._history.read(asked.after_seq, last_seq, min(asked.bytes_max, bytes_max, HISTORY_BYTES_MAX))
        except JournalError as e:  # of an old segment: following goes on, and so do those who ask for others
            if not self._history_failed:
                self._log.error("alarm", text=f"history can't be read: {e}")
            self._history_failed = f"history can't be read: {e}"
            return Malformed(str(e)), 0
        self.meters.served += 1
        if isinstance(found, NotKept):
            return Gone(asked.after_seq, found.oldest_seq), 0
        return Frames(asked.after_seq, found, last_seq), sum(map(len, found))

    # Telling

    def _tell(self, now_ns: int) -> None:
        replica, board = self.replica, self._board
        reasons: list[str] = []
        if replica.parted is not None:
            reasons.append(f"engine and follower differ at record {replica.parted.seq}; no snapshots are made")
        if self._snapshot_failed:
            reasons.append(self._snapshot_failed)
        if self._history_failed:
            reasons.append(self._history_failed)
        lag = replica.lag_seq
        if lag > self._settings.lag_seq_max:
            reasons.append(f"{lag} records behind the engine")
        board.not_ready = tuple(reasons)
        if board.is_due(now_ns):
            self.meters.publish(board, replica, lag, now_ns)
