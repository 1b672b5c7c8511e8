"""What /metrics says: how far the books are behind, and what the API answered."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class ApiMetrics:
    """The metrics of one application; its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.as_of_seq = Gauge("wojak_books_as_of_seq", "Last record in the books", registry=self.registry)
        self.lag_seq = Gauge("wojak_books_lag_records", "Durable records not in the books", registry=self.registry)
        self.lag_ms = Gauge("wojak_books_lag_ms", "From decision to visible in the books", registry=self.registry)
        self.retries = Counter("wojak_books_store_errors", "Answers without a store", registry=self.registry)
        self.answers = Counter(
            "wojak_books_http_answers", "Answers of the API", ["path", "status"], registry=self.registry
        )

    def render(self) -> bytes:
        """Return the text format."""
        return generate_latest(self.registry)
