"""``wojak top`` and what it reads: each number from where it is measured, and who is away is said to be."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import engine.metrics
import venues.core.metrics
from cli.configuration import Loaded
from cli.docs_metrics import names
from cli.example import EXAMPLE
from cli.options import deployment
from cli.scrape import Scraped, Scraper, parse
from cli.top_figures import Figures, figures, rate
from cli.top_view import alerts, duration, screen, size
from runtime.health import HealthSettings, served
from runtime.histogram import EMPTY, Histogram
from runtime.metrics import Board, Family, Snapshot
from tests.tidy_rules import ROOT

PATIENCE_S = 20.0
WALL_S = 2e9


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """A deployment of which nothing runs."""
    text = re.sub(r"\b808[01]\b", lambda _: str(free_port()), EXAMPLE)
    (tmp_path / "wojak.toml").write_text(text)
    found = deployment(tmp_path / "wojak.toml")
    found.paths.run.mkdir(parents=True, exist_ok=True)
    return found


@contextlib.contextmanager
def process(loaded: Loaded, name: str, families: tuple[Family, ...]) -> Iterator[Board]:
    """Serve a board where a process of that name would."""
    board = Board()
    board.not_ready = ()
    with served(HealthSettings(process=name, socket_path=str(loaded.paths.health(name))), board, families) as serve:
        serve()
        yield board


def engine_snapshot(at_s: int, accepted: int) -> Snapshot:
    turn = Histogram()
    turn.record(2_000_000)
    return Snapshot(
        at_s * 10**9,
        {
            "wojak_engine_info": {("paper", "0", "0.1.0"): 1},
            "wojak_engine_epoch": 3,
            "wojak_engine_orders_accepted": accepted,
            "wojak_engine_rejected": {("QTY_MAX",): 2, ("PRICE_COLLAR",): 5},
            "wojak_engine_held_orders": 3,
            "wojak_engine_dedup_keys": 85,
            "wojak_engine_dedup_keys_max": 100,
            "wojak_engine_halted": {("account", "demo", "HALTED"): 1, ("global", "", "REDUCE_ONLY"): 1},
            "wojak_engine_venue_ready": {("sandbox",): 1},
            "wojak_engine_outbox_commands": {("sandbox",): 4},
        },
        {f.name: EMPTY for f in engine.metrics.FAMILIES if f.kind in {"duration", "size"}}
        | {engine.metrics.TURN: turn.snapshot()},
    )


def test_what_processes_serve_is_what_is_shown(loaded: Loaded) -> None:
    """Through the real sockets: rates by the process's own clock, percentiles, queues, halts, the reason of each."""
    scraper = Scraper(loaded)
    with (
        process(loaded, "engine", engine.metrics.FAMILIES) as engine_board,
        process(loaded, "gateway", venues.core.metrics.FAMILIES) as gateway_board,
    ):
        gateway_board.not_ready = ("no session with the engine: CLOSED",)
        engine_board.publish(engine_snapshot(10, 1_000))
        before = scraper.look()
        engine_board.publish(engine_snapshot(12, 1_500))
        shown = figures(scraper.look(), before, WALL_S)
    scraper.close()

    assert (shown.mode, shown.shard, shown.epoch) == ("paper", 0, 3)
    assert shown.orders_per_s == 250
    assert (shown.accepted, shown.rejected) == (1_500, 7)
    assert shown.rejected_by_code == {"QTY_MAX": 2, "PRICE_COLLAR": 5}
    assert (shown.held_orders, shown.risk_ready) == (3, False)
    assert "HELD 3 (no risk service)" in "\n".join(line.text for line in screen(shown, 200))
    assert shown.halted == ["account demo HALTED", "global REDUCE_ONLY"]
    rows = {row.name: row for row in shown.processes}
    assert rows["engine"].state == "ready"
    assert rows["engine"].queues["outbox"] == 4
    assert rows["engine"].loop_max_ns == 2_000_000
    assert rows["engine"].memory_bytes > 1 << 20
    assert (rows["gateway"].state, rows["gateway"].reason) == ("not ready", "no session with the engine: CLOSED")
    assert {rows[name].state for name in ("feed", "books", "http", "api")} == {"DOWN"}
    assert rows["feed"].reason == "not running"
    shown_alerts = [line.text for line in alerts(shown)]
    assert "! gateway not ready: no session with the engine: CLOSED" in shown_alerts
    assert "! feed DOWN: not running" in shown_alerts
    assert "! halted: account demo HALTED" in shown_alerts
    assert "! order ids: 85.0 % taken" in shown_alerts


