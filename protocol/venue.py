"""The session between the engine (ROUTER) and a venue gateway (DEALER).

    gateway                                      engine
    GatewayHello(kind, capabilities, watermark) ──►
                                                ◄──  VenueWelcome(shard, epoch, mode, reports_durable)
    Reports(all kept above reports_durable)     ──►
    GatewayReady(epoch, received_seq)           ──►          the epoch is durable at the gateway
                                                ◄──  Commands(epoch, items with contiguous venue_seq)
    Confirm(epoch, received_seq)                ──►          received_seq is durable; renews the lease
    Reports(items with contiguous report_seq)   ──►
                                                ◄──  ReportsDurable(report_seq)
                                                ◄──  Heartbeat(epoch)

DESIGN section 6, rules 6, 8, 9 and 10. A gateway refuses a lower epoch, and an equal one of another instance.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from protocol.codes import (
    ByeReason,
    Code,
    ExecType,
    GatewayKind,
    Liquidity,
    Mode,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from protocol.orders import Name
from protocol.session import Instance, TraceId
from protocol.statement import AskStatement, Statement

COMMANDS_MAX = 1024
REPORTS_MAX = 1024


class Capabilities(Struct, array_like=True, frozen=True):
    """What a venue can do.

    ``idempotent_ids``: the same order id sent twice is one order. ``statement``: it answers AskStatement.
    """

    order_types: tuple[OrderType, ...]
    times_in_force: tuple[TimeInForce, ...]
    idempotent_ids: bool
    query: bool
    cancel_on_disconnect: bool = False
    messages_per_s: int = 0
    replace: bool = False
    post_only: bool = False
    statement: bool = False


class SendNew(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Place an order at the venue under ``order_id``."""

    venue_seq: int
    order_id: str
    account: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity_e9: int
    price_e9: int
    trace_id: TraceId
    stop_price_e9: int = 0
    expire_at_ns: int = 0
    post_only: bool = False


class SendCancel(Struct, array_like=True, tag=2, frozen=True, gc=False):
    """Cancel what is left of ``order_id``."""

    venue_seq: int
    order_id: str
    trace_id: TraceId


class Query(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Say what became of ``order_id``; answered with exec_type ORDER_STATUS or NOT_FOUND."""

    venue_seq: int
    order_id: str
    trace_id: TraceId


class Void(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Fill the number of a command that will never be sent."""

    venue_seq: int


class SendReplace(Struct, array_like=True, tag=5, frozen=True, gc=False):
    """Give ``order_id`` these terms, all of them: the new total quantity, filled part included.

    Answered with REPLACED, with CANCELED where nothing is left to fill, or with REPLACE_REJECT.
    """

    venue_seq: int
    order_id: str
    quantity_e9: int
    price_e9: int
    stop_price_e9: int
    trace_id: TraceId


VenueCommand = SendNew | SendCancel | Query | Void | SendReplace


class Details(Struct, array_like=True, frozen=True, gc=False):
    """What few reports say besides.

    Attributes:
        quantity_e9: Total that works at the venue after the report; 0 = not said. With it ``price_e9`` and
            ``stop_price_e9`` are the terms that work.
        original_trade_id: The trade that a TRADE_CANCEL takes back or a TRADE_CORRECT corrects.
        account: For a fill of an order that the engine may not know, as ``instrument`` and ``side``.
    """

    quantity_e9: int = 0
    price_e9: int = 0
    stop_price_e9: int = 0
    original_trade_id: str = ""
    account: str = ""
    instrument: str = ""
    side: Side | None = None


class Report(Struct, array_like=True, frozen=True, gc=False):
    """What the venue says of an order.

    Attributes:
        report_seq: Numbered by the gateway from 1, contiguous across its restarts.
        venue_seq: The command this answers; 0 for what the venue does on its own (a passive fill, an expiry).
        trade_id: Unique at the venue; fills are deduplicated by (venue, trade_id). Empty without a fill.
        status: For ORDER_STATUS, the state at the venue; else the state after the report.
        cum_quantity_e9: What has filled of the order in all, this report included; 0 = nothing, or not said. Said with
            a fill or an end, it is compared with what was reported before.
        fee_e9: In 1e-9 of ``currency``; negative is a rebate.
        exch_ns: The venue's clock, UTC nanoseconds.
    """

    report_seq: int
    exec_type: ExecType
    order_id: str
    venue_order_id: str
    venue_seq: int
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
    exch_ns: int
    trade_id: str = ""
    last_quantity_e9: int = 0
    last_price_e9: int = 0
    liquidity: Liquidity = Liquidity.NONE
    fee_e9: int = 0
    currency: str = ""
    code: Code = Code.OK
    details: Details | None = None


class GatewayHello(Struct, array_like=True, tag=1, frozen=True):
    """Open a session. ``received_seq``: highest venue_seq durable here; ``report_seq``: last report ever numbered."""

    protocol_version: int
    venue: Name
    gateway: Name
    instance: Instance
    kind: GatewayKind
    capabilities: Capabilities
    received_seq: int
    report_seq: int
    epoch: int


class GatewayReady(Struct, array_like=True, tag=2, frozen=True):
    """The epoch is durable at the gateway and every kept report was sent: commands may come."""

    epoch: int
    received_seq: int


class Confirm(Struct, array_like=True, tag=3, frozen=True):
    """Renew the lease and say up to which venue_seq everything is durable here."""

    epoch: int
    received_seq: int


class Reports(Struct, array_like=True, tag=4, frozen=True, gc=False):
    """Reports in order, each one msgpack ``Report``, kept verbatim for the journal; they confirm the lease too."""

    epoch: int
    received_seq: int
    items: Annotated[list[Raw], Meta(max_length=REPORTS_MAX)]


class GatewayLeave(Struct, array_like=True, tag=5, frozen=True):
    """The gateway stops on purpose."""

    text: str = ""


GatewayMessage = GatewayHello | GatewayReady | Confirm | Reports | GatewayLeave | Statement


class VenueWelcome(Struct, array_like=True, tag=1, frozen=True):
    """The session is open; send reports above ``reports_durable``, then GatewayReady."""

    protocol_version: int
    shard: int
    epoch: int
    instance: Instance
    mode: Mode
    lease_ms: int
    reports_durable: int


class Commands(Struct, array_like=True, tag=2, frozen=True, gc=False):
    """Commands with contiguous venue_seq."""

    epoch: int
    items: Annotated[list[VenueCommand], Meta(max_length=COMMANDS_MAX)]


class ReportsDurable(Struct, array_like=True, tag=3, frozen=True, gc=False):
    """Reports up to here are in the journal and may be forgotten."""

    report_seq: int


class Heartbeat(Struct, array_like=True, tag=4, frozen=True):
    """The engine lives."""

    epoch: int


class VenueBye(Struct, array_like=True, tag=5, frozen=True):
    """The session is over."""

    reason: ByeReason
    text: str = ""


EngineVenueMessage = VenueWelcome | Commands | ReportsDurable | Heartbeat | VenueBye | AskStatement

gateway_decoder: msgspec.msgpack.Decoder[GatewayMessage] = msgspec.msgpack.Decoder(GatewayMessage)
engine_venue_decoder: msgspec.msgpack.Decoder[EngineVenueMessage] = msgspec.msgpack.Decoder(EngineVenueMessage)
report_decoder: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
