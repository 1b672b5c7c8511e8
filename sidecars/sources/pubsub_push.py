"""Google Cloud Pub/Sub over HTTPS as a message source: a push is the delivery, its status the settlement.

Facts (SOURCES section 6.4): at least once; what is not answered 2xx comes again, with a delay that grows; the id is
Pub/Sub's message id, the same at each try; the lease is the request's deadline and can't be extended; there is no
credit: what there is no room for is answered 503, at which Pub/Sub pushes less. Who pushes is known by its token alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.lease import is_over
from sidecars.core.metrics import Metrics
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb
from sidecars.sources.http_post import Arrivals
from sidecars.sources.http_server import Bounds, Listener, require_descriptors
from sidecars.sources.http_tls import Tls, TlsSettings
from sidecars.sources.pubsub_answers import publish_answers
from sidecars.sources.pubsub_dead import parked
from sidecars.sources.pubsub_link import BROKEN, FORBIDDEN, Link, code_of, text_of
from sidecars.sources.pubsub_push_api import PushApi
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from sidecars.sources.pubsub_push_tokens import SigningKeys, Tokens
from sidecars.sources.pubsub_settings import paths_of

KEEP_ALIVE_S: Final = 60
RECEIVE_MS: Final = 10_000
LOOK_S: Final = 1.0
SETTLES_AT_ONCE: Final = 4  # a dead letter is a round trip: whoever else waits is answered meanwhile


class PubSubPushSource:
    """The pushed source: ``sidecars.core.source.Source``. The handlers queue, ``settle`` lets them answer."""

    lease_extend_ms = 0
    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLES_AT_ONCE

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
        self._metrics = metrics
        self._log = structlog.get_logger().bind(source=name)
        self._tls: Tls | None = None
        if settings.certificate_file:
            self._tls = Tls(TlsSettings(certificate_file=settings.certificate_file, key_file=settings.key_file))
        self._keys = SigningKeys(name, settings.keys)
        self._arrivals = Arrivals()
        self._fault = ""
        self._recovering: asyncio.Task[None] | None = None
        self._listener: Listener | None = None
        tokens = Tokens(self._keys, settings.audience, settings.service_account)
        self._api = PushApi(settings, self._paths, tokens, self._arrivals, metrics.answers)

    # Session

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None
        return self._listener.port

    async def open(self, flow: Engines) -> None:
        """Listen.

        Raises:
            ConfigError: If there are no credentials, or the address is taken.
        """
        self._api.flow = flow
        settings = self._settings
        require_descriptors(settings.connections_max)
        self._link = await Link.open(settings.places())
        bounds = Bounds(settings.connections_max, RECEIVE_MS)
        bounds.answers, bounds.refused = self._metrics.answers, self._metrics.refused
        self._listener = Listener(settings.host, settings.port, bounds, KEEP_ALIVE_S, self._tls)
        await self._listener.serve(self._api)
        scheme = "http" if self._tls is None else "https"
        self._log.info("listens", address=f"{scheme}://{settings.host}:{self.port}{settings.path}")

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

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for what the handlers queued."""
        await self._arrivals.wait()
        return self._arrivals.take(most)

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: the handlers ask for room before they queue, and what waits has a deadline."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend nothing: the deadline is the sender's."""
        return deliveries

    async def pause(self) -> Sequence[Delivery]:
        """Return what is queued; what comes from now on is answered 503 by the handlers."""
        return self._arrivals.take(len(self._arrivals.queue))

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Park what is dead, then let each handler answer."""
        now_ns = time.monotonic_ns()
        dead: list[Settlement] = []
        for settlement in settlements:
            if settlement.verb is Verb.DEAD_LETTER and not is_over(settlement.delivery, now_ns):
                dead.append(settlement)
                continue
            settlement.is_lost = settlement.verb is Verb.DEAD_LETTER  # it is pushed again, and then it is parked
            settlement.delivery.receipt.tell(200 if settlement.verb is Verb.ACCEPT else 503)
        if not dead:
            return ()
        letters = [parked(s, self._paths.subscription) for s in dead]
        failed = []
        errors = await self._link.publish(self._paths.dead_letter_topic, letters)
        for settlement, error in zip(dead, errors, strict=True):
            if error is None:
                settlement.delivery.receipt.tell(200)
            else:
                failed.append(settlement)
                self._bad(error)
                self._log.error("dead letter not published", why=text_of(error), id=settlement.delivery.source_id)
        return failed

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish the ends."""
        return await publish_answers(self._link, settlements, self._paths.results_topic)

    # Observe

    def lag(self) -> Lag | None:
        """Return None: what has not reached us waits at Pub/Sub, which tells Cloud Monitoring only."""
        return None

    def fault(self) -> str:
        """Return why dead letters have no place to go."""
        return self._fault
