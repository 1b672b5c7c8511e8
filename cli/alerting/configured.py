"""Receivers as the configuration describes them, and the name that messages give a deployment."""

from __future__ import annotations

import ssl
from pathlib import Path

from cli.alert_rows import ChatRow, EmailRow, WebhookRow, secret_of
from cli.alerting.receivers import Chat, Email, Receiver, Webhook
from cli.configuration import Loaded
from protocol.errors import ConfigError

Row = WebhookRow | EmailRow | ChatRow


def require_secrets(loaded: Loaded) -> list[str]:
    """Return why receivers can't be told: secrets and certificates that are not there."""
    faults: list[str] = []
    for row in loaded.config.alerts.receivers:
        try:
            receiver_of(row, loaded)
        except ConfigError as e:
            faults += e.problems
    return faults


def receiver_of(row: Row, loaded: Loaded) -> Receiver:
    """Return what hands over messages to a receiver.

    Raises:
        ConfigError: If its secret or its certificates are not there.
    """
    folder = loaded.path.parent
    secret = secret_of(row, folder)
    match row:
        case WebhookRow():
            return Webhook(row.url, secret)
        case ChatRow():
            return Chat(row.url, secret, row.chat_id)
        case EmailRow():
            return Email(
                row.host, row.port, row.security, row.from_address, row.to, user=row.user, password=secret,
                trust=_trust(row, folder),
            )  # fmt: skip


def _trust(row: EmailRow, folder: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(folder / row.ca_file) if row.ca_file else None)
    except (OSError, ssl.SSLError) as e:
        fault = f"alerts receiver {row.name}: ca_file: expected certificates in {row.ca_file}, was {type(e).__name__}"
        raise ConfigError([fault]) from None


def deployment_name(loaded: Loaded) -> str:
    """Return by which name messages call this deployment: the folder of its configuration."""
    return loaded.config.alerts.deployment or loaded.path.resolve().parent.name or "wojak"
