"""Bodies that are more than one order, over a real loopback socket: baskets, OCO groups, exits in place of others."""

from __future__ import annotations

import httpx
import pytest

from protocol.codes import OrderType, TimeInForce
from protocol.orders import ExitReplace, NewBasket, NewOco, TermedOrder, command_decoder
from sidecars.core.decode import may_use_reserve, new_risk
from tests.unit.sidecars.conftest import ORDER, Stage

BASKET = {
    "account": "acc",
    "strategy": "s",
    "client_order_id": "b1",
    "legs": [
        {"instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01", "price": "61800.5"},
        {"instrument": "ETHUSDT", "side": "SELL", "quantity": "2", "order_type": "MARKET", "time_in_force": "IOC"},
    ],
}


def test_a_basket_is_one_command_with_named_legs(running: Stage) -> None:
    """201 with the ids of the legs; a repeat gets the first answer; in an array it stands beside orders."""
    taken = running.post(BASKET)
    again = running.post({k: v for k, v in BASKET.items() if k != "client_order_id"}, idempotency_key="b1")
    many = running.post([{**BASKET, "client_order_id": "b2"}, {**ORDER, "client_order_id": "o1"}])

    assert (taken.status_code, taken.json()["legs"]) == (201, ["b1/1", "b1/2"])
    assert (again.status_code, again.json()["duplicate_of"]) == (201, "b1")
    assert "order_state" not in again.json()
    assert [one["http_status"] for one in many.json()] == [201, 201]
    command = command_decoder.decode(running.journal.items[0].command)
    assert isinstance(command, NewBasket)
    assert [(leg.client_order_id, leg.quantity_e9, leg.price_e9) for leg in command.legs] == [
        ("b1/1", 10_000_000, 61_800_500_000_000), ("b1/2", 2_000_000_000, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"legs": BASKET["legs"][:1]}, "legs"),
        ({"legs": [BASKET["legs"][0], {"instrument": "X", "side": "BUY", "quantity": 1}]}, "legs[2].quantity"),
        ({"legs": [BASKET["legs"][0], {"instrument": "X", "side": "BUY", "quantity": "1"}]}, "legs[2].price"),
        ({"legs": [BASKET["legs"][0]] * 9}, "legs"),
        ({"client_order_id": "x" * 63}, "client_order_id"),
        ({"side": "BUY"}, "side"),
    ],
)
def test_a_faulty_basket_is_refused_here_with_the_leg(running: Stage, change: dict[str, object], field: str) -> None:
    """400 names leg and field; the engine hears nothing of it."""
    answer = running.post({**BASKET, **change})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert running.journal.items == []


EXIT = {
    "account": "acc", "strategy": "s", "client_order_id": "x1", "instrument": "BTCUSDT", "side": "SELL",
    "quantity": "0.01", "order_type": "MARKET", "cancels": ["o1", "o2"],
}  # fmt: skip


def test_an_exit_in_the_place_of_others_is_one_command(running: Stage) -> None:
    """201 with its own id; a repeat gets the first answer; it uses the reserve of credits, for it adds no risk."""
    taken = running.post(EXIT)
    again = running.post({k: v for k, v in EXIT.items() if k != "client_order_id"}, idempotency_key="x1")

    assert (taken.status_code, taken.json()["client_order_id"]) == (201, "x1")
    assert (again.status_code, again.json()["duplicate_of"]) == (201, "x1")
    command = command_decoder.decode(running.journal.items[0].command)
    assert isinstance(command, ExitReplace)
    assert (command.cancels, command.quantity_e9, command.price_e9) == (["o1", "o2"], 10_000_000, 0)
    assert may_use_reserve(command)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cancels": []}, "cancels"),
        ({"cancels": ["o"] * 9}, "cancels"),
        ({"cancels": ["no spaces"]}, "cancels[0]"),
        ({"order_type": "LIMIT"}, "price"),
        ({"reduce_only": True}, "reduce_only"),
    ],
)
def test_a_faulty_exit_is_refused_here_with_the_field(running: Stage, change: dict[str, object], field: str) -> None:
    """400 names the field; the engine hears nothing of it."""
    answer = running.post({**EXIT, **change})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert running.journal.items == []


