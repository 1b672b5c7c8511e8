"""Which process gets which settings and sockets: the one place where the parts of a deployment are chosen.

Rule: a starter imports its own room inside its function, so that no process carries another one's packages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cli.addresses import (
    CONTROL_SOCKET,
    EVENTS_SOCKET,
    GATEWAY_SOCKET,
    HISTORY_SOCKET,
    RISK_SOCKET,
    SIDECARS_SOCKET,
    SNAPSHOTS_SOCKET,
    STORED_SOCKET,
    TICKS_SOCKET,
    VENUE,
    VENUES_SOCKET,
    authorization,
    bearer_keys,
    books_url,
    http_trust,
    http_url,
    secret,
)
from cli.books_rows import couchbase_of
from cli.configuration import Loaded, account_shards, to_opening, to_wire_params
from cli.engine_client import shifted
from cli.problems import session_rules, tls_settings
from cli.processes import ALERTS, API, BOOKS, ENGINE, FEED, FLOW, FOLLOWER, GATEWAY, HTTP, RISK, process_name
from engine.settings import EngineSettings, RemoteControl
from market.instruments import to_params
from protocol.codes import Mode
from protocol.errors import ConfigError
from protocol.params import InstrumentParams
from runtime.health import HealthSettings
from runtime.sessions import SessionRules
from sidecars.sources.http_tls import TlsSettings

NS_PER_MS: Final = 1_000_000


def engine_settings(loaded: Loaded) -> EngineSettings:
    """Return what the engine is told."""
    engine, paths = loaded.config.engine, loaded.paths
    return EngineSettings(
        mode=Mode.PAPER,
        shard=paths.shard or loaded.config.wojak.shard,
        journal_dir=str(paths.journal),
        sidecars_endpoint=paths.endpoint(SIDECARS_SOCKET),
        venues_endpoint=paths.endpoint(VENUES_SOCKET),
        events_endpoint=paths.endpoint(EVENTS_SOCKET),
        control_endpoint=paths.endpoint(CONTROL_SOCKET),
        risk_endpoint=paths.endpoint(RISK_SOCKET) if loaded.config.risk_service.is_configured else "",
        token_file=str(paths.token),
        table_path=str(paths.table),
        params=to_wire_params(loaded.config),
        opening=to_opening(loaded),
        credits=engine.credits,
        reserved_credits=engine.reserved_credits,
        batch_max=engine.batch_max,
        pnl_age_max_ms=engine.pnl_age_max_ms,
        segment_bytes=engine.segment_bytes,
        dedup_keys_max=engine.dedup_keys_max,
        huge_pages=engine.huge_pages,
        direct_io=engine.direct_io,
        disk_reserve_bytes=engine.disk_reserve_bytes,
        lease_ms=engine.lease_ms,
        venue_window=engine.venue_window,
        session=session_of(loaded),
        drain_ms=engine.drain_ms,
        health=health_settings(loaded, ENGINE),
        remote=remote_control(loaded),
    )


def remote_control(loaded: Loaded) -> RemoteControl | None:
    """Return where the engine of this shard is controlled over tcp; None = nowhere."""
    control = loaded.config.control
    if not control.listen:
        return None
    endpoint = shifted(control.listen, loaded.paths.shard)
    return RemoteControl(endpoint, str(loaded.resolve(control.key_file)), str(loaded.resolve(control.allowed_dir)))


def session_of(loaded: Loaded) -> SessionRules | None:
    """Return the calendar; None where only operators end a trading day."""
    return session_rules(loaded.config) if loaded.config.session.automatic else None


def health_settings(loaded: Loaded, kind: str) -> HealthSettings:
    """Return where a process of this shard tells how it is; the port of shard 1 is the next one, and so on."""
    metrics, shard = loaded.config.metrics, loaded.paths.shard
    port = metrics.port_of(kind)
    name = process_name(kind, shard)
    return HealthSettings(
        process=name,
        socket_path=str(loaded.paths.health(name)),
        host=metrics.host,
        port=port + shard if port else 0,
        stall_ms=metrics.stall_ms,
    )


def instruments(loaded: Loaded) -> tuple[InstrumentParams, ...]:
    """Return the instrument master."""
    return tuple(to_params(row) for row in loaded.config.instruments)


def played(loaded: Loaded) -> tuple[InstrumentParams, ...]:
    """Return the instruments that the feed plays: the recorded one, or all of a synthetic session."""
    feed = loaded.config.feed
    return tuple(i for i in instruments(loaded) if feed.source == "synthetic" or i.instrument == feed.instrument)


def run_engine(loaded: Loaded) -> int:
    """Run the engine."""
    from engine.main import run

    return run(engine_settings(loaded))


def run_feed(loaded: Loaded) -> int:
    """Run the feed."""
    from market.feed import run
    from market.feed_settings import FeedSettings

    feed, paths = loaded.config.feed, loaded.paths
    run(
        FeedSettings(
            publish_endpoint=paths.shared_endpoint(TICKS_SOCKET),
            request_endpoint=paths.shared_endpoint(SNAPSHOTS_SOCKET),
            table_path=str(paths.table),
            instruments=played(loaded),
            recording="" if feed.source == "synthetic" else str(loaded.resolve(feed.path)),
            seed=feed.seed,
            speed=feed.speed,
            health=health_settings(loaded, FEED),
        )
    )
    return 0


def run_gateway(loaded: Loaded) -> int:
    """Run the gateway of the sandbox venue."""
    from venues.core.loop import run
    from venues.core.settings import GatewaySettings

    paths = loaded.paths
    run(
        GatewaySettings(
            venue=VENUE,
            gateway=f"{VENUE}-{paths.shard + 1}",
            engine_endpoint=paths.endpoint(VENUES_SOCKET),
            control_endpoint=paths.endpoint(GATEWAY_SOCKET),
            token_file=str(paths.token),
            log_dir=str(paths.gateway),
            instruments=tuple(i for i in instruments(loaded) if i.venue == VENUE),
            session=session_of(loaded),
            feed_endpoint=paths.shared_endpoint(TICKS_SOCKET),
            snapshots_endpoint=paths.shared_endpoint(SNAPSHOTS_SOCKET),
            cancel_on_engine_loss_ms=loaded.config.gateway.cancel_on_engine_loss_ms,
            health=health_settings(loaded, GATEWAY),
        )
    )
    return 0


def run_books(loaded: Loaded) -> int:
    """Run the books writer."""
    from books.settings import WriterSettings
    from books.writer import run

    paths, couchbase = loaded.paths, couchbase_of(loaded)
    run(
        WriterSettings(
            journal=str(paths.journal),
            store=str(paths.books),
            records_max=8_192 if couchbase is None else 1_024,  # a batch of documents takes its time
            events_endpoint=paths.endpoint(EVENTS_SOCKET),
            stored_endpoint=paths.endpoint(STORED_SOCKET),
            health=health_settings(loaded, BOOKS),
            couchbase=couchbase,
        )
    )
    return 0


def run_risk(loaded: Loaded) -> int:
    """Run the risk service."""
    from cli.risk_rows import webhook_secret
    from risk.portfolio.service import ServiceSettings, run
    from risk.portfolio.webhook import WebhookSettings

    section, paths = loaded.config.risk_service, loaded.paths
    webhook = None
    if section.webhook_url:
        ca_file = str(loaded.resolve(section.webhook_ca_file)) if section.webhook_ca_file else ""
        webhook = WebhookSettings(
            url=section.webhook_url,
            secret=webhook_secret(section, loaded.resolve(".")),
            ca_file=ca_file,
            timeout_ms=section.webhook_timeout_ms,
            account_max=section.webhook_account_max,
            give_up_ms=section.hold_max_ms,
        )
    return run(
        ServiceSettings(
            engine_endpoint=paths.endpoint(RISK_SOCKET),
            events_endpoint=paths.endpoint(EVENTS_SOCKET),
            history_endpoint=paths.endpoint(HISTORY_SOCKET),
            table_path=str(paths.table),
            webhook=webhook,
            params_file=str(loaded.resolve(section.params_file)) if section.params_file else "",
            epoch_file=str(paths.own / "risk.epoch"),
            tick_age_max_ns=section.tick_age_max_ms * NS_PER_MS,
            health=health_settings(loaded, RISK),
        )
    )


def run_follower(loaded: Loaded) -> int:
    """Run the follower."""
    from engine.follower import FollowerSettings, run

    follower, paths = loaded.config.follower, loaded.paths
    run(
        FollowerSettings(
            journal=str(paths.journal),
            shard=paths.shard or loaded.config.wojak.shard,
            dedup_keys_max=loaded.config.engine.dedup_keys_max,
            events_endpoint=paths.endpoint(EVENTS_SOCKET),
            history_endpoint=paths.endpoint(HISTORY_SOCKET),
            snapshot_records=follower.snapshot_records,
            snapshot_ms=follower.snapshot_ms,
            snapshots_kept=follower.snapshots_kept,
            health=health_settings(loaded, FOLLOWER),
        )
    )
    return 0


def run_http(loaded: Loaded) -> int:
    """Run the HTTP source of orders."""
    from sidecars.sources.http import HttpSettings, run
    from sidecars.sources.http_keys import HttpCertificate, HttpKey

    http, paths = loaded.config.http, loaded.paths
    keys = tuple(
        HttpKey(
            principal=row.principal,
            secret_env=row.secret_env,
            secret_file=str(loaded.resolve(row.secret_file)) if row.secret_file else "",
            name=row.name,
            kind=row.kind,
            orders_per_s=row.orders_per_s,
            burst=row.burst,
        )
        for row in http.keys
    )
    return run(
        HttpSettings(
            engine_endpoint=paths.endpoint(SIDECARS_SOCKET),
            state_file=str(paths.state / "http.epoch"),
            host=http.host,
            port=http.port,
            keys=keys,
            loopback_principal=http.loopback_principal,
            signature_window_s=http.signature_window_s,
            body_bytes_max=http.body_bytes_max,
            orders_max=http.orders_max,
            head_bytes_max=http.head_bytes_max,
            head_ms=http.head_ms,
            receive_ms=http.receive_ms,
            send_ms=http.send_ms,
            connections_max=http.connections_max,
            connections_per_address=http.connections_per_address,
            tls=http_tls(loaded),
            certificates=tuple(
                HttpCertificate(
                    identity=row.identity, principal=row.principal, orders_per_s=row.orders_per_s, burst=row.burst
                )
                for row in http.certificates
            ),
            drain_ms=loaded.config.engine.drain_ms,
            shard_endpoints=tuple(
                paths.of(n).endpoint(SIDECARS_SOCKET) for n in loaded.shards if len(loaded.shards) > 1
            ),
            account_shards=account_shards(loaded.config),
        )
    )


def http_tls(loaded: Loaded) -> TlsSettings | None:
    """Return the TLS of the HTTP source; None for plain HTTP."""
    tls = loaded.config.http.tls
    if not tls.certificate_file:
        return None
    return tls_settings(tls, loaded.path.parent)


def run_api(loaded: Loaded) -> int:
    """Run the books' REST API."""
    from books.api import run
    from books.settings import ApiSettings, ShardStore

    books, paths = loaded.config.books, loaded.paths
    run(
        ApiSettings(
            store=str(paths.books),
            journal=str(paths.journal),
            stored_endpoint=paths.endpoint(STORED_SOCKET),
            host=books.host,
            port=books.port,
            more_shards=tuple(
                ShardStore(
                    str(of.paths.books), str(of.paths.journal), of.paths.endpoint(STORED_SOCKET), couchbase_of(of)
                )
                for of in map(loaded.of, loaded.shards[1:])
            ),
            account_shards=account_shards(loaded.config),
            couchbase=couchbase_of(loaded),
        )
    )
    return 0


