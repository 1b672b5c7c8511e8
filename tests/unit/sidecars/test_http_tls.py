"""TLS and client certificates over real sockets: who gets a connection, whose orders they are, new files on SIGHUP."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol.errors import ConfigError
from sidecars.sources.http_keys import HttpCertificate, HttpKey
from sidecars.sources.http_tls import TlsSettings, identity_of, make_context
from tests.unit.sidecars.certificates import Authority
from tests.unit.sidecars.conftest import DEADLINE_S, ORDER, Stage, until

DESK = "spiffe://acme/desk"
CERTIFICATES = (HttpCertificate(identity=DESK, principal="desk"),)


class Secured:
    """A stage with TLS, and clients with certificates."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.ours, self.clients = Authority(folder, "ours"), Authority(folder, "clients")
        self.server = self.ours.issue("localhost", "DNS:localhost", "IP:127.0.0.1")

    def start(self, *, client_ca: bool = True, **options: Any) -> None:
        tls: dict[str, Any] = {
            name: options.pop(name) for name in ("client_certificate", "identity") if name in options
        }
        certificate_file, key_file = self.server
        settings = TlsSettings(
            certificate_file=certificate_file, key_file=key_file,
            client_ca_file=str(self.clients.file) if client_ca else "", **tls,
        )  # fmt: skip
        self.stage.engine()
        self.stage.start(tls=settings, loopback_principal="", **options).wait_open()

    @property
    def port(self) -> int:
        return self.stage.sidecars[-1].source.port

    def context(self, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ours.file))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context

    def send(self, number: object, certificate: tuple[str, str] | None = None, **headers: str) -> httpx.Response:
        with httpx.Client(verify=self.context(certificate), trust_env=False, timeout=DEADLINE_S) as client:
            url = f"https://localhost:{self.port}/v1/orders"
            return client.post(url, json={**ORDER, "client_order_id": f"t{number}"}, headers=headers)


@pytest.fixture
def secured(stage: Stage, tmp_path: Path) -> Secured:
    return Secured(stage, tmp_path)


