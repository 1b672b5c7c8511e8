"""The endpoint that SNS posts to: a plain ASGI application; a notification into a delivery, its end into a status.

Rules: 200 only for what is durable, or parked for people; 403 and 400, which SNS does not try again, only for what it
can't have sent; everything else is 503, for SNS tries that again, and the engine answers a repeat as the first time.
Order of the checks: what is free first, what asks others last, and nobody is asked for what is refused.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from runtime.clock import wall_ns
from sidecars.core.lease import NS_PER_MS
from sidecars.core.source import Delivery, Engines
from sidecars.sources.http_body import Bodies, BodiesFullError, ClientGoneError
from sidecars.sources.http_models import HttpError, encode_error
from sidecars.sources.sns_certificates import Certificates
from sidecars.sources.sns_message import (
    CONFIRMATION,
    NOTIFICATION,
    Posted,
    read,
    require_allowed,
    signature_of,
    signed_text,
    to_delivery,
)
from sidecars.sources.sns_settings import SnsSettings

BODY_BYTES_MAX: Final = 1 << 20  # SNS's 256 KiB, escaped
LATE_NS: Final = 250 * NS_PER_MS
_JSON: Final = (b"content-type", b"application/json")


class Arrivals:
    """The notifications that came: queued for the loop, and those whose posts are not answered yet."""

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


class SnsApi:
    """``POST`` of the one path; nothing else is here."""

    def __init__(
        self,
        settings: SnsSettings,
        certificates: Certificates,
        endpoint: str,
        *,
        arrivals: Arrivals,
        confirm: Callable[[Posted], Awaitable[None]],
        answers: dict[str, int],
    ) -> None:
        """``confirm`` confirms a subscription, or raises HttpError; ``answers`` counts statuses."""
        self.flow: Engines
        self._settings = settings
        self._certificates = certificates
        self._endpoint = endpoint
        self._arrivals = arrivals
        self._confirm = confirm
        self._answers = answers
        self._bodies = Bodies(BODY_BYTES_MAX)
        self._random = random.SystemRandom()
        self._number = 0
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            await self._take(scope, receive)
            status, body, headers = 200, b"{}", []
        except HttpError as e:
            status, body, headers = e.status, encode_error(e.body.code, e.body.text), e.headers
            if status == 403:
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

    async def _take(self, scope: Any, receive: ASGIReceiveCallable) -> None:
        received_ns = time.monotonic_ns()
        if scope["path"] != self._settings.path:
            raise HttpError(404, "NOT_FOUND", f"path expected {self._settings.path}, was {scope['path'][:64]}")
        if scope["method"] != "POST":
            text = f"method expected POST, was {scope['method'][:16]}"
            raise HttpError(405, "METHOD_NOT_ALLOWED", text, header=(b"allow", b"POST"))
        headers = dict(scope["headers"])
        if headers.get(b"x-amz-sns-rawdelivery", b"").lower() == b"true":
            raise HttpError(403, "RAW", "raw delivery expected to be off: what is raw is not signed, so anybody's")
        try:
            posted = read(await self._bodies.read(headers, receive))
        except BodiesFullError as e:
            raise self._unavailable("BODIES", "too many bodies are coming in parts; send it again") from e
        await self._require_signed(posted)
        if posted.type == NOTIFICATION:
            await self._deliver(posted, received_ns)
        elif posted.type == CONFIRMATION:
            if not self._settings.confirms:
                raise HttpError(403, "CONFIRMS", "confirms expected for a subscription, was not set")
            await self._confirm(posted)
        else:
            self._log.error("a subscription has ended; orders of this topic come no more", topic=posted.topic_arn)

    async def _require_signed(self, posted: Posted) -> None:
        require_allowed(posted, self._settings, wall_ns(), self._endpoint)
        signature = signature_of(posted)
        certificate = await self._certificates.get(posted.signing_cert_url)
        if not certificate.verify(signature, signed_text(posted), posted.signature_version):
            raise HttpError(403, "SIGNATURE", "Signature expected that of SNS over this message, was another")

    async def _deliver(self, posted: Posted, received_ns: int) -> None:
        """Hand a notification to the loop; return when it is settled.

        Raises:
            HttpError: 503 if the engine does not take it, or nobody knows in time.
        """
        flow = self.flow
        if not flow.is_open:
            raise self._unavailable(flow.why_closed.name, "the engine takes no orders now; send it again")
        arrivals = self._arrivals
        is_full = len(arrivals.unanswered) >= self._settings.in_flight
        if is_full or flow.room(reserved=False) <= len(arrivals.queue):
            raise self._unavailable("CREDITS", "as many orders as may be are unanswered; send it again")
        self._number += 1
        number = self._number
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        deadline_ns = received_ns + self._settings.request_ms * NS_PER_MS

        def tell(status: int) -> None:
            if not ended.done():
                ended.set_result(status)

        arrivals.offer(number, to_delivery(self._settings, posted, number, tell, received_ns, deadline_ns))
        try:
            async with asyncio.timeout((deadline_ns + LATE_NS - time.monotonic_ns()) / 1_000_000_000):
                status = await ended
        except TimeoutError:
            status = 503
        finally:
            arrivals.forget(number)
        if status != 200:
            raise self._unavailable("NOT_DECIDED", "not decided in time, or not taken; send it again, which is safe")

    def _unavailable(self, code: str, text: str) -> HttpError:
        return HttpError(503, code, text, header=(b"retry-after", b"%d" % self._random.randint(1, 2)))
