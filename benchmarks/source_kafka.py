"""Kafka for ``wojak bench source``: a preloaded topic, and the plain client that reads it and commits.

The plain client is aiokafka at its best: the same fetches and bound, each record decoded into the same order type, one
commit for all that one call brought. ``python -m benchmarks.source_kafka TOPIC GROUP COUNT FILE`` is that client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

from benchmarks.granter import Granted
from protocol.edge import decode_new_order
from runtime.clock import monotonic_ns

PREFETCH: Final = 2_000
FETCH_BYTES_MAX: Final = 1 << 20
POLL_MS: Final = 500


class KafkaBench:
    """The peer, started for one benchmark."""

    kind = "kafka"

    def __init__(self) -> None:
        # The tests' own peer: benchmarks of brokers run in a checkout.
        from tests.peers.kafka import Kafka

        self._broker = Kafka()

    def start(self) -> None:
        """Start the broker."""
        self._broker.start()

    def end(self) -> None:
        """Leave nothing running."""
        self._broker.end()

    def resource(self, name: str) -> Any:
        """Return a new, empty resource (``tests.conformance.peer.Peer``)."""
        return self._broker.peer(name)

    def settings(self, peer: Any) -> dict[str, Any]:
        """Return the settings of the sidecar under load."""
        changes = {
            "prefetch": PREFETCH, "fetch_bytes_max": FETCH_BYTES_MAX, "session_timeout_ms": 10_000, "lag_ms": 60_000,
        }  # fmt: skip
        return dict(peer.settings(**changes))

    def plain(self, peer: Any, count: int, path: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the command and the environment of the plain client."""
        return [
            sys.executable,
            "-m",
            "benchmarks.source_kafka",
            peer.topic,
            peer.group,
            str(count),
            str(path),
        ], peer.env()


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
            for records in batches.values():
                for record in records:
                    decode_new_order(record.value)
                seen += len(records)
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
    Path(path).write_bytes(msgspec.json.encode(read))


if __name__ == "__main__":
    main()
