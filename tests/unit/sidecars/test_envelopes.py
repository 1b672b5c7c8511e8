"""What a message carries: orders, arrays, events; and the ids and times that come with them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.edge import ORDERS_MAX
from protocol.errors import FieldError
from sidecars.core.envelopes import Item, may_be_event, open_message, parse_time
from sidecars.core.identity import derive_id, item_id, trace_of

EVENT = {"specversion": "1.0", "id": "7", "source": "/desk/a", "type": "order.new"}
STRUCTURED = "application/cloudevents+json; charset=UTF-8"
BATCH = "application/cloudevents-batch+json"
ORDER = b'{"account":"a"}'


def event(**changes: Any) -> bytes:
    """Return a structured event; None takes an attribute out."""
    fields = {**EVENT, "data": json.loads(ORDER), **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not None}, separators=(",", ":")).encode()


def one(body: bytes, **how: Any) -> Item:
    """Open what holds one order."""
    items, is_batch = open_message(body, "mid-1", **how)
    assert not is_batch
    return items[0]


def test_a_plain_body_is_itself() -> None:
    """Nothing is unwrapped that does not say what it is."""
    assert one(ORDER) == Item(ORDER, "mid-1")
    assert one(event()).body == event()  # a body may imitate an envelope


def test_an_array_is_as_many_orders_with_ids_by_their_index() -> None:
    """The derived ids are the message's with the index behind a slash."""
    items, is_batch = open_message(b" \n[%b,%b]" % (ORDER, ORDER), "mid-1")

    assert is_batch
    assert [(i.body, i.derived_id) for i in items] == [(ORDER, "mid-1/0"), (ORDER, "mid-1/1")]


def test_a_structured_event_brings_its_data_its_identity_and_its_time() -> None:
    """The id comes from source and id of the event, whatever broker carried it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    item = one(event(time="2026-11-22T09:30:00.25Z", traceparent=trace), content_type=STRUCTURED)

    assert item.body == ORDER
    assert item.derived_id == derive_id("ce", "/desk/a", "7") != "mid-1"
    assert item.created_at_ns == 1_795_339_800_250_000_000
    assert trace_of(item.traceparent).hex() == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("prefix", ["ce-", "CE-", "ce_", "cloudEvents:", "cloudEvents_"])
def test_a_binary_event_is_the_same_event(prefix: str) -> None:
    """Attributes in the headers of HTTP, Kafka or AMQP: same order, same identity."""
    item = one(ORDER, attributes={prefix + k: v for k, v in EVENT.items()}, content_type="application/json")

    assert (item.body, item.derived_id) == (ORDER, one(event(), content_type=STRUCTURED).derived_id)


def test_data_may_be_base64() -> None:
    """An event whose data are bytes holds the same order."""
    body = event(data=None, data_base64=base64.b64encode(ORDER).decode())

    assert one(body, content_type=STRUCTURED).body == ORDER


def test_each_event_of_a_batch_has_its_own_identity() -> None:
    """A batch of events is a batch of orders, whose ids are the events'."""
    items, is_batch = open_message(b"[" + event() + b"," + event(id="8") + b"]", "mid-1", BATCH)

    assert is_batch
    assert [i.derived_id for i in items] == [derive_id("ce", "/desk/a", "7"), derive_id("ce", "/desk/a", "8")]


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (event(specversion="2.0"), STRUCTURED, "event.specversion"),
        (event(specversion=None), STRUCTURED, "event"),
        (event(id=""), STRUCTURED, "event.id"),
        (event(source=""), STRUCTURED, "event.source"),
        (event(type=""), STRUCTURED, "event.type"),
        (event(time="yesterday"), STRUCTURED, "event.time"),
        (event(datacontenttype="text/plain"), STRUCTURED, "event.datacontenttype"),
        (event(data_base64="e30="), STRUCTURED, "event.data_base64"),
        (event(data=None, data_base64="%%"), STRUCTURED, "event.data_base64"),
        (b"", STRUCTURED, "event"),
        (b"[]", BATCH, "body"),
        (b"[" + event(data=[1]) + b"]", BATCH, "[0].data"),
        (b"[", "", "body"),
        (b"[]", "", "body"),
        (b"[" + b",".join([b"1"] * (ORDERS_MAX + 1)) + b"]", "", "body"),
        (b"[" * 100_000, "", "body"),
    ],
)  # fmt: skip
def test_a_broken_envelope_is_refused_by_name(body: bytes, content_type: str, field: str) -> None:
    """The field that is wrong is named, and nothing of the message is used."""
    if field == "event.data_base64" and b"data_base64" in body and b'"data":' in body:
        field = "event.data"
    with pytest.raises(FieldError) as refused:
        open_message(body, "mid-1", content_type)

    assert refused.value.field == field


