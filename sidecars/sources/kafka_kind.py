"""Kafka as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.kafka import KafkaSource
from sidecars.sources.kafka_check import check
from sidecars.sources.kafka_letters import KafkaLetters
from sidecars.sources.kafka_settings import KafkaSettings


def _make(name: str, settings: KafkaSettings, _metrics: Metrics) -> KafkaSource:
    return KafkaSource(name, settings)


KIND = SourceKind(settings=KafkaSettings, make=_make, check=check, dead_letters=KafkaLetters)
