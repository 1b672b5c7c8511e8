"""``wojak sidecar check`` for Pub/Sub that pushes: where and as whom it does, keys, dead letters.

Nothing is changed or published. Whether Pub/Sub reaches our address only a push shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from sidecars.core.kinds import Finding, Level
from sidecars.sources.http_models import HttpError
from sidecars.sources.pubsub_check import look_at_places, look_at_subscription, retention_and_dead_letters
from sidecars.sources.pubsub_link import Link
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from sidecars.sources.pubsub_push_tokens import SigningKeys
from sidecars.sources.pubsub_settings import Paths, paths_of

DEADLINE_S: Final = 10  # of a subscription that does not say


async def check(name: str, settings: PubSubPushSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    places = settings.places()
    paths = paths_of(places)
    found = [_encryption(settings), await _keys(name, settings)]
    link = await Link.open(places)
    try:
        subscription, seen = await look_at_subscription(link, paths.subscription)
        found.append(seen)
        if subscription is not None:
            found += judge(subscription, settings, paths)
        found += await look_at_places(link, paths)
    finally:
        await link.close()
    return found


def _encryption(settings: PubSubPushSettings) -> Finding:
    if settings.certificate_file:
        return Finding(Level.FINE, "encryption", f"https with {settings.certificate_file}, which Google must trust")
    text = "plain HTTP: have a load balancer in front speak HTTPS, and let nobody else reach this port"
    return Finding(Level.FINE if settings.host in {"127.0.0.1", "::1"} else Level.ADVICE, "encryption", text)


async def _keys(name: str, settings: PubSubPushSettings) -> Finding:
    keys = SigningKeys(name, settings.keys)
    try:
        count = len(await keys.get(""))
    except HttpError as e:
        return Finding(Level.FAULT, "keys", f"expected certificates at {settings.keys}, were none: {e.body.text}")
    finally:
        await asyncio.to_thread(keys.stop)
    return Finding(Level.FINE, "keys", f"{count} at {settings.keys}")


def judge(subscription: Any, settings: PubSubPushSettings, paths: Paths) -> list[Finding]:
    """Return what the settings of the subscription, and ours for it, mean for the promises."""
    push = subscription.push_config
    found = []
    if subscription.topic != paths.topic:
        text = f"expected {subscription.topic}, was {paths.topic}; derived ids and replays would be another topic's"
        found.append(Finding(Level.FAULT, "topic", text))
    if not push.push_endpoint:
        found.append(Finding(Level.FAULT, "push_config", "expected an endpoint, was none; set it, or pull"))
    elif not push.push_endpoint.startswith("https://"):
        found.append(Finding(Level.FAULT, "push_config", f"expected https, was {push.push_endpoint}"))
    token = push.oidc_token
    if token.service_account_email != settings.service_account:
        was = token.service_account_email or "none: its pushes have no token"
        found.append(Finding(Level.FAULT, "service_account", f"expected {settings.service_account}, was {was}"))
    elif (token.audience or push.push_endpoint) != settings.audience:
        text = f"expected {settings.audience}, was {token.audience or push.push_endpoint}; every push would be refused"
        found.append(Finding(Level.FAULT, "audience", text))
    if push.HasField("no_wrapper"):
        found.append(Finding(Level.FAULT, "no_wrapper", "expected off, was on: what is raw has no id and no time"))
    deadline_s = int(subscription.ack_deadline_seconds) or DEADLINE_S
    if deadline_s * 1_000 <= settings.request_ms:
        text = f"expected more than request_ms ({settings.request_ms}), was {deadline_s} s; Pub/Sub would hang up first"
        found.append(Finding(Level.FAULT, "ack_deadline_seconds", text))
    return [*found, *retention_and_dead_letters(subscription, paths)]
