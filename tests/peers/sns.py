"""SNS as a peer: a sender of our own that signs and tries again as SNS does, and LocalStack for what it makes itself.

LocalStack posts once and never again, so what happens after a crash or a 503 is shown with our sender: same envelope,
same signatures, a certificate of its own. Queues for dead letters and answers are LocalStack's. Differences of our
sender from SNS: it tries again after 0.2 s and without end, and a post that lasts more than 5 s is given up.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import itertools
import ssl
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.clock import wall_ns
from sidecars.sources.sns_message import read, signed_text
from tests.conformance.peer import Broker, Message, Peer
from tests.conformance.source import SourceContract
from tests.peers.localstack import LocalStack, shared
from tests.peers.process import free_ports
from tests.peers.sqs import KEYS, SqsPeer

TOPIC: Final = "arn:aws:sns:eu-west-1:000000000000:orders"
PEM_PATH: Final = "/SimpleNotificationService-0123456789abcdef.pem"
SENDERS: Final = 24
RETRY_S: Final = 0.2
POST_S: Final = 5.0
TEXT_BYTES_MAX: Final = 256 << 10
NS_PER_MS: Final = 1_000_000


class SnsContract(SourceContract):
    """What an endpoint is held to."""

    def poison(self, peer: Peer) -> dict[str, bytes]:
        """Return what SNS takes: texts that are not empty, of 256 KiB at most."""
        found = {}
        for name, body in super().poison(peer).items():
            try:
                if 0 < len(body.decode()) <= TEXT_BYTES_MAX and b"\x00" not in body:
                    found[name] = body
            except UnicodeDecodeError:
                continue
        return found


class Signer:
    """A key, its certificate served over HTTP, and who asked for what there."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = certificate_of(self._key)
        self.asked: list[str] = []
        signer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                signer.asked.append(self.path)
                status, body = (200, signer.pem) if self.path == PEM_PATH else (404, b"")
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                signer.asked.append(f"POST {self.path}")
                self.send_error(500)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def sign(self, posted: Mapping[str, Any], version: str = "2") -> bytes:
        """Return a post with its signature."""
        unsigned = {"SigningCertURL": self.url + PEM_PATH, "SignatureVersion": version, "Signature": "", **posted}
        text = signed_text(read(msgspec.json.encode(unsigned)))
        made = self._key.sign(text, PKCS1v15(), SHA1() if version == "1" else SHA256())
        return msgspec.json.encode({**unsigned, "Signature": base64.b64encode(made).decode()})

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def certificate_of(key: rsa.RSAPrivateKey, days: int = 10) -> bytes:
    """Return a certificate for a key, by itself; ``days`` below 0: one that is over."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=wall_ns() // 1_000_000_000)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=20)).not_valid_after(now + timedelta(days=days))
        .sign(key, SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM)


def timestamp_of(time_ns: int) -> str:
    """Return a time as SNS writes it."""
    ms = time_ns // NS_PER_MS
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def notification(body: str, message_id: str, **changes: Any) -> dict[str, Any]:
    """Return what SNS posts of a message, unsigned."""
    return {
        "Type": "Notification", "MessageId": message_id, "TopicArn": TOPIC, "Message": body,
        "Timestamp": timestamp_of(wall_ns()), **changes,
    }  # fmt: skip


class SnsSender(Broker):
    """Our sender, and LocalStack's queues."""

    has_network = False

    def __init__(self) -> None:
        self.localstack: LocalStack = shared()
        self.signer = Signer()
        self.client = self.localstack.sqs
        self._peers = itertools.count(1)

    @property
    def port(self) -> int:
        """Nowhere: it is who calls."""
        raise NotImplementedError

    def start(self) -> None:
        """Have it run already."""

    def stop(self) -> None:
        """Leave it: a sender that is away only sends nothing."""

    def end(self) -> None:
        """Leave nothing running."""
        self.signer.close()

    def peer(self, name: str) -> SnsPeer:
        """Return a topic that pushes to the sidecars of its settings."""
        return SnsPeer(self, f"sns-{next(self._peers)}-{hash(name) % 10_000}")


