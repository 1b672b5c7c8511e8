"""AWS SNS over HTTPS as a message source: a post is the delivery, its status the settlement.

Facts (SOURCES section 4): SNS tries again what was answered 5xx or not at all, by the subscription's policy, three
times in a minute unless told otherwise; then the message goes to the subscription's dead letter queue or is gone; what
was answered 4xx goes there at once. The id is SNS's MessageId, the same at each try. There is no order, no lease but
the request's deadline, and no credit: what there is no room for is answered 503.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.crew import Crew
from sidecars.core.metrics import Metrics
from sidecars.core.source import Engines, Settlement
from sidecars.sources.aws_client import BROKEN, CALL_S, client, is_forbidden, text_of
from sidecars.sources.http_models import HttpError
from sidecars.sources.http_pushed import PARKED, PushedSource
from sidecars.sources.sns_api import SnsApi
from sidecars.sources.sns_certificates import Certificates
from sidecars.sources.sns_message import Posted
from sidecars.sources.sns_settings import SnsSettings
from sidecars.sources.sqs_dead import parked, reply
from sidecars.sources.sqs_link import DONE, Link, is_misconfigured

THREADS: Final = 4
BACKOFF_MS: Final = 200
BACKOFF_MS_MAX: Final = 20_000
BACKOFF_DOUBLINGS_MAX: Final = 7
ENDPOINTS: Final = ("AWS_ENDPOINT_URL_SNS", "AWS_ENDPOINT_URL")


class SnsSource(PushedSource):
    """The SNS source: ``sidecars.core.source.Source``. The handlers queue, ``settle`` lets them answer."""

    def __init__(self, name: str, settings: SnsSettings, metrics: Metrics) -> None:
        """Read the environment and the certificate's files; nothing listens before ``open``.

        Raises:
            ConfigError: If the settings, the environment or a file can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        super().__init__(settings, metrics, structlog.get_logger().bind(source=name))
        self._jitter = random.SystemRandom()
        self._link = Link(1, 30, 1, THREADS)
        self._sns = client("sns", 1)
        self._certificates = Certificates(name)
        self._fault = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._api = SnsApi(
            settings,
            self._certificates,
            next((os.environ[n] for n in ENDPOINTS if os.environ.get(n)), ""),
            arrivals=self._arrivals,
            confirm=self._confirm,
            answers=metrics.answers,
        )

    # Session

    async def open(self, flow: Engines) -> None:
        """Find the dead letter queue and listen; an SQS that can't be reached is waited for.

        Raises:
            ConfigError: If SQS refuses us or has no such queue, or the address is taken.
        """
        self._api.flow = flow
        self._require_descriptors()
        self._settling = Crew(f"{self.name}-settle", THREADS)
        try:
            await self._find_queues()
        except BROKEN as e:
            if is_misconfigured(e):
                raise ConfigError([f"{self.name}: SQS refused ({e}); see: wojak sidecar check {self.name}"]) from e
            self._bad(e)
        await self._listen(self._api)

    async def close(self) -> None:
        """Stop listening."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            await self._listener.close()
        self._settling.stop()
        self._certificates.stop()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find_queues(self) -> None:
        for queue in (self._settings.dead_letter_queue, self._settings.reply_queue):
            if queue:
                await self._call(partial(self._link.resolve, queue))
        self._fault = ""

    async def _stay(self) -> None:
        """Look for the queues, more and more slowly, until they are there."""
        failures = 0
        while self._fault:
            wait_ms = min(BACKOFF_MS << min(failures, BACKOFF_DOUBLINGS_MAX), BACKOFF_MS_MAX)
            await asyncio.sleep(self._jitter.randint(wait_ms // 2, wait_ms) / 1000)
            failures += 1
            try:
                await self._find_queues()
            except BROKEN as e:
                self._bad(e)

    async def _call(self, call: Callable[[], Any]) -> Any:
        """Make a call in a thread; the client's own deadlines are shorter than ours."""
        async with asyncio.timeout(CALL_S):
            return await self._settling.run(call)

    def _bad(self, error: BaseException) -> None:
        if not self._fault:
            self._log.warning("AWS fails", why=text_of(error))
            self._spawn(self._stay())
        self._fault = text_of(error)

    async def _confirm(self, posted: Posted) -> None:
        """Confirm a subscription by the API, never by calling the address that was posted."""
        call = partial(
            self._sns.confirm_subscription,
            TopicArn=posted.topic_arn,
            Token=posted.token or "",
            AuthenticateOnUnsubscribe="true",
        )
        try:
            await self._call(call)
        except BROKEN as e:
            right = "; grant sns:ConfirmSubscription" if is_forbidden(e) else ""
            self._log.error("subscription not confirmed", topic=posted.topic_arn, why=text_of(e) + right)
            raise HttpError(503, "NOT_CONFIRMED", "the subscription could not be confirmed; send it again") from e
        self._log.info("subscription confirmed", topic=posted.topic_arn)

    # Settle

    async def _park(self, dead: Sequence[Settlement]) -> Sequence[str]:
        """Send each to the dead letter queue."""
        queue = self._settings.dead_letter_queue
        words = await asyncio.gather(*(self._send(queue, self._parked(s)) for s in dead))
        return [PARKED if word == DONE else word for word in words]

    def _parked(self, settlement: Settlement) -> dict[str, Any]:
        return parked(settlement, settlement.delivery.receipt.topic, self._settings.dead_letter_queue)

    async def _send(self, queue: str, message: dict[str, Any]) -> str:
        """Send a message to a queue; return ``DONE`` only if SQS has it."""

        def call() -> str:
            return self._link.send(self._link.url_of(queue), [message])[0]

        try:
            word: str = await self._call(call)
        except BROKEN as e:
            self._bad(e)
            return text_of(e)
        if word == DONE:
            self._fault = ""
        return word

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Send the ends to the queue for answers."""
        queue = self._settings.reply_queue
        words = await asyncio.gather(*(self._send(queue, reply(s, queue)) for s in settlements))
        return [settlement for settlement, word in zip(settlements, words, strict=True) if word != DONE]

    # Observe

    def fault(self) -> str:
        """Return why dead letters or answers have no place to go."""
        return self._fault
