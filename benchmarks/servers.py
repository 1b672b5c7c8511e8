"""The processes under load: ``python -m benchmarks.servers NAME FILE``, settings as msgpack in the file.

Each is the real thing started as the command line starts it, or a floor. Imports are per process, so that none
carries another one's packages.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")
NAMES = (
    "engine", "acknowledger", "gateway", "http", "feed", "crashing-writer", "floor", "chained-floor", "venue-floor",
    "http-floor", "push-floor", "sidecar", "granter",
)  # fmt: skip


def main() -> None:
    """Run the server named by the first argument with the settings file named by the second."""
    name, content = sys.argv[1], Path(sys.argv[2]).read_bytes()
    if name.endswith("floor"):
        _run_floor(name, content)
    elif name in {"feed", "crashing-writer"}:
        _run_ticks(name, content)
    else:
        _run_ours(name, content)


def _decode(content: bytes, kind: type[T]) -> T:
    return msgspec.msgpack.decode(content, type=kind)


def _run_ours(name: str, content: bytes) -> None:
    match name:
        case "engine":
            from engine import main as engine
            from engine.settings import EngineSettings

            engine.run(_decode(content, EngineSettings))
        case "acknowledger":
            from benchmarks import acknowledger

            acknowledger.run(_decode(content, acknowledger.AcknowledgerSettings))
        case "gateway":
            from venues.core import loop
            from venues.core.settings import GatewaySettings

            loop.run(_decode(content, GatewaySettings))
        case "http":
            from sidecars.sources import http

            sys.exit(http.run(_decode(content, http.HttpSettings)))
        case "granter":
            from benchmarks import granter

            granter.run(_decode(content, granter.GranterSettings))
        case "sidecar":
            from sidecars.core import process

            sys.exit(process.run(_decode(content, process.SidecarSettings)))
        case _:
            sys.exit(f"server expected one of {', '.join(NAMES)}, was {name}")


def _run_ticks(name: str, content: bytes) -> None:
    if name == "feed":
        from benchmarks import counted_feed

        counted_feed.run(_decode(content, counted_feed.CountedFeedSettings))
    else:
        from benchmarks import crashing_writer

        crashing_writer.run(_decode(content, crashing_writer.CrashSettings))


def _run_floor(name: str, content: bytes) -> None:
    if name == "http-floor":
        from benchmarks import http_floor

        http_floor.run(_decode(content, http_floor.HttpFloorSettings))
        return
    if name == "push-floor":
        from benchmarks import push_floor

        push_floor.run(_decode(content, push_floor.PushFloorSettings))
        return
    from benchmarks import floors

    run = {"floor": floors.run_floor, "chained-floor": floors.run_chained_floor, "venue-floor": floors.run_venue_floor}
    run[name](_decode(content, floors.FloorSettings))


if __name__ == "__main__":
    main()
