"""The one loop with a source like a broker's: bodies, leases, failed settles, replies, poison, drain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.orders import NewOrder, command_decoder
from sidecars.core.loop import SidecarLoop
from sidecars.core.metrics import Metrics
from sidecars.core.settings import LoopSettings, SessionSettings
from sidecars.core.source import Delivery, Flow, Lag, Settlement, SourceFailedError, Verb, Why
from tests.unit.sidecars.conftest import ORDER
from tests.unit.sidecars.engine_peer import EnginePeer

DEADLINE_S = 5.0


class QueueBroker:
    """A small broker in memory and its source in one: a queue, leases, settles that can fail."""

    name = "queue"
    lease_extend_ms = 0
    tells_reserved = False
    tells_account = False

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.settled: list[Settlement] = []
        self.replied: list[Settlement] = []
        self.extended: list[Delivery] = []
        self.most_seen: list[int] = []
        self.stopped: list[frozenset[str]] = []
        self.fail_settles = 0
        self.settles: list[int] = []
        self.settles_at_once = 1
        self.may_settle = asyncio.Event()
        self.may_settle.set()
        self.fail_extensions = 0
        self.breaks = False
        self.is_open = False
        self.changed = asyncio.Event()

    @property
    def stopped_now(self) -> frozenset[str]:
        return self.stopped[-1] if self.stopped else frozenset()

    def put(self, unit: str = "", **fields: object) -> Delivery:
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        body = json.dumps({**ORDER, **fields}).encode()
        delivery = Delivery("p", "lane", bytes(16), 1, now_ns, body=body, unit=unit)
        self.waiting.append(delivery)
        self.changed.set()
        return delivery

    async def open(self, flow: Flow) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        if self.breaks:
            raise SourceFailedError(self.name, "the test")
        while not (there := [d for d in self.waiting if d.unit not in self.stopped_now]):
            self.changed.clear()
            await self.changed.wait()
        self.most_seen.append(most)
        taken = there[:most]
        self.waiting = [d for d in self.waiting if d not in taken]
        return taken

    def stop(self, units: frozenset[str]) -> None:
        self.stopped.append(units)
        self.changed.set()

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        self.extended += deliveries
        if self.fail_extensions:
            self.fail_extensions -= 1
            return deliveries
        for delivery in deliveries:
            delivery.lease_until_mono_ns += self.lease_extend_ms * 1_000_000
        return ()

    async def pause(self) -> Sequence[Delivery]:
        taken, self.waiting = self.waiting, []
        return taken

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        self.settles.append(len(settlements))
        await self.may_settle.wait()
        failed = list(settlements[: self.fail_settles])
        self.fail_settles -= len(failed)
        self.settled += settlements[len(failed) :]
        return failed

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        self.replied += settlements
        return ()

    def fault(self) -> str:
        return ""

    def lag(self) -> Lag | None:
        return Lag(len(self.waiting), 0)


class Running:
    """A loop under test, its broker and its engine."""

    def __init__(self, folder: Path, settles_at_once: int = 1, **engine: int) -> None:
        endpoint = f"ipc://{folder}/e"
        self.peer = EnginePeer(endpoint, **engine)
        self.broker = QueueBroker()
        self.broker.settles_at_once = settles_at_once
        self.metrics = Metrics("queue")
        settings = LoopSettings(
            engine_endpoint=endpoint,
            state_file=str(folder / "epochs"),
            session=SessionSettings(answer_ms=600),
            drain_ms=1000,
        )
        self.loop = SidecarLoop(settings, self.broker, self.metrics)

    async def until(self, condition: object, what: str) -> None:
        assert callable(condition)
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  the condition is the sidecar's, which tells nobody
                await asyncio.sleep(0.005)
        assert condition(), what


@asynccontextmanager
async def running(folder: Path, **engine: int) -> AsyncIterator[Running]:
    it = Running(folder, **engine)
    task = asyncio.create_task(it.loop.run())
    try:
        await it.until(lambda: it.loop.session.is_open, "open")
        yield it
        it.loop.request_stop()
        await asyncio.wait_for(task, DEADLINE_S)
        assert it.peer.faults == []
        assert not it.broker.is_open
    finally:
        task.cancel()
        it.peer.close()


async def test_bodies_become_commands_and_are_settled_by_the_outcome(tmp_path: Path) -> None:
    """Accepted and refused are settled positively, what a person must see goes to the dead letters as well."""
    async with running(tmp_path) as it:
        for number, strategy in enumerate(("ok", "refuse", "forbidden")):
            it.broker.put(client_order_id=f"q{number}", strategy=strategy)
        await it.until(lambda: len(it.broker.settled) == 3, "three settles")

        assert [s.verb for s in it.broker.settled] == [Verb.ACCEPT, Verb.ACCEPT, Verb.DEAD_LETTER]
        assert it.metrics.settled_ok == it.metrics.settled_reject == it.metrics.settled_parked == 1
        assert it.metrics.receive_to_settle.snapshot().total == 3


async def test_poison_is_parked_with_its_reason_and_never_submitted(tmp_path: Path) -> None:
    """A body that is no order, or has no id and none can be derived, is dead-lettered; the next one passes."""
    async with running(tmp_path) as it:
        it.broker.put(client_order_id="a", quantity=1)
        it.broker.put()
        it.broker.put().derived_id = "queue/7"
        await it.until(lambda: len(it.broker.settled) == 3, "three settles")

        by_verb = {s.verb: s for s in it.broker.settled}
        assert sum(s.verb is Verb.DEAD_LETTER for s in it.broker.settled) == 2
        assert by_verb[Verb.DEAD_LETTER].why is Why.MALFORMED
        assert "quantity" in it.broker.settled[0].text
        (item,) = it.peer.journal.items
        command = command_decoder.decode(item.command)
        assert isinstance(command, NewOrder)
        assert command.client_order_id == "queue/7"


async def test_credits_bound_what_is_received(tmp_path: Path) -> None:
    """The broker is never asked for more than the engine would take; all pass in the end, in order."""
    async with running(tmp_path, credits=4, reserved=1) as it:
        for number in range(50):
            it.broker.put(client_order_id=f"q{number}")
        await it.until(lambda: len(it.broker.settled) == 50, "fifty settles")

        assert max(it.broker.most_seen) <= 4
        seqs = [item.seq for item in it.peer.journal.items]
        assert seqs == sorted(seqs)


async def test_a_failed_settle_is_tried_again_alone(tmp_path: Path) -> None:
    """R9: only the failed one comes again; the engine is not asked twice."""
    async with running(tmp_path) as it:
        it.broker.fail_settles = 1
        it.broker.put(client_order_id="a")
        it.broker.put(client_order_id="b")
        await it.until(lambda: len(it.broker.settled) == 2, "two settles")

        assert it.metrics.settle_errors == 1
        assert len(it.peer.journal.items) == 2


async def test_what_is_answered_while_a_settle_is_under_way_goes_into_the_next(tmp_path: Path) -> None:
    """A slow broker is asked once for all that came meanwhile, never for each."""
    async with running(tmp_path) as it:
        it.broker.may_settle.clear()
        it.broker.put(client_order_id="a")
        await it.until(lambda: it.broker.settles == [1], "a settle")
        for name in "bcd":
            it.broker.put(client_order_id=name)
            await it.until(lambda: it.loop.session.is_idle and not it.broker.waiting, "an answer")
        it.broker.may_settle.set()
        await it.until(lambda: len(it.broker.settled) == 4, "four settles")

        assert it.broker.settles == [1, 3]


async def test_a_source_may_take_several_settles_side_by_side(tmp_path: Path) -> None:
    """As many as it says; a drain waits for all of them."""
    async with running(tmp_path, settles_at_once=2) as it:
        it.broker.may_settle.clear()
        for count, name in enumerate("abcd", 1):
            it.broker.put(client_order_id=name)
            await it.until(lambda: it.loop.session.is_idle and not it.broker.waiting, "an answer")
            await it.until(lambda n=count: len(it.broker.settles) == min(2, n), "a settle")  # type: ignore[misc]
        assert it.broker.settled == []
        it.loop.request_stop()
        it.broker.may_settle.set()
        await it.until(lambda: len(it.broker.settled) == 4, "four settles")

        assert it.broker.settles == [1, 1, 2]


async def test_leases_are_extended_while_the_engine_thinks(tmp_path: Path) -> None:
    """Past half of its lease a delivery is extended, a failed extension is tried again, and the outcome settles it."""
    async with running(tmp_path) as it:
        it.broker.lease_extend_ms = 4000
        it.broker.fail_extensions = 1
        it.peer.is_mute = True
        delivery = it.broker.put(client_order_id="a")
        delivery.lease_until_mono_ns = delivery.received_mono_ns + 1_900_000_000
        await it.until(lambda: len(it.broker.extended) == 2, "two extensions")
        it.peer.is_mute = False
        await it.until(lambda: it.broker.settled, "a settle")

        assert it.broker.settled[0].verb is Verb.ACCEPT
        assert (it.metrics.extensions_failed, it.metrics.extensions_ok) == (1, 1)


async def test_a_reply_path_gets_the_outcome_before_the_settle(tmp_path: Path) -> None:
    """A delivery with an address is answered there with the very outcome that settles it."""
    async with running(tmp_path) as it:
        it.broker.put(client_order_id="a").reply_to = "answers"
        await it.until(lambda: it.broker.settled, "a settle")

        assert it.broker.replied[0].outcome is it.broker.settled[0].outcome


async def test_a_source_that_fails_ends_the_process(tmp_path: Path) -> None:
    """Its error leaves run(), so that the supervisor sees it; everything is closed."""
    it = Running(tmp_path)
    it.broker.breaks = True
    try:
        with pytest.raises(SourceFailedError):
            await asyncio.wait_for(it.loop.run(), DEADLINE_S)
        assert not it.broker.is_open
    finally:
        it.peer.close()
