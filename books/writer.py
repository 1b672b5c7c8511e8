"""The books writer: its own process, follows the journal's durable part into the store.

Rules: never exits silently, never skips. A store that fails is tried again after a bounded, growing wait with
jitter, the lag stays visible in the log; a journal that is not the one the store was made from stops it, named.
The engine's PUB message is only the wake-up; the journal is what is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Final

from books.errors import StoreUnavailableError
from books.projector import Projector
from books.settings import WriterSettings
from books.store import Progress, Store
from books.stores import Stores
from books.writer_metrics import FAMILIES, WriterMeters
from protocol.channels import Context, Publisher, Subscriber, Waiter
from runtime import clock, logs
from runtime.health import served
from runtime.metrics import Board
from runtime.priority import stand_behind_orders
from runtime.signals import StopSignal

RETRY_MS_MIN: Final = 50
EVENTS_HWM: Final = 1_000
DRAIN_MAX: Final = 1_000
STORED_HWM: Final = 100
STORED_BYTES: Final = 8
REBUILD_RECORDS: Final = 8_192
TURN_MS_MAX: Final = 1_000  # a loop that waits says so at least this often, or it would seem hung
_NS_PER_MS: Final = 1_000_000


def run(settings: WriterSettings) -> None:
    """Write the books until SIGTERM or SIGINT.

    Raises:
        WojakError: If going on could only make the books wrong: fenced, or a damaged or other journal.
    """
    stop = StopSignal()
    context = Context()
    board = Board()
    try:
        with served(settings.health, board, FAMILIES) as serve:
            serve()  # before the next line: who asks whether the writer lives must not wait behind orders
            stand_behind_orders()
            random = Random(os.urandom(8))  # noqa: S311  # spreads retries, guards nothing
            Writer(settings, context, stop, random, board).run()
    finally:
        context.close()


class Writer:
    """The process's loop. ``random`` spreads the retries of many writers."""

    def __init__(
        self, settings: WriterSettings, context: Context, stop: StopSignal, random: Random, board: Board | None = None
    ) -> None:
        self._settings = settings
        self._board = board or Board()
        self._meters = WriterMeters()
        self._stop = stop
        self._random = random
        self._log = logs.configure("books")
        self._events = Subscriber(context, settings.events_endpoint, EVENTS_HWM)
        self._stored = Publisher(context, settings.stored_endpoint, STORED_HWM) if settings.stored_endpoint else None
        self._waiter = Waiter(self._events)
        self._waiter.add_fd(stop.fd)
        self._pause = Waiter()
        self._pause.add_fd(stop.fd)
        self._stores = Stores(settings.store, settings.couchbase)
        self._retries = 0
        self._moved = False  # since the last failure

    def run(self) -> None:
        """Follow the journal until asked to stop; what is read by then is stored."""
        wait_ms = RETRY_MS_MIN // 2
        while not self._stop.is_set:
            store: Store | None = None
            try:
                store = self._stores.writer()
                self._follow(store)
            except StoreUnavailableError as e:
                self._retries += 1
                self._meters.store_errors = self._retries
                self._board.not_ready = (str(e),)
                self._board.turned_ns = 0  # it waits on purpose, as long as the setting says
                wait_ms = min(RETRY_MS_MIN if self._moved else wait_ms * 2, self._settings.retry_ms_max)
                self._log.warning("store unavailable", error=str(e), retries=self._retries, retry_in_ms=wait_ms)
                self._pause.wait(self._random.randint(wait_ms // 2, wait_ms))
            finally:
                if store is not None:
                    store.close()
        self._stores.close()
        self._log.info("stopped")

    def _follow(self, store: Store) -> None:
        self._moved = False
        projector = Projector(Path(self._settings.journal), store, self._settings.holder)
        self._log.info("following", seq=projector.mark.seq, lag=projector.lag_seq)
        self._board.not_ready = ()
        try:
            while True:
                began_ns = self._turn(projector)
                moved = projector.step(self._settings.records_max)
                if moved:
                    self._moved = True
                    self._measure(began_ns, moved)
                    self._tell(store, projector)
                if self._stop.is_set:
                    return
                if not moved:
                    self._waiter.wait(min(self._settings.look_ms, TURN_MS_MAX))
                    # Only the wake-up: what came is dropped, the journal is read to its watermark next.
                    self._events.receive(DRAIN_MAX)
        finally:
            projector.close()

    def _turn(self, projector: Projector) -> int:
        """Say that the loop turns, and once a second how it is; return the time, monotonic ns."""
        now_ns = self._board.turned_ns = clock.monotonic_ns()
        if self._board.is_due(now_ns):
            self._meters.as_of_seq = projector.mark.seq
            self._meters.lag_records = projector.lag_seq
            self._meters.publish(self._board, now_ns)
        return now_ns

    def _measure(self, began_ns: int, records: int) -> None:
        meters = self._meters
        meters.step.record(clock.monotonic_ns() - began_ns)
        meters.step_records.record(records)
        meters.records += records

    def _tell(self, store: Store, projector: Projector) -> None:
        """Say how far the books are: in the store, for the API and status, and to whoever waits."""
        now_ns = clock.wall_ns()
        lag_ms = max(0, now_ns - projector.now_ns) // _NS_PER_MS
        store.publish(Progress(projector.lag_seq, lag_ms, now_ns, self._retries))
        if self._stored is not None:
            self._stored.send(projector.mark.seq.to_bytes(STORED_BYTES, "little"))


def rebuild(folder: Path, store: Store) -> int:
    """Project the whole durable journal into the store, from nothing; return the number of records.

    The books writer must not run: its next transaction would find another watermark and stop.
    """
    store.drop()
    projector = Projector(folder, store)
    records = 0
    try:
        while moved := projector.step(REBUILD_RECORDS):
            records += moved
    finally:
        projector.close()
    return records
