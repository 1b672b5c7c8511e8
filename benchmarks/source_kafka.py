"""Kafka for ``wojak bench source``: a preloaded topic, and the plain client that reads it, decodes and commits.

The plain client is aiokafka at its best: the same fetches and bound, one commit for all that one call brought.
``python -m benchmarks.source_kafka TOPIC GROUP COUNT FILE`` is that client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import uvloop
from aiokafka import AIOKafkaConsumer

from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns

PREFETCH: Final = 2_000
FETCH_BYTES_MAX: Final = 1 << 20
POLL_MS: Final = 500


class KafkaBench(BrokerBench):
    """Apache Kafka."""

    kind = "kafka"
    per_s = 20_000
    changes: ClassVar[Mapping[str, Any]] = {
        "prefetch": PREFETCH, "fetch_bytes_max": FETCH_BYTES_MAX, "session_timeout_ms": 10_000, "lag_ms": 60_000,
    }  # fmt: skip

    def make_broker(self) -> Any:
        """Return the broker."""
        from tests.peers.kafka import Kafka

        return Kafka()

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return topic and group."""
        return peer.topic, peer.group


async def _read_plainly(topic: str, group: str, count: int) -> Granted:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], group_id=group, enable_auto_commit=False,
        auto_offset_reset="earliest", isolation_level="read_committed", fetch_max_bytes=FETCH_BYTES_MAX,
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
    )  # fmt: skip
    await consumer.start()
    seen = first_ns = 0
    try:
        while seen < count:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=PREFETCH)
            first_ns = first_ns or (monotonic_ns() if batches else 0)
            seen += sum(map(len, batches.values()))
            for records in batches.values():
                read_orders(record.value for record in records)
            if batches:
                await consumer.commit({tp: records[-1].offset + 1 for tp, records in batches.items()})
        return Granted(first_ns, monotonic_ns())
    finally:
        await consumer.stop()


def main() -> None:
    """Be the plain client."""
    topic, group, count, path = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        read = runner.run(_read_plainly(topic, group, int(count)))
    tell(path, read)


if __name__ == "__main__":
    main()
