"""SNS over HTTPS: the suite of all sources with a sender of our own, and what LocalStack's SNS sends itself."""

from __future__ import annotations

import asyncio
import base64
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import convert

from protocol.errors import FieldError
from runtime.clock import wall_ns
from sidecars.core.kinds import Level, Replay
from sidecars.sources.sns_check import check
from sidecars.sources.sns_letters import SnsLetters
from sidecars.sources.sns_settings import SnsSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.peers.localstack import LocalStack, shared
from tests.peers.process import free_ports, wait_until
from tests.peers.sns import (
    PEM_PATH,
    TOPIC,
    Signer,
    SnsContract,
    SnsPeer,
    SnsSender,
    notification,
    post,
    timestamp_of,
)
from tests.peers.sqs import KEYS, SqsPeer
from tests.unit.sidecars.certificates import Authority

HOUR_NS = 3_600 * 1_000_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[SnsSender]:
    """One sender for the module."""
    broker = SnsSender()
    yield broker
    broker.end()


def peer_of(rig: Rig) -> SnsPeer:
    """Return the topic of a rig."""
    assert isinstance(rig.peer, SnsPeer)
    return rig.peer


@without(
    "test_a_broker_that_stops_is_waited_for",
    "test_a_connection_that_is_cut_again_and_again_loses_nothing",
    "test_a_dead_link_is_noticed",
    "test_a_lease_is_extended_while_the_engine_thinks",
    "test_a_slow_network_only_slows",
    "test_order_is_kept_also_across_a_crash",
    "test_the_answer_is_published_before_the_message_is_settled",
)
class TestSns(SnsContract):
    """An endpoint."""

    @covers("C5", "C6")
    def test_a_sender_that_hangs_up_is_answered_at_its_next_try(self, rig: Rig) -> None:
        """Whoever does not hear the answer posts again: one effect, and then 200."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        for n in range(20):
            posted = peer.sender.signer.sign(notification(order(f"o{n:06d}").decode(), f"gone-{n}"))
            with socket.create_connection(("127.0.0.1", peer.ports[0])) as gone:
                gone.sendall(b"POST /sns HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(posted) + posted)
            assert post(peer.ports[0], posted)[0] == 200

        rig.wait_effects(20)
        rig.finish(ids(20))

    def test_answers_go_to_their_queue_before_the_sender_hears_of_it(self, rig: Rig) -> None:
        """A sidecar that dies before it answers the post has told the queue."""
        peer = peer_of(rig)
        rig.start_engine()
        dying = rig.sidecar(reply_queue=peer.reply_to, env={"WOJAK_FAIL_POINT": "sidecar.before_settle:2"})
        peer.send([Message(body=order("a"))])
        wait_until(lambda: peer.waiting() == 0, WITHIN_S, "the first one taken")
        answer = msgspec.json.decode(peer.replies()[0])
        assert dying.is_running

        assert (answer["outcome"], answer["client_order_id"]) == ("ACCEPTED", "a")
        rig.finish(["a"])

    @covers("C13")
    def test_a_dead_letter_that_can_not_be_sent_keeps_its_message(self, rig: Rig) -> None:
        """Without its dead letter queue the sender hears 503; made again, the message goes there."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        peer.delete(peer.dead_queue)
        peer.send([Message(body=b"nonsense"), *orders(3)])
        rig.wait_effects(3)
        wait_until(lambda: "dead letter not sent" in rig.tell(), WITHIN_S, "a complaint")
        wait_until(lambda: peer.waiting() == 1, WITHIN_S, "the others settled")

        peer.create(peer.dead_queue)
        letters = self.wait_dead(rig, 1)
        assert [body for body, _ in letters] == [b"nonsense"]
        rig.finish(ids(3))

    def test_dead_letters_are_listed_and_put_back_with_the_id_they_had(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Published again, an order without an id has that of its first message, in the signed text."""
        peer = peer_of(rig)
        rig.start_engine()
        refused = rig.sidecar(principal="nobody").wait_ready()
        peer.send([Message(body=order()), *orders(1)])
        wait_until(lambda: peer.count(peer.dead_queue) == 2, WITHIN_S, "two dead letters")
        assert refused.drain() == 0
        for name, value in {**peer.env(), "AWS_ENDPOINT_URL_SNS": peer.sender.localstack.url}.items():
            monkeypatch.setenv(name, value)
        sns = peer.sender.localstack.sns
        topic = sns.create_topic(Name="orders")["TopicArn"]
        queue_arn = f"arn:aws:sqs:eu-west-1:000000000000:{peer.queue}"
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
        letters = SnsLetters("sns", convert(peer.settings(), SnsSettings))
        listed = asyncio.run(letters.list(10))
        done = asyncio.run(letters.replay(Replay(operator="ann"), 10))
        wait_until(lambda: peer.count(peer.queue) == 2, WITHIN_S, "two published")
        again = [msgspec.json.decode(m["Body"]) for m in peer._drain(peer.queue)]

        assert topic == TOPIC
        assert {x.reason for x in listed} == {"AUTH_NOT_PERMITTED"}
        assert len(done) == 2
        assert {a["client_order_id"][:4] for a in again} == {"sns-", "o000"}
        assert all(abs(wall_ns() - a["created_at_ns"]) < HOUR_NS for a in again)
        peer.put_dead("[1]")
        with pytest.raises(FieldError):
            asyncio.run(letters.replay(Replay(operator="ann"), 10))
        assert peer.dead_bodies() == [b"[1]"]

    def test_the_endpoint_speaks_https(self, rig: Rig, tmp_path: Path) -> None:
        """With a certificate of its own; plain HTTP gets no answer then."""
        peer, authority = peer_of(rig), Authority(tmp_path)
        certificate, key = authority.issue("server", "IP:127.0.0.1")
        rig.start_engine()
        rig.sidecar(certificate_file=certificate, key_file=key).wait_ready()
        posted = peer.sender.signer.sign(notification(order("tls").decode(), "tls"))
        trust = ssl.create_default_context(cafile=str(authority.file))

        with pytest.raises((OSError, http.client.HTTPException)):
            post(peer.ports[0], posted)
        assert post(peer.ports[0], posted, trust) == (200, "")
        rig.finish(["tls"])

    # C22: who may post what

    @covers("C22")
    def test_what_sns_did_not_sign_is_refused_and_nobody_is_asked_for_it(self, rig: Rig) -> None:
        """Forged, changed, unsigned, of another topic, by another's certificate, too old, too new: 4xx, no call."""
        peer = peer_of(rig)
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        port, signer, other = peer.ports[0], peer.sender.signer, Signer()
        body, asked = order("x").decode(), len(signer.asked)
        good = notification(body, "1")
        evil = f"{signer.url}@evil.example{PEM_PATH}"
        urls = [
            other.url + PEM_PATH, evil, signer.url + "/elsewhere.pem", signer.url + PEM_PATH + "?x=1",
            f"https://sns.eu-west-1.amazonaws.com.evil.example{PEM_PATH}",
            f"https://sns.us-east-1.amazonaws.com{PEM_PATH}", f"https://sns.eu-west-1.amazonaws.com:8443{PEM_PATH}",
            f"http://sns.eu-west-1.amazonaws.com{PEM_PATH}", "file:///etc/passwd", "",
        ]  # fmt: skip
        refused = {
            "TOPIC": [signer.sign({**good, "TopicArn": TOPIC + "2"})],
            "SIGNATURE_VERSION": [signer.sign(good, "1"), signer.sign({**good, "SignatureVersion": "3"})],
            "TIMESTAMP": [
                signer.sign({**good, "Timestamp": timestamp_of(wall_ns() + skew)}) for skew in (-2 * HOUR_NS, HOUR_NS)
            ] + [signer.sign({**good, "Timestamp": "now"})],
            "CERTIFICATE_URL": [signer.sign({**good, "SigningCertURL": url}) for url in urls],
        }  # fmt: skip
        for code, posts in refused.items():
            assert [post(port, p) for p in posts] == [(403, code)] * len(posts), code
        assert len(signer.asked) == asked
        assert other.asked == []

        changed = msgspec.json.decode(signer.sign(good))
        forged = [
            {**changed, "Message": order("y").decode()}, {**changed, "MessageId": "2"}, {**changed, "Subject": "z"},
            {**changed, "Signature": base64.b64encode(bytes(256)).decode()},
            {**changed, "Signature": "no base64"}, {**changed, "Signature": ""},
            msgspec.json.decode(other.sign(good)) | {"SigningCertURL": signer.url + PEM_PATH},
        ]  # fmt: skip
        assert [post(port, msgspec.json.encode(f)) for f in forged] == [(403, "SIGNATURE")] * len(forged)
        assert post(port, signer.sign(good), x_amz_sns_rawdelivery="true") == (403, "RAW")
        assert [post(port, b)[0] for b in (b"", b"7", b"\xff", b"[" * 10_000, b'{"Type":"x"}')] == [400] * 5
        assert post(port, b"x" * (2 << 20))[0] == 413
        assert signer.asked[asked:] == [PEM_PATH]
        other.close()

        assert sidecar.metric("received") == 0
        rig.finish([])

    @covers("C22")
    def test_a_post_that_comes_again_has_one_effect_whatever_stands_beside_it(self, rig: Rig) -> None:
        """What is not signed, such as attributes, makes no other order of it."""
        peer = peer_of(rig)
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        posted = msgspec.json.decode(peer.sender.signer.sign(notification(order().decode(), "again")))
        beside = {"ce-id": {"Type": "String", "Value": "2"}, "x-wojak-replay": {"Type": "String", "Value": "{}"}}
        again = [posted, posted, {**posted, "MessageAttributes": beside}]

        assert [post(peer.ports[0], msgspec.json.encode(p))[0] for p in again] == [200] * 3
        (made,) = rig.wait_effects(1)
        wait_until(lambda: sidecar.metric("settled") == 3, WITHIN_S, "three settles told")
        rig.finish([made])

    @covers("C22")
    def test_only_subscriptions_of_our_topics_are_confirmed(self, rig: Rig) -> None:
        """A confirmation for another topic, or a forged one, makes no call; the address it brings is never called."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        port, signer, trap = peer.ports[0], peer.sender.signer, Signer()
        asks = notification("You have chosen", "c", Type="SubscriptionConfirmation", Token="t", SubscribeURL=trap.url)
        foreign = signer.sign({**asks, "TopicArn": TOPIC + "2"})
        forged = msgspec.json.encode({**msgspec.json.decode(signer.sign(asks)), "Token": "u"})

        assert [post(port, foreign), post(port, forged)] == [(403, "TOPIC"), (403, "SIGNATURE")]
        assert "POST /" not in signer.asked
        assert post(port, signer.sign(asks)) == (503, "NOT_CONFIRMED")  # our signer confirms nothing
        assert "POST /" in signer.asked
        assert trap.asked == []
        trap.close()
        rig.finish([])

    def test_a_certificate_that_can_not_be_had_is_asked_for_once(self, rig: Rig) -> None:
        """Whoever names files that are not there makes no flood of calls: 503, and later again."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        signer = peer.sender.signer
        missing = "/SimpleNotificationService-00000000000000aa.pem"
        posted = signer.sign({**notification(order("x").decode(), "1"), "SigningCertURL": signer.url + missing})

        assert [post(peer.ports[0], posted) for _ in range(20)] == [(503, "CERTIFICATE")] * 20
        assert signer.asked.count(missing) == 1
        rig.finish([])


# LocalStack's own SNS


class Pushed(SqsPeer):
    """A topic of LocalStack that pushes to a sidecar."""

    kind = "sns"

    def __init__(self, localstack: LocalStack, name: str, version: str) -> None:
        self.localstack = localstack
        self.client = localstack.sqs
        super().__init__(self, name)  # type: ignore[arg-type]  # all that is asked of a broker is there
        attributes = {"SignatureVersion": version}
        self.topic = str(localstack.sns.create_topic(Name=name, Attributes=attributes)["TopicArn"])
        (self.listens,) = free_ports(1)
        self.version = version
        self.endpoint = f"http://127.0.0.1:{self.listens}/sns"

    def env(self, port: int | None = None) -> dict[str, str]:
        """Return credentials and address as boto3 reads them."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.localstack.url}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of the sidecar."""
        return {
            "topics": [self.topic], "principal": "bench", "dead_letter_queue": self.dead_queue, "port": self.listens,
            "signature_versions": [self.version], "endpoint": self.endpoint, **changes,
        }  # fmt: skip

    def subscribe(self) -> None:
        """Subscribe the sidecar, and wait until it has confirmed."""
        self.localstack.sns.subscribe(TopicArn=self.topic, Protocol="http", Endpoint=self.endpoint)
        wait_until(lambda: self.subscription.startswith("arn:"), WITHIN_S, "a confirmed subscription")

    @property
    def subscription(self) -> str:
        """The ARN of the subscription, or what stands there until it is confirmed."""
        found = self.localstack.sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]
        return str(found[0]["SubscriptionArn"]) if found else ""

    def publish(self, body: bytes) -> None:
        """Publish."""
        self.localstack.sns.publish(TopicArn=self.topic, Message=body.decode(), Subject="an order")

    def waiting(self) -> int:
        """Return none: LocalStack posts once."""
        return 0

    def left(self) -> list[bytes]:
        """Return none likewise."""
        return []


