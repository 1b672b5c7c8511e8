"""What all kinds of dead letters share: the error when they can't be reached, and one field of an order changed."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from protocol.errors import FieldError, SourceError

_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
