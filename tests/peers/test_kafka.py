"""Kafka: the suite of all sources against a real broker, and what only this one does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec
import pytest
from msgspec import convert

from protocol.errors import ConfigError
from sidecars.core.identity import derive_id
from sidecars.core.kinds import Level, Replay
from sidecars.core.settings import SessionSettings
from sidecars.core.source import Engines
from sidecars.sources.kafka import KafkaSource
from sidecars.sources.kafka_check import check
from sidecars.sources.kafka_letters import KafkaLetters
from sidecars.sources.kafka_link import client_options
from sidecars.sources.kafka_settings import KafkaSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.conformance.source import SourceContract
from tests.peers.kafka import Kafka, KafkaPeer
from tests.peers.process import free_ports, wait_until
from tests.peers.proxy import Proxy


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """One server for the module."""
    broker = Kafka()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@without("test_a_lease_is_extended_while_the_engine_thinks")
class TestKafka(SourceContract):
    """The suite."""

    @pytest.fixture
    def proxy(self, broker: Kafka) -> Iterator[Proxy]:  # type: ignore[override]
        """On the port that the broker tells those who come through it."""
        with Proxy(broker.proxied_port, broker.proxy_port) as proxy:
            yield proxy

    # Rebalances

    @covers("C9")
    def test_three_share_while_one_dies_one_joins_and_a_partition_is_added(self, rig: Rig) -> None:
        """Sent = one effect each = committed, and each key in its order, whoever comes and goes."""
        topic = kafka(rig)
        rig.start_engine()
        three = [rig.sidecar().wait_ready() for _ in range(3)]
        keys = {key: [m.body for m in orders(600, 1_000 * key)] for key in range(6)}

        def send(first: int, last: int) -> None:
            rig.peer.send([Message(body=b, key=f"k{k}") for n in range(first, last) for k, b in each(keys, n)])

        send(0, 200)
        wait_until(lambda: len(rig.effects()) > 300, WITHIN_S, "effects")
        three[0].kill()
        send(200, 400)
        rig.sidecar().wait_ready()
        rig.wait_effects(2_400)
        topic.add_partitions(4)
        rig.peer.send([Message(body=order(f"new{n}"), key="") for n in range(10)])
        send(400, 600)
        rig.wait_effects(3_610)

        happened = rig.effect_order()
        for key in keys:  # until the partition was added: that moves keys, and order between two partitions is nobody's
            before = ids(400, 1_000 * key)
            assert [i for i in happened if i in set(before)] == before
        rig.finish([*(i for key in keys for i in ids(600, 1_000 * key)), *(f"new{n}" for n in range(10))])
        ends = topic.run(topic.ends())
        assert topic.committed() == {n: end for n, end in ends.items() if end}

    @covers("C15")
    def test_a_storm_of_rebalances_loses_nothing_and_never_goes_back(self, rig: Rig) -> None:
        """Members come and are killed again and again; no offset of the group ever falls."""
        topic = kafka(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        seen: dict[int, int] = {}
        sent = 0
        for _ in range(3):
            other = rig.sidecar().wait_ready()
            rig.peer.send(orders(300, sent))
            sent += 300
            wait_until(lambda n=sent: len(rig.effects()) > n - 300, WITHIN_S, "effects")  # type: ignore[misc]
            other.kill()
            now = topic.committed()
            assert {n: (at, now.get(n)) for n, at in seen.items() if now.get(n, -1) < at} == {}
            seen = now
        rig.wait_effects(sent)

        rig.finish(ids(sent))

    @covers("C16")
    def test_a_partition_taken_away_and_given_back_starts_anew(self, rig: Rig) -> None:
        """Answers that come after a rebalance commit nothing; what they were for comes again and has one effect."""
        topic = kafka(rig)
        engine = rig.small_engine()
        engine.answers = False
        first = rig.sidecar(session=SessionSettings(answer_ms=60_000)).wait_ready()
        rig.peer.send(orders(20))
        wait_until(lambda: len(engine.journal.items) == 20, WITHIN_S, "twenty submits")
        second = rig.sidecar(session=SessionSettings(answer_ms=60_000)).wait_ready()
        wait_until(lambda: first.metric("lost_lease") >= 20, WITHIN_S, "twenty given up")
        wait_until(
            lambda: first.metric("received") + second.metric("received") == 40, WITHIN_S, "all of them again"
        )  # fmt: skip

        assert topic.committed() == {}
        engine.close()
        rig.small_engine()
        rig.wait_effects(20)
        rig.finish(ids(20))

    def test_a_rebalance_waits_for_answers_under_way(self, rig: Rig) -> None:
        """When another joins, what the engine answers in time is committed, and nothing comes twice."""
        rig.start_engine()
        first = rig.sidecar().wait_ready()
        rig.peer.send(orders(3_000))
        wait_until(lambda: len(rig.effects()) > 100, WITHIN_S, "effects")
        second = rig.sidecar().wait_ready()
        rig.wait_effects(3_000)
        wait_until(lambda: first.metric("settled") + second.metric("settled") == 3_000, WITHIN_S, "settles told")

        assert first.metric("received") + second.metric("received") == 3_000
        rig.finish(ids(3_000))

    # What a log has

    @covers("C17")
    def test_aborted_transactions_have_no_effect_and_leave_no_gap(self, rig: Rig) -> None:
        """Orders of an aborted transaction are never seen; what is around them is committed past them."""
        topic = kafka(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        topic.run(topic.transact([order("kept1")], commit=True))
        topic.run(topic.transact([order("dropped")], commit=False))
        topic.run(topic.transact([order("kept2")], commit=True))
        rig.peer.send([Message(body=order("last"))])
        rig.wait_effects(3)

        rig.finish(["kept1", "kept2", "last"])

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    def test_compressed_batches_are_read(self, rig: Rig, codec: str) -> None:
        """A producer may choose any codec of Kafka."""
        topic = kafka(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        topic.run(topic.send_compressed([m.body for m in orders(20)], codec))
        rig.wait_effects(20)

        rig.finish(ids(20))

    def test_a_record_without_a_value_or_larger_than_a_fetch_blocks_nobody(self, rig: Rig) -> None:
        """A tombstone is a dead letter; what is larger than one fetch comes nevertheless."""
        rig.start_engine()
        rig.sidecar(fetch_bytes_max=64 << 10).wait_ready()
        large = order("large") + b" " * (200 << 10)
        rig.peer.send([Message(body=b""), Message(body=large), *orders(1)])
        rig.wait_effects(2)

        assert self.wait_dead(rig, 1)[0][0] == b""
        rig.finish(["large", *ids(1)])

    def test_every_outcome_goes_to_the_topic_of_results(self, rig: Rig) -> None:
        """Without being asked, with the record's key, published before its offset is committed."""
        topic = kafka(rig)
        rig.start_engine()
        rig.sidecar(results_topic=topic.reply_to, reply_to=[]).wait_ready()
        rig.peer.send([*orders(3), Message(body=b"7")])
        rig.wait_effects(3)
        self.wait_dead(rig, 1)
        rig.finish(ids(3))
        answers = [msgspec.json.decode(a) for a in rig.peer.replies()]

        assert sorted(a["client_order_id"] for a in answers if "outcome" in a) == ids(3)
        assert [a["error"]["code"] for a in answers if "error" in a] == ["FIELD"]

    # Parts

    async def test_a_stopped_partition_brings_nothing_and_the_others_go_on(
        self, peer: KafkaPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What feeds a full engine stops by itself, and comes when it is let go again (DECISIONS 39)."""
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", peer.address)
        source = KafkaSource("k", convert(peer.settings(), KafkaSettings))
        await source.open(cast("Engines", Open()))
        try:
            async with asyncio.timeout(WITHIN_S):
                await asyncio.to_thread(peer.send_to, 0, [b"a"])
                assert [d.unit for d in await source.receive(10, 10)] == ["0"]
                source.stop(frozenset({"0"}))
                await asyncio.to_thread(peer.send_to, 0, [b"b"])
                await asyncio.to_thread(peer.send_to, 1, [b"c"])
                assert [d.body for d in await source.receive(10, 10)] == [b"c"]
                source.stop(frozenset())
                assert [d.body for d in await source.receive(10, 10)] == [b"b"]
        finally:
            await source.close()
            peer.close()

    # For people

    async def test_check_says_what_would_break_a_promise(
        self, peer: KafkaPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compaction, unclean elections, too small or missing topics, sessions: each with what to do."""
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", peer.address)
        try:
            peer.make_topic(f"{peer.topic}-bad", 1, cleanup_policy="compact", unclean_leader_election_enable="true")
            peer.make_topic(f"{peer.topic}-small", 1, max_message_bytes=1_000, retention_ms=-1)
            peer.make_topic(f"{peer.topic}-good", 1, max_message_bytes=2_000_000, retention_ms=-1)
            good = await check("k", convert(peer.settings(dead_letter_topic=f"{peer.topic}-good"), KafkaSettings))
            changes = {
                "topic": f"{peer.topic}-bad", "dead_letter_topic": f"{peer.topic}-small", "results_topic": "nowhere",
                "session_timeout_ms": 1_000,
            }  # fmt: skip
            bad = await check("k", convert({**peer.settings(), **changes}, KafkaSettings))
        finally:
            peer.close()
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_ports(1)[0]}")
        away = await check("k", convert(peer.settings(), KafkaSettings))

        assert [f for f in good if f.level is Level.FAULT] == []
        assert {f.what for f in bad if f.level is Level.FAULT} == {
            "cleanup.policy", "unclean.leader.election.enable", "topic nowhere",
            f"topic {peer.topic}-small max.message.bytes",
        }  # fmt: skip
        assert [f.what for f in away if f.level is Level.FAULT] == ["connection"]

    def test_a_sidecar_without_its_topics_does_not_start(self, rig: Rig) -> None:
        """A dead letter topic that is not there is said at once, not when the first order needs it."""
        refused = rig.sidecar(dead_letter_topic="nowhere")
        wait_until(lambda: not refused.is_running, WITHIN_S, "an end")

        assert refused.server.kill() == 2
        assert "nowhere" in refused.said

    def test_dead_letters_are_listed_and_put_back_as_they_were(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listing leaves them; put back they keep their ids, also the derived one; those not asked for stay."""
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka(rig).address)
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        rig.peer.send([*orders(2), Message(body=order())])
        settings = convert(rig.peer.settings(), KafkaSettings)
        letters = KafkaLetters("k", settings)
        wait_until(lambda: len(asyncio.run(letters.list(10))) == 3, WITHIN_S, "three dead letters")
        assert refused.drain() == 0
        first, second, nameless = asyncio.run(letters.list(10))
        place = f"{settings.topic}/0/2"
        assert (first.reason, nameless.source_id, nameless.body) == ("AUTH_NOT_PERMITTED", place, order())
        done = asyncio.run(letters.replay(Replay(numbers=frozenset({second.number}), operator="ann"), 10))
        rig.sidecar().wait_ready()
        rig.wait_effects(1)

        assert [x.body for x in done] == [second.body]
        assert [x.body for x in asyncio.run(letters.list(10))] == [nameless.body, first.body]
        asyncio.run(letters.replay(Replay(operator="ann"), 10))
        derived = derive_id("kafka", "d29qYWstcGVlci1rYWZrYQ", settings.topic, "1", "0", "2")
        effects = rig.wait_effects(3)
        assert set(effects) == {"o000000", "o000001", derived}
        assert asyncio.run(letters.list(10)) == []
        rig.peer.dead()
        rig.finish(list(effects))


@pytest.mark.parametrize(
    "changes", [{"dead_letter_topic": "t"}, {"results_topic": "t"}, {"reply_to": ["t"]}, {"results_topic": "dead"}]
)
def test_settings_that_would_feed_a_topic_to_itself_are_refused(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and dead letters never go where orders come from, nor one where the other goes."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")
    given = {"topic": "t", "group": "g", "principal": "p", "dead_letter_topic": "dead", **changes}
    with pytest.raises(ConfigError):
        KafkaSource("k", convert(given, KafkaSettings))


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "MAGIC"}, "KAFKA_SASL_MECHANISM"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CAFILE": "/nowhere"}, "KAFKA_SSL_"),
    ],
)
def test_an_address_that_can_not_be_used_is_named(
    env: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variable that is missing or wrong is said by its name."""
    for name in ("BOOTSTRAP_SERVERS", "SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SSL_CAFILE"):
        monkeypatch.delenv(f"KAFKA_{name}", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    with pytest.raises(ConfigError, match=named):
        client_options("KAFKA")


def each(keys: dict[int, list[bytes]], n: int) -> Iterator[tuple[int, bytes]]:
    """Yield order ``n`` of each key."""
    for key, bodies in keys.items():
        yield key, bodies[n]


def kafka(rig: Rig) -> KafkaPeer:
    """Return the topic under the rig."""
    assert isinstance(rig.peer, KafkaPeer)
    return rig.peer


class Open:
    """Engines that take everything."""

    is_open = True

    def claim(self, units: Iterable[str], now_ns: int) -> None:
        """Let them have what they are assigned."""
