"""AWS SQS as a message source, standard and FIFO: long polls in threads, batches of ten, visibility as the lease.

Facts (SOURCES section 3): at least once, also after a delete; the id is SQS's MessageId, a new one for each send; order
holds in a message group of a FIFO queue, which gives nothing more of a group while one of it is under way; a lease is
extended up to twelve hours from the receive; every receive counts towards the redrive policy, so giving back is no
brake: polls ask for what there is room for. A handle names one receive of one message and outlives connections.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.awake import BEAT_S, Awake
from sidecars.core.crew import Crew
from sidecars.core.lease import NS_PER_MS, is_over
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why
from sidecars.sources.aws_client import ANSWER_S, BROKEN, code_of, text_of
from sidecars.sources.aws_standing import Standing
from sidecars.sources.sqs_dead import in_calls, parked, reply
from sidecars.sources.sqs_delays import delays_s
from sidecars.sources.sqs_link import (
    BATCH,
    DONE,
    LOST,
    NO_QUEUE,
    Link,
    Polled,
    Queue,
    is_misconfigured,
)
from sidecars.sources.sqs_message import to_delivery
from sidecars.sources.sqs_settings import SqsSettings
from sidecars.sources.stepfunctions_tokens import ADDRESS, TaskTokens, is_token

NS_PER_S: Final = 1_000_000_000
MARGIN_NS_MAX: Final = 2 * NS_PER_S  # R7: held lost so long before SQS takes it back, in a short lease a fifth of it
MARGIN_PART: Final = 5
SETTLES_AT_ONCE: Final = 4


class SqsSource:
    """The SQS source: ``sidecars.core.source.Source``."""

    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLES_AT_ONCE

    def __init__(self, name: str, settings: SqsSettings) -> None:
        """Read the environment; nothing is called before ``open``.

        Raises:
            ConfigError: If the settings or the environment can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        lease_ns = settings.visibility_s * NS_PER_S
        self._lease_ns = lease_ns - min(MARGIN_NS_MAX, lease_ns // MARGIN_PART)
        self.lease_extend_ms = self._lease_ns // NS_PER_MS
        self._settlers = settings.pollers + 2
        self._link = Link(settings.wait_s, settings.visibility_s, settings.pollers, self._settlers)
        self._log = structlog.get_logger().bind(source=name)
        self._aws = Standing("SQS", self._log)
        self._jitter = random.SystemRandom()
        self._queue: Queue | None = None
        self._dead_url = ""
        self._arrived = asyncio.Event()
        self._buffer: deque[tuple[int, int, dict[str, Any]]] = deque()  # received, leased from, message
        self._unsettled: dict[str, Delivery] = {}  # by MessageId, the newest receive of each
        self._polls: set[asyncio.Future[Polled]] = set()
        self._asked = 0  # by the polls under way
        self._width = 1
        self._poll_after_ns = 0
        self._attempts: list[str] = []  # of polls whose answers were lost: made again they bring the same messages
        self._number = 0
        self._is_paused = False
        self._lag: Lag | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = TaskTokens(name) if settings.task_tokens else None

    # Session

    async def open(self, flow: Engines) -> None:
        """Find the queues; an SQS that can't be reached is waited for.

        Raises:
            ConfigError: If SQS refuses us or has no such queue.
        """
        settings = self._settings
        self._awake = Awake(time.monotonic_ns())
        self._pollers = Crew(f"{self.name}-poll", settings.pollers)
        self._settling = Crew(f"{self.name}-settle", self._settlers)
        self._extending = Crew(f"{self.name}-extend", 1)
        try:
            await self._connect()
        except BROKEN as e:
            if is_misconfigured(e):
                raise ConfigError([f"{self.name}: SQS refused ({e}); see: wojak sidecar check {self.name}"]) from e
            self._aws.bad(e)
            self._spawn(self._aws.find(self._connect))
        for work in (self._look(), self._beat()):
            self._spawn(work)

    async def close(self) -> None:
        """Give back what is in nobody's hands; what a poll still brings goes back from its thread."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._link.close()
        await self._release()
        for crew in (self._pollers, self._settling, self._extending):
            crew.stop()
        if self._tokens is not None:
            self._tokens.stop()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        call, settings = self._aws.call, self._settings
        queue = await call(self._settling, partial(self._link.resolve, settings.queue))
        self._dead_url = await call(self._settling, partial(self._link.url_of, settings.dead_letter_queue))
        self._queue = queue
        self._aws.good()
        self._arrived.set()
        self._log.info("connected", queue=queue.arn)

    async def _beat(self) -> None:
        while True:
            self._awake.beat(time.monotonic_ns())
            await asyncio.sleep(BEAT_S)

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for deliveries."""
        self._is_paused = False
        while not self._buffer:
            self._arrived.clear()
            self._start_polls(most)
            await self._arrived.wait()
        return self._take(most)

    def _start_polls(self, most: int) -> None:
        """Have as many polls under way as there is room for, and sense: an idle queue has one (R6)."""
        queue = self._queue
        if queue is None or time.monotonic_ns() < self._poll_after_ns:
            return
        room = min(most, self._settings.in_flight - len(self._unsettled)) - self._asked
        while room > 0 and len(self._polls) < self._width:
            asked = min(BATCH, room)
            room -= asked
            attempt = (self._attempts.pop() if self._attempts else secrets.token_hex(16)) if self._is_fifo else ""
            poll = self._pollers.run(partial(self._link.poll, queue.url, asked, attempt))
            self._asked += asked
            self._polls.add(poll)
            poll.add_done_callback(partial(self._on_polled, asked, attempt))

    @property
    def _is_fifo(self) -> bool:
        return self._settings.is_fifo

    def _on_polled(self, asked: int, attempt: str, poll: asyncio.Future[Polled]) -> None:
        self._polls.discard(poll)
        self._asked -= asked
        self._arrived.set()
        if poll.cancelled():
            return
        error = poll.exception()
        if error is not None:
            self._on_poll_failed(error, attempt)
            return
        arrived_ns, messages = poll.result()
        self._aws.good()
        if len(messages) == asked:
            self._width = min(self._settings.pollers, self._width + 1)
        elif not messages:
            self._width = max(1, self._width - 1)
        leased_ns = self._awake.counted_from(arrived_ns)
        self._buffer.extend((arrived_ns, leased_ns, message) for message in messages)

    def _on_poll_failed(self, error: BaseException, attempt: str) -> None:
        if not isinstance(error, BROKEN):
            self._log.error("a poll failed in an unknown way", why=repr(error))
        self._aws.bad(error)
        self._width = 1
        if attempt and len(self._attempts) < self._settings.pollers:
            self._attempts.append(attempt)
        wait_ms = self._aws.wait_ms()
        self._poll_after_ns = time.monotonic_ns() + wait_ms * NS_PER_MS
        asyncio.get_running_loop().call_later(wait_ms / 1000 + 0.001, self._arrived.set)

    def _take(self, most: int) -> list[Delivery]:
        queue = self._queue
        assert queue is not None
        taken: list[Delivery] = []
        while self._buffer and len(taken) < most:
            arrived_ns, leased_ns, message = self._buffer.popleft()
            self._number += 1
            delivery = to_delivery(
                self._settings, queue.arn, message, self._number, arrived_ns, leased_ns + self._lease_ns
            )
            self._unsettled[delivery.source_id] = delivery
            taken.append(delivery)
        return taken

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: a queue has no parts, and the loop asks for nothing while it is stopped as a whole."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Make messages stay away from others for longer; return those for which that failed."""
        if self._tokens is not None:
            self._spawn(self._tokens.keep(deliveries))
        failed: list[Delivery] = []
        wanted = list(deliveries)
        for at in range(0, len(wanted), BATCH):
            some = wanted[at : at + BATCH]
            began_ns = time.monotonic_ns()
            entries = [(d.receipt.handle, self._settings.visibility_s) for d in some]
            words = await self._batch(self._extending, partial(self._link.set_visibility, self._url, entries), some)
            for delivery, word in zip(some, words, strict=True):
                if word == DONE:
                    delivery.lease_until_mono_ns = began_ns + self._lease_ns
                    continue
                failed.append(delivery)
                if word == LOST:
                    delivery.lease_until_mono_ns = 1  # long ago
        return failed

    async def pause(self) -> Sequence[Delivery]:
        """Start no more polls; wait for those under way; return what they brought."""
        self._is_paused = True
        try:
            async with asyncio.timeout(self._settings.wait_s + ANSWER_S):
                while self._polls:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            self._log.warning("polls not ended", polls=len(self._polls))
        return self._take(len(self._buffer)) if self._queue is not None else ()

    # Settle

    @property
    def _url(self) -> str:
        return "" if self._queue is None else self._queue.url

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Delete what is done, after parking what is dead; give back the rest, newest first."""
        now_ns = time.monotonic_ns()
        done: list[Settlement] = []
        dead: list[Settlement] = []
        back: list[Settlement] = []
        for settlement in settlements:
            is_gone = is_over(settlement.delivery, now_ns)
            match settlement.verb:
                case Verb.ACCEPT:
                    done.append(settlement)  # late too: the handle names this one message, and it is decided (R2)
                case Verb.DEAD_LETTER if not is_gone:
                    dead.append(settlement)
                case Verb.RETRY | Verb.ABANDON if not is_gone and settlement.why is not Why.LEASE_OVER:
                    back.append(settlement)  # what the engine may have taken, too: it answers that as a duplicate
                case verb:
                    settlement.is_lost = verb is not Verb.ABANDON
                    self._forget(settlement.delivery)
        failed = await self._park(dead, done) if dead else []
        if done or back:
            failed += await self._end(done, back)
        self._arrived.set()  # there is room for polls
        return failed

    async def _park(self, dead: Sequence[Settlement], done: list[Settlement]) -> list[Settlement]:
        """Send what people should see; only what SQS has is deleted then."""
        assert self._queue is not None
        arn, target = self._queue.arn, self._settings.dead_letter_queue
        failed = []
        for settlement, word in await self._send(self._dead_url, dead, [parked(s, arn, target) for s in dead]):
            if word == DONE:
                done.append(settlement)
            else:
                failed.append(settlement)
                self._log.error("dead letter not sent", why=word, id=settlement.delivery.source_id)
        return failed

    async def _end(self, done: Sequence[Settlement], back: list[Settlement]) -> list[Settlement]:
        """Delete, and give back, ten in a call, the calls side by side."""
        back.sort(key=lambda s: -s.delivery.receipt.number)
        wanted = list(zip(_handles(back), delays_s(back, self._settings, self._jitter.randint), strict=True))
        link, url = self._link, self._url
        calls: list[tuple[Callable[[], list[str]], Sequence[Settlement]]] = []
        for at in range(0, len(done), BATCH):
            part = done[at : at + BATCH]
            calls.append((partial(link.delete, url, _handles(part)), part))
        calls += [
            (partial(link.set_visibility, url, wanted[at : at + BATCH]), back[at : at + BATCH])
            for at in range(0, len(back), BATCH)
        ]
        words = await asyncio.gather(*(self._batch(self._settling, call, part) for call, part in calls))
        failed = []
        for settlement, word in zip((*done, *back), (w for each in words for w in each), strict=True):
            if word not in {DONE, LOST}:
                failed.append(settlement)
                continue
            settlement.is_lost = word == LOST
            self._forget(settlement.delivery)
        return failed

    async def _batch(self, crew: Crew, call: Callable[[], list[str]], items: Sequence[Any]) -> list[str]:
        """Make a call for up to ten; one that failed as a whole failed for each."""
        try:
            words: list[str] = await self._aws.call(crew, call)
        except BROKEN as e:
            self._aws.bad(e)
            return [text_of(e)] * len(items)
        return words

    async def _send(
        self, url: str, settlements: Sequence[Settlement], messages: Sequence[dict[str, Any]]
    ) -> list[tuple[Settlement, str]]:
        """Send a message for each; return a word for each."""
        calls = in_calls(messages)
        words = await asyncio.gather(
            *(
                self._batch(self._settling, partial(self._link.send, url, [messages[n] for n in call]), call)
                for call in calls
            )
        )
        return [(settlements[n], word) for call, part in zip(calls, words, strict=True)
                for n, word in zip(call, part, strict=True)]  # fmt: skip

    def _forget(self, delivery: Delivery) -> None:
        if self._unsettled.get(delivery.source_id) is delivery:
            del self._unsettled[delivery.source_id]

    async def _release(self) -> None:
        """Give back, newest first, what was received and handed to nobody."""
        messages = [str(message["ReceiptHandle"]) for _, _, message in reversed(self._buffer)]
        self._buffer.clear()
        for at in range(0, len(messages), BATCH):
            part = messages[at : at + BATCH]
            entries = [(handle, 0) for handle in part]
            await self._batch(self._settling, partial(self._link.set_visibility, self._url, entries), part)

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Send the ends; a queue that is no longer there has nobody who waits."""
        failed: list[Settlement] = []
        of_queue: dict[str, list[Settlement]] = defaultdict(list)
        for settlement in settlements:
            reply_to = settlement.delivery.reply_to
            of_queue[ADDRESS if is_token(reply_to) else reply_to].append(settlement)
        for target, some in of_queue.items():
            if target == ADDRESS:
                assert self._tokens is not None  # the message was refused where they are not taken
                failed += await self._tokens.answer(some)
                continue
            try:
                url = await self._aws.call(self._settling, partial(self._link.url_of, target))
            except BROKEN as e:
                if code_of(e) in NO_QUEUE:
                    self._log.warning("reply queue is gone", reply_to=target)
                    continue
                self._aws.bad(e)
                failed += some
                continue
            sent = await self._send(url, some, [reply(s, target) for s in some])
            failed += [settlement for settlement, word in sent if word != DONE]
        return failed

    # Observe

    def lag(self) -> Lag | None:
        """Return about what waits at SQS; how old the oldest is only CloudWatch knows."""
        return self._lag

    def fault(self) -> str:
        """Return why SQS does not serve us, or Step Functions our answers."""
        return self._aws.fault or (self._tokens.fault if self._tokens is not None else "")

    async def _look(self) -> None:
        """Ask how much waits; give back what nobody took; forget what SQS has long taken back."""
        while True:
            await asyncio.sleep(self._settings.lag_ms / 1000)
            if self._queue is None:
                continue
            now_ns = time.monotonic_ns()
            if self._buffer and (self._is_paused or now_ns - self._buffer[0][1] > self._lease_ns // 2):
                await self._release()
            long_ago_ns = now_ns - self._lease_ns
            for delivery in [d for d in self._unsettled.values() if is_over(d, long_ago_ns)]:
                self._forget(delivery)
            try:
                waiting = await self._aws.call(self._settling, partial(self._link.waiting, self._queue.url))
            except BROKEN as e:
                self._aws.bad(e)
                continue
            self._lag = Lag(waiting, -1)
            if not self._polls:
                self._aws.good()


def _handles(settlements: Sequence[Settlement]) -> list[str]:
    return [str(s.delivery.receipt.handle) for s in settlements]
