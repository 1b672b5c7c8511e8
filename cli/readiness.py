"""Whether each process of a deployment does its work: asked of the process itself, never assumed from its pid."""

from __future__ import annotations

from typing import Final

import httpx

from cli.addresses import books_url, http_trust, http_url
from cli.configuration import Loaded
from cli.engine_client import EngineAwayError, EngineClient
from cli.processes import (
    ALERTS,
    BOOKS,
    ENGINE,
    FEED,
    FLOW,
    FOLLOWER,
    GATEWAY,
    HTTP,
    RISK,
    SIDECAR,
    kind_of,
    process_names,
)
from cli.wiring import played
from market.table import TableReader
from protocol.control import EngineStatus
from protocol.errors import MarketError
from runtime.clock import wall_ns

ASK_MS: Final = 300
HTTP_TIMEOUT_S: Final = 1.0
SERVING: Final = frozenset({"open", "ready"})
REASON_CHARS: Final = 200
TOLD: Final = frozenset({FOLLOWER, SIDECAR, ALERTS, RISK})
TICK_FRESH_NS: Final = 2_000_000_000


class Readiness:
    """Asks processes of one deployment."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._engines = [EngineClient(loaded.of(n).paths, operator="supervisor") for n in loaded.shards]
        self._client = httpx.Client(verify=http_trust(loaded), timeout=HTTP_TIMEOUT_S, trust_env=False)
        self._by_socket = {
            name: httpx.Client(
                transport=httpx.HTTPTransport(uds=str(loaded.paths.health(name))), timeout=HTTP_TIMEOUT_S
            )
            for name in process_names(loaded, flow=False)
            if kind_of(name)[0] in TOLD
        }

    def status(self, shard: int = 0) -> EngineStatus | None:
        """Return how the engine of a shard is; None if it does not answer."""
        try:
            return self._engines[shard].status(timeout_ms=ASK_MS)
        except EngineAwayError:
            return None

    def statuses(self) -> list[EngineStatus | None]:
        """Return how the engines are, shard 0 first."""
        return [self.status(shard) for shard in self._loaded.shards]

    def why_not(self, name: str) -> str:
        """Return why a process is not ready; empty when it is."""
        kind, shard = kind_of(name)
        if kind == ENGINE:
            return "" if self.status(shard) else "does not answer"
        if kind == FEED:
            return self._feed()
        if kind == GATEWAY:
            status = self.status(shard)
            if status is None:
                return "engine does not answer"
            return "" if status.venues and all(v.ready for v in status.venues) else "venue not ready"
        if kind == FLOW:
            return ""
        if kind in TOLD:
            return self._told(name)
        url = http_url(self._loaded) if kind == HTTP else books_url(self._loaded)
        return self._http(url, str(shard) if kind == BOOKS else "")

    def close(self) -> None:
        """Leave."""
        self._client.close()
        for client in self._by_socket.values():
            client.close()
        for engine in self._engines:
            engine.close()

    def _feed(self) -> str:
        try:
            table = TableReader.open(self._loaded.paths.table)
            value = table.read(table.slot(played(self._loaded)[0].instrument))
        except MarketError as e:
            return str(e)
        if value is None or wall_ns() - value.written_at_ns > TICK_FRESH_NS:
            return "no tick yet"
        return ""

    def _http(self, url: str, shard: str) -> str:
        """Ask an HTTP process; of several shards it is ready for some while others are away, and says which."""
        try:
            response = self._client.get(f"{url}/readyz")
            answer = response.json()
        except (httpx.HTTPError, ValueError) as e:
            return type(e).__name__
        shards: dict[str, str] = answer.get("shards") or {}
        away = {n: why for n, why in shards.items() if why not in SERVING and shard in {"", n}}
        if away:
            return "; ".join(f"shard {n}: {why}" for n, why in away.items())
        return "" if response.status_code == 200 or shards.get(shard) in SERVING else response.text[:120]

    def _told(self, name: str) -> str:
        """Ask a process at its socket in the run folder."""
        try:
            response = self._by_socket[name].get("http://process/readyz")
            return "" if response.status_code == 200 else str(response.json()["reason"])[:REASON_CHARS]
        except httpx.ConnectError:
            return "not running"
        except (httpx.HTTPError, ValueError, KeyError) as e:
            return type(e).__name__
