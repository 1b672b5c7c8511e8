"""A running HTTP sidecar in a thread, an engine peer, and clients for both well-behaved and hostile requests."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from sidecars.core.loop import SidecarLoop
from sidecars.sources.http import HttpSettings, HttpSource, make_sidecar
from tests.unit.sidecars.engine_peer import EnginePeer, Journal

DEADLINE_S = 5.0
ORDER = {
    "account": "acc",
    "strategy": "ok",
    "instrument": "BTCUSDT",
    "side": "BUY",
    "quantity": "0.01",
    "price": "61800.5",
}


def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Wait for a condition, with a deadline."""
    ends = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while time.monotonic() < ends:
        if found := condition():
            return found
        pause.wait(0.005)
    raise AssertionError(f"{what} expected within {DEADLINE_S} s")


class Sidecar:
    """An HTTP sidecar in its own thread and loop."""

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.error: BaseException | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self.sidecar: SidecarLoop
        self.source: HttpSource
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as e:  # noqa: BLE001  shown by the test that waits for it
                self.error = e
        self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.sidecar, self.source = make_sidecar(self.settings)
        task = asyncio.create_task(self.sidecar.run())
        self._loop.call_soon(self._tell_ready)
        await task

    def _tell_ready(self) -> None:
        if self.source._listener is None or not self.source._listener.is_serving:
            self._loop.call_soon(self._tell_ready)
        else:
            self._ready.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.source.port}"

    def wait_open(self, epoch: int = 0) -> None:
        until(lambda: self.sidecar.session.is_open and self.sidecar.session.epoch >= epoch, "an open session")

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.sidecar.request_stop)
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()


class Stage:
    """A sidecar, its engine, and a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/e"
        self.journal = Journal()
        self.peers: list[EnginePeer] = []
        self.sidecars: list[Sidecar] = []

    def engine(self, **options: Any) -> EnginePeer:
        peer = EnginePeer(self.endpoint, self.journal, **options)
        self.peers.append(peer)
        return peer

    def kill_engine(self) -> None:
        self.peers.pop().kill()

    def start(self, **options: Any) -> Sidecar:
        defaults: dict[str, Any] = {"loopback_principal": "demo", "port": 0, "drain_ms": 1000}
        state_file = str(self.folder / options.pop("state_file", "epochs"))
        settings = HttpSettings(engine_endpoint=self.endpoint, state_file=state_file, **{**defaults, **options})
        sidecar = Sidecar(settings)
        self.sidecars.append(sidecar)
        return sidecar

    @property
    def url(self) -> str:
        return self.sidecars[-1].url

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx.post(f"{self.url}/v1/orders", content=content, headers=given, timeout=DEADLINE_S)

    def send(self, number: object, **fields: Any) -> httpx.Response:
        return self.post({**ORDER, "client_order_id": f"c{number}", **fields})

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are and return everything until the server closes."""
        with socket.create_connection(("127.0.0.1", self.sidecars[-1].source.port), timeout=DEADLINE_S) as sock:
            for part in parts:
                sock.sendall(part)
            answer = bytearray()
            while chunk := sock.recv(65536):
                answer += chunk
            return bytes(answer)

    def close(self) -> None:
        for sidecar in self.sidecars:
            sidecar.stop()
        for peer in self.peers:
            peer.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage without actors."""
    stage = Stage(tmp_path)
    yield stage
    faults = [fault for peer in stage.peers for fault in peer.faults]
    stage.close()
    assert faults == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage that is open for all tests of a module which leave no trace at the engine."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    stage.engine()
    stage.start().wait_open()
    yield stage
    items = len(stage.journal.items)
    stage.close()
    assert items == 0


@pytest.fixture
def running(stage: Stage) -> Stage:
    """A stage with an engine and an open sidecar."""
    stage.engine()
    stage.start().wait_open()
    return stage
