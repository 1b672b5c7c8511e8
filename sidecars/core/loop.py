"""The one loop that drives every source: credits → receive → decode → submit → settle.

One asyncio loop on one thread. Each engine's descriptor is watched with ``add_reader``; a Submit carries what one
receive brought and never waits to fill. All decisions are ``session.EngineSession``'s, one a shard, and ``shards``';
here is only what touches the world.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Final

import structlog
from msgspec import structs

from protocol.channels import Context
from protocol.session import INSTANCE_BYTES
from runtime import failpoints
from runtime.signals import StopSignal
from sidecars.core.batches import Batches
from sidecars.core.ends import Ends
from sidecars.core.epochs import EpochFile
from sidecars.core.intake import Intake
from sidecars.core.lease import EXTEND_RETRY_NS, is_over, needs_extension
from sidecars.core.line import Line
from sidecars.core.metrics import Metrics
from sidecars.core.replies import is_answer
from sidecars.core.session import EngineSession
from sidecars.core.settings import LoopSettings
from sidecars.core.shards import NONE, WHOLE, EngineSessions
from sidecars.core.source import Delivery, Settlement, Source, Verb, Why

SETTLE_RETRY_S: Final = 0.1
NS_PER_MS: Final = 1_000_000


class SidecarLoop:
    """One source and its engines' sessions in this process's asyncio loop."""

    def __init__(self, settings: LoopSettings, source: Source, metrics: Metrics) -> None:
        """Read the state file; nothing is connected before ``run``.

        Raises:
            ConfigError: If the state file can't be used.
        """
        self._settings = settings
        self._source = source
        self._metrics = metrics
        self._log = structlog.get_logger().bind(source=source.name)
        self._lines = self._make_lines()
        self.engines = EngineSessions([line.session for line in self._lines], settings.shard_map())
        self.engines.on_claimed = self._pump
        self._batches = Batches()
        self._intake = Intake(self._batches, settings.body_bytes_max)
        self._context: Context | None = None
        self._changed = asyncio.Event()
        self._settling: list[Settlement] = []
        self._settle_due = False  # something has ended, or failed long enough ago
        self._settles_at_once: int = getattr(source, "settles_at_once", 1)
        self._extending: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._receiver: asyncio.Task[None] | None = None
        self._drainer: asyncio.Task[None] | None = None
        self._settles: dict[int, int] = {}  # under way at the source: number of the call, how many it settles
        self._settle_calls = 0
        self._abandoned = 0  # in the drain: the engine had not answered
        self._settle_lost = 0
        self._stopped: frozenset[str] = NONE
        self._shard_drains: dict[int, asyncio.Task[None]] = {}
        self._finished: asyncio.Future[None]
        self._last_tick_ns = 0

    @property
    def session(self) -> EngineSession:
        """The session of the first shard's engine."""
        return self._lines[0].session

    def _make_lines(self) -> list[Line]:
        settings, source = self._settings, self._source
        endpoints = settings.endpoints
        is_one = len(endpoints) == 1
        session = structs.replace(settings.session, is_one_of_several=not (is_one or source.tells_account))
        epochs = EpochFile(Path(settings.state_file))
        return [
            Line(
                EngineSession(
                    session,
                    epochs,
                    source=source.name,
                    sidecar=(settings.sidecar or socket.gethostname())[:64],
                    new_instance=lambda: os.urandom(INSTANCE_BYTES),
                    jitter=random.SystemRandom().random,
                    shard=None if is_one else shard,
                ),
                endpoint,
                self._metrics,
                self._log if is_one else self._log.bind(shard=shard),
            )
            for shard, endpoint in enumerate(endpoints)
        ]

    # Life

    async def run(self, stop: StopSignal | None = None) -> int:
        """Serve until ``stop`` is set, or ``request_stop``; then drain and close.

        Returns:
            How many deliveries it left without an answer or a settle: their source delivers them again.

        Raises:
            ConfigError: If the source's settings can't work.
            SourceFailedError: If the source failed for good.
        """
        loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        self._context = Context()
        fds = [line.open(self._context) for line in self._lines]
        try:
            await self._source.open(self.engines)
            for fd, line in zip(fds, self._lines, strict=True):
                loop.add_reader(fd, self._on_readable, line)
            if stop is not None:
                loop.add_reader(stop.fd, self._on_stop, loop, stop)
            self._receiver = self._spawn(self._receive_all())
            self._last_tick_ns = time.monotonic_ns()
            self._tick(loop)
            await self._finished
            left = (
                self._abandoned
                + sum(len(s.live()) for s in self.engines.shards)
                + len(self._settling)
                + sum(self._settles.values())
            )
            if left:
                self._log.warning("left unfinished", deliveries=left)
            return left
        finally:
            for fd in fds:
                loop.remove_reader(fd)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._source.close()
            for line in self._lines:
                line.close()
            self._context.close()

    def request_stop(self) -> None:
        """Drain within the settings' time, then return from ``run``."""
        for session in self.engines.shards:
            session.stop(self._settings.drain_ms, time.monotonic_ns())
        asyncio.get_running_loop().call_later(self._settings.drain_ms / 1000, self._finish)
        self._pump()

    def _on_stop(self, loop: asyncio.AbstractEventLoop, stop: StopSignal) -> None:
        loop.remove_reader(stop.fd)
        self._log.info("draining", within_ms=self._settings.drain_ms)
        self.request_stop()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._finished.done():
            self._finished.set_exception(error)

    # Receive

    async def _receive_all(self) -> None:
        source = self._source
        while True:
            most, most_reserved = self._allowed()
            if (most_reserved if source.tells_reserved else most) == 0:
                await self._wait_change()
                continue
            deliveries = await source.receive(most, most_reserved)
            failpoints.hit("sidecar.after_receive")
            self._take(deliveries)
            self._pump()
            if not deliveries:
                await asyncio.sleep(0)  # a source that had nothing after all does not starve the rest

    def _allowed(self) -> tuple[int, int]:
        """Return how much may be received, and how much if the rest are cancels and exits."""
        engines = self.engines
        if self._source.tells_account:
            return engines.room(reserved=False), engines.room(reserved=True)
        self._tell_stopped()
        if WHOLE in self._stopped:
            return 0, 0
        return engines.allowed(reserved=False), engines.allowed(reserved=True)

    def _tell_stopped(self) -> None:
        """Stop the units that feed a full shard, let the others go on."""
        stopped = self.engines.to_stop()
        if stopped != self._stopped:
            self._stopped = stopped
            self._source.stop(stopped)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        now_ns = time.monotonic_ns()
        self._metrics.received += len(deliveries)
        self._metrics.redelivered += sum(d.is_redelivered for d in deliveries)
        self._intake.take(deliveries, self.engines, self.session.ended, now_ns)

    # Engines

    def _on_readable(self, line: Line) -> None:
        if line.take_arrived():
            asyncio.get_running_loop().call_soon(self._on_readable, line)
        self._pump()

    def _pump(self) -> None:
        """Send what is due, hand on what has ended, wake who waits for room."""
        for line in self._lines:
            if line.send_due():
                asyncio.get_running_loop().call_soon(self._on_readable, line)
            if line.session.ended:
                self._settling += self._batches.join(line.session.ended)
                line.session.ended.clear()
                self._settle_due = True
        self._settle_next()
        self._changed.set()
        if self.engines.is_draining:
            if self._drainer is None:
                self._drainer = self._spawn(self._drain())
        elif len(self._lines) > 1:
            self._drain_shards()

    # Settle

    def _settle_next(self) -> None:
        """Settle at once what has ended; what ends while the source has its calls under way goes into the next one."""
        if self._settle_due and self._settling and len(self._settles) < self._settles_at_once:
            self._settle_due = False
            batch, self._settling = self._settling, []
            self._settle_calls += 1
            self._settles[self._settle_calls] = len(batch)
            self._spawn(self._settle(self._settle_calls, batch))

    async def _settle(self, call: int, batch: Sequence[Settlement]) -> None:
        failpoints.hit("sidecar.before_settle")
        silent = await self._reply(batch)
        told = [s for s in batch if id(s) not in silent] if silent else batch
        called_ns = time.monotonic_ns()
        failed = [*silent.values(), *await self._source.settle(told)]
        failpoints.hit("sidecar.after_settle")
        self._count(batch, failed, called_ns)
        if failed:
            self._settle_again(failed)
        del self._settles[call]
        self._settle_next()
        self._changed.set()

    async def _reply(self, batch: Sequence[Settlement]) -> dict[int, Settlement]:
        """Publish what producers wait for; return by identity what could not be, and must not be settled yet."""
        asked = [s for s in batch if s.delivery.reply_to and is_answer(s) and s.verb in {Verb.ACCEPT, Verb.DEAD_LETTER}]
        if not asked:
            return {}
        silent = {id(s): s for s in await self._source.reply(asked)}
        for settlement in asked:
            if id(settlement) not in silent:
                settlement.delivery.reply_to = ""  # a settle that is tried again does not publish again
        return silent

    def _settle_again(self, failed: Sequence[Settlement]) -> None:
        """Try each again until its lease ends (R9); then redelivery and the engine's dedup finish the job."""
        now_ns = time.monotonic_ns()
        self._metrics.settle_errors += len(failed)
        again = [s for s in failed if not is_over(s.delivery, now_ns)]
        self._settle_lost += len(failed) - len(again)
        self._settling += again
        if self._settling:
            asyncio.get_running_loop().call_later(SETTLE_RETRY_S, self._settle_overdue)

    def _settle_overdue(self) -> None:
        self._settle_due = True
        self._settle_next()

    def _count(self, batch: Sequence[Settlement], failed: Sequence[Settlement], called_ns: int) -> None:
        now_ns = time.monotonic_ns()
        again = {id(s) for s in failed}
        ends = Ends(self._metrics, called_ns, now_ns)
        for settlement in batch:
            if again and id(settlement) in again:
                continue
            if settlement.is_lost:
                self._settle_lost += 1
                continue
            if settlement.outcome is None and settlement.verb is Verb.ABANDON and settlement.why is Why.DRAINING:
                self._abandoned += 1
            ends.count(settlement)
        ends.flush()

    # Time

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._finished.done():
            return
        now_ns = time.monotonic_ns()
        self._batches.follow_leases()
        for session in self.engines.shards:
            session.on_tick(now_ns)
        if self._source.lease_extend_ms:
            self._extend(now_ns)
        if not self._source.tells_account:
            self._tell_stopped()
        self._observe(now_ns)
        for line in self._lines:
            # A connection made makes the descriptor readable, but only a look at the socket says so.
            self._on_readable(line)
        loop.call_later(self._settings.tick_ms / 1000, self._tick, loop)

    def _extend(self, now_ns: int) -> None:
        live = self._batches.wholes(d for session in self.engines.shards for d in session.live())
        due = [
            d
            for d in live
            if needs_extension(d, self._source.lease_extend_ms, now_ns) and self._extending.get(id(d), 0) <= now_ns
        ]
        if due:
            for delivery in due:
                self._extending[id(delivery)] = now_ns + EXTEND_RETRY_NS
            self._spawn(self._extend_some(due))

    async def _extend_some(self, due: Sequence[Delivery]) -> None:
        failed = await self._source.extend(due)
        self._metrics.extensions_failed += len(failed)
        self._metrics.extensions_ok += len(due) - len(failed)
        failed_ids = {id(d) for d in failed}
        for delivery in due:
            if id(delivery) not in failed_ids:
                self._extending.pop(id(delivery), None)

    def _observe(self, now_ns: int) -> None:
        sessions, metrics = self.engines.shards, self._metrics
        if not all(metrics.shards_open):
            metrics.paused_ns += now_ns - self._last_tick_ns
        metrics.late.record(now_ns - self._last_tick_ns - self._settings.tick_ms * NS_PER_MS)
        self._last_tick_ns = now_ns
        for line in self._lines:
            line.observe()
        metrics.shards_open = [s.is_open for s in sessions]
        oldest = [live[0].received_mono_ns for s in sessions if (live := s.live())]
        if not oldest:
            self._extending.clear()
        metrics.in_flight = sum(s.in_flight for s in sessions)
        metrics.held = sum(s.held for s in sessions)
        metrics.credits = sum(s.credits for s in sessions)
        metrics.epoch = self.engines.epoch
        metrics.reconnects = sum(max(0, s.welcomes - 1) for s in sessions)
        metrics.lost_lease = sum(s.lease_lost for s in sessions) + self._settle_lost
        metrics.oldest_unsettled_ns = now_ns - min(oldest) if oldest else 0
        lag = self._source.lag()
        if lag is not None:
            metrics.broker_lag, metrics.broker_oldest_age_ns = lag.messages, lag.oldest_age_ns
        metrics.publish(now_ns, self._not_ready())

    def _not_ready(self) -> tuple[str, ...]:
        """Return why not every order that comes is carried now, one line each."""
        engines = self.engines.shards
        named = [(f"engine of shard {n}: " if len(engines) > 1 else "engine: ", s) for n, s in enumerate(engines)]
        reasons = [at + (s.fault or s.why_closed.name) for at, s in named if not s.is_open]
        fault = self._source.fault()
        return (*reasons, f"broker: {fault}") if fault else tuple(reasons)

    # Drain

    async def _drain(self) -> None:
        """Stop pulling, wait for answers and settles, say so; then leave, or start again with the next engine."""
        engines = self.engines
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)
        self._take(await self._source.pause())
        self._pump()
        while engines.is_draining and not (all(s.is_idle for s in engines.shards) and self._is_settled):
            await self._wait_change()
        for session in engines.shards:
            if session.is_draining:
                session.drained()
        self._pump()
        while engines.is_draining and not engines.is_stopping:
            await self._wait_change()
        if engines.is_stopping:
            self._finish()
        else:
            self._receiver = self._spawn(self._receive_all())
            self._drainer = None

    def _drain_shards(self) -> None:
        """See to engines that leave while others stay: the source goes on."""
        for shard, session in enumerate(self.engines.shards):
            if session.is_draining and shard not in self._shard_drains:
                self._shard_drains[shard] = self._spawn(self._drain_shard(shard, session))

    async def _drain_shard(self, shard: int, session: EngineSession) -> None:
        """Wait until the engine has answered what it was given, and that is settled; say so; wait for the next one."""
        while session.is_draining and session.in_flight:
            await self._wait_change()
        last = self._settle_calls + 1  # the next call has all that ended until now
        while session.is_draining and not (self._is_settled or self._settled_calls >= last):
            await self._wait_change()
        if session.is_draining and not session.is_stopping:
            session.drained()
            self._pump()
        while session.is_draining and not session.is_stopping:
            await self._wait_change()
        self._shard_drains.pop(shard, None)

    async def _wait_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def _is_settled(self) -> bool:
        return not (self._settling or self._settles)

    @property
    def _settled_calls(self) -> int:
        """The call up to which all have ended."""
        return min(self._settles) - 1 if self._settles else self._settle_calls

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)
