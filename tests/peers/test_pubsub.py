"""Pub/Sub: the suite of all sources against Google's own fake, and what only this source does; ordered subscriptions.

Exactly-once delivery: test_pubsub_once.py. Push: test_pubsub_push.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import convert

from protocol.errors import FieldError
from sidecars.core.kinds import Level, Replay
from sidecars.core.letters import REPLAYED, Replayed
from sidecars.sources.pubsub_check import check
from sidecars.sources.pubsub_letters import BY_PUBSUB, PubSubLetters
from sidecars.sources.pubsub_settings import PubSubSettings
from tests.conformance.cases import covers, ids
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.conformance.source import SourceContract
from tests.peers.process import wait_until
from tests.peers.pubsub import PubSub, PubSubPeer


@pytest.fixture(scope="module")
def broker() -> Iterator[PubSub]:
    """One server for the module."""
    broker = PubSub()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@pytest.fixture
def letters(peer: PubSubPeer, monkeypatch: pytest.MonkeyPatch) -> PubSubLetters:
    """The dead letters of the subscription, as the command sees them."""
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)
    return PubSubLetters("pubsub", convert(peer.settings(), PubSubSettings))


class TestPubSub(SourceContract):
    """The suite."""

    @covers("C7")
    def test_what_a_frozen_sidecar_held_is_decided_once_and_not_given_back_by_it(self, rig: Rig) -> None:
        """Frozen for longer than its lease, it gives up what it had when it wakes: another has long had it."""
        engine = rig.small_engine()
        engine.answers = False
        frozen = rig.sidecar().wait_ready()
        rig.peer.send(orders(5))
        wait_until(lambda: len(engine.journal.items) == 5, WITHIN_S, "five submits")
        frozen.freeze()
        engine.answers = True
        other = rig.sidecar().wait_ready()
        wait_until(lambda: other.metric("settled", result="ok") == 5, WITHIN_S, "five settles by the other")
        frozen.thaw()
        wait_until(lambda: frozen.metric("lost_lease") >= 5, WITHIN_S, "five leases given up")

        assert frozen.metric("handed_back") == 0
        rig.finish(ids(5))

    @covers("C13")
    def test_a_dead_letter_that_can_not_be_published_keeps_its_message(self, rig: Rig) -> None:
        """Without its dead letter topic nothing is acknowledged; made again, the message goes there."""
        peer = rig.peer
        assert isinstance(peer, PubSubPeer)
        rig.start_engine()
        rig.sidecar().wait_ready()
        peer.delete(peer.dead_topic)
        peer.send([Message(body=b"nonsense"), *orders(3)])
        rig.wait_effects(3)
        wait_until(lambda: "dead letter not published" in rig.tell(), WITHIN_S, "a complaint")
        wait_until(lambda: peer.waiting() == 1, WITHIN_S, "the others settled")

        peer.create(peer.dead_topic)
        assert [body for body, _ in self.wait_dead(rig, 1)] == [b"nonsense"]
        rig.finish(ids(3))

    def test_every_outcome_is_published_where_the_source_says(self, rig: Rig) -> None:
        """With a results topic each order has an answer there, in the end a duplicate too."""
        peer = rig.peer
        assert isinstance(peer, PubSubPeer)
        peer.create(f"{peer.topic}-results")
        rig.start_engine()
        rig.sidecar(results_topic=f"{peer.topic}-results").wait_ready()
        peer.send([*orders(3), orders(1)[0]])
        wait_until(lambda: peer.waiting() == 0, WITHIN_S, "all settled")
        answers = [msgspec.json.decode(m.data) for m in peer.drain(f"{peer.topic}-results")]

        assert sorted(a["client_order_id"] for a in answers) == ["o000000", *ids(3)]
        assert {a["outcome"] for a in answers} <= {"ACCEPTED", "DUPLICATE"}
        rig.finish(ids(3))

    def test_a_subscription_that_is_not_there_stops_the_start(self, rig: Rig) -> None:
        """The process ends with one line that says what to look at, and does not try for ever."""
        rig.start_engine()
        sidecar = rig.sidecar(subscription="nowhere")
        wait_until(lambda: not sidecar.is_running, WITHIN_S, "an end")

        assert sidecar.server.kill() == 2
        assert "wojak sidecar check" in sidecar.said

    def test_dead_letters_are_listed_and_put_back_as_they_were(self, rig: Rig, letters: PubSubLetters) -> None:
        """Listing leaves them; put back, an order keeps its id though Pub/Sub gives the message a new one."""
        peer = rig.peer
        assert isinstance(peer, PubSubPeer)
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        peer.send([*(Message(body=m.body, key="k", headers={"h": "1"}) for m in orders(2)), Message(body=order())])
        wait_until(lambda: peer.count(peer.dead_topic) == 3, WITHIN_S, "three dead letters")
        assert refused.drain() == 0
        listed = asyncio.run(letters.list(10))
        nameless = next(x for x in listed if b"client_order_id" not in x.body)
        asyncio.run(letters.replay(Replay(numbers=frozenset({nameless.number}), operator="ann"), 10))
        last = rig.sidecar().wait_ready()
        (made,) = rig.wait_effects(1)
        again = msgspec.json.encode(Replayed(nameless.source_id, 0)).decode()
        peer.send([Message(body=nameless.body, headers={REPLAYED: again})])
        asyncio.run(letters.replay(Replay(operator="ann", restamp=True), 10))
        rig.wait_effects(3)
        wait_until(lambda: last.metric("settled") == 4, WITHIN_S, "four settles told")

        assert {x.reason for x in listed} == {"AUTH_NOT_PERMITTED"}
        assert [x.number for x in listed] == [1, 2, 3]
        assert [x.headers for x in listed if x is not nameless] == [{"h": "1", "ordering_key": "k"}] * 2
        assert made.startswith("pubsub-")
        rig.finish([made, *ids(2)])

    def test_what_can_not_be_changed_is_said(self, rig: Rig, letters: PubSubLetters) -> None:
        """A new id needs a body that is one order: else the person is told, and the letter stays."""
        peer = rig.peer
        assert isinstance(peer, PubSubPeer)
        peer.publish(peer.dead_topic, b"[1]", {})
        with pytest.raises(FieldError):
            asyncio.run(letters.replay(Replay(operator="ann", new_id=True), 10))

        assert [(x.body, x.reason) for x in asyncio.run(letters.list(10))] == [(b"[1]", BY_PUBSUB)]
        assert peer.waiting() == 0

    def test_check_says_what_would_break_a_promise(self, peer: PubSubPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Missing places, another topic, dead letters that nobody keeps: each with what to do."""
        for name, value in peer.env().items():
            monkeypatch.setenv(name, value)
        try:
            peer.create(f"{peer.topic}-short", ack_deadline_seconds=10)
            good = asyncio.run(check("p", convert(peer.settings(), PubSubSettings)))
            other = asyncio.run(check("p", convert(peer.settings(subscription=f"{peer.topic}-short"), PubSubSettings)))
            gone = asyncio.run(
                check("p", convert(peer.settings(subscription="gone", dead_letter_subscription="none"), PubSubSettings))
            )
        finally:
            peer.close()

        assert [f for f in good if f.level is Level.FAULT] == []
        assert {f.what for f in other if f.level is Level.FAULT} == {"topic"}
        assert "enable_message_ordering" in {f.what for f in other if f.level is Level.ADVICE}
        faults = {f.what for f in gone if f.level is Level.FAULT}
        assert {what.split("/")[-1] for what in faults} == {"gone", "none"}
        assert all(what.startswith("subscription ") for what in faults)
