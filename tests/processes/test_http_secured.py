"""The real stack with TLS, signing keys and client certificates: every own command still finds its way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.addresses import http_trust
from runtime.clock import wall_ns
from tests.processes.stack import START_S, Stack, wait_until
from tests.unit.sidecars.certificates import Authority

SECRET = "a shared secret of thirty-two characters"
SHOWN = "a secret for the flow"
DESK = "spiffe://acme/desk"
HTTP = """\
[http.tls]
certificate_file = "localhost.pem"
key_file = "localhost.key"
client_ca_file = "clients.pem"

[[http.certificates]]
identity = "spiffe://acme/desk"
principal = "local"

[[http.keys]]
name = "desk-1"
principal = "local"
kind = "hmac"
secret_env = "DESK_1"

[[http.keys]]
name = "flow"
principal = "local"
secret_env = "FLOW"

[books]"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The demonstration, but over TLS and for nobody without a key or a certificate."""
    folder = tmp_path_factory.mktemp("secured")
    Authority(folder, "ours").issue("localhost", "DNS:localhost", "IP:127.0.0.1")
    Authority(folder, "clients").issue("desk", f"URI:{DESK}")

    def edit(text: str) -> str:
        return text.replace('loopback_principal = "local"', 'loopback_principal = ""').replace("[books]", HTTP, 1)

    with Stack(folder, flow=True, env={"DESK_1": SECRET, "FLOW": SHOWN}, edit=edit) as stack:
        stack.start()
        yield stack


def test_up_flow_and_readiness_work_over_tls(secured: Stack) -> None:
    """Everything is ready, the flow is served, and the address says https."""
    assert secured.http_url.startswith("https://")
    wait_until(lambda: re.search(r"fills [1-9]", secured.said()), START_S, "fills of the flow")


def test_the_command_signs(secured: Stack) -> None:
    """With the key's name and secret it is accepted and filled; without, it is told what is missing."""
    options = ("--sign", "desk-1", "--key-env", "DESK_1")
    bought = secured.wojak("order", "buy", "BTCUSDT", "0.01", "--id", "signed-1", *options)
    unsigned = secured.wojak("order", "buy", "BTCUSDT", "0.01")

    assert "ACCEPTED" in bought.stdout, bought.stdout + bought.stderr
    assert unsigned.returncode != 0
    assert "UNAUTHENTICATED (401)" in unsigned.stdout + unsigned.stderr


def test_a_client_certificate_orders_and_an_old_order_is_refused(secured: Stack, tmp_path: Path) -> None:
    """Over mTLS, by an address with its own authority; an order made an hour ago is MESSAGE_EXPIRED, journaled."""
    folder = secured.folder
    options = ("--url", secured.http_url.replace("127.0.0.1", "localhost"), "--ca-file", str(folder / "ours.pem"),
               "--cert-file", str(folder / "desk.pem"), "--cert-key-file", str(folder / "desk.key"))  # fmt: skip
    bought = secured.wojak("order", "buy", "BTCUSDT", "0.01", *options)
    assert "ACCEPTED" in bought.stdout, bought.stdout + bought.stderr

    order = {"account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01"}
    old = {**order, "client_order_id": "old-1", "order_type": "MARKET", "created_at_ns": wall_ns() - 3_600 * 10**9}
    trust = http_trust(secured.deployment)
    with httpx.Client(verify=trust, trust_env=False) as client:
        answer = client.post(f"{secured.http_url}/v1/orders", json=old, headers={"authorization": f"Bearer {SHOWN}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "MESSAGE_EXPIRED")