@covers("C22")
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_topic_is_confirmed_and_its_orders_are_taken(tmp_path: Path, version: str) -> None:
    """SNS as LocalStack speaks it: confirmation, both signatures, subject, its own certificate; poison is parked."""
    peer = Pushed(shared(), f"pushed-{version}", version)
    rig = Rig(tmp_path, peer)
    try:
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        peer.subscribe()

        def arrives() -> bool:  # LocalStack calls a subscription confirmed some moments before it posts to it
            peer.publish(order("o000000"))
            return bool(rig.effects())

        wait_until(arrives, WITHIN_S, lambda: f"a first order; {sidecar.said}")
        for n in range(1, 5):
            peer.publish(order(f"o{n:06d}"))
        peer.publish(order())
        peer.publish(b"nonsense")
        effects = rig.wait_effects(6)
        (derived,) = set(effects) - set(ids(5))
        wait_until(lambda: peer.count(peer.dead_queue) == 1, WITHIN_S, lambda: f"a dead letter; {sidecar.said}")

        assert derived.startswith("sns-")
        rig.finish([*ids(5), derived], dead=1)
    finally:
        rig.close()


def test_check_says_what_would_break_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signature version, subscription, its dead letter queue, plain HTTP: each with what to do."""
    peer = Pushed(shared(), "looked-at", "2")
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)

    def look(**changes: object) -> dict[str, Level]:
        found: dict[str, Level] = {}
        for finding in asyncio.run(check("sns", convert(peer.settings(**changes), SnsSettings))):
            found[finding.what] = max(found.get(finding.what, Level.FINE), finding.level)
        return found

    sns, subscription = peer.localstack.sns, f"{peer.topic}: subscription"
    nobody = look()
    sns.subscribe(TopicArn=peer.topic, Protocol="https", Endpoint="https://127.0.0.1:9/sns")
    pending = look(endpoint="https://127.0.0.1:9/sns")
    wrong = look(signature_versions=["1"], dead_letter_queue="nowhere", topics=[peer.topic, peer.topic + "-gone"])

    assert (nobody[subscription], pending[subscription]) == (Level.FAULT, Level.FAULT)
    assert look(endpoint="")[subscription] is Level.ADVICE
    assert {what for what, level in wrong.items() if level is Level.FAULT} == {
        f"{peer.topic}: SignatureVersion", f"topic {peer.topic}-gone", "queue nowhere", subscription,
    }  # fmt: skip
