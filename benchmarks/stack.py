"""Starts the processes under load in folders of their own and stops them again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Struct

from benchmarks import workload
from benchmarks.acknowledger import AcknowledgerSettings
from benchmarks.errors import BenchError
from benchmarks.floors import FloorSettings
from benchmarks.told import Told
from engine.settings import EngineSettings
from protocol.channels import Context, Dealer, Waiter
from protocol.codes import Mode
from protocol.control import ControlBody, ControlReply, ControlRequest, EngineStatus, Status, reply_decoder
from runtime.clock import monotonic_ns, wall_ns
from venues.core.settings import GatewaySettings, StaticBook

ROOT: Final = Path(__file__).resolve().parents[1]
READY_NS: Final = 60_000_000_000
STOP_S: Final = 20
LOG_CHARS: Final = 2_000
DEDUP_KEYS_MIN: Final = 600_000
CREDITS: Final = 50_000


class Stack:
    """Processes of one run, on the disk that holds ``folder``; leaving the context ends them and removes it all.

    Args:
        folder: Where journals and logs are written; the run gets a folder of its own in it.
        commands: How many commands the run sends: sizes the dedup table.
    """

    def __init__(self, folder: Path, commands: int = 0, *, direct_io: bool = False) -> None:
        self._direct_io = direct_io
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        # A socket's path has at most 107 bytes, so sockets live where paths are short.
        self._sockets = Path(tempfile.mkdtemp(prefix="wojak-"))
        self.journal = self.folder / "journal"
        self.table = self.folder / "table"
        self.gateway_log = self.folder / "gateway"
        self.sidecars = self.endpoint("sidecars")
        self._commands = commands
        self._token = secrets.token_hex(32)
        self._token_file = self.folder / "token"
        self._token_file.write_text(self._token)
        self._token_file.chmod(0o600)
        self._context = Context()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._context.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def endpoint(self, name: str) -> str:
        """Return the address of a socket of this stack."""
        return f"ipc://{self._sockets}/{name}"

    # Processes

    def spawn(self, name: str, settings: Struct, env: dict[str, str] | None = None) -> int:
        """Start one server process and return its pid; what it says goes to ``<name>.log``."""
        path = self.folder / f"{name}.settings"
        path.write_bytes(msgspec.msgpack.encode(settings))
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.servers", name, str(path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": paths, **(env or {})},
            )  # fmt: skip
        self._processes.append((name, process))
        return process.pid

    def stop(self, name: str = "") -> None:
        """End every process, the newest first; or those of one name."""
        for entry in reversed(self._processes[:]):
            if not name or entry[0] == name:
                self._processes.remove(entry)
                _end(entry[1])

    def pid(self, name: str) -> int:
        """Return the pid of a process that was started."""
        return next(process.pid for known, process in self._processes if known == name)

    @contextlib.contextmanager
    def told(self, name: str) -> Iterator[Told]:
        """Yield a pipe for one word; open before its speaker is started."""
        told = Told(self.folder / name)
        try:
            yield told
        finally:
            told.close()

    def hear(self, told: Told, within_ns: int) -> bytes:
        """Wait for the word.

        Raises:
            BenchError: If it does not come in time, or a process ended by itself.
        """
        word = told.wait(within_ns, [process.pid for _, process in self._processes])
        if not word:
            self.require_alive()
        return word

    def require_alive(self) -> None:
        """Raise BenchError if a process ended by itself."""
        for name, process in self._processes:
            if process.poll() is not None:
                said = self._log(name).read_text("utf-8", "replace")[-LOG_CHARS:]
                raise BenchError(f"{name} ended with {process.returncode}: {said}")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    # Ours

    def engine_settings(self) -> EngineSettings:
        """Return the settings of the engine of this stack, with the gate of workload W."""
        return EngineSettings(
            mode=Mode.PAPER,
            shard=0,
            journal_dir=str(self.journal),
            sidecars_endpoint=self.sidecars,
            venues_endpoint=self.endpoint("venues"),
            events_endpoint=self.endpoint("events"),
            control_endpoint=self.endpoint("control"),
            token_file=str(self._token_file),
            table_path=str(self.table),
            params=workload.params(),
            credits=CREDITS,
            venue_window=CREDITS,
            huge_pages=True,
            direct_io=self._direct_io,
            dedup_keys_max=max(DEDUP_KEYS_MIN, 2 * self._commands),
        )

    def start_engine(self) -> int:
        """Start the engine on a table that holds a price for every instrument; return its pid."""
        workload.write_table(self.table, wall_ns())
        return self.spawn("engine", self.engine_settings())

    def start_acknowledger(self, path: str = "", count: int = 0) -> None:
        """Start the gateway peer that reports nothing, and wait until the venue is READY.

        Args:
            path: Where it says when it has as many commands as ``count``; empty = nowhere.
            count: How many.
        """
        self.spawn("acknowledger", AcknowledgerSettings(self.endpoint("venues"), workload.VENUE, path, count))
        self.wait_ready()

    def start_gateway(self) -> int:
        """Start the real gateway with the sandbox on static books, and wait until the venue is READY."""
        settings = GatewaySettings(
            venue=workload.VENUE,
            gateway=f"{workload.VENUE}-1",
            engine_endpoint=self.endpoint("venues"),
            control_endpoint=self.endpoint("gateway-control"),
            token_file=str(self._token_file),
            log_dir=str(self.gateway_log),
            instruments=workload.params().instruments,
            static_book=StaticBook(mid_e9=workload.PRICE_E9),
            closed_max=max(100_000, self._commands),
        )
        pid = self.spawn("gateway", settings)
        self.wait_ready()
        return pid

    def start_floor(self, record_bytes: int) -> str:
        """Start the bare loop and return its endpoint."""
        endpoint = self.endpoint("floor")
        path = str(self.folder / "floor.dat")
        self.spawn(
            "floor",
            FloorSettings(endpoint=endpoint, path=path, record_bytes=record_bytes, direct_io=self._direct_io),
        )
        return endpoint

    # Control

    def wait_ready(self) -> EngineStatus:
        """Wait until every venue of the engine is READY and return the engine's status."""
        until_ns = monotonic_ns() + READY_NS
        while monotonic_ns() < until_ns:
            status = self.status()
            if all(venue.ready for venue in status.venues):
                return status
        raise BenchError(f"engine expected a READY venue within {READY_NS} ns; see {self._log('engine')}")

    def status(self, *, with_hash: bool = False) -> EngineStatus:
        """Return the engine's status; histograms in it begin anew."""
        status = self.ask(Status(with_hash)).status
        assert status is not None
        return status

    def ask(self, body: ControlBody) -> ControlReply:
        """Return the engine's answer to one control request.

        Raises:
            BenchError: If a process ended, or the engine gave no answer.
        """
        dealer = Dealer(self._context, self.endpoint("control"), 16)
        try:
            return self._ask(dealer, body)
        finally:
            dealer.close()

    def ask_timed(self, body: ControlBody) -> tuple[ControlReply, int]:
        """Return the answer and how long it took, ns, over a connection that stands; raises as ``ask`` does."""
        dealer = Dealer(self._context, self.endpoint("control"), 16)
        try:
            self._ask(dealer, Status())
            began_ns = monotonic_ns()
            reply = self._ask(dealer, body)
            return reply, monotonic_ns() - began_ns
        finally:
            dealer.close()

    def _ask(self, dealer: Dealer, body: ControlBody) -> ControlReply:
        waiter = Waiter(dealer)
        request = msgspec.msgpack.encode(ControlRequest(self._token, "bench", body))
        until_ns = monotonic_ns() + READY_NS
        sent = False
        while monotonic_ns() < until_ns:
            sent = sent or dealer.send(request)
            waiter.wait(20)
            for reply in dealer.receive(1):
                return reply_decoder.decode(reply)
            self.require_alive()
        raise BenchError(f"engine gave no answer within {READY_NS} ns; see {self._log('engine')}")


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, from /proc."""
    resident_pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def cpu_ns(pid: int) -> int:
    """Return the CPU time a process has used, user and system, in steps of a clock tick, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
