"""Real servers as child processes of the tests: started directly, ready by signal, killed by pid, gone with the tests.

Rule: what must be downloaded is kept in a cache outside the project; what is not there names what is missing, in one
line. A server's output is kept in its folder and shown when it does not come up.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
LOOK_S: Final = 0.02
PR_SET_PDEATHSIG: Final = 1
PORTS: Final = range(20_000, 32_000)  # Linux begins those of outgoing connections at 32,768
CACHE: Final = Path(os.environ.get("WOJAK_PEER_CACHE") or Path.home() / ".cache" / "wojak" / "peers")


class PeerMissingError(AssertionError):
    """A server can't be started here: what is missing, and how to get it."""


def require_program(name: str, how: str, *places: str) -> str:
    """Return the path of a program; say how to get it if it is not here."""
    found = shutil.which(name) or next((p for p in places if os.access(p, os.X_OK)), None)
    if found is None:
        raise PeerMissingError(f"{name} expected on this machine, was not found; {how}")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now.

    None is of those that the system gives to outgoing connections: a server that is away would find its own taken, by
    a client that calls it in vain and meets itself for instance.
    """
    probes: list[socket.socket] = []
    while len(probes) < count:
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", secrets.choice(PORTS)))
            probes.append(probe)
        except OSError:
            probe.close()
    ports = [int(p.getsockname()[1]) for p in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_until(look: Callable[[], T], within_s: float, what: str | Callable[[], str]) -> T:
    """Return the first true answer of ``look``; fail saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"expected {what if isinstance(what, str) else what()} within {within_s} s")
        time.sleep(LOOK_S)
    return found


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on a port of this host."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One child process; ``start`` again after ``stop`` or ``kill`` gives it the same command and folder."""

    def __init__(self, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.argv = list(argv)
        self.folder = folder
        self.env = {**os.environ, **(env or {})}
        self.log = folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; does not wait for it."""
        assert not self.is_running
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv, cwd=self.folder, env=self.env, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=_end_with_parent,  # noqa: PLW1509 -- one call into libc
            )  # fmt: skip

    def said(self) -> str:
        """Return what it printed in this life."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read().decode("utf-8", "replace")

    def wait_said(self, text: str, within_s: float) -> None:
        """Wait until it printed ``text``; fail if it ends before."""

        def look() -> bool:
            assert self.is_running, f"{self.argv[0]} ended with {self.process and self.process.poll()}:\n{self.said()}"
            return text in self.said()

        wait_until(look, within_s, lambda: f"{text!r} from {self.argv[0]}, which said:\n{self.said()[-4000:]}")

    def kill(self, number: int = signal.SIGKILL, within_s: float = 30.0) -> int:
        """Send a signal that ends it, wait for that, return its exit code."""
        assert self.process is not None
        if self.is_running:
            self.process.send_signal(number)
        return self.process.wait(within_s)

    def signal(self, number: int) -> None:
        """Send a signal that does not end it."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.is_running:
            self.kill()
