"""Bodies of requests: read whole within a bound, or thrown away; never more in memory than all of them may hold.

Rule: a body too large is not held; the client still hears why, as far as it reads at all.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn._types import ASGIReceiveCallable

from sidecars.sources.http_models import HttpError

DISCARD_BYTES_MAX: Final = 16 << 20
BODIES_BYTES_MAX: Final = 64 << 20


class ClientGoneError(Exception):
    """The client closed before its request was whole: nobody to answer."""


class BodiesFullError(Exception):
    """The bodies that are coming in parts take all the place there is."""


class Bodies:
    """The bodies under way, of at most ``bytes_max`` each."""

    def __init__(self, bytes_max: int) -> None:
        self._most = bytes_max
        self._held = 0

    async def read(self, headers: dict[bytes, bytes], receive: ASGIReceiveCallable) -> bytes:
        """Return the body.

        Raises:
            HttpError: 413 if it is too large, 415 if it is encoded.
            ClientGoneError: If it never came whole.
            BodiesFullError: If there is no place for it now.
        """
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            was = encoding.decode("latin-1")[:64]
            raise HttpError(415, "CONTENT_ENCODING", f"content-encoding expected none, was {was}", "content-encoding")
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else self._most
        if declared > self._most:
            if b"expect" not in headers:
                await _discard(receive)
            raise self._too_large(f"{declared} bytes")
        message = await _message(receive)
        body = message["body"]
        if not message["more_body"]:
            if len(body) > self._most:
                raise self._too_large(f"{len(body)} bytes")
            return bytes(body)
        if self._held + declared > BODIES_BYTES_MAX:
            raise BodiesFullError
        self._held += declared
        try:
            return await self._rest(bytearray(body), receive)
        finally:
            self._held -= declared

    async def _rest(self, body: bytearray, receive: ASGIReceiveCallable) -> bytes:
        more = True
        while more:
            message = await _message(receive)
            body += message["body"]
            more = message["more_body"]
            if len(body) > self._most:
                if more:
                    await _discard(receive)
                raise self._too_large(f"more than {self._most} bytes")
        return bytes(body)

    def _too_large(self, was: str) -> HttpError:
        text = f"body expected at most {self._most} bytes, was {was}"
        return HttpError(413, "BODY_TOO_LARGE", text, "body", (b"connection", b"close"))


async def _message(receive: ASGIReceiveCallable) -> Any:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


async def _discard(receive: ASGIReceiveCallable) -> None:
    """Read on without keeping: a client that is still sending would not see an answer before a closed connection."""
    discarded, more = 0, True
    while more and discarded < DISCARD_BYTES_MAX:
        message = await _message(receive)
        discarded += len(message["body"])
        more = message["more_body"]
