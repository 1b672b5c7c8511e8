"""A source that a broker posts to: it listens, its handlers queue, ``settle`` lets them answer.

Rules as in ``http_post``. Nothing is pulled, so there is nothing to stop and no lease to extend: what there is no room
for is answered 503, and the sender tries again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Protocol

from structlog.stdlib import BoundLogger

from sidecars.core.lease import is_over
from sidecars.core.metrics import Metrics
from sidecars.core.source import Delivery, Lag, Settlement, Verb
from sidecars.sources.http_post import Arrivals
from sidecars.sources.http_server import Bounds, Listener, require_descriptors
from sidecars.sources.http_tls import Tls, TlsSettings

KEEP_ALIVE_S: Final = 60
RECEIVE_MS: Final = 10_000
SETTLES_AT_ONCE: Final = 4  # a dead letter is a round trip: whoever else waits is answered meanwhile
PARKED: Final = ""


class Listens(Protocol):
    """The settings that every such source has."""

    @property
    def host(self) -> str:
        """Address that is listened on."""

    @property
    def port(self) -> int:
        """0 takes a free one."""

    @property
    def path(self) -> str:
        """Of the URL."""

    @property
    def connections_max(self) -> int:
        """Connections at once."""

    @property
    def certificate_file(self) -> str:
        """Empty = plain HTTP."""

    @property
    def key_file(self) -> str:
        """Its private key."""


class PushedSource(ABC):
    """What such sources share; ``_park`` is the broker's own."""

    lease_extend_ms = 0
    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLES_AT_ONCE

    def __init__(self, listens: Listens, metrics: Metrics, log: BoundLogger) -> None:
        """Read the certificate's files.

        Raises:
            ConfigError: If they can't be used.
        """
        self._listens = listens
        self._metrics = metrics
        self._log = log
        self._tls: Tls | None = None
        if listens.certificate_file:
            self._tls = Tls(TlsSettings(certificate_file=listens.certificate_file, key_file=listens.key_file))
        self._arrivals = Arrivals()
        self._listener: Listener | None = None

    # Session

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None
        return self._listener.port

    async def _listen(self, api: Any) -> None:
        listens = self._listens
        bounds = Bounds(listens.connections_max, RECEIVE_MS)
        bounds.answers, bounds.refused = self._metrics.answers, self._metrics.refused
        self._listener = Listener(listens.host, listens.port, bounds, KEEP_ALIVE_S, self._tls)
        await self._listener.serve(api)
        scheme = "http" if self._tls is None else "https"
        self._log.info("listens", address=f"{scheme}://{listens.host}:{self.port}{listens.path}")

    def _require_descriptors(self) -> None:
        require_descriptors(self._listens.connections_max)

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for what the handlers queued."""
        await self._arrivals.wait()
        return self._arrivals.take(most)

    def stop(self, units: frozenset[str]) -> None:  # noqa: B027  there is nothing to stop, for any of them
        """Stop nothing: the handlers ask for room before they queue, and what waits has a deadline."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend nothing: the deadline is the sender's."""
        return deliveries

    async def pause(self) -> Sequence[Delivery]:
        """Return what is queued; what comes from now on is answered 503 by the handlers."""
        return self._arrivals.take(len(self._arrivals.queue))

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Let each handler answer, those of dead letters when people have them."""
        now_ns = time.monotonic_ns()
        dead: list[Settlement] = []
        for settlement in settlements:
            if settlement.verb is Verb.DEAD_LETTER and not is_over(settlement.delivery, now_ns):
                dead.append(settlement)
                continue
            settlement.is_lost = settlement.verb is Verb.DEAD_LETTER  # it comes again, and then it is parked
            settlement.delivery.receipt.tell(200 if settlement.verb is Verb.ACCEPT else 503)
        if not dead:
            return ()
        failed = []
        for settlement, why in zip(dead, await self._park(dead), strict=True):
            if why == PARKED:
                settlement.delivery.receipt.tell(200)
            else:
                failed.append(settlement)
                self._log.error("dead letter not sent", why=why, id=settlement.delivery.source_id)
        return failed

    @abstractmethod
    async def _park(self, dead: Sequence[Settlement]) -> Sequence[str]:
        """Copy what is dead to where people look; return for each ``PARKED``, or why it is not there."""

    # Observe

    def lag(self) -> Lag | None:
        """Return None: what has not reached us waits at the sender, which does not say how much."""
        return None
