"""Dead letters of Kafka: the record as it came, and beside it why it is here.

Rule: nothing of the original is changed; what we know stands in headers that begin with ``x-wojak-``. Its place and
time stand there too, because a record that is produced has its own: ids are derived from the place (DECISIONS 17, 40).
"""

from __future__ import annotations

from typing import Any, Final

from runtime.clock import wall_ns
from sidecars.core.batches import reason_of
from sidecars.core.source import Settlement
from sidecars.sources.kafka_link import Outgoing

PREFIX: Final = "x-wojak-"
REASON: Final = PREFIX + "reason"
TOPIC: Final = PREFIX + "topic"
PLACE: Final = PREFIX + "place"
TIME_MS: Final = PREFIX + "time-ms"
AT_NS: Final = PREFIX + "at-ns"
RECORD: Final = PREFIX + "record"
REPLAYED_BY: Final = PREFIX + "replayed-by"
TEXT_CHARS_MAX: Final = 4_000


def place_of(record: Any) -> str:
    """Return partition and offset that the record's id is derived from: where it was first, if it was put back."""
    for name, value in record.headers:
        if name == PLACE:
            return bytes(value or b"").decode("utf-8", "replace")
    return f"{record.partition}/{record.offset}"


def parked(settlement: Settlement, record: Any, topic: str, dead_letter_topic: str) -> Outgoing:
    """Return the dead letter of a delivery."""
    headers = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    ours = {REASON: reason_of(settlement)[:TEXT_CHARS_MAX], TOPIC: topic, PLACE: place_of(record),
            TIME_MS: str(record.timestamp), AT_NS: str(wall_ns())}  # fmt: skip
    if settlement.outcome is not None:
        ours[RECORD] = str(settlement.outcome.record_seq)
    headers += [(name, text.encode()) for name, text in ours.items()]
    return Outgoing(dead_letter_topic, record.key, record.value, headers)
