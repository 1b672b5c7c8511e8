"""The floor of HTTP: the same framework, server and settings, a typed POST into write + sync, and nothing else.

litestar decodes the same order type and encodes the same answer type as the order source; uvicorn's protocol listens
with the same bounds. What came within one turn of the event loop is written and synced together.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Final

import uvloop
from litestar import Litestar, delete, post
from msgspec import Struct

from benchmarks.floors import SyncedFile
from protocol.edge import NewOrderRequest, OrderResponse
from runtime.signals import StopSignal
from sidecars.sources.http import KEEP_ALIVE_S
from sidecars.sources.http_server import Bounds, Listener

CONNECTIONS_MAX: Final = 1_024
RECEIVE_MS: Final = 10_000


class HttpFloorSettings(Struct, frozen=True):
    """Where it listens, what it writes to, how many bytes an order."""

    port: int
    path: str
    record_bytes: int


class GroupCommit:
    """Makes what waits durable with one sync, at the end of the event loop's turn."""

    def __init__(self, path: Path, record_bytes: int) -> None:
        self._file = SyncedFile(str(path))
        self._record_bytes = record_bytes
        self._waiting: list[asyncio.Future[None]] = []

    async def durable(self) -> None:
        """Return when a record of the caller's is on the disk."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._sync)
        self._waiting.append(done)
        await done

    def _sync(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._file.write(self._record_bytes * len(waiting))
        for done in waiting:
            done.set_result(None)


def run(settings: HttpFloorSettings) -> None:
    """Serve until SIGTERM."""
    stop = StopSignal()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, stop))


async def _serve(settings: HttpFloorSettings, stop: StopSignal) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(stop.fd, stopped.set)
    listener = Listener("127.0.0.1", settings.port, Bounds(CONNECTIONS_MAX, RECEIVE_MS), KEEP_ALIVE_S)
    await listener.serve(make_app(GroupCommit(Path(settings.path), settings.record_bytes)))  # type: ignore[arg-type]
    gc.collect()
    gc.freeze()
    await stopped.wait()
    asyncio.get_running_loop().remove_reader(stop.fd)
    await listener.close()


def make_app(commit: GroupCommit) -> Litestar:
    """Return the application: two typed routes, one sync."""

    @post("/v1/orders", status_code=201)
    async def new_order(data: NewOrderRequest) -> OrderResponse:
        await commit.durable()
        return _answer(data.client_order_id or "", data.account)

    @delete("/v1/orders/{account:str}/{client_order_id:str}", status_code=201)
    async def cancel_order(account: str, client_order_id: str) -> OrderResponse:
        await commit.durable()
        return _answer(client_order_id, account)

    return Litestar([new_order, cancel_order], openapi_config=None, logging_config=None)


def _answer(client_order_id: str, account: str) -> OrderResponse:
    return OrderResponse(
        "ACCEPTED", client_order_id, account, "OK", "accepted: 30 checks passed", "P-000000000000000000000000134d6ab",
        30, "0.001", "1000000", "0" * 32, 1, "PAPER", 100,
    )  # fmt: skip
