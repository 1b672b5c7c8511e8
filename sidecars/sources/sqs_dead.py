"""What SQS is sent by us: dead letters with their reason, answers.

Rule: a dead letter is the message as it came, and beside it in two attributes why it is here and what SQS gave it: id,
time, group. SQS takes ten attributes; where the original has more than eight, its own stand in ours.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from runtime.clock import wall_ns
from sidecars.core.batches import reason_of
from sidecars.core.letters import PREFIX
from sidecars.core.replies import CONTENT_TYPE, reply_body
from sidecars.core.source import Settlement
from sidecars.sources.sqs_link import BATCH, BATCH_BYTES
from sidecars.sources.sqs_message import CORRELATION_ID, Receipt
from sidecars.sources.sqs_settings import FIFO

REASON: Final = PREFIX + "reason"
ORIGINAL: Final = PREFIX + "original"
ATTRIBUTES_MAX: Final = 10
OURS: Final = 2
REASON_CHARS_MAX: Final = 4_000
_UNSENDABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Original(Struct, frozen=True, omit_defaults=True):
    """What a dead letter was.

    Attributes:
        queue: ARN of the queue it came from.
        message_id: Its id there, at its first life.
        created_at_ns: When it was sent first, UTC.
        at_ns: When it was refused, UTC.
        record: The engine's record that refused it; 0 = it never reached the engine.
        group: Its message group; empty = none.
        attributes: Its own attributes, where they had no place beside ours.
    """

    queue: str
    message_id: str
    created_at_ns: int
    at_ns: int
    record: int = 0
    group: str = ""
    attributes: Mapping[str, Mapping[str, str]] = {}


def text_attribute(value: str) -> dict[str, str]:
    """Return an attribute; what SQS does not take in a text is shown as a question mark."""
    return {"DataType": "String", "StringValue": _UNSENDABLE.sub("?", value) or "?"}


def parked(settlement: Settlement, arn: str, target: str) -> dict[str, Any]:
    """Return the dead letter of a delivery for a queue named ``target``."""
    receipt: Receipt = settlement.delivery.receipt
    group = (receipt.message.get("Attributes") or {}).get("MessageGroupId", "")
    own = without_ours(receipt.message)
    has_place = len(own) <= ATTRIBUTES_MAX - OURS
    original = Original(
        queue=arn,
        message_id=receipt.source_id,
        created_at_ns=receipt.created_at_ns,
        at_ns=wall_ns(),
        record=settlement.outcome.record_seq if settlement.outcome is not None else 0,
        group=group,
        attributes={} if has_place else _as_texts(own),
    )
    found: dict[str, Any] = {
        "MessageBody": receipt.message["Body"],
        "MessageAttributes": {
            **(own if has_place else {}),
            REASON: text_attribute(reason_of(settlement)[:REASON_CHARS_MAX]),
            ORIGINAL: text_attribute(msgspec.json.encode(original).decode()),
        },
    }
    return in_group(found, target, receipt.message_id, f"{receipt.message_id}-dead")


def reply(settlement: Settlement, target: str) -> dict[str, Any]:
    """Return the answer to a delivery for a queue named ``target``."""
    delivery = settlement.delivery
    receipt: Receipt = delivery.receipt
    correlation_id = (delivery.attributes or {}).get(CORRELATION_ID, "") or receipt.source_id
    found: dict[str, Any] = {
        "MessageBody": reply_body(settlement).decode(),
        "MessageAttributes": {
            "content_type": text_attribute(CONTENT_TYPE), CORRELATION_ID: text_attribute(correlation_id),
        },
    }  # fmt: skip
    return in_group(found, target, delivery.lane[:128], f"{receipt.message_id}-reply")


def in_group(message: dict[str, Any], target: str, group: str, deduplication_id: str) -> dict[str, Any]:
    """Give a message what a FIFO queue wants of it."""
    if target.endswith(FIFO):
        message |= {"MessageGroupId": group, "MessageDeduplicationId": deduplication_id}
    return message


def without_ours(message: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a message's attributes as they can be sent again, without those that we gave it."""
    return {
        name: {k: v for k, v in value.items() if k in {"DataType", "StringValue", "BinaryValue"}}
        for name, value in (message.get("MessageAttributes") or {}).items()
        if not name.startswith(PREFIX)
    }


def _as_texts(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    return {
        name: {k: base64.b64encode(v).decode() if isinstance(v, bytes) else str(v) for k, v in value.items()}
        for name, value in attributes.items()
    }


def from_texts(attributes: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return attributes as they were before they stood in ``Original.attributes``."""
    return {
        name: {k: base64.b64decode(v) if k == "BinaryValue" else v for k, v in value.items()}
        for name, value in attributes.items()
    }


def in_calls(messages: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Return which of the messages go in one call: at most ten, and no more bytes than SQS takes everywhere."""
    calls: list[list[int]] = []
    size = 0
    for number, message in enumerate(messages):
        bytes_ = _size(message)
        if not calls or len(calls[-1]) == BATCH or size + bytes_ > BATCH_BYTES:
            calls.append([])
            size = 0
        calls[-1].append(number)
        size += bytes_
    return calls


def _size(message: Mapping[str, Any]) -> int:
    attributes = message["MessageAttributes"].items()
    return len(message["MessageBody"].encode("utf-8", "surrogatepass")) + sum(
        len(name) + sum(len(v) if isinstance(v, bytes) else len(v.encode()) for v in value.values())
        for name, value in attributes
    )
