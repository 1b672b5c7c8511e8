"""Kinds of sources: what one brings beside its Source, and where it is found.

A kind is found by its name among ours, or among the entry points of group ``wojak.sources`` that other packages
install. Its module is imported only when it is used, because each needs a broker's client that others do not have.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from importlib import metadata
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from protocol.errors import ConfigError
from sidecars.core.metrics import Metrics
from sidecars.core.source import Source

GROUP: Final = "wojak.sources"
OURS: Final[Mapping[str, str]] = {
    "kafka": "sidecars.sources.kafka_kind:KIND",
    "kinesis": "sidecars.sources.kinesis_kind:KIND",
    "pubsub": "sidecars.sources.pubsub_kind:KIND",
    "pubsub_push": "sidecars.sources.pubsub_push_kind:KIND",
    "rabbitmq": "sidecars.sources.rabbitmq_kind:KIND",
    "sns": "sidecars.sources.sns_kind:KIND",
    "sqs": "sidecars.sources.sqs_kind:KIND",
    "stepfunctions": "sidecars.sources.stepfunctions_kind:KIND",
}


class Level(IntEnum):
    """How much a finding matters."""

    FINE = 0
    ADVICE = 1  # the promises hold, something else could be better
    FAULT = 2  # a promise of this source would not hold


class Finding(Struct, frozen=True):
    """What ``wojak sidecar check`` found: what was looked at, and what to change."""

    level: Level
    what: str
    text: str


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that a person should look at.

    Attributes:
        number: Its place among the dead letters, from 1, as long as nothing is taken from them.
        reason: Why it is there; the code first.
        source_id: The source's id of the original; empty = it had none.
        at_ns: When it was refused, UTC; 0 = unknown.
        body: The original, unchanged.
        headers: The original's headers and properties as texts, for people.
    """

    number: int
    reason: str
    source_id: str
    at_ns: int
    body: bytes
    headers: Mapping[str, str]


class Replay(Struct, frozen=True, kw_only=True):
    """How dead letters are put back (DECISIONS 40): as they were, but for what is asked for.

    Attributes:
        numbers: Which, as listed; empty = all.
        operator: Whose decision it is; stands in the message.
        restamp: Say that it was made now, so that it is not refused as too old.
        new_id: Give it a new id, so that it is another order; needed where it has none.
    """

    numbers: frozenset[int] = frozenset()
    operator: str
    restamp: bool = False
    new_id: bool = False


class DeadLetters(Protocol):
    """The dead letters of one source."""

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones; they stay where they are."""

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put dead letters back to the source, durably, then remove them; return those that were put back."""


class SourceKind(NamedTuple):
    """What a kind of source brings.

    Attributes:
        settings: The Struct of its settings; frozen, ``forbid_unknown_fields``, each attribute documented.
        make: Makes the source from its name, its settings and the sidecar's metrics.
        check: Looks at the broker, its rights and its resources, and says what to change; changes nothing.
        dead_letters: Returns the dead letters; None = this kind keeps none.
        hold_ms: Returns ``SessionSettings.hold_ms``.
    """

    settings: type[Struct]
    make: Callable[[str, Any, Metrics], Source]
    check: Callable[[str, Any], Awaitable[Sequence[Finding]]]
    dead_letters: Callable[[str, Any], DeadLetters] | None
    hold_ms: Callable[[Any], int] = lambda _settings: 0


def kind_names() -> list[str]:
    """Return the kinds that are installed."""
    return sorted({*OURS, *(point.name for point in metadata.entry_points(group=GROUP))})


def find_kind(name: str) -> SourceKind:
    """Return a kind by its name.

    Raises:
        ConfigError: If there is none, or its client is not installed.
    """
    try:
        if name in OURS:
            module, _, attribute = OURS[name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
        else:
            (point,) = metadata.entry_points(group=GROUP, name=name)
            found = point.load()
    except ValueError:
        raise ConfigError([f"kind: expected one of {', '.join(kind_names())}, was {name!r}"]) from None
    except ModuleNotFoundError as e:
        how = f"pip install 'wojak[{name}]'" if name in OURS else "install what the package that brings it needs"
        raise ConfigError([f"kind {name}: expected its client to be installed, was not ({e}): {how}"]) from e
    if not isinstance(found, SourceKind):
        raise ConfigError([f"kind {name}: expected entry point of a SourceKind, was {type(found).__name__}"])
    return found


def read_settings(kind: SourceKind, name: str, given: Mapping[str, Any]) -> Struct:
    """Return the settings of a source, checked.

    Raises:
        ConfigError: Naming what can't be used.
    """
    try:
        settings = msgspec.convert(dict(given), kind.settings)
    except msgspec.ValidationError as e:
        raise ConfigError([f"{name}.settings: {e}"]) from e
    problems: Callable[[], list[str]] | None = getattr(settings, "problems", None)
    if problems is not None and (found := problems()):
        raise ConfigError([f"{name}.{line}" for line in found])
    return settings
