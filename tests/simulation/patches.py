"""What the real processes find where they look for sockets, clocks, disks and chance: the world's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import engine.loop
import engine.start
import runtime.failpoints
import sidecars.core.line
import sidecars.core.loop
import venues.core.gateway
import venues.core.log
import venues.core.loop
from journal.format import JournalSettings
from runtime.clock import EngineClock
from tests.simulation.disk import LogOs
from tests.simulation.memory import MemoryDealer, MemoryPublisher, MemoryRouter, MemoryWaiter

if TYPE_CHECKING:
    from tests.simulation.machines import Machines

Targets = tuple[tuple[Any, dict[str, Any]], ...]


@contextlib.contextmanager
def patched(machines: Machines) -> Iterator[None]:
    """Within, every process of the run lives on what the run gives it."""
    with contextlib.ExitStack() as stack:
        for target, names in _targets(machines):
            stack.enter_context(patch.multiple(target, **names))
        # What is durable is the simulated disks' word; real syncs only cost time here.
        stack.enter_context(patch("os.fdatasync"))
        stack.enter_context(patch("os.fsync"))
        yield


def _targets(machines: Machines) -> Targets:
    clock, net, draw = machines.clock, machines.net, machines.random
    time = SimpleNamespace(monotonic_ns=clock.monotonic_ns)
    chance = SimpleNamespace(urandom=draw.randbytes)
    sockets: dict[str, Any] = {"Router": MemoryRouter, "Waiter": MemoryWaiter}
    start = {
        "Disk": lambda: machines.disk,
        "wall_ns": clock.wall_ns,
        "secrets": SimpleNamespace(token_bytes=draw.randbytes),
        "time": time,
        "EngineClock": partial(EngineClock, wall=clock.wall_ns, monotonic=clock.monotonic_ns),
        "JournalSettings": partial(JournalSettings, prepare_ahead=False),
    }
    sidecar = {
        "Context": lambda: net,
        "time": time,
        "os": chance,
        "random": SimpleNamespace(SystemRandom=lambda: draw),
        "structlog": SimpleNamespace(get_logger=lambda: machines.log),
    }
    return (
        (engine.loop, {**sockets, "Context": lambda: net, "Publisher": MemoryPublisher, "time": time}),
        (engine.start, start),
        (venues.core.loop, {**sockets, "Dealer": MemoryDealer, "clock": clock, "os": chance}),
        (venues.core.gateway, {"hit": machines.hit}),
        (venues.core.log, {"os": LogOs(machines.gateway_disk, machines.hit)}),
        (sidecars.core.loop, sidecar),
        (sidecars.core.line, {"Dealer": MemoryDealer, "time": time}),
        (runtime.failpoints, {"hit": machines.hit}),
    )
