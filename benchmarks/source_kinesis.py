"""Kinesis for ``wojak bench source``: a preloaded stream, and the plain client that reads and checkpoints.

The plain client is boto3 at its best: as many threads as the sidecar has readers, each with shards of its own, reads as
large as the sidecar's, each record decoded, and after each read one conditional write of the shard's row.
``python -m benchmarks.source_kinesis STREAM TABLE COUNT FILE`` is that client.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from benchmarks.errors import BenchError
from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns
from sidecars.sources.aws_client import client
from sidecars.sources.kinesis_link import Link

SHARDS: Final = 8
READERS: Final = 4
PREFETCH: Final = 8_000
READ_MAX: Final = PREFETCH // READERS


class KinesisBench(BrokerBench):
    """kinesis-local and dynalite; they throttle nothing, so nobody waits between reads."""

    kind = "kinesis"
    per_s = 2_000
    changes: ClassVar[Mapping[str, Any]] = {
        "prefetch": PREFETCH, "pollers": READERS, "poll_ms": 1, "lease_ms": 10_000, "checkpoint_ms": 0,
        "discover_ms": 60_000,
    }  # fmt: skip

    def make_broker(self) -> Any:
        """Return the broker."""
        return importlib.import_module("tests.peers.kinesis").KinesisLocal()

    def resource(self, name: str) -> Any:
        """Return a new stream of several shards."""
        return self._broker.peer(name, SHARDS)

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return the stream and the table of leases."""
        return peer.stream, peer.settings()["lease_table"]


class _Reader:
    """One thread of the plain client, with shards of its own."""

    def __init__(self, stream: str, table: str, shards: Sequence[str]) -> None:
        self._link = Link(stream, 1)
        self._dynamodb = client("dynamodb", 1)
        self._stream = stream
        self._table = table
        self._shards = shards
        self.seen = self.first_ns = self.last_ns = 0

    def read(self) -> None:
        """Read until nothing more comes."""
        for shard in self._shards:
            iterator, number = self._link.iterator(shard, -1), 0
            while (read := self._link.read(iterator, READ_MAX)).records:
                self.first_ns = self.first_ns or monotonic_ns()
                read_orders(record["Data"] for record in read.records)
                self._save(shard, read.records[-1]["SequenceNumber"], number)
                self.seen += len(read.records)
                self.last_ns = monotonic_ns()
                iterator, number = read.iterator, number + 1

    def _save(self, shard: str, place: str, number: int) -> None:
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"reader": {"S": f"plain/{self._stream}"}, "shard": {"S": shard}},
            UpdateExpression="SET #place = :place, #number = :next",
            ConditionExpression="attribute_not_exists(#number) OR #number = :number",
            ExpressionAttributeNames={"#place": "checkpoint", "#number": "counter"},
            ExpressionAttributeValues={
                ":place": {"S": place}, ":next": {"N": str(number + 1)}, ":number": {"N": str(number)},
            },
        )  # fmt: skip


def main() -> None:
    """Be the plain client."""
    stream, table, count, path = sys.argv[1:]
    shards = list(Link(stream, 1).shards())
    readers = [_Reader(stream, table, shards[n::READERS]) for n in range(READERS)]
    threads = [threading.Thread(target=reader.read) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = sum(reader.seen for reader in readers)
    if seen != int(count):
        raise BenchError(f"plain client expected {count} records, read {seen}")
    tell(path, Granted(min(r.first_ns for r in readers if r.seen), max(r.last_ns for r in readers)))


if __name__ == "__main__":
    main()
