"""Records of Kinesis into deliveries. Pure functions.

Rules: records have no headers, so what a message is stands in its bytes: a record that the producer library (KPL) has
aggregated is refused with the reason, never guessed at; one that was put back begins with a line of ours that says
which it was, so that it keeps its id and its time.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.errors import NOT_DECODED
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.source import Delivery
from sidecars.core.window import Receipt
from sidecars.sources.kinesis_link import Stream
from sidecars.sources.kinesis_settings import KinesisSettings

KPL_MAGIC: Final = b"\xf3\x89\x9a\xc2"  # aws/amazon-kinesis-producer, aggregation-format.md
REPLAY_MAGIC: Final = b"x-wojak-replay "
NS_PER_MS: Final = 1_000_000
KEY_BYTES: Final = 8
AGGREGATED: Final = (
    "AGGREGATED: record expected one message, was several that the Kinesis producer library has put together; switch "
    "AggregationEnabled off in the producer, or send an array of orders"
)


class Replayed(Struct, frozen=True, omit_defaults=True):
    """What a record that was put back brings of its first life.

    Attributes:
        place: Shard and number it had, as ``shard/number``, so that an order without an id stays the same order.
        created_at_ns: When it was sent first, UTC.
        by: Who changed it; empty = nobody.
    """

    place: str
    created_at_ns: int
    by: str = ""


_replayed: Final = msgspec.json.Decoder(Replayed)


def delivery_of(
    record: dict[str, Any],
    receipt: Receipt,
    stream: Stream,
    settings: KinesisSettings,
    shard: str,
    now_ns: int,
    until_ns: int,
) -> Delivery:
    """Return the delivery of a record of a shard, received then and leased until then, both monotonic."""
    place = f"{shard}/{record['SequenceNumber']}"
    body: bytes = record["Data"]
    delivery = Delivery(
        settings.principal,
        _lane(stream.name, shard, record["PartitionKey"]),
        trace_of(""),
        created_ns(record),
        now_ns,
        body=body,
        lease_until_mono_ns=until_ns,
        unit=shard,
        receipt=receipt,
        content_type=settings.content_type,
    )
    if body.startswith(REPLAY_MAGIC):
        place = _open(delivery, place)
    elif body.startswith(KPL_MAGIC):
        delivery.refused = AGGREGATED
    delivery.source_id = f"{stream.name}/{place}"
    first_shard, _, number = place.partition("/")
    delivery.derived_id = derive_id("kinesis", stream.arn, str(stream.created_s), first_shard, number)
    return delivery


def _open(delivery: Delivery, place: str) -> str:
    """Take a record that was put back out of our line; return where it was first."""
    line, _, body = delivery.body[len(REPLAY_MAGIC) :].partition(b"\n")
    try:
        first = _replayed.decode(line)
    except NOT_DECODED as e:
        delivery.refused = f"REPLAY: first line expected what wojak sidecar dlq replay writes, was another ({e})"
        return place
    delivery.body = body
    if first.created_at_ns > 0:
        delivery.created_at_ns = first.created_at_ns
    if body.startswith(KPL_MAGIC):
        delivery.refused = AGGREGATED
    return first.place or place


def put_back(first: Replayed, body: bytes) -> bytes:
    """Return what a record that is put back contains."""
    return REPLAY_MAGIC + msgspec.json.encode(first) + b"\n" + body


def created_ns(record: dict[str, Any]) -> int:
    """Return when Kinesis got a record, to the millisecond; 0 = it does not say."""
    at = record.get("ApproximateArrivalTimestamp")
    return 0 if at is None else round(at.timestamp() * 1_000) * NS_PER_MS


def _lane(stream: str, shard: str, key: str) -> str:
    """Return the ordering unit: the shard, and the partition key in it."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).hexdigest()
    return f"{stream}/{shard}/{digest}"
