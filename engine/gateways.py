"""Venue gateway sessions: the outbox goes out in order, reports come in once.

What can go wrong on the other side and what happens here:
- slow: at most ``venue_window`` commands are unacknowledged, the rest waits in the outbox; when it waits longer than
  ``send_age_max`` each order passes the send gate again;
- gone: without a confirmation for ``lease_ms`` the venue takes no new order; commands above the gateway's watermark
  are unsent, those below it without a report are UNKNOWN and queried;
- repeated: reports up to the last one taken are ignored; a gap ends the session;
- malformed, or numbers that go back or jump within a session, or that were never sent: counted, alarmed, BYE;
- older than the journal, by its reports or by what it had received: counted, alarmed, BYE; its log is to be restored;
- lying: a hello with a watermark above what the journal ever numbered, or a higher epoch, stops the engine: this
  journal is not the newest.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from engine.gateway_session import GatewaySession, forgotten
from engine.odd_reports import OddReports
from engine.order import Outgoing, OutgoingKind
from engine.parts import Parts
from engine.sending import command_of
from engine.statements import Statements
from engine.terms import AMENDING
from engine.venue_state import VenueState
from protocol.channels import IDENTITY_BYTES_MIN, Router
from protocol.codes import ByeReason, GatewayKind, Mode
from protocol.decisions import Reference, ReportEffect
from protocol.errors import NOT_DECODED, FencedError
from protocol.nesting import FLAT_BYTES, require_flat
from protocol.records import Record, Reported, VenueChanged
from protocol.session import PROTOCOL_VERSION
from protocol.statement import Statement
from protocol.venue import (
    COMMANDS_MAX,
    Commands,
    Confirm,
    EngineVenueMessage,
    GatewayHello,
    GatewayLeave,
    GatewayMessage,
    GatewayReady,
    Heartbeat,
    Reports,
    ReportsDurable,
    VenueBye,
    VenueWelcome,
    gateway_decoder,
    report_decoder,
)
from risk.gate.exposure import InstrumentState

NEW: Final = OutgoingKind.NEW
VOID: Final = OutgoingKind.VOID
REPLACE: Final = OutgoingKind.REPLACE
LATE_KINDS: Final = (NEW, REPLACE)
NS_PER_MS: Final = 1_000_000

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = gateway_decoder.decode
_decode_report: Final = report_decoder.decode

ReferenceOf = Callable[[InstrumentState, int], Reference | None]


class Gateways:
    """All gateway sessions of one engine; at most one a venue."""

    def __init__(self, parts: Parts, router: Router, reference_of: ReferenceOf) -> None:
        self._settings = parts.settings
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._meters = parts.meters
        self._alarm = parts.alarm
        self._make_room = parts.make_room
        self._router = router
        self._reference_of = reference_of
        self._sessions: dict[bytes, GatewaySession] = {}
        self._greeted: list[GatewaySession] = []
        self._heartbeat_at_ns = 0
        self._lost: list[VenueChanged] = []  # not yet journaled
        self.statements = Statements(parts)
        self._odd = OddReports(parts, self.statements)

    # Before the sync: what came in, what is decided

    def receive(self, frames: list[tuple[bytes, bytes]], now_ns: int, monotonic_ns: int) -> None:
        """Take everything gateways sent in this turn."""
        self._journal_lost(now_ns)
        for identity, body in frames:
            try:
                message = _decode(body)
            except NOT_DECODED as e:
                self._malformed(identity, str(e))
                continue
            if isinstance(message, GatewayHello):
                self._hello(identity, message, now_ns, monotonic_ns)
                continue
            session = self._sessions.get(identity)
            if session is None:
                self._bye(identity, ByeReason.FENCED, "no session; say GatewayHello")
                continue
            self._receive(session, message, now_ns, monotonic_ns)
            self._make_room(now_ns)
        self._journal_lost(now_ns)

    def _receive(self, session: GatewaySession, message: GatewayMessage, now_ns: int, monotonic_ns: int) -> None:
        if isinstance(message, GatewayLeave):
            self._lose(session)
            return
        if isinstance(message, GatewayHello) or message.epoch != self._state.epoch:
            text = f"epoch expected {self._state.epoch}, was another"
            self._bye(session.identity, ByeReason.FENCED, text)
            return
        if message.received_seq > session.sent_seq:  # its hello was in order: a lie, no older journal
            text = f"received_seq expected at most {session.sent_seq}, was {message.received_seq}"
            self._malformed(session.identity, text)
            return
        session.confirmed_at_ns = monotonic_ns
        session.acked_seq = max(session.acked_seq, message.received_seq)
        match message:
            case Reports():
                self._reports(session, message, now_ns)
            case GatewayReady() if session.ready or message.received_seq < session.acked_seq:
                # What went out since would count as never sent.
                text = f"one GatewayReady expected, of received_seq {session.acked_seq}, was {message.received_seq}"
                self._malformed(session.identity, text)
            case GatewayReady():
                self._ready(session, message, now_ns)
            case Confirm() if not session.ready:  # the one that said READY was lost: begin again
                self._malformed(session.identity, "GatewayReady expected, was Confirm")
            case Statement():
                if wrong := self.statements.take(session.venue, message, now_ns):
                    self._malformed(session.identity, wrong)
            case Confirm():
                pass

    def _hello(self, identity: bytes, hello: GatewayHello, now_ns: int, monotonic_ns: int) -> None:
        state = self._state
        venue = state.venues.get(hello.venue)
        if len(identity) < IDENTITY_BYTES_MIN:
            text = f"identity expected at least {IDENTITY_BYTES_MIN} random bytes, was {len(identity)}"
            self._malformed(identity, text)
            return
        if hello.protocol_version != PROTOCOL_VERSION or venue is None:
            reason = ByeReason.VENUE_UNKNOWN if venue is None else ByeReason.VERSION
            text = f"venue {hello.venue}, protocol version {hello.protocol_version}: expected {PROTOCOL_VERSION}"
            self._bye(identity, reason, text)
            return
        if state.mode is Mode.PAPER and hello.kind is GatewayKind.LIVE:
            self._bye(identity, ByeReason.MODE, "a paper engine takes no live gateway")
            return
        if hello.epoch > state.epoch or hello.received_seq > venue.last_seq:
            self._fenced(venue, hello.received_seq, hello.epoch)
        confirmed = [s.acked_seq for s in self._sessions.values() if s.venue is venue]
        if older := forgotten(venue, hello, confirmed):
            text = f"gateway log is older than the journal: {older}; restore it"
            self._meters.malformed_venues += 1
            self._alarm(text)
            self._bye(identity, ByeReason.FENCED, text)
            return
        for known in list(self._sessions.values()):
            if known.venue is venue:
                self._bye(known.identity, ByeReason.FENCED, "another gateway said Hello for this venue")
        session = GatewaySession(identity, hello.instance, venue, hello.received_seq, monotonic_ns, hello.capabilities)
        self._sessions[identity] = session
        self._greeted.append(session)

    def _welcome(self, session: GatewaySession, now_ns: int) -> None:
        state = self._state
        self._send(
            session,
            VenueWelcome(
                PROTOCOL_VERSION, state.shard, state.epoch, state.instance, Mode(state.mode),
                self._settings.lease_ms, session.venue.report_seq,
            ),
        )  # fmt: skip

    def _fenced(self, venue: VenueState, received_seq: int, epoch: int = 0) -> None:
        raise FencedError(
            f"venue {venue.name}",
            f"epoch {self._state.epoch}, venue_seq {venue.last_seq}",
            f"epoch {epoch or self._state.epoch}, venue_seq {received_seq} at its gateway; the journal is old",
        )

    def _ready(self, session: GatewaySession, message: GatewayReady, now_ns: int) -> None:
        venue = session.venue
        self._journal_lost(now_ns)
        self._append(
            VenueChanged(venue.name, True, session.instance, message.received_seq, session.capabilities), now_ns
        )
        queried = self._core.reports.decide_unknown(venue, message.received_seq)
        if queried is not None:
            self._meters.may_have_unknown = True
            self._append(queried, now_ns)
        venue.fresh.clear()
        session.sent_seq = message.received_seq
        session.queue = deque(o for o in venue.awaiting.values() if o.seq > message.received_seq)
        session.ready = True
        for outgoing in list(session.queue):
            if outgoing.kind is NEW or outgoing.kind is REPLACE:
                self._decide_send(outgoing, now_ns)
        if session.capabilities.statement:
            self.statements.begin(venue)

    def reconcile(self, venue: str, operator: str, reason: str) -> str:
        """Ask one READY venue, or all, for an operator; returns why not, or empty."""
        venues = [
            s.venue
            for s in self._sessions.values()
            if s.ready and s.capabilities.statement and venue in {"", s.venue.name}
        ]
        return self.statements.begin_for(venues, operator, reason)

    def _reports(self, session: GatewaySession, message: Reports, now_ns: int) -> None:
        venue = session.venue
        reports = self._core.reports
        writer = self._writer
        received_seq = message.received_seq  # nothing answers a command that its gateway does not have
        for raw in message.items:
            try:
                if len(raw) > FLAT_BYTES:
                    require_flat(raw)
                report = _decode_report(raw)
            except NOT_DECODED as e:
                self._malformed(session.identity, f"report {venue.report_seq + 1}: {e}")
                return
            if report.venue_seq > received_seq:
                text = f"report {report.report_seq}: venue_seq expected at most {received_seq}, was {report.venue_seq}"
                self._malformed(session.identity, text)
                return
            if report.report_seq <= venue.report_seq:
                session.reports_seen = True
                continue
            if report.report_seq != venue.report_seq + 1:
                text = f"report_seq expected {venue.report_seq + 1}, was {report.report_seq}"
                self._malformed(session.identity, text)
                return
            if report.details is not None and report.exec_type in AMENDING:
                self._odd.take_amended(venue, raw, report, now_ns)
                session.reports_seen = True
                continue
            decision = reports.decide_report(venue, report)
            writer.append(Reported(venue.name, raw, decision))
            reports.apply_report(venue, report, decision, now_ns)
            session.reports_seen = True
            if report.last_quantity_e9:
                self._meters.fills += 1
            if decision.effect is not ReportEffect.APPLIED:
                self._odd.tell(venue, report, decision, now_ns, can_state=session.capabilities.statement)

    def decide_late(self, now_ns: int) -> None:
        """Check again what waits too long in the outbox, and what the venue never saw (DESIGN 6.8)."""
        params = self._state.params
        assert params is not None
        for session in list(self._sessions.values()):
            if not session.ready:
                continue
            venue = session.venue
            for order in list(venue.not_found.values()):
                ref = self._reference_of(order.route.instrument, now_ns)
                self._append(self._core.reports.decide_send(order, venue.last_seq + 1, now_ns, ref), now_ns)
            oldest_ns = now_ns - params.send_age_max_ns
            if session.queue and session.queue[0].at_ns < oldest_ns:
                for outgoing in list(session.queue):  # what one decision voids is not decided after it
                    if outgoing.kind in LATE_KINDS and outgoing.at_ns < oldest_ns:
                        self._decide_send(outgoing, now_ns)

    def _decide_send(self, outgoing: Outgoing, now_ns: int) -> None:
        order = outgoing.order
        ref = self._reference_of(order.route.instrument, now_ns)
        reports = self._core.reports
        decide = reports.decide_send_replace if outgoing.kind is REPLACE else reports.decide_send
        self._append(decide(order, outgoing.seq, now_ns, ref), now_ns)

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        position = self._writer.append(record)
        self._core.apply(seq, now_ns, position, record)

    def unsent_from(self) -> dict[str, int]:
        """Return per venue the first number that surely was never sent: a fact of this process."""
        return {
            s.venue.name: s.queue[0].seq if s.queue else s.venue.last_seq + 1
            for s in self._sessions.values()
            if s.ready
        }

    def expire(self, now_ns: int, monotonic_ns: int) -> None:
        """Lose gateways whose lease ran out."""
        lease_ns = self._settings.lease_ms * NS_PER_MS
        for session in list(self._sessions.values()):
            if monotonic_ns - session.confirmed_at_ns > lease_ns:
                self._alarm(f"venue {session.venue.name}: no confirmation for {self._settings.lease_ms} ms")
                self._bye(session.identity, ByeReason.SLOW, "lease ran out")
            elif session.ready and self._has_lost(session, monotonic_ns, lease_ns):
                text = f"commands to {session.marked_seq} sent, {session.acked_seq} received, for a whole lease"
                self._alarm(f"venue {session.venue.name}: {text}; its session begins anew")
                self._bye(session.identity, ByeReason.SLOW, text)
        self.statements.expire(monotonic_ns)
        self._journal_lost(now_ns)

    def _has_lost(self, session: GatewaySession, monotonic_ns: int, lease_ns: int) -> bool:
        """Whether what was sent a lease ago is not there though the gateway confirms.

        A connection made anew under the same identity leaves such a hole: nobody else would ever notice the last one.
        """
        if session.acked_seq >= session.marked_seq:
            session.marked_seq = session.venue.last_seq - len(session.queue) - len(session.venue.fresh)
            session.marked_at_ns = monotonic_ns
        return monotonic_ns - session.marked_at_ns > lease_ns

    # After the sync: what goes out

    def send(self, now_ns: int, monotonic_ns: int) -> bool:
        """Send what is durable and fits the window; whether anything went out."""
        sent = False
        for session in self._greeted:  # only now is what the welcome says of reports durable
            self._welcome(session, now_ns)
        self._greeted.clear()
        for session in list(self._sessions.values()):
            if session.ready:
                if session.venue.fresh:
                    session.queue.extend(session.venue.fresh)
                    session.venue.fresh.clear()
                if session.queue:
                    sent = self._send_queue(session, now_ns) or sent
                if self.statements.is_due and (ask := self.statements.due(session.venue, monotonic_ns)) is not None:
                    self._send(session, ask)
            if session.reports_seen:
                session.reports_seen = False
                self._send(session, ReportsDurable(session.venue.report_seq))
        heartbeat_ns = self._settings.lease_ms * NS_PER_MS // 3
        if monotonic_ns - self._heartbeat_at_ns >= heartbeat_ns:
            self._heartbeat_at_ns = monotonic_ns
            for session in list(self._sessions.values()):
                self._send(session, Heartbeat(self._state.epoch))
        return sent

    def _send_queue(self, session: GatewaySession, now_ns: int) -> bool:
        queue = session.queue
        window_end = session.acked_seq + self._settings.venue_window
        sent = False
        while queue and queue[0].seq <= window_end:
            # Numbers are contiguous, so the window says how many; one pass over them, no test an order.
            count = min(len(queue), COMMANDS_MAX, window_end - queue[0].seq + 1)
            take = queue.popleft
            session.sent_seq = queue[0].seq + count - 1
            batch = [command_of(take()) for _ in range(count)]
            if not self._send(session, Commands(self._state.epoch, batch)):
                return sent
            sent = True
        return sent

    def unfinished(self) -> list[str]:
        """Return per venue what no gateway has acknowledged; it is in the journal, the next engine goes on with it."""
        found = []
        for venue, held_seq, is_away in self._held():
            count = sum(o.seq > held_seq and o.kind is not VOID for o in venue.awaiting.values())
            if count:
                away = ", its gateway is away" if is_away else ""
                found.append(f"venue {venue.name}: {count} commands not acknowledged{away}; they are in the journal")
        return found

    @property
    def is_idle(self) -> bool:
        """Whether ``unfinished`` would say nothing."""
        for venue, held_seq, _ in self._held():
            for outgoing in venue.awaiting.values():
                if outgoing.seq > held_seq and outgoing.kind is not VOID:
                    return False
        return True

    def _held(self) -> list[tuple[VenueState, int, bool]]:
        """Return (venue, number up to which its gateway has the commands durably, whether it is away)."""
        acked = {s.venue.name: s.acked_seq for s in self._sessions.values() if s.ready}
        return [(v, acked.get(v.name, v.received_seq), v.name not in acked) for v in self._state.venues.values()]

    def queues(self) -> dict[str, tuple[int, int]]:
        """Return per venue with a READY gateway how many commands wait here, and how many are unacknowledged."""
        found: dict[str, tuple[int, int]] = {}
        for session in self._sessions.values():
            if session.ready:
                venue, waiting = session.venue, len(session.queue) + len(session.venue.fresh)
                found[venue.name] = waiting, venue.last_seq - waiting - session.acked_seq
        return found

    def stop(self) -> None:
        """Say goodbye to every gateway; nothing is journaled, the next START marks them lost."""
        for session in self._sessions.values():
            self._router.send(session.identity, _encode(VenueBye(ByeReason.STOPPING, "the engine stops")))
        self._sessions.clear()

    def _send(self, session: GatewaySession, message: EngineVenueMessage) -> bool:
        if self._router.send(session.identity, _encode(message)):
            return True
        self._lose(session)
        return False

    def _bye(self, identity: bytes, reason: ByeReason, text: str) -> None:
        self._router.send(identity, _encode(VenueBye(reason, text)))
        session = self._sessions.get(identity)
        if session is not None:
            self._lose(session)

    def _malformed(self, identity: bytes, text: str) -> None:
        """End a session whose gateway breaks the protocol; a person looks, for its venue may have no session at all."""
        self._meters.malformed_venues += 1
        session = self._sessions.get(identity)
        self._alarm(f"gateway of venue {session.venue.name if session else '?'} breaks the protocol: {text}")
        self._bye(identity, ByeReason.MALFORMED, text)

    def _lose(self, session: GatewaySession) -> None:
        """Forget a session; that a READY one is lost is journaled by the next ``_journal_lost``.

        Not here: a send fails after the sync, and a record applied then would get the clock read of another batch.
        """
        with contextlib.suppress(KeyError):
            del self._sessions[session.identity]
        self.statements.lose(session.venue)
        if session.ready:
            session.ready = False
            self._lost.append(VenueChanged(session.venue.name, False, session.instance, session.acked_seq))

    def _journal_lost(self, now_ns: int) -> None:
        """Append what was lost, before anything that comes after it."""
        if self._lost:
            for record in self._lost:
                self._append(record, now_ns)
            self._lost.clear()
