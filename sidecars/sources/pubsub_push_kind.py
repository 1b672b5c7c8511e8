"""Pub/Sub, pushed, as a kind of source: what the command line and the sidecar process find it by."""

from __future__ import annotations

from sidecars.core.kinds import SourceKind
from sidecars.core.metrics import Metrics
from sidecars.sources.pubsub_letters import PubSubLetters
from sidecars.sources.pubsub_push import PubSubPushSource
from sidecars.sources.pubsub_push_check import check
from sidecars.sources.pubsub_push_settings import PubSubPushSettings


def _make(name: str, settings: PubSubPushSettings, metrics: Metrics) -> PubSubPushSource:
    return PubSubPushSource(name, settings, metrics)


def _letters(name: str, settings: PubSubPushSettings) -> PubSubLetters:
    return PubSubLetters(name, settings.places())


KIND = SourceKind(
    settings=PubSubPushSettings,
    make=_make,
    check=check,
    dead_letters=_letters,
    hold_ms=lambda settings: settings.hold_ms,
)
