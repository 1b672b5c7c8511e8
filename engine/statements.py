"""Asks venues for statements and takes the answers: at the start, after each reconnect, in doubt, for an operator.

What can go wrong on the other side and what happens here:
- slow: an answer that does not come within ``ANSWER_NS`` is asked for again, and after ``ASKS_MAX`` times alarms;
  orders go on meanwhile;
- gone: the session ends and the ask with it; the next READY asks again;
- repeated or late: parts of an older ask are dropped; a statement of another moment than the reports taken here is
  asked for again, at most ``ASKS_MAX`` times;
- lying: parts out of order end the session. What a whole statement says is compared, never believed.
"""

from __future__ import annotations

from typing import Final

from engine.parts import Parts
from engine.reconciling import Stated
from engine.venue_state import VenueState
from protocol.control import ControlReply, VenueReconciled
from protocol.statement import AskStatement, Difference, Reconciled, StatedFill, StatedOrder, StatedPosition, Statement
from protocol.texts import difference_text

ANSWER_NS: Final = 2_000_000_000
ASKS_MAX: Final = 5
TOLD_MAX: Final = 20
WAITING_MAX: Final = 16


class Ask:
    """One ask to one venue, until it is answered or given up."""

    __slots__ = (
        "asked_at_ns", "asks", "cause", "fills", "is_due", "next_part", "number", "operator", "orders", "positions",
        "reason", "venue",
    )  # fmt: skip

    def __init__(self, venue: VenueState, cause: str, operator: str, reason: str) -> None:
        self.venue = venue
        self.cause = cause
        self.operator = operator
        self.reason = reason
        self.asked_at_ns = 0  # monotonic
        self.asks = 0
        self.number = 0
        self.is_due = True
        self.restart()

    def restart(self) -> None:
        """Forget what came of the answer."""
        self.next_part = 0
        self.orders: list[StatedOrder] = []
        self.fills: list[StatedFill] = []
        self.positions: list[StatedPosition] = []


class Waiting:
    """An operator who waits for the answers of some venues."""

    __slots__ = ("results", "ticket", "venues")

    def __init__(self, ticket: int, venues: set[str]) -> None:
        self.ticket = ticket
        self.venues = venues
        self.results: list[VenueReconciled] = []


