"""What is under way between a source and the engine: who waits, who is unanswered, in which order they go.

Rules: two queues, one for new risk and one for what may use the reserved credits; both leave in the order received as
far as credits let them; everything sent and unanswered counts against the credits until the engine answers it, also
when its source has long taken it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import Raw

from protocol.codes import OutcomeKind
from protocol.session import Outcome
from sidecars.core.source import Delivery


class Entry:
    """One delivery under way."""

    __slots__ = (
        "command",
        "delivery",
        "held",
        "held_ns",
        "in_flight",
        "is_ended",
        "is_held",
        "is_reserved",
        "is_unknown",
        "seq",
        "submitted_ns",
    )

    def __init__(self, seq: int, delivery: Delivery, command: Raw, is_reserved: bool) -> None:
        self.seq = seq
        self.delivery = delivery
        self.command = command
        self.is_reserved = is_reserved  # may use the reserved credits and go on during RETRY
        self.in_flight = False
        self.is_unknown = False  # was submitted to a session that ended unanswered
        self.is_ended = False  # settled or given up; kept only while the engine still counts it
        self.is_held = False  # answered HELD: its end comes as a FINAL
        self.submitted_ns = 0
        self.held: Outcome | None = None  # what it ends with if no FINAL comes; None = without an outcome
        self.held_ns = 0  # when that came


class Pending:
    """The entries of one sidecar, by number and in two queues."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.risk_in_flight = 0
        self._entries: dict[int, Entry] = {}
        self._risk: deque[Entry] = deque()
        self._reserved: deque[Entry] = deque()
        self._next_seq = 1

    def __len__(self) -> int:
        """Return how many entries count: live ones, and ended ones that the engine has not answered."""
        return len(self._entries)

    @property
    def has_waiting(self) -> bool:
        """Whether anything is to be sent when it may be."""
        return bool(self._risk or self._reserved)

    @property
    def risk_waiting(self) -> int:
        """New-risk entries that wait."""
        return len(self._risk)

    @property
    def waiting_count(self) -> int:
        """Entries of both queues."""
        return len(self._risk) + len(self._reserved)

    def live(self) -> Iterator[Entry]:
        """Return what is neither settled nor given up, oldest first; safe while entries end."""
        return (entry for entry in list(self._entries.values()) if not entry.is_ended)

    def waiting(self) -> list[Entry]:
        """Return the live entries that are not in flight."""
        return [entry for entry in (*self._risk, *self._reserved) if not entry.is_ended]

    def oldest_in_flight(self) -> Entry | None:
        """Return the entry that was received first of those unanswered."""
        return next((entry for entry in self._entries.values() if entry.in_flight), None)

    def add(self, delivery: Delivery, command: Raw, *, is_reserved: bool) -> Entry:
        """Put a new delivery at the end of its queue."""
        entry = Entry(self._next_seq, delivery, command, is_reserved)
        self._next_seq += 1
        self._entries[entry.seq] = entry
        (self._reserved if is_reserved else self._risk).append(entry)
        return entry

    def take_next(self, credits_: int, reserved_credits: int, *, risk_waits: bool) -> Entry | None:
        """Put the next entry in flight and return it; None when credits or a hold let nothing go."""
        risk, reserved = self._risk, self._reserved
        while True:
            may_risk = bool(risk) and not risk_waits and self.in_flight < credits_
            may_reserved = bool(reserved) and self.in_flight < credits_ + reserved_credits
            if may_risk and not (may_reserved and reserved[0].seq < risk[0].seq):
                entry = risk.popleft()
            elif may_reserved:
                entry = reserved.popleft()
            else:
                return None
            if not entry.is_ended:
                break
        entry.in_flight = True
        self.in_flight += 1
        if not entry.is_reserved:
            self.risk_in_flight += 1
        return entry

    def answer(self, seq: int) -> Entry | None:
        """Remove what was answered; None if it is not known (any more)."""
        entry = self._entries.pop(seq, None)
        if entry is not None:
            self._land(entry)
        return entry

    def keep(self, entry: Entry, outcome: Outcome, now_ns: int) -> bool:
        """Take an answered entry back where it is HELD and somebody waits: it ends with its FINAL."""
        delivery = entry.delivery
        waits = delivery.reply_to or delivery.held_until_mono_ns
        if not waits or (outcome.first or outcome).kind is not OutcomeKind.HELD:
            return False
        if delivery.held_until_mono_ns:
            entry.held, entry.held_ns = outcome, now_ns
            delivery.lease_until_mono_ns = delivery.held_until_mono_ns
        entry.is_held = entry.is_unknown = True
        self._entries[entry.seq] = entry
        return True

    def finish(self, finals: Iterable[Outcome]) -> Iterator[tuple[Entry, Outcome]]:
        """Remove and yield what waited for these FINALs, each with its own; of what ended before nobody waits."""
        for final in finals:
            entry = self._entries.get(final.item_seq)
            if entry is not None and entry.is_held and not entry.in_flight:
                del self._entries[entry.seq]
                if not entry.is_ended:
                    yield entry, final

    def hold(self, seq: int) -> Entry | None:
        """Make an entry in flight wait with the new risk; None if it is not in flight, or had ended."""
        entry = self._entries.get(seq)
        if entry is None or not entry.in_flight:
            return None
        self._land(entry)
        # What the engine does not class as an exit waits with the rest, whatever it says of itself.
        entry.is_reserved = False
        if entry.is_ended:
            del self._entries[seq]
            return None
        self._risk.append(entry)
        return entry

    def end(self, entry: Entry) -> None:
        """Mark as ended; forget it unless the engine still counts it."""
        entry.is_ended = True
        if not entry.in_flight:
            self._entries.pop(entry.seq, None)

    def sweep(self) -> None:
        """Drop what has ended from the queues and bring them into the order received."""
        self._queue(entry for entry in (*self._risk, *self._reserved) if not entry.is_ended)

    def put_back(self, seqs: Iterable[int]) -> None:
        """Take out of flight what was never handed over."""
        unsent = [self._entries[seq] for seq in seqs]
        for entry in unsent:
            self._land(entry)
        self._queue((*unsent, *self._risk, *self._reserved))

    def unanswered_again(self) -> None:
        """Queue everything unanswered anew, in the order received: the session it was sent in is gone."""
        for entry in list(self._entries.values()):
            if entry.in_flight:
                self._land(entry)
                entry.is_unknown = True
            if entry.is_ended:
                del self._entries[entry.seq]
        self._queue(self._entries.values())

    def clear(self) -> None:
        """Forget everything; the caller has ended it all."""
        self._entries.clear()
        self._risk.clear()
        self._reserved.clear()
        self.in_flight = self.risk_in_flight = 0

    def _land(self, entry: Entry) -> None:
        if entry.in_flight:
            entry.in_flight = False
            self.in_flight -= 1
            if not entry.is_reserved:
                self.risk_in_flight -= 1

    def _queue(self, entries: Iterable[Entry]) -> None:
        waiting = sorted(entries, key=_by_seq)
        self._risk = deque(entry for entry in waiting if not entry.is_reserved)
        self._reserved = deque(entry for entry in waiting if entry.is_reserved)


def _by_seq(entry: Entry) -> int:
    return entry.seq
