"""Asks a venue gateway over its own control socket, which works when the engine hangs.

Rule: as with the engine, no answer within the time is said as such, never taken for an answer.
"""

from __future__ import annotations

import getpass
from typing import Final, Literal

import msgspec

from cli.configuration import Loaded
from cli.paths import read_token
from cli.wiring import GATEWAY_SOCKET, VENUE
from protocol.channels import Context, Dealer, Waiter
from protocol.errors import ConfigError, WojakError
from runtime.clock import monotonic_ns
from venues.core.control import GatewayControl, GatewayControlReply, reply_decoder

MS_NS: Final = 1_000_000
CONNECT_STEP_MS: Final = 5
TIMEOUT_MS: Final = 10_000


class GatewayAwayError(WojakError):
    """The gateway did not answer."""

    code = "GATEWAY_AWAY"

    def __init__(self, gateway: str, waited_ms: int) -> None:
        self.gateway = gateway
        super().__init__(
            f"{self.code}: expected an answer of gateway {gateway} within {waited_ms} ms, was none; is it running? "
            "What was asked may have been done: ask again, it does nothing twice"
        )


class GatewayRefusedError(WojakError):
    """The gateway refused the request."""

    code = "GATEWAY_REFUSED"

    def __init__(self, text: str) -> None:
        super().__init__(f"{self.code}: {text}")


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
        GatewayRefusedError: If it says no.
    """
    if gateway != VENUE:
        raise ConfigError([f"--gateway expected {VENUE}, was {gateway!r}"], "options")
    token = read_token(loaded.paths.token)
    body = GatewayControl(token, getpass.getuser(), action, reason, trade_id, quantity, price)
    request = msgspec.json.encode(body)
    deadline = monotonic_ns() + TIMEOUT_MS * MS_NS
    context = Context()
    try:
        dealer = Dealer(context, loaded.paths.endpoint(GATEWAY_SOCKET), 8)
        waiter = Waiter(dealer)
        sent = False
        while (left_ms := (deadline - monotonic_ns()) // MS_NS) > 0:
            sent = sent or dealer.send(request)
            waiter.wait(int(left_ms) if sent else min(int(left_ms), CONNECT_STEP_MS))
            for message in dealer.receive(1):
                reply = reply_decoder.decode(message)
                if not reply.ok:
                    raise GatewayRefusedError(reply.text)
                return reply
    finally:
        context.close()
    raise GatewayAwayError(gateway, TIMEOUT_MS)
