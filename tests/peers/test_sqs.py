"""SQS: the suite of all sources against a server that speaks it, and what only this source does; standard queues.

FIFO queues: test_sqs_fifo.py. SNS before SQS: test_sqs_sns.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import convert

from protocol.errors import FieldError
from sidecars.core.kinds import Replay
from sidecars.core.letters import REPLAYED, Replayed
from sidecars.sources.sqs_letters import BY_SQS, SqsLetters
from sidecars.sources.sqs_settings import SqsSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.peers.process import wait_until
from tests.peers.sqs import ElasticMq, SqsContract, SqsPeer


@pytest.fixture(scope="module")
def broker() -> Iterator[ElasticMq]:
    """One server for the module."""
    broker = ElasticMq()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@pytest.fixture
def letters(peer: SqsPeer, monkeypatch: pytest.MonkeyPatch) -> SqsLetters:
    """The dead letters of the queue, as the command sees them."""
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)
    return SqsLetters("sqs", convert(peer.settings(), SqsSettings))


@without("test_order_is_kept_also_across_a_crash")
class TestSqs(SqsContract):
    """A standard queue."""

    def test_what_the_engine_does_not_take_stays_away_and_comes_again(self, rig: Rig) -> None:
        """Held too long it is given back with a delay, and is decided at a later receive."""
        engine = rig.small_engine()
        engine.holds_risk = True
        sidecar = rig.sidecar(hold_ms=100, retry_s=2).wait_ready()
        rig.peer.send(orders(10))
        wait_until(lambda: sidecar.metric("handed_back") >= 10, WITHIN_S, "ten given back")
        engine.holds_risk = False
        rig.wait_effects(10)

        assert sidecar.metric("lost_lease") == 0
        rig.finish(ids(10))

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
    def test_a_dead_letter_that_can_not_be_sent_keeps_its_message(self, rig: Rig) -> None:
        """Without its dead letter queue nothing is deleted; made again, the message goes there."""
        queue = rig.peer
        assert isinstance(queue, SqsPeer)
        rig.start_engine()
        rig.sidecar().wait_ready()
        queue.delete(queue.dead_queue)
        queue.send([Message(body=b"nonsense"), *orders(3)])
        rig.wait_effects(3)
        wait_until(lambda: "dead letter not sent" in rig.tell(), WITHIN_S, "a complaint")
        wait_until(lambda: queue.waiting() == 1, WITHIN_S, "the others settled")

        queue.create(queue.dead_queue)
        assert [body for body, _ in self.wait_dead(rig, 1)] == [b"nonsense"]
        rig.finish(ids(3))

    def test_attributes_pass_to_the_dead_letters_also_when_there_are_ten(self, rig: Rig, letters: SqsLetters) -> None:
        """SQS takes ten attributes: the original's are kept all the same, beside the reason."""
        queue = rig.peer
        assert isinstance(queue, SqsPeer)
        rig.start_engine()
        rig.sidecar().wait_ready()
        queue.send([Message(body=b"nonsense", headers={f"h{n}": str(n) for n in range(10)})])
        wait_until(lambda: queue.count(queue.dead_queue) == 1, WITHIN_S, "a dead letter")
        (letter,) = asyncio.run(letters.list(10))

        assert {n: v for n, v in letter.headers.items() if n.startswith("h")} == {f"h{n}": str(n) for n in range(10)}
        assert len(queue.dead()) == 1
        rig.finish([])

    def test_dead_letters_are_listed_and_put_back_as_they_were(self, rig: Rig, letters: SqsLetters) -> None:
        """Listing leaves them; put back, an order keeps its id though SQS gives the message a new one."""
        queue = rig.peer
        assert isinstance(queue, SqsPeer)
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        queue.send([*orders(2), Message(body=order())])
        wait_until(lambda: queue.count(queue.dead_queue) == 3, WITHIN_S, "three dead letters")
        assert refused.drain() == 0
        listed = asyncio.run(letters.list(10))
        nameless = next(x for x in listed if b"client_order_id" not in x.body)
        asyncio.run(letters.replay(Replay(numbers=frozenset({nameless.number}), operator="ann"), 10))
        last = rig.sidecar().wait_ready()
        (made,) = rig.wait_effects(1)
        again = msgspec.json.encode(Replayed(nameless.source_id, 0)).decode()
        queue.send([Message(body=nameless.body, headers={REPLAYED: again})])
        asyncio.run(letters.replay(Replay(operator="ann", restamp=True), 10))
        rig.wait_effects(3)
        wait_until(lambda: last.metric("settled") == 4, WITHIN_S, "four settles told")

        assert {x.reason for x in listed} == {"AUTH_NOT_PERMITTED"}
        assert [x.number for x in listed] == [1, 2, 3]
        assert made.startswith("sqs-")
        rig.finish([made, *ids(2)])

    def test_what_can_not_be_changed_is_said(self, rig: Rig, letters: SqsLetters) -> None:
        """A new id needs a body that is one order: else the person is told, and the letter stays."""
        queue = rig.peer
        assert isinstance(queue, SqsPeer)
        queue.put_dead("[1]")
        with pytest.raises(FieldError):
            asyncio.run(letters.replay(Replay(operator="ann", new_id=True), 10))

        assert [(x.body, x.reason) for x in asyncio.run(letters.list(10))] == [(b"[1]", BY_SQS)]
        assert queue.waiting() == 0
