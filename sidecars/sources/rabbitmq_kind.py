"""RabbitMQ as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.rabbitmq import RabbitMqSource
from sidecars.sources.rabbitmq_check import check
from sidecars.sources.rabbitmq_letters import RabbitMqLetters
from sidecars.sources.rabbitmq_settings import RabbitMqSettings


def _make(name: str, settings: RabbitMqSettings, _metrics: Metrics) -> RabbitMqSource:
    return RabbitMqSource(name, settings)


KIND = SourceKind(
    settings=RabbitMqSettings,
    make=_make,
    check=check,
    dead_letters=RabbitMqLetters,
    hold_ms=lambda settings: settings.hold_ms,
)
