"""Asks a venue gateway over its own control socket, which works when the engine hangs."""

from __future__ import annotations

import getpass
from typing import Final, Literal

import msgspec

from cli.addresses import GATEWAY_SOCKET, VENUE
from cli.asking import AwayError, RefusedError, answer_to
from cli.configuration import Loaded
from cli.paths import read_token
from protocol.channels import Context
from protocol.errors import ConfigError
from venues.core.control import GatewayControl, GatewayControlReply, reply_decoder

TIMEOUT_MS: Final = 10_000


class GatewayAwayError(AwayError):
    """The gateway did not answer."""

    code = "GATEWAY_AWAY"


def ask_gateway(
    loaded: Loaded,
    gateway: str,
    action: Literal["kill", "resume", "status", "bust", "correct"],
    reason: str = "",
    *,
    trade_id: str = "",
    quantity: str = "0",
    price: str = "0",
) -> GatewayControlReply:
    """Return the gateway's answer; asking again does nothing twice. The last three: of a trade that is changed.

    Raises:
        ConfigError: If there is no such gateway.
        GatewayAwayError: If no answer came in time.
        RefusedError: If it says no.
    """
    if gateway != VENUE:
        raise ConfigError([f"--gateway expected {VENUE}, was {gateway!r}"], "options")
    token = read_token(loaded.paths.token)
    body = GatewayControl(token, getpass.getuser(), action, reason, trade_id, quantity, price)
    endpoint = loaded.paths.endpoint(GATEWAY_SOCKET)
    context = Context()
    try:
        message = answer_to(msgspec.json.encode(body), context, endpoint, TIMEOUT_MS)
    finally:
        context.close()
    if message is None:
        hint = "What was asked may have been done: ask again, it does nothing twice"
        raise GatewayAwayError(f"gateway {gateway}", endpoint, TIMEOUT_MS, hint)
    reply = reply_decoder.decode(message)
    if not reply.ok:
        raise RefusedError(reply.text)
    return reply
