"""Dead letters of SNS topics: they wait in a queue of SQS, and are put back by publishing them to their topic.

Rule: SNS gives what is published a new MessageId, and what stands beside a message is not signed, so what is put back
brings its old id and time in the order itself; else an order without an id of its own could be decided twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from protocol.errors import NOT_DECODED, FieldError
from runtime.clock import wall_ns
from sidecars.core.identity import derive_id
from sidecars.core.kinds import Replay
from sidecars.core.letters import NEW_ID_BYTES
from sidecars.sources.aws_client import client
from sidecars.sources.sns_settings import SnsSettings
from sidecars.sources.sqs_dead import without_ours
from sidecars.sources.sqs_letters import MessageLetters, original_of

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class SnsLetters(MessageLetters):
    """The dead letter queue of the endpoint."""

    def __init__(self, _name: str, settings: SnsSettings) -> None:
        super().__init__(settings.dead_letter_queue)
        self._topics = settings.topics
        self._sns = client("sns", 1)

    def _put_back(self, letter: Mapping[str, Any], replay: Replay) -> None:
        topic = original_of(letter).queue
        if topic not in self._topics:
            raise FieldError("topic", topic, "one of the topics set; what SNS put here itself, redrive with its tools")
        self._sns.publish(
            TopicArn=topic, Message=self._body(letter, replay, topic).decode(), MessageAttributes=without_ours(letter)
        )

    def _body(self, message: Mapping[str, Any], replay: Replay, topic: str) -> bytes:
        """Return the order with the id and the time it had, or those asked for."""
        original = original_of(message)
        body = str(message["Body"]).encode("utf-8", "surrogatepass")
        try:
            fields = _object.decode(body)
        except NOT_DECODED as e:
            raise FieldError("body", "no single order", "one as JSON; change and publish this one yourself") from e
        own: dict[str, Any] = {}
        if replay.new_id:
            own["client_order_id"] = f"replay-{secrets.token_hex(NEW_ID_BYTES)}"
        elif "client_order_id" not in fields and "cancel_client_order_id" not in fields:
            own["client_order_id"] = derive_id("sns", topic, original.message_id)
        if replay.restamp or "created_at_ns" not in fields:
            own["created_at_ns"] = wall_ns() if replay.restamp else original.created_at_ns
        return msgspec.json.encode({**fields, **own}) if own else body
