"""The real sidecar loop on a virtual event loop: an asyncio loop whose time is the world's and whose turns are ours."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import base_events
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from sidecars.core.loop import SidecarLoop
from sidecars.core.metrics import Metrics
from sidecars.core.settings import LoopSettings
from tests.simulation.broker import Broker, BrokerSource
from tests.simulation.memory import CrashError, MemoryDealer, VirtualClock

ITERATIONS_MAX = 50
GRAVE_ITERATIONS = 20


class VirtualLoop(base_events.BaseEventLoop):
    """Runs what is due at the world's time, then stops; never waits, and knows no file descriptors."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._virtual = clock
        self._clock_resolution = 1e-9
        self._selector = SimpleNamespace(select=lambda timeout: [])
        self._readers: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self._virtual.monotonic / 1e9

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self._readers.append((callback, args))

    def remove_reader(self, fd: Any) -> bool:
        self._readers.clear()
        return True

    def on_readable(self) -> None:
        """The socket has something."""
        for reader, args in self._readers:
            self.call_soon(reader, *args)

    @property
    def is_busy(self) -> bool:
        return bool(self._ready)  # type: ignore[attr-defined]

    def iterate(self) -> None:
        """Run everything that is due now, and what follows from it."""
        for _ in range(ITERATIONS_MAX):
            self.call_soon(self.stop)
            self.run_forever()
            if not self.is_busy:
                return


class SidecarHost:
    """One sidecar process, its lives one after the other.

    ``make_source`` and ``drain_ms`` are those of the next life; ``left`` is what the last drain left unfinished.
    """

    def __init__(self, name: str, folder: Path, clock: VirtualClock, broker: Broker) -> None:
        self.name = name
        self._clock = clock
        self._broker = broker
        self.make_source: Callable[[Broker, VirtualClock], BrokerSource] = BrokerSource
        self.drain_ms = 10_000
        self.left = 0
        self._settings = LoopSettings(
            engine_endpoint="sidecars", state_file=str(folder / f"{name}.epoch"), sidecar=name
        )
        self.loop: VirtualLoop | None = None
        self.sidecar: SidecarLoop
        self.source: BrokerSource
        self._task: asyncio.Task[int]
        self.paused_until_ns = 0
        self.drains = 0

    @property
    def dealer(self) -> MemoryDealer | None:
        return getattr(self.sidecar._lines[0], "_dealer", None) if self.loop is not None else None

    @property
    def is_settled(self) -> bool:
        return self.loop is None or self.sidecar.session.is_idle

    def start(self) -> None:
        loop = VirtualLoop(self._clock)
        self.source = self.make_source(self._broker, self._clock)
        settings = structs.replace(self._settings, drain_ms=self.drain_ms)
        self.sidecar = SidecarLoop(settings, self.source, Metrics(self.source.name))
        self._task = loop.create_task(self.sidecar.run())
        self.loop = loop
        loop.iterate()

    def turn(self) -> bool:
        """One turn; the process may die in it. Return whether it ended by itself, drained.

        Raises:
            CrashError: If it died; ``die`` comes next.
        """
        if self._clock.monotonic < self.paused_until_ns:
            return False
        if self.loop is None:
            self.start()
            return False
        self.source.wake()
        dealer = self.dealer
        if dealer is not None and dealer.readable:
            self.loop.on_readable()
        self.loop.iterate()
        if not self._task.done():
            return False
        self.left = self._task.result()
        self._bury()
        return True

    def stop(self) -> None:
        """SIGTERM: drain, then leave."""
        if self.loop is not None and not self.sidecar.session.is_stopping:
            self.loop.call_soon(self.sidecar.request_stop)
            self.drains += 1

    def die(self) -> None:
        """Kill -9: the connection ends, the leases run on."""
        if self.loop is None:
            return
        self.source.is_dead = True
        if self.dealer is not None:
            self.dealer.die()
        self._task.cancel()
        self._bury()

    def _bury(self) -> None:
        """Let what is left of the coroutines end; nothing of it reaches anybody."""
        loop = self.loop
        assert loop is not None
        for _ in range(GRAVE_ITERATIONS):
            with contextlib.suppress(CrashError):
                loop.iterate()
            if self._task.done():
                break
        if self._task.done() and not self._task.cancelled():
            self._task.exception()
        self.loop = None
        loop.close()
