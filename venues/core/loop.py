"""The gateway process: sockets around ``Gateway``, one thread, one sync a turn.

A turn: wait → apply ticks → take the engine's messages → commit → send → answer controls. It waits on sockets, and
until the next lease, back-off or loss deadline; it never sleeps to look again.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocol.channels import Channel, Context, Dealer, Router, Waiter, make_private
from protocol.codes import GatewayKind
from protocol.errors import ConfigError, FieldError
from protocol.units import parse_e9
from runtime import clock, logs
from runtime.health import served
from runtime.metrics import PUBLISH_NS, Board
from runtime.signals import StopSignal
from venues.core.control import (
    MESSAGES_MAX,
    GatewayControl,
    GatewayControlReply,
    GatewayStatus,
    encode_reply,
    parse_request,
)
from venues.core.gateway import MS, Gateway, Phase
from venues.core.log import FolderLock
from venues.core.metrics import FAMILIES, GatewayMeters, not_ready
from venues.core.settings import GatewaySettings
from venues.core.state import recover
from venues.core.venue import Venue

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

ENGINE_HWM: Final = 16_384
CONTROL_HWM: Final = 64
WAIT_MAX_MS: Final = 1_000
AMENDING: Final = frozenset({"bust", "correct"})


class GatewayLoop:
    """Binds, connects, and turns until told to stop. Owns every socket and the log."""

    def __init__(
        self,
        settings: GatewaySettings,
        context: Context,
        venue: Venue,
        token: str,
        logger: BoundLogger,
        board: Board | None = None,
        when_locked: Callable[[], None] | None = None,
    ) -> None:
        if problems := settings.problems():
            raise ConfigError(problems)
        self._settings = settings
        self._context = context
        self._venue = venue
        self._token = token
        self._logger = logger
        self._sessions_logged = 0
        self._board = board or Board()
        self._meters = GatewayMeters()
        self._publish_at_ns = 0
        # The lock first: whoever binds an ipc address takes it from its holder.
        with ExitStack() as opened:
            opened.callback(venue.close)
            opened.callback(FolderLock(Path(settings.log_dir)).close)
            if when_locked is not None:
                when_locked()
            self._open(opened)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        settings, venue = self._settings, self._venue
        self._control = Router(self._context, settings.control_endpoint, CONTROL_HWM)
        opened.callback(self._control.close)
        make_private(settings.control_endpoint)
        state, log = recover(
            Path(settings.log_dir), settings.venue, venue, clock.wall_ns(),
            segment_bytes=settings.segment_bytes, segments_kept=settings.segments_kept,
        )  # fmt: skip
        opened.callback(log.close)
        self.gateway = Gateway(
            name=settings.gateway, instance=os.urandom(16), venue=venue, state=state, log=log,
            mono_ns=clock.monotonic_ns(), reports_kept_max=settings.reports_kept_max,
        )  # fmt: skip
        self._engine = Dealer(self._context, settings.engine_endpoint, ENGINE_HWM)
        opened.callback(self._close_engine)
        self._waiter = Waiter(self._control, self._engine)
        self._channels: list[Channel] = list(venue.channels())
        for channel in self._channels:
            self._waiter.add(channel)
        self._logger.info(
            "gateway open", venue=settings.venue, kind=venue.kind.name, epoch=state.epoch,
            received_seq=state.received_seq, report_seq=state.report_seq, open_orders=venue.open_count,
        )  # fmt: skip

    def watch(self, fd: int) -> None:
        """Wake up for one more file descriptor."""
        self._waiter.add_fd(fd)

    def turn(self, wait_max_ms: int = WAIT_MAX_MS) -> None:
        """Do one turn; blocks at most ``wait_max_ms``."""
        gateway = self.gateway
        self._wait(wait_max_ms)
        now_ns, mono_ns = clock.wall_ns(), clock.monotonic_ns()
        self._board.turned_ns = mono_ns
        received_seq, report_seq = gateway.state.received_seq, gateway.state.report_seq
        gateway.wake(now_ns)
        # Always looked at: the socket's readiness is edge-triggered.
        if bodies := self._engine.receive(self._settings.commands_max):
            phase = gateway.phase
            gateway.receive(bodies, now_ns, mono_ns)
            if phase is not Phase.CLOSED and gateway.phase is Phase.CLOSED:
                self._reconnect()
        before_ns = clock.monotonic_ns()
        durable_ns = clock.monotonic_ns() if gateway.commit(now_ns) else 0
        sent = self._send(mono_ns)
        if durable_ns:
            meters = self._meters
            commands, reports = gateway.state.received_seq - received_seq, gateway.state.report_seq - report_seq
            meters.sync.record(durable_ns - before_ns)
            meters.sync_reports.record(reports)
            if commands:
                meters.turn_commands.record(commands)
                meters.durable.record(durable_ns - mono_ns, commands)
            if reports and sent:
                meters.reported.record(clock.monotonic_ns() - mono_ns, reports)
        self._watch_engine(mono_ns)
        for identity, body in self._control.receive(MESSAGES_MAX):
            self._control.send(identity, encode_reply(self._answer(body, now_ns)))
        self._end_turn(mono_ns)

    def _end_turn(self, began_ns: int) -> None:
        """Tell the board; everybody has been answered."""
        ended_ns = clock.monotonic_ns()
        self._meters.turn.record(ended_ns - began_ns)
        self._board.not_ready = not_ready(self.gateway)
        if ended_ns >= self._publish_at_ns:
            self._publish_at_ns = ended_ns + PUBLISH_NS
            self._meters.publish(self._board, self.gateway, self._venue, ended_ns)

    def close(self) -> None:
        """Say goodbye to the engine and let everything go; what is durable stays for the next start."""
        if self.gateway.phase >= Phase.WELCOMED:
            self._engine.send(self.gateway.leave("the gateway stops"))
        self.drop()

    def drop(self) -> None:
        """Let everything go without a word, as a crash would."""
        self._opened.close()

    def _wait(self, most_ms: int) -> None:
        due_ms = (self._due_at_ns() - clock.monotonic_ns()) // MS + 1
        # A channel that still holds messages gives no new edge, so look before sleeping.
        if due_ms <= 0 or self._engine.readable or any(channel.readable for channel in self._channels):
            return
        self._waiter.wait(min(most_ms, due_ms, self._venue.wait_max_ms()))

    def _due_at_ns(self) -> int:
        due_ns = self.gateway.due_at_ns()
        loss_ns = self.gateway.loss_due_at_ns(self._settings.cancel_on_engine_loss_ms)
        return min(due_ns, loss_ns) if loss_ns else due_ns

    def _send(self, mono_ns: int) -> bool:
        """Send what is due; whether anything was handed over."""
        gateway = self.gateway
        bodies = gateway.outgoing(mono_ns)
        if not bodies:
            return False
        for body in bodies:
            if not self._engine.send(body):
                had_session = gateway.phase is not Phase.CLOSED
                gateway.blocked(mono_ns)
                if had_session:
                    self._reconnect()
                return False
        gateway.sent(mono_ns)
        if gateway.phase is Phase.READY and gateway.sessions > self._sessions_logged:
            self._sessions_logged = gateway.sessions
            self._logger.info("session ready", epoch=gateway.state.epoch, received_seq=gateway.state.received_seq)
        return True

    def _watch_engine(self, mono_ns: int) -> None:
        gateway = self.gateway
        had_session = gateway.phase is not Phase.CLOSED
        gateway.check_silence(mono_ns)
        if had_session and gateway.phase is Phase.CLOSED:
            self._reconnect()
        if cancelled := gateway.cancel_for_loss(self._settings.cancel_on_engine_loss_ms, mono_ns):
            self._logger.warning("engine lost, open orders cancelled", orders=cancelled)

    def _reconnect(self) -> None:
        """Give the socket up with whatever is still in it: a session's messages end with the session."""
        self._logger.warning("session ended", because=self.gateway.ended_because)
        self._waiter.remove(self._engine)
        self._engine.close()
        self._engine = Dealer(self._context, self._settings.engine_endpoint, ENGINE_HWM)
        self._waiter.add(self._engine)

    def _close_engine(self) -> None:
        self._engine.close()  # whichever it is by then

    def _answer(self, body: bytes, now_ns: int) -> GatewayControlReply:
        request = parse_request(body, self._token)
        if isinstance(request, str):
            self._meters.refused += 1
            return GatewayControlReply(ok=False, text=request)
        return self._act(request, now_ns)

    def _act(self, request: GatewayControl, now_ns: int) -> GatewayControlReply:
        if request.action == "status":
            return GatewayControlReply(ok=True, text="", status=self.status())
        if request.action in AMENDING:
            return self._amend(request, now_ns)
        is_killed = request.action == "kill"
        cancelled = self.gateway.set_killed(request.operator, now_ns, is_killed=is_killed, reason=request.reason)
        self._logger.warning(
            "gateway control", action=request.action, operator=request.operator, reason=request.reason,
            cancelled=cancelled,
        )  # fmt: skip
        text = f"killed: {cancelled} open orders cancelled, new ones refused" if is_killed else "new orders are taken"
        return GatewayControlReply(ok=True, text=text, cancelled=cancelled, status=self.status())

    def _amend(self, request: GatewayControl, now_ns: int) -> GatewayControlReply:
        if self._venue.kind is not GatewayKind.SANDBOX:
            return GatewayControlReply(ok=False, text=f"{request.action} expected a simulation, was a real venue")
        is_bust = request.action == "bust"
        try:
            quantity_e9 = 0 if is_bust else parse_e9(request.quantity, "quantity")
            price_e9 = 0 if is_bust else parse_e9(request.price, "price")
        except FieldError as e:
            return GatewayControlReply(ok=False, text=f"{e.field}: expected {e.expected}, was {e.value!r}")
        if not is_bust and quantity_e9 < 1:
            return GatewayControlReply(ok=False, text="quantity expected above 0, was 0; bust takes the trade back")
        refused = self.gateway.amend_trade(
            request.trade_id, quantity_e9, price_e9, request.operator, now_ns, request.reason
        )
        if refused:
            return GatewayControlReply(ok=False, text=refused)
        self._logger.warning(
            "gateway control", action=request.action, operator=request.operator, reason=request.reason,
            trade_id=request.trade_id,
        )  # fmt: skip
        did = "taken back" if is_bust else f"corrected to {request.quantity} at {request.price}"
        return GatewayControlReply(ok=True, text=f"trade {request.trade_id} {did}", status=self.status())

    def status(self) -> GatewayStatus:
        """Return how the gateway is."""
        gateway, state, venue = self.gateway, self.gateway.state, self._venue
        return GatewayStatus(
            state.venue, venue.kind.name, gateway.phase.name, gateway.ended_because, gateway.sessions,
            state.is_killed, state.shard, state.epoch, state.received_seq, state.report_seq, state.reports_durable,
            venue.open_count, venue.facts(),
        )  # fmt: skip


