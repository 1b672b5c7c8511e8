"""A task of Step Functions as a delivery: its input as it is, or the envelope that a state machine makes around it.

Rules: what an input is stands in the settings, never in what it looks like. A token names one attempt and changes with
each, so it is no id: that is the order's own, or what the envelope says is the same at each attempt.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.errors import NOT_DECODED, FieldError
from sidecars.core.envelopes import parse_time
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.source import Delivery
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings

REPLIED: Final = "task"  # the answer is part of the settlement: it has no address of its own


class Task(Struct, frozen=True):
    """What a state machine writes around an order.

    Attributes:
        order: The order, an array of orders or a CloudEvent; as a text: JSON that was made before.
        id: The same at each attempt, another for each order, such as `$$.Execution.Id`.
        time: When it was made, such as `$$.State.EnteredTime`; empty = the order says it.
        retries: `$$.State.RetryCount`.
        content_type: Of the order, if it is a CloudEvent.
        attributes: Of a CloudEvent in binary mode; `traceparent`.
    """

    order: msgspec.Raw
    id: str = ""
    time: str = ""
    retries: int = 0
    content_type: str = ""
    attributes: dict[str, str] = {}


class Receipt(Struct, frozen=True):
    """What is needed to settle."""

    token: str


_task: Final = msgspec.json.Decoder(Task)
_text: Final = msgspec.json.Decoder(str)


def to_delivery(
    settings: StepFunctionsSettings, polled: dict[str, Any], number: int, received_ns: int, lease_until_ns: int
) -> Delivery:
    """Return the delivery of a task.

    Args:
        settings: Of the source.
        polled: What GetActivityTask gave: ``taskToken``, ``input``.
        number: It is the how manieth that this process received.
        received_ns: When, monotonic.
        lease_until_ns: When it is to be held lost, monotonic.
    """
    delivery = Delivery(
        settings.principal,
        settings.activity.rpartition(":")[2],
        b"",
        0,
        received_ns,
        body=str(polled.get("input") or "").encode("utf-8", "surrogatepass"),
        source_id=f"task-{number}",
        lease_until_mono_ns=lease_until_ns,
        reply_to=REPLIED,
        receipt=Receipt(str(polled["taskToken"])),
    )
    traceparent = _open(delivery, settings.activity) if settings.envelope == "task" else ""
    delivery.trace_id = trace_of(traceparent)
    return delivery


def _open(delivery: Delivery, activity: str) -> str:
    """Take an order out of its envelope; return the trace's parent."""
    try:
        task = _task.decode(delivery.body)
        order = bytes(task.order)
        body = _text.decode(order).encode("utf-8", "surrogatepass") if order[:1] == b'"' else order
    except NOT_DECODED as e:
        delivery.refused = f"ENVELOPE: input expected an object with the order in `order`, was another ({e})"
        return ""
    try:
        delivery.created_at_ns = parse_time(task.time, "time") if task.time else 0
    except FieldError as e:
        delivery.refused = f"ENVELOPE: {e}"
        return ""
    delivery.body = body
    delivery.derived_id = derive_id("sfn", activity, task.id)
    delivery.source_id = task.id or delivery.source_id
    delivery.is_redelivered = task.retries > 0
    delivery.content_type = task.content_type
    delivery.attributes = task.attributes or None
    return task.attributes.get("traceparent", "")
