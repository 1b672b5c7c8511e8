"""Step Functions as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.stepfunctions import StepFunctionsSource
from sidecars.sources.stepfunctions_check import check
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings


def _make(name: str, settings: StepFunctionsSettings, _metrics: Metrics) -> StepFunctionsSource:
    return StepFunctionsSource(name, settings)


KIND = SourceKind(
    settings=StepFunctionsSettings,
    make=_make,
    check=check,
    dead_letters=None,
    hold_ms=lambda settings: settings.hold_ms,
)
