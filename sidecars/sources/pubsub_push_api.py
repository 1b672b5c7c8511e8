"""The endpoint that Pub/Sub pushes to: the token first, then the envelope, then the engine.

Rule: Pub/Sub tries everything again that is not answered 2xx, with a growing delay, until the subscription's dead
letter policy or its retention ends that; so a refusal here is never taken for an order's end.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from google.pubsub_v1.types import pubsub as types
from msgspec import Struct

from protocol.errors import NOT_DECODED, FieldError
from sidecars.core.envelopes import parse_time
from sidecars.core.source import Delivery
from sidecars.sources.http_models import HttpError
from sidecars.sources.http_post import Arrivals, PostApi, Tell
from sidecars.sources.pubsub_message import to_delivery
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from sidecars.sources.pubsub_push_tokens import Tokens
from sidecars.sources.pubsub_settings import Paths

BODY_BYTES_MAX: Final = 15 << 20  # Pub/Sub's 10 MB, in base64
NS_PER_S: Final = 1_000_000_000


class _Message(Struct, frozen=True):
    messageId: str  # noqa: N815  Google's name
    publishTime: str  # noqa: N815  Google's name
    data: str = ""
    attributes: dict[str, str] = {}
    orderingKey: str = ""  # noqa: N815  Google's name


class _Push(Struct, frozen=True):
    message: _Message
    subscription: str
    deliveryAttempt: int = 0  # noqa: N815  Google's name


_push: Final = msgspec.json.Decoder(_Push)


class PushApi(PostApi):
    """The endpoint."""

    def __init__(
        self, settings: PubSubPushSettings, paths: Paths, tokens: Tokens, arrivals: Arrivals, answers: dict[str, int]
    ) -> None:
        super().__init__(
            arrivals, path=settings.path, in_flight=settings.in_flight, request_ms=settings.request_ms,
            body_bytes_max=BODY_BYTES_MAX, answers=answers,
        )  # fmt: skip
        self._principal = settings.principal
        self._paths = paths
        self._tokens = tokens

    def require_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what brings no token before its body is read."""
        if b"authorization" not in headers:
            raise HttpError(401, "TOKEN", "authorization expected Bearer with an OIDC token, was none")

    async def take(self, headers: Mapping[bytes, bytes], body: bytes, received_ns: int) -> None:
        """Verify, open, deliver."""
        await self._tokens.require(headers[b"authorization"])
        received, subscription = read(body)
        if subscription != self._paths.subscription:
            was = subscription[:200]
            raise HttpError(403, "SUBSCRIPTION", f"subscription expected {self._paths.subscription}, was {was!r}")

        def make(number: int, tell: Tell, deadline_ns: int) -> Delivery:
            delivery = to_delivery(self._principal, self._paths, received, number, received_ns, deadline_ns)
            delivery.receipt.tell = tell
            return delivery

        await self.deliver(make, received_ns)


def read(body: bytes) -> tuple[Any, str]:
    """Return a pushed message as a ReceivedMessage, and its subscription.

    Raises:
        HttpError: 400 if it is none.
    """
    try:
        pushed = _push.decode(body)
        data = base64.b64decode(pushed.message.data, validate=True)
        published_ns = parse_time(pushed.message.publishTime, "publishTime")
    except (*NOT_DECODED, FieldError, binascii.Error, ValueError) as e:
        raise HttpError(400, "ENVELOPE", f"body expected a message as Pub/Sub wraps it, was another ({e})") from e
    received = types.ReceivedMessage.pb(types.ReceivedMessage())
    received.delivery_attempt = min(max(0, pushed.deliveryAttempt), 1 << 30)
    message = received.message
    message.data, message.message_id, message.ordering_key = data, pushed.message.messageId, pushed.message.orderingKey
    message.attributes.update(pushed.message.attributes)
    message.publish_time.seconds, message.publish_time.nanos = divmod(published_ns, NS_PER_S)
    return received, pushed.subscription
