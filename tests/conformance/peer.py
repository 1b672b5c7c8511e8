"""What a source's tests bring to the suite of ``tests/conformance/source.py``: the broker, and one resource of it.

A source implements ``Broker`` (the server process, started once a test module) and ``Peer`` (a queue, topic or stream
of its own for each test, with its dead letters). Everything else, engine, sidecars, journal, faults and claims, is the
suite's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class Message(Struct, frozen=True, kw_only=True):
    """A message of a producer.

    Attributes:
        body: As it is sent.
        message_id: The producer's or broker's id, where the source has one that the producer sets.
        key: Ordering key, where the source has one.
        reply_to: Where the producer waits, where the source has replies.
        headers: Attributes of the message.
        content_type: Of the body.
        has_time: Whether the broker stamps it, or the producer does: without, it has no publish time.
    """

    body: bytes
    message_id: str = ""
    key: str = ""
    reply_to: str = ""
    headers: Mapping[str, str] = {}
    content_type: str = ""
    has_time: bool = True


class Dead(Struct, frozen=True):
    """A dead letter: the original's bytes and the reason beside it."""

    body: bytes
    reason: str


class Broker(ABC):
    """A real broker, or the closest real server (its differences are written in the tests that they would mislead).

    Attributes:
        has_network: Whether its clients come over TCP to ``port``, where the fault proxy can stand.
    """

    has_network = True

    @abstractmethod
    def start(self) -> None:
        """Start it, or start it again with the data it had; return when it serves."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it as an operator would; what it has must be there after the next ``start``."""

    @abstractmethod
    def end(self) -> None:
        """Leave nothing running."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port its clients connect to, for the fault proxy."""

    @abstractmethod
    def peer(self, name: str) -> Peer:
        """Return a new resource with its dead letters, and a place for replies where the source has them."""


class Peer(ABC):
    """One resource of a running broker.

    Attributes:
        kind: The kind of source that reads it, as in ``wojak sidecar``.
        has_replies: Whether answers can be published.
        has_message_id: Whether a message without a client_order_id gets an id that is stable across redeliveries.
        names_all: Whether the broker gives each message an id, so that none is without.
        has_headers: Whether messages have headers, so that an event may be in binary mode.
        keeps_order: Whether the effects of what one unit (or key) was sent have its order.
        lease_ms: What one extension of a lease gives, in the settings that ``settings()`` returns; 0 = it can't be
            extended. A few seconds: a test waits three of them.
        bound: The most messages a sidecar of ``settings()`` may hold unsettled (R6).
        many: How many messages the test of many sends (DECISIONS 41).
    """

    kind: str
    has_replies = False
    has_message_id = True
    names_all = False
    has_headers = True
    keeps_order = True
    lease_ms = 0
    bound = 500
    many = 10_000

    @abstractmethod
    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return the environment of a sidecar: address and credentials; ``port``: of a proxy before the broker."""

    @abstractmethod
    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads this resource as principal ``bench``."""

    @abstractmethod
    def send(self, messages: Sequence[Message]) -> None:
        """Publish in order; return when the broker has them durably."""

    @abstractmethod
    def waiting(self) -> int:
        """Return how many messages are not settled, taken ones included, as the broker says; it may be a little old."""

    @abstractmethod
    def left(self) -> list[bytes]:
        """Take out what was not settled and return it; no sidecar runs any more, and what those held has come back."""

    @abstractmethod
    def dead(self) -> list[Dead]:
        """Take the dead letters out and return them."""

    def replies(self) -> list[bytes]:
        """Take the answers out of ``reply_to`` and return them."""
        raise NotImplementedError

    @property
    def reply_to(self) -> str:
        """Where producers of this resource wait for answers."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Let the client go."""
