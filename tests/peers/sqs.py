"""SQS as a peer: ElasticMQ as our own child, standard and FIFO queues of it.

Differences from SQS: a handle of an earlier receive is refused also by a standard queue, so is one of a deleted message
(SQS takes both); rights are not looked at; SequenceNumber is 0; visibility beyond twelve hours is taken; nothing is
throttled; an order of a standard queue is nearly kept. Attributes for `check` are seen with moto (tests/peers/moto.py).
"""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import boto3

from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.conformance.source import SourceContract
from tests.peers.maven import require_jars, require_java
from tests.peers.process import Server, free_ports, wait_until

JARS: Final = "org.elasticmq:elasticmq-server_2.13:1.7.1"
START_S: Final = 60.0
BACK_S: Final = 20.0
BATCH: Final = 10
BATCH_BYTES: Final = 900 << 10
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "peer", "AWS_SECRET_ACCESS_KEY": "peerpw", "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}  # fmt: skip


def prepare() -> Path:
    """Return the folder of ElasticMQ's jars; get them if they are not in the cache."""
    return require_jars("elasticmq-1.7.1", JARS)


def client_of(port: int, service: str = "sqs") -> Any:
    """Return a client of a peer."""
    return boto3.client(
        service, endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-west-1", aws_access_key_id="peer",
        aws_secret_access_key="peerpw",
    )  # fmt: skip


class SqsContract(SourceContract):
    """What standard and FIFO queues are held to."""

    def poison(self, peer: Peer) -> dict[str, bytes]:
        """Return what SQS takes: texts that are not empty."""
        return {name: body for name, body in super().poison(peer).items() if _is_text(body)}


def _is_text(body: bytes) -> bool:
    try:
        return bool(body) and "\x00" not in body.decode()
    except UnicodeDecodeError:
        return False


class ElasticMq(Broker):
    """One server with data and a port of its own."""

    is_fifo = False

    def __init__(self) -> None:
        jars, java = prepare(), require_java()
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-elasticmq-"))
        (self._port,) = free_ports(1)
        (self.folder / "server.conf").write_text(
            'include classpath("application.conf")\n'
            f'node-address {{ protocol = http, host = 127.0.0.1, port = {self._port}, context-path = "" }}\n'
            f'rest-sqs {{ enabled = true, bind-port = {self._port}, bind-hostname = "127.0.0.1" }}\n'
            "rest-stats { enabled = false }\ngenerate-node-address = false\n"
            f'messages-storage {{ enabled = true, uri = "jdbc:h2:{self.folder}/data;WRITE_DELAY=0" }}\n'
        )
        self._server = Server(
            [java, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             f"-Dconfig.file={self.folder}/server.conf", "-cp", f"{jars}/*", "org.elasticmq.server.Main"],
            self.folder / "server",
        )  # fmt: skip
        self._peers = self._queues = 0
        self.client: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def start(self) -> None:
        """Start, or start again with the same data; it says so before it has found all its queues."""
        self._server.start()
        self._server.wait_said("started in", START_S)
        self.client = client_of(self._port)
        wait_until(lambda: self._count_queues() >= self._queues, START_S, f"the {self._queues} queues of before")

    def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self._queues = self._count_queues()
        self._server.kill(signal.SIGTERM, START_S)

    def _count_queues(self) -> int:
        return len(self.client.list_queues().get("QueueUrls", ()))

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        self._server.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def peer(self, name: str) -> SqsPeer:
        """Return a queue with a dead letter queue and one for answers."""
        self._peers += 1
        return SqsPeer(self, re.sub(r"\W+", "-", name)[:50] + f"-{self._peers}", is_fifo=self.is_fifo)


class FifoElasticMq(ElasticMq):
    """The same, with FIFO queues."""

    is_fifo = True


