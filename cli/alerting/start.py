"""Puts the process that tells together from the configuration."""

from __future__ import annotations

import msgspec

from cli.addresses import EVENTS_SOCKET, HISTORY_SOCKET
from cli.alerting.configured import deployment_name, receiver_of, require_secrets
from cli.alerting.lanes import Lane, LaneRules
from cli.alerting.process import ASK_MS, FAMILIES, Engine, Times, Watch, Watched
from cli.configuration import Loaded
from cli.engine_client import EngineClient, client_of
from cli.processes import ALERTS, ENGINE, process_name
from cli.scrape import Scraper
from protocol.channels import Context
from protocol.control import EngineStatus
from protocol.errors import ConfigError, WojakError
from runtime import logs
from runtime.health import HealthSettings, served
from runtime.metrics import Board
from runtime.signals import StopSignal

MS_PER_S = 1_000


class Asked:
    """One engine, asked over its control socket."""

    def __init__(self, loaded: Loaded) -> None:
        self._client: EngineClient = client_of(loaded)

    def status(self) -> EngineStatus | None:
        """Return how it is; None if it does not answer, refuses, or says what is no answer: to us it is silent."""
        try:
            return self._client.status(timeout_ms=ASK_MS)
        except (WojakError, msgspec.DecodeError):
            return None


def health_of(loaded: Loaded) -> HealthSettings:
    """Return where the process tells how it is."""
    metrics, port = loaded.config.metrics, loaded.config.alerts.port
    path = str(loaded.paths.health(ALERTS))
    return HealthSettings(
        process=ALERTS, socket_path=path, host=metrics.host, port=port, stall_ms=metrics.stall_ms,
        port_key="alerts.port",
    )  # fmt: skip


def run_alerts(loaded: Loaded) -> int:
    """Watch and tell until SIGTERM or SIGINT.

    Raises:
        ConfigError: If there is nobody to tell, or a secret is not there.
    """
    alerts = loaded.config.alerts
    if not alerts.receivers:
        raise ConfigError(["alerts: expected a receiver, was none; see docs/alerts.md"], str(loaded.path))
    if faults := require_secrets(loaded):
        raise ConfigError(faults, str(loaded.path))
    stop = StopSignal()
    log = logs.configure(ALERTS)
    board = Board()
    context = Context()
    rules = LaneRules(
        deployment_name(loaded), alerts.burst, alerts.burst_ms, alerts.attempts, alerts.timeout_ms / MS_PER_S
    )
    lanes = [
        Lane(row.name, receiver_of(row, loaded), row.rules, rules, log, seed=n)
        for n, row in enumerate(alerts.receivers)
    ]
    engines = []
    for shard in loaded.shards:
        of = loaded.of(shard)
        at = of.paths.endpoint(EVENTS_SOCKET), of.paths.endpoint(HISTORY_SOCKET)
        engines.append(Engine(process_name(ENGINE, shard), Asked(of), *at))
    scrapers = {shard: Scraper(loaded.of(shard)) for shard in loaded.shards}
    try:
        with served(health_of(loaded), board, FAMILIES) as serve:
            serve()
            watched = Watched(engines, scrapers, context, loaded.paths.state / "alerts.json")
            times = Times(alerts.look_ms, alerts.repeat_ms)
            Watch(watched, lanes, alerts.effective_rules(), times, stop, log, board).run()
    finally:
        for scraper in scrapers.values():
            scraper.close()
        context.close()
    return 0
