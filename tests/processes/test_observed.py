"""A real deployment under load, looked at from outside: what it tells is what it did, also while parts hang or die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from cli.alerting.message import Message
from cli.scrape import Scraped, Scraper
from cli.top_figures import Figures
from runtime.webhooks import signature_of
from tests.peers.process import free_ports
from tests.processes.stack import START_S, Stack, wait_until
from tests.unit.cli.alert_peers import WebPeer, http_answer

ORDERS = 100
SECRET = "of-twenty-four-characters"
TOLD: dict[Stack, WebPeer] = {}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployment whose engine also serves a port, and whose loops count as hung after a second and a half."""
    (port,) = free_ports(1)
    section = f"\n[metrics]\nengine_port = {port}\nstall_ms = 1500\n"
    folder = tmp_path_factory.mktemp("observed")
    (folder / "secret").write_text(SECRET, "ascii")
    ops = WebPeer(http_answer(204))
    section += (
        "[alerts]\nlook_ms = 500\n"
        f'[[alerts.webhooks]]\nname = "ops"\nurl = "{ops.url}"\nsecret_file = "secret"\nrules = ["halt", "truth"]\n'
    )
    try:
        with Stack(folder, edit=lambda text: text + section) as stack:
            stack.start()
            TOLD[stack] = ops
            yield stack
    finally:
        ops.close()


@pytest.fixture
def scraper(running: Stack) -> Iterator[Scraper]:
    made = Scraper(running.deployment)
    yield made
    made.close()


def engine_url(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.deployment.config.metrics.engine_port}"


def send(stack: Stack, number: int) -> None:
    quantity = "900" if number % 10 == 9 else "0.01"
    order = {"account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY", "quantity": quantity,
             "price": "61000", "client_order_id": f"seen{number}"}  # fmt: skip
    assert httpx.post(f"{stack.http_url}/v1/orders", json=order, timeout=10).status_code in {201, 422}


def test_people_are_told_of_a_halt_and_of_its_end(running: Stack) -> None:
    """A process of its own, signed, once each; `wojak alerts test` reaches the same receiver."""
    ops = TOLD[running]

    def told(count: int) -> list[Message]:
        def look() -> list[Message] | None:
            found = [msgspec.json.decode(body, type=Message) for _, body in ops.requests]
            return found if len(found) >= count else None

        return wait_until(look, START_S, f"{count} alerts")

    assert running.wojak("halt", "--account", "demo", "--reason", "look").returncode == 0
    assert [(m.state, m.rule, m.scope) for m in told(1)] == [("firing", "halt", "engine account demo")]
    assert running.wojak("resume", "--account", "demo").returncode == 0
    assert [m.state for m in told(2)] == ["firing", "resolved"]
    assert running.wojak("adjust", "cash", "demo", "USDT", "--by", "5", "--reason", "deposit").returncode == 0
    assert "cash of demo set to" in told(3)[-1].text
    assert running.wojak("alerts", "test").returncode == 0
    assert told(4)[-1].state == "test"
    headers, body = ops.requests[0]
    signed = signature_of(SECRET, headers["x-wojak-timestamp"], headers["x-wojak-delivery"], body)
    assert headers["x-wojak-signature"] == signed
    assert "USDT: cash 5" in running.wojak("accounts", "--account", "demo").stdout


def test_each_process_tells_what_passed_through_it(running: Stack, scraper: Scraper) -> None:
    """A hundred orders, ten of them refused: http, engine, gateway and books have each seen their part."""
    for number in range(ORDERS):
        send(running, number)

    def settled() -> dict[str, Scraped] | None:
        look = scraper.look()  # each tells what it published last, up to a second ago
        engine, gateway = look["engine"], look["gateway"]
        in_books = look["books"].value("wojak_books_writer_as_of_seq") == engine.value("wojak_engine_seq")
        accepted = engine.value("wojak_engine_orders_accepted_total")
        decided = accepted + engine.total("wojak_engine_rejected_total") >= ORDERS
        at_venue = gateway.value("wojak_gateway_receive_to_durable_seconds_count") >= accepted
        answered = look["http"].value("wojak_sidecar_receive_to_settle_seconds_count") >= ORDERS
        return look if in_books and decided and at_venue and answered else None

    look = wait_until(settled, START_S, "the books to have everything")
    engine, http, gateway = look["engine"], look["http"], look["gateway"]
    status = running.status()
    counted = engine.value("wojak_engine_orders_accepted_total"), engine.total("wojak_engine_rejected_total")
    assert counted == (status.accepted, status.rejected)
    assert sum(counted) == ORDERS
    assert counted[1] >= ORDERS // 10
    assert http.value("wojak_sidecar_received_total") == ORDERS
    assert http.value("wojak_sidecar_receive_to_settle_seconds_count") == ORDERS
    assert engine.value("wojak_engine_receive_to_durable_seconds_count") == ORDERS
    assert engine.value("wojak_engine_turn_items_sum") == ORDERS
    assert gateway.value("wojak_gateway_receive_to_durable_seconds_count") == counted[0]
    assert look["feed"].value("wojak_feed_ticks_total") > 0
    assert not any(scraped.reason for scraped in look.values())


def test_a_gateway_that_hangs_makes_the_engine_not_ready(running: Stack) -> None:
    """503 with the venue named within its lease, 200 when the gateway goes on; alive throughout."""
    url = engine_url(running)
    pid = running.kill("gateway", signal.SIGSTOP)
    try:
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503, START_S, "the engine not to be ready")
        assert "venue sandbox" in httpx.get(f"{url}/readyz").json()["reason"]
        assert httpx.get(f"{url}/healthz").status_code == 200
        done = running.wojak("top", "--once", "--json")
    finally:
        running.kill("gateway", signal.SIGCONT)
    assert done.returncode == 1
    rows = {row.name: row for row in msgspec.json.decode(done.stdout, type=Figures).processes}
    assert (rows["gateway"].state, rows["engine"].state) == ("DOWN", "not ready")
    assert running.processes()["gateway"].pid == pid
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, START_S, "the engine to be ready again")


def test_a_killed_engine_serves_again_at_the_same_addresses(running: Stack, scraper: Scraper) -> None:
    """After kill -9 there is a socket file left, and a port; the next life has both, and another start time."""
    started = "process_start_time_seconds"
    before = scraper.ask("engine").value(started)
    running.wait_restarted("engine", running.kill("engine"))

    found = wait_until(
        lambda: (now := scraper.ask("engine")).answers and not now.reason and now.value(started) and now, START_S,
        "the engine to be ready again",
    )  # fmt: skip
    assert found.value(started) > before
    assert found.value("wojak_engine_epoch") == 2
    assert found.value("wojak_engine_recovered_records") > ORDERS
    assert httpx.get(f"{engine_url(running)}/readyz").status_code == 200


def test_a_second_start_on_the_engines_port_is_told_what_to_do(running: Stack, tmp_path: Path) -> None:
    """Another deployment with the same port stops before it starts anything, and says whose key to change."""
    port = running.deployment.config.metrics.engine_port
    with Stack(tmp_path, edit=lambda text: f"{text}\n[metrics]\nengine_port = {port}\n") as second:
        second.start(wait=False)
        assert second.supervisor is not None
        assert second.supervisor.wait(START_S) == 2
        assert f"metrics.engine_port: expected a free port, was {port} on 127.0.0.1" in second.said()
