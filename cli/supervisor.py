"""Starts, watches and stops the processes of one deployment.

One thread waits for whatever happens first: a child's end, a signal, a question on the supervisor's socket, the
time of a restart. Rules: one supervisor a state folder; a child that says its configuration is wrong (exit 2) stops
everything, but for a sidecar: its broker is mended elsewhere, so it is tried again; the stop order is the sources first
and the engine next, so that what is in flight gets its outcome.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cli.held_file import HeldError, hold
from cli.lives import SHORT_LIVES_MAX, START_LIVES_MAX, Life, Spec
from cli.paths import Paths
from protocol.errors import WojakError
from runtime.clock import monotonic_ns, wall_ns
from runtime.exits import CANNOT_RUN, UNFINISHED
from runtime.signals import StopSignal

WATCHERS_MAX: Final = 16
STOP_FIRST: Final = (("flow",), ("http", "sidecar"), ("engine",))  # in this order, before the rest
ROTATE_NS: Final = 5_000_000_000
NS_PER_S: Final = 1_000_000_000
MS_NS: Final = 1_000_000


class AlreadyRunningError(WojakError):
    """Another supervisor runs this state folder."""

    code = "ALREADY_RUNNING"

    def __init__(self, state_dir: Path, pid: str) -> None:
        self.state_dir = state_dir
        self.pid = pid
        super().__init__(
            f"{self.code}: {state_dir} expected no supervisor, was run by pid {pid}; "
            f"stop that one (Ctrl-C there, or: kill {pid}), or choose another state_dir"
        )


class ProcessFailedError(WojakError):
    """A process can't run; all others were stopped."""

    code = "PROCESS_FAILED"

    def __init__(self, name: str, why: str, log: Path) -> None:
        self.name = name
        super().__init__(f"{self.code}: {name}: {why} (log: {log})")


class ProcessState(Struct, frozen=True):
    """One process as the supervisor sees it, and how its last life ended."""

    name: str
    pid: int
    started_at_ns: int
    restarts: int
    ended_pid: int
    ended_at_ns: int


state_decoder: msgspec.json.Decoder[list[ProcessState]] = msgspec.json.Decoder(list[ProcessState])


