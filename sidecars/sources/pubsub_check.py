"""``wojak sidecar check`` for Pub/Sub: rights, and settings of the subscription that would break the promises.

Nothing is changed, published or pulled: the rights are those that Pub/Sub itself says we have.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from sidecars.core.kinds import Finding, Level
from sidecars.sources.pubsub_link import BROKEN, EMULATOR, FORBIDDEN, Link, code_of, is_misconfigured, text_of
from sidecars.sources.pubsub_settings import Paths, PubSubSettings, paths_of

DAY_S: Final = 86_400
RETENTION_MIN_S: Final = DAY_S
RETENTION_GOOD_S: Final = 4 * DAY_S
RETENTION_DEAD_S: Final = 7 * DAY_S  # the most there is, but for topics that keep their messages
ATTEMPTS_GOOD: Final = 20
DEADLINE_MIN_S: Final = 10
DEADLINE_ONCE_S: Final = 60
LOCAL: Final = ("localhost:", "127.0.0.1:", "[::1]:")
CONSUME: Final = "pubsub.subscriptions.consume"
PUBLISH: Final = "pubsub.topics.publish"


async def check(name: str, settings: PubSubSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    paths = paths_of(settings)
    found = [_encryption(settings.endpoint)]
    link = await Link.open(settings)
    try:
        subscription, seen = await look_at_subscription(link, paths.subscription)
        found.append(seen)
        if subscription is not None:
            found += judge(subscription, settings, paths)
        found.append(await _right(link, paths.subscription, CONSUME, "to pull and settle"))
        found += await look_at_places(link, paths)
    finally:
        await link.close()
    return found


def _encryption(endpoint: str) -> Finding:
    emulator = os.environ.get(EMULATOR, "")
    if not emulator:
        return Finding(Level.FINE, "encryption", f"TLS to {endpoint}")
    if emulator.startswith(LOCAL):
        return Finding(Level.FINE, "encryption", f"an emulator on this host: {emulator}")
    return Finding(
        Level.ADVICE, "encryption", f"{EMULATOR} is {emulator}: orders pass readable, and nobody is asked who"
    )


# The subscription's own settings


async def look_at_subscription(link: Link, path: str) -> tuple[Any, Finding]:
    """Return what Pub/Sub says of a subscription, None = nothing, and what that means."""
    what = f"subscription {path}"
    try:
        subscription = await link.look(path)
    except BROKEN as e:
        return None, _unseen(e, what, "pubsub.subscriptions.get")
    return subscription, Finding(Level.FINE, what, f"is there, of {subscription.topic}")


def _unseen(error: BaseException, what: str, needed: str) -> Finding:
    if code_of(error) in FORBIDDEN:
        return Finding(Level.ADVICE, what, f"could not be looked at ({text_of(error)}); grant {needed}")
    return Finding(
        Level.FAULT, what, f"expected to be there, was not: {text_of(error)}" + "; make it" * is_misconfigured(error)
    )


def judge(subscription: Any, settings: PubSubSettings, paths: Paths) -> list[Finding]:
    """Return what the settings of the subscription, and ours for it, mean for the promises."""
    found = []
    if subscription.topic != paths.topic:
        text = f"expected {subscription.topic}, was {paths.topic}; derived ids and replays would be another topic's"
        found.append(Finding(Level.FAULT, "topic", text))
    if subscription.push_config.push_endpoint:
        text = f"expected to be pulled, was pushed to {subscription.push_config.push_endpoint}; take the endpoint away"
        found.append(Finding(Level.FAULT, "push_config", text))
    if subscription.detached:
        found.append(Finding(Level.FAULT, "detached", "expected false, was true; nothing comes any more: make it anew"))
    found += [_deadline(subscription, settings), *retention_and_dead_letters(subscription, paths)]
    if not subscription.enable_message_ordering:
        text = "off: orders come in any order; switch it on (a new subscription) and publish with ordering keys"
        found.append(Finding(Level.ADVICE, "enable_message_ordering", text))
    if subscription.filter:
        text = f"{subscription.filter!r}: what it leaves out Pub/Sub drops without a word"
        found.append(Finding(Level.ADVICE, "filter", text))
    return found


def retention_and_dead_letters(subscription: Any, paths: Paths) -> list[Finding]:
    """Return what becomes of what waits too long, or comes too often."""
    return [
        _retention(int(subscription.message_retention_duration.seconds)),
        *_expiration(subscription, "expiration_policy"),
        _policy(subscription.dead_letter_policy, paths.dead_letter_topic),
    ]


def _deadline(subscription: Any, settings: PubSubSettings) -> Finding:
    what, seconds = "ack_deadline_s", settings.ack_deadline_s
    if seconds < DEADLINE_MIN_S and not os.environ.get(EMULATOR):
        return Finding(Level.FAULT, what, f"expected {DEADLINE_MIN_S} to 600, was {seconds}; Google refuses it")
    if subscription.enable_exactly_once_delivery and seconds < DEADLINE_ONCE_S:
        text = f"{seconds} s; with exactly-once delivery use {DEADLINE_ONCE_S} or more"
        return Finding(Level.ADVICE, what, text)
    own = int(subscription.ack_deadline_seconds)
    return Finding(
        Level.FINE, what, f"{seconds} s, extended while needed; the subscription's own ({own} s) is not used"
    )


def _retention(seconds: int) -> Finding:
    what = "message_retention_duration"
    if seconds < RETENTION_MIN_S:
        text = (
            f"expected {RETENTION_GOOD_S} s (4 days) or more, was {seconds}; an order that waits longer vanishes "
            "unseen: the engine refuses old ones by order_age_max, with a reason"
        )
        return Finding(Level.FAULT, what, text)
    if seconds < RETENTION_GOOD_S:
        return Finding(Level.ADVICE, what, f"{seconds} s is less than a long weekend; use {RETENTION_GOOD_S} or more")
    return Finding(Level.FINE, what, f"{seconds} s")


def _expiration(subscription: Any, what: str) -> list[Finding]:
    ttl_s = int(subscription.expiration_policy.ttl.seconds)
    if not ttl_s and subscription.HasField("expiration_policy"):
        return [Finding(Level.FINE, what, "never")]
    days = ttl_s // DAY_S or 31
    return [
        Finding(Level.ADVICE, what, f"deleted with its messages when nobody pulls for {days} days; set it to never")
    ]


def _policy(policy: Any, ours: str) -> Finding:
    what, use = "dead_letter_policy", f"use max_delivery_attempts {ATTEMPTS_GOOD} or more"
    if not policy.dead_letter_topic:
        text = f"none: a message that kills its sidecar comes again until its retention ends, then vanishes; {use}"
        return Finding(Level.ADVICE, what, text)
    if policy.dead_letter_topic != ours:
        text = f"goes to {policy.dead_letter_topic}: wojak sidecar dlq does not see what Pub/Sub puts there; use {ours}"
        return Finding(Level.ADVICE, what, text)
    if policy.max_delivery_attempts < ATTEMPTS_GOOD:
        text = f"max_delivery_attempts {policy.max_delivery_attempts} is few: each drain and each crash counts; {use}"
        return Finding(Level.ADVICE, what, text)
    return Finding(Level.FINE, what, f"max_delivery_attempts {policy.max_delivery_attempts}")


# Rights and the other topics


async def _right(link: Link, path: str, right: str, for_what: str, *, needed: bool = True) -> Finding:
    what = f"{right} on {path}"
    try:
        has = await link.may(path, right)
    except BROKEN as e:
        return Finding(Level.ADVICE, what, f"Pub/Sub did not say ({text_of(e)}); needed {for_what}")
    if has:
        return Finding(Level.FINE, what, "granted")
    return Finding(Level.FAULT if needed else Level.ADVICE, what, f"not granted; needed {for_what}: grant it")


async def _target(link: Link, topic: str, for_what: str) -> list[Finding]:
    what = f"topic {topic}"
    right = await _right(link, topic, PUBLISH, f"for {for_what}")
    try:
        await link.look(topic)
    except BROKEN as e:
        return [_unseen(e, what, "pubsub.topics.get"), right]
    return [Finding(Level.FINE, what, f"is there, for {for_what}"), right]


async def _dead_letters(link: Link, paths: Paths) -> list[Finding]:
    found = await _target(link, paths.dead_letter_topic, "dead letters")
    what = f"subscription {paths.dead_letter_subscription}"
    try:
        subscription = await link.look(paths.dead_letter_subscription)
    except BROKEN as e:
        if code_of(e) in FORBIDDEN:
            return [*found, _unseen(e, what, "pubsub.subscriptions.get")]
        text = f"expected to be there, was not: {text_of(e)}; make it: dead letters without a subscription vanish"
        return [*found, Finding(Level.FAULT, what, text)]
    if subscription.topic != paths.dead_letter_topic:
        text = f"expected to be of {paths.dead_letter_topic}, was of {subscription.topic}; dead letters would vanish"
        return [*found, Finding(Level.FAULT, what, text)]
    found.append(Finding(Level.FINE, what, "is there"))
    seconds = int(subscription.message_retention_duration.seconds)
    if seconds < RETENTION_DEAD_S:
        text = f"{seconds} s; use {RETENTION_DEAD_S} (7 days), people look at these"
        found.append(Finding(Level.ADVICE, f"message_retention_duration of {what}", text))
    found += _expiration(subscription, f"expiration_policy of {what}")
    return found


async def look_at_places(link: Link, paths: Paths) -> list[Finding]:
    """Return what to change about where dead letters, answers and replays go."""
    found = await _dead_letters(link, paths)
    for target in dict.fromkeys((paths.results_topic, *paths.reply_to)):
        if target and not target.endswith("*"):
            found += await _target(link, target, "answers")
    found.append(await _right(link, paths.topic, PUBLISH, "wojak sidecar dlq replay", needed=False))
    return found
