"""The sidecar of one broker: what its process is told, what can be checked of it beforehand, and its run.

Rule: one process of a deployment carries a source; a second one is told who was first. The broker's client is imported
here only when a sidecar runs or is checked, never by the supervisor, which has the check done by short-lived processes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from typing import Final

from cli.addresses import SIDECARS_SOCKET
from cli.configuration import Loaded, account_shards
from cli.held_file import HeldError, hold
from cli.lives import argv_of
from cli.processes import sidecar_name
from cli.sidecar_rows import SidecarRow
from protocol.errors import ConfigError
from runtime.health import HealthSettings
from sidecars.core.kinds import find_kind, kind_names, read_settings
from sidecars.core.metrics import Metrics
from sidecars.core.process import SidecarSettings
from sidecars.core.settings import LoopSettings

CHECK_S: Final = 60.0


def sidecar_settings(loaded: Loaded, row: SidecarRow) -> SidecarSettings:
    """Return what the process of one source is told."""
    paths = loaded.paths
    name = sidecar_name(row.source)
    several = len(loaded.shards) > 1
    return SidecarSettings(
        source=row.source,
        kind=row.kind,
        settings=row.settings,
        loop=LoopSettings(
            engine_endpoint=paths.endpoint(SIDECARS_SOCKET),
            state_file=str(paths.state / f"{name}.epoch"),
            drain_ms=row.drain_ms,
            shard_endpoints=tuple(paths.of(n).endpoint(SIDECARS_SOCKET) for n in loaded.shards if several),
            account_shards=account_shards(loaded.config),
            body_bytes_max=row.body_bytes_max,
        ),
        health=sidecar_health(loaded, row),
    )


def sidecar_health(loaded: Loaded, row: SidecarRow) -> HealthSettings:
    """Return where the process of one source tells how it is."""
    name = sidecar_name(row.source)
    number = loaded.config.sidecars.index(row)
    return HealthSettings(
        process=name,
        socket_path=str(loaded.paths.health(name)),
        host=row.host,
        port=row.port,
        stall_ms=loaded.config.metrics.stall_ms,
        port_key=f"sidecars[{number}].port",
    )


def row_of(loaded: Loaded, source: str) -> SidecarRow:
    """Return the row of a source.

    Raises:
        ConfigError: If there is none.
    """
    rows = loaded.config.sidecars
    found = next((row for row in rows if row.source == source), None)
    if found is None:
        names = ", ".join(row.source for row in rows) or "none configured: add [[sidecars]]"
        raise ConfigError([f"source: expected one of {names}, was {source!r}"], str(loaded.path))
    return found


def run_sidecar(loaded: Loaded, row: SidecarRow) -> int:
    """Carry a source's orders until SIGTERM; return the exit code.

    Raises:
        ConfigError: If another process of this deployment carries it.
    """
    from sidecars.core.process import run

    paths = loaded.paths
    paths.run.mkdir(parents=True, exist_ok=True)
    try:
        fd = hold(paths.state / f"{sidecar_name(row.source)}.lock")
    except HeldError as e:
        why = f"sidecars: expected nobody to carry {row.source}, was carried by pid {e.pid}; stop that one"
        hint = ", or, where `wojak up` started it, set supervised = false" if row.supervised else ""
        raise ConfigError([why + hint], str(loaded.path)) from e
    try:
        return run(sidecar_settings(loaded, row))
    finally:
        os.close(fd)


def require_usable(loaded: Loaded, row: SidecarRow) -> None:
    """Return if kind, client, settings and environment of a source are there. Connects to nothing.

    Raises:
        ConfigError: Naming what is not.
    """

    async def make() -> None:  # a client may want a running loop
        kind = find_kind(row.kind)
        kind.make(row.source, read_settings(kind, row.source, row.settings), Metrics(row.source))

    asyncio.run(make())


def unusable(loaded: Loaded) -> Iterator[str]:
    """Yield what keeps the sidecars that `wojak up` runs from starting, each looked at in a process of its own."""
    known = kind_names()
    looked = []
    for number, row in enumerate(loaded.config.sidecars):
        if not row.supervised:
            continue
        if row.kind not in known:
            yield (
                f"sidecars[{number}].kind: expected one of {', '.join(known)}, was {row.kind!r}; "
                "correct it, or install the package that brings it"
            )
            continue
        argv = (*argv_of(sidecar_name(row.source), loaded.path, None), "--check-config")
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603 -- ours
        looked.append((number, child))
    for number, child in looked:
        try:
            _, said = child.communicate(timeout=CHECK_S)
        except subprocess.TimeoutExpired:
            child.kill()
            _, said = child.communicate()
            said += f"expected to be checked within {CHECK_S:g} s, was not"
        if child.returncode:
            lines = [line.removeprefix("  - ") for line in said.strip().splitlines()]
            reasons = [line for line in lines if not line.startswith("CONFIG: ")] or lines
            yield f"sidecars[{number}]: {'; '.join(reasons[-4:]) or f'its check ended with {child.returncode}'}"
