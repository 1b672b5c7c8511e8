"""AWS Step Functions as a message source: an activity's tasks are the deliveries, their results the settlements.

Facts (SOURCES section 5): a token is handed out once, so a poll whose answer is lost loses its task until
HeartbeatSeconds are over; a token names one attempt, and the state machine's Retry makes a new one; the lease is
extended by heartbeats, up to TimeoutSeconds; success and failure settle and answer in one call; there is no order
between executions, no batch, and a poll brings one task within 60 s. The dead letter is the execution that failed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.awake import BEAT_S, Awake
from sidecars.core.crew import Crew
from sidecars.core.lease import NS_PER_MS, is_over
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why
from sidecars.sources.aws_client import BROKEN, text_of
from sidecars.sources.aws_standing import Standing
from sidecars.sources.stepfunctions_answers import RETRYABLE, Ending, ending_of
from sidecars.sources.stepfunctions_link import DONE, LOST, Link, Polled, Tokens, is_misconfigured
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings
from sidecars.sources.stepfunctions_task import to_delivery

NS_PER_S: Final = 1_000_000_000
MARGIN_NS_MAX: Final = 2 * NS_PER_S  # R7: held lost so long before Step Functions does, in a short lease a fifth of it
MARGIN_PART: Final = 5
SETTLERS: Final = 8  # each answers one task: an outcome need not wait for the answers to others
HEARTBEATERS: Final = 4


class StepFunctionsSource:
    """The Step Functions source: ``sidecars.core.source.Source``."""

    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLERS

    def __init__(self, name: str, settings: StepFunctionsSettings) -> None:
        """Read the environment; nothing is called before ``open``.

        Raises:
            ConfigError: If the environment can't be used.
        """
        self.name = name
        self._settings = settings
        lease_ns = settings.heartbeat_s * NS_PER_S
        self._lease_ns = lease_ns - min(MARGIN_NS_MAX, lease_ns // MARGIN_PART)
        self.lease_extend_ms = self._lease_ns // NS_PER_MS
        self._link = Link(settings.activity, settings.worker or name, settings.pollers)
        self._settle_tokens, self._extend_tokens = Tokens(SETTLERS), Tokens(HEARTBEATERS)
        self._log = structlog.get_logger().bind(source=name)
        self._aws = Standing("Step Functions", self._log)
        self._is_connected = False
        self._is_paused = False
        self._arrived = asyncio.Event()
        self._buffer: deque[tuple[int, int, dict[str, Any]]] = deque()  # received, leased from, task
        self._unsettled: dict[str, Delivery] = {}  # by token
        self._polls: set[asyncio.Future[Polled]] = set()
        self._poll_after_ns = 0
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # Session

    async def open(self, flow: Engines) -> None:
        """Find the activity; a Step Functions that can't be reached is waited for.

        Raises:
            ConfigError: If Step Functions refuses us or has no such activity.
        """
        self._awake = Awake(time.monotonic_ns())
        self._pollers = Crew(f"{self.name}-poll", self._settings.pollers)
        self._settling = Crew(f"{self.name}-settle", SETTLERS)
        self._extending = Crew(f"{self.name}-extend", HEARTBEATERS)
        self._looking = Crew(f"{self.name}-look", 1)
        try:
            await self._connect()
        except BROKEN as e:
            if is_misconfigured(e):
                raise ConfigError(
                    [f"{self.name}: Step Functions refused ({e}); see: wojak sidecar check {self.name}"]
                ) from e
            self._aws.bad(e)
            self._spawn(self._aws.find(self._connect))
        for work in (self._look(), self._beat()):
            self._spawn(work)

    async def close(self) -> None:
        """Give back what is in nobody's hands; polls under way are abandoned, and their tasks with them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._release()
        if self._polls:
            self._log.info("polls abandoned", polls=len(self._polls))
        for crew in (self._pollers, self._settling, self._extending, self._looking):
            crew.stop()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        await self._aws.call(self._looking, self._link.look)
        self._is_connected = True
        self._aws.good()
        self._arrived.set()
        self._log.info("connected", activity=self._settings.activity)

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
        """Have as many polls under way as there is room for: each may bring a task (R6)."""
        if not self._is_connected or time.monotonic_ns() < self._poll_after_ns:
            return
        settings = self._settings
        room = min(most, settings.in_flight - len(self._unsettled), settings.pollers) - len(self._polls)
        for _ in range(room):
            poll = self._pollers.run(self._link.poll)
            self._polls.add(poll)
            poll.add_done_callback(self._on_polled)

    def _on_polled(self, poll: asyncio.Future[Polled]) -> None:
        self._polls.discard(poll)
        self._arrived.set()
        if poll.cancelled():
            return
        error = poll.exception()
        if error is not None:
            self._on_poll_failed(error)
            return
        arrived_ns, task = poll.result()
        self._aws.good()
        if task is not None:
            self._buffer.append((arrived_ns, self._awake.counted_from(arrived_ns), task))

    def _on_poll_failed(self, error: BaseException) -> None:
        if not isinstance(error, BROKEN):
            self._log.error("a poll failed in an unknown way", why=repr(error))
        self._aws.bad(error)
        wait_ms = self._aws.wait_ms()
        self._poll_after_ns = time.monotonic_ns() + wait_ms * NS_PER_MS
        asyncio.get_running_loop().call_later(wait_ms / 1000 + 0.001, self._arrived.set)

    def _take(self, most: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._buffer and len(taken) < most:
            arrived_ns, leased_ns, task = self._buffer.popleft()
            self._number += 1
            delivery = to_delivery(self._settings, task, self._number, arrived_ns, leased_ns + self._lease_ns)
            self._unsettled[delivery.receipt.token] = delivery
            taken.append(delivery)
        return taken

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: an activity has no parts, and the loop asks for nothing while it is stopped as a whole."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Send a heartbeat for each; return those for which that failed."""
        began_ns = time.monotonic_ns()
        calls = (partial(self._extend_tokens.heartbeat, d.receipt.token) for d in deliveries)
        words = await asyncio.gather(*(self._word(self._extending, call) for call in calls))
        failed: list[Delivery] = []
        for delivery, word in zip(deliveries, words, strict=True):
            if word == DONE:
                delivery.lease_until_mono_ns = began_ns + self._lease_ns
                continue
            failed.append(delivery)
            if word == LOST:
                delivery.lease_until_mono_ns = 1  # long ago
        return failed

    async def pause(self) -> Sequence[Delivery]:
        """Start no more polls; wait for those under way as long as the settings say; return what they brought."""
        self._is_paused = True
        try:
            async with asyncio.timeout(self._settings.drain_polls_s):
                while self._polls and self._settings.drain_polls_s:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            self._log.warning("polls not ended", polls=len(self._polls))
        return self._take(len(self._buffer))

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Answer each token, the calls side by side."""
        now_ns = time.monotonic_ns()
        told: list[Settlement] = []
        for settlement in settlements:
            is_gone = is_over(settlement.delivery, now_ns)
            match settlement.verb:
                case Verb.ACCEPT:
                    told.append(settlement)  # late too: the token names this one attempt, and it is decided (R2)
                case Verb.DEAD_LETTER if not is_gone:
                    told.append(settlement)
                case Verb.RETRY | Verb.ABANDON if not is_gone and settlement.why is not Why.LEASE_OVER:
                    told.append(settlement)  # what the engine may have taken, too: it answers that as a duplicate
                case verb:
                    settlement.is_lost = verb is not Verb.ABANDON
                    self._forget(settlement.delivery)
        calls = (partial(self._settle_tokens.answer, s.delivery.receipt.token, ending_of(s)) for s in told)
        words = await asyncio.gather(*(self._word(self._settling, call) for call in calls))
        failed: list[Settlement] = []
        for settlement, word in zip(told, words, strict=True):
            if word not in {DONE, LOST}:
                failed.append(settlement)
                continue
            settlement.is_lost = word == LOST
            self._forget(settlement.delivery)
        self._arrived.set()  # there is room for polls
        return failed

    async def _word(self, crew: Crew, call: Callable[[], str]) -> str:
        """Make a call; return its word, or why it failed."""
        try:
            word: str = await self._aws.call(crew, call)
        except BROKEN as e:
            self._aws.bad(e)
            return text_of(e)
        return word

    def _forget(self, delivery: Delivery) -> None:
        self._unsettled.pop(delivery.receipt.token, None)

    async def _release(self) -> None:
        """Give back what was received and handed to nobody."""
        tokens = [str(task["taskToken"]) for _, _, task in self._buffer]
        self._buffer.clear()
        back = Ending(error=RETRYABLE, cause=Why.DRAINING.name)
        calls = (partial(self._settle_tokens.answer, token, back) for token in tokens)
        await asyncio.gather(*(self._word(self._settling, call) for call in calls))

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Reply nowhere: the settlement is the answer."""
        return ()

    # Observe

    def lag(self) -> Lag | None:
        """Return None: how much waits only CloudWatch knows."""
        return None

    def fault(self) -> str:
        """Return why Step Functions does not serve us."""
        return self._aws.fault

    async def _look(self) -> None:
        """Ask whether it is there; give back what nobody took; forget what Step Functions has long taken back."""
        while True:
            await asyncio.sleep(self._settings.look_ms / 1000)
            now_ns = time.monotonic_ns()
            if self._buffer and (self._is_paused or now_ns - self._buffer[0][1] > self._lease_ns // 2):
                await self._release()
            long_ago_ns = now_ns - self._lease_ns
            for delivery in [d for d in self._unsettled.values() if is_over(d, long_ago_ns)]:
                self._forget(delivery)
            if not self._is_connected:
                continue
            try:
                await self._aws.call(self._looking, self._link.look)
            except BROKEN as e:
                self._aws.bad(e)
            else:
                self._aws.good()
