"""What we publish: dead letters with their reason, answers.

Rule: a dead letter is the message as it came, and beside it, in three attributes, why it is here, what Pub/Sub gave it,
and its ordering key. Pub/Sub takes 100 attributes of 1,024 bytes; of a message that has more than 97 the last ones by
name are left out, and their number stands in ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from google.pubsub_v1.types import pubsub as types
from msgspec import Struct

from runtime.clock import wall_ns
from sidecars.core.batches import reason_of
from sidecars.core.letters import PREFIX
from sidecars.core.replies import CONTENT_TYPE, reply_body
from sidecars.core.source import Settlement
from sidecars.sources.pubsub_message import CORRELATION_ID, Receipt

REASON: Final = PREFIX + "reason"
ORIGINAL: Final = PREFIX + "original"
KEY: Final = PREFIX + "key"
OURS: Final = 3
ATTRIBUTES_MAX: Final = 100
VALUE_BYTES_MAX: Final = 1_024


class Original(Struct, frozen=True, omit_defaults=True):
    """What a dead letter was.

    Attributes:
        subscription: The subscription that it came by.
        message_id: Its id, at its first life.
        created_at_ns: When it was published first, UTC.
        at_ns: When it was refused, UTC.
        record: The engine's record that refused it; 0 = it never reached the engine.
        left_out: How many of its attributes had no place beside ours.
    """

    subscription: str
    message_id: str
    created_at_ns: int
    at_ns: int
    record: int = 0
    left_out: int = 0


def parked(settlement: Settlement, subscription: str) -> types.PubsubMessage:
    """Return the dead letter of a delivery."""
    receipt: Receipt = settlement.delivery.receipt
    own = without_ours(receipt.attributes)
    kept = dict(sorted(own.items())[: ATTRIBUTES_MAX - OURS])
    original = Original(
        subscription,
        receipt.source_id,
        receipt.created_at_ns,
        wall_ns(),
        settlement.outcome.record_seq if settlement.outcome is not None else 0,
        len(own) - len(kept),
    )
    ours = {REASON: shortened(reason_of(settlement)), ORIGINAL: msgspec.json.encode(original).decode()}
    if receipt.key:
        ours[KEY] = receipt.key
    return types.PubsubMessage(data=receipt.body, attributes={**kept, **ours})


def answer(settlement: Settlement) -> types.PubsubMessage:
    """Return the answer to a delivery."""
    receipt: Receipt = settlement.delivery.receipt
    correlation_id = receipt.attributes.get(CORRELATION_ID, "") or receipt.source_id
    attributes = {"content_type": CONTENT_TYPE, CORRELATION_ID: correlation_id}
    return types.PubsubMessage(data=reply_body(settlement), attributes=attributes)


def without_ours(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return a message's attributes without those that we gave it."""
    return {name: value for name, value in attributes.items() if not name.startswith(PREFIX)}


def shortened(text: str) -> str:
    """Return a text that Pub/Sub takes as an attribute: not empty, not too long."""
    return text.encode("utf-8", "replace")[:VALUE_BYTES_MAX].decode("utf-8", "ignore") or "?"