def run_flow(loaded: Loaded) -> int:
    """Run the demonstration flow."""
    from cli.flow import FlowSettings, run

    flow = loaded.config.flow
    settings = FlowSettings(
        url=http_url(loaded),
        books_url=books_url(loaded),
        account=flow.account,
        strategy=flow.strategy,
        instrument=next(i for i in instruments(loaded) if i.instrument == flow.instrument),
        rate=flow.rate,
        seed=flow.seed,
        folder=loaded.paths.flow,
        table=loaded.paths.table,
        headers=flow_headers(loaded),
        trust=http_trust(loaded),
    )
    return run(settings)


def flow_headers(loaded: Loaded) -> dict[str, str]:
    """Return what authenticates the flow: nothing where this host needs no key, else the first key to be shown."""
    http = loaded.config.http
    if http.loopback_principal:
        return {}
    shown = bearer_keys(http)
    if not shown:
        raise ConfigError(["http.keys: expected one of kind bearer for the demonstration flow, was none"], "flow")
    return authorization(secret(loaded, shown[0]))


def run_alerts(loaded: Loaded) -> int:
    """Run what tells people."""
    from cli.alerting.start import run_alerts as run

    return run(loaded)


STARTERS: Final[dict[str, Callable[[Loaded], int]]] = {
    ENGINE: run_engine,
    FEED: run_feed,
    GATEWAY: run_gateway,
    FOLLOWER: run_follower,
    RISK: run_risk,
    BOOKS: run_books,
    HTTP: run_http,
    API: run_api,
    FLOW: run_flow,
    ALERTS: run_alerts,
}
