"""Whether each process of a deployment does its work: asked of the process itself, never assumed from its pid."""

from __future__ import annotations

from typing import Final

import httpx

from cli.configuration import Loaded
from cli.engine_client import EngineAwayError, EngineClient
from cli.wiring import API, BOOKS, ENGINE, FEED, FLOW, GATEWAY, HTTP, books_url, http_url, played
from market.table import TableReader
from protocol.control import EngineStatus
from protocol.errors import MarketError
from runtime.clock import wall_ns

ASK_MS: Final = 300
HTTP_TIMEOUT_S: Final = 1.0
TICK_FRESH_NS: Final = 2_000_000_000


class Readiness:
    """Asks processes of one deployment."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._engine = EngineClient(loaded.paths, operator="supervisor")
        self._client = httpx.Client(timeout=HTTP_TIMEOUT_S, trust_env=False)

    def status(self) -> EngineStatus | None:
        """Return how the engine is; None if it does not answer."""
        try:
            return self._engine.status(timeout_ms=ASK_MS)
        except EngineAwayError:
            return None

    def why_not(self, name: str) -> str:
        """Return why a process is not ready; empty when it is."""
        if name == ENGINE:
            return "" if self.status() else "does not answer"
        if name == FEED:
            return self._feed()
        if name == GATEWAY:
            status = self.status()
            if status is None:
                return "engine does not answer"
            return "" if status.venues and all(v.ready for v in status.venues) else "venue not ready"
        if name == FLOW:
            return ""
        return self._http(
            {HTTP: http_url(self._loaded), API: books_url(self._loaded), BOOKS: books_url(self._loaded)}[name]
        )

    def close(self) -> None:
        """Leave."""
        self._client.close()
        self._engine.close()

    def _feed(self) -> str:
        try:
            table = TableReader.open(self._loaded.paths.table)
            value = table.read(table.slot(played(self._loaded)[0].instrument))
        except MarketError as e:
            return str(e)
        if value is None or wall_ns() - value.written_at_ns > TICK_FRESH_NS:
            return "no tick yet"
        return ""

    def _http(self, url: str) -> str:
        try:
            response = self._client.get(f"{url}/readyz")
        except httpx.HTTPError as e:
            return type(e).__name__
        return "" if response.status_code == 200 else response.text[:120]