def test_a_process_that_hangs_is_given_up_on(loaded: Loaded) -> None:
    """It takes the connection and never answers: half a second, then its reason."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(loaded.paths.health("engine")))
        deaf.listen()
        scraper = Scraper(loaded)
        found = scraper.ask("engine")
        scraper.close()

    assert (found.answers, found.reason) == (False, "does not answer within 0.5 s")


def test_no_rate_over_two_lives() -> None:
    """A counter that fell, a clock that stood, a look that failed: no rate rather than a wrong one."""

    def look(at_s: float, count: float, *, answers: bool = True) -> Scraped:
        return Scraped("x", answers, "", at_s, {"n": {frozenset(): count}})

    assert rate(look(12, 30), look(10, 10), "n") == 10
    assert rate(look(12, 5), look(10, 10), "n") is None
    assert rate(look(10, 30), look(10, 10), "n") is None
    assert rate(look(12, 30), look(10, 10, answers=False), "n") is None
    assert rate(look(12, 30), None, "n") is None


def test_samples_of_several_sources_are_added() -> None:
    """What differs by its source alone counts together; other labels stay apart."""
    samples = parse(
        "# TYPE n counter\n"
        'n_total{source="a",code="X"} 1\nn_total{source="b",code="X"} 2\nn_total{source="a",code="Y"} 4\n'
    )

    assert samples["n_total"] == {frozenset({("code", "X")}): 3.0, frozenset({("code", "Y")}): 4.0}


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140, 200])
def test_no_line_of_the_screen_is_wider_than_the_terminal(loaded: Loaded, width: int) -> None:
    """Everything has its place at any width."""
    scraper = Scraper(loaded)
    with process(loaded, "engine", engine.metrics.FAMILIES) as board:
        board.publish(engine_snapshot(10, 1_000))
        shown = figures(scraper.look(), {}, WALL_S)
    scraper.close()

    assert max(len(line.text) for line in screen(shown, width, "q quit")) <= width


def test_durations_and_sizes_keep_three_digits() -> None:
    """From microseconds to seconds, from bytes to GiB."""
    assert [duration(ns) for ns in (None, 0, 999, 62_300, 1_500_000, 150_000_000, 2_500_000_000)] == [
        "–", "0.0 µs", "0.9 µs", "62.3 µs", "1.5 ms", "150 ms", "2.5 s",
    ]  # fmt: skip
    assert [size(count) for count in (5, 2_048, 45 << 20, 80_000_000_000)] == ["5 B", "2.0 KiB", "45.0 MiB", "74.5 GiB"]


def wojak(loaded: Loaded, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--config", str(loaded.path)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip


def test_without_a_terminal_it_prints_plain_lines_and_leaves(loaded: Loaded) -> None:
    """--once: no control characters, exit code 1 because nothing answers, each process with its reason."""
    done = wojak(loaded, "top", "--once")

    assert done.returncode == 1, done.stderr
    assert "\x1b" not in done.stdout
    assert "! engine DOWN: not running" in done.stdout
    assert done.stdout.startswith("wojak top   [DEGRADED]")


def test_json_is_the_figures(loaded: Loaded) -> None:
    """--json gives one object of the same Struct that the screen shows."""
    shown = msgspec.json.decode(wojak(loaded, "top", "--once", "--json").stdout, type=Figures)

    assert [row.state for row in shown.processes] == ["DOWN"] * 7


def test_a_terminal_is_left_as_it_was(loaded: Loaded) -> None:
    """Keys work unseen; q leaves, the screen and the terminal's settings are as before."""
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    child = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "top", "--config", str(loaded.path)],
        stdin=follower, stdout=follower, stderr=follower, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    try:
        seen = read_until(leader, b"every 1 s")
        os.write(leader, b"-")
        seen += read_until(leader, b"every 2 s")
        os.write(leader, b"p")
        seen += read_until(leader, b"go on")
        os.write(leader, b"q")
        seen += read_until(leader, b"\x1b[?1049l")
        assert child.wait(PATIENCE_S) == 1
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert b"engine DOWN: not running" in seen
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


def read_until(fd: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + PATIENCE_S
    while wanted not in seen:
        assert time.monotonic() < deadline, f"expected {wanted!r}, was {seen!r}"
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65_536)
    return seen


def test_a_metrics_port_in_use_stops_the_start(loaded: Loaded) -> None:
    """Before anything starts: which key, which port, where, what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        loaded.path.write_text(loaded.path.read_text() + f"\n[metrics]\nfeed_port = {port}\n")
        done = wojak(loaded, "up")

    assert done.returncode == 2
    assert f"metrics.feed_port: expected a free port, was {port} on 127.0.0.1 (in use)" in done.stderr
    assert "change metrics.feed_port (0 = none)" in done.stderr


def test_two_metrics_ports_must_differ(loaded: Loaded) -> None:
    """The check of the configuration names both keys."""
    loaded.path.write_text(loaded.path.read_text() + "\n[metrics]\nengine_port = 9101\nbooks_port = 9101\n")
    done = wojak(loaded, "up")

    assert done.returncode == 2
    assert "metrics.books_port: expected another port than metrics.engine_port (9101)" in done.stderr


def test_pages_name_metrics_that_exist() -> None:
    """Whoever copies an expression from a page gets data."""
    told = set(re.findall(r"wojak_[a-z_]+", (ROOT / "docs" / "operate.md").read_text("utf-8")))

    assert len(told) > 10
    assert told - names() == set()
