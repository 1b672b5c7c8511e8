"""Google Cloud Pub/Sub over HTTPS as a message source: a push is the delivery, its status the settlement.

Facts (SOURCES section 6.4): at least once; what is not answered 2xx comes again, with a delay that grows; the id is
Pub/Sub's message id, the same at each try; the lease is the request's deadline and can't be extended; there is no
credit: what there is no room for is answered 503, at which Pub/Sub pushes less. Who pushes is known by its token alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.metrics import Metrics
from sidecars.core.source import Engines, Settlement
from sidecars.sources.http_pushed import PARKED, PushedSource
from sidecars.sources.pubsub_answers import publish_answers
from sidecars.sources.pubsub_dead import parked
from sidecars.sources.pubsub_link import BROKEN, FORBIDDEN, Link, code_of, text_of
from sidecars.sources.pubsub_push_api import PushApi
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from sidecars.sources.pubsub_push_tokens import SigningKeys, Tokens
from sidecars.sources.pubsub_settings import paths_of

LOOK_S: Final = 1.0


class PubSubPushSource(PushedSource):
    """The pushed source: ``sidecars.core.source.Source``. The handlers queue, ``settle`` lets them answer."""

    def __init__(self, name: str, settings: PubSubPushSettings, metrics: Metrics) -> None:
        """Read the environment and the certificate's files; nothing listens before ``open``.

        Raises:
            ConfigError: If the settings, the environment or a file can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        self._paths = paths_of(settings.places())
        super().__init__(settings, metrics, structlog.get_logger().bind(source=name))
        self._keys = SigningKeys(name, settings.keys)
        self._fault = ""
        self._recovering: asyncio.Task[None] | None = None
        tokens = Tokens(self._keys, settings.audience, settings.service_account)
        self._api = PushApi(settings, self._paths, tokens, self._arrivals, metrics.answers)

    # Session

    async def open(self, flow: Engines) -> None:
        """Listen.

        Raises:
            ConfigError: If there are no credentials, or the address is taken.
        """
        self._api.flow = flow
        self._require_descriptors()
        self._link = await Link.open(self._settings.places())
        await self._listen(self._api)

    async def close(self) -> None:
        """Stop listening."""
        if self._recovering is not None:
            self._recovering.cancel()
        if self._listener is not None:
            await self._listener.close()
        await self._link.close()
        self._keys.stop()

    def _bad(self, error: BaseException) -> None:
        if not self._fault:
            self._recovering = asyncio.get_running_loop().create_task(self._recover())
        self._fault = text_of(error)

    async def _recover(self) -> None:
        """Look for the place of dead letters until it is there: while we are not ready nobody may push to us."""
        while self._fault:
            await asyncio.sleep(LOOK_S)
            try:
                await self._link.look(self._paths.dead_letter_topic)
            except BROKEN as e:
                if code_of(e) not in FORBIDDEN:  # which is an answer: the right to look is for check alone
                    self._fault = text_of(e)
                    continue
            self._fault = ""

    # Settle

    async def _park(self, dead: Sequence[Settlement]) -> Sequence[str]:
        """Publish all of them in one call."""
        letters = [parked(s, self._paths.subscription) for s in dead]
        errors = await self._link.publish(self._paths.dead_letter_topic, letters)
        for error in filter(None, errors):
            self._bad(error)
        return [PARKED if error is None else text_of(error) for error in errors]

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish the ends."""
        return await publish_answers(self._link, settlements, self._paths.results_topic)

    # Observe

    def fault(self) -> str:
        """Return why dead letters have no place to go."""
        return self._fault
