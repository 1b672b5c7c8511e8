"""Dead letters of Kinesis: an SQS queue gets the record as it came, with the reason beside it (DECISIONS 40).

Rules: SQS takes texts only and at most 256 KiB everywhere: a record that is none, or is larger, goes as base64 in as
many messages as it needs, each with the same reason; a letter is there when all its parts are. What we know of the
record stands in an attribute, so that it can be put back as it was.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from runtime.clock import wall_ns
from sidecars.core.batches import reason_of
from sidecars.core.source import Settlement
from sidecars.sources.kinesis_link import Stream
from sidecars.sources.sqs_dead import ORIGINAL, REASON, REASON_CHARS_MAX, in_group, text_attribute

PART_CHARS: Final = 192 << 10
EMPTY: Final = "-"  # SQS takes no empty text; decoded it is nothing
_TEXT: Final = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


class Original(Struct, frozen=True, omit_defaults=True):
    """What a dead letter was.

    Attributes:
        stream: ARN of the stream it came from.
        place: Shard and number, as ``shard/number``, at its first life.
        partition_key: The producer's.
        created_at_ns: When it was sent first, UTC.
        at_ns: When it was refused, UTC.
        record: The engine's record that refused it; 0 = it never reached the engine.
        part: This message is the how manieth part, from 1.
        parts: Of how many; the body is then base64.
        is_base64: Whether the body is base64.
    """

    stream: str
    place: str
    partition_key: str
    created_at_ns: int
    at_ns: int
    record: int = 0
    part: int = 1
    parts: int = 1
    is_base64: bool = False


def parked(settlement: Settlement, stream: Stream, target: str) -> Sequence[dict[str, Any]]:
    """Return the messages of a dead letter for a queue named ``target``."""
    delivery = settlement.delivery
    record = delivery.receipt.record
    place = delivery.source_id.partition("/")[2]
    bodies, is_base64 = split(delivery.body)
    reason = text_attribute(reason_of(settlement)[:REASON_CHARS_MAX])
    found = []
    for number, body in enumerate(bodies, 1):
        original = Original(
            stream=stream.arn,
            place=place,
            partition_key=record["PartitionKey"],
            created_at_ns=delivery.created_at_ns,
            at_ns=wall_ns(),
            record=settlement.outcome.record_seq if settlement.outcome is not None else 0,
            part=number,
            parts=len(bodies),
            is_base64=is_base64,
        )
        message: dict[str, Any] = {
            "MessageBody": body,
            "MessageAttributes": {REASON: reason, ORIGINAL: text_attribute(msgspec.json.encode(original).decode())},
        }
        found.append(in_group(message, target, place[-128:], f"{place[-100:]}-{number}"))
    return found


def split(body: bytes) -> tuple[Sequence[str], bool]:
    """Return a body as texts that SQS takes, and whether they are base64."""
    text = _text(body)
    if text is not None:
        return [text], False
    encoded = base64.b64encode(body).decode()
    return [encoded[at : at + PART_CHARS] for at in range(0, len(encoded), PART_CHARS)] or [EMPTY], True


def _text(body: bytes) -> str | None:
    if not 0 < len(body) <= PART_CHARS:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if _TEXT.fullmatch(text) else None


def join(parts: Sequence[str], *, is_base64: bool) -> bytes:
    """Return the body of which these are the parts."""
    return base64.b64decode("".join(parts)) if is_base64 else "".join(parts).encode()
