"""``wojak order``: send one, change or cancel one, look at one's life."""

from __future__ import annotations

import secrets
import ssl
import time
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from cli.addresses import authorization, books_url, http_trust, http_url
from cli.http_client import AnsweredError, BooksClient, NoAnswerError, OrdersClient, Signature
from cli.options import DEFAULT_CONFIG, ConfigPath, KeyEnv, Url, deployment, say, secret_of
from cli.timeline import described, find_timeline
from cli.view import decimal
from protocol.errors import ConfigError
from protocol.units import format_e9, parse_e9
from runtime.clock import monotonic_ns, wall_ns

app = App(name="order", help="Send an order, change or cancel one, or see why and when things happened to it.")
NS_PER_S: Final = 1_000_000_000
FILL_WAIT_NS: Final = 1_000_000_000
END_WAIT_NS: Final = 10_000_000_000  # of an order that can't rest: it ends, however busy the machine is
LOOK_S: Final = 0.02


@Parameter(name="*")
@dataclass(frozen=True)
class Terms:
    """What an order is, besides instrument, side and quantity."""

    limit: Annotated[str, Parameter(help="Limit price; without it a MARKET order is sent.")] = ""
    account: Annotated[str, Parameter(help="Account to trade.")] = "demo"
    strategy: Annotated[str, Parameter(help="Strategy to trade under.")] = "manual"
    id: Annotated[str, Parameter(help="client_order_id; the same one twice is one order. Empty = made here.")] = ""
    ioc: Annotated[bool, Parameter(negative="", help="Immediate or cancel.")] = False
    fok: Annotated[bool, Parameter(negative="", help="Fill it whole at once, or not at all.")] = False
    stop: Annotated[str, Parameter(help="Stop price: a STOP order, or with --limit a STOP_LIMIT order.")] = ""
    good_for_s: Annotated[int, Parameter(help="Good till so many seconds from now; 0 = for the day.")] = 0
    post_only: Annotated[bool, Parameter(negative="", help="Refused by the venue if it would take.")] = False
    reduce_only: Annotated[bool, Parameter(negative="", help="Refuse it if it could open or flip a position.")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Group:
    """The two orders of an OCO group."""

    limit: Annotated[str, Parameter(help="Limit price of the order that goes to the venue.")]
    stop: Annotated[str, Parameter(help="Stop price at which the other one goes out instead.")]
    stop_limit: Annotated[str, Parameter(help="Limit price of the stop order; without it a STOP order.")] = ""
    gtc: Annotated[bool, Parameter(negative="", help="Good till cancelled, not for the day.")] = False
    reduce_only: Annotated[bool, Parameter(negative="", help="Refuse it if it could open or flip a position.")] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Who:
    """Whose order it is, and its id."""

    account: Annotated[str, Parameter(help="Account to trade.")] = "demo"
    strategy: Annotated[str, Parameter(help="Strategy to trade under.")] = "manual"
    id: Annotated[str, Parameter(help="client_order_id; the same one twice is one order. Empty = made here.")] = ""

    @property
    def fields(self) -> dict[str, Any]:
        """What every body says of it."""
        made = self.id or f"cli-{secrets.token_hex(6)}"
        return {"account": self.account, "strategy": self.strategy, "client_order_id": made}


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which deployment is spoken to, and with which key."""

    url: Url = ""
    key_env: KeyEnv = ""
    sign: Annotated[str, Parameter(help="Name of the key in --key-env, to sign with it instead of showing it.")] = ""
    ca_file: Annotated[str, Parameter(help="Authority that the --url's certificate is by; empty = the system's.")] = ""
    cert_file: Annotated[str, Parameter(help="Client certificate to show to --url, PEM.")] = ""
    cert_key_file: Annotated[str, Parameter(help="Its private key, PEM.")] = ""
    config: ConfigPath = DEFAULT_CONFIG


@app.command
def buy(instrument: str, quantity: str, /, *, terms: Terms = Terms(), where: Where = Where()) -> int:
    """Buy; prints the outcome and, within a second, the fills. Exit code 1 if it was refused.

    Example: `wojak order buy BTCUSDT 0.01 --limit 61800`
    """
    return _send(body_of("BUY", instrument, quantity, terms), where)


@app.command
def sell(instrument: str, quantity: str, /, *, terms: Terms = Terms(), where: Where = Where()) -> int:
    """Sell; prints the outcome and, within a second, the fills. Exit code 1 if it was refused.

    Example: `wojak order sell BTCUSDT 0.01 --reduce-only`
    """
    return _send(body_of("SELL", instrument, quantity, terms), where)


@app.command
def cancel(
    client_order_id: str,
    /,
    *,
    account: Annotated[str, Parameter(help="Account of the order.")] = "demo",
    where: Where = Where(),
) -> int:
    """Cancel whatever still works of an order. An id that is not known yet is remembered: it will be refused.

    Example: `wojak order cancel my-order-7`
    """
    client = _orders(where)
    try:
        answer = client.cancel(account, client_order_id)
    finally:
        client.close()
    say(f"{answer['outcome']}  {answer['client_order_id']}   {answer['text'] or 'cancel taken'}")
    return 0 if answer["outcome"] != "REJECTED" else 1


@app.command
def replace(
    client_order_id: str,
    /,
    *,
    quantity: Annotated[str, Parameter(help="New total quantity, what has filled included.")] = "",
    limit: Annotated[str, Parameter(help="New limit price.")] = "",
    account: Annotated[str, Parameter(help="Account of the order.")] = "demo",
    new_id: Annotated[
        str, Parameter(help="The request's own id; the same one twice is one request. Empty = made here.")
    ] = "",
    where: Where = Where(),
) -> int:
    """Give an order that works another quantity or price; what is left out stays. Exit code 1 if it was refused.

    Example: `wojak order replace my-order-7 --quantity 0.02 --limit 61750`
    """
    body = {"client_order_id": new_id or f"cli-{secrets.token_hex(6)}"}
    body |= {name: value for name, value in (("quantity", quantity), ("price", limit)) if value}
    client = _orders(where)
    try:
        answer = client.replace(account, client_order_id, body)
    finally:
        client.close()
    if answer["outcome"] == "REJECTED":
        say(f"REJECTED  {answer['text'] or answer['code']}")
        return 1
    say(_accepted(answer))
    return 0


@app.command
def oco(
    side: Literal["buy", "sell"],
    instrument: str,
    quantity: str,
    /,
    *,
    group: Group,
    who: Who = Who(),
    where: Where = Where(),
) -> int:
    """Send two orders of which the one cancels the other: a target, and a stop behind it. Exit code 1 if refused.

    Example: `wojak order oco sell BTCUSDT 0.01 --limit 63000 --stop 61000 --reduce-only`
    """
    both: dict[str, Any] = {
        "quantity": quantity,
        "time_in_force": "GTC" if group.gtc else "DAY",
        "reduce_only": group.reduce_only,
    }
    target, stop = both | {"price": group.limit}, both | {"stop_price": group.stop}
    if group.stop_limit:
        stop |= {"order_type": "STOP_LIMIT", "price": group.stop_limit}
    client = _orders(where)
    try:
        answer = client.send(who.fields | {"instrument": instrument, "side": side.upper(), "oco": [target, stop]})
    finally:
        client.close()
    if answer["outcome"] == "REJECTED":
        say(f"REJECTED  {answer['text'] or answer['code']}")
        return 1
    say(_accepted(answer))
    first, second = answer["legs"]
    say(
        f"{first} goes to the venue, {second} waits for {group.stop}; cancel: wojak order cancel "
        f"{answer['client_order_id']} --account {who.account}"
    )
    return 0


@app.command(name="exit")
def exit_replace(
    side: Literal["buy", "sell"],
    instrument: str,
    quantity: str,
    /,
    *,
    cancels: Annotated[list[str], Parameter(help="Resting exit that is cancelled first; may be repeated.")],
    limit: Annotated[str, Parameter(help="Limit price; without it a MARKET order is sent.")] = "",
    who: Who = Who(),
    where: Where = Where(),
) -> int:
    """Exit in the place of resting exits: they are cancelled, and what then remains is sent. Exit code 1 if refused.

    Example: `wojak order exit sell BTCUSDT 0.01 --cancels my-stop`
    """
    body = who.fields | {
        "instrument": instrument,
        "side": side.upper(),
        "quantity": quantity,
        "order_type": "LIMIT" if limit else "MARKET",
        "cancels": cancels,
    }
    return _send(body | ({"price": limit} if limit else {}), where)


@app.command
def trace(order_id: str, /, *, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Show an order's life from the journal: what happened when, in ms after it was received.

    Takes the order id or the client_order_id. Example: `wojak order trace P-bc7a436b893666cfd5543fee`
    """
    loaded = deployment(config)
    steps = [step for n in loaded.shards for step in find_timeline(loaded.of(n).paths.journal, order_id)]
    for line in described(steps):
        say(line)
    if not steps:
        say(f"no order {order_id!r} in the journal; see: wojak orders")
    return 0 if steps else 1


def body_of(side: str, instrument: str, quantity: str, terms: Terms) -> dict[str, Any]:
    """Return the body of an order as JSON has it."""
    body: dict[str, Any] = {
        "account": terms.account,
        "strategy": terms.strategy,
        "instrument": instrument,
        "client_order_id": terms.id or f"cli-{secrets.token_hex(6)}",
        "side": side,
        "quantity": quantity,
        "order_type": _order_type(terms),
        "time_in_force": "IOC" if terms.ioc else "FOK" if terms.fok else "GTD" if terms.good_for_s else "DAY",
        "reduce_only": terms.reduce_only,
    }
    if terms.good_for_s:
        body["expire_at_ns"] = wall_ns() + terms.good_for_s * NS_PER_S
    if terms.post_only:
        body["post_only"] = True
    return body | {name: value for name, value in (("price", terms.limit), ("stop_price", terms.stop)) if value}


def _order_type(terms: Terms) -> str:
    if terms.stop:
        return "STOP_LIMIT" if terms.limit else "STOP"
    return "LIMIT" if terms.limit else "MARKET"


def _orders(where: Where) -> OrdersClient:
    secret = secret_of(where.key_env)
    if where.sign and not secret:
        raise ConfigError(
            ["--sign expected --key-env with the variable that holds the key's secret, was none"], "order"
        )
    url = where.url or http_url(deployment(where.config))
    auth = Signature(where.sign, secret) if where.sign else None
    return OrdersClient(url, {} if auth else authorization(secret), auth, _trust(where))


def _trust(where: Where) -> ssl.SSLContext | bool:
    if not where.url:
        trust = http_trust(deployment(where.config))
    elif where.ca_file or where.cert_file:
        trust = ssl.create_default_context(cafile=where.ca_file or None)
    else:
        trust = True
    if where.cert_file:
        if isinstance(trust, bool):
            raise ConfigError(["--cert-file expected an address with https, was http"], "order")
        trust.load_cert_chain(where.cert_file, where.cert_key_file or None)
    return trust


def _send(body: dict[str, Any], where: Where) -> int:
    client = _orders(where)
    try:
        answer = client.send(body)
    finally:
        client.close()
    if answer["outcome"] == "REJECTED":
        say(f"REJECTED  {answer['text'] or answer['code']}")
        return 1
    say(_accepted(answer))
    if not where.url:
        _say_fills(body, answer, books_url(deployment(where.config)))
    return 0


def _accepted(answer: dict[str, Any]) -> str:
    parts = [f"{answer['outcome']}  {answer['order_id'] or answer['client_order_id']}"]
    if answer["outcome"] == "PAPER":
        parts.append(answer["text"] or answer["code"])
    if answer.get("duplicate_of"):
        now = f", now {answer['order_state']}" if answer.get("order_state") else ""
        parts.append(f"duplicate of {answer['duplicate_of']}{now}")
    if (us := answer.get("durable_in_us")) is not None:
        parts.append(f"durable in {us // 1000}.{us % 1000 // 10:02d} ms")
    parts.append(f"{answer['checks_passed']} checks passed")
    if answer.get("position_after") is not None:
        after = answer["position_after"]
        sign = "" if after.startswith("-") or after == "0" else "+"
        parts.append(f"position after fill {sign}{decimal(after)} of {decimal(answer['position_limit'])}")
    return "   ".join(parts)


def _say_fills(body: dict[str, Any], answer: dict[str, Any], url: str) -> None:
    """Print each fill as the books get it, until the order is finished, or a second is over and it may rest."""
    account, client_order_id = body["account"], body["client_order_id"]
    booked = answer["account"]  # of a paper order the account's paper side
    books = BooksClient(url)
    shown = 0
    may_rest = body["order_type"] != "MARKET" and body.get("time_in_force") not in {"IOC", "FOK"}
    deadline = monotonic_ns() + (FILL_WAIT_NS if may_rest else END_WAIT_NS)
    try:
        while True:
            order = books.get(f"/v1/orders/{booked}/{client_order_id}", min_seq=answer["seq"])["order"]
            trades = books.get("/v1/trades", account=booked, client_order_id=client_order_id)["trades"]
            for trade in trades[shown:]:
                what = f"{trade['last_quantity']} @ {decimal(trade['last_price'])}"
                fee = f"fee {_short(trade['fee'])} {trade['currency']}"
                say(f"FILLED    {what}   venue {trade['venue_order_id']}   {fee}")
            shown = len(trades)
            is_finished = not order["open"] and order["cum_quantity"] == _sum(trades)
            if is_finished or monotonic_ns() > deadline:
                break
            time.sleep(LOOK_S)  # a REST API has no event to wait for; bounded by the deadline
    except (NoAnswerError, AnsweredError) as e:
        say(f"fills not shown: {e}")
        return
    if order["status"] != "FILLED":
        left = f"{order['leaves_quantity']} of {order['quantity']} open" if order["open"] else "nothing left open"
        say(f"{order['status']}   {left}   cancel: wojak order cancel {client_order_id} --account {account}")


def _sum(trades: list[dict[str, Any]]) -> str:
    return format_e9(sum(parse_e9(t["last_quantity"], "last_quantity") for t in trades))


def _short(text: str) -> str:
    """Return a fee with at most four decimals, for the eye; the books have all of them."""
    whole, point, fraction = text.partition(".")
    return f"{whole}{point}{fraction[:4]}" if point else whole
