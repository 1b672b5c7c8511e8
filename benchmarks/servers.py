"""The processes under load: ``python -m benchmarks.servers floor|engine|acknowledger <json>``.

- floor: the bare receive → write → sync → answer loop. It writes as many bytes an item as the engine journals, into
  a zero-filled file in place, and answers each session with how many of its messages are durable.
- engine: the real one, settings given as JSON.
- acknowledger: a gateway peer that confirms the epoch and acknowledges numbers, reports nothing (DECISIONS 49).
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
from pathlib import Path
from typing import Final

import msgspec

from engine.main import run as run_engine
from engine.settings import EngineSettings
from protocol.channels import Context, Dealer, Router, Waiter
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
from runtime.signals import StopSignal

FILE_BYTES: Final = 64 << 20
CHUNK: Final = 1 << 20

_encode = msgspec.msgpack.Encoder().encode


class FloorSettings(msgspec.Struct, frozen=True):
    """Where the floor listens, what it writes to, and how many bytes an item."""

    endpoint: str
    path: str
    record_bytes: int
    batch_max: int = 1024


def run_floor(settings: FloorSettings) -> None:
    """Receive what is there, write, sync, answer."""
    stop = StopSignal()
    context = Context()
    router = Router(context, settings.endpoint, 50_000)
    waiter = Waiter(router)
    waiter.add_fd(stop.fd)
    fd = os.open(settings.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for at in range(0, FILE_BYTES, CHUNK):
        os.pwrite(fd, bytes(CHUNK), at)
    os.fsync(fd)
    offset = 0
    filler = bytes(range(256)) * (settings.record_bytes // 256 + 1)
    gc.freeze()
    gc.disable()
    while not stop.is_set:
        if not waiter.wait(100):
            continue
        frames = router.receive(settings.batch_max)
        if not frames:
            continue
        data = b"".join([filler[: settings.record_bytes]] * len(frames))
        if offset + len(data) > FILE_BYTES:
            offset = 0
        os.pwrite(fd, data, offset)
        os.fdatasync(fd)
        offset += len(data)
        counts: dict[bytes, int] = {}
        for identity, _ in frames:
            counts[identity] = counts.get(identity, 0) + 1
        for identity, count in counts.items():
            router.send(identity, count.to_bytes(4, "little"))
    context.close()


class AcknowledgerSettings(msgspec.Struct, frozen=True):
    """Which engine, which venue."""

    endpoint: str
    venue: str


def run_acknowledger(settings: AcknowledgerSettings) -> None:
    """Confirm the epoch and every number; report nothing."""
    stop = StopSignal()
    context = Context()
    dealer = Dealer(context, settings.endpoint, 50_000, secrets.token_bytes(8))
    waiter = Waiter(dealer)
    waiter.add_fd(stop.fd)
    capabilities = Capabilities((OrderType.LIMIT, OrderType.MARKET), tuple(TimeInForce), True, True)
    hello = _encode(
        GatewayHello(
            PROTOCOL_VERSION, settings.venue, "acknowledger", secrets.token_bytes(16), GatewayKind.SANDBOX,
            capabilities, 0, 0, 0,
        )
    )  # fmt: skip
    epoch = 0
    received_seq = 0
    while not stop.is_set:
        ready = waiter.wait(200)
        if not epoch:
            dealer.send(hello)
            waiter.wait(200)
        elif not ready:
            dealer.send(_encode(Confirm(epoch, received_seq)))
        for body in dealer.receive(1024):
            message = engine_venue_decoder.decode(body)
            match message:
                case VenueWelcome():
                    epoch = message.epoch
                    dealer.send(_encode(GatewayReady(epoch, received_seq)))
                case Commands():
                    received_seq = message.items[-1].venue_seq
                    dealer.send(_encode(Confirm(epoch, received_seq)))
                case VenueBye():
                    return
                case _:
                    dealer.send(_encode(Confirm(epoch, received_seq)))
    context.close()


def main() -> None:
    """Run the server named by the first argument with the settings file named by the second."""
    name, path = sys.argv[1], Path(sys.argv[2])
    content = path.read_bytes()
    match name:
        case "floor":
            run_floor(msgspec.json.decode(content, type=FloorSettings))
        case "engine":
            run_engine(msgspec.msgpack.decode(content, type=EngineSettings))
        case "acknowledger":
            run_acknowledger(msgspec.json.decode(content, type=AcknowledgerSettings))
        case _:
            sys.exit(f"server expected floor, engine or acknowledger, was {name}")


if __name__ == "__main__":
    main()
