"""Starts the processes under load in a folder of their own and stops them again."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from benchmarks import workload
from benchmarks.servers import AcknowledgerSettings, FloorSettings
from engine.core import Core
from engine.settings import EngineSettings
from engine.state import state_hash
from journal.format import JournalSettings
from journal.recovery import recover
from protocol.channels import Context, Dealer, Waiter
from protocol.codes import Mode
from protocol.control import ControlBody, ControlReply, ControlRequest, EngineStatus, Status, reply_decoder
from protocol.errors import WojakError

READY_S = 60.0
DEDUP_KEYS_MAX = 600_000


class ServerDiedError(WojakError):
    """A process under load ended by itself."""

    code = "BENCH_SERVER"


class Stack:
    """Processes of one run in ``folder``; leaving the context ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.sidecars = f"ipc://{folder}/sidecars"
        self.venues = f"ipc://{folder}/venues"
        self.control = f"ipc://{folder}/control"
        self.table = folder / "table"
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._token = secrets.token_hex(32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process, the newest first."""
        while self._processes:
            _, process = self._processes.pop()
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_floor(self, record_bytes: int) -> str:
        """Start the floor and return its endpoint."""
        endpoint = f"ipc://{self.folder}/floor"
        settings = FloorSettings(endpoint, str(self.folder / "floor.dat"), record_bytes)
        self.spawn("floor", msgspec.json.encode(settings))
        return endpoint

    def engine_settings(self) -> EngineSettings:
        """Return the settings of the engine of this stack, with the gate of workload W."""
        token_file = self.folder / "token"
        token_file.write_text(self._token)
        token_file.chmod(0o600)
        return EngineSettings(
            mode=Mode.PAPER,
            shard=0,
            journal_dir=str(self.folder / "journal"),
            sidecars_endpoint=self.sidecars,
            venues_endpoint=self.venues,
            events_endpoint=f"ipc://{self.folder}/events",
            control_endpoint=self.control,
            token_file=str(token_file),
            table_path=str(self.table),
            params=workload.params(),
            credits=50_000,
            venue_window=50_000,
            dedup_keys_max=DEDUP_KEYS_MAX,
        )

    def start_engine(self) -> int:
        """Start the engine and return its pid."""
        workload.write_table(str(self.table), time.time_ns())
        return self.spawn("engine", msgspec.msgpack.encode(self.engine_settings()))

    def start_acknowledger(self) -> None:
        """Start the gateway peer that reports nothing, and wait until the venue is READY."""
        settings = AcknowledgerSettings(self.venues, workload.VENUE)
        self.spawn("acknowledger", msgspec.json.encode(settings))
        self.wait_ready()

    def spawn(self, name: str, content: bytes) -> int:
        """Start one server process; its errors go to the terminal."""
        path = self.folder / f"{name}.settings"
        path.write_bytes(content)
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.servers", name, str(path)], stderr=log)
        log.close()
        self._processes.append((name, process))
        return process.pid

    def wait_ready(self) -> EngineStatus:
        """Wait until the engine's venue is READY and return its status."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            status = self.ask(Status()).status
            if status is not None and all(v.ready for v in status.venues):
                return status
        raise ServerDiedError(f"engine expected a READY venue within {READY_S} s; see {self.folder}/engine.log")

    def ask(self, body: ControlBody) -> ControlReply:
        """Return the engine's answer to one control request."""
        context = Context()
        try:
            dealer = Dealer(context, self.control, 16)
            waiter = Waiter(dealer)
            request = msgspec.msgpack.encode(ControlRequest(self._token, "bench", body))
            until = time.monotonic() + READY_S
            sent = False
            while time.monotonic() < until:
                sent = sent or dealer.send(request)
                waiter.wait(20)
                for reply in dealer.receive(1):
                    return reply_decoder.decode(reply)
                for name, process in self._processes:
                    if process.poll() is not None:
                        log = (self.folder / f"{name}.log").read_text()[-2000:]
                        raise ServerDiedError(f"{name} ended with {process.returncode}: {log}")
        finally:
            context.close()
        raise ServerDiedError(f"engine gave no answer within {READY_S} s; see {self.folder}/engine.log")


def replayed_hash(journal: Path) -> tuple[str, int]:
    """Return (state hash, records) of a journal replayed from its first record."""
    core = Core(DEDUP_KEYS_MAX)
    recovered = recover(journal, core.apply, JournalSettings())
    return state_hash(core.state), recovered.records
