"""Settings of AWS SNS topics that push to us over HTTPS."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.orders import Name

Text = Annotated[str, Meta(min_length=1, max_length=255)]
TopicArn = Annotated[str, Meta(pattern=r"^arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$")]


class SnsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the endpoint of SNS topics.

    Attributes:
        topics: ARNs of the topics whose notifications are orders, and whose subscriptions are confirmed; what comes
            from another is refused.
        principal: Who their orders speak for; the engine knows what that may trade.
        dead_letter_queue: SQS queue, by name or URL, where refused messages go with the reason; it exists.
        reply_queue: SQS queue that every answer goes to, before SNS hears that its message was taken; empty = nowhere.
        host: Address that is listened on.
        port: 0 takes a free one.
        path: Of the URL that is subscribed.
        certificate_file: Certificate of this server and what leads to its root, PEM; empty = plain HTTP, for a load
            balancer in front that speaks HTTPS.
        key_file: Its private key, PEM, without a passphrase.
        signature_versions: Which signatures count: `2` is SHA-256, `1` is SHA-1, which SNS makes unless the topic's
            attribute SignatureVersion is 2.
        confirms: Whether subscriptions of the topics are confirmed when SNS asks.
        age_max_s: A notification published longer ago is refused.
        request_ms: From the receipt of a notification to its 503, if the engine has not answered. SNS waits 15 s.
        hold_ms: How long new risk waits here while the engine says RETRY before its 503.
        in_flight: Notifications unanswered here: the most this process ever holds.
        connections_max: Connections at once.
        endpoint: The URL that is subscribed, for `wojak sidecar check`; empty = it does not look at subscriptions.
    """

    topics: Annotated[tuple[TopicArn, ...], Meta(min_length=1, max_length=64)]
    principal: Name
    dead_letter_queue: Text
    reply_queue: Annotated[str, Meta(max_length=255)] = ""
    host: Annotated[str, Meta(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8085
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/-]{0,200}$")] = "/sns"
    certificate_file: str = ""
    key_file: str = ""
    signature_versions: tuple[Literal["1", "2"], ...] = ("2",)
    confirms: bool = True
    age_max_s: Annotated[int, Meta(ge=60, le=86_400)] = 3_600
    request_ms: Annotated[int, Meta(ge=100, le=14_000)] = 10_000
    hold_ms: Annotated[int, Meta(ge=0, le=14_000)] = 2_000
    in_flight: Annotated[int, Meta(ge=1, le=20_000)] = 500
    connections_max: Annotated[int, Meta(ge=1, le=20_000)] = 768
    endpoint: Annotated[str, Meta(max_length=2_048)] = ""

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        if bool(self.certificate_file) != bool(self.key_file):
            found.append("certificate_file and key_file: expected both or none, was one of them")
        if self.hold_ms >= self.request_ms:
            found.append(f"hold_ms: expected less than request_ms ({self.request_ms}), was {self.hold_ms}")
        if not self.signature_versions:
            found.append("signature_versions: expected at least one, was none")
        if self.reply_queue == self.dead_letter_queue:
            found.append(f"reply_queue: expected another queue than dead_letter_queue, was {self.reply_queue!r} too")
        return found
