"""One life of the connection to Kafka: a consumer of the group and a producer, from connect until it is of no use.

Rule: the client mends connections by itself; what it can't mend, or does not in time, ends the link, and the next one
joins the group anew. Nothing here waits without a deadline: the client retries for ever where it may, and its own
``stop`` hangs when the broker is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.helpers import create_ssl_context

from protocol.errors import ConfigError

CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0
CLOSE_S: Final = 1.0
JOIN_SLACK_S: Final = 10.0
POLL_MS: Final = 500
POLL_SLACK_S: Final = 1.0
REQUEST_SLACK_MS: Final = 5_000  # above the rebalance time: a join is a request that takes as long
NEVER_MS: Final = 2**31 - 1
REQUEST_BYTES_MAX: Final = 32 << 20  # a topic's own limit decides
BROKEN: Final = (KafkaError, OSError, TimeoutError)
"""What the client raises when the other side is gone, slow or refuses."""
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

# The client tells of every attempt at a lost broker, ten times a second; the source says once what it means.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

Records = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]


class Outgoing(NamedTuple):
    """A record to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int | None = None


class Grouping(NamedTuple):
    """How a consumer is a member of its group."""

    topic: str
    group: str
    session_timeout_ms: int
    rebalance_ms: int
    metadata_ms: int
    fetch_bytes_max: int


