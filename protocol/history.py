"""Event history: a reader that missed frames of the event stream asks the follower for them (DEALER to ROUTER).

Frames come verbatim, as they were published. One request, one bounded answer; who wants more asks on behind what it
got. A peer may have one request unanswered: what it asks beyond that is told to come later.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

HISTORY_BYTES_MAX: Final = 1 << 20
"""Most bytes of frames in one answer, but for a single frame that is larger."""
Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Since(Struct, tag=1, array_like=True, frozen=True):
    """Ask for the frames behind record ``after_seq``, about ``bytes_max`` of them."""

    after_seq: Seq
    bytes_max: Annotated[int, Meta(ge=1)] = HISTORY_BYTES_MAX


class Frames(Struct, tag=1, array_like=True, frozen=True):
    """Whole frames in order, the first of which has record ``after_seq`` + 1; none if there is nothing behind it yet.

    ``last_seq``: how far the follower could serve when it answered.
    """

    after_seq: int
    frames: list[bytes]
    last_seq: int


class Gone(Struct, tag=2, array_like=True, frozen=True):
    """What was asked for is no longer kept; ``oldest_seq`` is the first record that is."""

    after_seq: int
    oldest_seq: int


class Later(Struct, tag=3, array_like=True, frozen=True):
    """Too much at once: ask again after so long."""

    after_seq: int
    retry_after_ms: int


class Malformed(Struct, tag=4, array_like=True, frozen=True):
    """That was no request, or it can't be answered: ``text`` says why."""

    text: str


HistoryAnswer = Frames | Gone | Later | Malformed
since_decoder: Final[msgspec.msgpack.Decoder[Since]] = msgspec.msgpack.Decoder(Since)
answer_decoder: Final[msgspec.msgpack.Decoder[HistoryAnswer]] = msgspec.msgpack.Decoder(HistoryAnswer)
encode_history: Final = msgspec.msgpack.Encoder().encode
