"""``wojak orders``: what the books say of many orders, and the operator's word on one that nobody answers for."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from cli.addresses import books_url
from cli.configuration import Loaded
from cli.http_client import BooksClient
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.shards import Shard, ask, chosen
from cli.view import decimal, grouped
from protocol.codes import OrderStatus
from protocol.control import EnterBust, EnterFill, Resolve, ResolveSuspense, SuspenseFills, UnknownOrders
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
    shard: Shard = None,
    json: Annotated[bool, Parameter(negative="", help="Print the API's answer.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """List orders, oldest first.

    Example: `wojak orders --account demo --open`
    """
    client = BooksClient(books_url(deployment(config)))
    try:
        query = {"account": account, "open": "true" if open_ else "", "limit": limit, "cursor": cursor or "",
                 "shard": "" if shard is None else shard}  # fmt: skip
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
    of = f" of shard {answer['shard']}" if "shard" in answer else ""
    say(f"{grouped(len(answer['orders']))} orders as of seq {grouped(answer['as_of_seq'])}{of}{more}")
    return 0


@app.command
def unknown(*, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """List orders that were sent and that no venue answers for. They stay reserved until resolved.

    Example: `wojak orders unknown`
    """
    loaded = deployment(config)
    answers = ask(loaded, chosen(loaded, shard), UnknownOrders())
    count = 0
    for answer in answers:
        of = f"   shard {answer.shard}" if len(answers) > 1 else ""
        for order in (answer.reply.unknown if answer.reply else None) or []:
            count += 1
            filled = f"{format_e9(order.cum_quantity_e9)}/{format_e9(order.quantity_e9)}"
            what = f"{order.side} {order.instrument} {filled}"
            say(f"{order.order_id}   {order.account} {order.client_order_id} {what}{of}")
    for answer in answers:
        if answer.reply is None:
            say(f"shard {answer.shard} not asked: {answer.why_not}")
    say(f"{grouped(count)} orders UNKNOWN")
    return 0 if all(a.reply for a in answers) else 1


@app.command
def resolve(  # noqa: PLR0913 - one option each
    order_id: str,
    /,
    *,
    reason: Reason,
    status: Annotated[
        Literal["FILLED", "CANCELED", "REJECTED", "EXPIRED"] | None,
        Parameter(help="The final state of an UNKNOWN order; without it a trade alone is booked."),
    ] = None,
    filled: Annotated[str, Parameter(help="Quantity filled in all; with --trade-id that of the trade.")] = "0",
    price: Annotated[str, Parameter(help="Average price of the fills; with --trade-id that of the trade.")] = "0",
    trade_id: Annotated[str, Parameter(help="The venue's id of a trade that it did not report.")] = "",
    bust: Annotated[str, Parameter(help="The id of a booked trade that the venue took back.")] = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Say what became of an UNKNOWN order, after asking the venue, or book what it did not report of a trade.

    A final state frees what the order reserved. If the venue reports the trade, or that it took it back, later, it
    counts once.

    Example: `wojak orders resolve P-bc7a436b893666cf --status CANCELED --reason "venue desk confirmed"`

    Example: `wojak orders resolve P-bc7a436b893666cf --trade-id T9 --filled 2 --price 100 --reason "drop copy"`

    Example: `wojak orders resolve P-bc7a436b893666cf --bust T9 --reason "venue desk called"`
    """
    try:
        quantity_e9, price_e9 = parse_e9(filled, "--filled"), parse_e9(price, "--price")
    except FieldError as e:
        raise ConfigError([f"{e.field}: expected {e.expected}, was {e.value!r}"], "options") from e
    if sum((bool(trade_id), bool(bust), status is not None)) != 1:
        raise ConfigError(["expected one of --status, --trade-id and --bust; a trade first, then --status"], "options")
    body: EnterFill | EnterBust | Resolve
    if bust:
        body = EnterBust(order_id, bust, reason)
    elif trade_id:
        body = EnterFill(order_id, trade_id, quantity_e9, price_e9, reason)
    else:
        assert status is not None
        body = Resolve(order_id, OrderStatus[status], quantity_e9, price_e9, reason)
    loaded = deployment(config)
    (answer,) = ask(loaded, [_shard_of(loaded, shard, order_id)], body)
    assert answer.reply is not None
    say(f"{answer.reply.text} · durable at seq {grouped(answer.reply.seq)}")
    return 0


