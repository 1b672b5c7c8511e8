"""An endpoint that a broker posts messages to: a plain ASGI application; a post into a delivery, its end into a status.

Rules: 200 only for what is durable, or parked for people; 4xx only for what the sender can't have meant; everything
else is 503, for the sender tries that again, and the engine answers a repeat as the first time.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from sidecars.core.lease import NS_PER_MS
from sidecars.core.source import Delivery, Engines
from sidecars.sources.http_body import Bodies, BodiesFullError, ClientGoneError
from sidecars.sources.http_models import HttpError, encode_error

LATE_NS: Final = 250 * NS_PER_MS
NS_PER_S: Final = 1_000_000_000
REFUSED: Final = frozenset({401, 403})
_JSON: Final = (b"content-type", b"application/json")
Tell = Callable[[int], None]
Make = Callable[[int, Tell, int], Delivery]
"""Makes the delivery of a post: of its number, of what answers it with a status, and of its deadline, monotonic ns."""


class Arrivals:
    """The messages that came: queued for the loop, and those whose posts are not answered yet."""

    def __init__(self) -> None:
        self.queue: list[Delivery] = []
        self.unanswered: set[int] = set()
        self._arrived = asyncio.Event()

    def offer(self, number: int, delivery: Delivery) -> None:
        """Queue one."""
        self.unanswered.add(number)
        self.queue.append(delivery)
        self._arrived.set()

    def forget(self, number: int) -> None:
        """Note that its post is answered."""
        self.unanswered.discard(number)

    async def wait(self) -> None:
        """Wait until one is queued."""
        while not self.queue:
            self._arrived.clear()
            await self._arrived.wait()

    def take(self, most: int) -> list[Delivery]:
        """Take the first ones."""
        taken = self.queue[:most]
        del self.queue[:most]
        return taken


class PostApi(ABC):
    """``POST`` of the one path; nothing else is here. ``flow`` is set before the first request."""

    def __init__(
        self, arrivals: Arrivals, *, path: str, in_flight: int, request_ms: int, body_bytes_max: int,
        answers: dict[str, int],
    ) -> None:  # fmt: skip
        """``in_flight``: posts unanswered at once; ``answers`` counts statuses."""
        self.flow: Engines
        self._arrivals = arrivals
        self._path = path
        self._in_flight = in_flight
        self._request_ns = request_ms * NS_PER_MS
        self._answers = answers
        self._bodies = Bodies(body_bytes_max)
        self._random = random.SystemRandom()
        self._number = 0
        self._log = structlog.get_logger()

    @abstractmethod
    async def take(self, headers: Mapping[bytes, bytes], body: bytes, received_ns: int) -> None:
        """Look who posts what, and ``deliver`` it; return when it may be answered 200.

        Raises:
            HttpError: What is answered else.
        """

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            await self._serve(scope, receive)
            status, body, headers = 200, b"{}", []
        except HttpError as e:
            status, body, headers = e.status, encode_error(e.body.code, e.body.text), e.headers
            if status in REFUSED:
                self._log.warning("post refused", code=e.body.code, why=e.body.text)
        except ClientGoneError:
            return
        except Exception as e:  # noqa: BLE001  the sender must try again
            self._log.exception("post failed", error=type(e).__name__)
            status, body, headers = 503, encode_error("INTERNAL", "failed here; send it again"), []
        self._answers[str(status)] = self._answers.get(str(status), 0) + 1
        headers = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _serve(self, scope: Any, receive: ASGIReceiveCallable) -> None:
        received_ns = time.monotonic_ns()
        if scope["path"] != self._path:
            raise HttpError(404, "NOT_FOUND", f"path expected {self._path}, was {scope['path'][:64]}")
        if scope["method"] != "POST":
            text = f"method expected POST, was {scope['method'][:16]}"
            raise HttpError(405, "METHOD_NOT_ALLOWED", text, header=(b"allow", b"POST"))
        headers = dict(scope["headers"])
        self.require_headers(headers)
        try:
            body = await self._bodies.read(headers, receive)
        except BodiesFullError as e:
            raise self.unavailable("BODIES", "too many bodies are coming in parts; send it again") from e
        await self.take(headers, body, received_ns)

    @abstractmethod
    def require_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse, before its body is read, what its headers rule out already.

        Raises:
            HttpError: What is answered then.
        """

    async def deliver(self, make: Make, received_ns: int) -> None:
        """Hand a message to the loop; return when it is settled.

        Raises:
            HttpError: 503 if the engine does not take it, or nobody knows in time.
        """
        flow, arrivals = self.flow, self._arrivals
        if not flow.is_open:
            raise self.unavailable(flow.why_closed.name, "the engine takes no orders now; send it again")
        is_full = len(arrivals.unanswered) >= self._in_flight
        if is_full or flow.room(reserved=False) <= len(arrivals.queue):
            raise self.unavailable("CREDITS", "as many orders as may be are unanswered; send it again")
        self._number += 1
        number = self._number
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        deadline_ns = received_ns + self._request_ns

        def tell(status: int) -> None:
            if not ended.done():
                ended.set_result(status)

        arrivals.offer(number, make(number, tell, deadline_ns))
        try:
            async with asyncio.timeout((deadline_ns + LATE_NS - time.monotonic_ns()) / NS_PER_S):
                status = await ended
        except TimeoutError:
            status = 503
        finally:
            arrivals.forget(number)
        if status != 200:
            raise self.unavailable("NOT_DECIDED", "not decided in time, or not taken; send it again, which is safe")

    def unavailable(self, code: str, text: str) -> HttpError:
        """Return what is answered to who shall try again."""
        return HttpError(503, code, text, header=(b"retry-after", b"%d" % self._random.randint(1, 2)))
