"""A queue of SQS as the place of dead letters, whatever source they are of.

Rule: SQS shows what it likes of a queue, so letters are looked at by receiving them for a while; what was looked at is
visible again at the end, or when its time is over. A letter leaves when it was put back, durably, and not before.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import LettersFailedError
from sidecars.sources.aws_client import BROKEN, text_of
from sidecars.sources.sqs_link import BATCH, DONE, Link

LOOKED_AT_MAX: Final = 1_000
HIDDEN_S: Final = 120
WAIT_S: Final = 1
LetterT = TypeVar("LetterT")


def sent_ms(message: Mapping[str, Any]) -> int:
    """Return when a message was put into its queue, wall ms; 0 where SQS does not say."""
    return int((message.get("Attributes") or {}).get("SentTimestamp", "0"))


class LetterQueue(ABC, Generic[LetterT]):
    """A queue of SQS that holds the dead letters of a source; what a letter is, and where it goes, is the source's."""

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
        with self._taken(most) as (_, letters):
            return [self._shown(n, letter) for n, letter in enumerate(letters, 1)]

    def _replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        done = []
        with self._taken(most) as (url, letters):
            for number, letter in enumerate(letters, 1):
                if replay.numbers and number not in replay.numbers:
                    continue
                self._put_back(letter, replay)
                handles = self._handles(letter)
                for at in range(0, len(handles), BATCH):
                    self._require(self._link.delete(url, handles[at : at + BATCH]))
                done.append(self._shown(number, letter))
        return done

    @abstractmethod
    def _letters(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[LetterT]:
        """Return the letters that messages are, oldest first."""

    @abstractmethod
    def _handles(self, letter: LetterT) -> Sequence[str]:
        """Return the receipt handles of all messages of a letter."""

    @abstractmethod
    def _shown(self, number: int, letter: LetterT) -> DeadLetter:
        """Return what people are shown of a letter."""

    @abstractmethod
    def _put_back(self, letter: LetterT, replay: Replay) -> None:
        """Put a letter back to its source, durably.

        Raises:
            FieldError: If it can't be changed as asked.
        """

    def _require(self, words: Sequence[str]) -> None:
        for word in words:
            if word != DONE:
                raise LettersFailedError(self._queue, word)

    @contextmanager
    def _taken(self, most: int) -> Iterator[tuple[str, Sequence[LetterT]]]:
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
            yield url, self._letters(list(taken.values()))[:most]
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
