"""Kafka as a peer: Apache Kafka from Maven Central as our own child, one KRaft node, and topics of it.

Differences from what people run: one node, so every topic has one replica; sessions may be as short as a second, so
that tests need not wait long for the partitions of a killed process; kill -9 keeps what the operating system has.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.peers.maven import require_jars, require_java
from tests.peers.process import Server, free_ports

T = TypeVar("T")
VERSION: Final = "4.3.1"  # 4.4.0 can't be resolved: one of its artifacts is not there
LOG4J: Final = "2.25.4"
START_S: Final = 90.0
CLIENT_S: Final = 60.0
STICKY: Final = 500  # messages without a key go to one partition, then to the next, as a batching producer does it
JVM: Final = ("-Xmx256m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
JARS: Final = (
    f"org.apache.kafka:kafka_2.13:{VERSION}", f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}",
)  # fmt: skip
LOGGING: Final = """Configuration:
  Appenders:
    Console:
      name: out
      target: SYSTEM_OUT
      PatternLayout:
        pattern: "%d %p %m%n"
  Loggers:
    Root:
      level: LEVEL
      AppenderRef:
        ref: out
"""


def prepare() -> str:
    """Return Java's class path of Kafka; get it if it is not in the cache."""
    return f"{require_jars(f'kafka-{VERSION}', *JARS)}/*"


