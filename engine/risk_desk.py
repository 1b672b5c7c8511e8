"""The loop's part of held orders: the session with the risk service, the deadlines, and what is asked again.

What can go wrong on the other side and what happens here:
- slow: sends never block; an answer after the deadline is recorded and changes nothing;
- gone: no heartbeat for ``AWAY_NS`` is journaled; what is held then follows its ``on_deadline`` at once, and new orders
  that need the service are refused or wait as that says;
- repeated: an answer about no hold, or of an earlier question, is counted and dropped;
- lying: what can't be decoded, an older instance, or somebody who never said Hello gets BYE and decides nothing.

Asked is what is held and durable, once a session and question: an engine that starts again, or a service that comes
again, is asked about everything anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from engine.hold import Hold
from engine.parts import Parts
from protocol.channels import IDENTITY_BYTES_MIN, Router
from protocol.codes import ByeReason
from protocol.decisions import Reference
from protocol.errors import NOT_DECODED
from protocol.held_records import HoldDecision, HoldEffect, RiskChanged
from protocol.records import Record
from protocol.risk import (
    RISK_PROTOCOL_VERSION,
    EngineRiskMessage,
    RiskAnswer,
    RiskBye,
    RiskHeartbeat,
    RiskHello,
    RiskRequest,
    RiskWelcome,
    RiskWithdrawn,
    risk_decoder,
)
from risk.gate.exposure import AccountState, InstrumentState

NS_PER_MS: Final = 1_000_000
HEARTBEAT_MS: Final = 500
AWAY_NS: Final = 2_000 * NS_PER_MS
"""Without a heartbeat for so long the service is lost (RISK.md B1)."""
MESSAGES_MAX: Final = 256
REQUESTS_MAX: Final = 64  # a turn; the rest goes with the next ones
WAIT_MS_MAX: Final = 100

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = risk_decoder.decode


class RiskDesk:
    """The one session with a risk service, and all holds."""

    def __init__(
        self,
        parts: Parts,
        router: Router | None,
        reference_of: Callable[[InstrumentState, int], Reference | None],
    ) -> None:
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._settings = parts.settings
        self._meters = parts.meters
        self._alarm = parts.alarm
        self._make_room = parts.make_room
        self._router = router  # None: there can be no service, deadlines alone end what is held
        self._now_ns = 0
        self._reference_of = reference_of
        self._identity = b""  # of the session; empty = none
        self._is_greeted = False  # a welcome is owed
        self._heard_ns = 0
        self._asked: dict[str, int] = {}  # of this session: order → question
        self.book_seq = 0  # the service's replica, as it said last

    # In

    def receive(self, frames: list[tuple[bytes, bytes]], now_ns: int, monotonic_ns: int) -> None:
        """Take what came; answers are journaled and applied one by one."""
        for identity, body in frames:
            try:
                message = _decode(body)
            except NOT_DECODED as e:
                self._refuse(identity, ByeReason.MALFORMED, str(e), now_ns)
                continue
            if isinstance(message, RiskHello):
                self._hello(identity, message, now_ns, monotonic_ns)
            elif identity != self._identity:
                self._say(identity, RiskBye(ByeReason.UNIT_NOT_CLAIMED, "no session; say Hello"))
            else:
                self._heard_ns = monotonic_ns
                if isinstance(message, RiskHeartbeat):
                    self.book_seq = message.book_seq
                else:
                    self._answer(message, now_ns)

    def _hello(self, identity: bytes, hello: RiskHello, now_ns: int, monotonic_ns: int) -> None:
        known = self._state.risk.instance_epoch
        if hello.protocol_version != RISK_PROTOCOL_VERSION:
            text = f"protocol version expected {RISK_PROTOCOL_VERSION}, was {hello.protocol_version}"
            self._refuse(identity, ByeReason.VERSION, text, now_ns)
            return
        if hello.instance_epoch < known or len(identity) < IDENTITY_BYTES_MIN:
            text = f"instance epoch expected at least {known}, was {hello.instance_epoch}; a newer service was here"
            self._refuse(identity, ByeReason.FENCED, text, now_ns)
            return
        if self._identity and self._identity != identity:
            self._say(self._identity, RiskBye(ByeReason.FENCED, "another risk service said Hello"))
        self._identity, self._is_greeted, self._heard_ns = identity, True, monotonic_ns
        self._asked.clear()
        if not self._state.risk.ready or hello.instance_epoch != known:
            self._append(RiskChanged(True, hello.instance_epoch), now_ns)

    def _answer(self, answer: RiskAnswer, now_ns: int) -> None:
        core = self._core
        order = self._state.orders.get(answer.order_id)
        reference = self._reference_of(order.route.instrument, now_ns) if order is not None else None
        record = core.holds.decide_answer(answer, now_ns, reference)
        if record is None:
            self._meters.risk_late += 1
            return
        is_exit = order is not None and order.is_exit
        self._append(record, now_ns)
        self._count(answer.order_id, record.decision, is_alarming=is_exit and record.decision.code != 0)

    # Time

    def step(self, now_ns: int, monotonic_ns: int) -> None:
        """Notice a service that is gone, and end what is due. Costs two tests while nothing is held."""
        self._now_ns = now_ns
        if self._identity and monotonic_ns - self._heard_ns > AWAY_NS:
            self._alarm(f"the risk service was not heard for {AWAY_NS // NS_PER_MS} ms")
            self._lose(now_ns)
        if not self._state.risk.holds:
            return
        holds = self._core.holds
        for hold in holds.due(now_ns):
            order = self._state.orders[hold.order_id]
            record = holds.decide_timer(hold, now_ns, self._reference_of(order.route.instrument, now_ns))
            is_exit = order.is_exit
            self._append(record, now_ns)
            self._count(hold.order_id, record.decision, is_alarming=is_exit)

    def wait_ms(self) -> int:
        """Return for how long the loop may sleep at most, for the next deadline."""
        due_ns = min(hold.deadline_ns for hold in self._state.risk.holds.values())
        return max(1, min(WAIT_MS_MAX, (due_ns - self._now_ns) // NS_PER_MS + 1))

    def _count(self, order_id: str, decision: HoldDecision, *, is_alarming: bool) -> None:
        meters = self._meters
        match decision.effect:
            case HoldEffect.SENT:
                meters.holds_sent += 1
                if is_alarming:
                    self._alarm(f"exit {order_id} was held and is sent without an approval: {decision.code.name}")
            case HoldEffect.REJECTED:
                meters.holds_refused += 1
                meters.refuse(decision.code)
            case HoldEffect.EXPIRED:
                meters.holds_overdue += 1
                meters.refuse(decision.code)
            case HoldEffect.LATE:
                meters.risk_late += 1
            case HoldEffect.WAITS:
                pass

    # After the sync

    def send(self, now_ns: int) -> None:
        """Welcome, ask what is held and durable, say what is no longer asked."""
        if not self._identity:
            return
        if self._is_greeted:
            self._is_greeted = False
            state = self._state
            self._send(
                RiskWelcome(RISK_PROTOCOL_VERSION, self._settings.shard, state.epoch, state.instance, HEARTBEAT_MS)
            )
        holds = self._state.risk.holds
        if self._asked:
            for order_id in [o for o in self._asked if o not in holds]:
                del self._asked[order_id]
                self._send(RiskWithdrawn(order_id))
        if len(self._asked) < len(holds) or any(h.asked != self._asked.get(h.order_id) for h in holds.values()):
            unasked = [h for h in holds.values() if self._asked.get(h.order_id) != h.asked]
            for hold in unasked[:REQUESTS_MAX]:
                self._asked[hold.order_id] = hold.asked
                self._send(self._request(hold, now_ns))

    def _request(self, hold: Hold, now_ns: int) -> RiskRequest:
        order = self._state.orders[hold.order_id]
        route = order.route
        instrument = route.instrument
        step_e9 = instrument.quantity_step_e9
        return RiskRequest(
            order.order_id, hold.asked, order.account, order.client_order_id, route.strategy.name, instrument.name,
            order.side, order.order_type, order.time_in_force, order.quantity * step_e9,
            order.price * instrument.price_step_e9, order.reduce_only, order.is_exit, list(hold.codes),
            hold.deadline_ns, self._writer.durable_seq, now_ns, hold.allows_trim, instrument.lot * step_e9,
            instrument.quantity_min * step_e9, str(order.reserved_value_e9), order.trace_id, route.account.currency,
            str(funds_e9(route.account)),
        )  # fmt: skip

    def stop(self) -> None:
        """Say goodbye; nothing is journaled, the next START knows of no service."""
        if self._identity:
            self._say(self._identity, RiskBye(ByeReason.STOPPING, "the engine stops"))
            self._identity = b""

    def _send(self, message: EngineRiskMessage) -> None:
        if self._identity and not self._say(self._identity, message):
            self._heard_ns = -AWAY_NS  # lost at the next turn: a record now would get another batch's time

    def _say(self, identity: bytes, message: EngineRiskMessage) -> bool:
        return self._router is not None and self._router.send(identity, _encode(message))

    def _refuse(self, identity: bytes, reason: ByeReason, text: str, now_ns: int) -> None:
        self._meters.malformed_risk += 1
        self._alarm(f"risk service refused: {reason.name} {text}")
        self._say(identity, RiskBye(reason, text))
        if identity == self._identity:
            self._lose(now_ns)

    def _lose(self, now_ns: int) -> None:
        self._identity = b""
        self._is_greeted = False
        self._asked.clear()
        self._append(RiskChanged(False, self._state.risk.instance_epoch), now_ns)

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)


def funds_e9(account: AccountState) -> int:
    """Return what margin may use, in the account's currency: cash, and collateral in it after its haircut."""
    pledged = sum(c.usable_e9 for c in account.collateral.values() if c.currency == account.currency)
    return account.cash_e9.get(account.currency, 0) + pledged
