"""A gateway peer that confirms the epoch and acknowledges numbers, and reports nothing (DECISIONS 49).

With it an order ends where the engine's own work ends: decided, durable, handed to a venue.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from benchmarks.granter import Granted, say
from protocol.channels import Context, Dealer, Waiter
from protocol.codes import GatewayKind, OrderType, TimeInForce
from protocol.session import PROTOCOL_VERSION
from protocol.venue import (
    Capabilities,
    Commands,
    Confirm,
    GatewayHello,
    GatewayReady,
    VenueBye,
    VenueWelcome,
    engine_venue_decoder,
)
from runtime.clock import monotonic_ns
from runtime.signals import StopSignal

HWM: Final = 50_000
RECEIVE_MAX: Final = 1_024
CONFIRM_MS: Final = 200
CONFIRM_EVERY_MS: Final = 5

_encode = msgspec.msgpack.Encoder().encode


class AcknowledgerSettings(msgspec.Struct, frozen=True):
    """Which engine, which venue; after how many commands, if any, it says so in ``path``, a named pipe."""

    endpoint: str
    venue: str
    path: str = ""
    count: int = 0


def run(settings: AcknowledgerSettings) -> None:
    """Confirm the epoch and every number until SIGTERM or the engine's goodbye."""
    stop = StopSignal()
    context = Context()
    dealer = Dealer(context, settings.endpoint, HWM, secrets.token_bytes(16))
    waiter = Waiter(dealer)
    waiter.add_fd(stop.fd)
    hello = _hello(settings.venue)
    resting = Waiter()
    resting.add_fd(stop.fd)
    epoch = received_seq = confirmed_seq = first_ns = 0
    greeted = False
    due_seq = settings.count
    while not stop.is_set:
        ready = waiter.wait(CONFIRM_MS)
        greeted = greeted or dealer.send(hello)
        for body in dealer.receive(RECEIVE_MAX):
            message = engine_venue_decoder.decode(body)
            if isinstance(message, VenueWelcome):
                epoch = message.epoch
                dealer.send(_encode(GatewayReady(epoch, received_seq)))
            elif isinstance(message, VenueBye):
                return
            elif isinstance(message, Commands):
                first_ns = first_ns or monotonic_ns()
                received_seq = message.items[-1].venue_seq
        if 0 < due_seq <= received_seq:
            due_seq = 0
            say(settings.path, Granted(first_ns, monotonic_ns()))
        if epoch and (received_seq > confirmed_seq or not ready):
            dealer.send(_encode(Confirm(epoch, received_seq)))
            confirmed_seq = received_seq
            # A watermark speaks for all below it: one look and one word every few milliseconds, not one a batch, so
            # that the stand-in takes as little of the processor as it can from the engine and its clients.
            resting.wait(CONFIRM_EVERY_MS)
    context.close()


def _hello(venue: str) -> bytes:
    capabilities = Capabilities((OrderType.LIMIT, OrderType.MARKET), tuple(TimeInForce), True, True)
    return _encode(
        GatewayHello(
            PROTOCOL_VERSION, venue, "acknowledger", secrets.token_bytes(16), GatewayKind.SANDBOX, capabilities, 0, 0, 0
        )
    )