@given(
    body=st.binary(max_size=300) | st.sampled_from([event(), b"[" + event() + b"]", ORDER]),
    content_type=st.sampled_from(["", STRUCTURED, BATCH, "text/plain"]) | st.text(max_size=40),
    attributes=st.none() | st.dictionaries(st.sampled_from([f"ce-{k}" for k in EVENT]) | st.text(), st.text()),
)
@example(body=b'{"specversion":"1.0","id":"\\ud800","source":"s","type":"t"}', content_type=STRUCTURED, attributes=None)
def test_whatever_comes_is_opened_or_named(body: bytes, content_type: str, attributes: dict[str, str] | None) -> None:
    """Nothing but the documented error leaves, and what is opened has items within the bounds."""
    try:
        items, is_batch = open_message(body, "mid-1", content_type, attributes)
    except FieldError:
        return
    assert 1 <= len(items) <= ORDERS_MAX
    assert is_batch or len(items) == 1
    assert all(len(i.derived_id) <= 64 for i in items)


TYPES = ["", STRUCTURED, BATCH, " Application/CloudEvents+json", "application/json"]
NAMES = [f"{prefix}{name}" for prefix in ("ce-", "CE_", "cloudEvents:", "CLOUDEVENTS_", "x-") for name in EVENT]


@settings(deadline=None)
@given(
    content_type=st.sampled_from(TYPES) | st.text(max_size=40),
    attributes=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), st.text(min_size=1), max_size=6),
)
@example(content_type="", attributes={f"ce_{name}": text for name, text in EVENT.items()})
def test_what_surely_is_no_event_is_opened_as_it_is(content_type: str, attributes: dict[str, str]) -> None:
    """The quick look misses no envelope: what it lets pass has the body and the id that it came with."""
    if not may_be_event(content_type, attributes):
        assert one(ORDER, content_type=content_type, attributes=attributes) == Item(ORDER, "mid-1")
    elif content_type == "":
        assert any(name[:3].lower() in {"ce-", "ce_", "clo"} for name in attributes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2026-11-22T10:30:00+01:00", 1_795_339_800_000_000_000),
        ("2026-11-22T09:30:00.123456789999z", 1_795_339_800_123_456_789),
    ],
)
def test_times_are_exact(text: str, expected: int) -> None:
    """Nanoseconds are kept, finer digits cut, zones counted."""
    assert parse_time(text, "t") == expected


@pytest.mark.parametrize("text", ["", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-11-22 09:30:00Z", "9"])
def test_other_times_are_refused(text: str) -> None:
    """What is no RFC 3339 time after 1970 is named."""
    with pytest.raises(FieldError):
        parse_time(text, "t")


@given(first=st.lists(st.text(min_size=1), min_size=1, max_size=4), second=st.lists(st.text(min_size=1), min_size=1))
def test_derived_ids_are_equal_exactly_for_equal_parts(first: list[str], second: list[str]) -> None:
    """Neither moving a border between parts nor anything else makes two messages one."""
    assert (derive_id("x", *first) == derive_id("x", *second)) == (first == second)


def test_what_lacks_a_part_has_no_id() -> None:
    """A message without an id has none, and so have its items."""
    assert derive_id("amqp", "/", "orders", "") == item_id("", 3) == ""


@pytest.mark.parametrize("text", ["", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "nonsense"])
def test_a_trace_is_made_where_none_came(text: str) -> None:
    """Sixteen bytes, never all zero, and never twice the same."""
    assert len(trace_of(text)) == 16
    assert any(trace_of(text))
    assert trace_of(text) != trace_of(text)
