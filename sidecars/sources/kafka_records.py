"""Records of Kafka into deliveries, and ends of deliveries into records. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from sidecars.core.identity import new_trace, trace_of
from sidecars.core.replies import CONTENT_TYPE, reply_body
from sidecars.core.source import Delivery, Settlement
from sidecars.core.window import Window
from sidecars.sources.kafka_dead import PLACE, place_of
from sidecars.sources.kafka_link import Outgoing
from sidecars.sources.kafka_settings import KafkaSettings

NS_PER_MS: Final = 1_000_000
KEY_BYTES: Final = 8


def deliveries_of(
    window: Window, records: Sequence[Any], now_ns: int, settings: KafkaSettings, cluster: str
) -> list[Delivery]:
    """Return the deliveries of records of one partition, each handed out in its window.

    Args:
        window: Of the partition.
        records: In the order received.
        now_ns: When, monotonic.
        settings: With the topic.
        cluster: The cluster's id.
    """
    principal, reply_to, incarnation = settings.principal, settings.results_topic, settings.incarnation
    topic, unit = settings.topic, str(window.partition)
    lane, place = f"{topic[:200]}/{unit}", f"{topic}/{unit}/"
    hand_out = window.hand_out
    made = []
    for record in records:
        offset = str(record.offset)
        receipt = hand_out(record.offset, record)
        receipt.delivery = delivery = Delivery(
            principal,
            _lane(lane, record.key) if record.key else lane,
            new_trace(),
            max(0, record.timestamp) * NS_PER_MS,
            now_ns,
            body=record.value or b"",
            source_id=place + offset,
            unit=unit,
            reply_to=reply_to,
            receipt=receipt,
            derived_from=("kafka", cluster, topic, incarnation, unit, offset),
        )
        if record.headers:
            _read_headers(delivery, record, settings)
        made.append(delivery)
    return made


def _read_headers(delivery: Delivery, record: Any, settings: KafkaSettings) -> None:
    delivery.attributes = attributes = {n: (v or b"").decode("utf-8", "replace") for n, v in record.headers}
    if PLACE in attributes:
        partition, _, offset = place_of(record).partition("/")
        delivery.derived_from = (*delivery.derived_from[:-2], partition, offset)
    if "traceparent" in attributes:
        delivery.trace_id = trace_of(attributes["traceparent"])
    delivery.content_type = attributes.get("content-type", "")
    if asked := attributes.get("reply-to", ""):
        if asked in settings.reply_to:
            delivery.reply_to = asked
        else:
            delivery.refused = f"REPLY_TO: reply-to expected one of {list(settings.reply_to)}, was {asked[:64]!r}"


def _lane(place: str, key: bytes) -> str:
    """Return the ordering unit: the partition, and the key in it."""
    return f"{place}/{blake2b(key, digest_size=KEY_BYTES).hexdigest()}"


def answer_of(settlement: Settlement) -> Outgoing:
    """Return the answer to a delivery, with the record's key, and what ties it to its question."""
    delivery = settlement.delivery
    record = delivery.receipt.record
    headers = [("content-type", CONTENT_TYPE.encode()), ("x-wojak-message", delivery.source_id.encode())]
    headers += [(n, v) for n, v in record.headers if n == "correlation-id"]
    return Outgoing(delivery.reply_to, record.key, reply_body(settlement), headers)
