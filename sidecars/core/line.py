"""The line to one engine: its session's messages on its socket, and what changed about it, logged.

The DEALER's descriptor is edge-triggered: it is drained in batches, also after every send. All decisions are
``session.EngineSession``'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from structlog.stdlib import BoundLogger

from protocol.channels import Context, Dealer
from protocol.session import SidecarMessage, Submit, engine_decoder
from runtime import failpoints
from sidecars.core.metrics import Metrics
from sidecars.core.session import EngineSession

HWM: Final = 65_536  # above any credit limit: the engine's credits bound what is queued
BATCH_MAX: Final = 256
BATCHES_MAX: Final = 8  # engine messages handled before sources and clients get a turn

_encode: Final = msgspec.msgpack.Encoder().encode


class Line:
    """One engine, spoken with from ``open`` to ``close``."""

    def __init__(self, session: EngineSession, endpoint: str, metrics: Metrics, log: BoundLogger) -> None:
        self.session = session
        self._endpoint = endpoint
        self._metrics = metrics
        self._log = log
        self._identity = b"s" + session.instance
        self._dealer: Dealer
        self._was_open = False
        self._last_fault = ""

    def open(self, context: Context) -> int:
        """Connect; return the descriptor to watch."""
        self._dealer = Dealer(context, self._endpoint, HWM, self._identity)
        return self._dealer.fd

    def close(self) -> None:
        """Disconnect."""
        self._dealer.close()

    def take_arrived(self) -> bool:
        """Take what the engine sent; return whether more is there, for a later turn."""
        for _ in range(BATCHES_MAX):
            bodies = self._dealer.receive(BATCH_MAX)
            if bodies:
                self._handle(bodies)
            if len(bodies) < BATCH_MAX:
                return False
        return True

    def send_due(self) -> bool:
        """Send what is due; return whether the engine has said more than was taken."""
        session = self.session
        more = False
        messages = session.outgoing(time.monotonic_ns())
        while messages:
            self._send(messages)
            # The descriptor tells changes only: a send may have swallowed one.
            messages = []
            if self._dealer.readable:
                bodies = self._dealer.receive(BATCH_MAX)
                self._handle(bodies)
                messages = session.outgoing(time.monotonic_ns())
                more = more or len(bodies) == BATCH_MAX
        return more

    def observe(self) -> None:
        """Log what changed since the last look."""
        session = self.session
        if session.is_open != self._was_open:
            self._was_open = session.is_open
            self._log.info("engine session", open=self._was_open, epoch=session.epoch, fault=session.fault)
        if session.fault and session.fault != self._last_fault:
            self._log.warning("engine session fault", fault=session.fault)
        self._last_fault = session.fault

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

    def _send(self, messages: list[SidecarMessage]) -> None:
        for index, message in enumerate(messages):
            if not self._dealer.send(_encode(message)):
                self.session.on_send_failed(messages[index:], time.monotonic_ns())
                return
            if isinstance(message, Submit):
                self._metrics.forwarded += len(message.items)
                failpoints.hit("sidecar.after_submit")
