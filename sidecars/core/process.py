"""The process of every sidecar that fetches from a broker: one source, the one loop, health on a port of its own."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any, Final

import structlog
import uvloop
from msgspec import Struct, structs

from protocol.errors import ConfigError, WojakError
from protocol.orders import Name
from runtime.exits import CANNOT_RUN, CLEAN, FAILED, UNFINISHED
from runtime.health import HealthSettings, served
from runtime.heap import share_heaps
from runtime.logs import configure
from runtime.signals import StopSignal
from sidecars.core.kinds import find_kind, read_settings
from sidecars.core.loop import SidecarLoop
from sidecars.core.metrics import FAMILIES, Metrics
from sidecars.core.settings import LoopSettings

GC_OBJECTS: Final = 20_000


class SidecarSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one sidecar process is told.

    Attributes:
        source: Name under which the engine knows it.
        kind: Which kind of source.
        settings: The kind's own settings, as they stand in the configuration.
        loop: What the one loop is told; how long new risk is held is the kind's.
        health: Where it tells how it is.
    """

    source: Name
    kind: str
    settings: dict[str, Any]
    loop: LoopSettings
    health: HealthSettings = HealthSettings()


def run(settings: SidecarSettings) -> int:
    """Be the sidecar process: carry until SIGTERM or SIGINT, drain, return the exit code."""
    share_heaps()
    configure(settings.source)
    stop = StopSignal()
    try:
        metrics = Metrics(settings.source)
        with served(settings.health, metrics.board, FAMILIES, {"source": settings.source}) as serve:
            serve()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_carry(settings, metrics, stop))
    except ConfigError as e:
        print(f"{settings.source}: {'; '.join(e.problems)}", file=sys.stderr)
        return CANNOT_RUN
    except WojakError as e:
        print(f"{settings.source}: {e}", file=sys.stderr)
        return FAILED


async def _carry(settings: SidecarSettings, metrics: Metrics, stop: StopSignal) -> int:
    kind = find_kind(settings.kind)
    own = read_settings(kind, settings.source, settings.settings)
    session = structs.replace(settings.loop.session, hold_ms=kind.hold_ms(own))
    source = kind.make(settings.source, own, metrics)
    loop = SidecarLoop(structs.replace(settings.loop, session=session), source, metrics)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)  # what is under way is no garbage: looking at it every 700 objects took a tenth
    structlog.get_logger().info("sidecar", source=settings.source, kind=settings.kind, engine=settings.loop.endpoints)
    return UNFINISHED if await loop.run(stop) else CLEAN
