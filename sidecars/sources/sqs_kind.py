"""SQS as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.sqs import SqsSource
from sidecars.sources.sqs_check import check
from sidecars.sources.sqs_letters import SqsLetters
from sidecars.sources.sqs_settings import SqsSettings


def _make(name: str, settings: SqsSettings, _metrics: Metrics) -> SqsSource:
    return SqsSource(name, settings)


KIND = SourceKind(
    settings=SqsSettings,
    make=_make,
    check=check,
    dead_letters=SqsLetters,
    hold_ms=lambda settings: settings.hold_ms,
)
