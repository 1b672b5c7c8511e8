"""Pub/Sub that pushes as a peer: a sender of our own with tokens by its own keys; dead letters go to pstest.

pstest does not push. Differences of our sender from Pub/Sub: it tries again after 0.2 s and without end, keeps no
order, and a push that lasts more than 10 s is given up.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import itertools
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.clock import wall_ns
from tests.conformance.peer import Message
from tests.peers.process import free_ports
from tests.peers.pubsub import PubSub, PubSubPeer, subscription_path

AUDIENCE: Final = "https://orders.example/pubsub"
ACCOUNT: Final = "pusher@desk.iam.gserviceaccount.com"
SENDERS: Final = 24
RETRY_S: Final = 0.2
PUSH_S: Final = 10.0
NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Signer:
    """Keys by id, their certificates served over HTTP as Google does, and who asked for them."""

    def __init__(self) -> None:
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.served: dict[str, str] = {}
        self.max_age_s = 3_600
        self.is_away = False
        self.asked = 0
        self.key_id = ""
        self.rotate("k1")
        signer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                signer.asked += 1
                body = msgspec.json.encode(signer.served)
                self.send_response(503 if signer.is_away else 200)
                self.send_header("cache-control", f"public, max-age={signer.max_age_s}, must-revalidate")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/certs"

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on, and serve its certificate alone."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys[key_id] = key
        self.key_id = key_id
        self.served = {key_id: certificate_of(key)}

    def token(self, *, key_id: str = "", algorithm: str = "RS256", **changes: Any) -> str:
        """Return a token of ours, good but for ``changes`` to its claims (None = without)."""
        now_s = wall_ns() // NS_PER_S
        claims = {
            "iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT, "email_verified": True,
            "iat": now_s, "exp": now_s + 3_600, "sub": "1", **changes,
        }  # fmt: skip
        header = {"alg": algorithm, "kid": key_id or self.key_id, "typ": "JWT"}
        claims = {name: value for name, value in claims.items() if value is not None}
        signed = b".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
        key = self._keys[self.key_id]
        made = b"" if algorithm == "none" else key.sign(signed, PKCS1v15(), SHA256())
        return (signed + b"." + _base64(made)).decode()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def certificate_of(key: rsa.RSAPrivateKey) -> str:
    """Return a certificate for a key, by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
    now = _EPOCH + timedelta(seconds=wall_ns() // NS_PER_S)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=10))
        .sign(key, SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM).decode()


def pushed(message: Message, message_id: str, subscription: str) -> bytes:
    """Return what Pub/Sub pushes of a message."""
    attributes = dict(message.headers)
    if message.content_type:
        attributes["content_type"] = message.content_type
    if message.reply_to:
        attributes["reply_to"] = message.reply_to
    at = _EPOCH + timedelta(milliseconds=wall_ns() // 1_000_000)
    inner = {
        "data": base64.b64encode(message.body).decode(), "attributes": attributes, "messageId": message_id,
        "message_id": message_id, "publishTime": at.isoformat().replace("+00:00", "Z"), "orderingKey": message.key,
    }  # fmt: skip
    return msgspec.json.encode({"message": inner, "subscription": subscription, "deliveryAttempt": 1})


class PushSender(PubSub):
    """pstest for what we publish, and our sender."""

    has_network = False

    def __init__(self) -> None:
        super().__init__()
        self.signer = Signer()

    def end(self) -> None:
        """Leave nothing running."""
        self.signer.close()
        super().end()

    def peer(self, name: str) -> PushPeer:
        """Return a topic that pushes to the sidecars of its settings."""
        self._peers += 1
        return PushPeer(self, f"push-{self._peers}")


class PushPeer(PubSubPeer):
    """Pushes to sidecars until they take it."""

    kind = "pubsub_push"
    keeps_order = False
    lease_ms = 0
    bound = 16
    many = 2_000

    def __init__(self, broker: PushSender, name: str) -> None:
        super().__init__(broker, name)
        self.signer = broker.signer
        self.ports: list[int] = []
        self._numbers = itertools.count(1)
        self._unsettled: dict[str, bytes] = {}
        self._due: deque[tuple[str, bytes]] = deque()
        self._is_due = threading.Semaphore(0)
        self._closed = threading.Event()
        self._senders = [threading.Thread(target=self._push_all, daemon=True) for _ in range(SENDERS)]
        for sender in self._senders:
            sender.start()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of one more sidecar, on a port of its own."""
        (port,) = free_ports(1)
        self.ports.append(port)
        return {
            "subscription": self.topic, "topic": self.topic, "principal": "bench", "audience": AUDIENCE,
            "service_account": ACCOUNT, "dead_letter_topic": self.dead_topic,
            "dead_letter_subscription": self.dead_topic, "reply_to": [self.reply_to], "keys": self.signer.url,
            "port": port, "in_flight": self.bound, "request_ms": 4_000, "hold_ms": 3_000, **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Push."""
        for message in messages:
            message_id = f"{self.topic}-{next(self._numbers)}"
            self._unsettled[message_id] = message.body
            self._due.append((message_id, pushed(message, message_id, subscription_path(self.topic))))
            self._is_due.release()

    def _push_all(self) -> None:
        connections: dict[int, http.client.HTTPConnection] = {}
        token = self.signer.token()
        while True:
            self._is_due.acquire()
            if self._closed.is_set():
                return
            message_id, body = self._due.popleft()
            turn = next(self._numbers)
            while message_id in self._unsettled and not self._closed.is_set():
                turn += 1
                port = self.ports[turn % len(self.ports)] if self.ports else 0
                if _push(connections, port, body, token) == 200:
                    self._unsettled.pop(message_id, None)
                else:
                    self._closed.wait(RETRY_S)

    def waiting(self) -> int:
        """Return how many messages no sidecar has taken."""
        return len(self._unsettled)

    def left(self) -> list[bytes]:
        """Take what no sidecar has taken."""
        found = list(self._unsettled.values())
        self._unsettled.clear()
        return found

    def close(self) -> None:
        """Send nothing more."""
        self._closed.set()
        for _ in self._senders:
            self._is_due.release()
        for sender in self._senders:
            sender.join(PUSH_S)
        super().close()


def _push(connections: dict[int, http.client.HTTPConnection], port: int, body: bytes, token: str) -> int:
    connection = connections.pop(port, None) or http.client.HTTPConnection("127.0.0.1", port, timeout=PUSH_S)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    try:
        connection.request("POST", "/pubsub", body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    connections[port] = connection
    return answer.status


def push(port: int, body: bytes, token: str | None, path: str = "/pubsub") -> tuple[int, str]:
    """Push once; return status and code of the error, if it is one. ``token`` None = without."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PUSH_S)
    headers: Mapping[str, str] = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read())
    finally:
        connection.close()
    return answer.status, found.get("error", {}).get("code", "")
