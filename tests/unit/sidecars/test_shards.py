"""One sidecar and the engines of two shards: whatever one of them does, the orders of the other go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from protocol.orders import command_decoder
from protocol.session import Drain, Item
from sidecars.core.loop import SidecarLoop
from sidecars.core.metrics import Metrics
from sidecars.core.session_life import State
from sidecars.core.settings import LoopSettings, SessionSettings
from sidecars.core.source import Verb, Why
from tests.unit.sidecars.conftest import Stage, until
from tests.unit.sidecars.engine_peer import EnginePeer, Journal
from tests.unit.sidecars.test_loop import DEADLINE_S, QueueBroker

MAP = {"a0": 0, "a1": 1}
CREDITS = 16


def ids(items: list[Item]) -> list[str]:
    """Return the client order ids an engine was given, in its order."""
    return [command_decoder.decode(item.command).client_order_id for item in items]  # type: ignore[union-attr]


class Pair:
    """A loop with a broker's source and the engines of shards 0 and 1."""

    def __init__(self, folder: Path) -> None:
        self.endpoints = tuple(f"ipc://{folder}/e{shard}" for shard in range(2))
        self.journals = [Journal(), Journal()]
        self.peers: dict[int, EnginePeer] = {}
        self.broker = QueueBroker()
        self.metrics = Metrics("queue")
        settings = LoopSettings(
            engine_endpoint=self.endpoints[0],
            shard_endpoints=self.endpoints,
            account_shards=MAP,
            state_file=str(folder / "epochs"),
            session=SessionSettings(answer_ms=600, silence_ms=400, ping_ms=100, hold_max=CREDITS),
            drain_ms=1000,
        )
        self.loop = SidecarLoop(settings, self.broker, self.metrics)

    def start(self, shard: int, says: int | None = None) -> EnginePeer:
        number = shard if says is None else says
        peer = EnginePeer(self.endpoints[shard], self.journals[shard], credits=CREDITS, reserved=2, shard=number)
        self.peers[shard] = peer
        return peer

    def kill(self, shard: int) -> None:
        self.peers.pop(shard).kill()

    def put(self, shard: int, *numbers: int, unit: str = "") -> None:
        for number in numbers:
            self.broker.put(unit=unit, account=f"a{shard}", client_order_id=f"{shard}-{number}")

    def got(self, shard: int) -> list[str]:
        return ids(self.journals[shard].items)

    def settled(self, shard: int) -> list[str]:
        return [
            str(s.delivery.body.decode().split('"client_order_id": "')[1].split('"')[0])
            for s in self.broker.settled
            if f'"a{shard}"'.encode() in s.delivery.body
        ]

    async def until(self, condition: object, what: str) -> None:
        assert callable(condition)
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  the condition is the sidecar's, which tells nobody
                await asyncio.sleep(0.005)
        assert condition(), what

    async def wait_open(self, *shards: int) -> None:
        sessions = self.loop.engines.shards
        await self.until(lambda: [n for n, s in enumerate(sessions) if s.is_open] == list(shards), f"{shards} open")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Pair]:
    it = Pair(folder)
    for shard in range(2):
        it.start(shard)
    task = asyncio.create_task(it.loop.run())
    try:
        await it.wait_open(0, 1)
        yield it
        it.loop.request_stop()
        await asyncio.wait_for(task, DEADLINE_S)
        assert [p.faults for p in it.peers.values() if p.faults] == []
    finally:
        task.cancel()
        for peer in it.peers.values():
            peer.close()


async def test_each_order_goes_to_the_shard_of_its_account(tmp_path: Path) -> None:
    """One lane with both accounts: each engine gets its own, in the order received, and all are settled."""
    async with running(tmp_path) as it:
        for number in range(20):
            it.put(number % 2, number)
        await it.until(lambda: len(it.broker.settled) == 20, "twenty settles")

        assert it.got(0) == [f"0-{n}" for n in range(0, 20, 2)]
        assert it.got(1) == [f"1-{n}" for n in range(1, 20, 2)]
        assert {s.verb for s in it.broker.settled} == {Verb.ACCEPT}


async def test_while_one_engine_is_away_the_other_goes_on(tmp_path: Path) -> None:
    """What comes for the one that is away is held, in order, and settled when it is back; nothing is given back."""
    async with running(tmp_path) as it:
        it.kill(1)
        await it.wait_open(0)
        for number in range(5):
            it.put(1, number)
            it.put(0, number)
        await it.until(lambda: len(it.settled(0)) == 5, "the others")
        assert it.settled(1) == []

        it.start(1)
        await it.until(lambda: len(it.settled(1)) == 5, "the held ones")

        assert it.settled(1) == it.got(1) == [f"1-{n}" for n in range(5)]
        assert {s.verb for s in it.broker.settled} == {Verb.ACCEPT}
        open_again = 'wojak_sidecar_shard_open{shard="1",source="queue"} 1.0'
        await it.until(lambda: open_again in it.metrics.text().decode(), "the gauge")


