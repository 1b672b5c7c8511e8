"""Rules of ``wojak.toml`` that span several keys, all checked at once (STYLE section 6).

Each fault is one line: key, what was expected, what it was, what to do. An empty list means that it can start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cli.alert_rows import alert_problems
from cli.books_rows import books_problems
from cli.limit_files import known_to, own_rows, rows_faults
from cli.risk_rows import route_problems
from cli.settings import HttpCertificateRow, HttpKeyRow, HttpSection, HttpTlsSection, WojakConfig
from cli.sidecar_rows import sidecar_problems
from market.errors import InstrumentError
from market.instruments import to_params
from protocol.errors import ConfigError
from runtime.sessions import SessionRules
from sidecars.sources.http_tls import TlsSettings, make_context

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
HTTP_SOURCE: Final = "http"
ENGINE: Final = "engine"  # engine.state.ENGINE
VENUES: Final = ("sandbox",)
SECRET_CHARS_MIN: Final = 16
SIGNING_SECRET_CHARS_MIN: Final = 32


def problems(config: WojakConfig, folder: Path) -> list[str]:
    """Return every fault of the configuration; relative file names are relative to ``folder``."""
    return [
        *_mode(config),
        *session_rules(config).problems(),
        *_shards(config),
        *_unique("instruments", "instrument", (r.instrument for r in config.instruments)),
        *_unique("accounts", "account", (r.account for r in config.accounts)),
        *_addressable(config),
        *_unique("strategies", "strategy", (r.strategy for r in config.strategies)),
        *_unique("principals", "principal", (r.principal for r in config.principals)),
        *_unique("sources", "source", (r.source for r in config.sources)),
        *_instruments(config),
        *_permissions(config),
        *_limits(config, folder),
        *route_problems(config.routes, config.risk_service, folder),
        *_feed(config, folder),
        *_http(config, folder),
        *_flow(config),
        *_opening(config, folder),
        *_control(config, folder),
        *books_problems(config.books, folder),
        *alert_problems(config.alerts),
        *sidecar_problems(config.sidecars, [r.source for r in config.sources]),
    ]


def session_rules(config: WojakConfig) -> SessionRules:
    """Return the calendar as written."""
    session = config.session
    return SessionRules(
        timezone=session.timezone, roll_time=session.roll_time, weekdays=session.weekdays, holidays=session.holidays
    )


def _mode(config: WojakConfig) -> Iterator[str]:
    if config.wojak.mode != "paper":
        yield 'wojak.mode: expected "paper", was "live"; no gateway to a real venue exists in this release'
    if config.engine.send_age_max_ms > config.engine.order_age_max_ms:
        yield (
            f"engine.send_age_max_ms: expected at most order_age_max_ms ({config.engine.order_age_max_ms}), "
            f"was {config.engine.send_age_max_ms}"
        )
    loss_ms = config.gateway.cancel_on_engine_loss_ms
    if 0 < loss_ms <= config.engine.lease_ms:
        yield (
            f"gateway.cancel_on_engine_loss_ms: expected 0 or more than engine.lease_ms ({config.engine.lease_ms}), "
            f"was {loss_ms}; the engine is heard about three times a lease"
        )
    for key, rows in (("instruments", config.instruments), ("accounts", config.accounts)):
        if not rows:
            yield f"{key}: expected at least one row, was none; see the commented example: wojak init"


def _shards(config: WojakConfig) -> Iterator[str]:
    shards = config.wojak.shards
    if shards > 1 and config.wojak.shard:
        yield f"wojak.shard: expected 0 with wojak.shards = {shards}, was {config.wojak.shard}; all of them run here"
    for n, row in enumerate(config.accounts):
        if row.shard is not None and row.shard >= shards:
            yield f"accounts[{n}].shard: expected 0 to {shards - 1} with wojak.shards = {shards}, was {row.shard}"


def _unique(table: str, key: str, names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for n, name in enumerate(names):
        if name in seen:
            yield f"{table}[{n}].{key}: expected a name used once, was {name!r} again"
        seen.add(name)


def _addressable(config: WojakConfig) -> Iterator[str]:
    for n, row in enumerate(config.accounts):
        if "/" in row.account:
            yield (
                f"accounts[{n}].account: expected a name without '/', was {row.account!r}; it stands in the path of "
                "cancels and of the books, where proxies and servers take a slash for the end of it: rename the account"
            )


def _instruments(config: WojakConfig) -> Iterator[str]:
    for n, row in enumerate(config.instruments):
        yield from _known(f"instruments[{n}].venue", row.venue, VENUES)
        try:
            to_params(row)
        except InstrumentError as e:
            yield f"instruments[{n}]: {e}"


def _known(what: str, name: str, known: Iterable[str]) -> Iterator[str]:
    names = sorted(set(known))
    if name not in names:
        yield f"{what}: expected one of {', '.join(names) or 'none configured'}, was {name!r}"


def _permissions(config: WojakConfig) -> Iterator[str]:
    accounts = [r.account for r in config.accounts]
    strategies = [r.strategy for r in config.strategies]
    principals = [r.principal for r in config.principals]
    for n, principal in enumerate(config.principals):
        for account in principal.accounts:
            yield from _known(f"principals[{n}].accounts", account, ["*", *accounts])
        for strategy in principal.strategies:
            yield from _known(f"principals[{n}].strategies", strategy, ["*", *strategies])
    for kind, names in (("sources", [r.source for r in config.sources]), ("strategies", strategies)):
        if ENGINE in names:
            yield f"{kind}: expected no row named {ENGINE!r}, the engine's own name for what it makes itself, was one"
    for n, source in enumerate(config.sources):
        for name in source.principals:
            yield from _known(f"sources[{n}].principals", name, ["*", *principals])


def _limits(config: WojakConfig, folder: Path) -> Iterator[str]:
    if not config.risk.limits_file:
        yield from rows_faults(own_rows(config), known_to(config, VENUES))
        return
    for table in ("limits", "contracts", "hours", "restrictions"):
        if getattr(config, table):
            yield f"{table}: expected no rows beside risk.limits_file, was some; they belong into that file"
    if config.risk.presets:
        yield f"risk.presets: expected in {config.risk.limits_file}, which risk.limits_file names, was here"
    if not os.access(folder / config.risk.limits_file, os.R_OK):
        yield f"risk.limits_file: expected a file that can be read, was {config.risk.limits_file!r}"


def _feed(config: WojakConfig, folder: Path) -> Iterator[str]:
    feed = config.feed
    yield from _known("feed.instrument", feed.instrument, [r.instrument for r in config.instruments])
    if feed.source == "synthetic":
        return
    if not feed.path:
        yield f'feed.path: expected a recording for source {feed.source!r}, was ""; or set source = "synthetic"'
    elif not os.access(folder / feed.path, os.R_OK) or not (folder / feed.path).is_file():
        yield f'feed.path: expected a file that can be read, was {feed.path!r}; or set source = "synthetic"'


def _http(config: WojakConfig, folder: Path) -> Iterator[str]:
    http = config.http
    yield from _ports(config)
    principals = [r.principal for r in config.principals]
    if http.loopback_principal:
        yield from _known("http.loopback_principal", http.loopback_principal, principals)
    has_callers = bool(http.keys or http.certificates)
    if not has_callers and not http.loopback_principal:
        yield "http.keys: expected at least one key or a loopback_principal, was neither; nobody could send an order"
    if not has_callers and http.host not in LOOPBACK:
        yield f"http.keys: expected at least one key when http.host is not this host, was none (host={http.host!r})"
    yield from _http_tls(http, folder)
    yield from _unique("http.certificates", "identity", (c.identity for c in http.certificates))
    for n, row in enumerate(http.certificates):
        yield from _known(f"http.certificates[{n}].principal", row.principal, principals)
    yield from _unique("http.keys", "name", (k.name for k in http.keys))
    for n, key in enumerate(http.keys):
        yield from _known(f"http.keys[{n}].principal", key.principal, principals)
        yield from _secret(f"http.keys[{n}]", key, folder)
    yield from _rates(http)
    yield from _http_source(config)


def _http_tls(http: HttpSection, folder: Path) -> Iterator[str]:
    tls = http.tls
    if bool(tls.certificate_file) != bool(tls.key_file):
        yield "http.tls: expected certificate_file and key_file together, was one of them"
    if tls.client_ca_file and not tls.certificate_file:
        yield "http.tls.client_ca_file: expected with certificate_file only; without TLS no client shows a certificate"
    if tls.certificate_file and tls.key_file:
        yield from _tls_files(tls, folder)
    if http.certificates and not tls.client_ca_file:
        yield "http.certificates: expected http.tls.client_ca_file, by which they are checked, was none"
    if tls.client_certificate == "required" and not http.certificates:
        yield 'http.certificates: expected at least one row for http.tls.client_certificate = "required", was none'


def _tls_files(tls: HttpTlsSection, folder: Path) -> Iterator[str]:
    try:
        make_context(tls_settings(tls, folder))
    except ConfigError as e:
        yield from e.problems


def tls_settings(tls: HttpTlsSection, folder: Path) -> TlsSettings:
    """Return the TLS of the HTTP source as the source takes it; relative file names are relative to ``folder``."""
    return TlsSettings(
        certificate_file=str(folder / tls.certificate_file),
        key_file=str(folder / tls.key_file),
        client_ca_file=str(folder / tls.client_ca_file) if tls.client_ca_file else "",
        client_certificate=tls.client_certificate,
        identity=tls.identity,
    )


def _rates(http: HttpSection) -> Iterator[str]:
    rates: dict[str, tuple[int, int]] = {}
    rows: list[tuple[str, HttpKeyRow | HttpCertificateRow]] = [
        (f"http.keys[{n}]", row) for n, row in enumerate(http.keys)
    ]
    rows += [(f"http.certificates[{n}]", row) for n, row in enumerate(http.certificates)]
    for where, key in rows:
        rate = (key.orders_per_s, key.burst)
        if rates.setdefault(key.principal, rate) != rate:
            yield (
                f"{where}: expected orders_per_s and burst of principal {key.principal}'s other keys "
                f"{rates[key.principal]}, was {rate}; the rate is the principal's"
            )


def _ports(config: WojakConfig) -> Iterator[str]:
    http, books, metrics = config.http, config.books, config.metrics
    if http.port == books.port:
        yield f"http.port: expected another port than books.port ({books.port}), was {http.port}"
    taken = {http.port: "http.port", books.port: "books.port"}
    for process in ("engine", "gateway", "feed", "books", "follower"):
        name, port = f"metrics.{process}_port", metrics.port_of(process)
        for used in range(port, port + (1 if process == "feed" else config.wojak.shards)) if port else ():
            if used in taken:
                yield f"{name}: expected another port than {taken[used]} ({used}), was {used}"
            taken[used] = name
    for n, row in enumerate(config.sidecars):
        name = f"sidecars[{n}].port"
        if row.port and row.port in taken:
            yield f"{name}: expected another port than {taken[row.port]} ({row.port}), was {row.port}"
        taken[row.port] = name


def _http_source(config: WojakConfig) -> Iterator[str]:
    http = config.http
    spoken = {k.principal for k in http.keys} | {c.principal for c in http.certificates} | {http.loopback_principal}
    spoken -= {""}
    row = next((s for s in config.sources if s.source == HTTP_SOURCE), None)
    if row is None:
        yield f'sources: expected a row with source = "{HTTP_SOURCE}", was none; its principals may send over HTTP'
    elif "*" not in row.principals:
        for name in sorted(spoken - set(row.principals)):
            yield f'sources: expected source "{HTTP_SOURCE}" to list principal {name!r}, which http uses'


def _secret(at: str, key: HttpKeyRow, folder: Path) -> Iterator[str]:
    if bool(key.secret_env) == bool(key.secret_file):
        yield f"{at}: expected either secret_env or secret_file, was {'both' if key.secret_env else 'neither'}"
        return
    if key.secret_env:
        where, secret = f"{at}.secret_env", os.environ.get(key.secret_env)
        missing = f"expected environment variable {key.secret_env} to hold the secret, was not set"
    else:
        where, secret = f"{at}.secret_file", _read(folder / key.secret_file)
        missing = f"expected a file that can be read, was {key.secret_file!r}"
    if secret is None:
        yield f"{where}: {missing}"
        return
    least = SIGNING_SECRET_CHARS_MIN if key.kind == "hmac" else SECRET_CHARS_MIN
    if len(secret) < least:
        yield f"{where}: expected a secret of at least {least} characters, was {len(secret)}"


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _flow(config: WojakConfig) -> Iterator[str]:
    flow = config.flow
    yield from _known("flow.account", flow.account, [r.account for r in config.accounts])
    yield from _known("flow.strategy", flow.strategy, [r.strategy for r in config.strategies])
    yield from _known("flow.instrument", flow.instrument, [r.instrument for r in config.instruments])


def _opening(config: WojakConfig, folder: Path) -> Iterator[str]:
    name = config.wojak.opening_file
    if name and not os.access(folder / name, os.R_OK):
        yield f"wojak.opening_file: expected a file that can be read, was {name!r}"


def _control(config: WojakConfig, folder: Path) -> Iterator[str]:
    control = config.control
    for name, address, files in (
        ("listen", control.listen, {"key_file": control.key_file, "allowed_dir": control.allowed_dir}),
        (
            "connect",
            control.connect,
            {"client_key_file": control.client_key_file, "server_key_file": control.server_key_file},
        ),
    ):
        if not address:
            continue
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not address.startswith("tcp://") or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            yield f"control.{name}: expected an address such as tcp://127.0.0.1:7400, was {address!r}"
        for key, file in files.items():
            if not file or not os.access(folder / file, os.R_OK):
                yield f"control.{key}: expected what {name} needs, made by: wojak keys new; was {file!r}"
