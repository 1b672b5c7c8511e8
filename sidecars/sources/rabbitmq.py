"""RabbitMQ as a message source: a quorum queue, manual acknowledgement, dead letters with their reason.

Facts (SOURCES section 9): at least once; the only stable id is ``message_id``, which the producer sets; the order of a
queue holds for one consumer at a time; the lease is the broker's consumer time-out and can't be extended; an
acknowledgement is not confirmed, and a tag dies with its channel; giving back is immediate. Prefetch bounds what is
received, and is not used as a brake: what the engine does not take now waits here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from aiormq import spec
from aiormq.abc import DeliveredMessage

from protocol.errors import ConfigError
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.lease import NS_PER_MS
from sidecars.core.replies import CONTENT_TYPE, may_reply, reply_body
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why
from sidecars.sources.rabbitmq_dead import parked
from sidecars.sources.rabbitmq_link import BROKEN, MISCONFIGURED, PERSISTENT, Link, Outgoing, address, virtual_host
from sidecars.sources.rabbitmq_link import was_unroutable as _was_unroutable
from sidecars.sources.rabbitmq_settings import RabbitMqSettings

NS_PER_S: Final = 1_000_000_000
LEASE_PART: Final = (4, 5)  # of the consumer time-out: what is not settled by then is given up before the broker does
BACKOFF_MS: Final = 100
BACKOFF_DOUBLINGS_MAX: Final = 6
SILENT_LOOKS: Final = 6
# Each acknowledgement is a command to the quorum queue's log, and what it frees is sent at once, so many small ones
# make small deliveries and submits too. Above this pace so many are gathered, or for this long; below nothing waits.
FAST_PER_S: Final = 4_000
GATHER_MIN: Final = 64
GATHER_S: Final = 0.003
PACE_NS: Final = 250_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


class _Receipt:
    """What is needed to settle a delivery."""

    __slots__ = ("link", "message", "tag")

    def __init__(self, link: Link, tag: int, message: DeliveredMessage) -> None:
        self.link = link
        self.tag = tag
        self.message = message


class _Pace:
    """How many deliveries are settled a second, looked at four times a second."""

    def __init__(self) -> None:
        self._since_ns = 0
        self._count = 0
        self._was_fast = False

    def is_fast(self, count: int, now_ns: int) -> bool:
        """Count so many more; return whether there were many in the last quarter of a second."""
        passed_ns = now_ns - self._since_ns
        if passed_ns >= PACE_NS:
            self._was_fast = self._count * NS_PER_S > FAST_PER_S * passed_ns
            self._since_ns, self._count = now_ns, 0
        self._count += count
        return self._was_fast


class RabbitMqSource:
    """The RabbitMQ source: ``sidecars.core.source.Source``."""

    lease_extend_ms = 0
    tells_reserved = False
    tells_account = False

    def __init__(self, name: str, settings: RabbitMqSettings) -> None:
        """Read the address; nothing is connected before ``open``.

        Raises:
            ConfigError: If the settings or the address can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        self._url = address(settings.url_env, settings.heartbeat_s)
        self._vhost = virtual_host(self._url)
        part, whole = LEASE_PART
        self._lease_ns = settings.consumer_timeout_ms * NS_PER_MS * part // whole
        self._log = structlog.get_logger().bind(source=name)
        self._jitter = random.SystemRandom().random
        self._link: Link | None = None
        self._newest: Link | None = None
        self._fault = "not connected yet"
        self._arrived = asyncio.Event()
        self._buffer: deque[tuple[int, DeliveredMessage]] = deque()
        self._unsettled: dict[int, Delivery | None] = {}  # by tag, so oldest first; None = still in the buffer
        self._is_paused = False
        self._pace = _Pace()
        self._lag: Lag | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # Session

    async def open(self, flow: Engines) -> None:
        """Connect, and stay connected from then on.

        Raises:
            ConfigError: If the broker refuses us or has no such queue. A broker that is away is waited for.
        """
        try:
            await self._connect()
        except MISCONFIGURED as e:
            raise ConfigError([f"{self.name}: RabbitMQ refused ({e}); see: wojak sidecar check {self.name}"]) from e
        except BROKEN as e:
            self._lost(f"broker not reached: {_text(e)}")
        self._tasks = [asyncio.create_task(self._stay()), asyncio.create_task(self._look())]

    async def close(self) -> None:
        """Disconnect; the broker gives what is not settled to others."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def _connect(self) -> None:
        link = Link(self._url, self._settings.queue, lambda message: self._on_message(link, message))
        self._newest = link  # deliveries come as soon as the broker has the consumer
        try:
            await link.open(self._settings.prefetch, consume=not self._is_paused)
        except BaseException:
            await link.close()
            raise
        self._link, self._fault = link, ""
        self._arrived.set()
        self._log.info("connected", queue=self._settings.queue)

    async def _stay(self) -> None:
        """Be connected: wait for the end of each link, make the next one, more and more slowly while that fails."""
        failures = 0
        while True:
            if self._link is not None:
                why = await self._link.ended
                link, self._link = self._link, None
                self._lost(why)
                await link.close()
            try:
                await self._connect()
                failures = 0
            except BROKEN as e:
                self._lost(_text(e))
                wait_s = (BACKOFF_MS << min(failures, BACKOFF_DOUBLINGS_MAX)) / 1000
                failures += 1
                await asyncio.sleep(wait_s * (0.5 + self._jitter() / 2))

    def _lost(self, why: str) -> None:
        """Give up what was received: the broker has it again, and hands it out anew (R2)."""
        self._fault = why
        for delivery in self._unsettled.values():
            if delivery is not None:
                delivery.lease_until_mono_ns = 1  # long ago
        self._log.warning("broker lost", why=why, unsettled=len(self._unsettled))
        self._newest = None
        self._buffer.clear()
        self._unsettled.clear()

    # Receive

    def _on_message(self, link: Link, message: DeliveredMessage) -> None:
        tag = message.delivery_tag
        if tag is None or link is not self._newest:
            return  # the last words of a link that has ended
        self._unsettled[tag] = None
        self._buffer.append((time.monotonic_ns(), message))
        self._arrived.set()

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for deliveries."""
        if self._is_paused:
            self._is_paused = False
            if self._link is not None:
                try:
                    await self._link.consume()
                except BROKEN as e:
                    self._link.end(f"the consumer could not be made: {_text(e)}")
        while not self._buffer or self._link is None:
            self._arrived.clear()
            await self._arrived.wait()
            await asyncio.sleep(0)  # the client has a task for each delivery: let those that are there end first
        return self._take(most)

    def _take(self, most: int) -> list[Delivery]:
        link = self._link
        assert link is not None
        taken: list[Delivery] = []
        while self._buffer and len(taken) < most:
            arrived_ns, message = self._buffer.popleft()
            delivery = self._delivery(link, arrived_ns, message)
            assert delivery.receipt is not None
            self._unsettled[delivery.receipt.tag] = delivery
            taken.append(delivery)
        return taken

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: a queue has no parts, and the loop asks for nothing while it is stopped as a whole."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend nothing: RabbitMQ's consumer time-out can't be."""
        return deliveries

    async def pause(self) -> Sequence[Delivery]:
        """Cancel the consumer; return what the broker had delivered by then."""
        self._is_paused = True
        link = self._link
        if link is None:
            return ()
        try:
            await link.cancel()
        except BROKEN as e:
            link.end(f"the consumer could not be cancelled: {_text(e)}")
            return ()
        return self._take(len(self._buffer))

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Park what goes to the dead letters, then acknowledge; give back what the engine did not take."""
        link = self._link
        mine: list[Settlement] = []
        for settlement in settlements:
            settlement.is_lost = link is None or settlement.delivery.receipt.link is not link or link.is_ended
            if not settlement.is_lost:
                mine.append(settlement)
        if link is None or not mine:
            return ()
        if self._pace.is_fast(len(mine), time.monotonic_ns()) and len(mine) < GATHER_MIN:
            await asyncio.sleep(GATHER_S)  # what ends meanwhile is settled together
        try:
            return await self._settle(link, mine)
        except BROKEN as e:
            link.end(f"settling failed: {_text(e)}")
            for settlement in mine:
                settlement.is_lost = True
            return ()

    async def _settle(self, link: Link, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        done: list[int] = []
        back: list[int] = []
        parks: list[Settlement] = []
        for settlement in settlements:
            tag = settlement.delivery.receipt.tag
            match settlement.verb:
                case Verb.ACCEPT:
                    done.append(tag)
                case Verb.DEAD_LETTER:
                    parks.append(settlement)
                case Verb.RETRY if self._settings.retry_queue and settlement.why is Why.ENGINE_BUSY:
                    parks.append(settlement)
                case _:
                    # The tag is still ours, so giving back harms nobody, also what the engine may have taken: it
                    # deduplicates. What is left of a lease that ran out only a new channel brings back.
                    back.append(tag)
        failed = await self._park(link, parks, done) if parks else ()
        if any(s.why is Why.LEASE_OVER for s in settlements):
            link.end("a delivery took 4/5 of the consumer time-out")
        upto, rest = self._plan(done)
        await link.ack(upto, rest)
        if back:
            for tag in back:
                self._unsettled.pop(tag, None)
            await link.give_back(back)
        return failed

    async def _park(self, link: Link, parks: Sequence[Settlement], done: list[int]) -> list[Settlement]:
        """Publish what is not simply acknowledged; only what the broker confirmed is acknowledged then."""
        errors = await link.publish([self._parked(s) for s in parks])
        failed = []
        for settlement, error in zip(parks, errors, strict=True):
            if error is None:
                done.append(settlement.delivery.receipt.tag)
                continue
            failed.append(settlement)
            self._log.error("dead letter not confirmed", error=_text(error), id=settlement.delivery.source_id)
        return failed

    def _parked(self, settlement: Settlement) -> Outgoing:
        settings, message = self._settings, settlement.delivery.receipt.message
        if settlement.verb is Verb.RETRY:
            properties = message.header.properties
            properties.delivery_mode = PERSISTENT
            return Outgoing(message.body, "", settings.retry_queue, properties)
        return parked(settlement, message, settings.queue, settings.dead_letter_exchange, settings.dead_letter_queue)

    def _plan(self, done: Iterable[int]) -> tuple[int, list[int]]:
        """Return the tag up to which all are done, 0 = none, and the done ones beyond it; forget them all."""
        waiting = set(done)
        upto = 0
        for tag in self._unsettled:
            if tag not in waiting:
                break
            upto = tag
        for tag in waiting:
            self._unsettled.pop(tag, None)
        return upto, sorted(tag for tag in waiting if tag > upto)

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish the ends, confirmed; a queue that is no longer there has nobody who waits."""
        link = self._link
        if link is None or link.is_ended:
            return ()  # settle marks them lost
        errors = await link.publish([_reply(s) for s in settlements])
        failed = []
        for settlement, error in zip(settlements, errors, strict=True):
            if _was_unroutable(error):
                self._log.warning("reply queue is gone", reply_to=settlement.delivery.reply_to)
            elif error is not None:
                failed.append(settlement)
        return failed

    # Observe

    def lag(self) -> Lag | None:
        """Return what waits at the broker."""
        return self._lag

    def fault(self) -> str:
        """Return why there is no connection."""
        return self._fault

    async def _look(self) -> None:
        """Ask how much waits; a queue with messages of which none comes has a deaf consumer (SOURCES section 9)."""
        silent = 0
        while True:
            await asyncio.sleep(self._settings.lag_ms / 1000)
            link = self._link
            if link is None:
                continue
            try:
                waiting = await link.waiting()
            except BROKEN as e:
                link.end(f"the queue could not be looked at: {_text(e)}")
                continue
            self._lag = Lag(waiting, -1)
            is_deaf = waiting > 0 and not (self._unsettled or self._is_paused)
            silent = silent + 1 if is_deaf else 0
            if silent >= SILENT_LOOKS:
                silent = 0
                link.end(f"{waiting} messages wait and none came in {SILENT_LOOKS} looks")

    # Translation

    def _delivery(self, link: Link, arrived_ns: int, message: DeliveredMessage) -> Delivery:
        settings, properties = self._settings, message.header.properties
        headers = properties.headers
        attributes = _texts(headers) if headers else None
        tag = message.delivery_tag
        assert tag is not None
        delivery = Delivery(
            settings.principal,
            settings.queue,
            trace_of(attributes.get("traceparent", "") if attributes else ""),
            published_ns(properties.timestamp),
            arrived_ns,
            body=message.body,
            source_id=properties.message_id or "",
            derived_id=derive_id("amqp", self._vhost, settings.queue, properties.message_id or ""),
            lease_until_mono_ns=arrived_ns + self._lease_ns,
            is_redelivered=bool(message.redelivered),
            receipt=_Receipt(link, tag, message),
            content_type=properties.content_type or "",
            attributes=attributes,
        )
        if properties.reply_to:
            if may_reply(properties.reply_to, settings.reply_to):
                delivery.reply_to = properties.reply_to
            else:
                delivery.refused = (
                    f"REPLY_TO: reply_to expected one of {list(settings.reply_to)}, was {properties.reply_to[:64]!r}"
                )
        return delivery


def published_ns(timestamp: datetime | None) -> int:
    """Return a message's timestamp, whole seconds, as UTC nanoseconds; 0 if it has none."""
    if timestamp is None:
        return 0
    at = timestamp if timestamp.tzinfo is not None else timestamp.replace(tzinfo=UTC)
    return max(0, (at - _EPOCH) // _SECOND * NS_PER_S)


def _texts(headers: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in headers.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")  # noqa: PLW2901  RabbitMQ's strings have no encoding of their own
        if isinstance(value, str):
            found[name] = value
    return found


def _reply(settlement: Settlement) -> Outgoing:
    delivery = settlement.delivery
    asked = delivery.receipt.message.header.properties
    properties = spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        correlation_id=asked.correlation_id or asked.message_id,
        delivery_mode=PERSISTENT,
    )
    return Outgoing(reply_body(settlement), "", delivery.reply_to, properties)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
