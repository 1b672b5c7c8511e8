"""Sidecar sessions: takes what they submit, lets the core decide, answers after the sync.

What can go wrong on the other side and what happens here:
- slow: sends never block; a session whose queue is full is ended, its sidecar comes back and resubmits;
- gone: the next answer finds no route, the session is ended, the broker keeps the message;
- repeated: the dedup map answers with the first outcome;
- late: of a unit that another session has claimed since nothing is taken;
- lying: a message that breaks the protocol or nests too deep for readers of the journal, a unit that was not claimed,
  more than its credits: BYE, no outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from engine.answers import Answers
from engine.changes import Change, Changes
from engine.orders import Breach, Defer, Replay
from engine.outcomes import new_outcome, pending
from engine.parts import Parts
from engine.permit import Permit
from engine.refusals import CHECKS_ALL
from engine.session import Session, hello_fault
from engine.units import UNCLAIMED, UNITS_MAX, Units, lease_of
from protocol.channels import Router
from protocol.codes import ByeReason, Code, Mode, OrderStatus, OutcomeKind, RetryReason
from protocol.decisions import NewDecision, Reference
from protocol.errors import NOT_DECODED
from protocol.nesting import FLAT_BYTES, require_flat
from protocol.orders import (
    CancelOrder,
    ExitReplace,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    TermedOrder,
    TrimmableOrder,
    command_decoder,
)
from protocol.records import CancelRequested, Ordered
from protocol.session import (
    PROTOCOL_VERSION,
    Bye,
    Claim,
    Claimed,
    Drain,
    Drained,
    EngineMessage,
    Hello,
    Item,
    Leave,
    Outcome,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Retry,
    SidecarMessage,
    Submit,
    Welcome,
    sidecar_decoder,
)
from risk.gate.exposure import InstrumentState, Route

ACCEPTED: Final = OutcomeKind.ACCEPTED
REJECTED: Final = OutcomeKind.REJECTED
PENDING_NEW: Final = OrderStatus.PENDING_NEW
RETRY_AFTER_MS: Final = 50
SESSIONS_MAX: Final = 256
# With a Submit of 1,024 more, at most 2,048 records of some 1.2 KiB: they fit into half a batch of 8 MiB.
ITEMS_BETWEEN_ROOM: Final = 1024

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = sidecar_decoder.decode
_decode_command: Final = command_decoder.decode
# Names of their own: compiled, what another module holds is looked up at each use.
ItemFields = tuple[int, str, int, int, str, str, bytes, int, Raw]
_fields_of: Final = cast("Callable[[Item], ItemFields]", astuple)
_submitted: Final[type[Submit]] = Submit
_new_order: Final[type[NewOrder]] = NewOrder
_termed_order: Final[type[TermedOrder]] = TermedOrder
_trimmable_order: Final[type[TrimmableOrder]] = TrimmableOrder
_cancel_order: Final[type[CancelOrder]] = CancelOrder
_ordered: Final[type[Ordered]] = Ordered
_outcome: Final[type[Outcome]] = Outcome
OK: Final = Code.OK


class Sidecars:
    """All sidecar sessions of one engine."""

    def __init__(self, parts: Parts, router: Router) -> None:
        self._settings = parts.settings
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._table = parts.table
        self._meters = parts.meters
        self._make_room = parts.make_room
        self._router = router
        self._changes = Changes(parts, self.reference_of)
        self._answers = Answers(parts)
        self._sessions: dict[bytes, Session] = {}
        self._units = Units()
        self._touched: list[Session] = []
        self.items = 0  # decided in this turn
        self._accepted = 0
        self._room_at = ITEMS_BETWEEN_ROOM
        self._credits = self._settings.credits + self._settings.reserved_credits

    @property
    def sessions(self) -> list[Session]:
        """The open sessions."""
        return list(self._sessions.values())

    def present(self, monotonic_ns: int, lease_ns: int) -> set[str]:
        """Return the sources of which some session was heard within the lease; a sidecar pings when it is silent."""
        found: set[str] = set()
        for session in self._sessions.values():
            if session.heard:
                session.heard = False
                session.heard_ns = monotonic_ns
            if monotonic_ns - session.heard_ns <= lease_ns:
                found.add(session.source)
        return found

    def find_table_slots(self) -> None:
        """Look up every instrument in the last-value table; after the parameters changed."""
        for instrument in self._state.instruments.values():
            instrument.index = self._table.slot(instrument.name)

    def reference_of(self, instrument: InstrumentState, now_ns: int) -> Reference | None:
        """Return the price that an order in the instrument is checked against now."""
        return self._table.reference(instrument.index, now_ns, instrument.tick_age_max_ns)

    def receive(self, frames: list[tuple[bytes, bytes]], now_ns: int, defer: RetryReason | None) -> None:
        """Decide everything that came in this turn.

        Decoding is a pass of its own, so that its code stays in the processor's caches.
        """
        try:
            messages: list[SidecarMessage | None] = [_decode(body) for _, body in frames]
        except NOT_DECODED:
            messages = [self._decode_or_refuse(identity, body) for identity, body in frames]
        sessions = self._sessions
        for n, message in enumerate(messages):  # a zip would make a tuple for each
            identity = frames[n][0]
            if type(message) is _submitted:
                session = sessions.get(identity)
                if session is None:
                    self._refuse(identity, ByeReason.UNIT_NOT_CLAIMED, "no session; say Hello")
                else:
                    self._submit(session, message, now_ns, defer)
                    if self.items >= self._room_at:
                        self._room_at = self.items + ITEMS_BETWEEN_ROOM
                        self._make_room(now_ns)
            elif message is not None:
                self._receive_rare(identity, message)

    def _decode_or_refuse(self, identity: bytes, body: bytes) -> SidecarMessage | None:
        try:
            return _decode(body)
        except NOT_DECODED as e:
            self._meters.malformed_sidecars += 1
            self._refuse(identity, ByeReason.MALFORMED, str(e))
            return None

    def _submit(self, session: Session, submit: Submit, now_ns: int, defer: RetryReason | None) -> None:
        items = submit.items
        if not session.items:
            self._touched.append(session)
            session.heard = True
        count = len(items)
        session.items += count
        if session.items > self._credits:
            self._end(
                session, ByeReason.CREDITS, f"expected at most {self._credits} items unanswered, was {session.items}"
            )
            return
        self.items += count
        orders = self._core.orders
        for item in items:
            seq, unit, unit_epoch, lease_left_ms, _, principal, trace_id, created_at_ns, raw = _fields_of(item)
            if unit_epoch != session.unit_epoch or unit != session.unit:
                lease_left_ms = lease_of(session, unit, unit_epoch, lease_left_ms)
            if lease_left_ms < 0:
                if lease_left_ms == UNCLAIMED:
                    self._end(session, ByeReason.UNIT_NOT_CLAIMED, f"unit {unit} epoch {unit_epoch}")
                    return
                session.outcomes.append(Outcome(seq, OutcomeKind.NOT_TAKEN, Code.OK, "", 0, OrderStatus.NONE))
                continue
            try:
                if len(raw) > FLAT_BYTES:
                    require_flat(raw)
                command = _decode_command(raw)
            except NOT_DECODED as e:
                self._meters.malformed_sidecars += 1
                self._end(session, ByeReason.MALFORMED, str(e))
                return
            kind = type(command)
            if kind is _new_order or kind is _termed_order or kind is _trimmable_order:
                orders.take_item(item, created_at_ns, trace_id, raw)
                self._new(session, item, seq, principal, cast("NewOrder", command), now_ns, defer)
            elif type(command) is _cancel_order:
                self._cancel(session, item, seq, principal, command, now_ns)
            elif isinstance(command, ReplaceOrder | NewBasket | ExitReplace | NewOco):
                self._change(session, item, command, now_ns, defer)

    def _new(
        self, session: Session, item: Item, item_seq: int, principal: str, order: NewOrder, now_ns: int,
        defer: RetryReason | None,
    ) -> None:  # fmt: skip
        orders = self._core.orders
        view = orders.view
        view.take(order)
        permit = session.permit if principal == session.principal else session.permits.get(principal)
        routes = permit.routes.get((view.account_name, view.strategy_name)) if permit is not None else None
        route: Route | Code | None = routes.get(view.instrument_name) if routes is not None else None
        try:
            if route is None:
                route = orders.find_route(self._permit(session, principal), order)
            ref = None
            if type(route) is Route:
                instrument = route.instrument
                ref = self._table.reference(instrument.index, now_ns, instrument.tick_age_max_ns)
            why = session.retry_reason if session.in_retry else defer
            decided = orders.decide_new(order, item, route, now_ns, ref, why)
        except Exception as e:  # noqa: BLE001 - whatever it is, nothing has changed yet; DESIGN 6.12
            self._answers.poison(session, item, order.account, e, now_ns)
            return
        if type(decided) is NewDecision:
            writer = self._writer
            seq = writer.next_seq
            is_accepted = decided is orders.accepted
            record = _ordered(session.source, item, ref, decided, seq)
            position = writer.append(record)
            orders.apply_ordered(record, order, position, now_ns)
            if is_accepted:  # what the decision says is at hand
                self._accepted += 1
                outcome = _outcome(
                    item_seq, ACCEPTED, OK, orders.new_id, seq, PENDING_NEW, orders.checks_passed, orders.after_e9,
                    orders.limit_e9,
                )  # fmt: skip
            else:
                self._meters.refuse(decided.code)
                outcome = new_outcome(item_seq, seq, decided)
            session.outcomes.append(outcome)
        elif type(decided) is Replay:
            self._meters.duplicates += 1
            session.replays.append((len(session.outcomes), item, decided))
            session.outcomes.append(pending(item))
        elif type(decided) is Breach:
            if decided.code is Code.PAPER_KEY:  # no route was found for it, so no price was read
                ref = self.reference_of(self._state.instruments[order.instrument], now_ns)
            deferred = self._answers.take_breach(decided, session, item, order, now_ns, ref, why)
            if deferred is not None:
                self._defer(session, item, deferred)
        else:
            assert type(decided) is Defer
            self._defer(session, item, decided)

    def _permit(self, session: Session, principal: str) -> Permit | None:
        """Return what the principal may do through this session's source, and keep it with the session."""
        permit = self._state.permit(session.source, principal)
        if permit is not None:
            session.permits[principal] = permit
            session.principal, session.permit = principal, permit
        return permit

    def _cancel(
        self, session: Session, item: Item, item_seq: int, principal: str, command: CancelOrder, now_ns: int
    ) -> None:
        try:
            permit = session.permit if principal == session.principal else self._permit(session, principal)
            decided = self._core.orders.decide_cancel(command, permit)
        except Exception as e:  # noqa: BLE001 - whatever it is, nothing has changed yet; DESIGN 6.12
            self._answers.poison(session, item, command.account, e, now_ns)
            return
        if isinstance(decided, Defer):
            self._defer(session, item, decided)
            return
        record = CancelRequested(session.source, item, decided)
        seq = self._writer.next_seq
        position = self._writer.append(record)
        self._core.orders.apply_cancel(record, command, position, now_ns)
        if decided.kind is ACCEPTED:
            self._meters.cancels += 1
        else:
            self._meters.refuse(decided.code)
        session.outcomes.append(
            _outcome(
                item_seq, decided.kind, decided.code, decided.order_id, seq, decided.status, CHECKS_ALL,
                facts=decided.facts,
            )
        )  # fmt: skip

    def _change(self, session: Session, item: Item, command: Change, now_ns: int, defer: RetryReason | None) -> None:
        try:
            permit = session.permits.get(item.principal) or self._permit(session, item.principal)
            why = session.retry_reason if session.in_retry else defer
            decided = self._changes.decide(command, item, permit, now_ns, why)
        except Exception as e:  # noqa: BLE001 - whatever it is, nothing has changed yet; DESIGN 6.12
            self._answers.poison(session, item, command.account, e, now_ns)
            return
        if isinstance(decided, Defer):
            self._defer(session, item, decided)
        elif isinstance(decided, Replay):
            self._meters.duplicates += 1
            session.replays.append((len(session.outcomes), item, decided))
            session.outcomes.append(pending(item))
        else:
            session.outcomes.append(self._changes.take(decided, session.source, item, now_ns))

    def _defer(self, session: Session, item: Item, decided: Defer) -> None:
        self._meters.retries += 1
        session.in_retry = True
        session.retry_reason = decided.reason
        session.retries.append(item.seq)

    def _receive_rare(self, identity: bytes, message: SidecarMessage) -> None:
        if isinstance(message, Hello):
            self._hello(identity, message)
            return
        session = self._sessions.get(identity)
        if session is None:
            self._refuse(identity, ByeReason.UNIT_NOT_CLAIMED, "no session; say Hello")
            return
        session.heard = True
        match message:
            case Claim():
                self._claim(session, message.unit)
            case Ping():
                self._send(session, Pong())
            case Resume():
                session.in_retry = False
            case Drained():
                session.drained = True
            case Leave():
                self._forget(session)
            case _:
                self._end(session, ByeReason.MALFORMED, f"unexpected {type(message).__name__}")

    def _hello(self, identity: bytes, hello: Hello) -> None:
        fault = hello_fault(hello, identity, self._state.channels)
        if fault is not None:
            self._refuse(identity, *fault)
            return
        known = self._sessions.get(identity)
        if known is not None:
            self._forget(known)
        if len(self._sessions) >= SESSIONS_MAX:
            self._refuse(identity, ByeReason.CREDITS, f"at most {SESSIONS_MAX} sessions")
            return
        session = self._sessions[identity] = Session(identity, hello.source, hello.sidecar)
        settings = self._settings
        self._send(
            session,
            Welcome(
                PROTOCOL_VERSION, settings.shard, self._state.epoch, self._state.instance, Mode(self._state.mode),
                settings.credits, settings.reserved_credits,
            ),
        )  # fmt: skip

    def _claim(self, session: Session, unit: str) -> None:
        if not self._units.may_claim(session, unit):
            self._end(session, ByeReason.CREDITS, f"at most {UNITS_MAX} units")
            return
        fenced = self._units.claim(session, unit, self._state.epoch)
        if fenced is not None:
            self._end(fenced, ByeReason.FENCED, f"unit {unit} was claimed by {session.sidecar}")
        self._send(session, Claimed(unit, session.units[unit]))

    # After the sync

    def answer(self, durable_after_ns: int) -> None:
        """Send what was decided in this turn; everything is durable now."""
        for session in self._touched:
            if session.replays:
                self._answers.read_replays(session)
            if session.outcomes:
                self._send(session, Outcomes(session.outcomes, durable_after_ns, self._state.epoch))
                session.outcomes = []
            if session.retries:
                self._send(session, Retry(RETRY_AFTER_MS, session.retry_reason, session.retries))
                session.retries = []
            session.items = 0
        self._touched.clear()
        self._meters.accepted += self._accepted
        self._accepted = 0
        self.items = 0
        self._room_at = ITEMS_BETWEEN_ROOM

    def finish(self) -> None:
        """Say how holds ended, to whoever was answered HELD and is still there; everything is durable now."""
        if self._answers.are_owed:
            for session, message in self._answers.due(self.sessions):
                self._send(session, message)

    def drain(self, within_ms: int) -> None:
        """Tell every sidecar to stop receiving."""
        for session in self.sessions:
            self._send(session, Drain(within_ms))

    def stop(self) -> None:
        """End every session."""
        for session in self.sessions:
            self._end(session, ByeReason.STOPPING, "the engine stops")

    def _send(self, session: Session, message: EngineMessage) -> None:
        if not self._router.send(session.identity, _encode(message)):
            self._forget(session)

    def _end(self, session: Session, reason: ByeReason, text: str) -> None:
        """End a session. What it submitted in this turn stays decided; it gets no outcome but BYE."""
        if session.identity in self._sessions:
            self._meters.end(reason)
            self._router.send(session.identity, _encode(Bye(reason, text)))
            self._forget(session)

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.identity, None)
        self._units.forget(session)
        session.outcomes = []
        session.replays = []
        session.retries = []
        session.finals = []

    def _refuse(self, identity: bytes, reason: ByeReason, text: str) -> None:
        session = self._sessions.get(identity)
        if session is not None:
            self._end(session, reason, text)
        else:
            self._router.send(identity, _encode(Bye(reason, text)))
