"""Which processes a deployment has: their names, the order they start and stop in, how long each may take to leave.

Rule: a name says what the process is: its kind, of a further shard the number, of a broker's sidecar the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cli.configuration import Loaded
from cli.lives import Spec, argv_of
from cli.sidecar_rows import SidecarRow

ENGINE: Final = "engine"
FEED: Final = "feed"
GATEWAY: Final = "gateway"
BOOKS: Final = "books"
HTTP: Final = "http"
API: Final = "api"
FOLLOWER: Final = "follower"
SIDECAR: Final = "sidecar"
ALERTS: Final = "alerts"
FLOW: Final = "flow"
RISK: Final = "risk"
WITH_HEALTH: Final = (ENGINE, FEED, GATEWAY, BOOKS, FOLLOWER)  # the others have a port of their own
START_ORDER: Final = (ENGINE, FEED, GATEWAY, FOLLOWER, RISK, BOOKS, HTTP, API, ALERTS, SIDECAR, FLOW)
STOP_ORDER: Final = (ALERTS, FLOW, HTTP, SIDECAR, ENGINE, RISK, GATEWAY, FOLLOWER, BOOKS, API, FEED)
TAKES_ORDERS: Final = frozenset({HTTP, SIDECAR, FLOW})

PER_SHARD: Final = frozenset({ENGINE, GATEWAY, FOLLOWER, RISK, BOOKS})
STOP_GRACE_MS: Final = 5_000
SIDECAR_AGAIN_MS: Final = 10_000


def process_name(kind: str, shard: int) -> str:
    """Return the name of a process: of shard 0 that of its kind, as where it is alone."""
    return f"{kind}-{shard}" if shard else kind


def sidecar_name(source: str) -> str:
    """Return the name of the process that carries the orders of a broker."""
    return f"{SIDECAR}-{source}"


def kind_of(name: str) -> tuple[str, int]:
    """Return what kind of process has this name, and its shard; a sidecar feeds all shards."""
    kind, _, shard = name.partition("-")
    return (kind, 0) if kind == SIDECAR else (kind, int(shard or 0))


def source_of(name: str) -> str:
    """Return the source whose sidecar has this name; empty if it is no sidecar."""
    return name.removeprefix(f"{SIDECAR}-") if name.startswith(f"{SIDECAR}-") else ""


def supervised(loaded: Loaded) -> tuple[SidecarRow, ...]:
    """Return the sidecars that `wojak up` runs."""
    return tuple(row for row in loaded.config.sidecars if row.supervised)


def process_names(loaded: Loaded, *, flow: bool) -> tuple[str, ...]:
    """Return what a deployment runs, in the order it starts."""
    return tuple(name for kind in START_ORDER if flow or kind != FLOW for name in _named(loaded, kind))


def _named(loaded: Loaded, kind: str) -> list[str]:
    if kind == SIDECAR:
        return [sidecar_name(row.source) for row in supervised(loaded)]
    if kind == ALERTS and not loaded.config.alerts.receivers:
        return []
    if kind == RISK and not loaded.config.risk_service.is_configured:
        return []
    return [process_name(kind, shard) for shard in (loaded.shards if kind in PER_SHARD else (0,))]


def specs(loaded: Loaded, names: tuple[str, ...], ticks: Path | None = None) -> list[Spec]:
    """Return what the supervisor starts, in order."""
    drain_ms = {sidecar_name(row.source): row.drain_ms for row in loaded.config.sidecars}
    drain_ms |= dict.fromkeys((HTTP, *(process_name(ENGINE, n) for n in loaded.shards)), loaded.config.engine.drain_ms)
    several = len(loaded.shards) > 1
    found = []
    for name in names:
        kind, _ = kind_of(name)
        is_one = kind in {SIDECAR, ALERTS} or (several and kind in PER_SHARD)
        again_ms = SIDECAR_AGAIN_MS if kind in {SIDECAR, ALERTS} else 0
        within_ms = drain_ms.get(name, 0) + STOP_GRACE_MS
        found.append(Spec(name, argv_of(name, loaded.path, ticks), within_ms, is_one, again_ms))
    return found
