"""Two engines in one deployment: one of them hangs and is killed, the other trades on, and nothing is lost or twice."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cli.addresses import SIDECARS_SOCKET
from sidecars.sources.http import HttpSettings
from tests.processes.stack import START_S, Stack, wait_until
from tests.unit.sidecars.conftest import Sidecar

LOST_NOTHING = r"sent ([\d,]+) = outcomes \1 · lost 0 · twice 0"


def two_shards(text: str) -> str:
    """Return the example with account demo on shard 0 and account flow on shard 1."""
    text = text.replace("shard = 0\n", "shard = 0\nshards = 2\n", 1)
    text = re.sub(
        r"^rate = \d+", "rate = 50", text, count=1, flags=re.MULTILINE
    )  # what waits while one hangs is little
    for shard, account in enumerate(("demo", "flow")):
        text = re.sub(rf'(account = "{account}" .*\n)', rf"\1shard = {shard}\n", text, count=1)
    return text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two shards on the synthetic session, the demonstration flow on shard 1."""
    with Stack(tmp_path_factory.mktemp("shards"), flow=True, edit=two_shards) as stack:
        stack.start()
        stack.wait_for_line("[running]")
        yield stack


def send(stack: Stack, account: str, number: int, within_s: float = 10.0) -> httpx.Response:
    """Send one order far from the touch, so that it rests."""
    body = {
        "account": account, "strategy": "manual", "instrument": "BTCUSDT", "client_order_id": f"t-{number}",
        "side": "BUY", "quantity": "0.001", "price": price(stack),
    }  # fmt: skip
    return httpx.post(f"{stack.http_url}/v1/orders", json=body, timeout=within_s, trust_env=False)


