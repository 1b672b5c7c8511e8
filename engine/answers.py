"""Answers that are not said at once by who decides: of held, repeated and poisonous commands.

A delivery that was answered HELD hears at the end one FINAL (DECISIONS 13).

Who waits for one is the loop's to know. After a crash, or in another session, the delivery comes again: it is answered
DUPLICATE(HELD), and then gets its FINAL.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.holds import Held
from engine.orders import Breach, Defer
from engine.outcomes import failed, final_outcome, first_outcome
from engine.parts import Parts
from engine.session import Session
from protocol.codes import OrderStatus, OutcomeKind, RetryReason
from protocol.decisions import NewDecision, Reference
from protocol.held_records import OrderHeld
from protocol.orders import NewOrder
from protocol.paper import PaperOrdered
from protocol.records import Failed, Ordered
from protocol.session import Finals, Item, Outcome


class Answers:
    """Takes held orders for the sessions of sidecars, and knows who is owed a FINAL.

    Attributes:
        are_owed: Whether anybody is; the one test of a turn in which nothing is held.
    """

    def __init__(self, parts: Parts) -> None:
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._meters = parts.meters
        self._records = parts.records
        self._alarm = parts.alarm
        self.are_owed = False

    def take_breach(
        self,
        breach: Breach,
        session: Session,
        item: Item,
        order: NewOrder,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> Defer | None:
        """Make an order paper, hold it for the risk service, or refuse it after all; return why it can't be now."""
        try:
            decided = self._core.decide_breach(breach, order, item, now_ns, reference, defer)
        except Exception as e:  # noqa: BLE001 - whatever it is, nothing has changed yet; DESIGN 6.12
            self.poison(session, item, order.account, e, now_ns)
            return None
        if isinstance(decided, Defer):
            return decided
        self.take(decided, session, item, order, now_ns, reference)
        return None

    def take(
        self,
        decided: NewDecision | Held,
        session: Session,
        item: Item,
        order: NewOrder,
        now_ns: int,
        reference: Reference | None,
    ) -> None:
        """Journal, apply and answer what was decided about a breach."""
        seq = self._writer.next_seq
        if isinstance(decided, NewDecision) and decided.kind is OutcomeKind.PAPER:
            paper = PaperOrdered(session.source, item, reference, decided, seq)
            self._core.papers.apply(paper, order, self._writer.append(paper), now_ns)
            self._meters.papers += 1
            session.outcomes.append(first_outcome(item, 0, paper))
            return
        if isinstance(decided, NewDecision):
            refusal = Ordered(session.source, item, reference, decided, seq)
            self._core.orders.apply_ordered(refusal, order, self._writer.append(refusal), now_ns)
            self._meters.refuse(decided.code)
            session.outcomes.append(first_outcome(item, 0, refusal))
            return
        decision, codes, deadline_ns = decided
        record = OrderHeld(session.source, item, reference, decision, list(codes), deadline_ns, seq)
        self._core.holds.apply_held(record, order, self._writer.append(record), now_ns)
        self._meters.held += 1
        session.outcomes.append(first_outcome(item, 0, record))
        self.owe(session, item.seq, record)

    def owe(self, session: Session, item_seq: int, record: OrderHeld) -> None:
        """Note that a delivery was answered HELD, first or as a duplicate."""
        session.finals.append((item_seq, record.decision.order_id, record.seq))
        self.are_owed = True

    def read_replays(self, session: Session) -> None:
        """Answer the repeated deliveries of this turn with the first outcome; everything is durable now."""
        for index, item, replay in session.replays:
            record = self._records.read(replay.position)
            first = first_outcome(item, replay.position, record)
            if isinstance(record, OrderHeld):
                self.owe(session, item.seq, record)
            session.outcomes[index] = Outcome(
                item.seq,
                OutcomeKind.DUPLICATE,
                first.code,
                first.order_id,
                first.record_seq,
                replay.status,
                first=first,
            )
        session.replays.clear()

    def poison(self, session: Session, item: Item, account: str, error: Exception, now_ns: int) -> None:
        """Journal the input, answer REJECTED(INTERNAL), reduce the account, raise the alarm (DESIGN 6.12)."""
        text = f"{type(error).__name__}: {error}"[:256]
        self._meters.failed += 1
        self._alarm(f"decide failed for account {account}: {text}")
        seq = self._writer.next_seq
        record = Failed(session.source, item, account, text, seq)
        position = self._writer.append(record)
        self._core.apply(seq, now_ns, position, record)
        session.outcomes.append(failed(item.seq, seq))

    def due(self, sessions: list[Session]) -> Iterator[tuple[Session, Finals]]:
        """Yield what to send now: of holds that are over. Nobody is told twice."""
        holds, epoch = self._state.risk.holds, self._state.epoch
        self.are_owed = False
        for session in sessions:
            over = [final for final in session.finals if final[1] not in holds]
            if over:
                session.finals = [final for final in session.finals if final[1] in holds]
                yield session, Finals([self._final(*final) for final in over], epoch)
            self.are_owed = self.are_owed or bool(session.finals)

    def _final(self, item_seq: int, order_id: str, record_seq: int) -> Outcome:
        state = self._state
        order = state.orders.get(order_id) or state.closed.get(order_id)
        status = order.status if order is not None else OrderStatus.NONE
        return final_outcome(item_seq, order_id, status, state.risk.ends.get(order_id), record_seq)
