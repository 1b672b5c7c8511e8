"""``wojak orders``: what the books say of many orders, and the operator's word on one that nobody answers for."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from cli.engine_client import EngineClient
from cli.http_client import BooksClient
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.view import decimal, grouped
from cli.wiring import books_url
from protocol.codes import OrderStatus
from protocol.control import Resolve, UnknownOrders
from protocol.errors import ConfigError, FieldError
from protocol.units import format_e9, parse_e9

app = App(name="orders", help="List orders from the books, or say what became of one in state UNKNOWN.")


@app.default
def list_orders(
    *,
    account: Annotated[str, Parameter(help="Only this account.")] = "",
    open_: Annotated[bool, Parameter(name="--open", negative="", help="Only orders that still work.")] = False,
    limit: Annotated[int, Parameter(help="At most so many, 1 to 500.")] = 50,
    cursor: Annotated[int, Parameter(help="Go on from where the answer before ended.")] = 0,
    json: Annotated[bool, Parameter(negative="", help="Print the API's answer.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """List orders, oldest first.

    Example: `wojak orders --account demo --open`
    """
    client = BooksClient(books_url(deployment(config)))
    try:
        query = {"account": account, "open": "true" if open_ else "", "limit": limit, "cursor": cursor or ""}
        answer = client.get("/v1/orders", **query)
    finally:
        client.close()
    if json:
        say(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
        return 0
    for order in answer["orders"]:
        price = decimal(order["price"]) if order["order_type"] == "LIMIT" else "MARKET"
        filled = f"{order['cum_quantity']}/{order['quantity']} @ {price}"
        average = f"avg {decimal(order['avg_price'])}" if order["cum_quantity"] != "0" else ""
        code = "" if order["code"] == "OK" else order["code"]
        say(f"{order['status']:<16} {order['account']} {order['client_order_id']} {order['side']} "
            f"{order['instrument']} {filled} {average} {order['order_id']} {code}".rstrip())  # fmt: skip
    more = f"   more: --cursor {answer['cursor']}" if answer["cursor"] else ""
    say(f"{grouped(len(answer['orders']))} orders as of seq {grouped(answer['as_of_seq'])}{more}")
    return 0


@app.command
def unknown(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """List orders that were sent and that no venue answers for. They stay reserved until resolved.

    Example: `wojak orders unknown`
    """
    client = EngineClient(deployment(config).paths)
    try:
        found = client.ask(UnknownOrders()).unknown or []
    finally:
        client.close()
    for order in found:
        filled = f"{format_e9(order.cum_quantity_e9)}/{format_e9(order.quantity_e9)}"
        say(f"{order.order_id}   {order.account} {order.client_order_id} {order.side} {order.instrument} {filled}")
    say(f"{grouped(len(found))} orders UNKNOWN")
    return 0


@app.command
def resolve(
    order_id: str,
    /,
    *,
    status: Annotated[Literal["FILLED", "CANCELED", "REJECTED", "EXPIRED"], Parameter(help="Its final state.")],
    reason: Reason,
    filled: Annotated[str, Parameter(help="Quantity that was filled in all, a decimal.")] = "0",
    price: Annotated[str, Parameter(help="Average price of the fills, a decimal.")] = "0",
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Say what became of an UNKNOWN order, after asking the venue; frees what it reserved.

    Example: `wojak orders resolve P-bc7a436b893666cf --status CANCELED --reason "venue desk confirmed"`
    """
    try:
        body = Resolve(order_id, OrderStatus[status], parse_e9(filled, "--filled"), parse_e9(price, "--price"), reason)
    except FieldError as e:
        raise ConfigError([f"{e.field}: expected {e.expected}, was {e.value!r}"], "options") from e
    client = EngineClient(deployment(config).paths)
    try:
        reply = client.ask(body)
    finally:
        client.close()
    say(f"{reply.text} · durable at seq {grouped(reply.seq)}")
    return 0
