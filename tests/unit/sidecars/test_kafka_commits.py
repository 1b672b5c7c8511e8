"""When Kafka's offsets are committed: at once. That what comes meanwhile goes together is seen in ``test_loop``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from sidecars.core.source import Delivery, Settlement, Verb
from sidecars.core.window import Receipt, Window
from sidecars.sources.kafka import KafkaSource
from sidecars.sources.kafka_settings import KafkaSettings

Commits = asyncio.Queue[Mapping[TopicPartition, int]]
TURNS = 5
DEADLINE_S = 5.0


class StubLink:
    """A broker that has a commit when the test says so."""

    is_ended = False

    def __init__(self) -> None:
        self.asked: Commits = asyncio.Queue()
        self.answers = asyncio.Semaphore(0)

    async def commit(self, offsets: Callable[[], Mapping[TopicPartition, int]]) -> Mapping[TopicPartition, int]:
        due = offsets()
        self.asked.put_nowait(due)
        await self.answers.acquire()
        return due


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaSource, StubLink, Window]:
    """A source that has one partition, and its link."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    source = KafkaSource("k", KafkaSettings(topic="orders", group="group", principal="p", dead_letter_topic="dead"))
    link, window = StubLink(), Window(0)
    source._link, source._windows = link, {0: window}  # type: ignore[assignment]
    return source, link, window


def accepted(receipt: Receipt) -> Settlement:
    return Settlement(Delivery("p", "lane", bytes(16), 1, 1, receipt=receipt), Verb.ACCEPT)


async def test_a_commit_is_sent_at_once_also_right_after_another(made: Any) -> None:
    """No interval delays a settle: the clock does not move between the call and the commit."""
    source, link, window = made
    for offset in range(2):
        settling = asyncio.create_task(source.settle([accepted(window.hand_out(offset, None))]))
        for _ in range(TURNS):  # turns of the loop take what is ready now, and no timer
            await asyncio.sleep(0)
        assert link.asked.get_nowait() == {TopicPartition("orders", 0): offset + 1}
        link.answers.release()
        async with asyncio.timeout(DEADLINE_S):
            assert not await settling
