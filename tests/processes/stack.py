"""A real deployment in a folder of its own, on free ports: what the process tests start, break and look at.

with Stack(tmp_path, env={"WOJAK_FAIL_POINT": "engine.after_sync:200:10"}) as stack:
    stack.start()
    stack.wojak("order", "buy", "BTCUSDT", "0.01")
    stack.kill("engine")          # kill -9; the supervisor starts it again
    stack.wait_ready("engine")
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from cli.addresses import books_url, http_url
from cli.configuration import Loaded
from cli.engine_client import EngineClient
from cli.example import EXAMPLE
from cli.options import deployment
from cli.readiness import Readiness
from cli.supervisor import ProcessState, state_decoder
from protocol.control import EngineStatus
from tests.peers.process import free_ports

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 60.0
STOP_S: Final = 40.0
LOOK_S: Final = 0.02
PR_SET_PDEATHSIG: Final = 1
T = TypeVar("T")
SMALL_ENGINE: Final = "[engine]\nsegment_bytes = 4194304\ndedup_keys_max = 1000000\n\n"


def wait_until(look: Callable[[], T], within_s: float, what: str) -> T:
    """Return the first true answer of ``look``; fail saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"expected {what} within {within_s} s"
        time.sleep(LOOK_S)
    return found


def _end_with_parent() -> None:
    """Ask the kernel to end this child with the tests, however they end: nothing may go on loading the machine."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


class Stack:
    """One ``wojak up`` as a person would start it.

    Args:
        folder: Gets wojak.toml, the state folder and ``up.log``.
        flow: Send the demonstration flow.
        ticks: A recording; None = the synthetic session.
        env: Added to the environment of all processes, fail points for instance.
        edit: Changes the text of wojak.toml before it is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        flow: bool = False,
        ticks: Path | None = None,
        env: Mapping[str, str] | None = None,
        edit: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.folder = folder
        self.config = folder / "wojak.toml"
        self.output = folder / "up.log"
        self._arguments = [*(["--flow"] if flow else []), *(["--ticks", str(ticks)] if ticks else [])]
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        http, books = free_ports(2)
        text = EXAMPLE.replace("port = 8081", f"port = {http}").replace("port = 8080", f"port = {books}")
        self.config.write_text(edit(text.replace("[feed]", f"{SMALL_ENGINE}[feed]", 1)))
        self.supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.end()
        if error is not None:
            print(self.said())

    @property
    def deployment(self) -> Loaded:
        """The configuration and where things are."""
        return deployment(self.config)

    @property
    def http_url(self) -> str:
        """Address of the order source."""
        return http_url(self.deployment)

    @property
    def books_url(self) -> str:
        """Address of the books' REST API."""
        return books_url(self.deployment)

    def start(self, *, wait: bool = True) -> None:
        """Start everything; with ``wait``, return when all of it is ready."""
        self.supervisor = self.launch("up", *self._arguments)
        if wait:
            self.wait_for_line("up in")

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a ``wojak`` command whose output goes to ``up.log``."""
        with self.output.open("ab") as output:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self._env, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 -- one call into libc, no lock, no allocation
            )  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a ``wojak`` command."""
        return [sys.executable, "-m", "cli.main", *arguments]

    def said(self) -> str:
        """Return what ``wojak up`` printed so far."""
        return self.output.read_text("utf-8", "replace") if self.output.exists() else ""

    def wait_for_line(self, text: str, within_s: float = START_S) -> None:
        """Wait until ``wojak up`` printed ``text``; fail if it ends before."""

        def look() -> bool:
            assert self.supervisor is not None
            ended = self.supervisor.poll()
            assert ended is None or text in self.said(), f"wojak up ended with {ended}:\n{self.said()}"
            return text in self.said()

        wait_until(look, within_s, f"the line {text!r}, had:\n{self.said()}")

    def wojak(self, *arguments: str, within_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run another ``wojak`` command in this deployment's folder and return it with its output."""
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self._env, capture_output=True, text=True,
            timeout=within_s, check=False,
        )  # fmt: skip

    def processes(self) -> dict[str, ProcessState]:
        """Return what the supervisor says of its processes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(5)
            asked.connect(str(self.deployment.paths.supervisor))
            data = b""
            while b"\n" not in data:
                data += asked.recv(65_536)
        return {s.name: s for s in state_decoder.decode(data.partition(b"\n")[0])}

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process and return its pid."""
        pid = wait_until(lambda: self.processes()[name].pid, START_S, f"{name} to run")
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, pid: int) -> int:
        """Wait until ``name`` runs as another process than ``pid``; return its pid."""
        return wait_until(
            lambda: (now := self.processes()[name].pid) not in {0, pid} and now, START_S, f"{name} to be restarted"
        )

    def wait_ready(self, *names: str, within_s: float = START_S) -> None:
        """Wait until these processes do their work; without names, all that have a readiness of their own."""
        readiness = Readiness(self.deployment)
        try:
            for name in names or ("engine", "feed", "gateway", "follower", "books", "http", "api"):
                wait_until(lambda name=name: not readiness.why_not(name), within_s, f"{name} ready")  # type: ignore[misc]
        finally:
            readiness.close()

    def status(self) -> EngineStatus:
        """Return what the engine says of itself."""
        client = EngineClient(self.deployment.paths, operator="test")
        try:
            return client.status(timeout_ms=5_000)
        finally:
            client.close()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask to drain and return the exit code."""
        assert self.supervisor is not None
        self.supervisor.send_signal(number)
        return self.supervisor.wait(STOP_S)

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.supervisor is None or self.supervisor.poll() is not None:
            return
        self.supervisor.send_signal(signal.SIGINT)
        try:
            self.supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait(5)
