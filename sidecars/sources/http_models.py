"""What the HTTP source says besides protocol.edge: errors with their statuses, items of an array, readiness."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from protocol.edge import ErrorBody, ErrorResponse

encode_json: Final = msgspec.json.Encoder().encode


class ItemError(Struct, frozen=True):
    """An item of an array that became no order: what was wrong, and the status it would have had alone."""

    error: ErrorBody
    http_status: int


class Health(Struct, frozen=True):
    """The process runs."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether orders are taken now, and why not.

    ``shards``: of several engines, each with ``open`` or why not. Ready is then whether at least one is open, for the
    orders of the others must not stop; ``reason`` names who is away.
    """

    ready: bool
    reason: str
    mode: str
    epoch: int
    shards: dict[str, str] | UnsetType = UNSET


class HttpError(Exception):
    """A request that becomes no order. Not a WojakError: it is an answer, and never leaves the HTTP source."""

    def __init__(
        self, status: int, code: str, text: str, field: str | None = None, header: tuple[bytes, bytes] | None = None
    ) -> None:
        self.status = status
        self.body = ErrorBody(code, text, field)
        self.headers = [header] if header is not None else []
        super().__init__(text)


def encode_error(code: str, text: str, field: str | None = None) -> bytes:
    """Return the JSON of the one error shape."""
    return encode_json(ErrorResponse(ErrorBody(code, text, field)))
