"""Dead letters of Pub/Sub: looked at by pulling them for a while, put back by publishing them with the id they had.

Rule: Pub/Sub gives what is published a new message_id, so what is put back brings its old one, and its time, in an
attribute; else an order without an id of its own could be decided twice. It goes to the topic, so every subscription of
it gets it. What was looked at is given back at the end, or when its time is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from google.pubsub_v1.types import pubsub as types

from protocol.errors import FieldError
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import REPLAYED, LettersFailedError, put_back
from sidecars.sources.pubsub_dead import ATTRIBUTES_MAX, KEY, REASON, Original, without_ours
from sidecars.sources.pubsub_dead import ORIGINAL as ORIGINAL_NAME
from sidecars.sources.pubsub_link import BROKEN, DONE, IDS_MAX, Link, text_of
from sidecars.sources.pubsub_message import published_ns
from sidecars.sources.pubsub_settings import PubSubSettings, paths_of

LOOKED_AT_MAX: Final = 1_000
HIDDEN_S: Final = 120
PULL_S: Final = 2.0
EMPTY_PULLS: Final = 2  # Pub/Sub may bring nothing though there is something
BY_PUBSUB: Final = "put there by Pub/Sub: it came more often than the subscription's dead letter policy allows"


class PubSubLetters:
    """The dead letters of one source."""

    def __init__(self, name: str, settings: PubSubSettings) -> None:
        self._name = name
        self._settings = settings
        self._paths = paths_of(settings)

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones of those that Pub/Sub shows; they stay."""
        async with self._taken(most) as (_, letters):
            return [_letter(n, received.message) for n, received in enumerate(letters, 1)]

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put back those that are asked for; the others stay."""
        done = []
        async with self._taken(most) as (link, letters):
            for number, received in enumerate(letters, 1):
                if replay.numbers and number not in replay.numbers:
                    continue
                (error,) = await link.publish(self._paths.topic, [_changed(received.message, replay)])
                if error is not None:
                    raise error
                words = await link.acknowledge(self._paths.dead_letter_subscription, [received.ack_id])
                if words != [DONE]:
                    raise LettersFailedError(self._settings.dead_letter_subscription, words[0])
                done.append(_letter(number, received.message))
        return done

    @asynccontextmanager
    async def _taken(self, most: int) -> AsyncIterator[tuple[Link, Sequence[Any]]]:
        """Yield the letters, oldest first; then let everybody see them again."""
        subscription = self._paths.dead_letter_subscription
        link = await Link.open(self._settings)
        taken: dict[str, Any] = {}
        try:
            await self._pull(link, taken)
            oldest_first = sorted(taken.values(), key=lambda r: (published_ns(r.message), r.message.message_id))
            yield link, oldest_first[:most]
        except BROKEN as e:
            raise LettersFailedError(self._settings.dead_letter_subscription, text_of(e)) from e
        finally:
            ids = [received.ack_id for received in taken.values()]
            with contextlib.suppress(*BROKEN):  # else they are shown when their time is over
                for at in range(0, len(ids), IDS_MAX):
                    await link.modify(subscription, ids[at : at + IDS_MAX], 0)
            await link.close()

    async def _pull(self, link: Link, taken: dict[str, Any]) -> None:
        subscription = self._paths.dead_letter_subscription
        empty = 0
        while len(taken) < LOOKED_AT_MAX and empty < EMPTY_PULLS:
            found = await link.pull(subscription, LOOKED_AT_MAX - len(taken), PULL_S)
            empty = 0 if found else empty + 1
            if found:
                await link.modify(subscription, [received.ack_id for received in found], HIDDEN_S)
                taken.update((received.message.message_id, received) for received in found)


def _changed(message: Any, replay: Replay) -> types.PubsubMessage:
    """Return what goes back: the original, but for what the operator asked for.

    Raises:
        FieldError: If it can't be changed so.
    """
    own, original = without_ours(message.attributes), _original(message)
    if len(own) >= ATTRIBUTES_MAX:
        raise FieldError("attributes", str(len(own)), "fewer than 100, one is needed here; publish this one yourself")
    body, first = put_back(message.data, original.message_id, original.created_at_ns, replay)
    return types.PubsubMessage(
        data=body,
        attributes={**own, REPLAYED: msgspec.json.encode(first).decode()},
        ordering_key=message.attributes.get(KEY, ""),
    )


def _original(message: Any) -> Original:
    text = message.attributes.get(ORIGINAL_NAME)
    if text:
        try:
            return msgspec.json.decode(text, type=Original)
        except (msgspec.DecodeError, UnicodeError):
            pass  # somebody else's: what Pub/Sub knows of it counts
    return Original("", message.message_id, published_ns(message), 0)


def _letter(number: int, message: Any) -> DeadLetter:
    original = _original(message)
    headers = without_ours(message.attributes)
    key = message.attributes.get(KEY, "")
    return DeadLetter(
        number=number, reason=message.attributes.get(REASON, "") or BY_PUBSUB, source_id=original.message_id,
        at_ns=original.at_ns, body=message.data, headers={**headers, "ordering_key": key} if key else headers,
    )  # fmt: skip
