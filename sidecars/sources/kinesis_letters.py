"""Dead letters of Kinesis: looked at in their SQS queue, put back by a record that begins with what it was.

Rule: a record that is put has a new number and a new time; what is put back brings the old ones in its first line, else
an order without an id of its own could be decided twice. A letter of several messages is one letter, and is shown when
all of them are there. What was looked at is visible again at the end, or when its time is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from runtime.clock import wall_ns
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import with_field
from sidecars.sources.aws_client import client
from sidecars.sources.kinesis_dead import Original, join
from sidecars.sources.kinesis_records import Replayed, put_back
from sidecars.sources.kinesis_settings import KinesisSettings
from sidecars.sources.sqs_dead import ORIGINAL, REASON
from sidecars.sources.sqs_letter_queue import LetterQueue, sent_ms
from sidecars.sources.sqs_message import texts

NEW_ID_BYTES: Final = 8
BY_SOMEBODY: Final = "put there by somebody else"
_original: Final = msgspec.json.Decoder(Original)


class _Letter(Struct):
    """One letter and the messages it is made of."""

    original: Original
    reason: str
    body: bytes
    handles: Sequence[str]


class KinesisLetters(LetterQueue[_Letter]):
    """The dead letter queue of one source."""

    def __init__(self, _name: str, settings: KinesisSettings) -> None:
        super().__init__(settings.dead_letter_queue)
        self._stream = settings.stream
        self._kinesis = client("kinesis", 1)

    def _letters(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[_Letter]:
        return letters_of(messages)

    def _handles(self, letter: _Letter) -> Sequence[str]:
        return letter.handles

    def _shown(self, number: int, letter: _Letter) -> DeadLetter:
        original = letter.original
        headers = {"partition key": original.partition_key} if original.partition_key else {}
        if original.parts > 1:
            headers["messages"] = str(original.parts)
        return DeadLetter(
            number=number, reason=letter.reason, source_id=original.place, at_ns=original.at_ns, body=letter.body,
            headers=headers,
        )  # fmt: skip

    def _put_back(self, letter: _Letter, replay: Replay) -> None:
        self._kinesis.put_record(
            StreamName=self._stream, Data=_changed(letter, replay),
            PartitionKey=letter.original.partition_key or secrets.token_hex(NEW_ID_BYTES),
        )  # fmt: skip


def letters_of(messages: Sequence[Mapping[str, Any]]) -> list[_Letter]:
    """Return the letters that are whole among messages, oldest first; parts that came twice count once."""
    found: dict[tuple[str, str, int], dict[int, tuple[Original, Mapping[str, Any]]]] = {}
    doubles: dict[tuple[str, str, int], list[str]] = {}
    for message in sorted(messages, key=sent_ms):
        original = _read(message)
        key = (original.stream, original.place, original.parts)
        parts = found.setdefault(key, {})
        parts.setdefault(original.part, (original, message))
        doubles.setdefault(key, []).append(str(message["ReceiptHandle"]))
    letters = []
    for key, parts in found.items():
        original, first = parts[min(parts)]
        if len(parts) < original.parts:
            continue
        bodies = [str(parts[n][1]["Body"]) for n in sorted(parts)]
        reason = texts(first.get("MessageAttributes") or {}).get(REASON, "") or BY_SOMEBODY
        body = join(bodies, is_base64=original.is_base64)
        letters.append(_Letter(original, reason, body, doubles[key]))
    return letters


def _read(message: Mapping[str, Any]) -> Original:
    text = texts(message.get("MessageAttributes") or {}).get(ORIGINAL)
    if text:
        try:
            return _original.decode(text)
        except (msgspec.DecodeError, UnicodeError):
            pass  # somebody else's: what SQS knows of it counts
    return Original("", f"(message)/{message['MessageId']}", "", sent_ms(message) * 1_000_000, 0)


def _changed(letter: _Letter, replay: Replay) -> bytes:
    """Return what goes back: the original, but for what the operator asked for.

    Raises:
        FieldError: If it can't be changed so.
    """
    body, place, created_at_ns = letter.body, letter.original.place, letter.original.created_at_ns
    if replay.restamp:
        created_at_ns = wall_ns()
        body = with_field(body, "created_at_ns", created_at_ns)
    if replay.new_id:
        new = secrets.token_hex(NEW_ID_BYTES)
        place = f"replay/{new}"
        body = with_field(body, "client_order_id", f"replay-{new}")
    changes = replay.restamp or replay.new_id
    return put_back(Replayed(place, created_at_ns, replay.operator if changes else ""), body)
