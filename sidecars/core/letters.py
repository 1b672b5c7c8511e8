"""What all kinds of dead letters share: the error when they can't be reached, what is changed when put back."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.errors import FieldError, SourceError
from runtime.clock import wall_ns
from sidecars.core.kinds import Replay

PREFIX: Final = "x-wojak-"
REPLAYED: Final = PREFIX + "replay"
NEW_ID_BYTES: Final = 8
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Replayed(Struct, frozen=True, omit_defaults=True):
    """What a message that was put back brings of its first life.

    Attributes:
        message_id: The id it had, so that an order without one of its own stays the same order.
        created_at_ns: When it was sent first, UTC.
        by: Who changed it; empty = nobody.
    """

    message_id: str
    created_at_ns: int
    by: str = ""


class LettersFailedError(SourceError):
    """The dead letters can't be read or put back."""

    code = "SOURCE_DEAD_LETTERS"

    def __init__(self, queue: str, why: str) -> None:
        self.queue = queue
        super().__init__(f"{self.code}: queue {queue} expected to be read and put back, was stopped by: {why}")


def with_field(body: bytes, field: str, value: Any) -> bytes:
    """Return a JSON object with another value for one field, if it has it.

    Raises:
        FieldError: If the body is no JSON object.
    """
    try:
        fields = _objects.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise FieldError(field, "in no JSON object", "a single order; change and send this one yourself") from e
    if field not in fields:
        return body
    return msgspec.json.encode({**fields, field: msgspec.Raw(msgspec.json.encode(value))})


def put_back(body: bytes, message_id: str, created_at_ns: int, replay: Replay) -> tuple[bytes, Replayed]:
    """Return what goes back: the original, but for what the operator asked for, and what goes with it.

    Args:
        body: As it came at its first life.
        message_id: The id it had then.
        created_at_ns: When it was sent then, UTC.
        replay: What the operator wants.

    Raises:
        FieldError: If it can't be changed so.
    """
    if replay.restamp:
        created_at_ns = wall_ns()
        body = with_field(body, "created_at_ns", created_at_ns)
    if replay.new_id:
        message_id = secrets.token_hex(NEW_ID_BYTES)
        body = with_field(body, "client_order_id", f"replay-{message_id}")
    by = replay.operator if replay.restamp or replay.new_id else ""
    return body, Replayed(message_id=message_id, created_at_ns=created_at_ns, by=by)
