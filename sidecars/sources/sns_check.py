"""``wojak sidecar check`` for SNS: topics, subscriptions of our address, and the queue for dead letters.

Nothing is changed. Whether SNS reaches our address only a subscription shows; the right to confirm one can't be tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from sidecars.core.kinds import Finding, Level
from sidecars.sources.aws_client import BROKEN, client, is_forbidden, text_of
from sidecars.sources.sns_settings import SnsSettings
from sidecars.sources.sqs_check import look_at_target

SUBSCRIPTIONS_MAX: Final = 1_000
PENDING: Final = "PendingConfirmation"


async def check(name: str, settings: SnsSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    return await asyncio.to_thread(_check, settings)


def _check(settings: SnsSettings) -> list[Finding]:
    sns, sqs = client("sns", 1), client("sqs", 1)
    found = [_encryption(settings)]
    for topic in settings.topics:
        what = f"topic {topic}"
        try:
            attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
            found.append(Finding(Level.FINE, what, "is there"))
            found += judge_topic(topic, attributes, settings)
            found += _subscription(sns, topic, settings.endpoint)
        except BROKEN as e:
            right = "grant sns:GetTopicAttributes, sns:ListSubscriptionsByTopic, sns:GetSubscriptionAttributes"
            text = f"{text_of(e)}; {right if is_forbidden(e) else 'name one that is there'}"
            found.append(Finding(Level.FAULT, what, text))
    found += look_at_target(sqs, settings.dead_letter_queue, "dead letters")
    if settings.reply_queue:
        found += look_at_target(sqs, settings.reply_queue, "answers")
    return found


def _encryption(settings: SnsSettings) -> Finding:
    if settings.certificate_file:
        return Finding(Level.FINE, "encryption", f"https with {settings.certificate_file}, which SNS must trust")
    text = "plain HTTP: have a load balancer in front speak HTTPS, and let nobody else reach this port"
    return Finding(Level.FINE if settings.host in {"127.0.0.1", "::1"} else Level.ADVICE, "encryption", text)


def judge_topic(topic: str, attributes: Mapping[str, str], settings: SnsSettings) -> Iterator[Finding]:
    """Yield what the attributes of a topic mean for the promises."""
    version = attributes.get("SignatureVersion", "1")
    what = f"{topic}: SignatureVersion"
    if version not in settings.signature_versions:
        text = f"expected {' or '.join(settings.signature_versions)}, was {version}: all its messages would be refused"
        yield Finding(Level.FAULT, what, f"{text}; set the topic's attribute SignatureVersion to 2")
    elif version == "1":
        yield Finding(Level.ADVICE, what, "1 is SHA-1; set the topic's attribute to 2, then signature_versions")
    else:
        yield Finding(Level.FINE, what, version)
    if attributes.get("FifoTopic") == "true":
        yield Finding(Level.FAULT, f"{topic}: FifoTopic", "FIFO topics do not push over HTTPS; use SNS → SQS")


def _subscription(sns: Any, topic: str, endpoint: str) -> Iterator[Finding]:
    what = f"{topic}: subscription"
    if not endpoint:
        yield Finding(Level.ADVICE, what, "not looked at: endpoint is not set")
        return
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(
        TopicArn=topic, PaginationConfig={"MaxItems": SUBSCRIPTIONS_MAX}
    )
    ours = [s for page in pages for s in page["Subscriptions"] if s["Endpoint"] == endpoint]
    if not ours:
        yield Finding(Level.FAULT, what, f"expected one of {endpoint}, was none; subscribe it: it confirms by itself")
        return
    arn = str(ours[0]["SubscriptionArn"])
    if not arn.startswith("arn:"):
        yield Finding(Level.FAULT, what, f"is {arn or PENDING}: run the sidecar, then let SNS ask again")
        return
    yield Finding(Level.FINE, what, "is confirmed")
    yield from judge_subscription(what, sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"])


def judge_subscription(what: str, attributes: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what the attributes of a subscription mean for the promises."""
    if attributes.get("RawMessageDelivery") == "true":
        yield Finding(Level.FAULT, what, "RawMessageDelivery expected false: what is raw is not signed, and is refused")
    if attributes.get("Protocol") == "http" or attributes.get("Endpoint", "").startswith("http://"):
        yield Finding(
            Level.FAULT, what, "Protocol expected https, was http: orders pass readable, their headers unsigned"
        )
    if not attributes.get("RedrivePolicy"):
        text = "RedrivePolicy expected with a deadLetterTargetArn, was none: after some tries an order is gone"
        yield Finding(Level.FAULT, what, text)
    if not _throttle(attributes.get("DeliveryPolicy", "")):
        text = (
            "DeliveryPolicy has no throttlePolicy.maxReceivesPerSecond: SNS pushes as it likes, and a 503 costs a try"
        )
        yield Finding(Level.ADVICE, what, text)


def _throttle(policy: str) -> bool:
    try:
        found = msgspec.json.decode(policy or "{}")
        return bool(found["throttlePolicy"]["maxReceivesPerSecond"])
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError):
        return False
