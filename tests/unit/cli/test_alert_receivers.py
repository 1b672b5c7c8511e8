"""Alerts reach receivers that are slow, gone, refuse and lie as far as can be; no secret is ever said."""

from __future__ import annotations

import hashlib
import hmac
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.alerting.judge import Alert, Key, Say
from cli.alerting.lanes import QUEUE_MAX, Lane, LaneRules
from cli.alerting.message import Message, message_of
from cli.alerting.receivers import Chat, DeliveryError, Email, Receiver, Webhook
from runtime import logs
from tests.unit.cli.alert_peers import (
    MailPeer,
    Peer,
    WebPeer,
    closed_port,
    dribble,
    http_answer,
    server_tls,
)
from tests.unit.sidecars.certificates import Authority

NOW_S = 1_780_000_000
NS = 10**9
SECRET = "a-secret-of-24-characters"
TOKEN = "123:very-secret-token"
WITHIN_S = 2.0
ALERT = Alert(
    Say.FIRING, Key("halt", "engine", "account a1"), "account a1 HALTED by op: why\x07", NOW_S * NS, NOW_S * NS
)
MESSAGE = message_of(ALERT, "id-1", "desk", 3, 1)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Any]]:
    """Peers that end with the test."""
    peers: list[Peer] = []

    def keep(peer: Peer) -> Peer:
        peers.append(peer)
        return peer

    yield keep
    for peer in peers:
        peer.close()


def refusal(receiver: Receiver, timeout_s: float = WITHIN_S) -> DeliveryError:
    with pytest.raises(DeliveryError) as found:
        receiver.send(MESSAGE, NOW_S, timeout_s)
    assert SECRET not in str(found.value)
    assert TOKEN not in str(found.value)
    return found.value


# Webhooks


