"""``wojak sidecar check`` for SQS: rights, and settings of the queue that would break the promises.

Nothing is changed. The right to receive is seen by receiving one message for zero seconds, which SQS counts; the rights
to delete, to change visibility and to send by a call that can't work, and that is refused another way where the right
is missing. How far AWS looks before it asks for the right is its own affair: those findings say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sidecars.core.kinds import Finding, Level
from sidecars.sources.aws_client import BROKEN, LOCAL, client, code_of, is_forbidden, text_of
from sidecars.sources.sqs_link import is_misconfigured
from sidecars.sources.sqs_settings import FIFO, SqsSettings

DAY_S: Final = 86_400
RETENTION_MIN_S: Final = DAY_S
RETENTION_GOOD_S: Final = 4 * DAY_S
RETENTION_DEAD_S: Final = 14 * DAY_S
RECEIVES_MIN: Final = 3
RECEIVES_GOOD: Final = 20
VISIBILITY_GOOD_S: Final = 20
NO_MESSAGE: Final = "wojak-check-no-such-handle"


async def check(name: str, settings: SqsSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    return await asyncio.to_thread(_check, settings)


def _check(settings: SqsSettings) -> list[Finding]:
    sqs = client("sqs", 1)
    found = [_encryption(str(sqs.meta.endpoint_url))]
    try:
        url = _url(sqs, settings.queue)
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except BROKEN as e:
        if is_forbidden(e):
            text = f"{text_of(e)}; grant sqs:GetQueueUrl and sqs:GetQueueAttributes, look at the credentials"
        else:
            text = f"expected to be there, was not: {text_of(e)}" + ("; make it" if is_misconfigured(e) else "")
        return [*found, Finding(Level.FAULT, f"queue {settings.queue}", text)]
    found.append(Finding(Level.FINE, f"queue {settings.queue}", f"is there: {attributes.get('QueueArn', url)}"))
    found += judge(attributes, settings)
    found += _rights(sqs, url)
    found += _dead_letters(sqs, attributes, settings)
    for target in settings.reply_to:
        if not target.endswith("*"):
            found += look_at_target(sqs, target, "answers")
    return found


def _url(sqs: Any, queue: str) -> str:
    return queue if "://" in queue else str(sqs.get_queue_url(QueueName=queue)["QueueUrl"])


def _encryption(endpoint: str) -> Finding:
    if endpoint.startswith(("https://", *LOCAL)):
        return Finding(Level.FINE, "encryption", endpoint)
    return Finding(Level.ADVICE, "encryption", f"{endpoint}: orders pass readable; use https")


# The queue's own settings


def judge(attributes: Mapping[str, str], settings: SqsSettings) -> list[Finding]:
    """Return what the attributes of the queue, and our settings for it, mean for the promises."""
    found = [_visibility(attributes, settings)]
    if "MessageRetentionPeriod" in attributes:
        found.append(_retention(int(attributes["MessageRetentionPeriod"])))
    else:
        found.append(Finding(Level.ADVICE, "MessageRetentionPeriod", "SQS did not say; set it to 4 days or more"))
    found.append(_redrive(attributes.get("RedrivePolicy", "")))
    delay_s = int(attributes.get("DelaySeconds", "0"))
    if delay_s:
        text = f"each order is seen {delay_s} s late; use 0, or a delay in each message that needs it"
        found.append(Finding(Level.ADVICE, "DelaySeconds", text))
    return found


def _visibility(attributes: Mapping[str, str], settings: SqsSettings) -> Finding:
    own = attributes.get("VisibilityTimeout", "?")
    text = f"{settings.visibility_s} s at each receive, extended while needed; the queue's own ({own} s) is not used"
    if settings.visibility_s < VISIBILITY_GOOD_S:
        why = f"a short pause of this process lets others have what is under way: use {VISIBILITY_GOOD_S} s or more"
        return Finding(Level.ADVICE, "visibility_s", f"{text}; {why}")
    return Finding(Level.FINE, "visibility_s", text)


def _retention(seconds: int) -> Finding:
    what = "MessageRetentionPeriod"
    if seconds < RETENTION_MIN_S:
        text = (
            f"expected {RETENTION_GOOD_S} s (4 days) or more, was {seconds}; an order that waits longer vanishes "
            "unseen: the engine refuses old ones by order_age_max, with a reason"
        )
        return Finding(Level.FAULT, what, text)
    if seconds < RETENTION_GOOD_S:
        return Finding(Level.ADVICE, what, f"{seconds} s is less than a long weekend; use {RETENTION_GOOD_S} or more")
    return Finding(Level.FINE, what, f"{seconds} s")


def _redrive(policy: str) -> Finding:
    what, use = "RedrivePolicy", f"use maxReceiveCount {RECEIVES_GOOD} or more"
    if not policy:
        text = f"none: a message that kills its sidecar comes again until its retention ends, then vanishes; {use}"
        return Finding(Level.ADVICE, what, text)
    receives = receives_of(policy)
    if receives < RECEIVES_MIN:
        text = f"maxReceiveCount expected {RECEIVES_GOOD} or more, was {receives}; a restart or two, which count, move "
        return Finding(Level.FAULT, what, text + "good orders away")
    if receives < RECEIVES_GOOD:
        text = f"maxReceiveCount {receives} is few: each drain, crash and give-back counts; {use}"
        return Finding(Level.ADVICE, what, text)
    return Finding(Level.FINE, what, f"maxReceiveCount {receives}")


class _Policy(msgspec.Struct, frozen=True):
    deadLetterTargetArn: str = ""  # noqa: N815  AWS's name
    maxReceiveCount: int = 0  # noqa: N815  AWS's name


def receives_of(policy: str) -> int:
    """Return maxReceiveCount of a redrive policy, 0 = can't be read. Consoles write it as a text or as a number."""
    try:
        return msgspec.json.decode(policy, type=_Policy, strict=False).maxReceiveCount
    except (msgspec.DecodeError, UnicodeError):
        return 0