class SqsPeer(Peer):
    """One queue, and a producer's client."""

    kind = "sqs"
    has_replies = True
    names_all = True
    keeps_order = False
    lease_ms = 2_400
    bound = 50
    many = 10_000

    def __init__(self, broker: ElasticMq, name: str, *, is_fifo: bool = False) -> None:
        self.broker = broker
        self.is_fifo = self.keeps_order = is_fifo
        self._sent = 0
        end, attributes = (".fifo", {"FifoQueue": "true"}) if is_fifo else ("", {})
        self.queue, self.dead_queue, self._replies = f"{name}{end}", f"{name}-dead", f"{name}-replies{end}"
        self.create(self.queue, attributes)
        self.create(self._replies, attributes)
        self.create(self.dead_queue)

    @property
    def _client(self) -> Any:
        return self.broker.client

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return credentials and address as boto3 reads them."""
        return {**KEYS, "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{port or self.broker.port}"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads the queue."""
        return {
            "queue": self.queue, "principal": "bench", "dead_letter_queue": self.dead_queue,
            "reply_to": [self.reply_to], "visibility_s": 3, "wait_s": 1, "in_flight": self.bound, "pollers": 2,
            "lag_ms": 1_000, **changes,
        }  # fmt: skip

    def create(self, queue: str, attributes: Mapping[str, str] | None = None) -> None:
        """Make a queue."""
        self._client.create_queue(QueueName=queue, Attributes=attributes or {})

    def delete(self, queue: str) -> None:
        """Delete a queue with all that is in it."""
        self._client.delete_queue(QueueUrl=self.url(queue))

    def put_dead(self, body: str) -> None:
        """Have a message among the dead letters that SQS itself put there."""
        self._client.send_message(QueueUrl=self.url(self.dead_queue), MessageBody=body)

    def url(self, queue: str) -> str:
        """Return the URL of one of the queues."""
        return str(self._client.get_queue_url(QueueName=queue)["QueueUrl"])

    def send(self, messages: Sequence[Message]) -> None:
        """Send in batches; each message in a group of its own, or in that of its key."""
        entries: list[dict[str, Any]] = []
        size = 0
        for message in messages:
            if entries and (len(entries) == BATCH or size + len(message.body) > BATCH_BYTES):
                self._send(entries)
                entries, size = [], 0
            entries.append({"Id": str(len(entries)), **self._entry(message)})
            size += len(message.body)
        if entries:
            self._send(entries)

    def _send(self, entries: Sequence[dict[str, Any]]) -> None:
        answer = self._client.send_message_batch(QueueUrl=self.url(self.queue), Entries=entries)
        assert not answer.get("Failed"), answer

    def _entry(self, message: Message) -> dict[str, Any]:
        self._sent += 1
        headers = {**message.headers}
        if message.content_type:
            headers["content_type"] = message.content_type
        if message.reply_to:
            headers["reply_to"] = message.reply_to
        entry: dict[str, Any] = {
            "MessageBody": message.body.decode(),
            "MessageAttributes": {n: {"DataType": "String", "StringValue": v} for n, v in headers.items()},
        }
        if self.is_fifo:
            entry["MessageGroupId"] = message.key or message.message_id or f"g{self._sent}"
            entry["MessageDeduplicationId"] = f"d{self._sent}"
        return entry

    def left(self) -> list[bytes]:
        """Take what is left, also what a sidecar that died has under way: that comes back when its lease ends."""
        return [m["Body"].encode() for m in self._drain(self.queue)]

    def waiting(self) -> int:
        """Return how many messages the queue has, what is under way included."""
        return self.count(self.queue)

    def dead(self) -> list[Dead]:
        """Take the dead letters."""
        return [
            Dead(m["Body"].encode(), m["MessageAttributes"]["x-wojak-reason"]["StringValue"])
            for m in self._drain(self.dead_queue)
        ]

    def replies(self) -> list[bytes]:
        """Take the answers."""
        return [m["Body"].encode() for m in self._drain(self._replies)]

    @property
    def reply_to(self) -> str:
        """The queue for answers."""
        return self._replies

    def count(self, queue: str) -> int:
        """Return how many messages a queue has, also those under way."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
                 "ApproximateNumberOfMessagesDelayed"]  # fmt: skip
        answer = self._client.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def _drain(self, queue: str) -> list[dict[str, Any]]:
        url = self.url(queue)
        found: list[dict[str, Any]] = []

        def look() -> bool:
            while messages := self._client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=BATCH, VisibilityTimeout=30, MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            ).get("Messages"):  # fmt: skip
                found.extend(messages)
                entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
                assert not self._client.delete_message_batch(QueueUrl=url, Entries=entries).get("Failed")
            return self.count(queue) == 0

        wait_until(look, BACK_S, lambda: f"every message of {queue} to come back, {self.count(queue)} had not")
        return found
