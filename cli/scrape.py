"""Asks every process of a deployment how it is, at the addresses Prometheus asks too.

Rule: who does not answer in time is reported as that, never left out; nothing here asks a decision thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import httpx
import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from cli.addresses import books_url, http_trust, http_url
from cli.configuration import Loaded
from cli.processes import (
    ALERTS,
    API,
    HTTP,
    PER_SHARD,
    RISK,
    WITH_HEALTH,
    process_name,
    process_names,
    sidecar_name,
    supervised,
)
from runtime.clock import monotonic_ns
from runtime.health import Ready
from runtime.metrics import OBSERVED_AT

TIMEOUT_S: Final = 0.5
NS_PER_S: Final = 1_000_000_000

Samples = Mapping[str, Mapping[frozenset[tuple[str, str]], float]]


class Scraped(Struct, frozen=True):
    """One process at one instant.

    Attributes:
        reason: Why it is not ready, or why it does not answer; empty = it is ready.
        at_s: When its numbers were taken, on a clock of its own that only serves for differences.
        samples: Its numbers by name and labels; empty if it does not answer.
    """

    name: str
    answers: bool
    reason: str
    at_s: float
    samples: Samples

    def value(self, name: str, **labels: str) -> float:
        """Return one number; 0 where there is none."""
        return self.samples.get(name, {}).get(frozenset(labels.items()), 0.0)

    def total(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(self.samples.get(name, {}).values())

    def by(self, name: str, *labels: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the values of these labels in order, and the number."""
        named = ((dict(key), number) for key, number in self.samples.get(name, {}).items())
        yield from sorted((tuple(found.get(label, "") for label in labels), number) for found, number in named)


class Scraper:
    """Asks again and again, over kept connections where the process keeps them: of one shard, and what all share."""

    def __init__(self, loaded: Loaded) -> None:
        self._clients = {
            name: httpx.Client(
                transport=httpx.HTTPTransport(uds=str(loaded.paths.health(_process(name, loaded.paths.shard)))),
                base_url="http://process", timeout=TIMEOUT_S,
            )
            for name in _told_by_socket(loaded)
        }  # fmt: skip
        for name, url, trust in ((HTTP, http_url(loaded), http_trust(loaded)), (API, books_url(loaded), True)):
            self._clients[name] = httpx.Client(base_url=url, verify=trust, timeout=TIMEOUT_S, trust_env=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The processes that are asked."""
        return tuple(self._clients)

    def look(self) -> dict[str, Scraped]:
        """Return every process as it is now; takes at most ``TIMEOUT_S`` for each that does not answer."""
        return {name: self._ask(name, client) for name, client in self._clients.items()}

    def ask(self, name: str) -> Scraped:
        """Return one process as it is now."""
        return self._ask(name, self._clients[name])

    def close(self) -> None:
        """Leave."""
        for client in self._clients.values():
            client.close()

    def _ask(self, name: str, client: httpx.Client) -> Scraped:
        try:
            ready = client.get("/readyz")
            metrics = client.get("/metrics")
        except httpx.HTTPError as e:
            return Scraped(name, False, _why(e), 0.0, {})
        samples = parse(metrics.text) if metrics.status_code == 200 else {}
        at_s = sum(samples.get(OBSERVED_AT, {}).values()) or monotonic_ns() / NS_PER_S
        return Scraped(name, True, "" if ready.status_code == 200 else _reason(ready), at_s, samples)


def _told_by_socket(loaded: Loaded) -> list[str]:
    """Return the processes that tell of themselves on a socket of the run folder, as far as they are run."""
    names = [*WITH_HEALTH, *(sidecar_name(row.source) for row in supervised(loaded))]
    return names + [kind for kind in (RISK, ALERTS) if kind in process_names(loaded, flow=False)]


def _process(kind: str, shard: int) -> str:
    return process_name(kind, shard) if kind in PER_SHARD else kind


def parse(text: str) -> Samples:
    """Return the samples of a Prometheus text, buckets left out."""
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                labels = frozenset((k, v) for k, v in sample.labels.items() if k != "source")
                named = samples.setdefault(sample.name, {})
                named[labels] = named.get(labels, 0.0) + sample.value
    return samples


def _reason(response: httpx.Response) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(response.content, type=Ready).reason or "not ready"
    return response.text[:120]


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"does not answer within {TIMEOUT_S:g} s"
    return "not running" if isinstance(error, httpx.ConnectError) else f"does not answer: {type(error).__name__}"
