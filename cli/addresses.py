"""Where the parts of a deployment are reached: names of sockets, addresses, and what proves who calls."""

from __future__ import annotations

import os
import ssl
from typing import Final

from cli.configuration import Loaded
from cli.settings import HttpKeyRow, HttpSection

SIDECARS_SOCKET: Final = "sidecars"
VENUES_SOCKET: Final = "venues"
EVENTS_SOCKET: Final = "events"
CONTROL_SOCKET: Final = "control"
TICKS_SOCKET: Final = "ticks"
SNAPSHOTS_SOCKET: Final = "snapshots"
GATEWAY_SOCKET: Final = "gateway-control"
STORED_SOCKET: Final = "stored"
HISTORY_SOCKET: Final = "history"
RISK_SOCKET: Final = "risk"
VENUE: Final = "sandbox"


def http_url(loaded: Loaded) -> str:
    """Return the address of the order source."""
    http = loaded.config.http
    return f"{'https' if http.tls.certificate_file else 'http'}://{http.host}:{http.port}"


def books_url(loaded: Loaded) -> str:
    """Return the address of the books' REST API."""
    books = loaded.config.books
    return f"http://{books.host}:{books.port}"


def http_trust(loaded: Loaded) -> ssl.SSLContext | bool:
    """Return what this host's own commands trust the HTTP source by: exactly the certificate of the configuration.

    Whatever name it is for: they speak to the address that it listens on.
    """
    tls = loaded.config.http.tls
    if not tls.certificate_file:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(loaded.resolve(tls.certificate_file))
    return context


def bearer_keys(http: HttpSection) -> list[HttpKeyRow]:
    """Return the keys that are shown with a request."""
    return [key for key in http.keys if key.kind == "bearer"]


def authorization(key: str) -> dict[str, str]:
    """Return the header that carries an API key; none for an empty one."""
    return {"authorization": f"Bearer {key}"} if key else {}


def secret(loaded: Loaded, row: HttpKeyRow) -> str:
    """Return the secret of an API key from where the configuration says it is."""
    if row.secret_env:
        return os.environ[row.secret_env]
    return loaded.resolve(row.secret_file).read_text("utf-8").strip()
