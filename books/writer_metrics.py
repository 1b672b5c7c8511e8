"""The books writer's metrics: their names and what its loop measures."""

from __future__ import annotations

from typing import Final

from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, SIZE, Board, Family, Snapshot

STEP: Final = "wojak_books_writer_step_seconds"
STEP_RECORDS: Final = "wojak_books_writer_step_records"

FAMILIES: Final = (
    Family(STEP, DURATION, "From reading a run of records to their commit in the store"),
    Family(STEP_RECORDS, SIZE, "Records of one transaction"),
    Family("wojak_books_writer_records", COUNTER, "Records brought into the store by this process"),
    Family("wojak_books_writer_store_errors", COUNTER, "Times the store failed and was tried again"),
    Family("wojak_books_writer_as_of_seq", GAUGE, "Last record in the store"),
    Family("wojak_books_writer_lag_records", GAUGE, "Durable records not in the store"),
)


class WriterMeters:
    """What the writer's loop measures; see ``FAMILIES``."""

    def __init__(self) -> None:
        self.step = Histogram()
        self.step_records = Histogram()
        self.records = 0
        self.store_errors = 0
        self.as_of_seq = 0
        self.lag_records = 0

    def publish(self, board: Board, now_ns: int) -> None:
        """Put a snapshot on the board; ``now_ns`` is monotonic."""
        values = {
            "wojak_books_writer_records": self.records,
            "wojak_books_writer_store_errors": self.store_errors,
            "wojak_books_writer_as_of_seq": self.as_of_seq,
            "wojak_books_writer_lag_records": self.lag_records,
        }
        histograms = {STEP: self.step.snapshot(), STEP_RECORDS: self.step_records.snapshot()}
        board.publish(Snapshot(now_ns, values, histograms))