class Kafka(Broker):
    """One node with data and ports of its own. What comes to ``proxied_port`` is told to stay on ``proxy_port``."""

    def __init__(self) -> None:
        jars, java = prepare(), require_java()
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-kafka-"))
        self._port, controller, self.proxied_port, self.proxy_port = free_ports(4)
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{self.proxied_port},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{self.proxy_port},"
            f"CONTROLLER://127.0.0.1:{controller}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "log.cleaner.dedupe.buffer.size": 4194304,
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
        }
        (self.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        for level in ("INFO", "WARN"):
            (self.folder / f"{level}.yaml").write_text(LOGGING.replace("LEVEL", level))
        at = f"{self.folder}/server.properties"
        self._format = [
            java, *JVM, f"-Dlog4j2.configurationFile={self.folder}/WARN.yaml", "-cp", jars, "kafka.tools.StorageTool",
            "format", "--standalone", "--ignore-formatted", "-t", "d29qYWstcGVlci1rYWZrYQ", "-c", at,
        ]  # fmt: skip
        argv = [java, *JVM, f"-Dlog4j2.configurationFile={self.folder}/INFO.yaml", "-cp", jars, "kafka.Kafka", at]
        self._server = Server(argv, self.folder / "server")
        self._peers = 0

    @property
    def port(self) -> int:
        """The clients' port."""
        return self._port

    def start(self) -> None:
        """Start, or start again with the same data."""
        if not (self.folder / "data").is_dir():
            done = subprocess.run(self._format, capture_output=True, text=True, timeout=START_S, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        self._server.start()
        self._server.wait_said("Kafka Server started", START_S)

    def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self._server.kill(signal.SIGTERM, START_S)

    def crash(self) -> None:
        """Kill -9."""
        self._server.kill()

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        self._server.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def peer(self, name: str) -> KafkaPeer:
        """Return a topic with its dead letters and a topic for replies."""
        self._peers += 1
        return KafkaPeer(self, re.sub(r"\W+", "-", name)[:60] + f"-{self._peers}")


class KafkaPeer(Peer):
    """One topic with three partitions, and a producer's client in a thread of its own."""

    kind = "kafka"
    has_replies = True
    names_all = True
    bound = 50
    many = 100_000

    def __init__(self, broker: Kafka, name: str) -> None:
        self.broker = broker
        self.topic = name
        self.group = f"{name}-group"
        self.dead_topic = f"{name}-dead"
        self.partitions = 3
        self._sent = 0
        self._taken: dict[TopicPartition, int] = {}
        self._producer: AIOKafkaProducer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.make_topic(self.topic, self.partitions)
        for other in (self.dead_topic, self.reply_to):
            self.make_topic(other, 1)

    @property
    def address(self) -> str:
        """Where the broker is."""
        return f"127.0.0.1:{self.broker.port}"

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return the address."""
        return {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port or self.broker.port}"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads the topic."""
        return {
            "topic": self.topic, "group": self.group, "principal": "bench", "dead_letter_topic": self.dead_topic,
            "reply_to": [self.reply_to], "prefetch": self.bound, "session_timeout_ms": 3_000, "rebalance_ms": 6_000,
            "metadata_ms": 1_000, "lag_ms": 500, **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Produce in order, each acknowledged by all replicas."""
        self.run(self._send(messages))

    def waiting(self) -> int:
        """Return how many records the group has not committed; they are read, because offsets have gaps."""
        return len(self.run(self._read(self.topic, self.group, take=False)))

    def left(self) -> list[bytes]:
        """Return what the group has not committed."""
        return [bytes(r.value) for r in self.run(self._read(self.topic, self.group))]

    def dead(self) -> list[Dead]:
        """Return new dead letters."""
        records = self.run(self._read(self.dead_topic))
        return [Dead(bytes(r.value), dict(r.headers)["x-wojak-reason"].decode()) for r in records]

    def replies(self) -> list[bytes]:
        """Return new answers."""
        return [bytes(r.value) for r in self.run(self._read(self.reply_to))]

    @property
    def reply_to(self) -> str:
        """The topic for replies."""
        return f"{self.topic}-replies"

    def make_topic(self, name: str, partitions: int, **configs: Any) -> None:
        """Make a topic."""
        new = NewTopic(name, partitions, 1, topic_configs={k.replace("_", "."): str(v) for k, v in configs.items()})
        self.run(self._administer(lambda admin: admin.create_topics([new])))

    def add_partitions(self, total: int) -> None:
        """Give the topic more partitions."""
        self.partitions = total
        self.run(self._administer(lambda admin: admin.create_partitions({self.topic: NewPartitions(total)})))

    def send_to(self, partition: int, bodies: Sequence[bytes]) -> None:
        """Produce to one partition."""
        self.run(self._send_to(partition, bodies))

    def committed(self) -> dict[int, int]:
        """Return what the group has committed, by partition."""
        found = self.run(self._administer(lambda admin: admin.list_consumer_group_offsets(self.group)))
        return {at.partition: offset.offset for at, offset in found.items()}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the client's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLIENT_S)

    def close(self) -> None:
        """Let the client go."""
        if self._producer is not None:
            self.run(asyncio.wait_for(self._producer.stop(), CLIENT_S / 2))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLIENT_S)
        self._loop.close()

    async def ends(self) -> dict[int, int]:
        """Return where each partition ends."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(self.topic, n) for n in range(self.partitions)])
            return {tp.partition: end for tp, end in ends.items()}
        finally:
            await consumer.stop()

    async def transact(self, bodies: Sequence[bytes], *, commit: bool) -> None:
        """Produce in one transaction, and commit or abort it."""
        producer = AIOKafkaProducer(bootstrap_servers=self.address, transactional_id=self.topic)
        await producer.start()
        try:
            await producer.begin_transaction()
            for body in bodies:
                await producer.send_and_wait(self.topic, body, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        finally:
            await producer.stop()

    async def send_compressed(self, bodies: Sequence[bytes], codec: str) -> None:
        """Produce one compressed batch."""
        producer = AIOKafkaProducer(bootstrap_servers=self.address, compression_type=codec, linger_ms=20)
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(self.topic, body, partition=0) for body in bodies])
        finally:
            await producer.stop()

    async def _send_to(self, partition: int, bodies: Sequence[bytes]) -> None:
        producer = await self.producer()
        for body in bodies:
            await producer.send_and_wait(self.topic, body, partition=partition)

    async def _administer(self, work: Any) -> Any:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            return await work(admin)
        finally:
            await admin.close()

    async def producer(self) -> AIOKafkaProducer:
        """Return the producer, started."""
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.address, acks="all", enable_idempotence=True, max_request_size=1 << 20,
                linger_ms=1, metadata_max_age_ms=1000,
            )  # fmt: skip
            await self._producer.start()
        return self._producer

    async def _send(self, messages: Sequence[Message]) -> None:
        producer = await self.producer()
        for at in range(0, len(messages), STICKY):
            sent = []
            for message in messages[at : at + STICKY]:
                partition = None if message.key else self._sent // STICKY % self.partitions
                self._sent += 1
                sent.append(
                    await producer.send(
                        self.topic, message.body, key=message.key.encode() or None, partition=partition,
                        headers=list(_headers(message)),
                    )
                )  # fmt: skip
            await asyncio.gather(*sent)

    async def _read(
        self, topic: str, group: str | None = None, *, take: bool = True
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """Return what was not read before; of a group's topic what the group has not committed."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address, group_id=group, enable_auto_commit=False, isolation_level="read_committed",
            max_partition_fetch_bytes=1 << 22,
        )  # fmt: skip
        await consumer.start()
        try:
            await consumer._client._wait_on_metadata(topic)
            tps = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            found: list[ConsumerRecord[bytes, bytes]] = []
            for tp in tps:
                first = max(self._taken.get(tp, 0), starts[tp], (await consumer.committed(tp) or 0) if group else 0)
                if take:
                    self._taken[tp] = ends[tp]
                if first >= ends[tp]:
                    continue
                consumer.assign([tp])
                consumer.seek(tp, first)
                while await consumer.position(tp) < ends[tp]:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += records
            return found
        finally:
            await consumer.stop()


def _headers(message: Message) -> Iterator[tuple[str, bytes]]:
    for name, value in message.headers.items():
        yield name.replace("ce-", "ce_", 1), value.encode()  # the Kafka binding of CloudEvents
    if message.content_type:
        yield "content-type", message.content_type.encode()
    if message.reply_to:
        yield "reply-to", message.reply_to.encode()
    if message.message_id:
        yield "message-id", message.message_id.encode()
