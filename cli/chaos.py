"""``wojak chaos``: kill -9 a supervised process and say when it was gone, back, and working again."""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import Annotated, Final, Literal, Self

from cyclopts import App, Parameter

from cli.configuration import Loaded
from cli.engine_client import EngineClient
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.processes import SIDECAR, process_name, sidecar_name
from cli.readiness import Readiness
from cli.supervisor import ProcessState, now_text, state_decoder
from cli.view import grouped, milliseconds
from protocol.errors import WojakError
from runtime.clock import monotonic_ns, wall_ns

app = App(name="chaos", help="Break things on purpose, to see that nothing is lost.")
BACK_WITHIN_S: Final = 30
LOOK_MS: Final = 10
NS_PER_S: Final = 1_000_000_000


class NotSupervisedError(WojakError):
    """There is nothing of this name to kill, or it did not come back."""

    code = "NOT_SUPERVISED"


@app.command
def kill(process: Literal["engine", "http", "gateway", "books", "feed", "follower", "risk", "api", "flow",
                          "sidecar"], /, *, shard: Annotated[int, Parameter(help="Of several shards, this one's.")] = 0,
         source: Annotated[str, Parameter(help="Of a sidecar, the source that it carries.")] = "",
         config: ConfigPath = DEFAULT_CONFIG) -> int:  # fmt: skip
    """Kill -9 one process of a running `wojak up`, and report when it is gone, back and ready.

    Example: `wojak chaos kill engine`
    """
    loaded = deployment(config)
    name = sidecar_name(source) if process == SIDECAR else process_name(process, shard)
    with _News(loaded) as news:
        before = _require_running(news.next(), name)
        pidfd = os.pidfd_open(before.pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], BACK_WITHIN_S)
        finally:
            os.close(pidfd)
        gone_ns = wall_ns()
        while (after := _find(news.next(), name)).pid in {0, before.pid}:
            continue
    _wait_ready(loaded, name)
    parts = [f"{name} gone {now_text(gone_ns)}", f"back {now_text(after.started_at_ns)}", f"ready {now_text()}"]
    if process == "engine":
        parts.append(_recovery(loaded.of(shard)))
    say(" · ".join(parts))
    return 0


class _News:
    """What the supervisor says: the state now, then each change."""

    def __init__(self, loaded: Loaded) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(BACK_WITHIN_S)
        self._rest = b""
        try:
            self._socket.connect(str(loaded.paths.supervisor))
        except OSError as e:
            why = f"no supervisor answers for {loaded.paths.state} ({e.strerror}); start it: wojak up"
            raise NotSupervisedError(f"{NotSupervisedError.code}: {why}") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self) -> list[ProcessState]:
        """Return the next state; raises if none comes in time."""
        while b"\n" not in self._rest:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                data = b""
            if not data:
                why = f"the supervisor said nothing for {BACK_WITHIN_S} s, or left"
                raise NotSupervisedError(f"{NotSupervisedError.code}: {why}; see its logs")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return state_decoder.decode(line)


def _find(states: list[ProcessState], name: str) -> ProcessState:
    for state in states:
        if state.name == name:
            return state
    known = ", ".join(s.name for s in states)
    raise NotSupervisedError(f"{NotSupervisedError.code}: expected one of {known}, was {name!r}")


def _require_running(states: list[ProcessState], name: str) -> ProcessState:
    state = _find(states, name)
    if state.pid == 0:
        raise NotSupervisedError(f"{NotSupervisedError.code}: {name} does not run now; it is being restarted")
    return state


def _wait_ready(loaded: Loaded, process: str) -> None:
    readiness = Readiness(loaded)
    deadline = monotonic_ns() + BACK_WITHIN_S * NS_PER_S
    try:
        while why := readiness.why_not(process):
            if monotonic_ns() > deadline:
                raise NotSupervisedError(f"{NotSupervisedError.code}: {process} is back but not ready: {why}")
            select.select([], [], [], LOOK_MS / 1000)  # a process that starts has no event for us
    finally:
        readiness.close()


def _recovery(loaded: Loaded) -> str:
    client = EngineClient(loaded.paths)
    try:
        status = client.status()
    finally:
        client.close()
    return f"recovered {grouped(status.recovered_records)} events in {milliseconds(status.recovery_ns)}"
