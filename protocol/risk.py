"""The session between the risk service (DEALER) and the engine (ROUTER), and what both say about a held order.

    service                                engine
    RiskHello(version, instance, epoch) ──►
                                        ◄──  RiskWelcome(epoch, instance, heartbeat_ms)
    RiskHeartbeat()                     ──►                      at least so often
                                        ◄──  RiskRequest(…)      again after every RiskHello and every start
    RiskAnswer(…)                       ──►
                                        ◄──  RiskWithdrawn(order_id)    nobody waits for the answer any more
                                        ◄──  RiskBye(reason)

An answer is about (order_id, asked): what comes late, twice or about nothing changes nothing. Money as decimal text,
in 1e-9 of the account's currency.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol.codes import ByeReason, Code, OrderType, Side, TimeInForce
from protocol.session import Instance

RISK_PROTOCOL_VERSION: Final = 1
TEXT_CHARS_MAX: Final = 256
Money = Annotated[str, Meta(pattern=r"^-?[0-9]{1,40}$")]
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]


class Verdict(IntEnum):
    """What the service says of a held order."""

    APPROVE = 1
    REJECT = 2
    TRIM = 3


class RiskHello(Struct, array_like=True, tag=1, frozen=True):
    """Open a session. ``instance_epoch`` rises with every start of a service; a lower one is refused."""

    protocol_version: int
    instance: Instance
    instance_epoch: Annotated[int, Meta(ge=1, le=2**62)]


class RiskHeartbeat(Struct, array_like=True, tag=2, frozen=True):
    """The service is there, and its replica has every record up to ``book_seq``."""

    book_seq: int = 0


class RiskAnswer(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """What the service decided about a request.

    Attributes:
        asked: ``RiskRequest.asked``.
        quantity_e9: For TRIM what may be sent.
        code: Why; OK for a plain approval.
        book_seq: The replica's last record when it was decided; never below the request's.
        valid_until_ns: An approval is good until then, UTC.
        params_version: Of the service's own parameters.
    """

    order_id: str
    asked: int
    verdict: Verdict
    quantity_e9: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    code: Code = Code.OK
    text: Text = ""
    margin_before_e9: Money = "0"
    margin_after_e9: Money = "0"
    margin_inc_e9: Money = "0"
    book_seq: int = 0
    valid_until_ns: int = 0
    params_version: Text = ""


RiskMessage = RiskHello | RiskHeartbeat | RiskAnswer


class RiskWelcome(Struct, array_like=True, tag=1, frozen=True):
    """The session is open; a heartbeat is due every ``heartbeat_ms``."""

    protocol_version: int
    shard: int
    epoch: int
    instance: Instance
    heartbeat_ms: int


class RiskRequest(Struct, array_like=True, tag=2, frozen=True):
    """May this held order go out?

    Attributes:
        asked: Rises each time the order is asked about anew.
        codes: The checks that would have refused it.
        price_e9: The worst price that it could trade at.
        is_exit: RISK.md A1; a REJECT of it is advice only (DECISIONS 33).
        deadline_ns: Later answers change nothing; UTC.
        book_seq: Answer on a replica that has this record.
        now_ns: The engine's clock.
        allows_trim: It may be approved for fewer lots.
        reserved_e9: What is reserved for it while it waits (R_o), decimal text.
        funds_e9: Cash of the account in its currency, and collateral in it after haircut, decimal text.
    """

    order_id: str
    asked: int
    account: str
    client_order_id: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity_e9: int
    price_e9: int
    reduce_only: bool
    is_exit: bool
    codes: list[Code]
    deadline_ns: int
    book_seq: int
    now_ns: int
    allows_trim: bool
    lot_e9: int
    quantity_min_e9: int
    reserved_e9: Money
    trace_id: bytes = b""
    currency: str = ""
    funds_e9: Money = "0"


class RiskWithdrawn(Struct, array_like=True, tag=3, frozen=True):
    """The order left: sent, refused, late or cancelled."""

    order_id: str


class RiskBye(Struct, array_like=True, tag=4, frozen=True):
    """The session is over."""

    reason: ByeReason
    text: str = ""


EngineRiskMessage = RiskWelcome | RiskRequest | RiskWithdrawn | RiskBye

risk_decoder: Final[msgspec.msgpack.Decoder[RiskMessage]] = msgspec.msgpack.Decoder(RiskMessage)
engine_risk_decoder: Final[msgspec.msgpack.Decoder[EngineRiskMessage]] = msgspec.msgpack.Decoder(EngineRiskMessage)
