"""The one loop that drives every source: credits → receive → decode → submit → settle.

One asyncio loop on one thread. The DEALER's descriptor is watched with ``add_reader`` and drained in batches, also
after every send, because it is edge-triggered; a Submit carries what one receive brought and never waits to fill. All
decisions are ``session.EngineSession``'s; here is only what touches the world.
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

import msgspec
import structlog
from msgspec import Struct

from protocol.channels import Context, Dealer
from protocol.codes import OutcomeKind
from protocol.errors import FieldError
from protocol.session import INSTANCE_BYTES, SidecarMessage, Submit, engine_decoder
from runtime import failpoints
from runtime.signals import StopSignal
from sidecars.core.decode import decode_delivery
from sidecars.core.epochs import EpochFile
from sidecars.core.lease import EXTEND_RETRY_NS, is_over, needs_extension
from sidecars.core.metrics import Metrics
from sidecars.core.session import EngineSession, SessionSettings
from sidecars.core.source import Delivery, Settlement, Source, Verb, Why

HWM: Final = 65_536  # above any credit limit: the engine's credits bound what is queued
BATCH_MAX: Final = 256
BATCHES_MAX: Final = 8  # engine messages handled before sources and clients get a turn
SETTLE_RETRY_S: Final = 0.1
NS_PER_MS: Final = 1_000_000


class LoopSettings(Struct, frozen=True, kw_only=True):
    """Settings of the loop.

    Attributes:
        engine_endpoint: The engine's sidecar socket.
        state_file: Where the newest engine epoch is kept; its folder exists.
        sidecar: Name of this sidecar in logs and in the engine's status; empty = host name.
        drain_ms: Time to leave in after SIGTERM.
        tick_ms: How often time alone is looked at (leases, silence, back-offs).
    """

    engine_endpoint: str
    state_file: str
    sidecar: str = ""
    session: SessionSettings = SessionSettings()
    drain_ms: int = 10_000
    tick_ms: int = 20


class SidecarLoop:
    """One source and one engine session in this process's asyncio loop."""

    def __init__(self, settings: LoopSettings, source: Source, metrics: Metrics) -> None:
        """Read the state file; nothing is connected before ``run``.

        Raises:
            ConfigError: If the state file can't be used.
        """
        self._settings = settings
        self._source = source
        self._metrics = metrics
        self._log = structlog.get_logger().bind(source=source.name)
        sidecar = (settings.sidecar or socket.gethostname())[:64]
        self.session = EngineSession(
            settings.session,
            EpochFile(Path(settings.state_file)),
            source=source.name,
            sidecar=sidecar,
            new_instance=lambda: os.urandom(INSTANCE_BYTES),
            jitter=random.SystemRandom().random,
        )
        self._identity = b"s" + self.session.instance
        self._context: Context | None = None
        self._dealer: Dealer
        self._encode = msgspec.msgpack.Encoder().encode
        self._changed = asyncio.Event()
        self._settle_due = asyncio.Event()
        self._settling: list[Settlement] = []
        self._extending: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._receiver: asyncio.Task[None] | None = None
        self._drainer: asyncio.Task[None] | None = None
        self._settling_count = 0  # of the batch that the source settles now
        self._abandoned = 0  # in the drain: the engine had not answered
        self._settle_lost = 0
        self._finished: asyncio.Future[None]
        self._was_open = False
        self._last_tick_ns = 0
        self._last_fault = ""

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
        self._dealer = Dealer(self._context, self._settings.engine_endpoint, HWM, self._identity)
        fd = self._dealer.fd
        try:
            await self._source.open(self.session)
            loop.add_reader(fd, self._on_readable)
            if stop is not None:
                loop.add_reader(stop.fd, self._on_stop, loop, stop)
            self._spawn(self._settle_all())
            self._receiver = self._spawn(self._receive_all())
            self._last_tick_ns = time.monotonic_ns()
            self._tick(loop)
            await self._finished
            left = self._abandoned + len(self.session.live()) + len(self._settling) + self._settling_count
            if left:
                self._log.warning("left unfinished", deliveries=left)
            return left
        finally:
            loop.remove_reader(fd)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._source.close()
            self._dealer.close()
            self._context.close()

    def request_stop(self) -> None:
        """Drain within the settings' time, then return from ``run``."""
        self.session.stop(self._settings.drain_ms, time.monotonic_ns())
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
        session = self.session
        while True:
            most, most_reserved = session.room(reserved=False), session.room(reserved=True)
            if (most_reserved if self._source.tells_reserved else most) == 0:
                await self._wait_change()
                continue
            deliveries = await self._source.receive(most, most_reserved)
            failpoints.hit("sidecar.after_receive")
            self._take(deliveries)
            self._pump()
            if not deliveries:
                await asyncio.sleep(0)  # a source that had nothing after all does not starve the rest

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        now_ns = time.monotonic_ns()
        self._metrics.received += len(deliveries)
        for delivery in deliveries:
            self._metrics.redelivered += delivery.is_redelivered
            try:
                command = decode_delivery(delivery)
            except FieldError as e:
                poison = Settlement(delivery, Verb.DEAD_LETTER, why=Why.MALFORMED, text=str(e))
                self.session.ended.append(poison)
                continue
            self.session.take(delivery, command, now_ns)

    # Engine

    def _on_readable(self) -> None:
        batches = 0
        while True:
            bodies = self._dealer.receive(BATCH_MAX)
            if bodies:
                self._handle(bodies)
            if len(bodies) < BATCH_MAX:
                break
            batches += 1
            if batches == BATCHES_MAX:
                asyncio.get_running_loop().call_soon(self._on_readable)
                break
        self._pump()

    def _handle(self, bodies: Sequence[bytes]) -> None:
        now_ns = time.monotonic_ns()
        for body in bodies:
            try:
                message = engine_decoder.decode(body)
            except (msgspec.ValidationError, msgspec.DecodeError) as e:
                # A newer engine's message, or damage: unanswered stays unanswered and is submitted again.
                self._log.error("engine message not understood", error=str(e))
                continue
            self.session.on_message(message, now_ns)
        if self.session.ended:
            failpoints.hit("sidecar.after_outcome")

    def _pump(self) -> None:
        """Send what is due, hand on what has ended, wake who waits for room."""
        session = self.session
        messages = session.outgoing(time.monotonic_ns())
        while messages:
            self._send(messages)
            # The descriptor tells changes only: a send may have swallowed one.
            messages = []
            if self._dealer.readable:
                bodies = self._dealer.receive(BATCH_MAX)
                self._handle(bodies)
                messages = session.outgoing(time.monotonic_ns())
                if len(bodies) == BATCH_MAX:
                    asyncio.get_running_loop().call_soon(self._on_readable)
        if session.ended:
            self._settling += session.ended
            session.ended.clear()
            self._settle_due.set()
        self._changed.set()
        if session.is_draining and self._drainer is None:
            self._drainer = self._spawn(self._drain())

    def _send(self, messages: list[SidecarMessage]) -> None:
        for index, message in enumerate(messages):
            if not self._dealer.send(self._encode(message)):
                self.session.on_send_failed(messages[index:], time.monotonic_ns())
                return
            if isinstance(message, Submit):
                self._metrics.forwarded += len(message.items)
                failpoints.hit("sidecar.after_submit")

    # Settle

    async def _settle_all(self) -> None:
        while True:
            await self._settle_due.wait()
            self._settle_due.clear()
            batch, self._settling = self._settling, []
            self._settling_count = len(batch)
            failpoints.hit("sidecar.before_settle")
            for settlement in batch:
                if settlement.delivery.reply_to and settlement.outcome is not None:
                    await self._source.reply(settlement)
            failed = await self._source.settle(batch)
            self._count(batch, failed)
            if failed:
                self._settle_again(failed)
            self._settling_count = 0
            self._changed.set()

    def _settle_again(self, failed: Sequence[Settlement]) -> None:
        """Try each again until its lease ends (R9); then redelivery and the engine's dedup finish the job."""
        now_ns = time.monotonic_ns()
        self._metrics.settle_errors += len(failed)
        again = [s for s in failed if not is_over(s.delivery, now_ns)]
        self._settle_lost += len(failed) - len(again)
        self._settling += again
        if self._settling:
            asyncio.get_running_loop().call_later(SETTLE_RETRY_S, self._settle_due.set)

    def _count(self, batch: Sequence[Settlement], failed: Sequence[Settlement]) -> None:
        metrics = self._metrics
        now_ns = time.monotonic_ns()
        again = {id(s) for s in failed}
        for settlement in batch:
            if id(settlement) in again:
                continue
            outcome = settlement.outcome
            received_ns = settlement.delivery.received_mono_ns
            metrics.receive_to_settle.record(now_ns - received_ns)
            if outcome is None:
                metrics.handed_back += settlement.verb is Verb.RETRY
                metrics.abandoned += settlement.verb is Verb.ABANDON
                self._abandoned += settlement.verb is Verb.ABANDON and settlement.why is Why.DRAINING
                metrics.settled_parked += settlement.verb is Verb.DEAD_LETTER
                continue
            metrics.receive_to_submit.record(settlement.submitted_mono_ns - received_ns)
            metrics.submit_to_outcome.record(settlement.answered_mono_ns - settlement.submitted_mono_ns)
            metrics.settle_latency.record(now_ns - settlement.answered_mono_ns)
            if settlement.verb is Verb.DEAD_LETTER:
                metrics.settled_parked += 1
            elif outcome.kind is OutcomeKind.REJECTED:
                metrics.settled_reject += 1
            else:
                metrics.settled_ok += 1

    # Time

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._finished.done():
            return
        now_ns = time.monotonic_ns()
        self.session.on_tick(now_ns)
        if self._source.lease_extend_ms:
            self._extend(now_ns)
        self._observe(now_ns)
        # A connection made makes the descriptor readable, but only a look at the socket says so.
        self._on_readable()
        loop.call_later(self._settings.tick_ms / 1000, self._tick, loop)

    def _extend(self, now_ns: int) -> None:
        due = [
            d
            for d in self.session.live()
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
        session, metrics = self.session, self._metrics
        if not self._was_open:
            metrics.paused_ns += now_ns - self._last_tick_ns
        metrics.late.record(now_ns - self._last_tick_ns - self._settings.tick_ms * NS_PER_MS)
        self._last_tick_ns = now_ns
        if session.is_open != self._was_open:
            self._was_open = session.is_open
            self._log.info("engine session", open=self._was_open, epoch=session.epoch, fault=session.fault)
        if session.fault and session.fault != self._last_fault:
            self._log.warning("engine session fault", fault=session.fault)
        self._last_fault = session.fault
        live = session.live()
        if not live:
            self._extending.clear()
        metrics.in_flight = session.in_flight
        metrics.held = session.held
        metrics.credits = session.credits
        metrics.epoch = session.epoch
        metrics.reconnects = max(0, session.welcomes - 1)
        metrics.lost_lease = session.lease_lost + self._settle_lost
        metrics.oldest_unsettled_ns = now_ns - live[0].received_mono_ns if live else 0
        lag = self._source.lag()
        if lag is not None:
            metrics.broker_lag, metrics.broker_oldest_age_ns = lag.messages, lag.oldest_age_ns
        metrics.publish(now_ns)

    # Drain

    async def _drain(self) -> None:
        """Stop pulling, wait for answers and settles, say so; then leave, or start again with the next engine."""
        session = self.session
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)
        self._take(await self._source.pause())
        self._pump()
        while session.is_draining and not (session.is_idle and self._is_settled):
            await self._wait_change()
        if session.is_draining:
            session.drained()
            self._pump()
        while session.is_draining and not session.is_stopping:
            await self._wait_change()
        if session.is_stopping:
            self._finish()
        else:
            self._receiver = self._spawn(self._receive_all())
            self._drainer = None

    async def _wait_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def _is_settled(self) -> bool:
        return not (self._settling or self._settling_count)

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)
