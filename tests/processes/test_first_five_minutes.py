"""What a newcomer types and sees in the first minutes, on a real deployment, and the obvious mistakes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.processes.stack import ROOT, START_S, Stack, wait_until
from tests.unit.market.recorded import LINEAR, recorded

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The demonstration on the recorded session, flow included."""
    with Stack(tmp_path_factory.mktemp("up"), flow=True, ticks=recorded(LINEAR)) as stack:
        stack.start()
        yield stack


# Minute 0: everything starts with one command and says what it is.


def test_up_says_what_runs_and_where(running: Stack) -> None:
    """One command starts all parts and prints their addresses, the mode and what to try next."""
    running.wait_for_line("curl -s")
    said = running.said()
    assert "mode PAPER (nothing here can reach a real venue)" in said
    assert "engine ▸ feed ▸ sandbox ▸ follower ▸ books ▸ http ▸ api" in said
    assert running.http_url in said
    assert running.books_url in said
    assert "wojak order buy BTCUSDT" in said


def test_the_status_names_the_recording_and_counts_the_flow(running: Stack) -> None:
    """Status lines show the touch, where it comes from, orders by code, fills, latency and lag."""
    running.wait_for_line("[running]")
    wait_until(lambda: re.search(r"rejected [1-9].*fills [1-9]", running.said()), START_S, "refusals and fills")
    said = running.said()
    assert f"BTCUSDT (recorded, {LINEAR})" in said
    assert re.search(r"receive→durable p50 \d+\.\d\d ms", said)
    assert "lag books" in said
    assert "demo flow 200 orders/s" in said


def test_output_that_is_no_terminal_has_no_control_characters(running: Stack) -> None:
    """Piped output is plain lines."""
    running.wait_for_line("[running]")
    assert not CONTROL.search(running.said().replace("\n", ""))


# Minute 1: an order, and why it was allowed.


def test_an_order_is_accepted_filled_and_traced(running: Stack) -> None:
    """Buy prints the acceptance and the fill; trace shows its life from the journal."""
    bought = running.wojak("order", "buy", "BTCUSDT", "0.01", "--id", "first-1")
    assert bought.returncode == 0, bought.stdout + bought.stderr
    assert re.search(
        r"ACCEPTED  P-\w+   durable in \d+\.\d\d ms   \d+ checks passed   position after fill \+0\.\d+ of 5",
        bought.stdout,
    )
    fills = re.findall(r"FILLED    (0\.\d+) @ 61,\d{3}\.\d   venue S-\d+   fee 0\.\d+ USDT", bought.stdout)
    assert sum(map(Decimal, fills)) == Decimal("0.01")  # in one, unless the flow has just taken the touch
    order_id = re.search(r"P-\w+", bought.stdout)
    assert order_id is not None
    traced = running.wojak("order", "trace", order_id[0]).stdout
    words = [line.split("ms")[1].split()[0] for line in traced.splitlines()]
    assert words == [
        "created",
        "received",
        "accepted",
        "durable",
        "acknowledged",
        *["partially"] * (len(fills) - 1),
        "filled",
    ]


# Minute 2: break a rule, send it twice.


def test_a_refusal_says_which_limit_and_by_how_much(running: Stack) -> None:
    """900 of a limit of 50 is refused with the limit, the value and the scope; the exit code says so too."""
    refused = running.wojak("order", "buy", "BTCUSDT", "900")
    assert refused.stdout == "REJECTED  QTY_MAX expected at most 50, was 900 (account demo)\n"
    assert refused.returncode == 1


