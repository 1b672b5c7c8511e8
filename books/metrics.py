"""What the API's /metrics says: how far the books are behind, and what the API answered."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from runtime.metrics import COUNTER, GAUGE, Family, registry_of, text_of

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
AS_OF_SEQ: Final = Family("wojak_books_as_of_seq", GAUGE, "Last record in the books")
LAG_SEQ: Final = Family("wojak_books_lag_records", GAUGE, "Durable records not in the books")
LAG_MS: Final = Family("wojak_books_lag_ms", GAUGE, "From decision to visible in the books")
ERRORS: Final = Family("wojak_books_store_errors", COUNTER, "Answers without a store")
ANSWERS: Final = Family("wojak_books_http_answers", COUNTER, "Answers of the API", ("path", "status"))
FAMILIES: Final = (AS_OF_SEQ, LAG_SEQ, LAG_MS, ERRORS, ANSWERS)


class ApiMetrics:
    """The metrics of one application; its own registry, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry_of()
        self.as_of_seq = Gauge(AS_OF_SEQ.name, AS_OF_SEQ.text, registry=self.registry)
        self.lag_seq = Gauge(LAG_SEQ.name, LAG_SEQ.text, registry=self.registry)
        self.lag_ms = Gauge(LAG_MS.name, LAG_MS.text, registry=self.registry)
        self.retries = Counter(ERRORS.name, ERRORS.text, registry=self.registry)
        self.answers = Counter(ANSWERS.name, ANSWERS.text, ANSWERS.labels, registry=self.registry)

    def render(self) -> bytes:
        """Return the text format."""
        return text_of(self.registry)
