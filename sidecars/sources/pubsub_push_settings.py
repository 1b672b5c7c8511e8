"""Settings of one Pub/Sub subscription that pushes to us."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.orders import Name
from sidecars.sources.pubsub_settings import PubSubSettings, Resource

GOOGLE_KEYS = "https://www.googleapis.com/oauth2/v1/certs"


class PubSubPushSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the endpoint of one Pub/Sub subscription that pushes.

    Topics and subscriptions are names, in the project of the environment variable `GOOGLE_CLOUD_PROJECT`, or paths:
    `projects/desk/topics/orders`.

    Attributes:
        subscription: The subscription that pushes; what comes from another is refused.
        topic: Its topic: part of derived ids, and where `wojak sidecar dlq replay` puts back.
        principal: Who its orders speak for; the engine knows what that may trade.
        audience: What its tokens must be made for; Pub/Sub takes the URL that it pushes to, unless told otherwise.
        service_account: E-mail address of the account that its tokens must be of.
        dead_letter_topic: Where refused messages go, with the reason.
        dead_letter_subscription: Its subscription, which keeps them: without one they would vanish.
        reply_to: Topics that a message may name for its answer in the attribute `reply_to`; `name*` allows all that
            begin so. What names another is refused.
        results_topic: Where the outcome of every order is published that asks for no other place; empty = nowhere.
        keys: Where Google's keys come from: an address of the certificates by key id as JSON, or a file of them.
        host: Address that is listened on.
        port: 0 takes a free one.
        path: Of the URL that is pushed to.
        certificate_file: Certificate of this server and what leads to its root, PEM; empty = plain HTTP, for a load
            balancer in front that speaks HTTPS.
        key_file: Its private key, PEM, without a passphrase.
        request_ms: From the receipt of a message to its 503, if the engine has not answered; less than the
            subscription's ackDeadlineSeconds, which is how long Pub/Sub waits.
        hold_ms: How long new risk waits here while the engine says RETRY before its 503.
        in_flight: Messages unanswered here: the most this process ever holds.
        connections_max: Connections at once.
        endpoint: Host of the service, for dead letters and answers.
    """

    subscription: Resource
    topic: Resource
    principal: Name
    audience: Annotated[str, Meta(min_length=1, max_length=2_048)]
    service_account: Annotated[str, Meta(pattern=r"^[^@\s]{1,100}@[^@\s]{1,200}$")]
    dead_letter_topic: Resource
    dead_letter_subscription: Resource
    reply_to: tuple[Resource, ...] = ()
    results_topic: Annotated[str, Meta(max_length=400)] = ""
    keys: Annotated[str, Meta(min_length=1, max_length=2_048)] = GOOGLE_KEYS
    host: Annotated[str, Meta(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8086
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/-]{0,200}$")] = "/pubsub"
    certificate_file: str = ""
    key_file: str = ""
    request_ms: Annotated[int, Meta(ge=100, le=600_000)] = 8_000
    hold_ms: Annotated[int, Meta(ge=0, le=600_000)] = 2_000
    in_flight: Annotated[int, Meta(ge=1, le=20_000)] = 500
    connections_max: Annotated[int, Meta(ge=1, le=20_000)] = 768
    endpoint: Annotated[str, Meta(min_length=1, max_length=255)] = "pubsub.googleapis.com"

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = self.places().problems()
        if bool(self.certificate_file) != bool(self.key_file):
            found.append("certificate_file and key_file: expected both or none, was one of them")
        if self.hold_ms >= self.request_ms:
            found.append(f"hold_ms: expected less than request_ms ({self.request_ms}), was {self.hold_ms}")
        return found

    def places(self) -> PubSubSettings:
        """Return the places, as the pulled form of this source has them."""
        return PubSubSettings(
            subscription=self.subscription,
            topic=self.topic,
            principal=self.principal,
            dead_letter_topic=self.dead_letter_topic,
            dead_letter_subscription=self.dead_letter_subscription,
            reply_to=self.reply_to,
            results_topic=self.results_topic,
            endpoint=self.endpoint,
        )
