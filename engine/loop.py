"""The engine's loop: one thread, one turn = wait, take what is there, decide, sync once, send.

Order within a turn (DESIGN 6.1, DECISIONS 1): controls, venue reports and commands are decided into one batch; the
batch is synced; then outcomes, venue commands and the event stream leave (decision 0024). Nothing derived from a state
leaves before that state is durable. How it waits and why the sync is inline: shared measurements, findings 1-7.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Final

from structlog.stdlib import BoundLogger

from engine.control import Control
from engine.days import Days
from engine.disconnects import Disconnects
from engine.exits import STEP_MS, Exits
from engine.gateways import Gateways
from engine.marking import Marking
from engine.meters import Meters
from engine.metrics import EngineReadings
from engine.parts import Parts
from engine.releases import WATCH_MS, Releases
from engine.remote import RemoteDoor
from engine.risk_desk import MESSAGES_MAX, RiskDesk
from engine.settings import EngineSettings
from engine.sidecars import Sidecars
from engine.snapshot import hash_layout
from engine.start import StartedEngine
from engine.state import state_hash
from engine.synced import SyncedClock
from journal.reader import RecordReader
from market.table import TableReader
from protocol.channels import Context, Publisher, Router, Waiter, make_private
from protocol.codes import RetryReason
from protocol.errors import MarketError
from protocol.records import Clocked, StateChecked
from runtime import failpoints
from runtime.metrics import PUBLISH_NS, Board
from runtime.signals import StopSignal

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
HOUSEKEEPING_NS: Final = 100 * NS_PER_MS
EVENTS_HWM: Final = 100_000
CONTROLS_MAX: Final = 16
DAYS_STEP_MS: Final = 2
DEDUP_ALARM_PERCENT: Final = 80
GATEWAY_BATCH_MAX: Final = 64  # messages; each carries up to 1,024 reports


class EngineLoop:
    """Everything around the core that touches the outside."""

    def __init__(
        self,
        settings: EngineSettings,
        started: StartedEngine,
        stop: StopSignal,
        log: BoundLogger,
        board: Board | None = None,
    ) -> None:
        self._board = board or Board()
        self._settings = settings
        self._core = started.core
        self._writer = started.writer
        self._clock = started.clock
        self._stop = stop
        self._log = log
        self._meters = Meters()
        self._table = TableReader.open(Path(settings.table_path))
        self._records = RecordReader(Path(settings.journal_dir))
        self._frames: list[bytes] = []  # synced in this turn, not yet published
        self._synced: list[tuple[int, int]] = []  # (records, ns) of each sync of this turn
        parts = Parts(
            settings, self._core, self._writer, self._records, self._table, self._meters, self._alarm, self._make_room,
            self._board,
        )  # fmt: skip
        self._context = Context()
        hwm = settings.credits + settings.reserved_credits + 64
        self._control_router = Router(self._context, settings.control_endpoint, 64)
        make_private(settings.control_endpoint)
        self._venue_router = Router(self._context, settings.venues_endpoint, settings.venue_window + 64)
        self._sidecar_router = Router(self._context, settings.sidecars_endpoint, hwm)
        self._events = Publisher(self._context, settings.events_endpoint, EVENTS_HWM)
        self._waiter = Waiter(self._sidecar_router, self._venue_router, self._control_router)
        self._waiter.add_fd(stop.fd)
        self._remote = RemoteDoor.open(settings.remote, self._context, self._alarm)
        if self._remote is not None:
            self._waiter.add(self._remote.authenticator)
            self._waiter.add(self._remote.router)
        self.sidecars = Sidecars(parts, self._sidecar_router)
        self.sidecars.find_table_slots()
        self.gateways = Gateways(parts, self._venue_router, self.sidecars.reference_of)
        self._exits = Exits(parts, self.gateways, self.sidecars.reference_of)
        self._releases = Releases(parts, self.sidecars.reference_of, self.gateways.unsent_from)
        self._synced_clock = SyncedClock(parts)
        self._disconnects = Disconnects(parts, self.sidecars, self.gateways)
        self._days = Days(parts, self.gateways)
        self._marking = Marking(parts)
        self._risk_router: Router | None = None
        if settings.risk_endpoint:
            self._risk_router = Router(self._context, settings.risk_endpoint, MESSAGES_MAX)
            make_private(settings.risk_endpoint)
            self._waiter.add(self._risk_router)
        self._risk = RiskDesk(parts, self._risk_router, self.sidecars.reference_of)
        self._control = Control(
            parts, self._control_router, self.sidecars, self.gateways, self._days, self._exits, self.start_drain
        )
        self._readings = EngineReadings(
            parts, self.sidecars, self.gateways, (started.recovered.records, started.recovery_ns)
        )
        self._control.recovered_records = started.recovered.records
        self._control.recovery_ns = started.recovery_ns
        self._control.started_ns = self._core.state.last_ns
        self._defer: RetryReason | None = None
        self._drain_until_ns = 0
        self._housekeeping_at_ns = 0
        self._messages_max = settings.batch_max
        self._received_ns = 0
        self._decided_ns = 0
        self._publish_at_ns = 0
        self._is_dedup_filling = False

    def run(self) -> list[str]:
        """Run until drained; return what could not be finished.

        The garbage collector is frozen: the hot path makes no cycles (MEASURED finding 7).
        """
        gc.collect()
        gc.freeze()
        gc.disable()
        while not self._is_done():
            self.turn()
        return self._leave()

    def turn(self) -> None:
        """Take, decide, sync and answer what is there now; wait for it at most until the next duty."""
        ready = self._wait()
        if not ready:
            self._idle()
            return
        self._received_ns = self._board.turned_ns = time.monotonic_ns()
        control, venues, sidecars = self._control_router, self._venue_router, self._sidecar_router
        controls = control.receive(CONTROLS_MAX) if control.socket in ready else []
        reports = venues.receive(GATEWAY_BATCH_MAX) if venues.socket in ready else []
        # A kill does not wait until a batch of orders is decided: those are decided after it, in the next turn.
        submits = sidecars.receive(self._messages_max) if sidecars.socket in ready and not controls else []
        if submits:
            failpoints.hit("engine.after_receive")
        now_ns = self._read_clock()
        if now_ns >= self._days.due_ns:  # first: what came after the end is of the next date
            self._days.watch(now_ns)
        if controls:
            self._control.receive(controls, now_ns)
        if self._remote is not None:
            self._remote.turn(ready, self._control, now_ns)
        if reports:
            self.gateways.receive(reports, now_ns, self._received_ns)
            failpoints.hit("engine.after_report")
        self._turn_risk(ready, now_ns)
        self._releases.step(now_ns, self._received_ns)  # before new commands: what a cancel has freed is its
        if submits:
            self.sidecars.receive(submits, now_ns, self._defer)
            self._messages_max = messages_next(self._settings.batch_max, len(submits), self.sidecars.items)
            failpoints.hit("engine.after_decide")
        if self._received_ns >= self._housekeeping_at_ns:
            self._keep_house(now_ns)
        if self._days.is_busy:
            self._days.step(now_ns, self._received_ns)
        if self._core.state.flattens:
            self._exits.step(now_ns, self._received_ns)
        self._releases.step(now_ns, self._received_ns)
        self._finish(now_ns)

    def _turn_risk(self, ready: list[object], now_ns: int) -> None:
        """Deadlines first: an answer that comes in the turn after its deadline is late."""
        self._risk.step(now_ns, self._received_ns)
        router = self._risk_router
        if router is not None and router.socket in ready:
            self._risk.receive(router.receive(MESSAGES_MAX), now_ns, self._received_ns)

    def _wait(self) -> list[object]:
        """Return the sockets that can be read, waiting at most until the next duty."""
        spin_us = self._settings.spin_us
        if spin_us:
            until = time.monotonic_ns() + spin_us * 1_000
            while time.monotonic_ns() < until:
                ready: list[object] = [r.socket for r in (self._sidecar_router, self._venue_router) if r.readable]
                if ready:
                    return ready
        longest_ms = DAYS_STEP_MS if self._days.is_busy else min(100, self._settings.lease_ms // 4)
        if self._core.state.flattens:
            longest_ms = min(longest_ms, STEP_MS)
        if self._releases.is_watching:
            longest_ms = min(longest_ms, WATCH_MS)
        if self._core.state.risk.holds:
            longest_ms = min(longest_ms, self._risk.wait_ms())
        return self._waiter.wait_for(max(1, longest_ms))

    def _idle(self) -> None:
        """Do what is due when nothing came."""
        self._received_ns = self._board.turned_ns = time.monotonic_ns()
        now_ns = self._read_clock()
        if now_ns >= self._days.due_ns:
            self._days.watch(now_ns)
        if self._days.is_busy:
            self._days.step(now_ns, self._received_ns)
        self._keep_house(now_ns)
        if self._core.state.flattens:
            self._exits.step(now_ns, self._received_ns)
        self._releases.step(now_ns, self._received_ns)
        self._risk.step(now_ns, self._received_ns)
        self._finish(now_ns)
        gc.collect(0)

    def _read_clock(self) -> int:
        reading = self._clock.read()
        if reading.jump_ns:
            self._alarm(f"the wall clock jumped by {reading.jump_ns} ns; reduce-only until: wojak resume --clock")
            record = Clocked(reading.jump_ns)
            seq = self._writer.next_seq
            self._core.apply(seq, reading.now_ns, self._writer.append(record), record)
        return reading.now_ns

    def _finish(self, now_ns: int) -> None:
        """Sync the batch, then let out what it holds (DESIGN 6.1)."""
        received_ns = self._decided_ns = self._received_ns
        items = self.sidecars.items
        durable_ns = self._commit(now_ns) if self._writer.buffered_records else received_ns
        sent_ns = answered_ns = 0
        if items:
            self.sidecars.answer(durable_ns - received_ns)
            failpoints.hit("engine.after_outcome")
            answered_ns = time.monotonic_ns()
        self.sidecars.finish()
        if self.gateways.send(now_ns, received_ns):
            failpoints.hit("engine.after_venue_send")
            sent_ns = time.monotonic_ns()
        self._risk.send(now_ns)
        meters = self._meters
        for frame in self._frames:
            self._events.send(frame)
            meters.journal_bytes += len(frame)
        self._frames.clear()
        self._control.answer(now_ns)
        # What was measured is kept when everybody has been answered.
        for records, sync_ns in self._synced:
            meters.sync_records.record(records)
            meters.sync.record(sync_ns)
        self._synced.clear()
        ended_ns = time.monotonic_ns()
        meters.turn.record(ended_ns - received_ns)
        if items:
            meters.turn_items.record(items)
            meters.decided.record(self._decided_ns - received_ns, items)
            meters.durable.record(durable_ns - received_ns, items)
            meters.answered.record(answered_ns - received_ns, items)
        if sent_ns:
            meters.sent.record(sent_ns - received_ns)
        if ended_ns >= self._publish_at_ns:
            self._publish(ended_ns)

    def _commit(self, now_ns: int) -> int:
        """Make the batch durable; return when, monotonic ns."""
        self._core.state.last_ns = now_ns
        writer = self._writer
        records = writer.buffered_records
        self._decided_ns = before_ns = time.monotonic_ns()
        frame = writer.commit(now_ns)
        durable_ns = time.monotonic_ns()
        failpoints.hit("engine.after_sync")
        self._frames.append(frame)
        self._synced.append((records, durable_ns - before_ns))
        return durable_ns

    def _make_room(self, now_ns: int) -> None:
        if self._writer.full:
            self._commit(now_ns)

    def _keep_house(self, now_ns: int) -> None:
        """Do what is due ten times a second, whatever the load."""
        monotonic_ns = self._received_ns
        if self._housekeeping_at_ns:
            self._meters.late.record(monotonic_ns - self._housekeeping_at_ns)
        self._housekeeping_at_ns = monotonic_ns + HOUSEKEEPING_NS
        if self._stop.is_set and not self._drain_until_ns:
            self.start_drain(self._settings.drain_ms, "signal")
        self.gateways.expire(now_ns, monotonic_ns)
        self.gateways.decide_late(now_ns)
        readings = self._readings
        readings.free_bytes = self._writer.free_bytes()
        if not self._drain_until_ns:
            self._disconnects.watch(now_ns, monotonic_ns)
            self._synced_clock.watch(now_ns, monotonic_ns)
            short = readings.free_bytes < self._settings.disk_reserve_bytes
            if short and self._defer is None:
                self._alarm(
                    f"disk: {readings.free_bytes} bytes free, reserve {self._settings.disk_reserve_bytes}; new risk is "
                    "told to come back later, cancels and exits go on: free space where the journal is"
                )
            self._defer = RetryReason.DISK_RESERVE if short else None
        self._board.not_ready = readings.not_ready(draining=self._drain_until_ns > 0)
        self._marking.watch(now_ns, monotonic_ns)
        self._watch_dedup()
        try:
            self._table.reopen()
        except MarketError as e:
            self._alarm(str(e))

    def _watch_dedup(self) -> None:
        """Tell a person once when the table of order ids passes ``DEDUP_ALARM_PERCENT``, not once a look."""
        dedup = self._core.state.dedup
        is_filling = dedup.keys * 100 >= dedup.keys_max * DEDUP_ALARM_PERCENT
        if is_filling and not self._is_dedup_filling:
            self._alarm(
                f"order ids: {dedup.keys} of {dedup.keys_max} are taken ({DEDUP_ALARM_PERCENT} %); when all are, new "
                "risk is told to come back later: raise engine.dedup_keys_max and restart"
            )
        self._is_dedup_filling = is_filling

    def _publish(self, monotonic_ns: int) -> None:
        self._publish_at_ns = monotonic_ns + PUBLISH_NS
        self._readings.publish(self._board, monotonic_ns, draining=self._drain_until_ns > 0)

    def start_drain(self, within_ms: int, why: str) -> None:
        """Take no new risk, tell the sidecars, leave when everything is settled or ``within_ms`` is over."""
        self._log.info("draining", within_ms=within_ms, why=why)
        self._defer = RetryReason.DRAINING
        self._drain_until_ns = time.monotonic_ns() + within_ms * NS_PER_MS
        self._control.draining = True
        self.sidecars.drain(within_ms)

    def _is_done(self) -> bool:
        if not self._drain_until_ns:
            return False
        settled = all(s.drained for s in self.sidecars.sessions) and self.gateways.is_idle
        return settled or time.monotonic_ns() >= self._drain_until_ns or self._stop.count > 1

    def _unfinished(self) -> list[str]:
        """Return who has not answered the drain. What they hold is theirs, or in the journal: nothing is lost."""
        held = [
            f"sidecar {s.sidecar} of {s.source}: has not settled all it holds; its source delivers that again"
            for s in self.sidecars.sessions
            if not s.drained
        ]
        return held + self.gateways.unfinished()

    def _leave(self) -> list[str]:
        now_ns = self._read_clock()
        self._finish(now_ns)
        unfinished = self._unfinished()
        self._journal_hash(now_ns)
        self.sidecars.stop()
        self.gateways.stop()
        self._risk.stop()
        # A short linger lets the goodbyes out; a peer that does not read them loses nothing.
        self._context.close(linger_ms=100)
        self._writer.close()
        self._records.close()
        for what in unfinished:
            self._log.warning("left unfinished", what=what)
        self._log.info("stopped", seq=self._writer.durable_seq, unfinished=len(unfinished))
        return unfinished

    def _journal_hash(self, now_ns: int) -> None:
        """Say what the whole state hashes to, for replicas to compare; reads all of it, so only while there is time."""
        layout = hash_layout(self._core)
        if not layout or self._stop.count > 1 or time.monotonic_ns() >= self._drain_until_ns:
            return
        record = StateChecked(state_hash(self._core.state), layout, "stop")
        self._core.apply(self._writer.next_seq, now_ns, self._writer.append(record), record)
        self._finish(now_ns)

    def _alarm(self, text: str) -> None:
        self._meters.alarms += 1
        self._log.error("alarm", text=text)


def messages_next(items_max: int, messages: int, items: int) -> int:
    """Return how many messages the next turn takes, so that it decides about ``items_max`` items.

    What came last says how many items a message has. A turn without this bound, at 16 items a message, would decide all
    that a sidecar may have unanswered before it answers any of it; credits are what bounds a turn in any case.
    """
    return min(items_max, max(1, items_max * messages // max(1, items)))