class SnsPeer(SqsPeer):
    """Posts to sidecars until they take it."""

    kind = "sns"
    has_replies = False
    has_headers = False
    names_all = True
    keeps_order = False
    lease_ms = 0
    bound = 16
    many = 2_000

    def __init__(self, broker: SnsSender, name: str) -> None:
        super().__init__(broker, name)  # type: ignore[arg-type]  # all that is asked of a broker is there
        self.sender = broker
        self.ports: list[int] = []
        self.refused: list[bytes] = []  # 4xx: SNS would not try again
        self._numbers = itertools.count(1)
        self._unsettled: dict[str, bytes] = {}
        self._due: deque[tuple[str, bytes]] = deque()
        self._is_due = threading.Semaphore(0)
        self._closed = threading.Event()
        self._name = name
        for _ in range(SENDERS):
            threading.Thread(target=self._post_all, daemon=True).start()

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return credentials and addresses as boto3 reads them; the sender's certificate counts as SNS's."""
        return {
            **KEYS,
            "AWS_ENDPOINT_URL_SNS": self.sender.signer.url,
            "AWS_ENDPOINT_URL_SQS": self.sender.localstack.url,
        }

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of one more sidecar, on a port of its own."""
        (port,) = free_ports(1)
        self.ports.append(port)
        return {
            "topics": [TOPIC], "principal": "bench", "dead_letter_queue": self.dead_queue, "port": port,
            "in_flight": self.bound, "request_ms": 4_000, "hold_ms": 3_000, **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Publish."""
        for message in messages:
            message_id = f"{self._name}-{next(self._numbers)}"
            attributes = {"content_type": {"Type": "String", "Value": message.content_type}}
            extra = {"MessageAttributes": attributes} if message.content_type else {}
            posted = self.sender.signer.sign(notification(message.body.decode(), message_id, **extra))
            self._unsettled[message_id] = message.body
            self._due.append((message_id, posted))
            self._is_due.release()

    def _post_all(self) -> None:
        connections: dict[int, http.client.HTTPConnection] = {}
        while True:
            self._is_due.acquire()
            if self._closed.is_set():
                return
            message_id, posted = self._due.popleft()
            turn = next(self._numbers)
            while message_id in self._unsettled and not self._closed.is_set():
                turn += 1
                port = self.ports[turn % len(self.ports)] if self.ports else 0
                status = _post(connections, port, posted)
                if status == 200:
                    self._unsettled.pop(message_id, None)
                elif 400 <= status < 500:
                    self.refused.append(posted)
                    self._unsettled.pop(message_id, None)
                else:
                    self._closed.wait(RETRY_S)

    def left(self) -> list[bytes]:
        """Take what no sidecar has taken."""
        found = list(self._unsettled.values())
        self._unsettled.clear()
        return found

    def waiting(self) -> int:
        """Return how many messages no sidecar has taken."""
        return len(self._unsettled)

    def dead_bodies(self) -> list[bytes]:
        """Take the dead letters, also those that are not ours."""
        return [m["Body"].encode() for m in self._drain(self.dead_queue)]

    def close(self) -> None:
        """Send nothing more."""
        self._closed.set()
        for _ in range(SENDERS):
            self._is_due.release()


def _post(connections: dict[int, http.client.HTTPConnection], port: int, posted: bytes) -> int:
    connection = connections.pop(port, None) or http.client.HTTPConnection("127.0.0.1", port, timeout=POST_S)
    try:
        connection.request("POST", "/sns", posted, {"content-type": "text/plain; charset=UTF-8"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    connections[port] = connection
    return answer.status


def post(port: int, body: bytes, trust: ssl.SSLContext | None = None, **headers: str) -> tuple[int, str]:
    """Post once, with ``trust`` over HTTPS; return status and code of the error, if it is one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=POST_S)
    if trust is not None:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=POST_S, context=trust)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/sns", body, {"content-type": "text/plain; charset=UTF-8", **names})
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read())
    finally:
        connection.close()
    return answer.status, found.get("error", {}).get("code", "")
