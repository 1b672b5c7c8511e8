"""What peers need is got while other tests run, and never instead of what a test says of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.peers import early
from tests.peers.process import wait_until


def test_each_peer_that_downloads_is_prepared() -> None:
    """A module that gets something says how, and a new one is found by that."""
    folder = Path(early.__file__).parent
    getting = {
        p.stem for p in folder.glob("*.py") if not p.stem.startswith("test_") and "\ndef prepare(" in p.read_text()
    }
    assert {name for name, _ in early.preparations()} == getting - {"early"}
    assert getting >= {"kafka", "sqs"}


def test_one_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that can't be had is said, and the next one is got."""
    got: list[str] = []

    def fail() -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(early, "preparations", lambda: [("one", fail), ("two", lambda: got.append("two"))])
    early.main()

    assert got == ["two"]
    assert "one: not prepared" in capsys.readouterr().err


@pytest.mark.parametrize("deaf_to", ["SIGINT", "SIGTERM"])
def test_it_ends_with_the_tests_and_takes_its_children_along(tmp_path: Path, deaf_to: str) -> None:
    """A download that nobody waits for any more is not left running, not even in a shell's background."""
    written = tmp_path / "pid"
    code = (
        f"import signal, subprocess; signal.signal(signal.{deaf_to}, signal.SIG_IGN); "
        f"p = subprocess.Popen(['sleep', '1000']); open({str(written)!r}, 'w').write(f'{{p.pid}} '); p.wait()"
    )
    process = subprocess.Popen(["python3", "-c", code], start_new_session=True)
    pid = int(
        wait_until(
            lambda: written.exists() and written.read_text().endswith(" ") and written.read_text(), 20.0, "a child"
        )
    )
    early.stop(process, within_s=1.0)

    assert process.poll() is not None
    wait_until(lambda: _is_gone(pid), 20.0, "the child's end")


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
