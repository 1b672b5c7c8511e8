"""A sidecar at the engine's real socket that floods, or sends what is no message, beside one that works."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
import pytest
from msgspec import Raw

from cli.addresses import SIDECARS_SOCKET
from protocol.channels import Context, Dealer
from protocol.codes import ByeReason
from protocol.orders import CancelOrder
from protocol.session import PROTOCOL_VERSION, Bye, Claim, Claimed, EngineMessage, Hello, Item, Submit, engine_decoder
from tests.peers.process import free_ports
from tests.processes.stack import Stack, wait_until

CREDITS = 64
RESERVED = 16
WITHIN_S = 20.0
_encode = msgspec.msgpack.encode


def tight(text: str) -> str:
    """Return the example with few credits and the engine's metrics on a port."""
    (port,) = free_ports(1)
    text = text.replace("[engine]\n", f"[engine]\ncredits = {CREDITS}\nreserved_credits = {RESERVED}\n", 1)
    return f"{text}\n[metrics]\nengine_port = {port}\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployment at rest."""
    with Stack(tmp_path_factory.mktemp("hostile"), edit=tight) as stack:
        stack.start()
        yield stack


class Guest:
    """A second sidecar of the http source, written from the protocol's text."""

    def __init__(self, stack: Stack, number: int) -> None:
        self._context = Context()
        endpoint = stack.deployment.paths.endpoint(SIDECARS_SOCKET)
        self._dealer = Dealer(self._context, endpoint, 10_000, b"guest-%016d" % number)
        wait_until(lambda: self.say(_encode(Hello(PROTOCOL_VERSION, "http", "guest", b"i" * 16))), WITHIN_S, "a line")
        self.say(_encode(Claim(f"guest-{number}")))
        claimed = self.heard(Claimed)
        assert isinstance(claimed, Claimed)
        self.unit, self.unit_epoch = claimed.unit, claimed.unit_epoch

    def say(self, body: bytes) -> bool:
        return self._dealer.send(body)

    def heard(self, kind: type[EngineMessage]) -> EngineMessage:
        """Wait for a message of that kind and return it."""

        def look() -> EngineMessage | None:
            return next((m for b in self._dealer.receive(100) if isinstance(m := engine_decoder.decode(b), kind)), None)

        found = wait_until(look, WITHIN_S, kind.__name__)
        assert found is not None
        return found

    def close(self) -> None:
        self._dealer.close()
        self._context.close()


@pytest.fixture
def guest(running: Stack, request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = Guest(running, sum(map(ord, request.node.name)))
    yield guest
    guest.close()


def malformed(stack: Stack) -> float:
    """Return how many messages of sidecars the engine has counted as malformed."""
    port = stack.deployment.config.metrics.engine_port
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    (line,) = [x for x in text.splitlines() if x.startswith('wojak_engine_malformed_total{socket="sidecars"}')]
    return float(line.split()[-1])


def serves(stack: Stack, name: str) -> None:
    """The other sidecar's command is taken as if nothing had been."""
    url = f"{stack.http_url}/v1/orders/demo/{name}"
    assert httpx.delete(url, timeout=WITHIN_S, trust_env=False).status_code == 202


def test_a_flood_past_the_credits_is_cut_off_with_the_reason(running: Stack, guest: Guest) -> None:
    """BYE CREDITS names what was expected and what came; no outcome; the other sidecar is served in between."""
    items = [
        Item(n, guest.unit, guest.unit_epoch, 0, "l", "local", b"t" * 16, 1, Raw(_encode(CancelOrder("demo", f"f{n}"))))
        for n in range(CREDITS + RESERVED + 1)
    ]
    guest.say(_encode(Submit(items)))
    serves(running, "beside-a-flood")
    bye = guest.heard(Bye)
    assert isinstance(bye, Bye)
    assert (bye.reason, bye.text) == (ByeReason.CREDITS, "expected at most 80 items unanswered, was 81")


@pytest.mark.parametrize("noise", [b"\xc1", b"\x91" * 3_000 + b"\xc0", b"\x92\x02\xa1\xff"])
def test_what_is_no_message_is_counted_and_answered(running: Stack, guest: Guest, noise: bytes) -> None:
    """BYE MALFORMED to that sidecar, one more in the engine's count, and the other one is served."""
    before = malformed(running)
    guest.say(noise)
    bye = guest.heard(Bye)
    assert isinstance(bye, Bye)
    assert bye.reason is ByeReason.MALFORMED
    wait_until(lambda: malformed(running) == before + 1, WITHIN_S, "the count")
    serves(running, f"after-{len(noise)}")
