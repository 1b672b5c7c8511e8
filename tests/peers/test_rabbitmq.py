"""RabbitMQ: the suite of all sources against a real server, and what only this broker does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from msgspec import convert

from protocol.errors import FieldError
from sidecars.core.kinds import Level, Replay
from sidecars.sources.rabbitmq_check import check
from sidecars.sources.rabbitmq_letters import RabbitMqLetters
from sidecars.sources.rabbitmq_settings import RabbitMqSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.conformance.source import SourceContract
from tests.peers.process import wait_until
from tests.peers.rabbitmq import RabbitMq, RabbitMqPeer


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMq]:
    """One server for the module."""
    broker = RabbitMq()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@without("test_a_lease_is_extended_while_the_engine_thinks")
class TestRabbitMq(SourceContract):
    """The suite."""

    @covers("C20")
    def test_a_cancelled_consumer_comes_back(self, rig: Rig) -> None:
        """The broker cancels the consumer when its queue is deleted; made anew it is consumed again."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        queue = rig.peer
        assert isinstance(queue, RabbitMqPeer)
        rig.peer.send(orders(5))
        rig.wait_effects(5)
        wait_until(lambda: sidecar.metric("settled") == 5, WITHIN_S, "five settles told")
        queue.delete()
        wait_until(lambda: "broker" in sidecar.ask("/readyz")[1], WITHIN_S, "not ready for want of a queue")
        queue.declare()
        rig.peer.send([Message(body=order(f"n{n}"), message_id=f"n{n}") for n in range(5)])
        rig.wait_effects(10)

        rig.finish([*ids(5), *(f"n{n}" for n in range(5))])

    def test_what_the_engine_does_not_take_waits_in_the_retry_queue(self, rig: Rig) -> None:
        """Held too long it goes there, confirmed, and comes back when its time is over."""
        engine = rig.small_engine()
        engine.holds_risk = True
        queue = rig.peer
        assert isinstance(queue, RabbitMqPeer)
        queue.declare_retry(ttl_ms=500)
        sidecar = rig.sidecar(retry_queue=queue.retry_queue, hold_ms=100).wait_ready()
        rig.peer.send(orders(10))
        wait_until(lambda: sidecar.metric("handed_back") >= 10, WITHIN_S, "ten given back")
        engine.holds_risk = False
        rig.wait_effects(10)

        rig.finish(ids(10))

    def test_what_takes_nearly_the_consumer_time_out_is_given_up_and_comes_again(self, rig: Rig) -> None:
        """Before the broker's time is over the channel is closed; the order is decided once and settled later."""
        engine = rig.small_engine()
        engine.answers = False
        sidecar = rig.sidecar(consumer_timeout_ms=2_000).wait_ready()
        rig.peer.send(orders(5))
        wait_until(lambda: sidecar.metric("lost_lease") >= 5, WITHIN_S, "five leases given up")
        wait_until(lambda: sidecar.metric("redelivered") >= 5, WITHIN_S, "five redelivered")
        engine.close()
        rig.small_engine()
        rig.wait_effects(5)
        wait_until(lambda: sidecar.metric("settled", result="ok") >= 5, WITHIN_S, "five settles told")

        rig.finish(ids(5))

    async def test_check_says_what_would_break_a_promise(
        self, peer: RabbitMqPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Queue type, limits, missing queues: each with what to do; a good queue has no fault."""
        monkeypatch.setenv("AMQP_URL", peer.env()["AMQP_URL"])
        try:
            peer.declare_other("good", {"x-queue-type": "quorum", "x-delivery-limit": 50, "x-dead-letter-exchange": "",
                                        "x-dead-letter-routing-key": peer.dead_queue, "x-overflow": "reject-publish",
                                        "x-dead-letter-strategy": "at-least-once"})  # fmt: skip
            peer.declare_other("classic", {"x-message-ttl": 1000, "x-max-length": 5})
            good = await check("mq", convert(peer.settings(queue=f"{peer.queue}-good"), RabbitMqSettings))
            bad = await check("mq", convert(peer.settings(queue=f"{peer.queue}-classic"), RabbitMqSettings))
            gone = await check("mq", convert(peer.settings(dead_letter_queue="nowhere"), RabbitMqSettings))
        finally:
            peer.close()

        assert [f for f in good if f.level is not Level.FINE] == []
        assert {f.what for f in bad if f.level is Level.FAULT} == {"x-queue-type", "x-message-ttl", "x-overflow"}
        assert "queue nowhere" in {f.what for f in gone if f.level is Level.FAULT}

    def test_dead_letters_are_listed_and_put_back_as_they_were(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listing leaves them; put back with its id an order is decided once; without an id a person must say so."""
        monkeypatch.setenv("AMQP_URL", rig.peer.env()["AMQP_URL"])
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        rig.peer.send([*orders(2), Message(body=order())])
        settings = convert(rig.peer.settings(), RabbitMqSettings)
        letters = RabbitMqLetters("mq", settings)
        wait_until(lambda: len(asyncio.run(letters.list(10))) == 3, WITHIN_S, "three dead letters")
        assert refused.drain() == 0
        nameless, first, second = sorted(asyncio.run(letters.list(10)), key=lambda x: x.source_id)
        with pytest.raises(FieldError):
            asyncio.run(letters.replay(Replay(numbers=frozenset({nameless.number}), operator="ann"), 10))
        asyncio.run(letters.replay(Replay(numbers=frozenset({first.number}), operator="ann"), 10))
        rig.sidecar().wait_ready()
        rig.wait_effects(1)

        assert (first.source_id, second.source_id, nameless.source_id) == ("m000000", "m000001", "")
        assert first.reason == "AUTH_NOT_PERMITTED"
        assert nameless.reason.startswith("FIELD: client_order_id")
        assert {x.source_id for x in asyncio.run(letters.list(10))} == {"m000001", ""}
        asyncio.run(letters.replay(Replay(operator="ann", new_id=True), 10))
        effects = rig.wait_effects(3)
        (made,) = (i for i in effects if i.startswith("amqp-"))
        rig.finish(["o000000", made, *(i for i in effects if i.startswith("replay-"))])