def price(stack: Stack) -> str:
    """Return a price inside the collar and below the touch, the same for all orders of a stack."""
    known: dict[str, str] = stack.__dict__.setdefault("prices", {})
    if not known:
        bid = re.findall(r"([\d,]+)\.\d+ / [\d,]+\.\d+", stack.said())[0].replace(",", "")
        known["bid"] = str(int(bid) * 995 // 1000)
    return known["bid"]


def shards_of(stack: Stack) -> dict[str, Any]:
    """Return what the order source says of each shard."""
    found: dict[str, Any] = httpx.get(f"{stack.http_url}/readyz", trust_env=False).json()["shards"]
    return found


def test_each_shard_has_its_own_files_and_all_are_ready(running: Stack) -> None:
    """Shard 0 where it would be alone, shard 1 in its folder; up, status and readiness show both."""
    state = running.deployment.paths.state
    assert (state / "journal").is_dir()
    assert (state / "shard-1" / "journal").is_dir()
    assert (state / "shard-1" / "books.sqlite").is_file()
    assert shards_of(running) == {"0": "open", "1": "open"}
    status = running.wojak("status")
    assert status.returncode == 0, status.stdout + status.stderr
    assert re.findall(r"^mode PAPER   shard (\d)", status.stdout, re.MULTILINE) == ["0", "1"]
    engines = msgspec.json.decode(running.wojak("status", "--json").stdout)
    assert [e["shard"] for e in engines] == [0, 1]


def test_one_engine_hangs_and_dies_while_the_other_trades(running: Stack) -> None:
    """Accounts of the other shard never notice; those of this one hear which shard it is and lose nothing."""
    accepted = send(running, "flow", 1)
    assert accepted.status_code == 201, accepted.text
    pid = running.kill("engine-1", signal.SIGSTOP)
    wait_until(lambda: shards_of(running)["1"] != "open", START_S, "shard 1 away")

    for number in range(10, 30):
        taken = send(running, "demo", number)
        assert taken.status_code == 201, taken.text
    refused = send(running, "flow", 2)
    assert refused.status_code == 503
    assert refused.json()["error"]["text"].startswith("shard 1, where account flow is: ")
    halted = running.wojak("halt", "--strategy", "flow", "--reason", "one is away")
    assert halted.returncode == 1
    assert "shard 0: strategy flow HALTED" in halted.stdout
    assert "shard 1: ✘ ENGINE_AWAY" in halted.stdout
    running.wojak("resume", "--strategy", "flow", "--shard", "0")
    away = running.wojak("status")
    assert away.returncode == 1
    assert "engine-1 DOWN" in away.stdout

    os.kill(pid, signal.SIGKILL)
    running.wait_restarted("engine-1", pid)
    running.wait_ready("engine-1", "gateway-1", "http", "api")
    again = wait_until(lambda: (r := send(running, "flow", 2)).status_code == 201 and r, START_S, "the order taken")
    assert "idempotent-replayed" not in again.headers
    repeat = send(running, "flow", 1)
    assert repeat.headers["idempotent-replayed"] == "true"
    assert repeat.json()["order_id"] == accepted.json()["order_id"]
    assert running.processes()["engine"].restarts == 0


def test_nothing_is_lost_or_twice_on_either_shard(running: Stack) -> None:
    """What the flow sent has one outcome each, and each shard's venue and books agree with its journal."""
    verified = running.wojak("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert re.search(LOST_NOTHING, verified.stdout)
    assert verified.stdout.count("books = journal") == 2
    again = running.wojak("journal", "verify")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("0 differ") == 2
    books = httpx.get(
        f"{running.books_url}/v1/orders", params={"account": "demo", "limit": 500}, trust_env=False
    ).json()
    sent = [o["client_order_id"] for o in books["orders"] if o["client_order_id"].startswith("t-")]
    assert sorted(sent) == sorted(f"t-{n}" for n in range(10, 30))


def test_a_kill_goes_where_it_belongs(running: Stack) -> None:
    """An account's to its shard, a global one to all, and the answer says which shards took it."""
    killed = running.wojak("kill", "--account", "flow", "--reason", "trying it", "--shard", "0")
    assert "CONTROL_REFUSED: WRONG_SHARD account flow belongs to shard 1, this is shard 0" in killed.stderr
    killed = running.wojak("kill", "--account", "demo", "--reason", "trying it")
    assert killed.stdout.startswith("20 open orders → cancels durable")
    everything = running.wojak("halt", "--global", "--reason", "trying it")
    assert sorted(re.findall(r"^shard (\d): global HALTED", everything.stdout, re.MULTILINE)) == ["0", "1"]
    lifted = running.wojak("resume", "--global")
    assert lifted.stdout.count("global ACTIVE") == 2
    running.wojak("resume", "--account", "demo")
    assert "ACCEPTED" in running.wojak("order", "buy", "BTCUSDT", "0.001").stdout


def test_a_flatten_is_done_only_when_every_shard_is_flat(running: Stack) -> None:
    """Both engines exit what they hold, and each says so."""
    flat = running.wojak("flatten", "--strategy", "manual", "--reason", "trying it")
    assert flat.returncode == 0, flat.stdout + flat.stderr
    assert sorted(re.findall(r"^shard (\d): strategy manual REDUCE-ONLY", flat.stdout, re.MULTILINE)) == ["0", "1"]
    assert flat.stdout.count("✔ flat") == 2
    held = httpx.get(f"{running.books_url}/v1/positions", params={"account": "demo"}, trust_env=False).json()
    assert [p["quantity"] for p in held["positions"]] == ["0"]
    running.wojak("resume", "--strategy", "manual", "--reason", "tried")


def test_one_journal_is_read_by_shard_or_account(running: Stack) -> None:
    """Where only one can be meant, the command says what it needs."""
    assert running.wojak("journal", "cat", "--last", "5").returncode == 2
    ours = running.wojak("journal", "cat", "--account", "demo")
    assert "t-10" in ours.stdout
    theirs = running.wojak("journal", "cat", "--shard", "1", "--account", "demo")
    assert theirs.returncode == 0
    assert "t-10" not in theirs.stdout


def test_a_map_that_moves_an_account_with_orders_is_refused(running: Stack) -> None:
    """The start names the account, its state and both shards, and takes no order before it knows."""
    assert running.stop() in {0, 3}
    text = running.config.read_text()
    running.config.write_text(text.replace("shard = 1\n", "shard = 0\n", 1))
    refused = running.wojak("up")
    assert refused.returncode == 1
    assert "accounts.shard: account flow expected shard 1" in refused.stderr
    running.config.write_text(text.replace("shards = 2\n", "", 1).replace("shard = 1\n", "", 1))
    fewer = running.wojak("up")
    assert fewer.returncode == 2
    assert "wojak.shards: expected at least 2, because shard 1 has a journal" in fewer.stderr


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Stack]:
    """Two shards without the flow, for what a test breaks for good."""
    with Stack(tmp_path, edit=two_shards) as stack:
        stack.start()
        stack.wait_for_line("[running]")
        yield stack


def test_an_engine_refuses_what_a_wrong_map_sends(apart: Stack) -> None:
    """A sidecar with the accounts swapped: 421 with the right shard named, nothing done, and the right one takes it."""
    paths = apart.deployment.paths
    settings = HttpSettings(
        engine_endpoint="", shard_endpoints=tuple(paths.of(n).endpoint(SIDECARS_SOCKET) for n in range(2)),
        account_shards={"demo": 1, "flow": 0}, state_file=str(apart.folder / "epochs"), port=0,
        loopback_principal="local",
    )  # fmt: skip
    swapped = Sidecar(settings)
    try:
        wait_until(lambda: all(s.is_open for s in swapped.sidecar.engines.shards), START_S, "both sessions")
        body = {
            "account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "client_order_id": "t-1", "side": "BUY",
            "quantity": "0.001", "price": price(apart),
        }  # fmt: skip
        refused = httpx.post(f"{swapped.url}/v1/orders", json=body, trust_env=False)
        cancel = httpx.delete(f"{swapped.url}/v1/orders/demo/t-1", trust_env=False)
    finally:
        swapped.stop()
    for answer in (refused, cancel):
        assert answer.status_code == 421, answer.text
        assert answer.json()["outcome"] == "REJECTED"
        assert answer.json()["text"] == "WRONG_SHARD account demo belongs to shard 0, this is shard 1"
    taken = send(apart, "demo", 1)
    assert taken.status_code == 201, taken.text
    assert "idempotent-replayed" not in taken.headers
    breaches = httpx.get(f"{apart.books_url}/v1/breaches", params={"shard": 1}, trust_env=False).json()["breaches"]
    assert [b["command"] for b in breaches] == ["new", "cancel"]
    assert {b["text"] for b in breaches} == {cancel.json()["text"]}


def test_a_shard_that_can_not_run_is_left_down_alone(apart: Stack) -> None:
    """Its journal is damaged while it hangs: it is not started again, it is said why, and the other trades on."""
    for number in range(5):
        assert send(apart, "flow", number).status_code == 201
    pid = apart.kill("engine-1", signal.SIGSTOP)
    segment = min(apart.deployment.paths.of(1).journal.glob("*.wal"))
    with segment.open("r+b") as file:
        file.seek(600)
        file.write(b"damage")
    os.kill(pid, signal.SIGKILL)

    apart.wait_for_line("the other shards go on")
    assert "PROCESS_FAILED: engine-1: JOURNAL_DAMAGED" in apart.said()
    assert send(apart, "demo", 1).status_code == 201
    assert send(apart, "flow", 9).status_code == 503
    assert apart.processes()["engine-1"].pid == 0
    assert apart.stop() == 1
