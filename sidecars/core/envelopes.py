"""What a message carries: one order, several in an array, or either inside a CloudEvent 1.0.

Rules: an envelope is what the content type or the message's attributes declare, never what a body looks like; one that
breaks its own rules is refused as a whole. Pure functions: bytes and attributes in, items out, FieldError and nothing
else for what can't be read.

Source: CloudEvents 1.0.2, JSON event format and the HTTP, Kafka and AMQP bindings (attribute prefixes), cloudevents.io.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Raw, Struct

from protocol.edge import ORDERS_MAX, VALUE_CHARS_MAX
from protocol.errors import NOT_DECODED, FieldError
from sidecars.core.identity import derive_id, item_id

SPEC_VERSION: Final = "1.0"
STRUCTURED: Final = "application/cloudevents"
STRUCTURED_BATCH: Final = "application/cloudevents-batch"
PREFIXES: Final = ("ce-", "ce_", "cloudEvents:", "cloudEvents_")
_BEGINNINGS: Final = frozenset(prefix[:3].lower() for prefix in PREFIXES)
NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")
_JSON_TYPE: Final = re.compile(r"(?:[\w.+-]+/)?(?:[\w.-]+\+)?json", re.ASCII)


class Item(Struct, frozen=True):
    """One order of a message, not read yet.

    Attributes:
        body: The order as JSON.
        derived_id: client_order_id if the body has none; empty = it needs its own.
        created_at_ns: When its event says it was made, UTC; 0 = nobody says so.
        traceparent: Of its event; empty = none.
    """

    body: bytes
    derived_id: str
    created_at_ns: int = 0
    traceparent: str = ""


class _Event(Struct, frozen=True):
    """A CloudEvent in the JSON format; extensions that nobody here reads are allowed."""

    specversion: str
    id: str
    source: str
    type: str
    time: str = ""
    datacontenttype: str = "application/json"
    data: Raw = Raw(b"")
    data_base64: str = ""
    traceparent: str = ""


_event_decoder: Final = msgspec.json.Decoder(_Event)
_items_decoder: Final = msgspec.json.Decoder(list[Raw])


def open_message(
    body: bytes, derived_id: str, content_type: str = "", attributes: Mapping[str, str] | None = None
) -> tuple[Sequence[Item], bool]:
    """Return the orders of a message, and whether it is a batch of them.

    Args:
        body: As it came.
        derived_id: The source's id for the message.
        content_type: As the message declares it; empty = it does not.
        attributes: The message's headers by name as they came; None = it has none.

    Raises:
        FieldError: Naming what the envelope has and what was expected; items are not looked into.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(STRUCTURED):
        if kind.startswith(STRUCTURED_BATCH):
            events = [_event_item(bytes(raw)) for raw in _array(body)]
            for index, item in enumerate(events):
                if _is_array(item.body):
                    raise FieldError(f"[{index}].data", "an array", "one order in each event of a batch")
            return events, True
        return _split(_event_item(body))
    if attributes and (binary := _binary(attributes)):
        return _split(_binary_item(body, binary, kind))
    return _split(Item(body, derived_id))


def may_be_event(content_type: str, attributes: Mapping[str, str] | None) -> bool:
    """Whether ``open_message`` could find an event; False is certain. Cheaper than to look for one."""
    if content_type and "cloudevents" in content_type.lower():
        return True
    if attributes:
        for name in attributes:
            if name[:3].lower() in _BEGINNINGS:
                return True
    return False


def _split(item: Item) -> tuple[Sequence[Item], bool]:
    if not _is_array(item.body):
        return (item,), False
    return [
        Item(bytes(raw), item_id(item.derived_id, index), item.created_at_ns, item.traceparent)
        for index, raw in enumerate(_array(item.body))
    ], True


def _is_array(body: bytes) -> bool:
    return body[:1] == b"[" or body[:VALUE_CHARS_MAX].lstrip()[:1] == b"["


def _array(body: bytes) -> list[Raw]:
    try:
        items = _items_decoder.decode(body)
    except NOT_DECODED as e:
        raise FieldError("body", _shown(body), f"a JSON array ({e})") from e
    if not 1 <= len(items) <= ORDERS_MAX:
        raise FieldError("body", f"{len(items)} items", f"1 to {ORDERS_MAX} items in an array")
    return items


# CloudEvents


def _event_item(body: bytes) -> Item:
    try:
        event = _event_decoder.decode(body)
    except msgspec.ValidationError as e:
        raise FieldError("event", _shown(body), f"a CloudEvent {SPEC_VERSION} as JSON ({e})") from e
    except NOT_DECODED as e:
        raise FieldError("event", _shown(body), f"a CloudEvent {SPEC_VERSION} as JSON ({e})") from e
    _require(event.specversion, event.id, event.source, event.type)
    if event.data_base64:
        if bytes(event.data):
            raise FieldError("event.data", "data and data_base64", "one of the two")
        data = _decoded(event.data_base64)
    else:
        data = bytes(event.data)
    return _item(data, event.source, event.id, event.time, event.datacontenttype, event.traceparent)


def _binary(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the event's attributes among a message's headers; empty if it is none."""
    found = {}
    for name, value in attributes.items():
        for prefix in PREFIXES:
            if name[: len(prefix)].lower() == prefix.lower():
                found[name[len(prefix) :].lower()] = value
    return found


def _binary_item(body: bytes, event: Mapping[str, str], content_type: str) -> Item:
    _require(*(event.get(name, "") for name in ("specversion", "id", "source", "type")))
    return _item(
        body, event["source"], event["id"], event.get("time", ""), content_type or "application/json",
        event.get("traceparent", ""),
    )  # fmt: skip


def _require(specversion: str, event_id: str, source: str, kind: str) -> None:
    if specversion != SPEC_VERSION:
        raise FieldError("event.specversion", specversion[:VALUE_CHARS_MAX] or "absent", f'"{SPEC_VERSION}"')
    for name, value in (("id", event_id), ("source", source), ("type", kind)):
        if not value:
            raise FieldError(f"event.{name}", "absent", "a text that is not empty")


def _item(data: bytes, source: str, event_id: str, time: str, content_type: str, traceparent: str) -> Item:
    kind = content_type.partition(";")[0].strip().lower()
    if not _JSON_TYPE.fullmatch(kind):
        raise FieldError("event.datacontenttype", content_type[:VALUE_CHARS_MAX], "application/json")
    # An event is the same event however often and over whatever broker it is sent: source and id are its identity.
    return Item(data, derive_id("ce", source, event_id), parse_time(time, "event.time") if time else 0, traceparent)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise FieldError("event.data_base64", text[:VALUE_CHARS_MAX], "base64") from e


def parse_time(text: str, field: str) -> int:
    """Return an RFC 3339 time as UTC nanoseconds.

    Raises:
        FieldError: If it is none, or before 1970.
    """
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        zone = "+00:00" if match[3] in {"Z", "z"} else match[3]
        at = datetime.fromisoformat(match[1] + zone)
        time_ns = (at - _EPOCH) // timedelta(seconds=1) * NS_PER_S + int((match[2] or "0").ljust(9, "0"))
        if not 0 < time_ns < 2**63:
            raise ValueError
    except (ValueError, OverflowError) as e:
        raise FieldError(field, text[:VALUE_CHARS_MAX], "a time such as 2026-11-22T09:30:00.5Z") from e
    return time_ns


def _shown(body: bytes) -> str:
    return body[:VALUE_CHARS_MAX].decode("utf-8", "replace")
