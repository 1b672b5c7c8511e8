"""Dead letters of RabbitMQ: the message as it came, and beside it why it is here.

Rule: nothing of the original is changed; what we know stands in headers that begin with ``x-wojak-``. The message id
stands in one of them too, because a published message must have one of its own.
"""

from __future__ import annotations

from typing import Any, Final

from aiormq import spec
from aiormq.abc import DeliveredMessage

from runtime.clock import wall_ns
from sidecars.core.batches import reason_of
from sidecars.core.source import Settlement
from sidecars.sources.rabbitmq_link import PERSISTENT, Outgoing

PREFIX: Final = "x-wojak-"
REASON: Final = PREFIX + "reason"
QUEUE: Final = PREFIX + "queue"
MESSAGE_ID: Final = PREFIX + "message-id"
AT_NS: Final = PREFIX + "at-ns"
RECORD: Final = PREFIX + "record"
REPLAYED_BY: Final = PREFIX + "replayed-by"
TEXT_CHARS_MAX: Final = 4_000


def parked(settlement: Settlement, message: DeliveredMessage, queue: str, exchange: str, routing_key: str) -> Outgoing:
    """Return the dead letter of a delivery."""
    original = message.header.properties
    headers: dict[str, Any] = dict(original.headers or {})
    headers |= {REASON: reason_of(settlement)[:TEXT_CHARS_MAX], QUEUE: queue, AT_NS: str(wall_ns())}
    if original.message_id:
        headers[MESSAGE_ID] = original.message_id
    if settlement.outcome is not None:
        headers[RECORD] = str(settlement.outcome.record_seq)
    properties = spec.Basic.Properties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=headers,
        delivery_mode=PERSISTENT,
        correlation_id=original.correlation_id,
        reply_to=original.reply_to,
        timestamp=original.timestamp,
        message_type=original.message_type,
        app_id=original.app_id,
    )
    return Outgoing(message.body, exchange, routing_key, properties)
