"""Kinesis as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.kinesis import KinesisSource
from sidecars.sources.kinesis_check import check
from sidecars.sources.kinesis_letters import KinesisLetters
from sidecars.sources.kinesis_settings import KinesisSettings


def _make(name: str, settings: KinesisSettings, _metrics: Metrics) -> KinesisSource:
    return KinesisSource(name, settings)


KIND = SourceKind(settings=KinesisSettings, make=_make, check=check, dead_letters=KinesisLetters)