TARGET = {"quantity": "0.01", "price": "63000", "reduce_only": True}
STOP = {"quantity": "0.01", "stop_price": "61000.5", "reduce_only": True}
OCO = {
    "account": "acc", "strategy": "s", "client_order_id": "g1", "instrument": "BTCUSDT", "side": "SELL",
    "oco": [TARGET, STOP],
}  # fmt: skip


def test_an_oco_group_is_one_command_with_named_legs(running: Stage) -> None:
    """201 with the ids of both orders; a repeat gets the first answer; promises of both may use the reserve."""
    taken = running.post(OCO)
    again = running.post({k: v for k, v in OCO.items() if k != "client_order_id"}, idempotency_key="g1")

    assert (taken.status_code, taken.json()["legs"]) == (201, ["g1/1", "g1/2"])
    assert (again.status_code, again.json()["duplicate_of"]) == (201, "g1")
    command = command_decoder.decode(running.journal.items[0].command)
    assert isinstance(command, NewOco)
    assert [(leg.client_order_id, leg.order_type, leg.price_e9) for leg in command.legs] == [
        ("g1/1", OrderType.LIMIT, 63_000_000_000_000), ("g1/2", OrderType.STOP, 0),
    ]  # fmt: skip
    assert isinstance(command.legs[1], TermedOrder)
    assert command.legs[1].stop_price_e9 == 61_000_500_000_000
    assert may_use_reserve(command)


def test_an_oco_group_of_other_terms(running: Stage) -> None:
    """STOP_LIMIT, good till a date, post-only; without the promise it is new risk."""
    stop = {
        "quantity": "2",
        "order_type": "STOP_LIMIT",
        "stop_price": "61000",
        "price": "60900",
        "time_in_force": "GTC",
    }
    target = {"quantity": "1", "price": "63000", "time_in_force": "GTD", "expire_at_ns": 2**62, "post_only": True}
    taken = running.post({**OCO, "oco": [target, stop]})

    command = command_decoder.decode(running.journal.items[0].command)
    assert isinstance(command, NewOco)
    assert (taken.status_code, new_risk(command)) == (201, 2)
    first, second = command.legs
    assert isinstance(first, TermedOrder)
    assert (first.time_in_force, first.post_only, second.price_e9) == (TimeInForce.GTD, True, 60_900_000_000_000)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"oco": [TARGET]}, "oco"),
        ({"oco": [TARGET, STOP, STOP]}, "oco"),
        ({"oco": [STOP, TARGET]}, "oco[1].stop_price"),
        ({"oco": [TARGET, TARGET]}, "oco[2].stop_price"),
        ({"oco": [{**TARGET, "quantity": "0"}, STOP]}, "oco[1].quantity"),
        ({"oco": [TARGET, {**STOP, "order_type": "STOP_LIMIT"}]}, "oco[2].price"),
        ({"oco": [TARGET, {**STOP, "time_in_force": "IOC"}]}, "oco[2].time_in_force"),
        ({"oco": [TARGET, {**STOP, "time_in_force": "GTD"}]}, "oco[2].expire_at_ns"),
        ({"client_order_id": "x" * 63}, "client_order_id"),
        ({"quantity": "1"}, "quantity"),
        ({"side": "HOLD"}, "side"),
    ],
)
def test_a_faulty_oco_group_is_refused_here_with_the_leg(running: Stage, change: dict[str, object], field: str) -> None:
    """400 names order and field; the engine hears nothing of it."""
    answer = running.post({**OCO, **change})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert running.journal.items == []


def test_an_account_may_be_called_oco(running: Stage) -> None:
    """A value is no field: the order is a plain one."""
    assert running.post({**ORDER, "account": "oco", "client_order_id": "o1"}).status_code == 201


def test_a_leg_with_a_field_twice_is_refused(running: Stage) -> None:
    """Readers differ on which counts."""
    body = (
        b'{"account":"acc","strategy":"s","client_order_id":"b","legs":[{"instrument":"A","side":"BUY","side":"SELL",'
    )
    body += b'"quantity":"1","price":"1"},{"instrument":"A","side":"BUY","quantity":"1","price":"1"}]}'
    answer = httpx.post(f"{running.url}/v1/orders", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "side")
