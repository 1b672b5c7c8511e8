"""A risk system elsewhere that is slow, gone, repeated or lying: what is no answer is never taken for one."""

from __future__ import annotations

import hashlib
import hmac
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.risk_rows import RiskServiceSection, route_problems, webhook_secret
from protocol.codes import Code, OrderType, Side, TimeInForce
from protocol.errors import ConfigError
from protocol.risk import RiskAnswer, RiskRequest, Verdict
from risk.portfolio.webhook import ANSWER_BYTES_MAX, ASKED_MAX, Webhook, WebhookSettings
from tests.unit.cli.alert_peers import Handler, Peer, WebPeer, closed_port, dribble, http_answer
from tests.unit.sidecars.certificates import Authority

E9 = 10**9
SECRET = "a-secret-of-thirty-two-characters"
WITHIN_S = 10.0
LONG_NS = 60 * E9
Serve = Callable[..., Any]
Make = Callable[..., Webhook]


def asked(order_id: str = "P-1", account: str = "a1", hold_ns: int = LONG_NS) -> RiskRequest:
    now_ns = time.time_ns()
    return RiskRequest(
        order_id, 2, account, "c1", "s1", "XY", Side.BUY, OrderType.LIMIT, TimeInForce.DAY, 5 * E9, 101 * E9, False,
        False, [Code.POS_LIMIT], now_ns + hold_ns, 17, now_ns, True, E9, E9, "123", b"\x01\x02", "USDT", "50000",
    )  # fmt: skip


