"""``wojak alerts``: who is told, a test message to each, and the process itself where `wojak up` does not run it."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import uuid4

from cyclopts import App, Parameter

from cli.alerting.configured import deployment_name, receiver_of
from cli.alerting.judge import Alert, Key, Say
from cli.alerting.message import message_of
from cli.alerting.receivers import DeliveryError
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from protocol.errors import ConfigError
from runtime.clock import wall_ns

app = App(name="alerts", help="Tell people by webhook, e-mail or chat when something is wrong.")
NS_PER_S: Final = 1_000_000_000
MS_PER_S: Final = 1_000


@app.command
def run(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Watch and tell until Ctrl-C. `wojak up` does it by itself where a receiver is configured.

    Example: `wojak alerts run`
    """
    from cli.alerting.start import run_alerts

    return run_alerts(deployment(config))


@app.command(name="test")
def send_test(
    *,
    receiver: Annotated[str, Parameter(help="Only this receiver.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Send one test message to each receiver, once, and say what came of it. Exit code 1 if one did not take it.

    Example: `wojak alerts test --receiver ops`
    """
    loaded = deployment(config)
    alerts = loaded.config.alerts
    rows = [row for row in alerts.receivers if receiver in {"", row.name}]
    if not alerts.receivers:
        problem = "alerts: expected a receiver in webhooks, emails or chats, was none; add one as docs/alerts.md shows"
        raise ConfigError([problem], str(loaded.path))
    if not rows:
        known = ", ".join(row.name for row in alerts.receivers)
        raise ConfigError([f"receiver: expected one of {known}, was {receiver!r}"], str(loaded.path))
    ok = True
    for row in rows:
        now_ns = wall_ns()
        alert = Alert(Say.TEST, Key("test", "", ""), "a test: this receiver is told of alerts", now_ns, now_ns)
        message = message_of(alert, uuid4().hex, deployment_name(loaded))
        try:
            receiver_of(row, loaded).send(message, now_ns // NS_PER_S, alerts.timeout_ms / MS_PER_S)
            say(f"✔ {row.name} took it")
        except DeliveryError as e:
            ok = False
            say(f"✘ {row.name}: {e.why}")
    return 0 if ok else 1
