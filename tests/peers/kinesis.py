"""Kinesis as a peer: kinesis-local for streams, dynalite for leases, moto's SQS for dead letters, as our own children.

Differences from AWS: nothing is throttled, so that is injected (tests/peers/test_kinesis.py); more than 500 records in
a put are taken; an iterator that is none gives status 500; MillisBehindLatest is always 0; what is put is on the disk
some seconds later, so a stop waits for that; dynalite knows time to live as off. A put becomes slower with the records
of its shard, so the test of many uses many shards, and sends 10,000: the 100,000 of DECISIONS 41 keep the server busy
for minutes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from runtime.clock import wall_ns
from sidecars.sources.kinesis_leases import LeaseTable
from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.peers.moto import Moto
from tests.peers.npm import require_modules, require_node
from tests.peers.process import Server, free_ports, wait_until
from tests.peers.sqs import KEYS, SqsPeer

PROJECT: Final = Path(__file__).with_name("kinesis_npm")
START_S: Final = 60.0
ACTIVE_S: Final = 20.0
PERSIST_S: Final = 5  # everything is written each time, by the server's one thread
WRITE_NS: Final = 500_000_000  # a write that ends so long after a put has begun after it: there is little to write then
PUT_MAX: Final = 500
PUT_BYTES: Final = 4 << 20
TABLE: Final = "wojak-leases"
SHARDS: Final = 2
BOUND: Final = 25
BOUND_OF_MANY: Final = 1_000  # some dozens for each shard and read
POLL_MS: Final = 25  # for each shard: the server has one thread, and its readers must not keep it from its producers
SHARDS_OF_MANY: Final = 20


def prepare() -> None:
    """Get what a test of this peer downloads."""
    require_modules(PROJECT)


def client_of(service: str, port: int) -> Any:
    """Return a client of a peer."""
    return boto3.client(
        service, endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-west-1", aws_access_key_id="peer",
        aws_secret_access_key="peerpw",
    )  # fmt: skip


class KinesisLocal(Broker):
    """The three servers with data and ports of their own."""

    def __init__(self) -> None:
        node, modules = require_node(), require_modules(PROJECT)
        survive = str(PROJECT / "survive.js")
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-kinesis-"))
        self._port, tls, self.leases_port = free_ports(3)
        self._data = self.folder / "data"
        self._data.mkdir()
        self._file = self._data / "kinesis-data.json"
        self.newest = ""
        """The sequence number of the record that was put last."""
        self._server = Server(
            [node, "-r", survive, "-r", str(PROJECT / "loopback.js"), str(modules / "kinesis-local" / "main.js")],
            self.folder / "kinesis",
            {
                "KINESIS_MOCK_CERT_PATH": str(modules / "kinesis-local" / "server.json"),
                "KINESIS_MOCK_PLAIN_PORT": str(self._port), "KINESIS_MOCK_TLS_PORT": str(tls), "LOG_LEVEL": "ERROR",
                "SHOULD_PERSIST_DATA": "true", "PERSIST_PATH": str(self._data), "PERSIST_INTERVAL": f"{PERSIST_S}s",
                "CREATE_STREAM_DURATION": "20ms", "DELETE_STREAM_DURATION": "20ms", "SPLIT_SHARD_DURATION": "50ms",
                "MERGE_SHARDS_DURATION": "50ms", "SHARD_LIMIT": "100000", "AWS_REGION": "eu-west-1",
            },
        )  # fmt: skip
        self._leases = Server(
            [node, "-r", survive, str(modules / "dynalite" / "cli.js"), "--host", "127.0.0.1",
             "--port", str(self.leases_port), "--createTableMs", "10", "--deleteTableMs", "10"],
            self.folder / "leases",
        )  # fmt: skip
        self.queues = Moto()
        self._peers = 0
        self.kinesis: Any = None
        self.dynamodb: Any = None

    @property
    def port(self) -> int:
        """Where streams are."""
        return self._port

    def start(self) -> None:
        """Start what does not run; streams have the data they had."""
        if not self._leases.is_running:
            self._leases.start()
            self.queues.start()
            self.dynamodb = client_of("dynamodb", self.leases_port)
            wait_until(lambda: self._answers(self.dynamodb.list_tables), START_S, "a table server")
            make_table(self.dynamodb, TABLE)
        self._server.start()
        self.kinesis = client_of("kinesis", self._port)
        wait_until(lambda: self._answers(self.kinesis.list_streams), START_S, lambda: self._server.said()[-2000:])

    def _answers(self, call: Any) -> bool:
        assert self._server.is_running or not self.kinesis, self._server.said()[-2000:]
        try:
            call()
        except (BotoCoreError, ClientError):
            return False
        return True

    def stop(self) -> None:
        """Stop streams, when all that was put is on the disk; SIGTERM would wait for its clients half a minute."""
        put_ns = wall_ns()
        kept = wait_until(lambda: self._whole(put_ns + WRITE_NS), START_S, "data on the disk")
        self._server.kill()
        if self._whole(0) is None:
            self._file.write_bytes(kept or b"")  # killed while it wrote the next

    def _whole(self, after_ns: int) -> bytes | None:
        """Return the data if a write ended after a time, and it is all there with the newest record that was put."""
        try:
            if self._file.stat().st_mtime_ns <= after_ns:
                return None
            data = self._file.read_bytes()
            msgspec.json.decode(data)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return data if self.newest.encode("ascii") in data else None

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        for server in (self._server, self._leases, self.queues):
            server.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def peer(self, name: str, shards: int = 0) -> KinesisPeer:
        """Return a stream with a queue for dead letters."""
        self._peers += 1
        shards = shards or (SHARDS_OF_MANY if "many_messages" in name else SHARDS)
        return KinesisPeer(self, re.sub(r"\W+", "-", name)[:50] + f"-{self._peers}", shards)


def make_table(dynamodb: Any, name: str) -> None:
    """Make a table for leases, as docs/sources/kinesis.md says."""
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("reader", "shard")],
        KeySchema=[{"AttributeName": "reader", "KeyType": "HASH"}, {"AttributeName": "shard", "KeyType": "RANGE"}],
    )  # fmt: skip
    wait_until(lambda: dynamodb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE", ACTIVE_S, "a table")


class KinesisPeer(Peer):
    """One stream, and a producer's client."""

    kind = "kinesis"
    has_headers = False
    names_all = True
    lease_ms = 1_600
    many = 10_000

    def __init__(self, broker: KinesisLocal, name: str, shards: int) -> None:
        self.broker = broker
        self.stream = name
        self._shards = shards
        self.bound = BOUND if shards == SHARDS else BOUND_OF_MANY
        self._number = 0
        self._sent: dict[str, list[int]] = defaultdict(list)
        self._taken: dict[str, int] = {}
        self.letters = SqsPeer(broker.queues, name)  # type: ignore[arg-type]  # all that is asked of it is there
        self.dead_queue = self.letters.dead_queue
        self.client.create_stream(StreamName=name, ShardCount=shards)
        summary = self.wait_active()
        created_s = int(summary["StreamCreationTimestamp"].timestamp())
        self.reader = f"wojak/{summary['StreamARN']}/{created_s}"

    @property
    def client(self) -> Any:
        """A client of the streams."""
        return self.broker.kinesis

    def wait_active(self) -> Any:
        """Wait until the stream may be changed; return what it is."""

        def look() -> Any:
            found = self.client.describe_stream_summary(StreamName=self.stream)["StreamDescriptionSummary"]
            return found if found["StreamStatus"] == "ACTIVE" else None

        return wait_until(look, ACTIVE_S, "an active stream")

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return credentials and addresses as boto3 reads them."""
        return {
            **KEYS,
            "AWS_ENDPOINT_URL_KINESIS": f"http://127.0.0.1:{port or self.broker.port}",
            "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{self.broker.leases_port}",
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.broker.queues.port}",
        }

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads the stream."""
        return {
            "stream": self.stream, "principal": "bench", "lease_table": TABLE, "dead_letter_queue": self.dead_queue,
            "prefetch": self.bound, "lease_ms": 2_000, "checkpoint_ms": 50, "poll_ms": POLL_MS * self._shards,
            "discover_ms": 1_000,
            **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Put in batches, those of a key in order; without a key each has one of its own."""
        batch: list[dict[str, Any]] = []
        size = 0
        for message in messages:
            if batch and (len(batch) == PUT_MAX or size + len(message.body) > PUT_BYTES):
                self._put(batch)
                batch, size = [], 0
            self._number += 1
            batch.append({"Data": message.body, "PartitionKey": message.key or f"n{self._number}"})
            size += len(message.body)
        if batch:
            self._put(batch)

    def _put(self, records: Sequence[Mapping[str, Any]]) -> None:
        answer = self.client.put_records(StreamName=self.stream, Records=records)
        assert not answer["FailedRecordCount"], answer
        for record in answer["Records"]:
            self._sent[record["ShardId"]].append(int(record["SequenceNumber"]))
            self.broker.newest = record["SequenceNumber"]

    # What became of it

    def leases(self) -> Any:
        """Return the rows of the stream, by shard."""
        answer = self.broker.dynamodb.query(
            TableName=TABLE, ConsistentRead=True, KeyConditionExpression="reader = :r",
            ExpressionAttributeValues={":r": {"S": self.reader}},
        )  # fmt: skip
        return {item["shard"]["S"]: item for item in answer["Items"]}

    def checkpoints(self) -> dict[str, int]:
        """Return the number up to which each shard is answered; -1 = nothing is."""
        found = {}
        for shard, row in self.leases().items():
            text = row["checkpoint"]["S"]
            found[shard] = 1 << 200 if text == "SHARD_END" else int(text) if text.isdigit() else -1
        return found

    def waiting(self) -> int:
        """Return how many records are behind the checkpoints."""
        at = self.checkpoints()
        return sum(len(sent) - bisect_right(sent, at.get(shard, -1)) for shard, sent in self._sent.items())

    def left(self) -> list[bytes]:
        """Read what is behind the checkpoints, once."""
        at = self.checkpoints()
        found: list[bytes] = []
        for shard in self._sent:
            after = max(at.get(shard, -1), self._taken.get(shard, -1))
            for record in self.read(shard, after):
                self._taken[shard] = int(record["SequenceNumber"])
                found.append(record["Data"])
        return found

    def read(self, shard: str, after: int = -1) -> list[Any]:
        """Return all records of a shard behind a number."""
        if after >= 1 << 200:
            return []
        place = {"ShardIteratorType": "TRIM_HORIZON"} if after < 0 else {
            "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(after),
        }  # fmt: skip
        iterator = self.client.get_shard_iterator(StreamName=self.stream, ShardId=shard, **place)["ShardIterator"]
        found: list[Any] = []
        while iterator:
            answer = self.client.get_records(ShardIterator=iterator, Limit=1_000)
            if not answer["Records"]:
                break
            found += answer["Records"]
            iterator = answer.get("NextShardIterator")
        return found

    def dead(self) -> list[Dead]:
        """Take the dead letters, each put together from its messages."""
        parts: dict[str, dict[int, str]] = defaultdict(dict)
        about: dict[str, tuple[str, bool]] = {}
        for message in self.letters._drain(self.dead_queue):
            attributes = message["MessageAttributes"]
            original = msgspec.json.decode(attributes["x-wojak-original"]["StringValue"])
            parts[original["place"]][original.get("part", 1)] = message["Body"]
            about[original["place"]] = attributes["x-wojak-reason"]["StringValue"], original.get("is_base64", False)
        return [Dead(_body("".join(p[n] for n in sorted(p)), about[place][1]), about[place][0])
                for place, p in parts.items()]  # fmt: skip

    # Resharding

    def split(self, shard: str) -> None:
        """Split a shard in the middle."""
        found = {s["ShardId"]: s for s in self.client.list_shards(StreamName=self.stream)["Shards"]}[shard]
        ends = found["HashKeyRange"]
        middle = (int(ends["StartingHashKey"]) + int(ends["EndingHashKey"])) // 2
        self.client.split_shard(StreamName=self.stream, ShardToSplit=shard, NewStartingHashKey=str(middle))
        self.wait_active()

    def merge(self, shard: str, adjacent: str) -> None:
        """Merge two shards."""
        self.client.merge_shards(StreamName=self.stream, ShardToMerge=shard, AdjacentShardToMerge=adjacent)
        self.wait_active()

    def open_shards(self) -> list[str]:
        """Return the shards that take records, in the order of their keys."""
        shards = self.client.list_shards(StreamName=self.stream)["Shards"]
        opened = [s for s in shards if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        return [s["ShardId"] for s in sorted(opened, key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))]

    def table(self) -> LeaseTable:
        """Return the rows as a sidecar writes them; the environment must lead to the peer."""
        return LeaseTable(TABLE, self.reader, 1)

    def close(self) -> None:
        """Delete the stream: what is there is written to the disk again and again."""
        with contextlib.suppress(BotoCoreError, ClientError):
            self.client.delete_stream(StreamName=self.stream)


def _body(text: str, is_base64: bool) -> bytes:
    import base64

    return base64.b64decode(text) if is_base64 else text.encode()
