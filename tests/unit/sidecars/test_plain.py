"""The quick way to read an order agrees with the careful one, whatever is read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.edge import to_new_order
from protocol.errors import FieldError
from protocol.orders import NewOrder
from protocol.units import parse_e9
from sidecars.core.decode import decode_request
from sidecars.core.plain import read_plain

ORDER = {
    "account": "acc", "strategy": "s", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01", "price": "61800.5",
}  # fmt: skip
TIME_NS = 1_700_000_000_000_000_000
texts = st.text(st.sampled_from(list('abZ09._:/@+- \n"\\é٣')), max_size=6) | st.sampled_from(["a" * 64, "a" * 65])
WORTHY = [
    "1", "0", "1.5", "-1", "-0", "5.", ".5", "1.1234567890", "9223372036.854775807", "9223372036.854775808",
    "00000000001",
]  # fmt: skip
decimals = st.text(st.sampled_from(list("0123456789.-٣ e+")), max_size=14) | st.sampled_from(WORTHY)
anything = st.none() | st.booleans() | st.integers() | st.floats() | texts | decimals
FIELDS = {
    "account": texts, "strategy": texts, "instrument": texts, "side": st.sampled_from(["BUY", "SELL", "buy", ""]),
    "quantity": decimals, "price": decimals, "order_type": st.sampled_from(["LIMIT", "MARKET", "STOP"]),
    "time_in_force": st.sampled_from(["DAY", "GTC", "IOC", "FOK", "GTD"]), "client_order_id": texts,
    "reduce_only": st.booleans(), "created_at_ns": st.integers(-1, 2**64), "stop_price": decimals,
    "expire_at_ns": st.integers(), "post_only": st.booleans(), "legs": anything, "cancels": anything, "oco": anything,
    "cancel_client_order_id": texts, "none": anything,
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Orders, mostly good ones, with some fields changed, left out, given twice, or written in another way."""
    fields: list[tuple[str, Any]] = list(ORDER.items())
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4)):
        value = draw(FIELDS[name] | anything)
        known = [at for at, (n, _) in enumerate(fields) if n == name]
        if known and draw(st.booleans()):
            fields[known[0]] = (name, value)
        else:
            fields.append((name, value))
    if draw(st.booleans()):
        del fields[draw(st.integers(0, len(fields) - 1))]
    colon, escaped = draw(st.sampled_from([":", " : ", "\n:"])), draw(st.booleans())
    written = [f"{json.dumps(n)}{colon}{json.dumps(v, ensure_ascii=escaped)}" for n, v in fields]
    body = "{" + draw(st.sampled_from([",", ", "])).join(written) + "}"
    at = draw(st.integers(0, 40))
    noise = draw(st.sampled_from(["", "", "", "[", "}", "\\", ":", "\x00", '"', "\\u0061"]))
    return (body[:at] + noise + body[at:]).encode("utf-8", "surrogatepass")


def carefully(body: bytes) -> tuple[NewOrder, int | None] | None:
    try:
        request = decode_request(body)
        return to_new_order(request, request.client_order_id or "derived"), request.created_at_ns
    except FieldError:
        return None


@settings(max_examples=300, deadline=None)
@given(body=bodies())
@example(body=json.dumps({**ORDER, "account": "a b"}).encode())
@example(body=json.dumps({**ORDER, "account": "a b", "client_order_id": ""}).encode())
@example(body=json.dumps({**ORDER, "price": "1."}).encode())
@example(body=json.dumps({**ORDER, "price": "٣"}, ensure_ascii=False).encode())
@example(body=b'{"side":"SELL",' + json.dumps(ORDER).encode()[1:])
@example(body=b'{"side" :"SELL",' + json.dumps(ORDER).encode()[1:])
@example(body=json.dumps({**ORDER, "account": "a:b"}).encode())
def test_what_is_read_quickly_is_what_is_read_carefully(body: bytes) -> None:
    """Never another order, and never one that is refused: what is not certain is left alone."""
    found = read_plain(body, lambda own: own or "derived")

    assert found is None or found == carefully(body)


@pytest.mark.parametrize(
    "more",
    [{}, {"client_order_id": "a"}, {"created_at_ns": TIME_NS, "reduce_only": True, "time_in_force": "IOC"},
     {"order_type": "LIMIT", "client_order_id": "a.b/c@d+e-f_1"}],
)  # fmt: skip
def test_plain_orders_are_read_quickly(more: dict[str, Any]) -> None:
    """Else nothing is gained: each form that a producer would write, compact or spaced."""
    for separators in ((",", ":"), (", ", ": ")):
        body = json.dumps({**ORDER, **more}, separators=separators).encode()

        assert read_plain(body, lambda own: own or "derived") == carefully(body)


@settings(deadline=None)
@given(text=decimals)
@example(text="123456789.123456789")
@example(text="0.000000001")
def test_decimals_are_exact(text: str) -> None:
    """The quick way through digits gives what the digits say."""
    try:
        value = parse_e9(text, "price")
    except FieldError:
        return
    assert value == Decimal(text) * 10**9
    assert text.isascii()
