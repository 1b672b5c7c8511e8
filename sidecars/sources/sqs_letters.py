"""Dead letters of SQS: looked at by receiving them for a while, put back by sending them anew with the id they had.

Rule: SQS gives what is sent a new MessageId, so what is put back brings its old one, and its time, in an attribute;
else an order without an id of its own could be decided twice. What was looked at is visible again at the end, or when
its time is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from protocol.errors import FieldError
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import NEW_ID_BYTES, REPLAYED, put_back
from sidecars.sources.sqs_dead import (
    ATTRIBUTES_MAX,
    ORIGINAL,
    REASON,
    Original,
    from_texts,
    in_group,
    text_attribute,
    without_ours,
)
from sidecars.sources.sqs_letter_queue import LetterQueue, sent_ms
from sidecars.sources.sqs_message import NS_PER_MS, texts
from sidecars.sources.sqs_settings import SqsSettings

BY_SQS: Final = "put there by SQS: it came more often than the queue's redrive policy allows"


class MessageLetters(LetterQueue[Mapping[str, Any]]):
    """Letters of which each is one message."""

    def _letters(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        return sorted(messages, key=lambda m: (sent_ms(m), str(m["MessageId"])))

    def _handles(self, letter: Mapping[str, Any]) -> Sequence[str]:
        return [str(letter["ReceiptHandle"])]

    def _shown(self, number: int, letter: Mapping[str, Any]) -> DeadLetter:
        original = original_of(letter)
        headers = texts(_own(letter))
        if original.group:
            headers["MessageGroupId"] = original.group
        reason = texts(letter.get("MessageAttributes") or {}).get(REASON, "") or BY_SQS
        return DeadLetter(
            number=number, reason=reason, source_id=original.message_id, at_ns=original.at_ns,
            body=str(letter["Body"]).encode("utf-8", "surrogatepass"), headers=headers,
        )  # fmt: skip


class SqsLetters(MessageLetters):
    """The dead letter queue of a queue."""

    def __init__(self, _name: str, settings: SqsSettings) -> None:
        super().__init__(settings.dead_letter_queue)
        self._settings = settings

    def _put_back(self, letter: Mapping[str, Any], replay: Replay) -> None:
        target = self._link.url_of(self._settings.queue)
        self._require(self._link.send(target, [self._changed(letter, replay)]))

    def _changed(self, message: Mapping[str, Any], replay: Replay) -> dict[str, Any]:
        """Return what goes back: the original, but for what the operator asked for.

        Raises:
            FieldError: If it can't be changed so.
        """
        own, original = _own(message), original_of(message)
        if (replay.restamp or replay.new_id) and self._settings.envelope != "none":
            raise FieldError("envelope", self._settings.envelope, "a bare order; change and publish this one yourself")
        before = str(message["Body"]).encode("utf-8", "surrogatepass")
        body, first = put_back(before, original.message_id, original.created_at_ns, replay)
        if len(own) >= ATTRIBUTES_MAX:
            raise FieldError("attributes", str(len(own)), "fewer than ten, one is needed here; send this one yourself")
        found: dict[str, Any] = {
            "MessageBody": body.decode("utf-8", "surrogatepass"),
            "MessageAttributes": {**own, REPLAYED: text_attribute(msgspec.json.encode(first).decode())},
        }
        group = original.group or first.message_id
        return in_group(found, self._settings.queue, group, f"replay-{secrets.token_hex(NEW_ID_BYTES)}")


def original_of(message: Mapping[str, Any]) -> Original:
    """Return what a letter was; for one that is not ours, what SQS knows of it."""
    text = texts(message.get("MessageAttributes") or {}).get(ORIGINAL)
    if text:
        try:
            return msgspec.json.decode(text, type=Original)
        except (msgspec.DecodeError, UnicodeError):
            pass  # somebody else's: what SQS knows of it counts
    group = (message.get("Attributes") or {}).get("MessageGroupId", "")
    return Original("", str(message["MessageId"]), sent_ms(message) * NS_PER_MS, 0, group=group)


def _own(message: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {**without_ours(message), **from_texts(original_of(message).attributes)}
