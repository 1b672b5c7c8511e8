"""Records of Kafka into deliveries, and ends of deliveries into records. Pure functions."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from sidecars.core.identity import derive_id, trace_of
from sidecars.core.replies import CONTENT_TYPE, reply_body
from sidecars.core.source import Delivery, Settlement
from sidecars.core.window import Receipt
from sidecars.sources.kafka_dead import place_of
from sidecars.sources.kafka_link import Outgoing
from sidecars.sources.kafka_settings import KafkaSettings

NS_PER_MS: Final = 1_000_000
KEY_BYTES: Final = 8


def delivery_of(record: Any, receipt: Receipt, now_ns: int, settings: KafkaSettings, cluster: str) -> Delivery:
    """Return the delivery of a record of the settings' topic in the cluster with this id."""
    unit = str(record.partition)
    attributes = {n: bytes(v or b"").decode("utf-8", "replace") for n, v in record.headers} or None
    place = place_of(record) if attributes else f"{unit}/{record.offset}"
    partition, _, offset = place.partition("/")
    delivery = Delivery(
        settings.principal,
        _lane(settings.topic, unit, record.key),
        trace_of(attributes.get("traceparent", "") if attributes else ""),
        max(0, record.timestamp) * NS_PER_MS,
        now_ns,
        body=record.value or b"",
        source_id=f"{settings.topic}/{unit}/{record.offset}",
        derived_id=derive_id("kafka", cluster, settings.topic, settings.incarnation, partition, offset),
        unit=unit,
        reply_to=settings.results_topic,
        receipt=receipt,
    )
    if attributes:
        delivery.attributes = attributes
        delivery.content_type = attributes.get("content-type", "")
        if asked := attributes.get("reply-to", ""):
            if asked in settings.reply_to:
                delivery.reply_to = asked
            else:
                delivery.refused = f"REPLY_TO: reply-to expected one of {list(settings.reply_to)}, was {asked[:64]!r}"
    return delivery


def _lane(topic: str, unit: str, key: bytes | None) -> str:
    """Return the ordering unit: the partition, and the key in it."""
    place = f"{topic[:200]}/{unit}"
    return f"{place}/{blake2b(key, digest_size=KEY_BYTES).hexdigest()}" if key else place


def answer_of(settlement: Settlement) -> Outgoing:
    """Return the answer to a delivery, with the record's key, and what ties it to its question."""
    delivery = settlement.delivery
    record = delivery.receipt.record
    headers = [("content-type", CONTENT_TYPE.encode()), ("x-wojak-message", delivery.source_id.encode())]
    headers += [(n, v) for n, v in record.headers if n == "correlation-id"]
    return Outgoing(delivery.reply_to, record.key, reply_body(settlement), headers)
