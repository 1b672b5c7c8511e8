"""What SNS posts: read, checked against the settings, made into the text that was signed, and into a delivery.

Rules: only what the signature covers decides anything: the attributes of a message are outside of it, so they are never
an id, a time or an address. What is refused here is not looked up anywhere: no call is made for it.

Source: "Verifying the signatures of Amazon SNS messages", AWS: fields and their order, hosts of certificates.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from protocol.errors import NOT_DECODED
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.source import Delivery
from sidecars.sources.http_models import HttpError
from sidecars.sources.sns_settings import SnsSettings
from sidecars.sources.sqs_message import Receipt, published_ns

NOTIFICATION: Final = "Notification"
CONFIRMATION: Final = "SubscriptionConfirmation"
UNSUBSCRIBED: Final = "UnsubscribeConfirmation"
AHEAD_NS_MAX: Final = 300 * 1_000_000_000
NS_PER_S: Final = 1_000_000_000
URL_CHARS_MAX: Final = 1_024
_SIGNED: Final = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    UNSUBSCRIBED: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{8,64}\.pem")
_TEST_PATH: Final = re.compile(r"/[A-Za-z0-9_/-]{0,64}/?SimpleNotificationService-[0-9a-f]{8,64}\.pem")


class Attribute(Struct, frozen=True):
    """An attribute of a message."""

    type: str = msgspec.field(name="Type")
    value: str = msgspec.field(name="Value")


class Posted(Struct, frozen=True, rename="pascal"):
    """The body of a post. ``None``: the field is not there, and so was not signed."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)
    message_attributes: dict[str, Attribute] = {}


_posted: Final = msgspec.json.Decoder(Posted)


def read(body: bytes) -> Posted:
    """Return what was posted.

    Raises:
        HttpError: 400, naming what was expected.
    """
    try:
        found = _posted.decode(body)
    except NOT_DECODED as e:
        raise HttpError(400, "ENVELOPE", f"body expected the JSON that SNS posts, was another ({e})"[:500]) from e
    if found.type not in _SIGNED:
        raise HttpError(400, "ENVELOPE", f"Type expected one of {', '.join(_SIGNED)}, was {found.type[:64]!r}")
    return found


def require_allowed(posted: Posted, settings: SnsSettings, now_ns: int, endpoint: str) -> None:
    """Refuse what breaks the settings, before anything is fetched for it.

    Args:
        posted: What came.
        settings: Of the source.
        now_ns: UTC.
        endpoint: Address of SNS if the environment names another than AWS's; its certificates count too.

    Raises:
        HttpError: 403, naming what was expected.
    """
    if posted.topic_arn not in settings.topics:
        raise _refused("TOPIC", f"TopicArn expected one of the topics set, was {posted.topic_arn[:255]!r}")
    if posted.signature_version not in settings.signature_versions:
        wanted = " or ".join(settings.signature_versions)
        raise _refused("SIGNATURE_VERSION", f"SignatureVersion expected {wanted}, was {posted.signature_version[:8]!r}")
    try:
        age_ns = now_ns - published_ns(posted.timestamp)
    except ValueError as e:
        text = f"Timestamp expected as in 2026-08-24T09:15:02.114Z, was {posted.timestamp[:64]!r}"
        raise _refused("TIMESTAMP", text) from e
    if not -AHEAD_NS_MAX <= age_ns <= settings.age_max_s * NS_PER_S:
        text = f"expected at most {settings.age_max_s} s ago and {AHEAD_NS_MAX // NS_PER_S} s ahead"
        raise _refused("TIMESTAMP", f"Timestamp {text}, was {posted.timestamp[:64]!r}")
    if not may_certify(posted.signing_cert_url, posted.topic_arn, endpoint):
        host = host_of(posted.topic_arn)
        text = f"SigningCertURL expected https://{host}/SimpleNotificationService-<hex>.pem"
        raise _refused("CERTIFICATE_URL", f"{text}, was {posted.signing_cert_url[:255]!r}")


def host_of(topic_arn: str) -> str:
    """Return the host of SNS in a topic's region."""
    _, partition, _, region, *_ = topic_arn.split(":")
    return f"sns.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def may_certify(url: str, topic_arn: str, endpoint: str) -> bool:
    """Whether a certificate may be fetched from there: exactly the region's SNS, or exactly ``endpoint``'s address."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or any(c <= " " for c in url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return False
    # The authority as it stands: a port, a user or another spelling of the host is another authority.
    if (parts.scheme, parts.netloc) == ("https", host_of(topic_arn)):
        return _PATH.fullmatch(parts.path) is not None
    here = urlsplit(endpoint)
    is_there = bool(endpoint) and (parts.scheme, parts.netloc) == (here.scheme, here.netloc)
    return is_there and _TEST_PATH.fullmatch(parts.path) is not None


def signed_text(posted: Posted) -> bytes:
    """Return what SNS has signed: each field that is there, name and value, a line each."""
    values = msgspec.to_builtins(posted)
    lines = []
    for name in _SIGNED[posted.type]:
        value = values.get(name)
        if value is not None:
            lines += [name, value]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def signature_of(posted: Posted) -> bytes:
    """Return the signature.

    Raises:
        HttpError: 403 if it is none.
    """
    try:
        return base64.b64decode(posted.signature, validate=True)
    except (binascii.Error, ValueError) as e:
        raise _refused("SIGNATURE", f"Signature expected base64, was {posted.signature[:64]!r}") from e


def _refused(code: str, text: str) -> HttpError:
    return HttpError(403, code, text)


class SnsReceipt(Receipt):
    """What is needed to settle a delivery: as for SQS, where its dead letters go, and who waits for the status."""

    __slots__ = ("tell", "topic")

    def __init__(self, posted: Posted, number: int, tell: Any) -> None:
        content_type = posted.message_attributes.get("content_type")
        attributes = {"content_type": _text(content_type.value)} if content_type and content_type.value else {}
        super().__init__(
            {
                "MessageId": posted.message_id, "ReceiptHandle": "", "Body": posted.message,
                "MessageAttributes": attributes,
            },
            number,
        )  # fmt: skip
        self.created_at_ns = published_ns(posted.timestamp)
        self.tell = tell
        self.topic = posted.topic_arn


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def to_delivery(
    settings: SnsSettings, posted: Posted, number: int, tell: Any, received_ns: int, lease_until_ns: int
) -> Delivery:
    """Return the delivery of a notification whose signature is right.

    Args:
        settings: Of the source.
        posted: The notification.
        number: It is the how manieth that this process received.
        tell: Called with the HTTP status when it is settled.
        received_ns: When, monotonic.
        lease_until_ns: When the sender is told that nobody knows, monotonic.
    """
    attributes = {n: a.value for n, a in posted.message_attributes.items() if a.type == "String"}
    receipt = SnsReceipt(posted, number, tell)
    return Delivery(
        settings.principal,
        posted.topic_arn.rpartition(":")[2],
        trace_of(attributes.get("traceparent", "")),
        receipt.created_at_ns,
        received_ns,
        body=posted.message.encode("utf-8", "surrogatepass"),
        source_id=posted.message_id,
        derived_id=derive_id("sns", posted.topic_arn, posted.message_id),
        lease_until_mono_ns=lease_until_ns,
        reply_to=settings.reply_queue,
        receipt=receipt,
        content_type=attributes.get("content_type", ""),
    )