class Supervisor:
    """The processes of one deployment."""

    def __init__(self, paths: Paths, specs: Sequence[Spec], stop_order: Sequence[str]) -> None:
        self._paths = paths
        self._lock_fd = _lock(paths)
        self.lives = {s.name: Life(s, paths.logs / f"{s.name}.log") for s in specs}
        self._stop_order = [n for kind in stop_order for n, life in self.lives.items() if _kind(life) == kind]
        assert set(self._stop_order) == set(self.lives)
        self.was_ready = False
        self.failed: dict[str, ProcessFailedError] = {}  # shards and sidecars that can't run; everything else went on
        self._stop = StopSignal()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stop.fd, selectors.EVENT_READ, None)
        self._listener = _listen(paths.supervisor)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connect)
        self._watchers: list[socket.socket] = []
        self._rotate_due_ns = monotonic_ns() + ROTATE_NS

    @property
    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set

    @property
    def cannot_run(self) -> list[ProcessFailedError]:
        """What does not run now, because it can't."""
        return [failed for name, failed in self.failed.items() if not self.lives[name].pid]

    def start(self, *names: str) -> None:
        """Start these processes, in order; without names, all that do not run."""
        for life in self.lives.values():
            if not life.pid and not life.given_up and (not names or life.spec.name in names):
                self._start(life)

    def step(self, timeout_ms: int) -> None:
        """Wait for something to happen, at most so long, and see to it.

        Raises:
            ProcessFailedError: If a process can't run.
        """
        now = monotonic_ns()
        dues = [life.restart_due_ns for life in self.lives.values() if life.restart_due_ns is not None]
        until = min([now + timeout_ms * MS_NS, self._rotate_due_ns, *dues])
        for key, _ in self._selector.select(max(0, until - now) / NS_PER_S):
            if key.data is not None:
                key.data()
        now = monotonic_ns()
        for life in self.lives.values():
            if life.restart_due_ns is not None and life.restart_due_ns <= now and not self.stopping:
                self._start(life)
            elif life.spec.name in self.failed and life.is_steady:
                del self.failed[life.spec.name]
        if now >= self._rotate_due_ns:
            self._rotate_due_ns = now + ROTATE_NS
            for life in self.lives.values():
                life.rotate_log()

    def stop(self, say: Callable[[str], None]) -> bool:
        """Stop everything in order; a second signal kills what is left. Return whether all ended settled."""
        clean = True
        asked = self._stop.count
        for group in self._groups():
            for life in group:
                life.restart_due_ns = None
                life.signal(signal.SIGTERM)
            deadline = monotonic_ns() + max(life.spec.stop_within_ms for life in group) * MS_NS
            clean &= self._wait_for_end(group, deadline, asked)
            for life in group:
                if life.ended is not None and life.ended.status == UNFINISHED:
                    clean = False
                    say(f"{life.spec.name}: left before all was settled; given back or in the journal, see {life.log}")
            if self._stop.count > max(asked, 1):
                say("second Ctrl-C: ending the rest now; the journal has everything that was answered")
                break
        for life in self.lives.values():
            life.restart_due_ns = None
            life.kill()
        self._wait_for_end(list(self.lives.values()), monotonic_ns() + 5 * NS_PER_S, self._stop.count)
        return clean

    def close(self) -> None:
        """Leave nothing behind but what is durable."""
        for watcher in self._watchers:
            watcher.close()
        self._listener.close()
        self._paths.supervisor.unlink(missing_ok=True)
        self._selector.close()
        os.close(self._lock_fd)

    def states(self) -> list[ProcessState]:
        """Return how every process is."""
        return [
            ProcessState(
                name, life.pid, life.started_at_ns, life.restarts,
                life.ended.pid if life.ended else 0, life.ended.at_ns if life.ended else 0,
            )
            for name, life in self.lives.items()
        ]  # fmt: skip

    def _groups(self) -> list[list[Life]]:
        """Return who stops together: flow, then all sources, then the engines of all shards, then the rest at once."""
        lives = [self.lives[n] for n in self._stop_order]
        groups = [[life for life in lives if _kind(life) in kinds] for kinds in STOP_FIRST]
        groups.append([life for life in lives if not any(_kind(life) in kinds for kinds in STOP_FIRST)])
        return [group for group in groups if group]

    def _wait_for_end(self, lives: Sequence[Life], deadline_ns: int, asked: int) -> bool:
        while any(life.pid for life in lives):
            now = monotonic_ns()
            if now >= deadline_ns or self._stop.count > max(asked, 1):
                return False
            self._drain_stop_fd()
            for key, _ in self._selector.select((deadline_ns - now) / NS_PER_S):
                if key.data is not None:
                    key.data()
        return True

    def _drain_stop_fd(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._stop.fd, 64)

    def _start(self, life: Life) -> None:
        life.start()
        self._selector.register(life.pidfd, selectors.EVENT_READ, lambda: self._on_end(life))
        self._tell_watchers()

    def _on_end(self, life: Life) -> None:
        self._selector.unregister(life.pidfd)
        ended = life.reap()
        if not self.stopping:
            if ended.status == CANNOT_RUN:
                self._give_up(life, life.last_words() or "exit 2")
            elif not life.schedule_restart(SHORT_LIVES_MAX if self.was_ready else START_LIVES_MAX):
                why = f"died {life.restarts} times in a row, last with {ended.status}: {life.last_words()}"
                self._give_up(life, why)
        self._tell_watchers()

    def _give_up(self, life: Life, why: str) -> None:
        """End everything; or leave it down, of several shards of a deployment that was ready; or try it again later."""
        failed = ProcessFailedError(life.spec.name, why, life.log)
        if life.spec.again_ms:
            life.restart_due_ns = monotonic_ns() + life.spec.again_ms * MS_NS
        elif self.was_ready and life.spec.is_one_of_several:
            life.given_up = True
            life.restart_due_ns = None
        else:
            raise failed
        self.failed[life.spec.name] = failed

    def _on_connect(self) -> None:
        watcher, _ = self._listener.accept()
        watcher.setblocking(False)
        if len(self._watchers) >= WATCHERS_MAX:
            self._watchers.pop(0).close()
        self._watchers.append(watcher)
        self._tell(watcher)

    def _tell_watchers(self) -> None:
        for watcher in list(self._watchers):
            self._tell(watcher)

    def _tell(self, watcher: socket.socket) -> None:
        try:
            watcher.sendall(msgspec.json.encode(self.states()) + b"\n")
        except OSError:  # gone, or does not read: it asked for news and can ask again
            self._watchers.remove(watcher)
            watcher.close()


def _kind(life: Life) -> str:
    return life.spec.name.partition("-")[0]


def _lock(paths: Paths) -> int:
    try:
        return hold(paths.supervisor_lock)
    except HeldError as e:
        raise AlreadyRunningError(paths.state, e.pid) from None


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # of a supervisor that died: the lock is ours
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(WATCHERS_MAX)
    return listener


def is_port_free(host: str, port: int) -> bool:
    """Whether this host can listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def now_text(at_ns: int = 0) -> str:
    """Return UTC time of day to the millisecond."""
    at = at_ns or wall_ns()
    seconds, ms = at // NS_PER_S % 86_400, at // MS_NS % 1000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
