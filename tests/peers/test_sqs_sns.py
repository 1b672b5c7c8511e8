"""SNS before SQS: envelopes as a topic makes them (moto), and many of them (our own sender on ElasticMQ)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import convert

from runtime.clock import wall_ns
from sidecars.core.kinds import Level
from sidecars.sources.sqs_check import check
from sidecars.sources.sqs_settings import SqsSettings
from tests.conformance.cases import covers, ids
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.peers.moto import Moto, SnsPeer
from tests.peers.process import wait_until
from tests.peers.sqs import ElasticMq, SqsPeer

TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
MANY = 2_000


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    """One server for the module."""
    moto = Moto()
    try:
        moto.start()
        yield moto
    finally:
        moto.end()


def rig_of(folder: Path, peer: SqsPeer) -> Iterator[Rig]:
    """Yield an engine's place and sidecars on a queue."""
    rig = Rig(folder, peer)
    yield rig
    rig.close()


@pytest.fixture
def wrapped(tmp_path: Path, moto: Moto) -> Iterator[Rig]:
    """A queue whose topic wraps what it delivers."""
    yield from rig_of(tmp_path, SnsPeer(moto, f"wrapped-{tmp_path.name}"[:60]))


@pytest.fixture
def raw(tmp_path: Path, moto: Moto) -> Iterator[Rig]:
    """A queue whose topic delivers raw."""
    yield from rig_of(tmp_path, SnsPeer(moto, f"raw-{tmp_path.name}"[:60], is_raw=True))


def dead(rig: Rig, count: int) -> list[str]:
    """Wait for so many dead letters; return their reasons."""
    queue = rig.peer
    assert isinstance(queue, SqsPeer)
    wait_until(lambda: queue.count(queue.dead_queue) == count, WITHIN_S, lambda: f"{count} dead letters; {rig.tell()}")
    return [letter.reason for letter in queue.dead()]


@covers("C26")
def test_what_a_topic_wraps_is_opened(wrapped: Rig) -> None:
    """Order, id, attributes and answer address come out of the envelope; the id is the topic's, not the queue's."""
    wrapped.start_engine()
    wrapped.sidecar().wait_ready()
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/desk", "ce-type": "order"}
    wrapped.peer.send(
        [
            Message(body=order("named"), reply_to=wrapped.peer.reply_to),
            Message(body=order()),
            Message(body=order("event"), headers=event, content_type="application/json"),
        ]
    )
    effects = wrapped.wait_effects(3)

    (derived,) = set(effects) - {"named", "event"}
    assert derived.startswith("sns-")
    wrapped.finish(["named", "event", derived])
    assert [msgspec.json.decode(body)["client_order_id"] for body in wrapped.peer.replies()] == ["named"]


@covers("C26")
def test_what_a_topic_delivers_raw_is_taken_as_it_is(raw: Rig) -> None:
    """Without an envelope the body is the order, and the attributes are the message's."""
    raw.start_engine()
    raw.sidecar(envelope="none", topics=[]).wait_ready()
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/desk", "ce-type": "order"}
    raw.peer.send([Message(body=order("a")), Message(body=order("b"), headers=event, content_type="application/json")])
    raw.wait_effects(2)

    raw.finish(["a", "b"])


@covers("C26")
def test_an_envelope_that_was_not_declared_is_refused(wrapped: Rig) -> None:
    """It is not guessed from the body: a dead letter that says what an order is."""
    wrapped.start_engine()
    wrapped.sidecar(envelope="none", topics=[]).wait_ready()
    wrapped.peer.send([Message(body=order("x"))])

    assert dead(wrapped, 1)[0].startswith("FIELD: ")
    wrapped.finish([])


@covers("C26")
def test_a_missing_envelope_is_refused(raw: Rig) -> None:
    """An order as it is, where one in an envelope was declared, is a dead letter too."""
    raw.start_engine()
    raw.sidecar().wait_ready()
    raw.peer.send([Message(body=order("x"))])

    assert dead(raw, 1)[0].startswith("ENVELOPE: ")
    raw.finish([])


@covers("C26")
def test_another_topic_is_refused(wrapped: Rig) -> None:
    """Only the topics that the settings name speak for the principal."""
    wrapped.start_engine()
    wrapped.sidecar(topics=[TOPIC]).wait_ready()
    wrapped.peer.send([Message(body=order("x"))])

    assert dead(wrapped, 1)[0].startswith("ENVELOPE: TopicArn")
    wrapped.finish([])


def test_check_says_what_would_break_a_promise(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention, redrive, missing queues: each with what to do; a good queue has no fault."""
    peer = SqsPeer(moto, "looked-at")  # type: ignore[arg-type]  # all that is asked of a broker is there
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)
    dead_arn = moto.client.get_queue_attributes(QueueUrl=peer.url(peer.dead_queue), AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": dead_arn["Attributes"]["QueueArn"], "maxReceiveCount": "50"}
    peer.create("good", {"RedrivePolicy": msgspec.json.encode(policy).decode()})
    few = msgspec.json.encode({**policy, "maxReceiveCount": 2}).decode()
    peer.create("bad", {"RedrivePolicy": few, "MessageRetentionPeriod": "3600"})
    moto.client.set_queue_attributes(
        QueueUrl=peer.url(peer.dead_queue), Attributes={"MessageRetentionPeriod": "1209600"}
    )

    def look(**changes: object) -> dict[str, Level]:
        settings = convert(peer.settings(visibility_s=30, **changes), SqsSettings)
        return {f.what: f.level for f in asyncio.run(check("sqs", settings))}

    good, bad, gone = look(queue="good"), look(queue="bad"), look(queue="good", dead_letter_queue="nowhere")

    assert [what for what, level in good.items() if level is not Level.FINE] == []
    assert {what for what, level in bad.items() if level is Level.FAULT} == {"RedrivePolicy", "MessageRetentionPeriod"}
    assert gone["queue nowhere"] is Level.FAULT
    assert look(queue="nowhere") == {"encryption": Level.FINE, "queue nowhere": Level.FAULT}


class WrappingPeer(SqsPeer):
    """A queue of ElasticMQ; what is sent is wrapped here as SNS wraps it."""

    def settings(self, **changes: object) -> dict[str, object]:
        """Return the settings of a sidecar that opens envelopes."""
        return super().settings(**{"envelope": "sns", "topics": [TOPIC], "in_flight": 500, **changes})

    def _entry(self, message: Message) -> dict[str, object]:
        entry = super()._entry(message)
        envelope = {
            "Type": "Notification", "MessageId": f"inner-{self._sent}", "TopicArn": TOPIC,
            "Message": entry["MessageBody"], "Timestamp": "2026-08-24T09:15:02.114Z", "SignatureVersion": "1",
        }  # fmt: skip
        return {"MessageBody": msgspec.json.encode(envelope).decode()}


def test_many_wrapped_orders_are_each_decided_once(tmp_path: Path) -> None:
    """Sent = one effect each = settled, the envelope's time being the order's unless it has its own."""
    broker = ElasticMq()
    try:
        broker.start()
        peer = WrappingPeer(broker, "many")
        for rig in rig_of(tmp_path, peer):
            rig.start_engine()
            rig.sidecar().wait_ready()
            now = [Message(body=order(m.message_id.replace("m", "o"), created_at_ns=wall_ns())) for m in orders(MANY)]
            peer.send(now)
            rig.wait_effects(MANY)
            rig.finish(ids(MANY))
    finally:
        broker.end()