@app.command
def suspense(*, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """List fills of orders that nobody knows: no position has them, and everything is in reduce-only meanwhile.

    Example: `wojak orders suspense`
    """
    loaded = deployment(config)
    answers = ask(loaded, chosen(loaded, shard), SuspenseFills())
    count = 0
    for answer in answers:
        if answer.reply is None:
            say(f"shard {answer.shard} not asked: {answer.why_not}")
            continue
        of = f"   shard {answer.shard}" if len(answers) > 1 else ""
        fills = answer.reply.suspense or []
        count += len(fills) + answer.reply.suspense_more
        for fill in fills:
            where = " ".join(part or "?" for part in (fill.account, fill.side, fill.instrument))
            terms = f"{format_e9(fill.quantity_e9)} @ {format_e9(fill.price_e9)}"
            say(f"{fill.venue} {fill.trade_id}   {where} {terms}   of order {fill.order_id}{of}")
        if answer.reply.suspense_more:
            more = f"{grouped(answer.reply.suspense_more)} more than the ledger holds"
            say(f"{more}: /v1/trades?status=SUSPENSE has them, then wojak orders dismiss --rest{of}")
    say(f"{grouped(count)} fills in suspense")
    return 0 if all(a.reply for a in answers) else 1


@app.command
def assign(  # noqa: PLR0913 - one option each
    venue: str,
    trade_id: str,
    /,
    *,
    account: Annotated[str, Parameter(help="Whose position the fill moves.")],
    strategy: Annotated[str, Parameter(help="Whose part of it.")],
    reason: Reason,
    instrument: Annotated[str, Parameter(help="Only where the venue did not say it.")] = "",
    side: Annotated[Literal["BUY", "SELL"] | None, Parameter(help="Only where the venue did not say it.")] = None,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Say whose a fill in suspense is: it moves that position, journaled with your name and reason.

    Example: `wojak orders assign sandbox S-T9 --account demo --strategy manual --reason "drop copy"`
    """
    body = ResolveSuspense(venue, trade_id, reason, account, strategy, instrument, side or "")
    return _resolve_suspense(config, shard, body, account)


@app.command
def dismiss(
    venue: str = "",
    trade_id: str = "",
    /,
    *,
    reason: Reason,
    rest: Annotated[bool, Parameter(negative="", help="All that the ledger had no room for.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Say that a fill in suspense is nobody's here: no position moves, and it counts nothing if it comes again.

    Example: `wojak orders dismiss sandbox S-T9 --reason "of another system"`
    """
    if rest == bool(venue and trade_id):
        raise ConfigError(["expected a venue and a trade id, or --rest"], "options")
    return _resolve_suspense(config, shard, ResolveSuspense("" if rest else venue, "" if rest else trade_id, reason))


def _resolve_suspense(config: ConfigPath, shard: int | None, body: ResolveSuspense, account: str = "") -> int:
    loaded = deployment(config)
    shards = chosen(loaded, shard, account)
    if len(shards) > 1:
        raise ConfigError(["expected --shard: each engine has a suspense ledger of its own"], "options")
    (answer,) = ask(loaded, shards, body)
    assert answer.reply is not None
    say(f"{answer.reply.text} · durable at seq {grouped(answer.reply.seq)}")
    return 0


def _shard_of(loaded: Loaded, shard: int | None, order_id: str) -> int:
    """Return the shard whose engine lists the order as UNKNOWN; the only one there is, or that was named, as it is."""
    shards = chosen(loaded, shard)
    if len(shards) == 1:
        return shards[0]
    answers = ask(loaded, shards, UnknownOrders())
    for answer in answers:
        if answer.reply and any(o.order_id == order_id for o in answer.reply.unknown or []):
            return answer.shard
    silent = ", ".join(str(a.shard) for a in answers if not a.reply)
    why = f"; shards that did not answer: {silent}" if silent else ""
    raise ConfigError([f"order {order_id} expected UNKNOWN on one of the shards, was on none{why}"], "options")
