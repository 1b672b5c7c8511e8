"""Kinesis: the suite of all sources against servers that speak it and DynamoDB, and what only this source does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import convert

from sidecars.core.kinds import Level, Replay
from sidecars.core.settings import SessionSettings
from sidecars.sources.kinesis_check import check
from sidecars.sources.kinesis_leases import LeaseLostError
from sidecars.sources.kinesis_letters import KinesisLetters
from sidecars.sources.kinesis_records import Replayed, put_back
from sidecars.sources.kinesis_settings import KinesisSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, Sidecar, order, orders
from tests.conformance.source import SourceContract
from tests.peers.kinesis import KinesisLocal, KinesisPeer
from tests.peers.process import free_ports, wait_until
from tests.peers.proxy import Proxy

KPL = b"\xf3\x89\x9a\xc2\x0a\x01k\x1a\x07\x08\x00\x1a\x03abc" + bytes(16)


@pytest.fixture(scope="module")
def broker() -> Iterator[KinesisLocal]:
    """One set of servers for the module."""
    broker = KinesisLocal()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@pytest.fixture
def aws(peer: KinesisPeer, monkeypatch: pytest.MonkeyPatch) -> KinesisPeer:
    """The stream, with the environment that leads to it."""
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)
    return peer


def stream_of(rig: Rig) -> KinesisPeer:
    """Return the resource as what it is."""
    assert isinstance(rig.peer, KinesisPeer)
    return rig.peer


def keyed(count: int, keys: int, first: int = 0) -> list[Message]:
    """Return orders that take turns among keys."""
    return [Message(body=m.body, key=f"k{n % keys}") for n, m in enumerate(orders(count, first), first)]


def require_order(rig: Rig, keys: int) -> None:
    """Claim that the effects of each key came in the order in which it was sent."""
    happened = [int(i[1:]) for i in rig.effect_order()]
    for key in range(keys):
        mine = [n for n in happened if n % keys == key]
        assert mine == sorted(mine)


def owners(stream: KinesisPeer) -> dict[str, str]:
    """Return who has each shard that has not ended."""
    return {s: r["owner"]["S"] for s, r in stream.leases().items() if r["checkpoint"]["S"] != "SHARD_END"}


@without(
    "test_the_answer_is_published_before_the_message_is_settled",  # a record has no place for an address
    "test_events_are_opened_in_both_modes",  # records do not say what they are: see the test with a setting
    "test_what_says_too_little_is_parked",
)
class TestKinesis(SourceContract):
    """A stream of two shards."""

    # Shards come and go

    @covers("C9", "C18")
    def test_shards_split_and_merge_under_load_and_each_key_keeps_its_order(self, rig: Rig) -> None:
        """Parent before child: with two sidecars, one of them killed, across two splits and a merge."""
        stream = stream_of(rig)
        rig.start_engine()
        killed, _ = [rig.sidecar().wait_ready() for _ in range(2)]
        sent = 0

        def send(count: int) -> None:
            nonlocal sent
            stream.send(keyed(count, 8, sent))
            sent += count

        send(400)
        stream.split(stream.open_shards()[0])
        send(400)
        stream.split(stream.open_shards()[-1])
        send(400)
        rig.wait_effects(600)
        killed.kill()
        first, second = stream.open_shards()[:2]
        stream.merge(first, second)
        send(400)
        rig.wait_effects(sent)
        parents = len(stream.leases()) - len(stream.open_shards())
        wait_until(lambda: len(owners(stream)) == 3, WITHIN_S, lambda: f"three shards in use, {stream.leases()}")

        assert parents == 4
        require_order(rig, 8)
        rig.finish(ids(sent))

    @covers("C18")
    def test_a_child_waits_until_its_parent_is_answered_to_the_end(self, rig: Rig) -> None:
        """With an engine that says nothing the parent is not ended, and nothing of its children is read."""
        stream = stream_of(rig)
        engine = rig.small_engine()
        engine.answers = False
        sidecar = rig.sidecar(session=SessionSettings(answer_ms=60_000)).wait_ready()
        stream.send(keyed(20, 4))
        wait_until(lambda: len(engine.journal.items) == 20, WITHIN_S, "twenty submits")
        shards = stream.open_shards()
        for shard in shards:
            stream.split(shard)
        stream.send(keyed(20, 4, 20))
        wait_until(lambda: len(stream.leases()) == 6, WITHIN_S, "rows of the children")

        assert {shard for shard, owner in owners(stream).items() if owner != "-"} <= set(shards)
        assert sidecar.metric("received") == 20
        engine.close()
        rig.small_engine()
        rig.wait_effects(40)
        require_order(rig, 4)
        rig.finish(ids(40))
        assert set(owners(stream)).isdisjoint(shards)

    def test_what_was_split_before_anybody_read_is_read_parents_first(self, rig: Rig) -> None:
        """Closed shards are read to their end, not skipped."""
        stream = stream_of(rig)
        stream.send(keyed(40, 4))
        for shard in stream.open_shards():
            stream.split(shard)
        stream.send(keyed(40, 4, 40))
        rig.start_engine()
        rig.sidecar().wait_ready()
        rig.wait_effects(80)

        require_order(rig, 4)
        rig.finish(ids(80))

    # Leases

    @covers("C19")
    def test_an_old_owner_can_write_nothing(self, aws: KinesisPeer) -> None:
        """Each write is on the condition that nobody else had the shard meanwhile; a lost answer is no loss."""
        table, other = aws.table(), aws.table()
        table.create("shard-1", ())
        row = table.rows()["shard-1"]
        mine = table.take(row, "me", 1_000)
        assert mine is not None
        assert other.take(row, "you", 1_000) is None
        renewed = table.renew(mine, "5")
        again = table.renew(mine, "6")  # as if the answer to the first had been lost
        theirs = other.take(again, "you", 1_000)
        assert theirs is not None
        for late in (lambda: table.renew(again, "7"), lambda: table.release(renewed, "7")):
            with pytest.raises(LeaseLostError):
                late()

        row = table.rows()["shard-1"]
        assert (row.owner, row.epoch, row.checkpoint) == ("you", 2, "6")
        other.release(theirs, "6")
        assert table.rows()["shard-1"].owner == "-"

    @covers("C19")
    def test_a_frozen_owner_saves_nothing_when_it_wakes(self, rig: Rig) -> None:
        """Its shards are taken after the time of a lease; what it then hears moves no checkpoint."""
        stream = stream_of(rig)
        engine = rig.small_engine()
        engine.answers = False
        frozen = rig.sidecar().wait_ready()
        stream.send(keyed(5, 1))
        wait_until(lambda: len(engine.journal.items) == 5, WITHIN_S, "five submits")
        frozen.freeze()
        engine.answers = True
        other = rig.sidecar().wait_ready()
        wait_until(lambda: other.metric("settled", result="ok") == 5, WITHIN_S, "five settles by the other")
        before = stream.checkpoints()
        frozen.thaw()
        wait_until(lambda: frozen.metric("lost_lease") >= 5, WITHIN_S, "five leases given up")

        assert {s: n for s, n in before.items() if stream.checkpoints()[s] < n} == {}
        rig.finish(ids(5))

    def test_a_sidecar_that_joins_gets_its_share_and_nothing_comes_twice(self, rig: Rig) -> None:
        """Who has too many lets one go when it is answered: no lease runs out, nothing is delivered again."""
        stream = stream_of(rig)
        rig.start_engine()
        first = rig.sidecar().wait_ready()
        stream.send(keyed(500, 8))
        wait_until(rig.effects, WITHIN_S, "the first effects")
        second = rig.sidecar().wait_ready()
        stream.send(keyed(500, 8, 500))
        wait_until(
            lambda: len(set(owners(stream).values()) - {"-"}) == 2, WITHIN_S, lambda: f"shares, {owners(stream)}"
        )
        stream.send(keyed(500, 8, 1_000))
        rig.wait_effects(1_500)
        wait_until(lambda: _sum((first, second), "settled") == 1_500, WITHIN_S, "settles told")

        assert second.metric("received") > 0
        assert _sum((first, second), "received") == 1_500
        require_order(rig, 8)
        rig.finish(ids(1_500))

    def test_without_its_table_nothing_is_read_until_it_is_back(self, rig: Rig, broker: KinesisLocal) -> None:
        """Who can't renew gives up in time, says so, and goes on by itself."""
        stream = stream_of(rig)
        rig.start_engine()
        with Proxy(broker.leases_port) as leases:
            address = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{leases.port}"}
            sidecar = rig.sidecar(env=address).wait_ready()
            stream.send(keyed(20, 4))
            rig.wait_effects(20)
            leases.cut(refuse=True)
            wait_until(lambda: "could not be renewed" in rig.tell(), WITHIN_S, "shards given up")
            assert "broker" in sidecar.ask("/readyz")[1]
            stream.send(keyed(20, 4, 20))
            leases.mend()
            rig.wait_effects(40)
            wait_until(lambda: sidecar.is_ready, WITHIN_S, "ready again")
            rig.finish(ids(40))

    # Reads

    @covers("C18")
    def test_expired_iterators_and_throttles_only_delay(self, rig: Rig, broker: KinesisLocal) -> None:
        """Each read is refused at first, one way or the other: everything comes, once and in order."""
        stream = stream_of(rig)
        rig.start_engine()
        with Refusing(broker.port) as refusing:
            rig.sidecar(port=refusing.port).wait_ready()
            for round_ in range(6):
                refusing.code = ("ExpiredIteratorException", "ProvisionedThroughputExceededException")[round_ % 2]
                refusing.left = 3
                stream.send(keyed(50, 4, 50 * round_))
                rig.wait_effects(50 * (round_ + 1))
            assert refusing.refused == 18
            require_order(rig, 4)
            rig.finish(ids(300))

    # Bodies

    @covers("C13")
    def test_events_are_opened_where_the_settings_say_so(self, rig: Rig) -> None:
        """Each record carries an event with an order; what is none, or of a foreign version, is parked."""
        rig.start_engine()
        rig.sidecar(content_type="application/cloudevents+json").wait_ready()
        event = {"specversion": "1.0", "id": "1", "source": "/desk", "type": "order", "data": msgspec.Raw(order("e"))}
        newer = msgspec.json.encode({**event, "specversion": "2.0"})
        rig.peer.send([Message(body=b) for b in (msgspec.json.encode(event), newer, order("bare"))])
        rig.wait_effects(1)
        letters = dict(self.wait_dead(rig, 2))

        assert "event.specversion" in letters[newer]
        assert letters[order("bare")].startswith("FIELD: event")
        rig.finish(["e"])

    @covers("C26")
    def test_an_aggregate_is_refused_loudly(self, rig: Rig) -> None:
        """What the producer library put together is a dead letter with what to change, and blocks nobody."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        rig.peer.send([Message(body=KPL), *orders(3)])
        rig.wait_effects(3)
        ((body, reason),) = self.wait_dead(rig, 1)

        assert (body, reason.split(":")[0]) == (KPL, "AGGREGATED")
        assert "AggregationEnabled" in reason
        rig.finish(ids(3))

    @covers("C13")
    def test_a_record_larger_than_a_message_of_sqs_is_parked_whole(self, rig: Rig, aws: KinesisPeer) -> None:
        """It goes in several messages, is one letter for people, and is put back as it was."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        large = order("large") + os.urandom(600 << 10)
        aws.send([Message(body=large, key="k")])
        wait_until(lambda: sidecar.metric("settled", result="parked") == 1, WITHIN_S, "a dead letter")
        letters = KinesisLetters("k", convert(aws.settings(), KinesisSettings))
        (shown,) = asyncio.run(letters.list(10))
        assert (shown.body, shown.headers["partition key"]) == (large, "k")
        assert len(asyncio.run(letters.replay(Replay(operator="ann"), 10))) == 1
        wait_until(lambda: sidecar.metric("settled", result="parked") == 2, WITHIN_S, "it again")

        assert [body for body, _ in self.wait_dead(rig, 1)] == [large]
        rig.finish([])

    @covers("C13")
    def test_a_dead_letter_that_can_not_be_sent_stops_its_shard_only(self, rig: Rig) -> None:
        """Without its queue nothing behind it is saved; made again, the letter goes there."""
        stream = stream_of(rig)
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        stream.letters.delete(stream.dead_queue)
        stream.send([Message(body=b"nonsense"), *orders(3)])
        rig.wait_effects(3)
        wait_until(lambda: "dead letter not sent" in rig.tell(), WITHIN_S, "a complaint")
        assert stream.waiting() >= 1
        stream.letters.create(stream.dead_queue)

        assert [body for body, _ in self.wait_dead(rig, 1)] == [b"nonsense"]
        assert sidecar.metric("lost_lease") == 0
        rig.finish(ids(3))

    # For people

    def test_dead_letters_are_listed_and_put_back_as_they_were(self, rig: Rig, aws: KinesisPeer) -> None:
        """Listing leaves them; put back, an order keeps its id though its record has a new number."""
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        aws.send([*orders(2), Message(body=order())])
        wait_until(lambda: aws.letters.count(aws.dead_queue) == 3, WITHIN_S, "three dead letters")
        wait_until(lambda: aws.waiting() == 0, WITHIN_S, "all saved")
        assert refused.drain() == 0
        letters = KinesisLetters("k", convert(aws.settings(), KinesisSettings))
        listed = asyncio.run(letters.list(10))
        nameless = next(x for x in listed if b"client_order_id" not in x.body)
        asyncio.run(letters.replay(Replay(numbers=frozenset({nameless.number}), operator="ann"), 10))
        last = rig.sidecar().wait_ready()
        (made,) = rig.wait_effects(1)
        aws.send([Message(body=put_back(Replayed(nameless.source_id, 0), nameless.body))])
        asyncio.run(letters.replay(Replay(operator="ann", restamp=True), 10))
        rig.wait_effects(3)
        wait_until(lambda: last.metric("settled") == 4, WITHIN_S, "four settles told")

        assert {x.reason for x in listed} == {"AUTH_NOT_PERMITTED"}
        assert [x.number for x in listed] == [1, 2, 3]
        assert made.startswith("kinesis-")
        rig.finish([made, *ids(2)])

    def test_check_says_what_would_break_a_promise(
        self, aws: KinesisPeer, broker: KinesisLocal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Things that are not there, or not as needed: each with what to do; what is there is fine."""
        good = asyncio.run(check("k", convert(aws.settings(lease_ms=10_000), KinesisSettings)))
        changes = {"stream": "nowhere", "lease_table": "nothing", "dead_letter_queue": "nobody"}
        bad = asyncio.run(check("k", convert({**aws.settings(), **changes}, KinesisSettings)))
        broker.dynamodb.create_table(
            TableName=f"other-{aws.stream}", BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        )  # fmt: skip
        other = asyncio.run(check("k", convert(aws.settings(lease_table=f"other-{aws.stream}"), KinesisSettings)))
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", f"http://127.0.0.1:{free_ports(1)[0]}")
        away = asyncio.run(check("k", convert(aws.settings(), KinesisSettings)))

        assert [f for f in good if f.level is Level.FAULT] == []
        assert {f.what for f in good if f.level is Level.ADVICE} == {"RetentionPeriodHours", "poll_ms"}
        assert {f.what for f in bad if f.level is Level.FAULT} == {"stream nowhere", "table nothing", "queue nobody"}
        assert [f.what for f in other if f.level is Level.FAULT] == [f"table other-{aws.stream}"]
        assert [f.what for f in away if f.level is Level.FAULT] == [f"stream {aws.stream}"]
        aws.close()

    def test_a_sidecar_without_its_table_does_not_start(self, rig: Rig) -> None:
        """What only a person can change is said at once."""
        refused = rig.sidecar(lease_table="nothing")
        wait_until(lambda: not refused.is_running, WITHIN_S, "an end")

        assert refused.server.kill() == 2
        assert "wojak sidecar check" in refused.said


class Refusing(Proxy):
    """A way to Kinesis on which the next ``left`` reads are refused with ``code``; the injected faults of C18."""

    code = ""
    left = 0
    refused = 0

    def instead(self, data: bytes) -> bytes:
        """Refuse a read."""
        if self.left <= 0 or b"Kinesis_20131202.GetRecords" not in data:
            return b""
        self.left -= 1
        self.refused += 1
        body = msgspec.json.encode({"__type": self.code, "message": "as told by a test"})
        head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: "
        return f"{head}{len(body)}\r\n\r\n".encode() + body


def _sum(sidecars: tuple[Sidecar, ...], name: str) -> float:
    return sum(s.metric(name) for s in sidecars)
