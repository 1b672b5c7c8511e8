"""Pub/Sub that pushes: the suite of all sources with a sender of our own, and who is let in and who is not."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator

import pytest
from msgspec import convert

from runtime.clock import wall_ns
from sidecars.core.kinds import Level, Replay
from sidecars.sources.pubsub_letters import PubSubLetters
from sidecars.sources.pubsub_push_check import check
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.conformance.source import SourceContract
from tests.peers.process import wait_until
from tests.peers.pubsub import subscription_path
from tests.peers.pubsub_push import NS_PER_S, PushPeer, PushSender, push, pushed

HOUR_S = 3_600


@pytest.fixture(scope="module")
def broker() -> Iterator[PushSender]:
    """One sender for the module."""
    broker = PushSender()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


def peer_of(rig: Rig) -> PushPeer:
    """Return the topic of a rig."""
    assert isinstance(rig.peer, PushPeer)
    return rig.peer


def body_of(peer: PushPeer, client_order_id: str, message_id: str) -> bytes:
    """Return what is pushed of an order."""
    return pushed(Message(body=order(client_order_id)), message_id, subscription_path(peer.topic))


@without(
    "test_a_broker_that_stops_is_waited_for",
    "test_a_connection_that_is_cut_again_and_again_loses_nothing",
    "test_a_dead_link_is_noticed",
    "test_a_lease_is_extended_while_the_engine_thinks",
    "test_a_slow_network_only_slows",
    "test_order_is_kept_also_across_a_crash",
)
class TestPubSubPush(SourceContract):
    """An endpoint."""

    @covers("C5", "C6")
    def test_a_sender_that_hangs_up_is_answered_at_its_next_try(self, rig: Rig) -> None:
        """Whoever does not hear the answer pushes again: one effect, and then 200."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        token = peer.signer.token()
        for n in range(20):
            body = body_of(peer, f"o{n:06d}", f"gone-{n}")
            head = f"POST /pubsub HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}"
            with socket.create_connection(("127.0.0.1", peer.ports[0])) as gone:
                gone.sendall(head.encode() + b"\r\n\r\n" + body)
            assert push(peer.ports[0], body, token)[0] == 200

        rig.finish(ids(20))

    @covers("C23")
    def test_who_is_not_the_one_account_is_refused(self, rig: Rig) -> None:
        """No token, another's, for another, over, of the future, unsigned, of no key: 401 or 403, and no effect."""
        peer = peer_of(rig)
        rig.start_engine()
        rig.sidecar().wait_ready()
        port, signer, now_s = peer.ports[0], peer.signer, wall_ns() // NS_PER_S
        body = body_of(peer, "o000000", "1")
        good = signer.token()
        refused = {
            "no token": (None, 401),
            "no JWT": ("x", 401),
            "wrong aud": (signer.token(aud="https://orders.example/other"), 401),
            "no aud": (signer.token(aud=None), 401),
            "wrong email": (signer.token(email="eve@desk.iam.gserviceaccount.com"), 403),
            "email not verified": (signer.token(email_verified=False), 403),
            "no email": (signer.token(email=None), 403),
            "wrong iss": (signer.token(iss="https://issuer.example"), 403),
            "over": (signer.token(iat=now_s - 2 * HOUR_S, exp=now_s - HOUR_S), 401),
            "of the future": (signer.token(iat=now_s + HOUR_S, exp=now_s + 2 * HOUR_S), 401),
            "unsigned": (signer.token(algorithm="none"), 401),
            "of another algorithm": (signer.token(algorithm="HS256"), 401),
            "of no key": (signer.token(key_id="nobody's"), 401),
            "changed": (good[:-8] + ("AAAAAAAA" if not good.endswith("AAAAAAAA") else "BBBBBBBB"), 401),
        }
        answers = {name: push(port, body, token)[0] for name, (token, _) in refused.items()}

        assert answers == {name: status for name, (_, status) in refused.items()}
        other = pushed(Message(body=order("o000001")), "2", subscription_path("other"))
        assert push(port, other, good) == (403, "SUBSCRIPTION")
        assert push(port, b"{}", good) == (400, "ENVELOPE")
        assert push(port, body, good, path="/elsewhere")[0] == 404
        assert push(port, body, good)[0] == 200
        rig.finish(ids(1))

    @covers("C23")
    def test_keys_are_fetched_anew_when_google_has_others(self, rig: Rig) -> None:
        """A key that is not known has them fetched, once in a while; without an answer those that are known go on."""
        peer = peer_of(rig)
        signer = peer.signer
        tokens = (signer.token(sub=str(n)) for n in itertools.count())
        signer.max_age_s = 0
        try:
            rig.start_engine()
            rig.sidecar().wait_ready()
            port, body = peer.ports[0], body_of(peer, "o000000", "1")
            statuses = {push(port, body, next(tokens))[0]}
            signer.is_away, asked = True, signer.asked
            while signer.asked == asked and len(statuses) == 1:
                statuses.add(push(port, body, next(tokens))[0])
            statuses.add(push(port, body, next(tokens))[0])
            signer.is_away, old = False, next(tokens)
            signer.rotate("k2")
            asked = signer.asked
            refused = {push(port, body_of(peer, "o000001", "2"), next(tokens))[0] for _ in range(20)}
            asked_then = signer.asked
            wait_until(
                lambda: push(port, body_of(peer, "o000001", "2"), next(tokens))[0] == 200, WITHIN_S, "the new key"
            )
        finally:
            signer.max_age_s, signer.is_away = HOUR_S, False

        assert statuses == {200}
        assert (refused, asked_then) == ({401}, asked)  # nobody can have us ask for keys as often as they like
        assert push(port, body, old)[0] == 401
        rig.finish(ids(2))

    @covers("C13")
    def test_a_dead_letter_that_can_not_be_published_keeps_its_message(self, rig: Rig) -> None:
        """Without its topic the push is not answered 200, and the sidecar says so; made again, both come right."""
        peer = peer_of(rig)
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        peer.delete(peer.dead_topic)
        peer.send([Message(body=b"nonsense"), *orders(3)])
        rig.wait_effects(3)
        wait_until(lambda: "broker" in sidecar.ask("/readyz")[1], WITHIN_S, "not ready for want of a topic")
        peer.create(peer.dead_topic)

        assert [body for body, _ in self.wait_dead(rig, 1)] == [b"nonsense"]
        wait_until(lambda: sidecar.is_ready, WITHIN_S, "ready again")
        rig.finish(ids(3))

    def test_dead_letters_are_put_back_to_the_topic(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are the pulled form's: listed with the reason, and published to the topic with their id."""
        peer = peer_of(rig)
        for name, value in peer.env().items():
            monkeypatch.setenv(name, value)
        rig.start_engine()
        settings = peer.settings(principal="nobody")
        sidecar = rig.sidecar(principal="nobody").wait_ready()
        peer.ports.remove(settings["port"])
        peer.send(orders(1))
        wait_until(lambda: peer.count(peer.dead_topic) == 1, WITHIN_S, "a dead letter")
        letters = PubSubLetters("p", convert(settings, PubSubPushSettings).places())
        (letter,) = asyncio.run(letters.list(10))
        asyncio.run(letters.replay(Replay(operator="ann"), 10))
        (back,) = peer.drain(peer.topic)

        assert (letter.body, letter.reason) == (orders(1)[0].body, "AUTH_NOT_PERMITTED")
        assert (back.data, letter.source_id in back.attributes["x-wojak-replay"]) == (letter.body, True)
        assert sidecar.drain() == 0
        rig.finish([])

    def test_check_says_what_would_break_a_promise(self, peer: PushPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A subscription that does not push, keys that are not there: each with what to do."""
        for name, value in peer.env().items():
            monkeypatch.setenv(name, value)
        try:
            found = asyncio.run(
                check("p", convert(peer.settings(keys=f"{peer.signer.url}.not", request_ms=12_000), PubSubPushSettings))
            )
            peer.signer.is_away = True
            gone = asyncio.run(check("p", convert(peer.settings(), PubSubPushSettings)))
        finally:
            peer.signer.is_away = False
            peer.close()

        faults = {f.what for f in found if f.level is Level.FAULT}
        assert faults == {"push_config", "service_account", "ack_deadline_seconds"}
        assert "keys" in {f.what for f in gone if f.level is Level.FAULT}
