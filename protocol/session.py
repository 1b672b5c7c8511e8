"""The session between a sidecar (DEALER) and the engine (ROUTER).

    sidecar                                engine
    Hello(source, sidecar, version)   ──►
                                      ◄──  Welcome(epoch, instance, mode, credits, reserved_credits)
    Claim(unit)                       ──►
                                      ◄──  Claimed(unit, unit_epoch)
    Submit(items)                     ──►
                                      ◄──  Outcomes(items) | Retry(after_ms, reason, seqs)
                                      ◄──  Finals(items)       of what was answered HELD, once each
    Resume()                          ──►                      new risk is taken again
    Ping()                            ──►
                                      ◄──  Pong()
                                      ◄──  Drain(within_ms)    stop receiving, settle what is in flight
    Drained()                         ──►
                                      ◄──  Bye(reason)         settle nothing more, give back what is held

A Submit carries what is there; nobody waits to fill one. The engine's sends never block.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from protocol.codes import ByeReason, Code, Mode, OrderStatus, OutcomeKind, ReferenceSource, RetryReason, Scope
from protocol.orders import Name

PROTOCOL_VERSION = 1
ITEMS_MAX = 1024
TRACE_ID_BYTES = 16
INSTANCE_BYTES = 16

TraceId = Annotated[bytes, Meta(min_length=TRACE_ID_BYTES, max_length=TRACE_ID_BYTES)]
Instance = Annotated[bytes, Meta(min_length=INSTANCE_BYTES, max_length=INSTANCE_BYTES)]


class Item(Struct, array_like=True, frozen=True, gc=False):
    """One command and how it came.

    Attributes:
        seq: The sidecar's number of this delivery, unique within (source, sidecar instance); echoed in the outcome.
        unit: What one owner consumes: a partition, a shard, or the sidecar instance where consumers compete.
        unit_epoch: Issued by the engine for the claim of the unit.
        lease_left_ms: What was left of the broker's lease when this was sent; 0 = the source has no lease.
        lane: Ordering unit; items of one lane are decided in the order sent.
        principal: Who asks, as authenticated by the sidecar. The engine authorises.
        created_at_ns: When the producer made the order, UTC nanoseconds (else the broker's publish time).
        command: One msgpack ``orders.Command``, kept verbatim.
    """

    seq: Annotated[int, Meta(ge=0)]
    unit: Name
    unit_epoch: int
    lease_left_ms: int
    lane: Annotated[str, Meta(max_length=256)]
    principal: Name
    trace_id: TraceId
    created_at_ns: int
    command: Raw


class Hello(Struct, array_like=True, tag=1, frozen=True):
    """Open a session."""

    protocol_version: int
    source: Name
    sidecar: Name
    instance: Instance


class Claim(Struct, array_like=True, tag=2, frozen=True):
    """Ask to own a unit."""

    unit: Name


class Submit(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Hand over items in lane order."""

    items: Annotated[list[Item], Meta(max_length=ITEMS_MAX)]


class Ping(Struct, array_like=True, tag=4, frozen=True):
    """Ask for a sign of life."""


class Drained(Struct, array_like=True, tag=5, frozen=True):
    """Everything received is settled or given back."""


class Leave(Struct, array_like=True, tag=6, frozen=True):
    """End the session from the sidecar's side."""


class Resume(Struct, array_like=True, tag=7, frozen=True):
    """Leave the RETRY state; what was held comes again in lane order after this."""


SidecarMessage = Hello | Claim | Submit | Ping | Drained | Leave | Resume


class Facts(Struct, array_like=True, frozen=True, gc=False):
    """What decided a refusal: the limit, the value, the scope, the reference.

    Amounts in 1e-9, ages in ns; sums are unbounded, so beyond int64 they are decimal text (DESIGN 4). ``leg``: of a
    basket, from 1; 0 = all of it, or no basket. ``deadline_ns``: until when a HELD order waits, UTC;
    0 = it is not held.
    """

    expected: int | str = 0
    actual: int | str = 0
    scope: Scope = Scope.GLOBAL
    key: str = ""
    reference_e9: int = 0
    reference_age_ns: int = 0
    reference_source: ReferenceSource = ReferenceSource.NONE
    leg: int = 0
    deadline_ns: int = 0


class Outcome(Struct, array_like=True, frozen=True, gc=False):
    """What became of one item.

    Attributes:
        item_seq: ``Item.seq`` of the delivery answered.
        record_seq: Sequence number of the journal record that holds the decision; for DUPLICATE, of the first one.
        order_status: State of the order when this was decided.
        position_after_e9: Worst-case position on the order's side if everything pending fills, in 1e-9; signed.
        position_limit_e9: Tightest position limit that applies, in 1e-9; -1 = none.
        first: For DUPLICATE, the outcome the first delivery got.
    """

    item_seq: int
    kind: OutcomeKind
    code: Code
    order_id: str
    record_seq: int
    order_status: OrderStatus
    checks_passed: int = 0
    position_after_e9: int = 0
    position_limit_e9: int = -1
    facts: Facts | None = None
    first: Outcome | None = None


class Welcome(Struct, array_like=True, tag=1, frozen=True):
    """The session is open."""

    protocol_version: int
    shard: int
    epoch: int
    instance: Instance
    mode: Mode
    credits: int
    reserved_credits: int


class Claimed(Struct, array_like=True, tag=2, frozen=True):
    """The unit is yours under this epoch."""

    unit: Name
    unit_epoch: int


class Outcomes(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Answers to items, in the order they were decided. Each one is durable.

    ``durable_after_ns``: from the receipt of the batch's first message to the end of its sync. ``epoch``: of the engine
    that answers, so that nobody takes the word of an older one whom a connection made anew has led to; 0 = not said.
    """

    items: list[Outcome]
    durable_after_ns: int = 0
    epoch: int = 0


class Credit(Struct, array_like=True, tag=4, frozen=True):
    """New bounds on what may be unanswered."""

    credits: int
    reserved_credits: int


class Pong(Struct, array_like=True, tag=5, frozen=True):
    """A sign of life."""


class Drain(Struct, array_like=True, tag=6, frozen=True):
    """Stop receiving; settle what is in flight within ``within_ms``."""

    within_ms: int


class Bye(Struct, array_like=True, tag=7, frozen=True):
    """The session is over. No outcome follows."""

    reason: ByeReason
    text: str = ""


class Retry(Struct, array_like=True, tag=8, frozen=True):
    """These items were not taken; nothing was journaled. New risk waits for Resume."""

    after_ms: int
    reason: RetryReason
    item_seqs: list[int]


class Finals(Struct, array_like=True, tag=9, frozen=True, gc=False):
    """What became of deliveries that were answered HELD: one for each, behind that answer (DECISIONS 13)."""

    items: list[Outcome]
    epoch: int = 0


EngineMessage = Welcome | Claimed | Outcomes | Credit | Pong | Drain | Bye | Retry | Finals

sidecar_decoder: msgspec.msgpack.Decoder[SidecarMessage] = msgspec.msgpack.Decoder(SidecarMessage)
engine_decoder: msgspec.msgpack.Decoder[EngineMessage] = msgspec.msgpack.Decoder(EngineMessage)
