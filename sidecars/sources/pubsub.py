"""Google Cloud Pub/Sub as a message source: streaming pull, own leases and lanes, exactly-once where it is switched on.

Facts (SOURCES section 6): at least once; the id is Pub/Sub's message_id, a new one for each publish; with message
ordering, messages of one ordering key are delivered in the order published, and one that is given back brings all later
ones of its key again, so nothing is given back but by a drain, newest first: what the engine does not take now waits
here, its lease extended. A lease is an ack deadline; a settle is a call of its own, which names ack ids. With
exactly-once delivery an ack id that is no longer good is refused, else it is taken without a word. Streams end every
few minutes, and that is no fault.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.awake import BEAT_S, Awake
from sidecars.core.lease import NS_PER_MS, is_over, needs_extension
from sidecars.core.source import Delivery, Engines, Lag, Settlement, SourceFailedError, Verb, Why
from sidecars.sources.pubsub_answers import publish_answers
from sidecars.sources.pubsub_dead import parked
from sidecars.sources.pubsub_link import BROKEN, DONE, IDS_MAX, LOST, Link, Stream, is_misconfigured, text_of
from sidecars.sources.pubsub_message import to_delivery
from sidecars.sources.pubsub_settings import PubSubSettings, paths_of

NS_PER_S: Final = 1_000_000_000
MARGIN_NS_MAX: Final = 2 * NS_PER_S  # R7: held lost so long before Pub/Sub takes it back, of a short lease a fifth
MARGIN_PART: Final = 5
WORKED_NS: Final = 5 * NS_PER_S  # a stream that lived so long was good
# Each is a round trip. Of one ordering key a later message may so be settled before an earlier one: Pub/Sub takes that,
# but with exactly-once delivery, which has it tried again.
SETTLES_AT_ONCE: Final = 4
BACKOFF_MS: Final = 100
BACKOFF_DOUBLINGS_MAX: Final = 6
LOOK_S: Final = 1.0
PAUSE_S: Final = 0.3
CLIENT_ID_BYTES: Final = 12


class PubSubSource:
    """The Pub/Sub source: ``sidecars.core.source.Source``."""

    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLES_AT_ONCE

    def __init__(self, name: str, settings: PubSubSettings) -> None:
        """Read the environment; nothing is connected before ``open``.

        Raises:
            ConfigError: If the settings or the environment can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        self._paths = paths_of(settings)
        lease_ns = settings.ack_deadline_s * NS_PER_S
        self._lease_ns = lease_ns - min(MARGIN_NS_MAX, lease_ns // MARGIN_PART)
        self.lease_extend_ms = self._lease_ns // NS_PER_MS
        self._client_id = secrets.token_hex(CLIENT_ID_BYTES)  # one for all streams of this process
        self._log = structlog.get_logger().bind(source=name)
        self._jitter = random.SystemRandom().random
        self._stream: Stream | None = None
        self._has_worked = False
        self._failure: ConfigError | SourceFailedError | None = None
        self._fault = "not connected yet"
        self._wanted = asyncio.Event()  # somebody receives
        self._idle = asyncio.Event()  # no stream is read
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._is_gated = False
        self._buffer: deque[Delivery] = deque()
        self._unsettled: dict[str, Delivery] = {}  # by message id, the newest hand-over of each; the buffer's too
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []

    # Session

    async def open(self, flow: Engines) -> None:
        """Connect; a Pub/Sub that can't be reached is waited for. Nothing is pulled before the first ``receive``.

        Raises:
            ConfigError: If there are no credentials.
        """
        self._awake = Awake(time.monotonic_ns())
        self._link = await Link.open(self._settings)
        self._idle.set()
        try:
            await self._link.reach()
            self._good()
        except BROKEN as e:
            self._bad(e)
        for work in (self._stay(), self._beat(), self._look()):
            self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """Fail as a whole where a part of us has: ``receive`` says so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = SourceFailedError(self.name, repr(error))
            self._fault = str(self._failure)
            self._arrived.set()

    async def close(self) -> None:
        """Give back what is in nobody's hands, disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stream is not None:
            self._stream.cancel()
        if self._buffer:
            await self._modify(list(reversed(self._buffer)), 0)
        await self._link.close()

    async def _stay(self) -> None:
        """Read one stream after the other, more and more slowly while they fail."""
        failures = 0
        while True:
            await self._wanted.wait()
            began_ns = time.monotonic_ns()
            self._idle.clear()
            error = await self._read()
            self._idle.set()
            has_lived = time.monotonic_ns() - began_ns >= WORKED_NS
            self._has_worked = self._has_worked or has_lived
            if has_lived or not self._wanted.is_set():
                failures = 0
                continue
            if error is not None:
                self._on_failed(error)
            wait_s = (BACKOFF_MS << min(failures, BACKOFF_DOUBLINGS_MAX)) / 1000
            failures += 1
            await asyncio.sleep(wait_s * (0.5 + self._jitter() / 2))

    def _on_failed(self, error: BaseException) -> None:
        self._bad(error)
        if is_misconfigured(error) and not self._has_worked:
            text = f"{self.name}: Pub/Sub refused ({text_of(error)}); see: wojak sidecar check {self.name}"
            self._failure = ConfigError([text])
            self._arrived.set()

    async def _read(self) -> BaseException | None:
        """Read a stream until it ends; return why it failed, None = it ended in good order."""
        stream = self._stream = self._link.stream(self._paths.subscription, self._settings, self._client_id)
        try:
            await stream.begin()
            self._good()
            while (response := await self._next(stream)) is not None:
                self._on_response(response)
        except BROKEN as e:
            return e
        finally:
            stream.cancel()
            if self._stream is stream:
                self._stream = None
        return None

    async def _next(self, stream: Stream) -> Any:
        """Wait for a response; only one that ignores ``max_outstanding_messages`` is ever made to wait for us (R6)."""
        while len(self._unsettled) > self._settings.prefetch and self._wanted.is_set():
            self._is_gated = True
            self._room.clear()
            await self._room.wait()
        self._is_gated = False
        return await stream.read()

    def _good(self) -> None:
        self._fault = ""

    def _bad(self, error: BaseException) -> None:
        if not self._fault:
            self._log.warning("Pub/Sub fails", why=text_of(error))
        self._fault = text_of(error)

    async def _beat(self) -> None:
        """Note that we run and read: a lease counts from the hand-over, not from when we come to read of it."""
        while True:
            if not self._is_gated:
                self._awake.beat(time.monotonic_ns())
            await asyncio.sleep(BEAT_S)

    # Receive

    def _on_response(self, response: Any) -> None:
        arrived_ns = time.monotonic_ns()
        until_ns = self._awake.counted_from(arrived_ns) + self._lease_ns
        principal, paths = self._settings.principal, self._paths
        for received in response.received_messages:
            self._number += 1
            delivery = to_delivery(principal, paths, received, self._number, arrived_ns, until_ns)
            self._unsettled[delivery.receipt.message_id] = delivery
            self._buffer.append(delivery)
        self._has_worked = True
        self._good()
        self._arrived.set()

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for deliveries.

        Raises:
            ConfigError: If Pub/Sub refuses us, or has no such subscription, and it never was another way.
            SourceFailedError: If something of ours failed.
        """
        self._wanted.set()
        while not self._buffer:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        return self._take(most)

    def _take(self, most: int) -> list[Delivery]:
        buffer = self._buffer
        return [buffer.popleft() for _ in range(min(most, len(buffer)))]

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: a subscription has no parts, and the loop asks for nothing while it is stopped as a whole."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Make messages stay away from others for longer; return those for which that failed."""
        began_ns = time.monotonic_ns()
        failed: list[Delivery] = []
        for delivery, word in await self._modify(deliveries, self._settings.ack_deadline_s):
            if word == DONE:
                delivery.lease_until_mono_ns = began_ns + self._lease_ns
                continue
            failed.append(delivery)
            if word == LOST:
                delivery.lease_until_mono_ns = 1  # long ago
        return failed

    async def pause(self) -> Sequence[Delivery]:
        """End the stream; return what it had brought and still brings."""
        self._wanted.clear()
        self._room.set()
        stream = self._stream
        if stream is not None:
            await stream.finish()
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._idle.wait()
            except TimeoutError:
                stream.cancel()
        return self._take(len(self._buffer))

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Acknowledge what is done, after parking what is dead; give back the rest, newest first."""
        now_ns = time.monotonic_ns()
        done: list[Settlement] = []
        dead: list[Settlement] = []
        back: list[Settlement] = []
        for settlement in settlements:
            is_gone = is_over(settlement.delivery, now_ns)
            match settlement.verb:
                case Verb.ACCEPT:
                    done.append(settlement)  # late too: the id names this one message, and it is decided (R2)
                case Verb.DEAD_LETTER if not is_gone:
                    dead.append(settlement)
                case Verb.RETRY | Verb.ABANDON if not is_gone and settlement.why is not Why.LEASE_OVER:
                    back.append(settlement)  # what the engine may have taken, too: it answers that as a duplicate
                case verb:
                    settlement.is_lost = verb is not Verb.ABANDON
                    self._forget(settlement.delivery)
        failed = await self._park(dead, done) if dead else []
        failed += self._ended(done, await self._acknowledge([s.delivery for s in done]))
        if back:
            back.sort(key=lambda s: -s.delivery.receipt.number)
            failed += self._ended(back, [word for _, word in await self._modify([s.delivery for s in back], 0)])
        return failed

    async def _park(self, dead: Sequence[Settlement], done: list[Settlement]) -> list[Settlement]:
        """Publish what people should see; only what Pub/Sub has is acknowledged then."""
        letters = [parked(s, self._paths.subscription) for s in dead]
        failed = []
        errors = await self._link.publish(self._paths.dead_letter_topic, letters)
        for settlement, error in zip(dead, errors, strict=True):
            if error is None:
                done.append(settlement)
            else:
                failed.append(settlement)
                self._log.error("dead letter not published", why=text_of(error), id=settlement.delivery.source_id)
        return failed

    async def _acknowledge(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Settle; the calls go side by side, in the order received."""
        path = self._paths.subscription
        ids = [str(d.receipt.ack_id) for d in deliveries]
        parts = [ids[at : at + IDS_MAX] for at in range(0, len(ids), IDS_MAX)]
        return self._told(await asyncio.gather(*(self._link.acknowledge(path, part) for part in parts)))

    async def _modify(self, deliveries: Sequence[Delivery], seconds: int) -> list[tuple[Delivery, str]]:
        """Set how long messages stay ours, one call after the other: what is given back goes in this order."""
        path = self._paths.subscription
        ids = [str(d.receipt.ack_id) for d in deliveries]
        parts = [ids[at : at + IDS_MAX] for at in range(0, len(ids), IDS_MAX)]
        words = self._told([await self._link.modify(path, part, seconds) for part in parts])
        return list(zip(deliveries, words, strict=True))

    def _told(self, parts: Sequence[Sequence[str]]) -> list[str]:
        words = [word for part in parts for word in part]
        for word in words:
            if word not in {DONE, LOST}:
                self._fault = word
                break
        return words

    def _ended(self, settlements: Sequence[Settlement], words: Sequence[str]) -> list[Settlement]:
        """Forget what has ended; return what is to be tried again."""
        failed = []
        for settlement, word in zip(settlements, words, strict=True):
            if word not in {DONE, LOST}:
                failed.append(settlement)
                continue
            settlement.is_lost = word == LOST
            self._forget(settlement.delivery)
        if settlements and not failed:
            self._good()
        return failed

    def _forget(self, delivery: Delivery) -> None:
        message_id = delivery.receipt.message_id
        if self._unsettled.get(message_id) is delivery:
            del self._unsettled[message_id]
            self._room.set()

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish the ends."""
        return await publish_answers(self._link, settlements, self._paths.results_topic)

    # Observe

    def lag(self) -> Lag | None:
        """Return nothing: what waits at Pub/Sub only Cloud Monitoring knows."""
        return None

    def fault(self) -> str:
        """Return why Pub/Sub does not serve us."""
        return self._fault

    async def _look(self) -> None:
        """Extend what nobody has taken from the buffer yet; forget what Pub/Sub has long taken back."""
        while True:
            await asyncio.sleep(min(LOOK_S, self.lease_extend_ms / 8_000))
            now_ns = time.monotonic_ns()
            due = [
                d for d in self._buffer
                if needs_extension(d, self.lease_extend_ms, now_ns) and not is_over(d, now_ns)
            ]  # fmt: skip
            if due:
                await self.extend(due)
            long_ago_ns = now_ns - self._lease_ns
            for delivery in [d for d in self._unsettled.values() if is_over(d, long_ago_ns)]:
                self._forget(delivery)
