"""One message to one receiver: the same facts as JSON for programs and as lines for people."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from cli.alerting.judge import Alert, Say

NS_PER_S = 1_000_000_000
SUBJECT_CHARS_MAX = 150
TITLES = {
    Say.FIRING: "ALERT", Say.AGAIN: "STILL", Say.RESOLVED: "RESOLVED", Say.EVENT: "EVENT", Say.SUPPRESSED: "HELD BACK",
    Say.TEST: "TEST",
}  # fmt: skip


class Message(Struct, frozen=True):
    """What a receiver gets.

    Attributes:
        id: The same in every attempt: who has seen it passes over the next one.
        deployment: Which deployment says it.
        state: firing, again, resolved, event, suppressed or test.
        rule: Which rule; docs/alerts.md.
        scope: What of: an account, a venue, a process, a code.
        text: A line for a person.
        at: When it is said, ISO 8601 UTC; ``since``: when it began.
        suppressed: Messages of this rule that this receiver was spared since the last one.
        lost: Messages of any rule that could not be delivered to this receiver since the last one.
    """

    id: str
    deployment: str
    state: str
    rule: str
    scope: str
    text: str
    at: str
    since: str
    suppressed: int = 0
    lost: int = 0


def message_of(alert: Alert, message_id: str, deployment: str, suppressed: int = 0, lost: int = 0) -> Message:
    """Return the message of an alert."""
    scope = " ".join(part for part in (alert.key.asked, alert.key.scope) if part)
    return Message(
        message_id, deployment, alert.say.value, alert.key.rule, scope, alert.text, _iso(alert.at_ns),
        _iso(alert.since_ns), suppressed, lost,
    )  # fmt: skip


def body_of(message: Message) -> bytes:
    """Return the JSON that a webhook gets, the bytes that are signed."""
    return msgspec.json.encode(message)


def subject_of(message: Message) -> str:
    """Return one line without control characters."""
    line = f"[{message.deployment}] {TITLES[Say(message.state)]} {message.rule}: {message.text}"
    return "".join(c if c.isprintable() else " " for c in line)[:SUBJECT_CHARS_MAX]


def lines_of(message: Message) -> str:
    """Return the text for a person."""
    lines = [subject_of(message), f"scope: {message.scope or 'all'}", f"since: {message.since}"]
    if message.since != message.at:
        lines.append(f"said: {message.at}")
    if message.suppressed:
        lines.append(f"{message.suppressed} more of this rule were held back")
    if message.lost:
        lines.append(f"{message.lost} messages before this one could not be delivered")
    return "\n".join(lines)


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).isoformat().replace("+00:00", "Z")
