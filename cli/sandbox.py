"""``wojak sandbox``: what the desk of the simulated exchange does, to see how everything takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cli.addresses import VENUE
from cli.gateway_client import ask_gateway
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.shards import Shard, one

app = App(name="sandbox", help="Have the simulated venue take a trade back, or correct it.")


@app.command
def bust(trade_id: str, /, *, reason: Reason, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Take a trade of this session back, as an exchange does with an erroneous one.

    Example: `wojak sandbox bust S-T9 --reason "trying it"`
    """
    return _amend("bust", trade_id, reason, shard, config)


@app.command
def correct(
    trade_id: str,
    /,
    *,
    quantity: Annotated[str, Parameter(help="The quantity that it has from now on.")],
    price: Annotated[str, Parameter(help="The price that it has from now on.")],
    reason: Reason,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Give a trade of this session another quantity and price.

    Example: `wojak sandbox correct S-T9 --quantity 1 --price 100 --reason "trying it"`
    """
    return _amend("correct", trade_id, reason, shard, config, quantity, price)


def _amend(
    action: Literal["bust", "correct"],
    trade_id: str,
    reason: str,
    shard: int | None,
    config: Path,
    quantity: str = "0",
    price: str = "0",
) -> int:
    loaded = one(deployment(config), shard)
    reply = ask_gateway(loaded, VENUE, action, reason, trade_id=trade_id, quantity=quantity, price=price)
    say(f"{reply.text} · durable at the venue; the books: wojak orders, /v1/trades")
    return 0
