"""The process that tells: woken by the event stream, it looks at engines and processes, judges, and hands over.

What can go wrong on the other side and what happens here:
- an engine is slow, hangs or is gone: that is what it tells (``silence``); what only it knows is kept as it was;
- the event stream lies, or what was missed is no longer kept: it is begun anew from where the engine is;
- a receiver is slow, gone, refuses or lies: its own lane waits, tries again and counts (``cli.alerting.lanes``);
- this process dies: what was said stands in a file, so a state that ended meanwhile is still resolved, and one that
  goes on is not said twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec
from structlog.stdlib import BoundLogger

from cli.alerting.judge import Alert, Fired, Judge, Key, Say
from cli.alerting.lanes import Lane
from cli.alerting.look import RATES, Rates, held_by_engine, held_by_process
from cli.alerting.rules import Rule
from cli.alerting.seen import seen_in
from cli.processes import PER_SHARD, process_name
from cli.scrape import Scraper
from protocol.channels import Context, Waiter
from protocol.control import EngineStatus
from protocol.errors import HistoryGoneError, RemoteProtocolError
from runtime.clock import monotonic_ns, wall_ns
from runtime.event_stream import EventStream
from runtime.metrics import COUNTER, GAUGE, Board, Family, Snapshot
from runtime.signals import StopSignal

NS_PER_MS: Final = 1_000_000
ASK_MS: Final = 500
WAKE_MS: Final = 200
PROCESSES_MS: Final = 2_000
CLOSE_S: Final = 2.0
FIRED_BYTES_MAX: Final = 4 << 20
FAMILIES: Final = (
    Family("wojak_alerts_active", GAUGE, "States that were said and hold", ("rule",)),
    Family("wojak_alerts_said", COUNTER, "Alerts by what they say", ("say",)),
    Family("wojak_alerts_sent", COUNTER, "Messages that a receiver took", ("receiver",)),
    Family("wojak_alerts_retried", COUNTER, "Attempts after the first one", ("receiver",)),
    Family("wojak_alerts_failed", COUNTER, "Messages that a receiver did not take", ("receiver",)),
    Family("wojak_alerts_suppressed", COUNTER, "Messages that the rate of their rule held back", ("receiver",)),
    Family("wojak_alerts_dropped", COUNTER, "Messages that found the receiver's queue full", ("receiver",)),
    Family("wojak_alerts_waiting", GAUGE, "Messages that wait for the receiver", ("receiver",)),
)


class EngineAsk(Protocol):
    """Asks one engine how it is."""

    def status(self) -> EngineStatus | None:
        """Return how it is; None if it does not answer."""


class Engine:
    """One engine that is watched: how it is asked, and where its event stream is."""

    def __init__(self, name: str, ask: EngineAsk, events: str, history: str) -> None:
        self.name = name
        self.ask = ask
        self.events = events
        self.history = history
        self.stream: EventStream | None = None
        self.rates: dict[str, Rates] = {}


class Watched(NamedTuple):
    """What is watched; ``state``: the file that keeps what was said."""

    engines: list[Engine]
    scrapers: Mapping[int, Scraper]
    context: Context
    state: Path


class Times(NamedTuple):
    """How often it looks, and says again what goes on."""

    look_ms: int
    repeat_ms: int


class Watch:
    """The process's loop."""

    def __init__(
        self, watched: Watched, lanes: list[Lane], rules: Mapping[str, Rule], times: Times, stop: StopSignal,
        log: BoundLogger, board: Board,
    ) -> None:  # fmt: skip
        self._engines = watched.engines
        self._scrapers = watched.scrapers
        self._context = watched.context
        self._lanes = lanes
        self._rules = rules
        self._look_ns = times.look_ms * NS_PER_MS
        self._state = watched.state
        self._stop = stop
        self._log = log
        self._board = board
        self._pause = Waiter()
        self._pause.add_fd(stop.fd)
        before = _read_fired(self._state, log)
        self._judge = Judge(rules, times.repeat_ms, before)
        for fired in before:
            for lane in lanes:
                lane.told(Key(fired.rule, fired.asked, fired.scope))
        self._kept = [*map(_name, before)]
        self._said: dict[str, int] = {}
        self._processes: dict[Key, str] = {}
        self._processes_at_ns = 0
        for engine in self._engines:
            engine.rates = {name: Rates(rules[name].window_ms) for name in RATES if name in rules}

    def run(self) -> None:
        """Watch until asked to stop."""
        for lane in self._lanes:
            lane.start()
        self._board.not_ready = ()
        try:
            while not self._stop.is_set:
                self._turn()
        finally:
            for lane in self._lanes:
                lane.close(CLOSE_S)
            for engine in self._engines:
                self._drop_stream(engine)

    def _turn(self) -> None:
        began_ns = self._board.turned_ns = monotonic_ns()
        self.look()
        # Until the next look is due, or something of note comes; then at most every WAKE_MS.
        until_ns = began_ns + self._look_ns
        while not self._stop.is_set and (left_ns := until_ns - monotonic_ns()) > 0:
            if self._listen(max(1, left_ns // NS_PER_MS)):
                until_ns = min(until_ns, began_ns + WAKE_MS * NS_PER_MS)

    def look(self) -> None:
        """Look once at everything, and say what is to be said."""
        now_ns = wall_ns()
        holds: dict[Key, str] = {}
        blind: set[str] = set()
        for engine in self._engines:
            status = engine.ask.status()
            if status is None:
                blind.add(engine.name)
                holds[Key("silence", "", engine.name)] = f"{engine.name} does not answer within {ASK_MS} ms"
                continue
            self._begin_stream(engine, status)
            failed = {"": status.failed}
            counts = {"breaches": status.rejected_by_code, "failed": failed}
            rates = {name: rate.take(counts[name], now_ns) for name, rate in engine.rates.items()}
            seen_seq = status.durable_seq if engine.stream is None else engine.stream.seq
            holds |= held_by_engine(engine.name, status, self._rules, rates, seen_seq)
        self._look_at_processes()
        self._tell(self._judge.look(holds | self._processes, blind, now_ns), now_ns)
        for lane in self._lanes:
            lane.flush(now_ns)
        self._keep()
        self._publish()

    def _look_at_processes(self) -> None:
        """Ask every process; less often, for who does not answer takes its time."""
        now_ns = monotonic_ns()
        if now_ns < self._processes_at_ns:
            return
        self._processes_at_ns = now_ns + PROCESSES_MS * NS_PER_MS
        found: dict[Key, str] = {}
        for shard, scraper in self._scrapers.items():
            for name in [n for n in scraper.names if not shard or n in PER_SHARD]:
                scraped = scraper.ask(name)
                found |= held_by_process(process_name(name, shard), scraped, self._rules)
            self._board.turned_ns = monotonic_ns()
        self._processes = found

    def _tell(self, alerts: list[Alert], now_ns: int) -> None:
        for alert in alerts:
            self._said[alert.say.value] = self._said.get(alert.say.value, 0) + 1
            level = self._log.info if alert.say is Say.RESOLVED else self._log.warning
            level("alert", say=alert.say.value, rule=alert.key.rule, scope=alert.key.scope, text=alert.text)
            for lane in self._lanes:
                lane.offer(alert, now_ns)

    # The event stream

    def _listen(self, wait_ms: int) -> bool:
        """Take what comes of the streams; whether it is a reason to look at once."""
        is_news = False
        share_ms = max(1, wait_ms // max(1, len(self._engines)))
        listening = [engine for engine in self._engines if engine.stream is not None]
        for engine in listening:
            assert engine.stream is not None
            try:
                frames = engine.stream.poll(share_ms)
            except (RemoteProtocolError, HistoryGoneError) as e:
                self._log.warning("event stream begun anew", engine=engine.name, why=e.code)
                self._drop_stream(engine)
                continue
            for frame in frames:
                seen = seen_in(frame)
                is_news = is_news or seen.is_news
                for rule, text in seen.events:
                    now_ns = wall_ns()
                    self._tell(self._judge.event(rule, engine.name, text, now_ns), now_ns)
        if not listening:
            self._pause.wait(wait_ms)
        return is_news

    def _begin_stream(self, engine: Engine, status: EngineStatus) -> None:
        if engine.stream is None:
            engine.stream = EventStream(self._context, engine.events, engine.history, status.durable_seq)
            engine.stream.add_fd(self._stop.fd)

    def _drop_stream(self, engine: Engine) -> None:
        if engine.stream is not None:
            engine.stream.close()
            engine.stream = None

    # What is kept and told

    def _keep(self) -> None:
        """Write what was said, when it changed: whole or not at all."""
        fired = self._judge.fired
        names = [*map(_name, fired)]
        if names == self._kept:
            return
        part = self._state.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(fired))
            os.replace(part, self._state)
        except OSError as e:
            self._log.warning("what was said can't be kept", path=str(self._state), why=e.strerror)
            return
        self._kept = names

    def _publish(self) -> None:
        now_ns = monotonic_ns()
        if not self._board.is_due(now_ns):
            return
        active: dict[tuple[str, ...], float] = dict.fromkeys(((name,) for name in self._rules), 0.0)
        for fired in self._judge.fired:
            active[fired.rule,] += 1
        lanes = self._lanes
        values: dict[str, Mapping[tuple[str, ...], float] | float] = {
            "wojak_alerts_active": active,
            "wojak_alerts_said": {(say,): count for say, count in self._said.items()},
            "wojak_alerts_sent": {(lane.name,): lane.sent for lane in lanes},
            "wojak_alerts_retried": {(lane.name,): lane.retried for lane in lanes},
            "wojak_alerts_failed": {(lane.name,): lane.failed for lane in lanes},
            "wojak_alerts_suppressed": {(lane.name,): lane.suppressed for lane in lanes},
            "wojak_alerts_dropped": {(lane.name,): lane.dropped for lane in lanes},
            "wojak_alerts_waiting": {(lane.name,): lane.waiting for lane in lanes},
        }
        self._board.publish(Snapshot(now_ns, values, {}))


def _name(fired: Fired) -> tuple[str, str, str, int]:
    return fired.rule, fired.asked, fired.scope, fired.said_ns


def _read_fired(path: Path, log: BoundLogger) -> list[Fired]:
    """Return what was said before; nothing if that can't be read: then it is said again."""
    with contextlib.suppress(FileNotFoundError):
        try:
            if path.stat().st_size > FIRED_BYTES_MAX:
                raise ValueError
            return msgspec.json.decode(path.read_bytes(), type=list[Fired])
        except (OSError, ValueError, msgspec.DecodeError) as e:
            if isinstance(e, FileNotFoundError):
                raise
            log.warning("what was said before can't be read", path=str(path), why=type(e).__name__)
    return []
