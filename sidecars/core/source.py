"""The contract between the one loop and a message source.

A source knows its broker and nothing of trading; the loop knows the engine and nothing of brokers. A source file has
the same sections in the same order everywhere: Facts (docstring) → limits → Settings → Session (open, close) ·
Receive (receive, extend, pause) · Settle (settle, reply) · Observe (lag) → Translation.

Rules kept together (SOURCES section 1): nothing is settled before the engine's answer (R1); a lost delivery is no
error (R2); credits bound what is received (R6); a refused payload is parked, then settled (R8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

from msgspec import Struct

from protocol.codes import Mode
from protocol.errors import SourceError
from protocol.orders import Command
from protocol.session import Outcome


class SourceFailedError(SourceError):
    """The source can't go on; the process ends and its supervisor starts it anew."""

    code = "SOURCE_FAILED"

    def __init__(self, source: str, why: str) -> None:
        self.source = source
        super().__init__(f"{self.code}: source {source} expected to receive and settle, was stopped by: {why}")


class Delivery(Struct):
    """One hand-over by a source. Times ``*_mono_ns`` are monotonic nanoseconds, ``created_at_ns`` is UTC.

    Attributes:
        created_at_ns: When the producer, else the broker, says it was published; 0 = neither does.
        command: The decoded command, where the source had to look inside; else None, and ``body`` is decoded here.
        body: An order, a JSON array of orders or a CloudEvent; not read when ``command`` is there.
        source_id: The source's own id of the message, for logs and metrics only.
        derived_id: client_order_id for a body that has none (DECISIONS 17); empty = such a body is dead-lettered.
        derived_from: What ``identity.derive_id`` makes that id of when it is asked for; empty = it is ``derived_id``.
        lane: Ordering unit; deliveries of one lane are decided in the order received.
        lease_until_mono_ns: When the source takes the delivery back; 0 = it has no lease.
        unit: What the source can stop by itself, such as a partition; empty = only the source as a whole.
        reply_to: Where an answer is published; empty = nowhere.
        is_redelivered: Whether the broker says that it was delivered before.
        receipt: The source's own handle for settling; nobody else looks inside. One that will hold the settlement is
            taken out of the delivery first, else each delivery is a cycle for the collector.
        content_type: What the message says its body is; empty = it does not.
        attributes: The message's headers as texts, for envelopes; None = it has none.
        held_until_mono_ns: Until then a HELD delivery waits for its FINAL, and is then settled as HELD; 0 = HELD ends
            it at once, or where it has a reply address its lease does.
        refused: Why the source can't let it through, for people: it goes to the dead letters unread; empty = it can.
    """

    principal: str
    lane: str
    trace_id: bytes
    created_at_ns: int
    received_mono_ns: int
    command: Command | None = None
    body: bytes = b""
    source_id: str = ""
    derived_id: str = ""
    lease_until_mono_ns: int = 0
    unit: str = ""
    reply_to: str = ""
    is_redelivered: bool = False
    receipt: Any = None
    content_type: str = ""
    attributes: Mapping[str, str] | None = None
    refused: str = ""
    derived_from: tuple[str, ...] = ()
    held_until_mono_ns: int = 0


class Verb(IntEnum):
    """How a delivery ends."""

    ACCEPT = 1  # the engine decided, durably: settle positively
    DEAD_LETTER = 2  # copy to the dead letters with the reason, then settle positively
    RETRY = 3  # the engine did not take it, for certain: give it back
    ABANDON = 4  # nobody knows whether the engine took it, or the lease is gone: never settle negatively


class Why(IntEnum):
    """Why a delivery ends without an outcome."""

    NONE = 0
    ENGINE_AWAY = 1
    ENGINE_BUSY = 2  # RETRY by the engine
    DRAINING = 3
    LEASE_OVER = 4
    SESSION_OVER = 5  # the engine said Bye
    MALFORMED = 6