def signed(
    body: bytes, delivery: str = "P-1.2", *, secret: str = SECRET, timestamp: str = "", status: int = 200
) -> bytes:
    """An answer as docs/risk-service.md says it is signed, written without the code under test."""
    timestamp = timestamp or str(time.time_ns() // E9)
    proof = hmac.new(secret.encode(), f"{timestamp}.{delivery}.".encode() + body, hashlib.sha256).hexdigest()
    return http_answer(
        status, body, X_Wojak_Timestamp=timestamp, X_Wojak_Delivery=delivery, X_Wojak_Signature=f"v1={proof}"
    )


def says(verdict: str = "approve", **rest: object) -> bytes:
    return msgspec.json.encode({"order_id": "P-1", "asked": 2, "verdict": verdict, **rest})


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Peers that end with the test."""
    peers: list[Peer] = []

    def start(*answers: bytes | Handler) -> WebPeer:
        peer = WebPeer(*answers)
        peers.append(peer)
        return peer

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def make() -> Iterator[Make]:
    """Webhooks that end with the test; before their peers, which wait for nobody then."""
    made: list[Webhook] = []

    def start(url: str, **rest: Any) -> Webhook:
        made.append(Webhook(WebhookSettings(url=url, secret=SECRET, **rest)))
        return made[-1]

    yield start
    for webhook in made:
        webhook.close()


def collected(webhook: Webhook) -> list[RiskAnswer]:
    """Wait until nothing is asked any more, as the loop does: by the descriptor."""
    answers: list[RiskAnswer] = []
    while webhook.asking:
        assert select.select([webhook.fd], [], [], WITHIN_S)[0], "an answer or a failure expected, was neither"
        answers += webhook.collect()
    return answers


def answers_to(webhook: Webhook, request: RiskRequest) -> list[RiskAnswer]:
    webhook.ask(request, request.now_ns)
    return collected(webhook)


def test_the_request_is_signed_and_the_answer_taken(serve: Serve, make: Make) -> None:
    """The code of docs/alerts.md proves the sender; names and decimal text; the answer is the engine's."""
    peer = serve(signed(says(margin_after_e9="7", valid_until_ns="123", params_version="v")))
    request = asked()
    (answer,) = answers_to(make(peer.url), request)
    assert answer == RiskAnswer(
        "P-1", 2, Verdict.APPROVE, margin_after_e9="7", book_seq=17, valid_until_ns=123, params_version="v"
    )
    ((headers, body),) = peer.requests
    timestamp, delivery = headers["x-wojak-timestamp"], headers["x-wojak-delivery"]
    proof = hmac.new(SECRET.encode(), f"{timestamp}.{delivery}.".encode() + body, hashlib.sha256).hexdigest()
    assert (delivery, headers["x-wojak-signature"]) == ("P-1.2", f"v1={proof}")
    said = msgspec.json.decode(body)
    assert said["codes"] == ["POS_LIMIT"]
    assert (said["side"], said["quantity_e9"], said["trace_id"]) == ("BUY", "5000000000", "0102")
    assert said["deadline_ns"] == str(request.deadline_ns)
    assert set(said) == set(RiskRequest.__struct_fields__)


def test_a_refusal_and_a_trim_are_what_they_say(serve: Serve, make: Make) -> None:
    """The code of a refusal is RISK_REJECTED unless it says another; without a time it is good until the deadline."""
    peer = serve(
        signed(says("reject")), signed(says("reject", code="MARGIN_ESTIMATE", text="no")),
        signed(says("trim", quantity_e9="3000000000")),
    )  # fmt: skip
    webhook, request = make(peer.url), asked()
    (first,), (second,), (third,) = (answers_to(webhook, request) for _ in range(3))
    assert (first.verdict, first.code) == (Verdict.REJECT, Code.RISK_REJECTED)
    assert (second.code, second.text) == (Code.MARGIN_ESTIMATE, "no")
    assert (third.verdict, third.quantity_e9, third.valid_until_ns) == (Verdict.TRIM, 3 * E9, request.deadline_ns)


LIES: dict[str, bytes | Callable[[], bytes]] = {
    "unsigned": http_answer(200, says()),
    "another secret": lambda: signed(says(), secret="b" * 32),
    "another id": lambda: signed(says(), "P-1.1"),
    "of long ago": lambda: signed(says(), timestamp=str(time.time_ns() // E9 - 301)),
    "of no time": lambda: signed(says(), timestamp="9" * 5_000),
    "another order": lambda: signed(says().replace(b"P-1", b"P-2")),
    "an older question": lambda: signed(says().replace(b"2", b"1")),
    "no JSON": lambda: signed(b"\xff{"),
    "too deep": lambda: signed(b"[" * 10_000),
    "an unknown word": lambda: signed(says("maybe")),
    "an unknown field": lambda: signed(says(quantity="3")),
    "an unknown code": lambda: signed(says(code="FINE")),
    "an older book": lambda: signed(says(book_seq=16)),
    "too large a quantity": lambda: signed(says("trim", quantity_e9="9223372036854775808")),
    "oversized": lambda: signed(says(text="") + b" " * ANSWER_BYTES_MAX),
    "a redirect": lambda: http_answer(302, says(), Location="http://127.0.0.1:1/"),
    "refused": lambda: signed(says(), status=403),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_answer_is_never_taken_for_one(serve: Serve, make: Make, lie: str) -> None:
    """A lie brings nothing, is not asked for again, and is seen; what comes next is judged on its own."""
    told = LIES[lie]
    peer = serve(told() if callable(told) else told, signed(says()))
    webhook = make(peer.url)
    assert answers_to(webhook, asked()) == []
    assert (peer.connections, webhook.failed) == (1, 1)
    assert webhook.is_failing(time.monotonic_ns())
    assert [a.verdict for a in answers_to(webhook, asked())] == [Verdict.APPROVE]
    assert not webhook.is_failing(time.monotonic_ns())


def test_a_request_that_comes_back_is_no_answer(serve: Serve, make: Make) -> None:
    """Whoever reflects the request has its signature, and still says nothing."""

    def reflect(connection: socket.socket) -> None:
        headers, body = peer.requests[-1]
        proof = {f"X_Wojak_{k}": headers[f"x-wojak-{k.lower()}"] for k in ("Timestamp", "Delivery", "Signature")}
        connection.sendall(http_answer(200, body, **proof))

    peer = serve(reflect)
    webhook = make(peer.url)
    assert (answers_to(webhook, asked()), webhook.failed) == ([], 1)


def test_who_is_gone_for_now_is_asked_again_under_the_same_id(serve: Serve, make: Make) -> None:
    """503, a closed connection and 429 are tried again; the risk system can tell that it is one question."""
    peer = serve(http_answer(503), lambda connection: connection.close(), http_answer(429), signed(says()))
    webhook = make(peer.url)
    (answer,) = answers_to(webhook, asked())
    assert (answer.verdict, webhook.failed) == (Verdict.APPROVE, 3)
    assert {headers["x-wojak-delivery"] for headers, _ in peer.requests} == {"P-1.2"}
    assert len({body for _, body in peer.requests}) == 1


def test_who_stays_gone_is_given_up(make: Make) -> None:
    """Nobody listens: no answer is made up, and asking ends."""
    webhook = make(f"http://127.0.0.1:{closed_port()}", give_up_ms=400)
    assert answers_to(webhook, asked()) == []
    assert webhook.failed >= 1


def test_a_slow_one_ends_at_the_deadline_and_delays_nobody(serve: Serve, make: Make) -> None:
    """It dribbles for ever: its attempts end, and another account's answer comes before that."""
    ended: list[Peer] = []
    slow = dribble(ended)
    peer = serve(slow, signed(says().replace(b"P-1", b"P-2"), "P-2.2"), slow)
    ended.append(peer)
    webhook = make(peer.url, account_max=1, give_up_ms=600)
    webhook.ask(asked(hold_ns=300_000_000), time.time_ns())
    assert peer.asked.wait(WITHIN_S)
    webhook.ask(asked("P-2", "a2"), time.time_ns())
    assert (webhook.is_busy("a1"), webhook.is_busy("a3")) == (True, False)
    assert [answer.order_id for answer in collected(webhook)] == ["P-2"]
    assert (webhook.is_busy("a1"), webhook.failed >= 1) == (False, True)


def test_what_nobody_waits_for_is_cut(serve: Serve, make: Make) -> None:
    """A withdrawn question frees its place at once, long before any time is over, and says nothing."""
    ended: list[Peer] = []
    peer = serve(dribble(ended))
    ended.append(peer)
    webhook = make(peer.url, account_max=1, timeout_ms=600_000)
    webhook.ask(asked(), time.time_ns())
    assert peer.asked.wait(WITHIN_S)
    webhook.withdraw("P-1")
    assert collected(webhook) == []
    assert (webhook.is_busy("a1"), webhook.failed) == (False, 0)


def test_no_more_are_asked_at_a_time_than_there_is_room_for(serve: Serve, make: Make) -> None:
    """So many of an account, so many in all; a question that is asked twice is asked once."""
    ended: list[Peer] = []
    peer = serve(dribble(ended))
    ended.append(peer)
    webhook = make(peer.url, account_max=2)
    for n in (1, 1, 2):
        assert not webhook.is_busy("a0")
        webhook.ask(asked(f"P-{n}", "a0"), time.time_ns())
    assert (webhook.asking, webhook.is_busy("a0")) == (2, True)
    for n in range(2, ASKED_MAX):
        assert not webhook.is_busy(f"a{n}")
        webhook.ask(asked(f"P-a{n}", f"a{n}"), time.time_ns())
    assert (webhook.asking, webhook.is_busy("another")) == (ASKED_MAX, True)


def test_a_certificate_has_to_be_trusted(serve: Serve, make: Make, tmp_path: Path) -> None:
    """Over TLS the risk system is who its certificate says; a stranger hears nothing of the order."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("risk", "IP:127.0.0.1"))
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            while b"}" not in (got := secure.recv(65_536)):
                requests.append(got)
            secure.sendall(signed(says()))

    peer = Peer(answer)
    try:
        url = f"https://127.0.0.1:{peer.port}"
        trusting = make(url, ca_file=str(authority.file))
        assert [a.verdict for a in answers_to(trusting, asked())] == [Verdict.APPROVE]
        requests.clear()
        assert answers_to(make(url), asked()) == []
        assert requests == []
    finally:
        peer.close()


def test_the_configuration_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    """The clear is for this host, one of two judges, one place for the secret, and that long enough."""

    def problems(**rest: Any) -> str:
        return "\n".join(route_problems((), RiskServiceSection(**rest), tmp_path))

    fine = {"webhook_url": "https://risk.example/ask", "webhook_secret_env": "RISK_SECRET"}
    assert problems(**fine) == ""
    assert problems(**fine | {"webhook_url": "http://localhost:9/ask"}) == ""
    assert "expected https" in problems(**fine | {"webhook_url": "http://risk.example/ask"})
    assert "was both: one of them judges" in problems(**fine, params_file="x.json")
    assert "was both" in problems(**fine, webhook_secret_file="x")
    assert "was neither" in problems(webhook_url="https://risk.example/ask")
    assert "expected an address" in problems(webhook_secret_env="RISK_SECRET")
    assert "webhook_ca_file: expected a file" in problems(**fine, webhook_ca_file="none.pem")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    section = RiskServiceSection(webhook_url="https://risk.example/ask", webhook_secret_file="secret")
    assert webhook_secret(section, tmp_path) == SECRET
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="at least 32 characters") as found:
        webhook_secret(section, tmp_path)
    assert "short" not in str(found.value)