class Statements:
    """All asks of one engine; at most one a venue at a time, a newer one takes the place of an older one."""

    def __init__(self, parts: Parts) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._asks: dict[str, Ask] = {}
        self.is_due = False  # whether some ask is to be sent: one look a turn
        self._numbers = 0
        self._asked: set[str] = set()  # venues that this process has asked before
        self._begun: set[str] = set()
        self._waiting: list[Waiting] = []
        self._tickets = 0
        self._replies: list[tuple[int, ControlReply]] = []

    def begin(self, venue: VenueState) -> None:
        """Ask a venue that became READY."""
        cause = "reconnect" if venue.name in self._asked else "start"
        self._asked.add(venue.name)
        self._asks[venue.name] = Ask(venue, cause, "", "")
        self.is_due = True

    def begin_doubt(self, venue: VenueState) -> None:
        """Ask a venue that counts other fills than are counted here; who is asked already is not asked twice."""
        if venue.name not in self._asks:
            self._asks[venue.name] = Ask(venue, "doubt", "", "")
            self.is_due = True

    def begin_for(self, venues: list[VenueState], operator: str, reason: str) -> str:
        """Ask for an operator, who then waits; returns why not, or empty."""
        if not venues:
            return "no venue is READY that can state what it has; see: wojak status"
        if len(self._waiting) >= WAITING_MAX:
            return f"expected at most {WAITING_MAX} operators who wait for a statement, was one more"
        for venue in venues:
            self._asks[venue.name] = Ask(venue, "asked", operator, reason)
        self._begun = {v.name for v in venues}
        self.is_due = True
        return ""

    def wait(self) -> int:
        """Return a ticket, under which is told what comes of the asks that were begun last."""
        self._tickets += 1
        self._waiting.append(Waiting(self._tickets, self._begun))
        self._begun = set()
        return self._tickets

    def due(self, venue: VenueState, monotonic_ns: int) -> AskStatement | None:
        """Return the ask to send now; what it must know of was decided before."""
        ask = self._asks.get(venue.name)
        if ask is None or not ask.is_due:
            return None
        self._numbers += 1
        ask.is_due = False
        ask.asked_at_ns = monotonic_ns
        ask.asks += 1
        ask.number = self._numbers
        ask.restart()
        self.is_due = any(other.is_due for other in self._asks.values())
        return AskStatement(self._core.state.epoch, ask.number, venue.last_seq)

    def take(self, venue: VenueState, part: Statement, now_ns: int) -> str:
        """Take one part; compare when it is the last one. Returns what breaks the protocol, or empty."""
        ask = self._asks.get(venue.name)
        if ask is None or part.number != ask.number or ask.is_due:
            return ""  # of an ask that was given up
        if part.part != ask.next_part or part.part >= part.parts:
            return f"statement part expected {ask.next_part} of {part.parts}, was {part.part}"
        ask.next_part += 1
        ask.orders += part.orders
        ask.fills += part.fills
        ask.positions += part.positions
        if ask.next_part == part.parts:
            self._compare(ask, part, now_ns)
        return ""

    def _compare(self, ask: Ask, last: Statement, now_ns: int) -> None:
        venue = ask.venue
        if last.report_seq != venue.report_seq:
            if ask.asks < ASKS_MAX:
                ask.is_due = self.is_due = True
                return
            self._give_up(ask, f"states report {last.report_seq}, taken here are {venue.report_seq}")
            return
        del self._asks[venue.name]
        stated = Stated(
            last.received_seq, last.report_seq, last.states_positions, last.whole_positions, ask.orders, ask.fills,
            ask.positions,
        )  # fmt: skip
        record = self._core.reconciler.decide(venue, stated, ask.cause, ask.operator, ask.reason)
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
        for difference in record.differences[:TOLD_MAX]:
            self._alarm(f"venue {venue.name}: {difference_text(difference)}")
        untold = len(record.differences) + record.more - TOLD_MAX
        if untold > 0:
            self._alarm(f"venue {venue.name}: {untold} more differences; see the journal's record {seq}")
        self._tell(venue.name, _reconciled(record, seq))

    def _tell(self, venue: str, result: VenueReconciled) -> None:
        for waiting in list(self._waiting):
            if venue in waiting.venues:
                waiting.venues.discard(venue)
                waiting.results.append(result)
                if not waiting.venues:
                    self._waiting.remove(waiting)
                    count = sum(len(r.differences) + r.more for r in waiting.results)
                    seq = max(r.seq for r in waiting.results)
                    reply = ControlReply(True, f"{count} differences", seq=seq, reconciled=waiting.results)
                    self._replies.append((waiting.ticket, reply))

    def take_replies(self) -> list[tuple[int, ControlReply]]:
        """Return the answers to operators by ticket; to be sent after the sync."""
        replies, self._replies = self._replies, []
        return replies

    def lose(self, venue: VenueState) -> None:
        """The session ended: nobody will answer."""
        ask = self._asks.get(venue.name)
        if ask is not None:
            self._give_up(ask, "was lost before it answered", is_alarm=False)

    def expire(self, monotonic_ns: int) -> None:
        """Ask again for what was not answered in time; give it up after some times."""
        for ask in list(self._asks.values()):
            if ask.is_due or monotonic_ns - ask.asked_at_ns <= ANSWER_NS:
                continue
            if ask.asks < ASKS_MAX:
                ask.is_due = self.is_due = True
            else:
                self._give_up(ask, f"gave no statement within {ASKS_MAX} times {ANSWER_NS // 1_000_000} ms")

    def _give_up(self, ask: Ask, why: str, *, is_alarm: bool = True) -> None:
        name = ask.venue.name
        del self._asks[name]
        self.is_due = any(other.is_due for other in self._asks.values())
        if is_alarm:
            self._alarm(f"venue {name}: {why}; nothing was compared: wojak reconcile")
        self._tell(name, VenueReconciled(name, 0, 0, 0, 0, 0, 0, [], 0, f"venue {name} {why}"))


def _reconciled(record: Reconciled, seq: int) -> VenueReconciled:
    differences: list[Difference] = record.differences
    return VenueReconciled(
        record.venue, seq, record.received_seq, record.report_seq, record.orders, record.fills, record.positions,
        [difference_text(d) for d in differences], record.more,
    )  # fmt: skip
