"""SNS as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.sns import SnsSource
from sidecars.sources.sns_check import check
from sidecars.sources.sns_letters import SnsLetters
from sidecars.sources.sns_settings import SnsSettings


def _make(name: str, settings: SnsSettings, metrics: Metrics) -> SnsSource:
    return SnsSource(name, settings, metrics)


KIND = SourceKind(
    settings=SnsSettings,
    make=_make,
    check=check,
    dead_letters=SnsLetters,
    hold_ms=lambda settings: settings.hold_ms,
)
