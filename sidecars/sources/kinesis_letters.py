"""Dead letters of Kinesis: looked at in their SQS queue, put back by a record that begins with what it was.

Rule: a record that is put has a new number and a new time; what is put back brings the old ones in its first line, else
an order without an id of its own could be decided twice. A letter of several messages is one letter, and is shown when
all of them are there. What was looked at is visible again at the end, or when its time is over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from msgspec import Struct

from runtime.clock import wall_ns
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import LettersFailedError, with_field
from sidecars.sources.aws_client import BROKEN, client, text_of
from sidecars.sources.kinesis_dead import Original, join
from sidecars.sources.kinesis_records import Replayed, put_back
from sidecars.sources.kinesis_settings import KinesisSettings
from sidecars.sources.sqs_dead import ORIGINAL, REASON
from sidecars.sources.sqs_link import BATCH, DONE, Link
from sidecars.sources.sqs_message import texts

LOOKED_AT_MAX: Final = 1_000
HIDDEN_S: Final = 120
WAIT_S: Final = 1
NEW_ID_BYTES: Final = 8
BY_SOMEBODY: Final = "put there by somebody else"
_original: Final = msgspec.json.Decoder(Original)


class _Letter(Struct):
    """One letter and the messages it is made of."""

    original: Original
    reason: str
    body: bytes
    handles: Sequence[str]


class KinesisLetters:
    """The dead letter queue of one source."""

    def __init__(self, name: str, settings: KinesisSettings) -> None:
        self._name = name
        self._settings = settings
        self._link = Link(WAIT_S, HIDDEN_S, 1, 1)
        self._kinesis = client("kinesis", 1)

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones of those that SQS shows; they stay."""
        return await asyncio.to_thread(self._list, most)

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put back those that are asked for; the others stay."""
        return await asyncio.to_thread(self._replay, replay, most)

    def _list(self, most: int) -> Sequence[DeadLetter]:
        with self._taken(most) as (_, letters):
            return [_shown(n, letter) for n, letter in enumerate(letters, 1)]

    def _replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        done = []
        with self._taken(most) as (url, letters):
            for number, letter in enumerate(letters, 1):
                if replay.numbers and number not in replay.numbers:
                    continue
                self._kinesis.put_record(
                    StreamName=self._settings.stream, Data=_changed(letter, replay),
                    PartitionKey=letter.original.partition_key or secrets.token_hex(NEW_ID_BYTES),
                )  # fmt: skip
                for at in range(0, len(letter.handles), BATCH):
                    self._require(self._link.delete(url, letter.handles[at : at + BATCH]))
                done.append(_shown(number, letter))
        return done

    def _require(self, words: Sequence[str]) -> None:
        for word in words:
            if word != DONE:
                raise LettersFailedError(self._settings.dead_letter_queue, word)

    @contextmanager
    def _taken(self, most: int) -> Iterator[tuple[str, Sequence[_Letter]]]:
        """Yield the queue's URL and its letters, oldest first; then let everybody see them again."""
        taken: dict[str, dict[str, Any]] = {}
        url = ""
        try:
            url = self._link.url_of(self._settings.dead_letter_queue)
            while len(taken) < LOOKED_AT_MAX:
                messages = self._link.poll(url, BATCH, "").messages
                if not messages:
                    break
                taken.update((str(m["MessageId"]), m) for m in messages)
            yield url, letters_of(list(taken.values()))[:most]
        except BROKEN as e:
            raise LettersFailedError(self._settings.dead_letter_queue, text_of(e)) from e
        finally:
            self._show_again(url, [str(m["ReceiptHandle"]) for m in taken.values()])

    def _show_again(self, url: str, handles: Sequence[str]) -> None:
        for at in range(0, len(handles), BATCH):
            try:  # a handle of a letter that was put back is nobody's any more, which is as it should be
                self._link.set_visibility(url, [(handle, 0) for handle in handles[at : at + BATCH]])
            except BROKEN:
                return  # SQS shows them when their time is over


def letters_of(messages: Sequence[Mapping[str, Any]]) -> list[_Letter]:
    """Return the letters that are whole among messages, oldest first; parts that came twice count once."""
    found: dict[tuple[str, str, int], dict[int, tuple[Original, Mapping[str, Any]]]] = {}
    doubles: dict[tuple[str, str, int], list[str]] = {}
    for message in sorted(messages, key=_sent_ms):
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
    return Original("", f"(message)/{message['MessageId']}", "", _sent_ms(message) * 1_000_000, 0)


def _sent_ms(message: Mapping[str, Any]) -> int:
    return int((message.get("Attributes") or {}).get("SentTimestamp", "0"))


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


def _shown(number: int, letter: _Letter) -> DeadLetter:
    original = letter.original
    headers = {"partition key": original.partition_key} if original.partition_key else {}
    if original.parts > 1:
        headers["messages"] = str(original.parts)
    return DeadLetter(
        number=number, reason=letter.reason, source_id=original.place, at_ns=original.at_ns, body=letter.body,
        headers=headers,
    )  # fmt: skip
