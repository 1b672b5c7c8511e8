"""The endpoint that SNS posts to: who signed what, then a notification into a delivery.

Rules: 403 and 400, which SNS does not try again, only for what it can't have sent; the rest as in ``http_post``. Order
of the checks: what is free first, what asks others last, and nobody is asked for what is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from runtime.clock import wall_ns
from sidecars.core.source import Delivery
from sidecars.sources.http_models import HttpError
from sidecars.sources.http_post import Arrivals, PostApi, Tell
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


class SnsApi(PostApi):
    """The endpoint."""

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
        super().__init__(
            arrivals, path=settings.path, in_flight=settings.in_flight, request_ms=settings.request_ms,
            body_bytes_max=BODY_BYTES_MAX, answers=answers,
        )  # fmt: skip
        self._settings = settings
        self._certificates = certificates
        self._endpoint = endpoint
        self._confirm = confirm

    def require_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what is not signed before its body is read."""
        if headers.get(b"x-amz-sns-rawdelivery", b"").lower() == b"true":
            raise HttpError(403, "RAW", "raw delivery expected to be off: what is raw is not signed, so anybody's")

    async def take(self, headers: Mapping[bytes, bytes], body: bytes, received_ns: int) -> None:
        """Verify, then deliver a notification, or confirm a subscription."""
        posted = read(body)
        await self._require_signed(posted)
        if posted.type == NOTIFICATION:

            def make(number: int, tell: Tell, deadline_ns: int) -> Delivery:
                return to_delivery(self._settings, posted, number, tell, received_ns, deadline_ns)

            await self.deliver(make, received_ns)
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