async def test_an_engine_that_was_never_there_stops_nobody(tmp_path: Path) -> None:
    """A sidecar that starts before one of the engines works for the other, and holds within its own bound."""
    it = Pair(tmp_path)
    it.start(0)
    task = asyncio.create_task(it.loop.run())
    try:
        await it.wait_open(0)
        it.put(1, 1)
        it.put(0, 1)
        await it.until(lambda: it.settled(0) == ["0-1"], "the other's")
        it.start(1)
        await it.until(lambda: it.settled(1) == ["1-1"], "the held one")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for peer in it.peers.values():
            peer.close()


async def test_a_full_hold_buffer_stops_only_the_units_that_feed_it(tmp_path: Path) -> None:
    """Units stop one by one, a unit of the other shard goes on, the bound holds, and all of it passes in the end."""
    async with running(tmp_path) as it:
        it.kill(1)
        await it.wait_open(0)
        it.put(1, *range(60), unit="p1")
        await it.until(lambda: "p1" in it.broker.stopped_now, "the stop of the unit")
        session = it.loop.engines.shards[1]
        held = len(session.live())
        assert CREDITS // 2 < held <= CREDITS

        it.put(0, *range(40), unit="p0")
        it.put(1, 100, unit="p2")  # a unit that has not fed it so far still has a place, and stops then
        await it.until(lambda: len(it.settled(0)) == 40, "the other unit's")
        # The other shard's own unit may have waited a moment for its forty; it goes on by itself.
        await it.until(lambda: it.broker.stopped_now == {"p1", "p2"}, "the stop of the second unit, and of no other")
        assert held < len(session.live()) <= CREDITS
        assert it.settled(1) == []

        it.start(1)
        await it.until(lambda: len(it.settled(1)) == 61, "what was held and what had stopped")
        await it.until(lambda: it.broker.stopped_now == frozenset(), "nothing stopped any more")
        assert [i for i in it.settled(1) if i != "1-100"] == [f"1-{n}" for n in range(60)]
        assert {s.verb for s in it.broker.settled} == {Verb.ACCEPT}


async def test_a_source_without_units_stops_as_a_whole(tmp_path: Path) -> None:
    """Then nothing more is received than one shard may hold: the docs say to partition by shard."""
    async with running(tmp_path) as it:
        it.kill(1)
        await it.wait_open(0)
        it.put(1, *range(60))
        it.put(0, *range(3))
        await it.until(lambda: "" in it.broker.stopped_now, "the stop")
        waiting = len(it.broker.waiting)
        assert waiting > 60 - CREDITS

        it.start(1)
        await it.until(lambda: len(it.broker.settled) == 63, "all of it")


async def test_a_slow_engine_slows_its_own_orders_only(tmp_path: Path) -> None:
    """An engine that says nothing keeps what it was given; the other's pass meanwhile; later each is answered once."""
    async with running(tmp_path) as it:
        it.peers[1].is_mute = True
        it.put(1, 1, 2)
        await it.until(lambda: len(it.got(1)) == 2, "the submit")
        it.put(0, *range(30))
        await it.until(lambda: len(it.settled(0)) == 30, "the other's")
        assert it.settled(1) == []

        it.peers[1].is_mute = False
        await it.until(lambda: it.settled(1) == ["1-1", "1-2"], "its own")
        assert len(it.journals[1].outcomes) == 2


async def test_a_shard_in_retry_holds_its_own_orders_only(tmp_path: Path) -> None:
    """RETRY is a state of one session: the others go on, and the held go in order after Resume."""
    async with running(tmp_path) as it:
        it.peers[1].holds_risk = True
        it.put(1, 1, 2, 3)
        it.put(0, 1, 2, 3)
        await it.until(lambda: len(it.settled(0)) == 3, "the other's")
        assert it.settled(1) == []

        it.peers[1].holds_risk = False
        await it.until(lambda: it.settled(1) == ["1-1", "1-2", "1-3"], "its own, in order")


async def test_an_engine_that_drains_does_not_stop_the_source(tmp_path: Path) -> None:
    """It is told when it may leave; what comes for it then waits for the next engine, while the other's go on."""
    async with running(tmp_path) as it:
        it.peers[1].send_all(Drain(10_000))
        await it.until(it.peers[1].drained.is_set, "Drained")
        it.put(1, 1, 2)
        it.put(0, 1, 2)
        await it.until(lambda: len(it.settled(0)) == 2, "the other's")
        assert it.got(1) == []
        assert not it.peers[0].drained.is_set()

        it.kill(1)
        it.start(1)
        await it.until(lambda: it.settled(1) == ["1-1", "1-2"], "those that waited")
        assert {s.verb for s in it.broker.settled} == {Verb.ACCEPT}