# Rights and the other queues


def _rights(sqs: Any, url: str) -> list[Finding]:
    entries = [{"Id": "0", "ReceiptHandle": NO_MESSAGE}]
    visible = [{**entries[0], "VisibilityTimeout": 0}]
    return [
        _right("sqs:ReceiveMessage", partial(sqs.receive_message, QueueUrl=url, VisibilityTimeout=0), is_real=True),
        _right("sqs:DeleteMessage", partial(sqs.delete_message_batch, QueueUrl=url, Entries=entries)),
        _right("sqs:ChangeMessageVisibility",
               partial(sqs.change_message_visibility_batch, QueueUrl=url, Entries=visible)),
    ]  # fmt: skip


def _right(right: str, call: Callable[[], Mapping[str, Any]], *, is_real: bool = False) -> Finding:
    """Make a call that works, or that can't but is not refused for want of the right."""
    try:
        answer = call()
    except BROKEN as e:
        if is_forbidden(e):
            return Finding(Level.FAULT, right, f"{code_of(e)}; grant it")
        if is_real:
            return Finding(Level.FAULT, right, text_of(e))
        return Finding(Level.FINE, right, "not refused, as far as a call without a message shows")
    refused = [f for f in answer.get("Failed") or () if "Denied" in str(f.get("Code", ""))]
    if refused:
        return Finding(Level.FAULT, right, f"{refused[0]['Code']}; grant it")
    return Finding(Level.FINE, right, "works" if is_real else "not refused, as far as a call without a message shows")


def look_at_target(sqs: Any, queue: str, of: str) -> list[Finding]:
    """Return whether a queue is there and may be sent to; ``of``: what goes there."""
    what = f"queue {queue}"
    try:
        url = _url(sqs, queue)
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    except BROKEN as e:
        if is_forbidden(e):
            return [Finding(Level.ADVICE, what, f"could not be seen ({code_of(e)}); {of} go there")]
        return [Finding(Level.FAULT, what, f"expected to be there for {of}, was not: {text_of(e)}; make it")]
    # An entry without a body: not sent whoever asks.
    group = {"MessageGroupId": "check", "MessageDeduplicationId": "check"} if queue.endswith(FIFO) else {}
    entries = [{"Id": "0", "MessageBody": "", **group}]
    sending = _right(f"sqs:SendMessage on {queue}", partial(sqs.send_message_batch, QueueUrl=url, Entries=entries))
    return [Finding(Level.FINE, what, f"is there, for {of}"), sending]


def _dead_letters(sqs: Any, attributes: Mapping[str, str], settings: SqsSettings) -> list[Finding]:
    queue = settings.dead_letter_queue
    found = look_at_target(sqs, queue, "dead letters")
    if found[0].level is not Level.FINE:
        return found
    theirs = sqs.get_queue_attributes(QueueUrl=_url(sqs, queue), AttributeNames=["All"])["Attributes"]
    seconds = int(theirs.get("MessageRetentionPeriod", RETENTION_DEAD_S))
    if seconds < RETENTION_DEAD_S:
        text = f"{seconds} s; use {RETENTION_DEAD_S} (14 days), people look at these"
        found.append(Finding(Level.ADVICE, f"MessageRetentionPeriod of {queue}", text))
    policy = attributes.get("RedrivePolicy", "")
    if policy and theirs.get("QueueArn", "") not in policy:
        text = f"is another queue than {queue}: wojak sidecar dlq does not see what SQS puts there"
        found.append(Finding(Level.ADVICE, "deadLetterTargetArn", text))
    return found