def test_the_same_order_twice_is_one_order(running: Stack) -> None:
    """The example file sent twice under one key: the same answer, marked as the repeat it is."""
    body = (ROOT / "examples" / "order.json").read_bytes()
    headers = {"content-type": "application/json", "idempotency-key": "a1"}
    url = f"{running.http_url}/v1/orders"
    first, second = (httpx.post(url, content=body, headers=headers, trust_env=False) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json()["duplicate_of"] == "a1"
    assert second.json()["order_id"] == first.json()["order_id"]


# Minute 3: pull the plug.


@pytest.mark.parametrize("process", ["engine", "http", "gateway", "follower", "books", "feed"])
def test_a_killed_process_comes_back(running: Stack, process: str) -> None:
    """Chaos kill prints when it was gone, back and ready; the engine says what it recovered."""
    killed = running.wojak("chaos", "kill", process)
    assert killed.returncode == 0, killed.stdout + killed.stderr
    assert re.search(rf"{process} gone [\d:.]+ · back [\d:.]+ · ready [\d:.]+", killed.stdout)
    if process == "engine":
        assert re.search(r"recovered [\d,]+ events in \d+\.\d\d ms", killed.stdout)


def test_nothing_is_lost_or_twice_after_the_kills(running: Stack) -> None:
    """Verify counts sent = outcomes, lost 0, twice 0, books = journal, while everything runs on."""
    verified = running.wojak("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    counts = re.search(r"sent ([\d,]+) = outcomes ([\d,]+) · lost 0 · twice 0", verified.stdout)
    assert counts is not None, verified.stdout
    assert counts[1] == counts[2] != "0"
    assert "books = journal" in verified.stdout
    assert "✔ verified" in verified.stdout


def test_the_journal_decides_the_same_again(running: Stack) -> None:
    """Every recorded input, decided again, gives what was recorded; none compared would be a failure."""
    verified = running.wojak("journal", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert re.search(r"decided again [1-9][\d,]*", verified.stdout)
    assert "0 differ" in verified.stdout


# The brake and the lists.


def test_kill_cancels_and_halts_one_account_until_resume(running: Stack) -> None:
    """Kill answers with what it cancelled and how to lift it; orders of the account are refused until then."""
    killed = running.wojak("kill", "--account", "demo", "--reason", "trying it")
    assert "account demo HALTED" in killed.stdout
    assert "lift: wojak resume --account demo" in killed.stdout
    assert "STATE_HALTED" in running.wojak("order", "buy", "BTCUSDT", "0.01").stdout
    assert "account demo ACTIVE" in running.wojak("resume", "--account", "demo").stdout
    assert "ACCEPTED" in running.wojak("order", "buy", "BTCUSDT", "0.01").stdout


def test_an_open_order_is_listed_and_cancelled(running: Stack) -> None:
    """A resting order shows in the list of open ones and leaves it by cancel."""
    price = str(round(running_price(running) * 0.995))
    assert "ACCEPTED" in running.wojak("order", "buy", "BTCUSDT", "0.01", "--limit", price, "--id", "rest-1").stdout
    assert "rest-1" in running.wojak("orders", "--account", "demo", "--open").stdout
    assert "ACCEPTED" in running.wojak("order", "cancel", "rest-1").stdout
    wait_until(
        lambda: "rest-1" not in running.wojak("orders", "--account", "demo", "--open").stdout, START_S, "the cancel"
    )


def running_price(stack: Stack) -> float:
    """Return the touch that the status shows."""
    found = re.search(r"([\d,]+\.\d) / ", stack.wojak("status").stdout)
    assert found is not None
    return float(found[1].replace(",", ""))


def test_the_status_command_asks_the_feed_where_its_ticks_come_from(running: Stack) -> None:
    """A recording given to ``wojak up`` alone must not show as SYNTHETIC in another terminal."""
    said = running.wojak("status").stdout

    assert f"BTCUSDT (recorded, {LINEAR})" in said
    assert "SYNTHETIC" not in said


def test_status_json_is_all_the_engine_says(running: Stack) -> None:
    """Programs read the status as JSON."""
    status = json.loads(running.wojak("status", "--json").stdout)
    assert status["mode"] == "PAPER"
    assert status["venues"][0]["ready"]


# The obvious mistakes.


def test_a_second_up_is_refused_and_names_the_first(running: Stack) -> None:
    """One supervisor a state folder: the second says who runs, and the first goes on."""
    second = running.wojak("up")
    assert running.supervisor is not None
    assert second.returncode == 1
    assert f"pid {running.supervisor.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert running.supervisor.poll() is None


def test_a_port_in_use_is_said_before_anything_starts(running: Stack, tmp_path: Path) -> None:
    """The key, the port and what to do; exit code 2."""
    taken = running.deployment.config.http.port
    stack = Stack(tmp_path, edit=lambda text: re.sub(r"(\[http\]\nhost = \S+\nport = )\d+", rf"\g<1>{taken}", text))
    refused = stack.wojak("up")
    assert refused.returncode == 2
    assert f"http.port: expected a free port, was {taken}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[feed]\n", "[feed]\nsped = 2\n"), "feed.sped: unknown key"),
        (("rate = 200", 'rate = "fast"'), "flow.rate: expected `int`, was 'fast'"),
        (('mode = "paper"', 'mode = "live"'), 'wojak.mode: expected "paper", was "live"'),
        (('account = "demo" ', 'account = "dmo" '), "limits[0].key: expected one of dmo, flow"),
        (("# [[http.keys]]", '[[http.keys]]\nname = "x"\nprincipal = "local"\nsecret_env = "WOJAK_NO_SUCH"'),
         "expected environment variable WOJAK_NO_SUCH to hold the secret, was not set"),
    ],
)  # fmt: skip
def test_a_wrong_or_unknown_key_is_named(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    """A fault in wojak.toml stops the start with the key, the value and what was expected."""
    refused = Stack(tmp_path, edit=lambda text: text.replace(*change, 1)).wojak("up")
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    """No wojak.toml: one line that names wojak init."""
    stack = Stack(tmp_path)
    stack.config.unlink()
    refused = stack.wojak("up")
    assert refused.returncode == 2
    assert "wojak init" in refused.stderr


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A path through a file, or one without permission: the folder and what to do, no traceback."""
    (tmp_path / "file").write_text("")
    stack = Stack(tmp_path, edit=lambda text: text.replace('".wojak"', '"file/state"'))
    refused = stack.wojak("up")
    assert refused.returncode == 2
    assert "wojak.state_dir: expected a folder this user can write" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sixty_columns_are_enough(tmp_path: Path) -> None:
    """In a terminal of 60 columns no line of the live status is longer, and Ctrl-C twice ends clean."""
    with Stack(tmp_path, flow=True) as stack:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
        env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}  # which would count for more
        stack.supervisor = subprocess.Popen(
            stack.command("up", "--flow"), cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
            env={**env, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = _read_until(ours, b"[running]")
        status = ANSI.sub("", shown.decode("utf-8", "replace")).split("BTCUSDT (SYNTHETIC)", 1)[1]
        assert [line for line in re.split(r"[\r\n]+", status) if len(line) > 60] == []
        stack.supervisor.send_signal(signal.SIGINT)
        stack.supervisor.send_signal(signal.SIGINT)
        _read_until(ours, b"stopped in")
        stack.supervisor.wait(START_S)
        assert stack.supervisor.returncode in {0, 1}
        os.close(ours)


def test_children_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    """Kill -9 of wojak up leaves nothing running: every child hears of it from the kernel."""
    with Stack(tmp_path) as stack:
        stack.start()
        pids = [state.pid for state in stack.processes().values()]
        assert stack.supervisor is not None
        stack.supervisor.kill()
        stack.supervisor.wait()
        wait_until(lambda: not any(map(_runs, pids)), START_S, "every child to end")


def test_an_old_python_is_one_clear_line(tmp_path: Path) -> None:
    """With nothing but Python 3.9 in reach, set-up says what was expected and what was there."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        fake = tmp_path / name
        fake.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1;; *) echo "python3 is 3.9.18";; esac\n')
        fake.chmod(0o755)
    refused = subprocess.run(
        ["/bin/sh", str(ROOT / "cli" / "bootstrap.sh")], env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "Python expected 3.11 or newer, python3 is 3.9.18" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_ctrl_c_drains(tmp_path: Path) -> None:
    """Ctrl-C stops in order and exits 0; what was answered verifies afterwards, with nothing running."""
    with Stack(tmp_path, flow=True) as stack:
        stack.start()
        wait_until(lambda: stack.status().accepted > 100, START_S, "100 accepted orders")
        assert stack.stop() == 0
        assert "drained and stopped" in stack.said()
        verified = stack.wojak("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr


def _read_until(fd: int, text: bytes) -> bytes:
    data = b""
    deadline = time.monotonic() + START_S
    while text not in data:
        assert time.monotonic() < deadline, data.decode("utf-8", "replace")
        if select.select([fd], [], [], 0.1)[0]:
            data += os.read(fd, 65_536)
    return data


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
