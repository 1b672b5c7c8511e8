"""Dead letters of Kafka, looked at and put back.

A topic gives nothing out of its middle, so how far letters are dealt with is the offset of a group of its own. Putting
back some means: those asked for go to their topic, those before them that stay are written again at the end, and then
the offset moves. Each step is stored by all replicas before the next, so a crash leaves a letter twice, never not at
all; the engine takes its id once.

Rule (DECISIONS 40): what is put back keeps its id and its time unless a person says otherwise, and then says who.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from runtime.clock import wall_ns
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import LettersFailedError, with_field
from sidecars.sources.kafka_dead import AT_NS, PLACE, PREFIX, REASON, REPLAYED_BY, TIME_MS, TOPIC
from sidecars.sources.kafka_link import ANSWER_S, BROKEN, CONNECT_S, REQUEST_BYTES_MAX, Outgoing, client_options, look
from sidecars.sources.kafka_records import NS_PER_MS
from sidecars.sources.kafka_settings import KafkaSettings

GROUP_SUFFIX: Final = ".dead-letters"
NEW_ID_BYTES: Final = 8
READ_MS: Final = 200


class KafkaLetters:
    """The dead letter topic of one source."""

    def __init__(self, name: str, settings: KafkaSettings) -> None:
        self._name = name
        self._settings = settings
        self._options = client_options(settings.env_prefix)

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones; they stay."""
        async with self._consumer() as consumer:
            return [_letter(n, r) for n, r in enumerate(await self._read(consumer, most), 1)]

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put back those that are asked for; the others stay."""
        async with self._consumer() as consumer:
            letters = list(enumerate(await self._read(consumer, most), 1))
            chosen = [n for n, _ in letters if not replay.numbers or n in replay.numbers]
            last = max(chosen, default=0)
            passed = [(n, record) for n, record in letters if n <= last]
            out = [self._changed(r, replay) if n in chosen else self._again(r) for n, r in passed]
            await self._produce(out)
            offsets = {TopicPartition(r.topic, r.partition): r.offset + 1 for _, r in passed}
            if offsets:
                async with asyncio.timeout(ANSWER_S):
                    await consumer.commit(offsets)
            return [_letter(n, r) for n, r in passed if n in chosen]

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        """Yield a consumer of the group that says how far letters are dealt with."""
        settings = self._settings
        consumer = None
        try:
            topics = (await look(self._options)).topics
            if settings.dead_letter_topic not in topics:
                raise LettersFailedError(settings.dead_letter_topic, "there is no such topic")
            partitions = topics[settings.dead_letter_topic][0]
            consumer = AIOKafkaConsumer(
                **self._options, group_id=settings.group + GROUP_SUFFIX, enable_auto_commit=False,
                isolation_level="read_committed", auto_offset_reset="earliest",
            )  # fmt: skip
            consumer.assign([TopicPartition(settings.dead_letter_topic, n) for n in range(partitions)])
            async with asyncio.timeout(CONNECT_S):
                await consumer.start()
            yield consumer
        except BROKEN as e:
            raise LettersFailedError(settings.dead_letter_topic, str(e) or type(e).__name__) from e
        finally:
            if consumer is not None:
                with suppress(*BROKEN):
                    async with asyncio.timeout(CONNECT_S):
                        await consumer.stop()

    async def _read(self, consumer: Any, most: int) -> Sequence[Any]:
        """Return the oldest letters that are not dealt with, partition by partition."""
        found: list[Any] = []
        tps = sorted(consumer.assignment())
        async with asyncio.timeout(ANSWER_S):
            ends = await consumer.end_offsets(tps)
        for tp in tps:
            async with asyncio.timeout(ANSWER_S):
                while len(found) < most and await consumer.position(tp) < ends[tp]:
                    got = await consumer.getmany(tp, timeout_ms=READ_MS, max_records=most - len(found))
                    found += got.get(tp, [])
        return found

    def _changed(self, record: Any, replay: Replay) -> Outgoing:
        """Return what goes back: the original, but for what the operator asked for.

        Raises:
            FieldError: If a body can't be changed.
        """
        ours = _ours(record)
        headers = [(n, v) for n, v in record.headers if not n.startswith(PREFIX)]
        body, time_ms = record.value, int(ours.get(TIME_MS) or 0)
        if replay.restamp:
            time_ms = wall_ns() // NS_PER_MS
            body = with_field(body, "created_at_ns", wall_ns())
        if replay.new_id:  # its new place gives it another id, unless the body has one
            body = with_field(body, "client_order_id", f"replay-{secrets.token_hex(NEW_ID_BYTES)}")
        elif PLACE in ours:
            headers.append((PLACE, ours[PLACE].encode()))
        if replay.restamp or replay.new_id:
            headers.append((REPLAYED_BY, replay.operator.encode()))
        return Outgoing(self._settings.topic, record.key, body, headers, max(0, time_ms))

    def _again(self, record: Any) -> Outgoing:
        return Outgoing(self._settings.dead_letter_topic, record.key, record.value, list(record.headers))

    async def _produce(self, records: Sequence[Outgoing]) -> None:
        producer = AIOKafkaProducer(
            **self._options, acks="all", enable_idempotence=True, max_request_size=REQUEST_BYTES_MAX
        )
        async with asyncio.timeout(CONNECT_S):
            await producer.start()
        try:
            for record in records:
                async with asyncio.timeout(ANSWER_S):
                    await producer.send_and_wait(
                        record.topic, record.value, key=record.key, headers=list(record.headers),
                        timestamp_ms=record.timestamp_ms,
                    )  # fmt: skip
        finally:
            with suppress(*BROKEN):
                async with asyncio.timeout(CONNECT_S):
                    await producer.stop()


def _ours(record: Any) -> dict[str, str]:
    return {n: bytes(v or b"").decode("utf-8", "replace") for n, v in record.headers if n.startswith(PREFIX)}


def _letter(number: int, record: Any) -> DeadLetter:
    ours = _ours(record)
    headers = {n: bytes(v or b"").decode("utf-8", "replace") for n, v in record.headers if not n.startswith(PREFIX)}
    if record.key:
        headers["(key)"] = bytes(record.key).decode("utf-8", "replace")
    at = ours.get(AT_NS, "")
    return DeadLetter(
        number=number,
        reason=ours.get(REASON, "") or "put there by somebody else",
        source_id=f"{ours[TOPIC]}/{ours[PLACE]}" if TOPIC in ours and PLACE in ours else "",
        at_ns=int(at) if at.isdigit() else 0,
        body=record.value or b"",
        headers=headers,
    )
