"""Orders as people write them: every decimal exact, every refusal named, the schema true to the decoder."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, Side, TimeInForce
from protocol.edge import (
    BODY_BYTES_MAX,
    NewOrderRequest,
    decode_new_order,
    http_status,
    to_new_order,
    to_response,
)
from protocol.errors import FieldError
from protocol.orders import CancelOrder, NewOrder, TermedOrder
from protocol.schema import json_schema
from protocol.session import Outcome
from protocol.units import E9, INT64_MAX, format_e9, parse_e9

ORDER = {
    "account": "demo",
    "strategy": "manual",
    "instrument": "BTCUSDT",
    "side": "BUY",
    "quantity": "0.01",
    "price": "61800.5",
}
IN_RANGE = st.integers(-INT64_MAX, INT64_MAX)
DECIMALS = st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z0-9._:/@+\-]{1,64}", fullmatch=True)


def body(**fields: object) -> bytes:
    return json.dumps({**ORDER, **fields}).encode()


UNDATED = [t for t in TimeInForce if t is not TimeInForce.GTD]


@given(value=IN_RANGE)
def test_e9_goes_to_text_and_back(value: int) -> None:
    """Every int64 in 1e-9 has one shortest text, and that text is it again."""
    text = format_e9(value)

    assert parse_e9(text, "price") == value
    assert Decimal(text) == Decimal(value) / E9
    assert "." not in text or not text.endswith("0")


@given(text=DECIMALS)
def test_a_decimal_is_taken_exactly(text: str) -> None:
    """What the text says is what the integer says, digit for digit."""
    assert parse_e9(text, "price") == int(Decimal(text) * E9)


@given(text=st.text(max_size=40))
def test_any_text_is_exact_or_refused(text: str) -> None:
    """No text gives a wrong number: either it is a plain decimal, or the field is named."""
    try:
        value = parse_e9(text, "price")
    except FieldError:
        return  # named, as the tests below show
    else:
        assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
        assert Decimal(text) * E9 == value


@pytest.mark.parametrize(
    "text",
    ["", "1e30", "NaN", "inf", "+1", " 1", "1.", ".5", "0x1", "1_0", "१", "9" * 11, "1.0000000001", "9223372037"],
)
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    """Exponents, signs, spaces, other digits, too long, outside int64."""
    with pytest.raises(FieldError) as caught:
        parse_e9(text, "quantity")
    assert (caught.value.field, caught.value.code) == ("quantity", "FIELD")


@given(
    account=NAMES, strategy=NAMES, instrument=NAMES, client_order_id=NAMES, side=st.sampled_from(list(Side)),
    tif=st.sampled_from(UNDATED), quantity=st.integers(1, INT64_MAX), price=IN_RANGE | st.none(),
    reduce_only=st.booleans(),
)  # fmt: skip
def test_an_order_written_down_is_the_same_order(  # noqa: PLR0917
    account: str, strategy: str, instrument: str, client_order_id: str, side: Side, tif: TimeInForce, quantity: int,
    price: int | None, reduce_only: bool,
) -> None:  # fmt: skip
    """JSON to command loses and invents nothing; no price means MARKET."""
    text = {
        "account": account, "strategy": strategy, "instrument": instrument, "side": side.name,
        "quantity": format_e9(quantity), "time_in_force": tif.name, "reduce_only": reduce_only,
        "order_type": "MARKET" if price is None else "LIMIT",
    } | ({} if price is None else {"price": format_e9(price)})  # fmt: skip

    command = to_new_order(decode_new_order(json.dumps(text).encode()), client_order_id)

    assert command == NewOrder(
        account, client_order_id, strategy, instrument, side, OrderType.MARKET if price is None else OrderType.LIMIT,
        tif, quantity, price or 0, reduce_only,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "field", "value", "expected"),
    [
        (body(quantity=1), "quantity", "1", 'a decimal string such as "0.01"'),
        (body(quantity="ten"), "quantity", "ten", 'a decimal string such as "0.01"'),
        (body(price=61800.5), "price", "61800.5", 'a decimal string such as "61800.5"'),
        (body(side="HOLD"), "side", "HOLD", '"BUY" or "SELL"'),
        (body(order_type="PEG"), "order_type", "PEG", '"LIMIT", "MARKET", "STOP" or "STOP_LIMIT"'),
        (body(time_in_force="OPG"), "time_in_force", "OPG", '"DAY", "GTC", "IOC", "FOK" or "GTD"'),
        (body(expire_at_ns="soon"), "expire_at_ns", "soon", "a whole number of nanoseconds"),
        (body(post_only=1), "post_only", "1", "true or false"),
        (body(stop_price=5), "stop_price", "5", "a decimal string"),
        (body(reduce_only=1), "reduce_only", "1", "true or false"),
        (body(account="demo\n"), "account", "demo\\n", "`str` matching regex"),
        (body(leverage="9"), "leverage", "9", "no such field; known: account"),
        (b'{"strategy":"s"}', "account", "absent", "a value"),
        (b"[]", "body", "[]", "a JSON object"),
        (b"{", "body", "{", "a JSON object"),
        (b" " * (BODY_BYTES_MAX + 1), "body", f"{BODY_BYTES_MAX + 1} bytes", f"at most {BODY_BYTES_MAX} bytes"),
        (b'{"x": 1, nonsense', "x", "unreadable", "no such field"),
        (b'{"x":' * 50_000, "x", "unreadable", "no such field"),
    ],
    ids=lambda value: value[-24:].decode() if isinstance(value, bytes) else None,
)
def test_an_error_names_field_value_and_expectation(raw: bytes, field: str, value: str, expected: str) -> None:
    """Whoever wrote it can mend it from the message alone."""
    with pytest.raises(FieldError) as caught:
        decode_new_order(raw)

    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.expected.startswith(expected)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_order_or_a_named_refusal(raw: bytes) -> None:
    """Nothing else leaves the decoder."""
    try:
        decode_new_order(raw)
    except FieldError:
        return


@given(cut=st.integers(0, 200), junk=st.binary(max_size=8))
def test_a_damaged_order_is_an_order_or_a_named_refusal(cut: int, junk: bytes) -> None:
    """Nor for an order that was cut and went on as something else."""
    try:
        decode_new_order(body(leverage="9")[:cut] + junk)
    except FieldError:
        return


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"order_type": "MARKET"}, "price"),
        ({"price": None}, "price"),
        ({"quantity": "0"}, "quantity"),
        ({"quantity": "-1"}, "quantity"),
        ({"price": "9999999999"}, "price"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(fields: dict[str, object], field: str) -> None:
    """A priced MARKET, a LIMIT without price, no quantity, out of int64."""
    request = decode_new_order(body(**fields))
    with pytest.raises(FieldError) as caught:
        to_new_order(request, "a1")
    assert caught.value.field == field


def outcome(kind: OutcomeKind, code: Code = Code.OK, first: Outcome | None = None) -> Outcome:
    return Outcome(1, kind, code, "P-1", 42, OrderStatus.FILLED, 12, 10**9, 5 * 10**9, first=first)


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (OutcomeKind.ACCEPTED, Code.OK, 201),
        (OutcomeKind.ACCEPTED, Code.TOMBSTONE, 202),
        (OutcomeKind.HELD, Code.OK, 202),
        (OutcomeKind.PAPER, Code.OK, 202),
        (OutcomeKind.REJECTED, Code.QTY_MAX, 422),
        (OutcomeKind.REJECTED, Code.AUTH_NOT_PERMITTED, 403),
        (OutcomeKind.REJECTED, Code.ID_CONFLICT, 409),
        (OutcomeKind.REJECTED, Code.INTERNAL, 500),
    ],
)
def test_a_status_belongs_to_the_first_outcome(kind: OutcomeKind, code: Code, status: int) -> None:
    """DESIGN section 5, and the same for a duplicate of it."""
    first = outcome(kind, code)

    assert http_status(first) == status
    assert http_status(outcome(OutcomeKind.DUPLICATE, first=first)) == status


def test_a_replay_is_the_first_answer_and_says_so() -> None:
    """Same fields; duplicate_of and order_state are added, the sync's time is not claimed again."""
    command = CancelOrder("demo", "a1")
    first = outcome(OutcomeKind.ACCEPTED)
    once = msgspec.to_builtins(to_response(first, command, bytes(16), "PAPER", 118_000))
    replay = outcome(OutcomeKind.DUPLICATE, first=first)
    again = msgspec.to_builtins(to_response(replay, command, bytes(16), "PAPER", 9))

    assert again == {**once, "durable_in_us": None, "duplicate_of": "a1", "order_state": "FILLED"}
    assert "duplicate_of" not in once
    assert (once["position_after"], once["position_limit"], once["durable_in_us"]) == ("1", "5", 118)


