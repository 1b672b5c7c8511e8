"""The engine session of a sidecar as a state machine without I/O: messages and time in, messages and settlements out.

Rules: a delivery ends exactly once, with exactly the engine's outcome or with none; never more unanswered than the
credits allow; lanes in order; after one RETRY new risk waits for RESUME while cancels and reduce-only orders go on
(DECISIONS 12); on a new WELCOME everything unanswered is submitted again in order (the engine deduplicates); an engine
older than one seen before gets nothing (DESIGN 6.10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from protocol.codes import ByeReason, Mode, OutcomeKind
from protocol.errors import FencedError
from protocol.orders import Command
from protocol.session import (
    ITEMS_MAX,
    PROTOCOL_VERSION,
    Bye,
    Claimed,
    Credit,
    Drain,
    Drained,
    EngineMessage,
    Finals,
    Hello,
    Item,
    Leave,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Retry,
    SidecarMessage,
    Submit,
    Welcome,
)
from sidecars.core.claims import Claims
from sidecars.core.decode import is_for_people, may_use_reserve
from sidecars.core.lease import NS_PER_MS, is_over, left_ms
from sidecars.core.pending import Entry, Pending
from sidecars.core.session_life import BACKOFF_DOUBLINGS_MAX, GREET_AGAIN, Fence, State, backoff_ns, given_up, settled
from sidecars.core.settings import SessionSettings
from sidecars.core.source import Delivery, Settlement, Verb, Why


class EngineSession:
    """See the module. The I/O around it calls ``take``, ``on_*`` and then sends ``outgoing`` and settles ``ended``."""

    def __init__(
        self,
        settings: SessionSettings,
        fence: Fence,
        *,
        source: str,
        sidecar: str,
        new_instance: Callable[[], bytes],
        jitter: Callable[[], float],
        shard: int | None = None,
    ) -> None:
        """Start without a session; ``jitter`` returns 0 to 1, ``new_instance`` 16 random bytes.

        ``shard``: the only one whose engine is spoken to; None = the one engine there is.
        """
        self._settings = settings
        self._shard = shard
        self._fence = fence
        self._source = source
        self._sidecar = sidecar
        self._new_instance = new_instance
        self._jitter = jitter
        self._claims = Claims()
        self._take_instance()
        self.state = State.AWAY
        self.epoch = 0
        self.mode = Mode.PAPER
        self.credits = 0
        self.reserved_credits = 0
        self.welcomes = 0
        self.strays = 0
        self.lease_lost = 0
        self.is_draining = False
        self.is_stopping = False
        self.in_retry = False
        self.fault = ""
        self.ended: list[Settlement] = []
        self._pending = Pending()
        self._control: list[SidecarMessage] = []
        self._resume_due_ns = 0
        self._hello_due_ns = 0
        self._drain_due_ns = 0
        self._heard_ns = 0
        self._pinged = False
        self._faults = 0
        self._on: Final[dict[type, Callable[..., None]]] = {
            Welcome: self._on_welcome,
            Claimed: self._on_claimed,
            Outcomes: self._on_outcomes,
            Finals: self._on_finals,
            Retry: self._on_retry,
            Credit: self._on_credit,
            Drain: self._on_drain,
            Bye: self._on_bye,
            Pong: self._on_pong,
        }

    # What a source may ask (the Flow contract)

    @property
    def is_open(self) -> bool:
        """Whether deliveries are taken now."""
        return self.state is State.OPEN and not self.is_draining

    @property
    def why_closed(self) -> Why:
        """Why not."""
        return Why.DRAINING if self.is_draining or self.is_stopping else Why.ENGINE_AWAY

    def room(self, *, reserved: bool) -> int:
        """Return how many more deliveries are taken now."""
        if not (self.is_open or self._holds):
            return 0
        under_way = len(self._pending)
        if reserved:
            return max(0, self._credits_known + self.reserved_credits - under_way)
        room = self._credits_known - under_way
        if self.in_retry or not self.is_open:
            room = min(room, self._settings.hold_max - self._pending.risk_waiting)
        return max(0, room)

    @property
    def bound(self) -> int:
        """What ``room`` is when nothing is under way."""
        most = self._credits_known
        return min(most, self._settings.hold_max) if self.in_retry or not self.is_open else most

    @property
    def _credits_known(self) -> int:
        return self.credits if self.welcomes else self._settings.hold_max

    @property
    def _holds(self) -> bool:
        """Whether deliveries wait here for an engine that is away or drains: one of several that a source feeds."""
        return self._settings.is_one_of_several and not self.is_stopping

    @property
    def in_flight(self) -> int:
        """Deliveries submitted and unanswered."""
        return self._pending.in_flight

    @property
    def held(self) -> int:
        """Deliveries that wait here for credits or for the end of a RETRY."""
        return self._pending.waiting_count

    @property
    def is_idle(self) -> bool:
        """Whether everything taken has ended."""
        return next(self._pending.live(), None) is None

    def live(self) -> list[Delivery]:
        """Return the deliveries neither settled nor given up, oldest first."""
        return [entry.delivery for entry in self._pending.live()]

    @property
    def unit(self) -> str:
        """This instance's own unit: where consumers compete nobody else can own it."""
        return self._claims.own

    # In

    def claim(self, units: Iterable[str], now_ns: int) -> None:
        """Claim what the broker has assigned, all of it anew; until the engine has said so nothing is sent."""
        wanted = self._claims.assign(units)
        if self.state in {State.CLAIMING, State.OPEN} and wanted:
            self._control += wanted
            self.state = State.CLAIMING
            self._hello_due_ns = now_ns + self._settings.answer_ms * NS_PER_MS

    def take(self, delivery: Delivery, command: Command, now_ns: int) -> None:
        """Take a delivery; it ends in ``ended``, later or at once."""
        entry = self._pending.add(delivery, Raw(_encode(command)), is_reserved=may_use_reserve(command))
        if self.is_draining and not self._holds:
            self._end_without(entry, Why.DRAINING)
        elif is_over(delivery, now_ns):
            self._lose_lease(entry)

    def on_message(self, message: EngineMessage, now_ns: int) -> None:
        """Take one message of the engine."""
        self._heard_ns = now_ns
        self._pinged = False
        if self.state is State.REFUSED and not isinstance(message, Welcome):
            return
        handler = self._on.get(type(message))
        if handler is not None:
            handler(message, now_ns)

    def on_tick(self, now_ns: int) -> None:
        """Notice what time alone brings: silence, leases, the end of a drain. Cost: one pass over what is under way."""
        ended = len(self.ended)
        for entry in self._pending.live():
            if is_over(entry.delivery, now_ns):
                self._lose_lease(entry)
        if self.in_retry and self._settings.hold_ms:
            self._let_go(now_ns - self._settings.hold_ms * NS_PER_MS)
        if self.is_draining and not self._holds and now_ns >= self._drain_due_ns:
            self._give_up(Why.DRAINING)
        if len(self.ended) > ended:
            self._pending.sweep()
        if self.state in {State.CLAIMING, State.OPEN}:
            self._watch_engine(now_ns)
        elif self.state is State.GREETED and now_ns - self._hello_due_ns >= self._settings.silence_ms * NS_PER_MS:
            self._go_away(now_ns)

    def on_send_failed(self, messages: Sequence[SidecarMessage], now_ns: int) -> None:
        """Take back what could not be handed over: there is no connection, so there is no session."""
        self._pending.put_back(
            item.seq for message in messages if isinstance(message, Submit) for item in message.items
        )
        self._go_away(now_ns, self._settings.hello_ms * NS_PER_MS)

    def start_drain(self, within_ms: int, now_ns: int) -> None:
        """Take nothing more; answers are awaited until ``within_ms`` less what settling and closing need (R10)."""
        reserve_ms = min(within_ms // 2, max(1000, within_ms * 15 // 100))
        due_ns = now_ns + (within_ms - reserve_ms) * NS_PER_MS
        self._drain_due_ns = min(due_ns, self._drain_due_ns) if self.is_draining else due_ns
        self.is_draining = True
        if self._holds:
            return
        for entry in self._pending.waiting():
            if not entry.is_unknown:
                self._end_without(entry, Why.DRAINING)
        self._pending.sweep()

    def stop(self, within_ms: int, now_ns: int) -> None:
        """Drain for good, on a signal."""
        self.is_stopping = True
        self.start_drain(within_ms, now_ns)

    def drained(self) -> None:
        """Say that everything is settled or given back; after ``stop`` also good-bye."""
        if self.state in {State.CLAIMING, State.OPEN}:
            self._control.append(Drained())
            if self.is_stopping:
                self._control.append(Leave())

    # Out

    def outgoing(self, now_ns: int) -> list[SidecarMessage]:
        """Return what is to be sent now, in order; it counts as sent unless ``on_send_failed`` takes it back."""
        messages, self._control = self._control, []
        if self.state is State.OPEN:
            if self.in_retry and not self._waits_out and self._may_resume(now_ns):
                messages.append(Resume())
                self.in_retry = False
                self._pending.sweep()
            if self._pending.has_waiting:
                items = self._sendable(now_ns)
                messages += [Submit(items[at : at + ITEMS_MAX]) for at in range(0, len(items), ITEMS_MAX)]
        elif self.state in {State.AWAY, State.REFUSED} and now_ns >= self._hello_due_ns:
            messages.append(Hello(PROTOCOL_VERSION, self._source, self._sidecar, self.instance))
            if self.state is State.AWAY:
                self.state = State.GREETED
            self._hello_due_ns = now_ns + self._backoff_ns() * (self.state is State.REFUSED)
        return messages

    # Engine messages

    def _on_welcome(self, message: Welcome, now_ns: int) -> None:
        if self._shard not in {None, message.shard}:
            self._refuse(f"engine expected shard {self._shard}, was shard {message.shard}; mend the addresses", now_ns)
            return
        try:
            self._fence.require_newest(message.shard, message.epoch, message.instance)
        except FencedError as e:
            self._refuse(str(e), now_ns)
            return
        self.fault = ""
        self.welcomes += 1
        self.epoch, self.mode = message.epoch, message.mode
        self.credits, self.reserved_credits = message.credits, message.reserved_credits
        self._pending.unanswered_again()
        self.in_retry = False
        self.state = State.CLAIMING
        self._hello_due_ns = now_ns + self._settings.answer_ms * NS_PER_MS  # a lost claim is silence that answers pings
        self.is_draining = self.is_stopping
        self._control = [*self._claims.again()]

    def _refuse(self, fault: str, now_ns: int) -> None:
        self.fault = fault
        self._faults += 1
        self._pending.unanswered_again()
        self.state = State.REFUSED
        self._hello_due_ns = now_ns + self._backoff_ns()

    def _on_claimed(self, message: Claimed, _now_ns: int) -> None:
        self._claims.confirm(message)
        if self.state is State.CLAIMING and self._claims.are_confirmed:
            self.state = State.OPEN

    def _on_outcomes(self, message: Outcomes, now_ns: int) -> None:
        if message.epoch and message.epoch != self.epoch:  # a connection made anew led to a zombie that knew us
            self.strays += len(message.items)
            return
        self._faults = 0
        for outcome in message.items:
            entry = self._pending.answer(outcome.item_seq)
            self.strays += entry is None
            if entry is None or entry.is_ended:
                continue
            if outcome.kind is OutcomeKind.NOT_TAKEN:
                self._lose_lease(entry)
                continue
            if self._pending.keep(entry, outcome, now_ns):  # who asked for an answer hears the final one (DESIGN 6.13)
                continue
            verb = Verb.DEAD_LETTER if is_for_people(outcome) else Verb.ACCEPT
            self.ended.append(settled(entry, verb, outcome, self.mode, now_ns, message.durable_after_ns))

    def _on_finals(self, message: Finals, now_ns: int) -> None:
        if message.epoch == self.epoch:
            for entry, final in self._pending.finish(message.items):
                self.ended.append(settled(entry, Verb.ACCEPT, final, self.mode, now_ns))

    def _on_retry(self, message: Retry, now_ns: int) -> None:
        self.in_retry = True
        wait_ns = message.after_ms * NS_PER_MS
        self._resume_due_ns = now_ns + wait_ns + int(wait_ns * self._jitter() / 2)
        for seq in message.item_seqs:
            entry = self._pending.hold(seq)
            if entry is not None and self.is_draining and not self._holds:
                self._end_without(entry, Why.DRAINING)

    def _on_pong(self, _message: Pong, _now_ns: int) -> None:
        self._faults = 0

    def _on_credit(self, message: Credit, _now_ns: int) -> None:
        self.credits, self.reserved_credits = message.credits, message.reserved_credits

    def _on_drain(self, message: Drain, now_ns: int) -> None:
        self.start_drain(message.within_ms, now_ns)

    def _on_bye(self, message: Bye, now_ns: int) -> None:
        self.fault = f"engine ended the session: {message.reason.name} {message.text}".rstrip()
        self._faults += 1
        if message.reason is ByeReason.FENCED:
            self._take_instance()
        if message.reason in GREET_AGAIN or (self._holds and message.reason is ByeReason.STOPPING):
            self._pending.unanswered_again()
            self._go_away(now_ns, self._backoff_ns() if self._faults > 1 else 0)
            return
        self._give_up(Why.SESSION_OVER)
        self._pending.clear()
        self._go_away(now_ns, self._backoff_ns())

    # Sending

    def _sendable(self, now_ns: int) -> list[Item]:
        items: list[Item] = []
        take_next = self._pending.take_next
        while entry := take_next(self.credits, self.reserved_credits, risk_waits=self.in_retry or self._waits_out):
            if is_over(entry.delivery, now_ns) or not self._claims.has(
                entry.delivery
            ):  # a stalled loop looks again (R7)
                self._pending.answer(entry.seq)
                self._lose_lease(entry)
            else:
                items.append(self._item(entry, now_ns))
        return items

    def _item(self, entry: Entry, now_ns: int) -> Item:
        entry.submitted_ns = now_ns
        delivery = entry.delivery
        unit, unit_epoch = self._claims.of(delivery)
        return Item(
            entry.seq, unit, unit_epoch, left_ms(delivery, now_ns), delivery.lane,
            delivery.principal, delivery.trace_id, delivery.created_at_ns, entry.command,
        )  # fmt: skip

    def _may_resume(self, now_ns: int) -> bool:
        # New risk sent before the RETRY is answered first, else what is held would overtake it in its lane.
        return now_ns >= self._resume_due_ns and self._pending.risk_in_flight == 0

    # Ending

    def _end_without(self, entry: Entry, why: Why, verb: Verb = Verb.RETRY) -> None:
        """End a delivery without an outcome, but for one that waited as HELD."""
        self.ended.append(given_up(entry, verb, why, self.mode))
        self._pending.end(entry)

    def _lose_lease(self, entry: Entry) -> None:
        """The source has taken it back: no error, and never given back by us (R2)."""
        self.lease_lost += entry.held is None
        self._end_without(entry, Why.LEASE_OVER, Verb.ABANDON)

    def _let_go(self, received_before_ns: int) -> None:
        for entry in self._pending.waiting():
            if not (entry.is_reserved or entry.is_unknown) and entry.delivery.received_mono_ns <= received_before_ns:
                self._end_without(entry, Why.ENGINE_BUSY)

    def _give_up(self, why: Why) -> None:
        for entry in self._pending.live():
            self._end_without(entry, why)

    @property
    def _waits_out(self) -> bool:
        """Whether new risk is kept for the engine that comes after the one that drains."""
        return self.is_draining and self._holds

    # The engine's life

    def _watch_engine(self, now_ns: int) -> None:
        silent_ns = now_ns - self._heard_ns
        if silent_ns >= self._settings.silence_ms * NS_PER_MS or self._is_answer_late(now_ns):
            self._faults += 1
            self._go_away(now_ns)
        elif silent_ns >= self._settings.ping_ms * NS_PER_MS and not self._pinged:
            self._pinged = True
            self._control.append(Ping())

    def _is_answer_late(self, now_ns: int) -> bool:
        if self.is_draining or self.state is State.CLAIMING:  # a drain has its own deadline; a Hello would only undo it
            return not self.is_draining and now_ns >= self._hello_due_ns
        late_ns = (self._settings.answer_ms * NS_PER_MS) << min(self._faults, BACKOFF_DOUBLINGS_MAX)
        oldest = self._pending.oldest_in_flight()
        return oldest is not None and now_ns - oldest.submitted_ns >= late_ns

    def _go_away(self, now_ns: int, wait_ns: int = 0) -> None:
        """Leave the session; what is unanswered stays in flight until a WELCOME or its lease ends."""
        self.state = State.AWAY
        self._control, self._pinged = [], False
        self._hello_due_ns = now_ns + wait_ns
        self.is_draining = self.is_stopping

    def _backoff_ns(self) -> int:
        return backoff_ns(self._settings.hello_ms, self._faults, self._jitter())

    def _take_instance(self) -> None:
        self.instance = self._new_instance()
        self._claims.own = f"{self._sidecar[:40]}.{self.instance.hex()[:16]}"


_encode: Final = msgspec.msgpack.Encoder().encode
