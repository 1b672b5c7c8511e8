"""SQS for ``wojak bench source``: a preloaded queue of ElasticMQ, and the plain client that reads, decodes, deletes.

The plain client is boto3 at its best: as many threads as the sidecar has polls, ten in a receive, ten in a delete.
``python -m benchmarks.source_sqs QUEUE COUNT FILE`` is that client.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns
from sidecars.sources.aws_client import client
from sidecars.sources.sqs_link import BATCH

POLLERS: Final = 4
WAIT_S: Final = 1


class SqsBench(BrokerBench):
    """ElasticMQ."""

    kind = "sqs"
    per_s = 500
    changes: ClassVar[Mapping[str, Any]] = {"visibility_s": 30, "pollers": POLLERS, "in_flight": 500, "lag_ms": 60_000}

    def make_broker(self) -> Any:
        """Return the broker."""
        from tests.peers.sqs import ElasticMq

        return ElasticMq()

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return the queue."""
        return (peer.queue,)


class _Reader:
    """What the threads of the plain client share."""

    def __init__(self, queue: str, count: int, threads: int) -> None:
        self._sqs = client("sqs", threads, wait_s=WAIT_S)
        self._url = self._sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        self._left = count
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read) for _ in range(threads)]
        self.first_ns = self.last_ns = 0

    def run(self) -> Granted:
        """Read all; return when the first came and when the last was deleted."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return Granted(self.first_ns, self.last_ns)

    def _read(self) -> None:
        while self._left > 0:
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT_S, VisibilityTimeout=30,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"], MessageAttributeNames=["All"],
            )  # fmt: skip
            messages = answer.get("Messages") or ()
            if not messages:
                continue
            self.first_ns = self.first_ns or monotonic_ns()
            read_orders(m["Body"].encode() for m in messages)
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            with self._lock:
                self._left -= len(messages)
                self.last_ns = monotonic_ns()


def main() -> None:
    """Be the plain client."""
    queue, count, path = sys.argv[1:]
    tell(path, _Reader(queue, int(count), POLLERS).run())


if __name__ == "__main__":
    main()
