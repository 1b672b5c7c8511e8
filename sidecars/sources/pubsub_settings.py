"""Settings of one Pub/Sub subscription as a source."""

from __future__ import annotations

import os
import re
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.errors import ConfigError
from protocol.orders import Name

Resource = Annotated[str, Meta(min_length=3, max_length=400)]
PROJECT: Final = "GOOGLE_CLOUD_PROJECT"
_PATH: Final = re.compile(r"projects/[^/]+/(topics|subscriptions)/[^/]+")
TOPICS: Final = "topics"
SUBSCRIPTIONS: Final = "subscriptions"


class PubSubSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one Pub/Sub subscription, pulled.

    Topics and subscriptions are names, in the project of the environment variable `GOOGLE_CLOUD_PROJECT`, or paths:
    `projects/desk/topics/orders`.

    Attributes:
        subscription: The subscription that orders come from; it exists. With message ordering, orders of one ordering
            key are decided in the order published.
        topic: Its topic: part of derived ids, and where `wojak sidecar dlq replay` puts back.
        principal: Who its orders speak for; the engine knows what that may trade.
        dead_letter_topic: Where refused messages go, with the reason.
        dead_letter_subscription: Its subscription, which keeps them: without one they would vanish.
        reply_to: Topics that a message may name for its answer in the attribute `reply_to`; `name*` allows all that
            begin so. What names another is refused.
        results_topic: Where the outcome of every order is published that asks for no other place; empty = nowhere.
        ack_deadline_s: How long Pub/Sub leaves a message with this sidecar, extended while the engine thinks. Google
            takes 10 to 600, with exactly-once delivery 60 and more; its emulators take less.
        prefetch: Messages unsettled here: the most that Pub/Sub hands this process.
        prefetch_bytes: And so many bytes of them.
        endpoint: Host of the service; a regional one such as `europe-west1-pubsub.googleapis.com` where order counts.
        keepalive_s: How often a silent connection is tried, so that a dead one is noticed.
    """

    subscription: Resource
    topic: Resource
    principal: Name
    dead_letter_topic: Resource
    dead_letter_subscription: Resource
    reply_to: tuple[Resource, ...] = ()
    results_topic: Annotated[str, Meta(max_length=400)] = ""
    ack_deadline_s: Annotated[int, Meta(ge=1, le=600)] = 60
    prefetch: Annotated[int, Meta(ge=1, le=20_000)] = 1_000
    prefetch_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 30)] = 16 << 20
    endpoint: Annotated[str, Meta(min_length=1, max_length=255)] = "pubsub.googleapis.com"
    keepalive_s: Annotated[int, Meta(ge=1, le=600)] = 30

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        for name, topic in (("dead_letter_topic", self.dead_letter_topic), ("results_topic", self.results_topic)):
            if topic == self.topic:
                found.append(f"{name}: expected another topic than topic, was {topic!r} too")
        if self.dead_letter_topic in {self.results_topic, *self.reply_to}:
            found.append(f"dead_letter_topic: expected one of its own, was one for answers: {self.dead_letter_topic!r}")
        if self.dead_letter_subscription == self.subscription:
            found.append(f"dead_letter_subscription: expected another, was subscription too: {self.subscription!r}")
        return found


def path_of(kind: str, resource: str) -> str:
    """Return the full path of a topic or subscription.

    Args:
        kind: ``TOPICS`` or ``SUBSCRIPTIONS``.
        resource: A name, or the path itself.

    Raises:
        ConfigError: If it is neither, or a name and no project is set.
    """
    if "/" in resource:
        match = _PATH.fullmatch(resource)
        if match is None or match[1] != kind:
            raise ConfigError([f"pubsub: expected a name or projects/<project>/{kind}/<name>, was {resource[:200]!r}"])
        return resource
    project = os.environ.get(PROJECT, "")
    if not project:
        raise ConfigError([f"environment variable {PROJECT}: expected the project of {resource!r}, was not set"])
    return f"projects/{project}/{kind}/{resource}"


class Paths(Struct, frozen=True):
    """The full paths that the settings stand for."""

    subscription: str
    topic: str
    dead_letter_topic: str
    dead_letter_subscription: str
    results_topic: str
    reply_to: tuple[str, ...]


def paths_of(settings: PubSubSettings) -> Paths:
    """Return what ``path_of`` says of each; raises as it does."""
    return Paths(
        path_of(SUBSCRIPTIONS, settings.subscription),
        path_of(TOPICS, settings.topic),
        path_of(TOPICS, settings.dead_letter_topic),
        path_of(SUBSCRIPTIONS, settings.dead_letter_subscription),
        path_of(TOPICS, settings.results_topic) if settings.results_topic else "",
        tuple(path_of(TOPICS, topic) for topic in settings.reply_to),
    )
