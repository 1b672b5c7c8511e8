"""Kafka as a message source: one topic read by a consumer group, offsets committed when the engine has decided.

Facts (SOURCES section 7): at least once; the order is the partition's; a record can't be given back, only read again
from an earlier offset; what is settled is an offset below which everything is answered; no lease, but membership in
the group: who is silent for the session time-out loses its partitions. Every rebalance stops the whole group. Commits
are fenced by the group, effects are not: the engine answers what comes twice with its first outcome.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)

from protocol.errors import ConfigError
from runtime.clock import wall_ns
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why
from sidecars.core.window import Receipt, Window
from sidecars.sources.kafka_dead import parked
from sidecars.sources.kafka_link import BROKEN, Grouping, Link, Records, client_options, look
from sidecars.sources.kafka_records import NS_PER_MS, answer_of, deliveries_of
from sidecars.sources.kafka_settings import KafkaSettings

BACKOFF_MS: Final = 100
BACKOFF_DOUBLINGS_MAX: Final = 6
REVOKE_PART: Final = (1, 2)  # of rebalance_ms: how long a rebalance waits for answers under way
WINDOW_MAX: Final = 10_000  # answered records of a partition that wait behind one that is not
SILENT_SESSIONS: Final = 3  # of session_timeout_ms: a broker that did not answer so long makes a new link


class KafkaSource:
    """The Kafka source: ``sidecars.core.source.Source``."""

    lease_extend_ms = 0
    tells_reserved = False
    tells_account = False

    def __init__(self, name: str, settings: KafkaSettings) -> None:
        """Read the address; nothing is connected before ``open``.

        Raises:
            ConfigError: If the settings or the address can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        self._options = client_options(settings.env_prefix)
        self._log = structlog.get_logger().bind(source=name)
        self._jitter = random.SystemRandom().random
        self._cluster = ""
        self._flow: Engines
        self._link: Link | None = None
        self._fault = "not connected yet"
        self._windows: dict[int, Window] = {}
        self._stopped: frozenset[str] = frozenset()
        self._full: set[int] = set()
        self._changed = asyncio.Event()
        self._is_paused = False
        self._is_closing = False
        self._rebalancing_since_ns = 0
        self._committed_ns = 0
        self._lag: Lag | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # Session

    async def open(self, flow: Engines) -> None:
        """Look whether the topics are there, then connect and stay connected.

        Raises:
            ConfigError: If a topic is not there. A broker that is away is waited for.
        """
        self._flow = flow
        try:
            await self._find()
        except BROKEN as e:
            self._lost(f"broker not reached: {_text(e)}")
        self._tasks = [asyncio.create_task(self._stay()), asyncio.create_task(self._look())]

    async def _find(self) -> None:
        seen = await look(self._options)
        settings = self._settings
        wanted = (settings.topic, settings.dead_letter_topic, *filter(None, (settings.results_topic,)))
        if missing := [t for t in wanted if t not in seen.topics]:
            text = f"expected topics that exist and that we may see, was none of: {', '.join(missing)}"
            raise ConfigError([f"{self.name}: {text}; see: wojak sidecar check {self.name}"])
        self._cluster = seen.cluster_id

    async def close(self) -> None:
        """Commit what is answered, leave the group; others get the partitions at once."""
        self._is_closing = True
        self._changed.set()
        if self._link is not None:
            await self._commit(self._link)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def _connect(self) -> None:
        settings = self._settings
        await self._find()
        link = Link(
            self._options,
            Grouping(settings.topic, settings.group, settings.session_timeout_ms, settings.rebalance_ms,
                     settings.metadata_ms, settings.fetch_bytes_max),
        )  # fmt: skip
        try:
            await link.open(lambda: self._on_revoked(link), lambda found: self._on_assigned(link, found))
        except BaseException:
            await link.close()
            raise
        self._link, self._fault = link, ""
        self._apply_stops()
        self._changed.set()
        self._log.info("connected", topic=settings.topic, group=settings.group)

    async def _stay(self) -> None:
        """Be connected: wait for the end of each link, make the next one, more and more slowly while that fails."""
        failures = 0
        while True:
            link = self._link
            if link is not None:
                why = await link.ended
                self._link = None
                self._lost(why)
                await link.close()
            try:
                await self._connect()
                failures = 0
            except (*BROKEN, ConfigError) as e:
                self._lost(_text(e))
                wait_s = (BACKOFF_MS << min(failures, BACKOFF_DOUBLINGS_MAX)) / 1000
                failures += 1
                await asyncio.sleep(wait_s * (0.5 + self._jitter() / 2))

    def _lost(self, why: str) -> None:
        """Give up what was received: the group hands it out anew (R2)."""
        self._fault = why
        self._log.warning("broker lost", why=why, unsettled=self._unanswered())
        self._rebalancing_since_ns = 0
        self._fence()

    # Rebalance

    async def _on_revoked(self, link: Link) -> None:
        """Let what is under way be answered and committed as far as time allows; then none of it is ours any more.

        Nothing is received meanwhile. It is called for all partitions at once: every rebalance stops the group.
        """
        self._rebalancing_since_ns = time.monotonic_ns()
        part, whole = REVOKE_PART
        try:
            async with asyncio.timeout(self._settings.rebalance_ms * part / whole / 1000):
                while self._unanswered() and self._flow.is_open and not (self._is_closing or link.is_ended):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._log.warning("rebalance does not wait for answers any more", unanswered=self._unanswered())
        await self._commit(link)
        if not link.is_ended:  # else its end has fenced them, and the next link's are not ours to end
            self._fence()

    def _on_assigned(self, link: Link, partitions: Iterable[int]) -> None:
        if link.is_ended:
            return
        self._rebalancing_since_ns = 0
        self._windows = {n: Window(n) for n in partitions}
        self._flow.claim(map(str, self._windows), time.monotonic_ns())
        self._log.info("partitions", assigned=list(self._windows))
        self._apply_stops()

    def _fence(self) -> None:
        for window in self._windows.values():
            window.fence()
        self._windows = {}
        self._full.clear()
        self._changed.set()

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for records. Nothing is awaited after the client has handed them out: a cancel loses none."""
        self._is_paused = False
        while True:
            link = self._link
            room = min(most, self._settings.prefetch - self._unanswered())
            if link is None or link.is_ended or room <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                records = await link.poll(room)
            except NoOffsetForPartitionError as e:
                await self._begin(link, e.args[0])
            except OffsetOutOfRangeError as e:
                for tp, offset in e.args[0].items():
                    self._log.error("orders were deleted unread", partition=tp.partition, next_offset=offset)
                    await self._begin(link, tp)
            except TimeoutError:
                await asyncio.sleep(0)  # a rebalance
            except BROKEN as e:
                link.end(f"receiving failed: {_text(e)}")
            else:
                if records and not link.is_ended:
                    return self._take(records)

    async def _begin(self, link: Link, tp: TopicPartition) -> None:
        """Read a partition from its oldest record: the group has no offset in it."""
        try:
            async with asyncio.timeout(self._settings.session_timeout_ms / 1000):
                await link.consumer.seek_to_beginning(tp)
        except (*BROKEN, IllegalStateError) as e:
            self._log.warning("partition not begun", partition=tp.partition, why=_text(e))

    def _take(self, records: Records) -> list[Delivery]:
        now_ns = time.monotonic_ns()
        taken: list[Delivery] = []
        for tp, found in records.items():
            window = self._windows.get(tp.partition)
            if window is None:
                window = self._windows[tp.partition] = Window(tp.partition)
            taken += deliveries_of(window, found, now_ns, self._settings, self._cluster)
            if len(window) > WINDOW_MAX:
                self._full.add(tp.partition)
                self._apply_stops()
        return taken

    def stop(self, units: frozenset[str]) -> None:
        """Read nothing of these partitions until told otherwise."""
        self._stopped = units
        self._apply_stops()

    def _apply_stops(self) -> None:
        if self._link is not None:
            self._link.pause({*map(int, self._stopped), *self._full})

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend nothing: there are no leases."""
        return deliveries

    async def pause(self) -> Sequence[Delivery]:
        """Receive nothing; the membership stays. What the client has fetched was not handed out."""
        self._is_paused = True
        return ()

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Park what goes to the dead letters; commit as far as all is answered; read again what the engine left."""
        link = self._link if self._link is not None and not self._link.is_ended else None
        done: list[Settlement] = []
        parks: list[Settlement] = []
        again: dict[int, Window] = {}
        lost_unit = ""  # the engine says so before the group does: join it anew (DECISIONS 38)
        for settlement in settlements:
            receipt: Receipt = settlement.delivery.receipt
            settlement.is_lost = link is None or receipt.window.is_fenced
            if settlement.is_lost:
                continue
            if settlement.verb is Verb.ACCEPT or receipt.is_answered:
                done.append(settlement)
            elif settlement.verb is Verb.DEAD_LETTER:
                parks.append(settlement)
            elif settlement.why is Why.LEASE_OVER:
                lost_unit = settlement.delivery.unit
            else:
                again[receipt.window.partition] = receipt.window
        if link is None:
            return ()
        if lost_unit:
            link.end(f"another sidecar has claimed partition {lost_unit}")
            for settlement in settlements:
                settlement.is_lost = True
            return ()
        failed = await self._park(link, parks, done) if parks else []
        for settlement in done:
            receipt = settlement.delivery.receipt
            settlement.is_lost = receipt.window.is_fenced
            if not settlement.is_lost:
                receipt.window.answer(receipt)
        self._make_room()
        for window in again.values():
            self._read_again(link, window)
        return [*failed, *await self._commit_in_time(link, done)]

    async def _park(self, link: Link, parks: Sequence[Settlement], done: list[Settlement]) -> list[Settlement]:
        """Publish what a person must see; only what every replica has is answered then."""
        settings = self._settings
        errors = await link.publish(
            [parked(s, s.delivery.receipt.record, settings.topic, settings.dead_letter_topic) for s in parks]
        )
        failed = []
        for settlement, error in zip(parks, errors, strict=True):
            if error is None:
                done.append(settlement)
                continue
            failed.append(settlement)
            self._log.error("dead letter not stored", error=_text(error), id=settlement.delivery.source_id)
        return failed

    def _make_room(self) -> None:
        if self._full:
            roomy = {n for n in self._full if n not in self._windows or len(self._windows[n]) <= WINDOW_MAX // 2}
            self._full -= roomy
            self._apply_stops()
        self._changed.set()

    def _read_again(self, link: Link, window: Window) -> None:
        """Read a partition again from its oldest unanswered record: the broker has no other way to give back."""
        oldest = window.oldest()
        if window.is_fenced or oldest is None:
            return
        window.fence()
        offset = oldest.offset
        fresh = Window(window.partition, offset)
        fresh.committed = window.committed
        self._windows[window.partition] = fresh
        try:
            link.consumer.seek(TopicPartition(self._settings.topic, window.partition), offset)
        except IllegalStateError:
            fresh.fence()  # the group has it
            del self._windows[window.partition]

    async def _commit_in_time(self, link: Link, done: Sequence[Settlement]) -> Sequence[Settlement]:
        """Commit; return what is to be tried again.

        At once: what is answered while this commit is under way goes into the next one, so a loaded sidecar commits no
        more often than the broker answers. A broker for which that is too often has ``commit_ms``.
        """
        wait_ns = self._committed_ns + self._settings.commit_ms * NS_PER_MS - time.monotonic_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)
        error = await self._commit(link)
        if error is None:
            return ()
        if isinstance(error, CommitFailedError | IllegalStateError):
            for settlement in done:
                settlement.is_lost = True
            return ()
        return [s for s in done if not s.is_lost]

    async def _commit(self, link: Link) -> BaseException | None:
        """Commit what is due; return what went wrong."""
        if not any(w.is_due for w in self._windows.values()):
            return None
        try:
            committed = await link.commit(self._due)
        except (*BROKEN, IllegalStateError) as e:
            self._log.warning("commit failed", why=_text(e))
            return e
        self._committed_ns = time.monotonic_ns()
        for tp, offset in committed.items():
            window = self._windows.get(tp.partition)
            if window is not None and window.watermark >= offset:
                window.committed = max(window.committed, offset)
        return None

    def _due(self) -> Mapping[TopicPartition, int]:
        topic = self._settings.topic
        return {TopicPartition(topic, n): w.watermark for n, w in self._windows.items() if w.is_due}

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish the ends; a topic that is not there has nobody who waits."""
        link = self._link
        if link is None:
            return ()  # settle marks them lost
        asked = [s for s in settlements if s.delivery.receipt.record is not None]
        errors = await link.publish([answer_of(s) for s in asked])
        failed = []
        for settlement, error in zip(asked, errors, strict=True):
            if isinstance(error, UnknownTopicOrPartitionError):
                self._log.warning("topic for answers is gone", reply_to=settlement.delivery.reply_to)
            elif error is not None:
                failed.append(settlement)
        return failed

    # Observe

    def _unanswered(self) -> int:
        return sum(window.unanswered for window in self._windows.values())

    def lag(self) -> Lag | None:
        """Return what waits at the broker in our partitions."""
        return self._lag

    def fault(self) -> str:
        """Return why nothing can be received or settled."""
        since_ns = self._rebalancing_since_ns
        if not self._fault and since_ns and time.monotonic_ns() - since_ns > self._settings.rebalance_ms * NS_PER_MS:
            return f"the group's rebalance has not ended in rebalance_ms ({self._settings.rebalance_ms})"
        return self._fault

    async def _look(self) -> None:
        """Ask how much waits: that also shows whether the broker answers."""
        answered_ns = time.monotonic_ns()
        while True:
            await asyncio.sleep(self._settings.lag_ms / 1000)
            link = self._link
            if link is None or link.is_ended:
                answered_ns = time.monotonic_ns()
                continue
            try:
                ends = await link.ends(list(self._windows) or [0])
            except BROKEN as e:
                silent_ns = time.monotonic_ns() - answered_ns
                if link is self._link:
                    self._fault = f"broker does not answer: {_text(e)}"
                    if silent_ns > SILENT_SESSIONS * self._settings.session_timeout_ms * NS_PER_MS:
                        link.end(self._fault)
                continue
            answered_ns = time.monotonic_ns()
            if link is self._link:
                self._fault = ""
                self._lag = self._lag_of(ends)

    def _lag_of(self, ends: Mapping[int, int]) -> Lag:
        """Return what waits; offsets have gaps, so it may be less."""
        waiting, oldest_ms = 0, 0
        for partition, window in self._windows.items():
            oldest = window.oldest()
            if oldest is not None:
                waiting += max(0, ends.get(partition, 0) - oldest.offset)
                if oldest.record is not None and oldest.record.timestamp > 0:
                    oldest_ms = min(oldest_ms or oldest.record.timestamp, oldest.record.timestamp)
            elif window.watermark >= 0:
                waiting += max(0, ends.get(partition, 0) - window.watermark)
        return Lag(waiting, max(0, wall_ns() - oldest_ms * NS_PER_MS) if oldest_ms else -1)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