def test_keys_work_over_tls(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that checks the server's certificate places an order with its key."""
    monkeypatch.setenv("S", "a secret of fair length")
    secured.start(client_ca=False, keys=(HttpKey(principal="desk", secret_env="S"),))

    assert secured.send(1, x_api_key="a secret of fair length").status_code == 401
    assert secured.send(1, **{"x-api-key": "a secret of fair length"}).status_code == 201


def test_a_client_certificate_stands_for_its_principal(secured: Secured) -> None:
    """The URI in it is looked up; the engine hears the principal."""
    secured.start(certificates=CERTIFICATES)

    answer = secured.send(1, secured.clients.issue("desk", f"URI:{DESK}"))

    assert answer.status_code == 201
    assert [item.principal for item in secured.stage.journal.items] == ["desk"]


@pytest.mark.parametrize(
    ("kind", "identity", "sans"),
    [
        ("san_dns", "desk.acme", ["DNS:desk.acme"]),
        ("san_email", "desk@acme", ["email:desk@acme"]),
        ("common_name", "desk", ["DNS:other"]),
    ],
)
def test_the_name_that_counts_is_a_setting(secured: Secured, kind: str, identity: str, sans: list[str]) -> None:
    """DNS name, e-mail or common name, whichever is chosen."""
    secured.start(certificates=(HttpCertificate(identity=identity, principal="desk"),), identity=kind)

    assert secured.send(1, secured.clients.issue("desk", *sans)).status_code == 201


@pytest.mark.parametrize(
    ("sans", "code"),
    [
        ([], "CERTIFICATE"),
        (["URI:spiffe://acme/other"], "CERTIFICATE"),
        ([f"URI:{DESK}", "URI:spiffe://acme/other"], "CERTIFICATE"),
        (["DNS:desk"], "CERTIFICATE"),
    ],
    ids=["no name", "not listed", "two names", "another kind"],
)
def test_a_certificate_without_the_name_is_nobodys(secured: Secured, sans: list[str], code: str) -> None:
    """401 and nothing reaches the engine, though the authority is right."""
    secured.start(certificates=CERTIFICATES, client_certificate="required")

    answer = secured.send(1, secured.clients.issue("desk", *sans))

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert secured.stage.journal.items == []


def test_required_means_for_orders(secured: Secured) -> None:
    """Without a certificate orders are 401, while health and readiness answer the load balancer."""
    secured.start(certificates=CERTIFICATES, client_certificate="required")

    with httpx.Client(verify=secured.context(), trust_env=False) as client:
        ready = client.get(f"https://localhost:{secured.port}/readyz")

    assert (secured.send(1).status_code, ready.status_code) == (401, 200)


def test_a_certificate_by_another_authority_gets_no_connection(secured: Secured) -> None:
    """The handshake fails; it is counted, and others go on."""
    secured.start(certificates=CERTIFICATES)

    with pytest.raises(httpx.TransportError):
        secured.send(1, secured.ours.issue("thief", f"URI:{DESK}"))

    until(lambda: secured.stage.sidecars[-1].source._metrics.refused.get("TLS_HANDSHAKE"), "the count")
    assert secured.send(2, secured.clients.issue("desk", f"URI:{DESK}")).status_code == 201


def test_key_and_certificate_speak_for_one_principal(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stolen key is of no use beside one's own certificate."""
    monkeypatch.setenv("S", "a secret of fair length")
    secured.start(certificates=CERTIFICATES, keys=(HttpKey(principal="algo", secret_env="S"),))

    answer = secured.send(1, secured.clients.issue("desk", f"URI:{DESK}"), **{"x-api-key": "a secret of fair length"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "TWO_PRINCIPALS")


def test_old_tls_and_plain_http_get_no_connection(secured: Secured) -> None:
    """TLS 1.2 is the oldest that there is; what is no TLS at all is cut without a word of HTTP."""
    secured.start(certificates=CERTIFICATES)
    old = secured.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("localhost", secured.port)) as sock,
        old.wrap_socket(sock, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() == "TLSv1.2"

    assert make_context(secured.stage.sidecars[-1].settings.tls).minimum_version == ssl.TLSVersion.TLSv1_2  # type: ignore[arg-type]
    assert b"HTTP" not in secured.stage.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")


def test_a_handshake_that_does_not_end_is_ended(secured: Secured) -> None:
    """It counts as a connection while it lasts, which is not long; then there is place again."""
    secured.start(certificates=CERTIFICATES, head_ms=300, connections_max=2)
    silent = [socket.create_connection(("127.0.0.1", secured.port), timeout=DEADLINE_S) for _ in range(2)]
    until(lambda: len(secured.stage.sidecars[-1].source._listener._bounds.connections) == 2, "both to count")  # type: ignore[union-attr]

    for connection in silent:
        assert connection.recv(1) == b""
        connection.close()
    assert secured.send(1, secured.clients.issue("desk", f"URI:{DESK}")).status_code == 201


def test_names_of_no_certificate() -> None:
    """Nothing shown is nobody, and neither is a name of which there are two."""
    twice = {"subject": ((("commonName", "a"),), (("commonName", "b"),))}

    assert [identity_of(c, "common_name") for c in (None, {}, twice)] == ["", "", ""]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Absent, not PEM, a key with a passphrase: the start says which file."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("x", "DNS:x")
    locked = tmp_path / "locked.key"
    lock = ["openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(lock, check=True, capture_output=True)
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for settings, name in (
        (TlsSettings(certificate_file=str(tmp_path / "absent"), key_file=key), "absent"),
        (TlsSettings(certificate_file=certificate, key_file=str(locked)), "passphrase"),
        (TlsSettings(certificate_file=certificate, key_file=key, client_ca_file=str(nonsense)), "nonsense"),
        (TlsSettings(certificate_file=certificate, key_file=key, client_certificate="required"), "client_ca_file"),
    ):
        with pytest.raises(ConfigError, match=name):
            make_context(settings)


def test_reading_again_is_all_or_nothing(secured: Secured, tmp_path: Path) -> None:
    """A good certificate beside a secret that is too short: neither counts, and the fault is named."""
    secret = tmp_path / "secret"
    secret.write_text("the old secret of some length")
    secured.start(client_ca=False, keys=(HttpKey(principal="desk", secret_file=str(secret)),))
    source = secured.stage.sidecars[-1].source
    before = source._tls.context  # type: ignore[union-attr]
    secret.write_text("short")

    with pytest.raises(ConfigError, match="at least 16 characters"):
        source.read()

    assert source._tls.context is before  # type: ignore[union-attr]
    assert secured.send(1, **{"x-api-key": "the old secret of some length"}).status_code == 201


PROCESS = """
import sys
from sidecars.sources.http import HttpSettings, run
from sidecars.sources.http_keys import HttpKey
from sidecars.sources.http_tls import TlsSettings
tls = TlsSettings(certificate_file=sys.argv[4], key_file=sys.argv[5])
keys = (HttpKey(principal="desk", secret_file=sys.argv[6]),)
sys.exit(run(HttpSettings(engine_endpoint=sys.argv[1], state_file=sys.argv[2], port=int(sys.argv[3]), tls=tls,
                          keys=keys, drain_ms=1000)))
"""


def test_sighup_brings_the_new_certificate_and_the_new_secret(secured: Secured, tmp_path: Path) -> None:
    """New connections get them, one that stands is not cut; a file that is no certificate changes nothing."""
    certificate, key = secured.server
    secret = tmp_path / "secret"
    secret.write_text("the old secret of some length")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    secured.stage.engine()
    arguments = [sys.executable, "-c", PROCESS, secured.stage.endpoint, str(tmp_path / "epochs"), str(port)]
    process = subprocess.Popen(
        [*arguments, certificate, key, str(secret)], stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    url = f"https://localhost:{port}"
    context = secured.context()

    def serial() -> str:
        try:
            with socket.create_connection(("localhost", port), timeout=DEADLINE_S) as sock:
                return str((context.wrap_socket(sock, server_hostname="localhost").getpeercert() or {})["serialNumber"])
        except OSError:
            return ""

    try:
        first = until(serial, "a handshake")
        with httpx.Client(verify=context, trust_env=False) as standing:
            assert standing.get(f"{url}/healthz").status_code == 200
            secured.ours.issue("localhost", "DNS:localhost", "IP:127.0.0.1")
            secret.write_text("the new secret of some length")
            process.send_signal(signal.SIGHUP)
            until(lambda: serial() not in {"", first}, "the new certificate")
            second = serial()
            assert standing.get(f"{url}/healthz").status_code == 200

            def status(secret: str) -> int:
                return standing.delete(f"{url}/v1/orders/acc/x", headers={"x-api-key": secret}).status_code

            until(lambda: status("the new secret of some length") == 202, "the new secret")
            assert status("the old secret of some length") == 401
            Path(certificate).write_text("nonsense")
            process.send_signal(signal.SIGHUP)
            assert [status("the new secret of some length") for _ in range(3)] == [202] * 3
            assert serial() == second
    finally:
        process.terminate()
        process.wait(10)
    assert process.returncode == 0
