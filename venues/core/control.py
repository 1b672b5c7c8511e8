"""The gateway's own control socket: a kill that works when the engine hangs (DESIGN section 7, Control).

One JSON request a message over DEALER and ROUTER: ``{"token": …, "operator": …, "action": "kill", "reason": …}``.
``kill`` refuses new orders and cancels all open ones at the venue, durably before it is answered; ``resume`` takes new
orders again; ``status`` changes nothing. Of a simulation alone: ``bust`` takes the trade ``trade_id`` back, ``correct``
gives it another ``quantity`` and ``price`` (decimal strings).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.control import Reason
from protocol.edge import Decimal
from protocol.errors import NOT_DECODED
from protocol.orders import Name

MESSAGES_MAX = 16


class GatewayControl(Struct, frozen=True, forbid_unknown_fields=True):
    """One request; ``token`` proves the right to ask."""

    token: str
    operator: Name
    action: Literal["kill", "resume", "status", "bust", "correct"]
    reason: Reason = ""
    trade_id: Annotated[str, Meta(max_length=64)] = ""
    quantity: Decimal = "0"
    price: Decimal = "0"


class GatewayStatus(Struct, frozen=True):
    """How the gateway is. ``venue_facts`` are the venue's own counts."""

    venue: str
    kind: str
    phase: str
    session_ended_because: str
    sessions: int
    is_killed: bool
    shard: int
    epoch: int
    received_seq: int
    report_seq: int
    reports_durable: int
    open_orders: int
    venue_facts: dict[str, int]


class GatewayControlReply(Struct, frozen=True):
    """``ok``, a line for a person, and how things stand after it."""

    ok: bool
    text: str
    cancelled: int = 0
    status: GatewayStatus | None = None


request_decoder: msgspec.json.Decoder[GatewayControl] = msgspec.json.Decoder(GatewayControl)
reply_decoder: msgspec.json.Decoder[GatewayControlReply] = msgspec.json.Decoder(GatewayControlReply)
encode_reply = msgspec.json.Encoder().encode


def parse_request(body: bytes, token: str) -> GatewayControl | str:
    """Return the request, or the line that says why it is refused."""
    try:
        request = request_decoder.decode(body)
    except NOT_DECODED as e:
        return f"CONTROL: request expected token, operator and action (kill, resume, status, bust, correct): {e}"
    if not compare_digest(request.token.encode(), token.encode()):
        return "AUTH_NOT_PERMITTED: token expected that of the gateway's token file, was another; read the file again"
    return request
