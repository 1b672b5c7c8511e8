"""``wojak session``: the trading day, and an operator's end of it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli.configuration import Loaded
from cli.engine_client import client_of
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment
from cli.shards import Shard, chosen, each
from cli.view import grouped
from protocol.control import RollSession
from protocol.errors import ConfigError
from runtime.sessions import parse_date_number

app = App(name="session", help="End a trading day: DAY orders expire, old order ids leave.")


@app.command
def roll(
    *,
    reason: Reason,
    to: Annotated[str, Parameter(help="Trading date that begins, yyyy-mm-dd; empty = the next of the calendar.")] = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """End the trading day now and begin another; the calendar goes on from there.

    Open DAY orders are cancelled, GTC orders stay. A date that was is never begun again.

    Example: `wojak session roll --reason "early close"`
    """
    to_date = 0
    if to:
        found = parse_date_number(to)
        if found is None:
            raise ConfigError([f"--to: expected a date such as 2026-12-25, was {to!r}"], "options")
        to_date = found
    loaded = deployment(config)

    def roll_one(of: Loaded) -> str:
        client = client_of(of)
        try:
            reply = client.ask(RollSession(to_date, reason))
        finally:
            client.close()
        return f"{reply.text} · {grouped(reply.cancels)} DAY orders expire · durable at seq {grouped(reply.seq)}"

    return each(loaded, chosen(loaded, shard), roll_one)
