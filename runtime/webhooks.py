"""Signed HTTP POST: what a receiver elsewhere is told, proved by the secret, and its answer, bounded in bytes and time.

The signature is that of docs/alerts.md: HMAC-SHA256 over time, delivery id and body. Rule: no address, secret or answer
is named in an error; an address may carry a token, an answer anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

SIGNATURE: Final = "X-Wojak-Signature"
TIMESTAMP: Final = "X-Wojak-Timestamp"
DELIVERY: Final = "X-Wojak-Delivery"
NET_ERRORS: Final = (OSError, http.client.HTTPException, ValueError)
OK_FROM: Final = 200
OK_TO: Final = 300


class Answered(NamedTuple):
    """What came back: ``headers`` in lower case, ``body`` to the bytes that were asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether it is a 2xx."""
        return OK_FROM <= self.status < OK_TO


def signature_of(secret: str, timestamp: str, delivery: str, body: bytes) -> str:
    """Return what proves the sender: HMAC-SHA256 over time, id and body, each behind the other with a dot."""
    signed = f"{timestamp}.{delivery}.".encode() + body
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def signed_headers(secret: str, now_s: int, delivery: str, body: bytes) -> dict[str, str]:
    """Return the three headers that prove who sent a body and when; ``now_s`` is UTC."""
    timestamp = str(now_s)
    return {TIMESTAMP: timestamp, DELIVERY: delivery, SIGNATURE: signature_of(secret, timestamp, delivery, body)}


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
    *,
    answer_bytes_max: int,
    trust: ssl.SSLContext | None = None,
    opened: Callable[[Callable[[], None]], None] | None = None,
) -> Answered:
    """POST JSON and return the answer. No redirect is followed, no proxy asked.

    Args:
        url: ``http`` or ``https``.
        body: JSON.
        headers: Besides the content type.
        timeout_s: The whole exchange is cut so long after it began.
        answer_bytes_max: Of its body; 0 = it is not read.
        trust: Certificates that a server may have; None = those of the system.
        opened: Is given what cuts the exchange sooner, from any thread.

    Raises:
        OSError, http.client.HTTPException, ValueError: If there is no answer in time.
    """
    at = urlsplit(url)
    path = (at.path or "/") + (f"?{at.query}" if at.query else "")
    host = at.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, at.port, timeout=timeout_s, context=trust)
        if at.scheme == "https"
        else http.client.HTTPConnection(host, at.port, timeout=timeout_s)
    )
    try:
        with ends_after(timeout_s, lambda: connection.sock) as cut:
            if opened is not None:
                opened(cut)
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            read = response.read(answer_bytes_max) if answer_bytes_max else b""
            return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, read)
    finally:
        connection.close()


@contextlib.contextmanager
def ends_after(timeout_s: float, of: Callable[[], socket.socket | None]) -> Iterator[Callable[[], None]]:
    """Cut the connection when the time is over: a socket's own timeout begins anew with every byte that comes.

    Yields what cuts it sooner.
    """
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        sock = of()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield cut
    except NET_ERRORS:  # what a cut connection raises; anything else is a fault of ours and keeps its name
        if is_over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError
