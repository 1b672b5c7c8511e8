"""Pub/Sub, pulled, as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.pubsub import PubSubSource
from sidecars.sources.pubsub_check import check
from sidecars.sources.pubsub_letters import PubSubLetters
from sidecars.sources.pubsub_settings import PubSubSettings


def _make(name: str, settings: PubSubSettings, _metrics: Metrics) -> PubSubSource:
    return PubSubSource(name, settings)


KIND = SourceKind(settings=PubSubSettings, make=_make, check=check, dead_letters=PubSubLetters)