class Settlement(Struct):
    """The end of one delivery. ``outcome`` is the engine's as it came, or None: it is never made up here.

    The collector sees it: through a delivery's receipt it may come to refer to itself, and would then never be freed.

    ``is_unknown``: the engine may have taken it, and nobody has said so. ``*_mono_ns`` are 0 without an outcome.
    ``parts``: of a batch, the end of each item in order; empty for a single order.
    ``is_lost``: set by the source that could not settle because the broker has taken the delivery back (R2): it comes
    again, and the engine answers with the first outcome.
    """

    delivery: Delivery
    verb: Verb
    outcome: Outcome | None = None
    why: Why = Why.NONE
    text: str = ""
    is_unknown: bool = False
    mode: Mode = Mode.PAPER
    durable_after_ns: int = 0
    submitted_mono_ns: int = 0
    answered_mono_ns: int = 0
    parts: Sequence[Settlement] = ()
    is_lost: bool = False


class Lag(Struct, frozen=True):
    """What still waits at the broker: messages, and the age of the oldest in nanoseconds, -1 where it can't be told."""

    messages: int
    oldest_age_ns: int


class Flow(Protocol):
    """What a source may ask about the engine session."""

    @property
    def is_open(self) -> bool:
        """Whether deliveries are taken now: the session is open and nothing drains."""

    @property
    def why_closed(self) -> Why:
        """ENGINE_AWAY or DRAINING while not open."""

    @property
    def fault(self) -> str:
        """What the engine last complained of, or was refused for; empty when nothing."""

    @property
    def mode(self) -> Mode:
        """The engine's mode."""

    @property
    def epoch(self) -> int:
        """The engine's epoch; 0 before the first session."""

    def room(self, *, reserved: bool) -> int:
        """Return how many more deliveries are taken; ``reserved`` counts the part kept for cancels and exits too."""


class Engines(Flow, Protocol):
    """What a source may ask about all engines. What ``Flow`` says of them together: open = at least one is."""

    @property
    def shards(self) -> Sequence[Flow]:
        """Each engine's session, shard 0 first."""

    def of(self, account: str) -> Flow:
        """Return the session that orders of the account go to."""

    def shard_of(self, account: str) -> int | None:
        """Return the number of that shard; None where there is one engine only."""

    def claim(self, units: Iterable[str], now_ns: int) -> None:
        """Say what the broker has assigned to us now (``Delivery.unit``), each time anew (DECISIONS 38).

        For brokers where a unit has one owner at a time: whoever claims it last has it, and what an earlier owner
        still sends of it is not taken: such a delivery ends as one whose lease is over.
        """


class Source(Protocol):
    """One message source.

    It may also have ``settles_at_once``: how many calls of ``settle`` it takes side by side; without it one, and what
    ends meanwhile waits for the next. More than one is for brokers that answer each call by itself, after a round trip.
    """

    name: str
    lease_extend_ms: int  # what one extension gives; 0 = leases can't be extended
    tells_reserved: bool  # whether it knows cancels and exits before it receives them, and so may use the reserve
    tells_account: bool  # whether it asks ``Engines.of`` before it receives; what it offers has a place

    async def open(self, flow: Engines) -> None:
        """Connect or listen.

        Raises:
            ConfigError: If the settings can't work.
        """

    async def close(self) -> None:
        """Disconnect; what is not settled goes back to the broker."""

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for deliveries; at most ``most``, or up to ``most_reserved`` if the rest are cancels and exits."""

    def stop(self, units: frozenset[str]) -> None:
        """Receive nothing of these units (``Delivery.unit``) until told otherwise; each call replaces the one before.

        Called when what a unit feeds is full or has place again; a ``receive`` that waits must notice (DECISIONS 39).
        """

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend leases, moving ``lease_until_mono_ns``; return those that failed."""

    async def pause(self) -> Sequence[Delivery]:
        """Stop pulling; return what was pulled and not yet received, to be given back."""

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """End deliveries; return those that failed and shall be tried again. What is lost is marked ``is_lost``."""

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Publish ends to each ``delivery.reply_to`` (``replies.reply_body``), durably, before they are settled.

        Returns:
            Those that could not be published: they are not settled now, but tried again.
        """

    def lag(self) -> Lag | None:
        """Return what waits at the broker; None if the source can't know."""

    def fault(self) -> str:
        """Return why nothing can be received or settled now, for readiness; empty while it can."""