def run(settings: GatewaySettings) -> None:
    """Run the gateway of the sandbox venue until SIGTERM or SIGINT.

    Raises:
        ConfigError: If the settings or an address can't be used.
        VenueError: If the log is damaged, held by another gateway, or behind the engine.
    """
    # Here, not above: a gateway image carries its own venue only, and the core knows none by name.
    from venues.sandbox import SandboxVenue

    logger = logs.configure("gateway")
    stop = StopSignal()
    token = read_token(settings.token_file)
    context = Context()
    board = Board()
    board.not_ready = ("recovering",)
    try:
        with served(settings.health, board, FAMILIES) as serve:
            loop = GatewayLoop(settings, context, SandboxVenue.open(settings, context), token, logger, board, serve)
            loop.watch(stop.fd)
            # Nothing here makes cycles; a collection would stop orders for milliseconds (MEASURED finding 7).
            gc.collect()
            gc.freeze()
            gc.disable()
            while not stop.is_set:
                loop.turn()
            loop.close()
    finally:
        context.close()


def read_token(path: str) -> str:
    """Return the content of a token file.

    Raises:
        ConfigError: If the file can't be read or is empty.
    """
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as e:
        raise ConfigError([f"token_file: expected a readable file, was {path!r}: {e.strerror}"]) from e
    if not token:
        raise ConfigError([f"token_file: expected a token in {path!r}, was empty"])
    return token
