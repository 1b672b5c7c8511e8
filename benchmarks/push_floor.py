"""The floor of a source that a broker posts to: the same server and bounds, a typed POST, and nothing else.

A plain ASGI application, as such a source is one: it reads a body, decodes the broker's envelope and the order in it
into their Structs, and answers. It verifies no signature and asks nobody.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, Final

import uvloop
from msgspec import Struct

from benchmarks.source_kinds import read_orders
from runtime.signals import StopSignal
from sidecars.sources.http import KEEP_ALIVE_S
from sidecars.sources.http_body import Bodies
from sidecars.sources.http_server import Bounds, Listener

CONNECTIONS_MAX: Final = 1_024
RECEIVE_MS: Final = 10_000
BODY_BYTES_MAX: Final = 1 << 20
_ANSWER: Final = b"{}"


class PushFloorSettings(Struct, frozen=True):
    """Where it listens, and whose envelopes come."""

    port: int
    kind: str


def run(settings: PushFloorSettings) -> None:
    """Serve until SIGTERM."""
    stop = StopSignal()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, stop))


async def _serve(settings: PushFloorSettings, stop: StopSignal) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(stop.fd, stopped.set)
    listener = Listener("127.0.0.1", settings.port, Bounds(CONNECTIONS_MAX, RECEIVE_MS), KEEP_ALIVE_S)
    await listener.serve(_app(_reader(settings.kind)))
    gc.collect()
    gc.freeze()
    await stopped.wait()
    asyncio.get_running_loop().remove_reader(stop.fd)
    await listener.close()


def _reader(kind: str) -> Callable[[bytes], bytes]:
    """Return what takes an order out of the envelope of a kind; imports that kind's packages only."""
    if kind == "sns":
        from sidecars.sources import sns_message

        return lambda body: sns_message.read(body).message.encode()
    from sidecars.sources import pubsub_push_api

    return lambda body: bytes(pubsub_push_api.read(body)[0].message.data)


def _app(order_of: Callable[[bytes], bytes]) -> Any:
    bodies = Bodies(BODY_BYTES_MAX)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status = 404
        if scope["method"] == "POST":
            read_orders((order_of(await bodies.read(dict(scope["headers"]), receive)),))
            status = 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
        await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": _ANSWER, "more_body": False})

    return serve
