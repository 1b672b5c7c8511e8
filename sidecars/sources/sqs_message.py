"""A message of SQS as a delivery: its id, its time, its lane; the SNS envelope opened where one is declared.

Rules: what a message is stands in the settings, never in what its body looks like; what breaks them is refused with the
reason, unread. A message that was put back keeps the id and the time it had: they stand in an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.errors import NOT_DECODED
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.letters import REPLAYED, Replayed
from sidecars.core.replies import may_reply
from sidecars.core.source import Delivery
from sidecars.sources.sqs_settings import SqsSettings
from sidecars.sources.stepfunctions_tokens import ADDRESS, TOKEN_CHARS_MAX

REPLY_TO: Final = "reply_to"
CORRELATION_ID: Final = "correlation_id"
TASK: Final = "task_token"
NS_PER_MS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CONTENT_TYPES: Final = frozenset({"content-type", "content_type"})


class Receipt:
    """What is needed to settle a delivery, and to send it to the dead letters as it came."""

    __slots__ = ("created_at_ns", "handle", "message", "message_id", "number", "receives", "source_id")

    def __init__(self, message: dict[str, Any], number: int) -> None:
        self.message = message
        self.number = number  # in the order received
        self.handle = str(message["ReceiptHandle"])
        self.message_id = str(message["MessageId"])
        self.source_id = self.message_id  # of its first life, if it was put back
        self.created_at_ns = 0
        self.receives = 1


class _SnsAttribute(Struct, frozen=True):
    type: str = msgspec.field(name="Type")
    value: str = msgspec.field(name="Value")


class _Notification(Struct, frozen=True):
    """What SNS wraps around a message; signatures are not looked at: who may send stands in the queue's policy."""

    type: str = msgspec.field(name="Type")
    message_id: str = msgspec.field(name="MessageId")
    topic_arn: str = msgspec.field(name="TopicArn")
    message: str = msgspec.field(name="Message")
    timestamp: str = msgspec.field(name="Timestamp")
    attributes: dict[str, _SnsAttribute] = msgspec.field(name="MessageAttributes", default_factory=dict)


_replayed: Final = msgspec.json.Decoder(Replayed)
_notification: Final = msgspec.json.Decoder(_Notification)


def to_delivery(
    settings: SqsSettings, arn: str, message: dict[str, Any], number: int, received_ns: int, lease_until_ns: int
) -> Delivery:
    """Return the delivery of a message.

    Args:
        settings: Of the source.
        arn: Of its queue.
        message: As boto3 gives it.
        number: It is the how manieth that this process received.
        received_ns: When, monotonic.
        lease_until_ns: When it is to be held lost, monotonic.
    """
    system = message.get("Attributes") or {}
    attributes = texts(message.get("MessageAttributes") or {})
    receipt = Receipt(message, number)
    receipt.receives = int(system.get("ApproximateReceiveCount", "1"))
    receipt.created_at_ns = int(system.get("SentTimestamp", "0")) * NS_PER_MS
    delivery = Delivery(
        settings.principal,
        system.get("MessageGroupId", "") if settings.is_fifo else settings.queue,
        trace_of(attributes.get("traceparent", "")),
        receipt.created_at_ns,
        received_ns,
        body=str(message.get("Body", "")).encode("utf-8", "surrogatepass"),
        source_id=receipt.message_id,
        lease_until_mono_ns=lease_until_ns,
        is_redelivered=receipt.receives > 1,
        receipt=receipt,
    )
    if REPLAYED in attributes:
        _remember(delivery, receipt, attributes[REPLAYED])
    delivery.derived_id = derive_id("sqs", arn, receipt.source_id)
    if settings.envelope == "sns":
        attributes = _open(delivery, settings.topics)
    _address(delivery, attributes, settings)
    return delivery


def _remember(delivery: Delivery, receipt: Receipt, text: str) -> None:
    try:
        first = _replayed.decode(text)
    except NOT_DECODED as e:
        delivery.refused = f"REPLAY: {REPLAYED} expected what wojak sidecar dlq replay writes, was another ({e})"
        return
    receipt.source_id = first.message_id or receipt.message_id
    if first.created_at_ns > 0:
        receipt.created_at_ns = delivery.created_at_ns = first.created_at_ns


def _open(delivery: Delivery, topics: Iterable[str]) -> dict[str, str]:
    """Take a message out of its SNS envelope; return its attributes."""
    delivery.derived_id = ""
    try:
        inner = _notification.decode(delivery.body)
    except NOT_DECODED as e:
        delivery.refused = f"ENVELOPE: body expected the JSON of an SNS notification, was another ({e})"
        return {}
    if inner.type != "Notification":
        delivery.refused = f"ENVELOPE: Type expected Notification, was {inner.type[:64]!r}"
        return {}
    if inner.topic_arn not in topics:
        delivery.refused = f"ENVELOPE: TopicArn expected one of {list(topics)}, was {inner.topic_arn[:255]!r}"
        return {}
    try:
        delivery.created_at_ns = published_ns(inner.timestamp)
    except ValueError:
        delivery.refused = f"ENVELOPE: Timestamp expected as in 2026-08-24T09:15:02.114Z, was {inner.timestamp[:64]!r}"
        return {}
    delivery.body = inner.message.encode("utf-8", "surrogatepass")
    delivery.derived_id = derive_id("sns", inner.topic_arn, inner.message_id)
    found = {name: a.value for name, a in inner.attributes.items() if a.type.partition(".")[0] != "Binary"}
    delivery.trace_id = trace_of(found.get("traceparent", ""))
    return found


def _address(delivery: Delivery, attributes: Mapping[str, str], settings: SqsSettings) -> None:
    """Say what the body is, and who waits for an answer."""
    delivery.attributes = attributes or None
    for name, value in attributes.items():
        if name.lower() in _CONTENT_TYPES:
            delivery.content_type = value
    reply_to, token = attributes.get(REPLY_TO, ""), attributes.get(TASK, "")
    refused = ""
    if token:
        if not settings.task_tokens or reply_to or len(token) > TOKEN_CHARS_MAX:
            refused = f"TASK_TOKEN: {TASK} expected where task_tokens is set, without {REPLY_TO}, was there"
        else:
            delivery.reply_to = ADDRESS + token
    elif reply_to:
        if may_reply(reply_to, settings.reply_to):
            delivery.reply_to = reply_to
        else:
            refused = f"REPLY_TO: {REPLY_TO} expected one of {list(settings.reply_to)}, was {reply_to[:64]!r}"
    delivery.refused = delivery.refused or refused


def texts(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the attributes of a message that are texts or numbers."""
    return {name: str(a["StringValue"]) for name, a in attributes.items() if "StringValue" in a}


def published_ns(timestamp: str) -> int:
    """Return an SNS timestamp as UTC nanoseconds.

    Raises:
        ValueError: If it is none, or has no time zone.
    """
    at = datetime.fromisoformat(timestamp)
    if at.tzinfo is None or at < _EPOCH:
        raise ValueError(timestamp)
    return (at - _EPOCH) // _MICROSECOND * 1_000
