"""Sidecars under `wojak up`: supervised as every other process, and no broker's fault is anybody else's.

The source is the folder of docs/writing-a-source.md, found by its entry point: what holds for it holds for any kind.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.peer import Message
from tests.peers.folder import FolderPeer, Folders
from tests.processes.stack import START_S, Stack, free_ports, wait_until

NAME = "sidecar-inbox"
ORDER = {
    "account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01",
    "order_type": "MARKET", "time_in_force": "IOC",
}  # fmt: skip


@pytest.fixture
def folders() -> Iterator[Folders]:
    """A place for folders, and the template installed."""
    folders = Folders()
    try:
        folders.start()
        yield folders
    finally:
        folders.end()


@pytest.fixture
def inbox(folders: Folders) -> FolderPeer:
    """One folder of orders."""
    return folders.peer("inbox")


def rows(inbox: FolderPeer, more: str = "") -> str:
    """Return what wojak.toml says of the folder."""
    settings = ", ".join(f"{k} = {json.dumps(v)}" for k, v in inbox.settings(principal="local").items())
    return (
        '[[sources]]\nsource = "inbox"\nprincipals = ["local"]\n\n[[sidecars]]\nsource = "inbox"\nkind = "folder"\n'
        f"settings = {{ {settings} }}\n{more}\n\n[http]"
    )


def stack_of(folder: Path, inbox: FolderPeer, more: str = "") -> Stack:
    return Stack(folder, env=inbox.env(), edit=lambda text: text.replace("[http]", rows(inbox, more), 1))


def order(number: int) -> Message:
    body = json.dumps({**ORDER, "client_order_id": f"f{number}"}).encode()
    return Message(body=body, message_id=f"m{number}")


def test_a_registered_kind_is_started_watched_and_drained(inbox: FolderPeer, tmp_path: Path) -> None:
    """Named when up, carrying, in `wojak status`, on its metrics port, back after kill -9, out with the rest."""
    (port,) = free_ports(1)
    with stack_of(tmp_path, inbox, f"port = {port}") as stack:
        stack.start()
        assert f"api ▸ {NAME}" in stack.said()
        inbox.send([order(1)])
        wait_until(lambda: stack.status().accepted == 1, START_S, "an order of the folder")

        wait_until(
            lambda: 'received_total{source="inbox"} 1.0' in httpx.get(f"http://127.0.0.1:{port}/metrics").text,
            START_S, "the order to be counted",
        )  # fmt: skip
        shown = stack.wojak("status")
        line = next(line for line in shown.stdout.splitlines() if line.startswith(NAME))
        assert line.split()[1] == "ready"

        second = stack.wojak("sidecar", "run", "inbox")
        assert second.returncode == 2
        assert "was carried by pid" in second.stderr

        said = stack.wojak("chaos", "kill", "sidecar", "--source", "inbox")
        assert said.stdout.startswith(f"{NAME} gone "), said.stderr
        assert stack.processes()[NAME].restarts == 1
        inbox.send([order(2)])
        wait_until(lambda: stack.status().accepted == 2, START_S, "an order after the restart")

        assert stack.stop() == 0, stack.said()
        assert inbox.waiting() == 0
        log = (stack.deployment.paths.logs / f"{NAME}.log").read_text()
        assert '"event":"draining"' in log.replace(": ", ":")


def test_a_broker_that_lacks_something_stops_nobody_and_is_tried_again(inbox: FolderPeer, tmp_path: Path) -> None:
    """A folder without its parts ends the sidecar with exit code 2: the rest trades; mended, it carries by itself."""
    new = Path(inbox.settings()["folder"]) / "new"
    new.rmdir()
    with stack_of(tmp_path, inbox) as stack:
        stack.start()
        assert (
            f"✘ PROCESS_FAILED: {NAME}: inbox: inbox: folder {new.parent} expected new in it; make them" in stack.said()
        )
        assert "What it lacks: wojak sidecar check inbox" in stack.said()
        bought = stack.wojak("order", "buy", "BTCUSDT", "0.01")
        assert bought.returncode == 0, bought.stdout
        line = next(line for line in stack.wojak("status").stdout.splitlines() if line.startswith(NAME))
        assert line.split()[1] == "DOWN"
        new.mkdir()
        inbox.send([order(1)])
        wait_until(lambda: stack.status().accepted == 2, START_S, "an order of the mended folder")
        assert stack.stop() == 0, stack.said()


def test_a_sidecar_that_can_not_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """An unknown kind: exit code 2, the kinds there are, and no journal."""
    text = '[[sources]]\nsource = "x"\nprincipals = ["local"]\n\n[[sidecars]]\nsource = "x"\nkind = "pigeon"\n'
    with Stack(tmp_path, edit=lambda of: of.replace("[http]", f"{text}settings = {{}}\n\n[http]", 1)) as stack:
        stack.start(wait=False)
        assert stack.supervisor is not None
        assert stack.supervisor.wait(START_S) == 2
        assert "sidecars[0].kind: expected one of" in stack.said()
        assert not stack.deployment.paths.journal.exists()


def test_what_a_slow_engine_has_not_answered_goes_back_and_the_exit_code_says_so(
    inbox: FolderPeer, tmp_path: Path
) -> None:
    """The engine hangs: the drain keeps its 2 s, gives back, says so; the next start answers, once."""
    with stack_of(tmp_path, inbox, "drain_ms = 2000") as stack:
        stack.start()
        inbox.send([order(1)])
        wait_until(lambda: stack.status().accepted == 1 and not inbox.waiting(), START_S, "an order of the folder")
        engine = stack.kill("engine", signal.SIGSTOP)
        inbox.send([order(2)])
        wait_until(inbox.taken, START_S, "the order to be taken")
        assert stack.supervisor is not None
        stack.supervisor.send_signal(signal.SIGINT)
        stack.wait_for_line(f"{NAME}: left before all was settled; given back or in the journal")
        assert inbox.waiting() == 1
        os.kill(engine, signal.SIGCONT)
        assert stack.supervisor.wait(START_S) == 3
        stack.start()
        stack.wait_ready()
        wait_until(lambda: not inbox.waiting(), START_S, "the folder to be empty")
        seq = stack.status().seq
        answer = httpx.get(
            f"{stack.books_url}/v1/orders", params={"account": "demo", "min_seq": seq}, timeout=30, trust_env=False
        )
        assert sorted(row["client_order_id"] for row in answer.json()["orders"]) == ["f1", "f2"], answer.text
        assert stack.stop() == 0, stack.said()
