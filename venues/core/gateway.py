"""One gateway without its sockets: the session with the engine, the log, the venue, and the order of things.

A turn of the loop is ``wake`` and ``receive`` (state changes in memory, nobody is told) → ``commit`` (one write, one
fdatasync) → ``outgoing`` (confirmations and reports). Time comes in: ``now_ns`` is wall time for the venue and the
log, ``mono_ns`` monotonic time for leases and waiting.

Rules (DESIGN section 6): 6 a number received before is ignored, a gap ends the session; 8 and 9 nothing is confirmed
or reported before it is durable, and reports are kept until the engine's journal holds them; 10 a lower epoch is
refused, and an equal one of another instance.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Raw

from protocol.codes import Code
from protocol.errors import NOT_DECODED
from protocol.session import PROTOCOL_VERSION
from protocol.statement import AskStatement
from protocol.venue import (
    REPORTS_MAX,
    Commands,
    Confirm,
    GatewayHello,
    GatewayLeave,
    GatewayReady,
    Heartbeat,
    Report,
    Reports,
    ReportsDurable,
    VenueBye,
    VenueCommand,
    VenueWelcome,
    engine_venue_decoder,
)
from runtime.failpoints import hit
from venues.core.errors import LogBehindError
from venues.core.log import Batch, EpochTaken, KillChanged, LogWriter, TradeChanged
from venues.core.state import GatewayState
from venues.core.statement import statement_parts
from venues.core.venue import Venue

MS: Final = 1_000_000
# Reports messages a turn: a long replay goes out in pieces between other work.
REPORTS_MESSAGES_MAX: Final = 64
HELLO_TIMEOUT_NS: Final = 2_000 * MS
BACK_OFF_MIN_NS: Final = 20 * MS
BACK_OFF_MAX_NS: Final = 1_000 * MS
# The engine stops trusting us after one lease; we may be slower to give a session up, for nothing is lost by it.
SILENCE_LEASES: Final = 3

_encoder: Final = msgspec.msgpack.Encoder()


class Phase(IntEnum):
    """Where the session is."""

    CLOSED = 0  # no session: a hello is due at ``retry_at_ns``
    GREETED = 1  # hello sent
    WELCOMED = 2  # the epoch is taken; kept reports go out
    READY = 3


class Gateway:
    """Everything a gateway decides. ``ended_because`` says why the last session ended, for the log line."""

    def __init__(
        self,
        *,
        name: str,
        instance: bytes,
        venue: Venue,
        state: GatewayState,
        log: LogWriter,
        mono_ns: int,
        reports_kept_max: int = 1_000_000,
    ) -> None:
        self.name = name
        self.instance = instance
        self.venue = venue
        self.state = state
        self.log = log
        self.phase = Phase.CLOSED
        self.ended_because = ""
        self.sessions = 0
        self.retry_at_ns = mono_ns
        self.heard_at_ns = mono_ns
        self._back_off_ns = BACK_OFF_MIN_NS
        self._lease_ns = 1_000 * MS
        self._confirmed_at_ns = mono_ns
        self._must_confirm = False
        self._reports_kept_max = reports_kept_max
        self._sent_report_seq = 0
        self._held_seq = state.reports_durable
        self._marked_seq = 0  # reports that had been sent at ``_marked_at_ns``
        self._marked_at_ns = mono_ns
        self._sending_to_seq = 0
        self._messages: list[bytes] = []
        self._commands: list[VenueCommand] = []
        self._reports: list[Raw] = []
        self._received_seq = state.received_seq
        self._has_cancelled_for_loss = False
        self._asked: AskStatement | None = None

    # What comes in: memory only

    def wake(self, now_ns: int) -> None:
        """Let the venue take what came in by itself."""
        self._add(self.venue.wake(now_ns))

    def receive(self, bodies: list[bytes], now_ns: int, mono_ns: int) -> None:
        """Take the engine's messages of one turn; new commands are executed, in order."""
        self.heard_at_ns = mono_ns
        self._has_cancelled_for_loss = False
        decode = engine_venue_decoder.decode
        for body in bodies:
            try:
                message = decode(body)
            except NOT_DECODED as e:
                self.end(f"a message that can't be decoded: {e}", mono_ns)
                break
            if type(message) is Commands:
                self._take_commands(message, body, mono_ns)
            elif type(message) is VenueWelcome:
                self._welcome(message, mono_ns)
            elif type(message) is ReportsDurable:
                self._durable(message.report_seq, mono_ns)
            elif type(message) is AskStatement:
                self._take_ask(message, mono_ns)
            elif type(message) is VenueBye:
                self.end(f"the engine's BYE {message.reason.name} {message.text}", mono_ns)
            else:
                assert type(message) is Heartbeat
                if message.epoch != self.state.epoch:
                    self.end(f"a heartbeat of epoch {message.epoch}, expected {self.state.epoch}", mono_ns)
            if self.phase is Phase.CLOSED:
                break
        if self._commands:
            hit("gateway.after_receive")
            self._add(self.venue.execute(self._commands, now_ns))
            self._commands.clear()

    def set_killed(self, operator: str, now_ns: int, *, is_killed: bool, reason: str = "") -> int:
        """Refuse new orders and cancel all open ones, or take new orders again; durable on return.

        Returns:
            How many orders were cancelled.
        """
        self.commit(now_ns)
        self.venue.set_killed(is_killed=is_killed)
        cancelled = self.venue.cancel_all(Code.STATE_HALTED) if is_killed else []
        raws = [Raw(_encoder.encode(report)) for report in cancelled]
        record = KillChanged(is_killed, operator, now_ns, self.venue.note(), raws, reason)
        self.log.append(record)
        self.log.sync()
        self.state.apply(record)
        return len(cancelled)

    def amend_trade(
        self, trade_id: str, quantity_e9: int, price_e9: int, operator: str, now_ns: int, reason: str = ""
    ) -> str:
        """Have the venue take a trade back (quantity 0) or correct it; durable on return. Returns why not, or empty."""
        self.commit(now_ns)
        found = self.venue.amend_trade(trade_id, quantity_e9, price_e9)
        if isinstance(found, str):
            return found
        raws = [Raw(_encoder.encode(report)) for report in found]
        record = TradeChanged(operator, now_ns, self.venue.note(), raws, reason)
        self.log.append(record)
        self.log.sync()
        self.state.apply(record)
        return ""

    def cancel_for_loss(self, after_ms: int, mono_ns: int) -> int:
        """Cancel what is open if the engine was not heard for ``after_ms``; return how many orders. 0 ms = never."""
        if not after_ms or self._has_cancelled_for_loss or mono_ns - self.heard_at_ns < after_ms * MS:
            return 0
        self._has_cancelled_for_loss = True
        cancelled = self.venue.cancel_all(Code.VENUE_DOWN)
        self._add(cancelled)
        return len(cancelled)

    def loss_due_at_ns(self, after_ms: int) -> int:
        """Return when ``cancel_for_loss`` is due, monotonic ns; 0 = never, or done."""
        return self.heard_at_ns + after_ms * MS if after_ms and not self._has_cancelled_for_loss else 0

    # Durable

    def commit(self, now_ns: int) -> bool:
        """Make this turn durable: one record, one sync; whether it had any. Nothing of it was told to anyone before."""
        has_any = bool(self._messages or self._reports)
        if self._messages or self._reports:
            record = Batch(
                self._received_seq, self.state.reports_durable, self._messages, self.venue.note(), self._reports
            )
            self.log.append(record)
            self.log.sync()
            self._must_confirm = self._must_confirm or bool(self._messages)
            self.state.apply(record)
            self._messages, self._reports = [], []
            hit("gateway.after_sync")
        if self.log.is_full:
            self.log.start_segment(self.state.checkpoint(self.venue, now_ns, is_start=False))
        return has_any

    # What goes out: durable things only

    def outgoing(self, mono_ns: int) -> list[bytes]:
        """Return the messages that are due now, in order; the caller reports back with ``sent`` or ``blocked``."""
        assert not self._messages, "commit comes before outgoing"
        assert not self._reports, "commit comes before outgoing"
        if self.phase is Phase.CLOSED:
            return [self._hello()] if mono_ns >= self.retry_at_ns else []
        if self.phase is Phase.GREETED:
            return []
        state = self.state
        bodies: list[bytes] = []
        after = max(self._sent_report_seq, state.reports_durable)
        while len(bodies) < REPORTS_MESSAGES_MAX and (raws := state.reports_after(after, REPORTS_MAX)):
            bodies.append(_encoder.encode(Reports(state.epoch, state.received_seq, raws)))
            after += len(raws)
        self._sending_to_seq = after
        if bodies:
            hit("gateway.before_report")
        if after < state.report_seq:
            return bodies
        if self.phase is Phase.WELCOMED:
            bodies.append(_encoder.encode(GatewayReady(state.epoch, state.received_seq)))
            return bodies
        if self._asked is not None and self._asked.after_seq <= state.received_seq:
            bodies += self._statement(self._asked)
        if not bodies and (self._must_confirm or mono_ns - self._confirmed_at_ns >= self._lease_ns // 3):
            bodies.append(_encoder.encode(Confirm(state.epoch, state.received_seq)))
        return bodies

    def sent(self, mono_ns: int) -> None:
        """Everything ``outgoing`` returned was handed over."""
        if self.phase is Phase.CLOSED:
            self.phase = Phase.GREETED
            self.retry_at_ns = mono_ns + HELLO_TIMEOUT_NS
            return
        if self._sending_to_seq > self._sent_report_seq:
            self._sent_report_seq = self._sending_to_seq
            hit("gateway.after_report")
        if self.phase is Phase.WELCOMED and not self.has_more:
            self.phase = Phase.READY
            self._back_off_ns = BACK_OFF_MIN_NS
        self._confirmed_at_ns = mono_ns
        self._must_confirm = False

    def blocked(self, mono_ns: int) -> None:
        """The peer is gone or does not take it. A session that misses one message is over: reports come again."""
        if self.phase is Phase.CLOSED:
            self._back_off(mono_ns)
        else:
            self.end("a message that the engine did not take", mono_ns)

    @property
    def has_more(self) -> bool:
        """Whether ``outgoing`` left reports for the next turn."""
        return self.phase >= Phase.WELCOMED and self._sent_report_seq < self.state.report_seq

    @property
    def unsent_reports(self) -> int:
        """Reports that wait to be sent."""
        return self.state.report_seq - max(self._sent_report_seq, self.state.reports_durable)

    def due_at_ns(self) -> int:
        """Return when the loop must look again though nothing came in, monotonic ns."""
        if self.has_more or self._reports:
            return 0
        if self.phase in {Phase.CLOSED, Phase.GREETED}:
            return self.retry_at_ns
        return min(self._confirmed_at_ns + self._lease_ns // 3, self.heard_at_ns + SILENCE_LEASES * self._lease_ns)

    def check_silence(self, mono_ns: int) -> None:
        """End a session whose engine was not heard for too long, or whose hello or reports it has not taken."""
        if self.phase is Phase.GREETED and mono_ns >= self.retry_at_ns:
            self.end("a hello that nobody answered", mono_ns)
        if self.phase < Phase.WELCOMED:
            return
        if mono_ns - self.heard_at_ns > SILENCE_LEASES * self._lease_ns:
            self.end(f"{SILENCE_LEASES} leases without a sign of the engine", mono_ns)
        elif self._held_seq >= self._marked_seq:
            self._marked_seq, self._marked_at_ns = self._sent_report_seq, mono_ns
        elif mono_ns - self._marked_at_ns > SILENCE_LEASES * self._lease_ns:
            # Lost with a connection that came back: the engine would only notice at the next report.
            was = f"{self._marked_seq} sent, {self._held_seq} called durable"
            self.end(f"reports that the engine does not have after {SILENCE_LEASES} leases: {was}", mono_ns)

    def end(self, because: str, mono_ns: int) -> None:
        """End the session; what was executed in this turn is still committed, and reported in the next one."""
        self.phase = Phase.CLOSED
        self._asked = None
        self.ended_because = because
        self._back_off(mono_ns)

    def leave(self, text: str) -> bytes:
        """Return the message that says we stop on purpose."""
        return _encoder.encode(GatewayLeave(text))

    # The session

    def _hello(self) -> bytes:
        state, venue = self.state, self.venue
        return _encoder.encode(
            GatewayHello(
                PROTOCOL_VERSION, state.venue, self.name, self.instance, venue.kind, venue.capabilities,
                state.received_seq, state.report_seq, state.epoch,
            )
        )  # fmt: skip

    def _welcome(self, welcome: VenueWelcome, mono_ns: int) -> None:
        state = self.state
        if self.phase is not Phase.GREETED:
            self.end("a second welcome", mono_ns)
            return
        if welcome.protocol_version != PROTOCOL_VERSION:
            self.end(f"protocol version {welcome.protocol_version}, expected {PROTOCOL_VERSION}", mono_ns)
            return
        if refusal := self._fence(welcome):
            self.end(refusal, mono_ns)
            return
        if welcome.reports_durable < state.reports_durable:
            was = f"{welcome.reports_durable}, expected at least {state.reports_durable}, once called durable"
            self.end(f"an engine whose journal is old: reports durable to {was}", mono_ns)
            return
        if welcome.reports_durable > state.report_seq:
            raise LogBehindError(str(self.log.folder), welcome.reports_durable, state.report_seq)
        if welcome.epoch != state.epoch:
            taken = EpochTaken(welcome.shard, welcome.epoch, welcome.instance)
            self.log.append(taken)
            self.log.sync()
            state.apply(taken)
        # Nothing is forgotten on a welcome's word alone: only ReportsDurable is sent after the engine's sync.
        self._sent_report_seq = self._held_seq = self._marked_seq = welcome.reports_durable
        self._lease_ns = welcome.lease_ms * MS
        self.phase = Phase.WELCOMED
        self.sessions += 1

    def _fence(self, welcome: VenueWelcome) -> str:
        state = self.state
        if state.epoch and welcome.shard != state.shard:
            return f"shard {welcome.shard}, this gateway's log belongs to shard {state.shard}"
        if welcome.epoch < state.epoch:
            return f"FENCED: epoch {welcome.epoch}, this gateway has served {state.epoch}"
        if welcome.epoch == state.epoch and welcome.instance != state.instance:
            return f"FENCED: epoch {welcome.epoch} of another instance than the one this gateway has served"
        return ""

    def _take_ask(self, ask: AskStatement, mono_ns: int) -> None:
        if self.phase is not Phase.READY or ask.epoch != self.state.epoch or not self.venue.capabilities.statement:
            self.end(f"an ask for a statement in phase {self.phase.name}, of epoch {ask.epoch}", mono_ns)
        else:
            self._asked = ask

    def _statement(self, ask: AskStatement) -> list[bytes]:
        """Return all parts of the answer, which stand behind every report made so far; none if it must wait."""
        said = self.venue.statement()
        if said is None:
            return []
        self._asked = None
        return statement_parts(ask.number, self.state.epoch, self.state.received_seq, self.state.report_seq, said)

    def _take_commands(self, message: Commands, body: bytes, mono_ns: int) -> None:
        if self.phase is not Phase.READY or message.epoch != self.state.epoch:
            self.end(
                f"commands of epoch {message.epoch} in phase {self.phase.name}, expected epoch {self.state.epoch} "
                "in READY", mono_ns
            )  # fmt: skip
            return
        unheld = self.state.report_seq - self._held_seq
        if unheld >= self._reports_kept_max:
            self.end(f"{unheld} reports that the engine has not made durable", mono_ns)
            return
        expected = self._received_seq + 1
        add = self._commands.append
        for command in message.items:
            if command.venue_seq == expected:
                add(command)
                expected += 1
            elif command.venue_seq > expected:
                self.end(f"command {command.venue_seq}, expected {expected}", mono_ns)
                break
        # Also for a message of numbers already received: the engine waits for the confirmation.
        self._messages.append(body)
        self._received_seq = expected - 1

    def _durable(self, report_seq: int, mono_ns: int) -> None:
        if report_seq > self.state.report_seq:
            self.end(f"reports durable to {report_seq}, the last one is {self.state.report_seq}", mono_ns)
        elif report_seq > self.state.reports_durable:
            self.state.forget(report_seq)
            self._held_seq = max(self._held_seq, report_seq)

    def _add(self, reports: list[Report]) -> None:
        encode = _encoder.encode
        self._reports += [Raw(encode(report)) for report in reports]

    def _back_off(self, mono_ns: int) -> None:
        self.retry_at_ns = mono_ns + self._back_off_ns
        self._back_off_ns = min(self._back_off_ns * 2, BACK_OFF_MAX_NS)
