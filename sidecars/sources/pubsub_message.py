"""A message of Pub/Sub as a delivery: its id, its time, its lane, who waits for an answer.

Rule: an order without an id of its own gets one from the topic and the message's id there, so two subscriptions of a
topic give one order. A message that was put back keeps the id and the time it had: they stand in an attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from protocol.errors import NOT_DECODED
from sidecars.core.identity import new_trace, trace_of
from sidecars.core.letters import REPLAYED, Replayed
from sidecars.core.replies import may_reply
from sidecars.core.source import Delivery
from sidecars.sources.pubsub_settings import SUBSCRIPTIONS, TOPICS, Paths

REPLY_TO: Final = "reply_to"
CORRELATION_ID: Final = "correlation_id"
LANE_CHARS_MAX: Final = 256  # of the engine's protocol; keys that begin alike so far share a lane
NS_PER_S: Final = 1_000_000_000
_CONTENT_TYPES: Final = frozenset({"content-type", "content_type"})
_replayed: Final = msgspec.json.Decoder(Replayed)


class Receipt:
    """What is needed to settle a delivery, and to publish it to the dead letters as it came."""

    __slots__ = ("ack_id", "attributes", "body", "created_at_ns", "key", "message_id", "number", "source_id", "tell")

    def __init__(self, ack_id: str, message: Any, number: int) -> None:
        self.ack_id = ack_id
        self.number = number  # in the order received
        self.body: bytes = message.data
        attributes = message.attributes
        self.attributes: dict[str, str] = dict(attributes) if attributes else {}
        self.key: str = message.ordering_key
        self.message_id: str = message.message_id
        self.source_id = self.message_id  # of its first life, if it was put back
        self.created_at_ns = published_ns(message)
        self.tell: Callable[[int], None]  # of a push: answers it with a status


def published_ns(message: Any) -> int:
    """Return when Pub/Sub took a message, UTC; 0 = it does not say."""
    return int(message.publish_time.seconds) * NS_PER_S + int(message.publish_time.nanos)


def to_delivery(
    principal: str, paths: Paths, received: Any, number: int, received_ns: int, lease_until_ns: int
) -> Delivery:
    """Return the delivery of a message.

    Args:
        principal: Who it speaks for.
        paths: Of the source.
        received: A ReceivedMessage, as plain protobuf.
        number: It is the how manieth that this process received.
        received_ns: When, monotonic.
        lease_until_ns: When it is to be held lost, monotonic; 0 = it has no lease.
    """
    receipt = Receipt(received.ack_id, received.message, number)
    attributes = receipt.attributes
    delivery = Delivery(
        principal,
        receipt.key[:LANE_CHARS_MAX],
        new_trace(),
        receipt.created_at_ns,
        received_ns,
        body=receipt.body,
        source_id=receipt.message_id,
        lease_until_mono_ns=lease_until_ns,
        is_redelivered=received.delivery_attempt > 1,
        receipt=receipt,
        reply_to=paths.results_topic,
        derived_from=("pubsub", paths.topic, receipt.source_id),
    )
    if attributes:
        _read_attributes(delivery, receipt, paths)
    return delivery


def _read_attributes(delivery: Delivery, receipt: Receipt, paths: Paths) -> None:
    delivery.attributes = attributes = receipt.attributes
    traceparent = attributes.get("traceparent") or attributes.get("googclient_traceparent", "")
    if traceparent:
        delivery.trace_id = trace_of(traceparent)
    if REPLAYED in attributes:
        _remember(delivery, receipt, attributes[REPLAYED])
        delivery.derived_from = ("pubsub", paths.topic, receipt.source_id)
    for name, value in attributes.items():
        if name.lower() in _CONTENT_TYPES:
            delivery.content_type = value
    _address(delivery, attributes, paths)


def _remember(delivery: Delivery, receipt: Receipt, text: str) -> None:
    try:
        first = _replayed.decode(text)
    except NOT_DECODED as e:
        delivery.refused = f"REPLAY: {REPLAYED} expected what wojak sidecar dlq replay writes, was another ({e})"
        return
    receipt.source_id = first.message_id or receipt.message_id
    if first.created_at_ns > 0:
        receipt.created_at_ns = delivery.created_at_ns = first.created_at_ns


def _address(delivery: Delivery, attributes: Mapping[str, str], paths: Paths) -> None:
    """Say who waits for an answer."""
    asked = attributes.get(REPLY_TO, "")
    if not asked:
        return
    topic = asked if "/" in asked else sibling(paths.topic, TOPICS, asked)
    if may_reply(topic, paths.reply_to):
        delivery.reply_to = topic
    elif not delivery.refused:
        delivery.refused = f"REPLY_TO: {REPLY_TO} expected one of {list(paths.reply_to)}, was {asked[:64]!r}"


def sibling(path: str, kind: str, name: str) -> str:
    """Return the path of a topic or subscription in the project of another."""
    assert kind in {TOPICS, SUBSCRIPTIONS}
    return f"projects/{path.split('/')[1]}/{kind}/{name}"
