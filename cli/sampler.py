"""Looks at a running deployment once a second, in its own thread, so that a slow answer never delays a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cli.addresses import TICKS_SOCKET, books_url
from cli.asking import RefusedError
from cli.configuration import Loaded
from cli.http_client import BooksClient
from cli.processes import FLOW, source_of
from cli.readiness import Readiness
from cli.shards import together
from cli.view import Down, Price, Snapshot
from cli.wiring import played
from market.table import TableReader
from protocol.channels import Context, Subscriber, Waiter
from protocol.control import EngineStatus
from protocol.errors import WojakError
from protocol.ticks import FeedStatus, decode_tick, topic
from protocol.units import format_e9
from runtime.clock import monotonic_ns, wall_ns

PERIOD_S: Final = 1.0
START_PERIOD_S: Final = 0.05
BROKERS_WITHIN_NS: Final = 5_000_000_000
STATUS_HWM: Final = 1_000
ORIGIN_WITHIN_NS: Final = 1_500_000_000
MS_NS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class Sampler(threading.Thread):
    """Keeps ``latest``, and calls ``on_ready`` once when everything that was named is ready.

    Sidecars are waited for only ``BROKERS_WITHIN_NS`` longer: a broker that is away keeps nobody from trading. Those
    that were not ready then stay in ``waiting_for``.
    """

    def __init__(self, loaded: Loaded, names: Sequence[str], *, flow_rate: int, on_ready: Callable[[], None]) -> None:
        super().__init__(name="sampler", daemon=True)
        self.latest: Snapshot | None = None
        self.failed: Exception | None = None
        self.waiting_for: dict[str, str] = dict.fromkeys(names, "starting")
        self._loaded = loaded
        self._names = [n for n in names if n != FLOW]
        self._flow_rate = flow_rate
        self._on_ready = on_ready
        self._ended = threading.Event()
        self._orders_before: tuple[int, int] | None = None

    def run(self) -> None:
        """Look until ``end``; what goes wrong here stands in ``failed``, for the one who can act on it."""
        try:
            self._run()
        except Exception as e:  # noqa: BLE001 -- a thread has nobody above it to tell
            self.failed = e

    def _run(self) -> None:
        readiness = Readiness(self._loaded)
        books = BooksClient(books_url(self._loaded))
        try:
            brokers_until_ns = 0
            while not self._ended.is_set():
                self.waiting_for = {n: why for n in self._names if (why := readiness.why_not(n))}
                if all(source_of(n) for n in self.waiting_for):
                    brokers_until_ns = brokers_until_ns or monotonic_ns() + BROKERS_WITHIN_NS
                    if not self.waiting_for or monotonic_ns() >= brokers_until_ns:
                        break
                self._ended.wait(START_PERIOD_S)
            if not self._ended.is_set():
                self._on_ready()
            while not self._ended.is_set():
                self.latest = self._look(readiness, books)
                self._ended.wait(PERIOD_S)
        finally:
            books.close()
            readiness.close()

    def end(self) -> None:
        """Stop looking; returns when the thread has left."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=5.0)

    def _look(self, readiness: Readiness, books: BooksClient) -> Snapshot:
        try:
            status = together(readiness.statuses())
        except RefusedError:
            status = None
        down = tuple(Down(n, why) for n in self._names if (why := readiness.why_not(n)))
        rate = self._orders_per_s(status)
        price, lag_ms = look_at_price(self._loaded), books_lag_ms(books)
        return Snapshot(status, price, self._flow_rate, rate, lag_ms, down)

    def _orders_per_s(self, status: EngineStatus | None) -> int | None:
        if status is None:
            return None
        now, orders = monotonic_ns(), status.accepted + status.rejected
        before, self._orders_before = self._orders_before, (now, orders)
        if before is None or orders < before[1]:
            return None
        return (orders - before[1]) * NS_PER_S // max(now - before[0], 1)


def books_lag_ms(books: BooksClient) -> int | None:
    """Return how far the books are behind the engine; None if they do not answer."""
    try:
        return int(books.get("/v1/status")["lag_ms"])
    except WojakError:
        return None


def ask_origin(loaded: Loaded) -> str | None:
    """Return where the running feed says its ticks come from, which it does once a second; None if it is silent."""
    instrument = played(loaded)[0].instrument
    context = Context()
    try:
        ticks = Subscriber(context, loaded.paths.endpoint(TICKS_SOCKET), STATUS_HWM, [topic(instrument)])
        waiter = Waiter(ticks)
        until_ns = monotonic_ns() + ORIGIN_WITHIN_NS
        while monotonic_ns() < until_ns and waiter.wait(max(1, (until_ns - monotonic_ns()) // MS_NS)):
            for message in ticks.receive(STATUS_HWM):
                _, tick = decode_tick(message)
                if isinstance(tick, FeedStatus):
                    return (
                        "SYNTHETIC"
                        if tick.synthetic
                        else f"recorded, {Path(tick.origin.partition(' sha256:')[0]).name}"
                    )
    finally:
        context.close()
    return None


def look_at_price(loaded: Loaded, origin: str | None = None) -> Price | None:
    """Return the touch of the feed's first instrument and where it comes from; None if there is none.

    ``origin``: what the feed said of itself; else what the configuration says it plays.
    """
    feed = loaded.config.feed
    instrument = played(loaded)[0]
    try:
        table = TableReader.open(loaded.paths.table)
        value = table.read(table.slot(instrument.instrument))
    except (WojakError, KeyError):
        return None
    if value is None:
        return None
    configured = "SYNTHETIC" if feed.source == "synthetic" else f"recorded, {loaded.resolve(feed.path).name}"
    digits = _digits(instrument.tick_e9)
    return Price(
        instrument.instrument,
        _fixed(value.bid_e9, digits),
        _fixed(value.ask_e9, digits),
        origin or configured,
        max(wall_ns() - value.written_at_ns, 0) // MS_NS,
    )


def _digits(tick_e9: int) -> int:
    return len(format_e9(tick_e9).partition(".")[2])


def _fixed(value_e9: int, digits: int) -> str:
    whole, _, fraction = format_e9(value_e9).partition(".")
    return f"{whole}.{fraction.ljust(digits, '0')}" if digits else whole
