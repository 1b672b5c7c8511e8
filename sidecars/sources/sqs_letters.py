"""Dead letters of SQS: looked at by receiving them for a while, put back by sending them anew with the id they had.

Rule: SQS gives what is sent a new MessageId, so what is put back brings its old one, and its time, in an attribute;
else an order without an id of its own could be decided twice. What was looked at is visible again at the end, or when
its time is over.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from protocol.errors import FieldError
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import NEW_ID_BYTES, REPLAYED, LettersFailedError, put_back
from sidecars.sources.aws_client import BROKEN, text_of
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
from sidecars.sources.sqs_link import BATCH, DONE, Link
from sidecars.sources.sqs_message import NS_PER_MS, texts
from sidecars.sources.sqs_settings import SqsSettings

LOOKED_AT_MAX: Final = 1_000
HIDDEN_S: Final = 120
WAIT_S: Final = 1
BY_SQS: Final = "put there by SQS: it came more often than the queue's redrive policy allows"


class LetterQueue(ABC):
    """A queue of SQS that holds the dead letters of a source; where they are put back is the source's."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._link = Link(WAIT_S, HIDDEN_S, 1, 1)

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones of those that SQS shows; they stay."""
        return await asyncio.to_thread(self._list, most)

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put back those that are asked for; the others stay."""
        return await asyncio.to_thread(self._replay, replay, most)

    def _list(self, most: int) -> Sequence[DeadLetter]:
        with self._taken(most) as (_, messages):
            return [_letter(n, message) for n, message in enumerate(messages, 1)]

    def _replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        done = []
        with self._taken(most) as (url, messages):
            for number, message in enumerate(messages, 1):
                if replay.numbers and number not in replay.numbers:
                    continue
                self._put_back(message, replay)
                self._require(self._link.delete(url, [str(message["ReceiptHandle"])]))
                done.append(_letter(number, message))
        return done

    @abstractmethod
    def _put_back(self, message: Mapping[str, Any], replay: Replay) -> None:
        """Put a letter back to its source, durably.

        Raises:
            FieldError: If it can't be changed as asked.
        """

    def _require(self, words: Sequence[str]) -> None:
        for word in words:
            if word != DONE:
                raise LettersFailedError(self._queue, word)

    @contextmanager
    def _taken(self, most: int) -> Iterator[tuple[str, Sequence[dict[str, Any]]]]:
        """Yield the queue's URL and its letters, oldest first; then let everybody see them again."""
        taken: dict[str, dict[str, Any]] = {}
        url = ""
        try:
            url = self._link.url_of(self._queue)
            while len(taken) < LOOKED_AT_MAX:
                messages = self._link.poll(url, BATCH, "").messages
                if not messages:
                    break
                taken.update((str(m["MessageId"]), m) for m in messages)
            oldest_first = sorted(taken.values(), key=lambda m: (_sent_ms(m), str(m["MessageId"])))
            yield url, oldest_first[:most]
        except BROKEN as e:
            raise LettersFailedError(self._queue, text_of(e)) from e
        finally:
            self._show_again(url, [str(m["ReceiptHandle"]) for m in taken.values()])

    def _show_again(self, url: str, handles: Sequence[str]) -> None:
        for at in range(0, len(handles), BATCH):
            try:  # a handle of a letter that was put back is nobody's any more, which is as it should be
                self._link.set_visibility(url, [(handle, 0) for handle in handles[at : at + BATCH]])
            except BROKEN:
                return  # SQS shows them when their time is over


class SqsLetters(LetterQueue):
    """The dead letter queue of a queue."""

    def __init__(self, _name: str, settings: SqsSettings) -> None:
        super().__init__(settings.dead_letter_queue)
        self._settings = settings

    def _put_back(self, message: Mapping[str, Any], replay: Replay) -> None:
        target = self._link.url_of(self._settings.queue)
        self._require(self._link.send(target, [self._changed(message, replay)]))

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
    return Original("", str(message["MessageId"]), _sent_ms(message) * NS_PER_MS, 0, group=group)


def _own(message: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {**without_ours(message), **from_texts(original_of(message).attributes)}


def _sent_ms(message: Mapping[str, Any]) -> int:
    return int((message.get("Attributes") or {}).get("SentTimestamp", "0"))


def _letter(number: int, message: Mapping[str, Any]) -> DeadLetter:
    original = original_of(message)
    headers = texts(_own(message))
    if original.group:
        headers["MessageGroupId"] = original.group
    reason = texts(message.get("MessageAttributes") or {}).get(REASON, "") or BY_SQS
    return DeadLetter(
        number=number, reason=reason, source_id=original.message_id, at_ns=original.at_ns,
        body=str(message["Body"]).encode("utf-8", "surrogatepass"), headers=headers,
    )  # fmt: skip