def _matches(schema: dict[str, object], value: object, defs: dict[str, dict[str, object]]) -> bool:
    """Judge by the part of JSON Schema that msgspec writes; another word in a schema is an error here."""
    known = {
        "$ref", "anyOf", "type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "properties",
        "required", "additionalProperties", "title", "description", "default",
    }  # fmt: skip
    assert set(schema) <= known, f"unknown words {set(schema) - known}"
    if "$ref" in schema:
        return _matches(defs[str(schema["$ref"]).rsplit("/", 1)[1]], value, defs)
    if "anyOf" in schema:
        return any(_matches(s, value, defs) for s in schema["anyOf"])  # type: ignore[attr-defined]
    if "enum" in schema:
        return value in schema["enum"]  # type: ignore[operator]
    kinds = {"string": str, "integer": int, "boolean": bool, "null": type(None), "object": dict}
    if type(value) is not kinds[str(schema["type"])]:
        return False
    if isinstance(value, str):
        low, high = int(str(schema.get("minLength", 0))), int(str(schema.get("maxLength", 1 << 30)))
        return low <= len(value) <= high and bool(re.search(str(schema.get("pattern", "")), value))
    if isinstance(value, int) and not isinstance(value, bool):
        return int(str(schema.get("minimum", value))) <= value <= int(str(schema.get("maximum", value)))
    if isinstance(value, dict):
        properties: dict[str, dict[str, object]] = schema["properties"]  # type: ignore[assignment]
        required: list[str] = schema["required"]  # type: ignore[assignment]
        closed = schema.get("additionalProperties") is False
        return (
            all(name in value for name in required)
            and not (closed and set(value) - set(properties))
            and all(_matches(properties[n], v, defs) for n, v in value.items() if n in properties)
        )
    return True


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"client_order_id": "a1"}, {"order_type": "MARKET", "price": None}, {"created_at_ns": 1},
        {"quantity": 1}, {"quantity": "1e30"}, {"side": "HOLD"}, {"leverage": "9"}, {"account": ""},
        {"account": "x" * 65}, {"created_at_ns": 0}, {"reduce_only": "no"}, {"price": "1.0000000001"},
    ],
    ids=str,
)  # fmt: skip
def test_the_schema_and_the_decoder_judge_alike(fields: dict[str, object]) -> None:
    """Who checks against the published schema is not surprised by the engine's door."""
    defs = json_schema()["$defs"]
    order = {**ORDER, **fields}
    try:
        msgspec.convert(order, NewOrderRequest)
        taken = True
    except msgspec.ValidationError:
        taken = False

    assert _matches(defs["NewOrderRequest"], order, defs) is taken