def client_options(prefix: str) -> dict[str, Any]:
    """Return address, encryption and credentials from the environment, as every client of aiokafka takes them.

    Raises:
        ConfigError: If there is no address, or what is set does not fit together.
    """

    def read(name: str, default: str = "") -> str:
        return os.environ.get(f"{prefix}_{name}", default)

    problems = []
    options: dict[str, Any] = {"bootstrap_servers": read("BOOTSTRAP_SERVERS")}
    if not options["bootstrap_servers"]:
        problems.append(f"environment variable {prefix}_BOOTSTRAP_SERVERS: expected host:port[,…], was not set")
    options["security_protocol"] = protocol = read("SECURITY_PROTOCOL", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        problems.append(f"environment variable {prefix}_SECURITY_PROTOCOL: expected one of {', '.join(PROTOCOLS)}")
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = mechanism = read("SASL_MECHANISM", "PLAIN")
        options["sasl_plain_username"] = read("SASL_USERNAME")
        options["sasl_plain_password"] = read("SASL_PASSWORD")
        if mechanism not in MECHANISMS:
            problems.append(f"environment variable {prefix}_SASL_MECHANISM: expected one of {', '.join(MECHANISMS)}")
        if not (options["sasl_plain_username"] and options["sasl_plain_password"]):
            problems.append(f"environment variables {prefix}_SASL_USERNAME, _PASSWORD: expected both, were not set")
    if protocol.endswith("SSL"):
        try:
            options["ssl_context"] = create_ssl_context(
                cafile=read("SSL_CAFILE") or None, certfile=read("SSL_CERTFILE") or None,
                keyfile=read("SSL_KEYFILE") or None,
            )  # fmt: skip
        except (OSError, ssl.SSLError) as e:
            problems.append(f"environment variables {prefix}_SSL_…: expected readable PEM files, was: {e}")
    if problems:
        raise ConfigError(problems)
    return options


class Seen(NamedTuple):
    """A cluster as we may see it: its id and its topics, with the number of partitions and of replicas."""

    cluster_id: str
    topics: Mapping[str, tuple[int, int]]


async def look(options: Mapping[str, Any]) -> Seen:
    """Return what is there. It asks for all topics, because asking for one may make it.

    Raises:
        KafkaError, OSError, TimeoutError: As the broker or the network says.
    """
    async with administration(options) as admin:
        cluster = await admin.describe_cluster()
        topics = await admin.describe_topics()
    return Seen(
        cluster["cluster_id"] or "",
        {t["topic"]: (len(t["partitions"]), min(len(p["replicas"]) for p in t["partitions"])) for t in topics},
    )


@contextlib.asynccontextmanager
async def administration(options: Mapping[str, Any]) -> Any:
    """Yield an administrative client; everything inside has ``CONNECT_S``."""
    async with asyncio.timeout(CONNECT_S):
        admin = AIOKafkaAdminClient(**options, request_timeout_ms=int(CONNECT_S * 1000))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the two moments of a rebalance on; the group waits while they run."""

    def __init__(self, on_revoked: Callable[[], Awaitable[None]], on_assigned: Callable[[Iterable[int]], None]) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._on_revoked()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._on_assigned(sorted(tp.partition for tp in assigned))


class Link:
    """See the module. ``ended`` is done, with the reason, as soon as it is of no use."""

    def __init__(self, options: Mapping[str, Any], grouping: Grouping) -> None:
        self._options = options
        self._grouping = grouping
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.consumer: AIOKafkaConsumer[bytes, bytes]
        self._producer: AIOKafkaProducer
        self._commits = asyncio.Lock()

    @property
    def is_ended(self) -> bool:
        """Whether it is of no use any more."""
        return self.ended.done()

    async def open(
        self, on_revoked: Callable[[], Awaitable[None]], on_assigned: Callable[[Iterable[int]], None]
    ) -> None:
        """Connect and join the group.

        Raises:
            KafkaError, OSError, TimeoutError: As the broker or the network says.
        """
        grouping = self._grouping
        request_ms = grouping.rebalance_ms + REQUEST_SLACK_MS
        self._producer = AIOKafkaProducer(
            **self._options, acks="all", enable_idempotence=True, max_request_size=REQUEST_BYTES_MAX,
            metadata_max_age_ms=grouping.metadata_ms,
        )  # fmt: skip
        self.consumer = AIOKafkaConsumer(
            **self._options,
            group_id=grouping.group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # where there is no offset is decided here, never by a silent jump
            isolation_level="read_committed",
            session_timeout_ms=grouping.session_timeout_ms,
            heartbeat_interval_ms=grouping.session_timeout_ms // 3,
            rebalance_timeout_ms=grouping.rebalance_ms,
            request_timeout_ms=request_ms,
            max_poll_interval_ms=NEVER_MS,  # an engine that waits costs no partition; a frozen process, its session
            metadata_max_age_ms=grouping.metadata_ms,
            fetch_max_bytes=grouping.fetch_bytes_max,
            max_partition_fetch_bytes=grouping.fetch_bytes_max,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self.consumer.subscribe([grouping.topic], listener=_Listener(on_revoked, on_assigned))
        async with asyncio.timeout(CONNECT_S):
            await self._producer.start()
        async with asyncio.timeout(grouping.rebalance_ms / 1000 + JOIN_SLACK_S):
            await self.consumer.start()

    async def poll(self, most: int) -> Records:
        """Return up to so many records; none after a while. What is not returned stays for the next time.

        Raises:
            KafkaError, TimeoutError: What the client met in the background.
        """
        async with asyncio.timeout(POLL_MS / 1000 + POLL_SLACK_S):  # the client waits for a rebalance without an end
            found: Records = await self.consumer.getmany(timeout_ms=POLL_MS, max_records=most)
            return found

    async def commit(self, offsets: Callable[[], Mapping[TopicPartition, int]]) -> Mapping[TopicPartition, int]:
        """Commit what ``offsets`` returns when it is its turn; return it.

        Raises:
            CommitFailedError, IllegalStateError: The group has given the partitions away.
            KafkaError, TimeoutError: Not now.
        """
        async with asyncio.timeout(ANSWER_S), self._commits:
            due = offsets()
            if due:
                await self.consumer.commit(dict(due))
            return due

    async def publish(self, records: Sequence[Outgoing]) -> list[BaseException | None]:
        """Produce, and wait until all replicas have each; return for each what went wrong, None = nothing."""
        try:
            async with asyncio.timeout(ANSWER_S):
                sent = await asyncio.gather(*(self._publish(r) for r in records), return_exceptions=True)
        except TimeoutError as e:
            return [e] * len(records)
        return [each if isinstance(each, BaseException) else None for each in sent]

    async def _publish(self, record: Outgoing) -> None:
        await self._producer.send_and_wait(
            record.topic, record.value, key=record.key, headers=list(record.headers), timestamp_ms=record.timestamp_ms
        )

    async def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return where each partition ends, as far as transactions are decided."""
        topic = self._grouping.topic
        async with asyncio.timeout(ANSWER_S):
            ends = await self.consumer.end_offsets([TopicPartition(topic, n) for n in partitions])
        return {tp.partition: end for tp, end in ends.items()}

    def pause(self, partitions: Iterable[int]) -> None:
        """Return nothing more of exactly these partitions."""
        wanted = {TopicPartition(self._grouping.topic, n) for n in partitions}
        with contextlib.suppress(IllegalStateError):  # between two assignments; the next one begins with none paused
            paused = self.consumer.paused()
            self.consumer.pause(*(wanted & self.consumer.assignment() - paused))
            self.consumer.resume(*(paused - wanted))

    def end(self, why: str) -> None:
        """Say that it is of no use any more; ``close`` frees it."""
        if not self.ended.done():
            self.ended.set_result(why)

    async def close(self) -> None:
        """Leave the group and disconnect; others get the partitions at once."""
        self.end("closed")
        for stop in (self._stop_consumer, self._producer.stop):
            with contextlib.suppress(*BROKEN, asyncio.CancelledError):
                async with asyncio.timeout(CLOSE_S):
                    await stop()

    async def _stop_consumer(self) -> None:
        try:
            await self.consumer.stop()
        except asyncio.CancelledError:
            # It hangs. What is left of it must not go on as a member that holds partitions and reads nothing.
            if (coordinator := self.consumer._coordinator) is not None:
                coordinator.reset_generation()
            await self.consumer._client.close()
            raise