async def test_a_stop_gives_back_what_was_held(tmp_path: Path) -> None:
    """Leaving, nothing is kept: what no engine took goes back to the broker, as not taken."""
    async with running(tmp_path) as it:
        it.kill(1)
        await it.wait_open(0)
        it.put(1, 1, 2)
        await it.until(lambda: len(it.loop.engines.shards[1].live()) == 2, "the hold")
    assert [(s.verb, s.why) for s in it.broker.settled] == [(Verb.RETRY, Why.DRAINING)] * 2


async def test_the_engine_of_another_shard_gets_nothing(tmp_path: Path) -> None:
    """Addresses that were swapped are seen at the first welcome, before any order went astray."""
    async with running(tmp_path) as it:
        it.kill(1)
        it.start(1, says=0)
        session = it.loop.engines.shards[1]
        await it.until(lambda: session.state is State.REFUSED, "the refusal")
        it.put(1, 1)
        it.put(0, 1)
        await it.until(lambda: it.settled(0) == ["0-1"], "the other's")
        assert session.fault == "engine expected shard 1, was shard 0; mend the addresses"
        assert it.got(1) == []

        it.kill(1)
        it.start(1)
        await it.until(lambda: it.settled(1) == ["1-1"], "its own, at the right engine")


# Over HTTP


@pytest.fixture
def two(stage: Stage) -> Stage:
    """A stage with the engines of two shards behind one HTTP sidecar; peers[1] is shard 1."""
    endpoints = (stage.endpoint, f"{stage.endpoint}1")
    stage.engine()
    stage.peers.append(EnginePeer(endpoints[1], Journal(), shard=1))
    sidecar = stage.start(shard_endpoints=endpoints, account_shards=MAP)
    until(lambda: all(s.is_open for s in sidecar.sidecar.engines.shards), "both open")
    return stage


def readyz(stage: Stage) -> httpx.Response:
    return httpx.get(f"{stage.url}/readyz", timeout=DEADLINE_S)


def test_http_answers_503_for_the_accounts_of_the_engine_that_is_away(two: Stage) -> None:
    """Its accounts are told which shard it is and to come again; the others trade; readiness names who is away."""
    assert readyz(two).json()["shards"] == {"0": "open", "1": "open"}
    two.kill_engine()
    sessions = two.sidecars[0].sidecar.engines.shards
    until(lambda: not sessions[1].is_open, "shard 1 away")

    refused = two.send(1, account="a1")
    taken = two.send(1, account="a0")

    assert (refused.status_code, taken.status_code) == (503, 201)
    assert refused.json()["error"]["code"] == "ENGINE_AWAY"
    assert refused.json()["error"]["text"].startswith("shard 1, where account a1 is: ")
    assert "retry-after" in refused.headers
    ready = readyz(two)
    assert ready.status_code == 200
    assert ready.json()["shards"] == {"0": "open", "1": "ENGINE_AWAY"}
    assert ready.json()["reason"] == "shard 1: ENGINE_AWAY"


def test_an_array_may_span_shards(two: Stage) -> None:
    """It is answered when each item has an outcome; with one engine away, only its items are told to come again."""
    two.peers[1].is_mute = False
    bodies = [{**ORDER_OF[n % 2], "client_order_id": f"x{n}"} for n in range(6)]
    assert [i["http_status"] for i in two.post(bodies).json()] == [201] * 6
    assert ids(two.peers[1].journal.items) == ["x1", "x3", "x5"]

    two.kill_engine()
    sessions = two.sidecars[0].sidecar.engines.shards
    until(lambda: not sessions[1].is_open, "shard 1 away")
    again = [{**ORDER_OF[n % 2], "client_order_id": f"y{n}"} for n in range(4)]
    assert [i["http_status"] for i in two.post(again).json()] == [201, 503, 201, 503]


def test_http_without_any_engine_is_not_ready(two: Stage) -> None:
    """With all of them away it is what it was with one engine: not ready, 503 for everybody."""
    two.kill_engine()
    two.kill_engine()
    until(lambda: not two.sidecars[0].sidecar.engines.is_open, "both away")
    assert readyz(two).status_code == 503
    assert two.send(1, account="a0").status_code == 503


ORDER_OF = [
    {
        "account": f"a{shard}", "strategy": "ok", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01",
        "price": "61800.5",
    }
    for shard in range(2)
]  # fmt: skip