def test_the_schema_knows_the_answers() -> None:
    """An outcome as sent is valid by the schema."""
    defs = json_schema()["$defs"]
    answer = msgspec.json.encode(
        to_response(outcome(OutcomeKind.ACCEPTED), CancelOrder("demo", "a1"), bytes(16), "PAPER", 118_000)
    )

    assert _matches(defs["OrderResponse"], msgspec.json.decode(answer), defs)


def test_terms_that_few_orders_have_make_another_command() -> None:
    """Stop price, instant, post-only; an order without any of them is a NewOrder with the bytes it always had."""
    stop = to_new_order(decode_new_order(body(order_type="STOP_LIMIT", stop_price="61700")), "c")
    dated = to_new_order(decode_new_order(body(time_in_force="GTD", expire_at_ns=5)), "c")
    quiet = to_new_order(decode_new_order(body(post_only=True)), "c")
    whole = to_new_order(decode_new_order(body(time_in_force="FOK")), "c")

    assert [type(c) for c in (stop, dated, quiet, whole)] == [TermedOrder, TermedOrder, TermedOrder, NewOrder]
    assert isinstance(stop, TermedOrder)
    assert (stop.stop_price_e9, stop.price_e9) == (61_700 * 10**9, 61_800_500_000_000)
    assert isinstance(dated, TermedOrder)
    assert dated.expire_at_ns == 5
    assert isinstance(quiet, TermedOrder)
    assert quiet.post_only


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"order_type": "STOP"}, "price"), ({"order_type": "STOP_LIMIT"}, "stop_price"),
        ({"stop_price": "5"}, "stop_price"), ({"time_in_force": "GTD"}, "expire_at_ns"),
        ({"expire_at_ns": 5}, "expire_at_ns"), ({"post_only": True, "time_in_force": "IOC"}, "post_only"),
    ],
)  # fmt: skip
def test_terms_stand_where_they_mean_something(changes: dict[str, object], field: str) -> None:
    """A price without its type, a type without its price, an instant without GTD: the field is named."""
    with pytest.raises(FieldError) as caught:
        to_new_order(decode_new_order(body(**changes)), "c")
    assert caught.value.field == field