def test_a_webhook_is_verified_as_the_documentation_says(serve: Callable[[Any], Any]) -> None:
    """The code of docs/alerts.md, over what really came: time, id and body are all signed."""
    peer = serve(WebPeer(http_answer(204)))
    Webhook(f"{peer.url}/hook?a=1", SECRET).send(MESSAGE, NOW_S, WITHIN_S)
    headers, body = peer.requests[0]
    assert headers[""].startswith("POST /hook?a=1 ")
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text("utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    verify = names["verify"]
    assert verify(SECRET, headers, body, NOW_S + 299)
    assert not verify(SECRET, headers, body, NOW_S + 301)
    assert not verify("another", headers, body, NOW_S)
    assert not verify(SECRET, headers, body + b" ", NOW_S)
    assert not verify(SECRET, headers | {"x-wojak-timestamp": str(NOW_S + 1)}, body, NOW_S)
    assert not verify(SECRET, headers | {"x-wojak-delivery": "id-2"}, body, NOW_S)
    signed = f"{NOW_S}.id-1.".encode() + body
    assert headers["x-wojak-signature"] == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    said = msgspec.json.decode(body, type=Message)
    assert (said.state, said.rule, said.scope, said.suppressed, said.lost) == (
        "firing",
        "halt",
        "engine account a1",
        3,
        1,
    )


@pytest.mark.parametrize(
    ("answer", "is_final", "after_s"),
    [
        (http_answer(500), False, 0), (http_answer(404), True, 0), (http_answer(302, Location="http://x"), True, 0),
        (http_answer(429, Retry_After="7"), False, 7), (http_answer(503, Retry_After="99999"), False, 60),
        (http_answer(503, Retry_After="soon"), False, 0), (b"NONSENSE\r\n\r\n", False, 0), (b"", False, 0),
    ],
)  # fmt: skip
def test_a_webhook_that_refuses_is_asked_again_only_where_that_may_help(
    serve: Callable[[Any], Any], answer: bytes, is_final: bool, after_s: int
) -> None:
    """What it says of when counts, within bounds."""
    error = refusal(Webhook(serve(WebPeer(answer)).url, SECRET))
    assert (error.is_final, error.after_s) == (is_final, after_s)


def test_who_is_gone_or_dribbles_ends_with_the_time(serve: Callable[[Any], Any]) -> None:
    """A byte now and then holds nobody: an attempt is over when its time is."""
    assert not refusal(Webhook(f"http://127.0.0.1:{closed_port()}", SECRET)).is_final
    peers: list[Peer] = []
    peers.append(serve(WebPeer(dribble(peers))))
    error = refusal(Webhook(f"http://127.0.0.1:{peers[0].port}", SECRET), 0.3)
    assert "TimeoutError" in error.why


def test_a_webhooks_body_is_not_waited_for(serve: Callable[[Any], Any]) -> None:
    """Its status is its word; a body that never ends delays nothing."""
    peer = serve(WebPeer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"))
    Webhook(peer.url, SECRET).send(MESSAGE, NOW_S, WITHIN_S)
    assert len(peer.requests) == 1


# Chats


def test_a_chat_gets_sendmessage_and_its_word_counts(serve: Callable[[Any], Any]) -> None:
    """200 alone is not taken: only ok is."""
    peer = serve(WebPeer(http_answer(200, b'{"ok":true,"result":{}}'), http_answer(200, b'{"ok":false}'),
                         http_answer(200, b"<html>"), http_answer(200, b'{"ok":"yes"}')))  # fmt: skip
    chat = Chat(peer.url, TOKEN, "-100")
    chat.send(MESSAGE, NOW_S, WITHIN_S)
    headers, body = peer.requests[0]
    assert headers[""].startswith(f"POST /bot{TOKEN}/sendMessage ")
    said = msgspec.json.decode(body)
    assert said["chat_id"] == "-100"
    assert "ALERT halt" in said["text"]
    assert "3 more of this rule were held back" in said["text"]
    for _ in range(3):
        assert not refusal(chat).is_final


# Mail


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the mail server's certificate."""
    return Authority(tmp_path_factory.mktemp("mail-tls"))


def mail_to(peer: Peer, trust: ssl.SSLContext | None = None, *, security: str = "starttls", user: str = "") -> Email:
    return Email("127.0.0.1", peer.port, security, "wojak@x.test", ("a@x.test", "b@x.test"), user=user,
                 password=SECRET if user else "", trust=trust)  # fmt: skip


def test_mail_goes_encrypted_and_in_one_line(serve: Callable[[Any], Any], authority: Authority) -> None:
    """STARTTLS before the password; a subject is one line, and the id is the same in every attempt."""
    cert, key = authority.issue("mail", "IP:127.0.0.1")
    peer = serve(MailPeer(tls=server_tls(Path(cert), Path(key))))
    trust = ssl.create_default_context(cafile=str(authority.file))
    for _ in range(2):
        mail_to(peer, trust, user="u").send(MESSAGE, NOW_S, WITHIN_S)
    assert peer.was_secure == [True, True]
    assert len(peer.logins) == 2
    head, _, text = peer.mails[0].partition("\r\n\r\n")
    assert "Subject: [desk] ALERT halt: account a1 HALTED by op: why" in head.replace("\r\n ", " ")
    assert "\x07" not in peer.mails[0]
    assert "To: a@x.test, b@x.test" in head
    assert "Message-ID: <id-1@wojak.alerts>" in peer.mails[1]
    assert "1 messages before this one could not be delivered" in text


def test_mail_is_never_sent_in_the_clear_or_to_a_stranger(serve: Callable[[Any], Any], authority: Authority) -> None:
    """No STARTTLS offered: refused for good. A certificate of nobody that is trusted: not sent."""
    plain = serve(MailPeer())
    assert refusal(mail_to(plain)).is_final
    cert, key = authority.issue("mail", "IP:127.0.0.1")
    stranger = serve(MailPeer(tls=server_tls(Path(cert), Path(key))))
    assert "certificate" in refusal(mail_to(stranger, ssl.create_default_context())).why
    assert not plain.mails
    assert not stranger.mails
    assert not stranger.logins


@pytest.mark.parametrize(
    ("answers", "is_final"),
    [
        ({"": "554 no"}, True), ({"": "421 later"}, False), ({"MAIL": "451 later"}, False), ({"MAIL": "550 no"}, True),
        ({"RCPT": "550 no"}, True), ({"RCPT": "450 later"}, False), ({"DATA": "452 full"}, False),
        ({"MAIL": "nonsense"}, False),
    ],
)  # fmt: skip
def test_a_mail_server_that_refuses_is_asked_again_only_where_that_may_help(
    serve: Callable[[Any], Any], answers: dict[str, str], is_final: bool
) -> None:
    """4xx may pass, 5xx is for good (RFC 5321 4.2.1)."""
    assert refusal(mail_to(serve(MailPeer(answers=answers)), security="none")).is_final is is_final


def test_a_mail_server_that_says_nothing_ends_with_the_time(serve: Callable[[Any], Any]) -> None:
    """The connection is there, and no word comes."""
    peers: list[Peer] = []
    peers.append(serve(Peer(lambda _connection: peers[0].ended.wait(10) and None)))
    assert not refusal(mail_to(peers[0], security="none"), 0.2).is_final


# Lanes


class Ear:
    """A receiver that answers as it is told, and keeps what came."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.got: list[Message] = []
        self.attempts = 0
        self.free = threading.Event()
        self.free.set()
        self.heard = threading.Condition()

    def send(self, message: Message, now_s: int, timeout_s: float) -> None:
        del now_s, timeout_s
        self.free.wait(10)
        with self.heard:
            self.attempts += 1
            self.heard.notify_all()
            answer = self.answers.pop(0) if self.answers else None
            if answer is not None:
                raise answer
            self.got.append(message)

    def wait(self, count: int) -> list[Message]:
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.got) >= count, 10), [m.text for m in self.got]
            return list(self.got)


def lane(ear: Receiver, only: tuple[str, ...] = (), burst: int = 2, attempts: int = 3) -> Lane:
    made = Lane("ear", ear, only, LaneRules("desk", burst, 60_000, attempts, 1.0), logs.configure("test"))
    made.start()
    return made


def of(say: Say, rule: str = "halt", scope: str = "s", at_ns: int = 0) -> Alert:
    return Alert(say, Key(rule, "engine", scope), "text", at_ns, at_ns)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.alerting.lanes.BACKOFF_S", 0.001)


def test_a_rule_that_says_much_is_held_back_and_counted() -> None:
    """Per rule; who was told of a beginning is told of the end; the next message says how many there were."""
    ear = Ear()
    told = lane(ear)
    assert [told.offer(of(Say.FIRING, scope=f"s{n}"), n) for n in range(5)] == [True, True, False, False, False]
    assert told.offer(of(Say.FIRING, rule="clock"), 5)
    assert told.offer(of(Say.RESOLVED, scope="s0"), 6)
    assert not told.offer(of(Say.RESOLVED, scope="s4"), 6), "it was never told of s4"
    end = ear.wait(4)[-1]
    assert (end.state, end.scope, end.suppressed) == ("resolved", "engine s0", 3)
    assert not told.offer(of(Say.FIRING, scope="s5"), 7)
    told.flush(8)
    assert told.offer(of(Say.TEST, rule="test"), 9)
    assert ear.wait(5)[-1].state == "test", "there is no room yet to say that one was held back"
    told.flush(61 * NS)
    last = ear.wait(6)[-1]
    assert (last.state, last.rule, last.suppressed) == ("suppressed", "halt", 1)
    assert told.suppressed == 4
    told.close(5)


def test_a_receiver_is_tried_again_and_given_up_in_the_end() -> None:
    """Bounded attempts; for good means once; the next message says that one was lost."""
    ear = Ear(
        DeliveryError("x"), DeliveryError("x"), None, *[DeliveryError("y")] * 3, DeliveryError("z", is_final=True)
    )
    told = lane(ear, burst=9)
    for n in range(4):
        told.offer(of(Say.EVENT, scope=str(n)), n)
    assert [m.scope for m in ear.wait(2)] == ["engine 0", "engine 3"]
    told.offer(of(Say.EVENT, scope="4"), 5)
    assert ear.wait(3)[-1].lost == 2
    told.close(5)
    assert (told.sent, told.retried, told.failed, ear.attempts) == (3, 4, 2, 9)


def test_a_slow_receiver_holds_only_so_many() -> None:
    """What does not fit is counted, and told when there is room again."""
    ear = Ear()
    ear.free.clear()
    told = lane(ear, burst=10_000)
    for n in range(QUEUE_MAX + 10):
        told.offer(of(Say.EVENT, scope=str(n)), n)
    assert told.dropped == 10
    assert told.waiting == QUEUE_MAX
    ear.free.set()
    ear.wait(QUEUE_MAX)
    told.offer(of(Say.EVENT, scope="after"), 1)
    assert ear.wait(QUEUE_MAX + 1)[-1].lost == 10
    told.close(5)


def test_a_receiver_gets_its_rules_only_and_every_test() -> None:
    """An empty list means all of them."""
    ear = Ear()
    told = lane(ear, only=("clock",))
    assert not told.offer(of(Say.FIRING), 0)
    assert told.offer(of(Say.FIRING, rule="clock"), 0)
    assert told.offer(of(Say.TEST, rule="test"), 0)
    told.close(5)
    assert [m.rule for m in ear.got] == ["clock", "test"]


def test_no_secret_is_logged(capsys: pytest.CaptureFixture[str], serve: Callable[[Any], Any]) -> None:
    """Neither the token that stands in a chat's address nor what a receiver answers."""
    peer = serve(WebPeer(http_answer(401, TOKEN.encode())))
    told = lane(Chat(peer.url, TOKEN, "1"), attempts=1)
    told.offer(of(Say.FIRING), 0)
    told.close(5)
    said = capsys.readouterr()
    assert "alert not delivered" in said.err
    assert TOKEN not in said.err + said.out
    assert "very-secret" not in said.err
