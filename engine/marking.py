"""MARKS: ten times a second the engine looks what positions are worth, and journals what changed (DECISIONS 2, 35).

What the last-value table says is a fact of the loop; the record carries it, so what it means for a limit is decided
again by anyone. Rules: nothing is looked at, and nothing journaled, without a limit on losses or used margin; of the
watched ledgers those alone that hold something, or changed; and never more than ``LOOKS_MAX`` of them a look, the next
ones at the next look. A price that goes on as it was is journaled anew before it is too old to be known.
"""

from __future__ import annotations

from typing import Final

from engine.losses import decide_trips
from engine.parts import Parts
from market.table import LastValue, reference
from protocol.codes import ReferenceSource
from protocol.marks import Mark, Marked, trip_line
from risk.gate.loss_scopes import Holding, Price

EVERY_NS: Final = 100_000_000
LOOKS_MAX: Final = 1_024
MARKS_MAX: Final = 512
SPREAD_WIDE_BP: Final = 100
"""Of the mid: beyond it a position counts at the worse of last trade and mid (RISK.md A2). House."""
BP: Final = 10_000
AGES: Final = 4
"""A price is journaled so many times within the age at which it is none."""
NS_PER_MS: Final = 1_000_000


class Marking:
    """Looks for one engine."""

    def __init__(self, parts: Parts) -> None:
        self._core = parts.core
        self._table = parts.table
        self._writer = parts.writer
        self._alarm = parts.alarm
        self._make_room = parts.make_room
        self._age_max_ns = parts.settings.pnl_age_max_ms * NS_PER_MS
        self._due_ns = 0
        self._names: list[str] = []

    def watch(self, now_ns: int, monotonic_ns: int) -> None:
        """Look, if it is time. Costs one test where no limit reads it."""
        if not self._core.state.losses.is_used or monotonic_ns < self._due_ns:
            return
        self._due_ns = monotonic_ns + EVERY_NS
        marks = self._look(now_ns)
        trips = decide_trips(self._core.state, marks)
        if not (marks or trips):
            return
        self._make_room(now_ns)
        record = Marked(marks, trips)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
        for trip in trips:
            self._alarm(trip_line(trip))

    def _look(self, now_ns: int) -> list[Mark]:
        """Return the marks of the next instruments in turn."""
        losses = self._core.state.losses
        marks: list[Mark] = []
        if not self._names:
            self._names = list(reversed(losses.by_instrument))
        looks = 0
        while self._names and looks < LOOKS_MAX and len(marks) < MARKS_MAX:
            name = self._names.pop()
            holdings = losses.by_instrument.get(name, [])
            looks += len(holdings)
            mark = self._mark(name, holdings, losses.prices.get(name), now_ns)
            if mark is not None:
                marks.append(mark)
        return marks

    def _mark(self, name: str, holdings: list[Holding], known: Price | None, now_ns: int) -> Mark | None:
        """Return what to journal of one instrument; None if nothing of it is new."""
        is_held = any(h.ledger.position for h in holdings)
        is_changed = any(h.is_new or h.is_changed for h in holdings)
        if not is_held:
            return Mark(name, 0, 0) if is_changed or any(h.is_flagged for h in holdings) else None
        instrument = self._core.state.instruments[name]
        found = price_of(self._table.read(instrument.index), now_ns, instrument.tick_age_max_ns)
        if found is not None:
            low_e9, high_e9, age_ns = found
            is_same = known is not None and not known.is_stale and (known.low_e9, known.high_e9) == (low_e9, high_e9)
            if is_same and not is_changed and known is not None:
                is_young = now_ns - age_ns - known.at_ns < self._age_max_ns // AGES
                if is_young and not any(h.is_flagged for h in holdings):
                    return None
            return Mark(name, low_e9, high_e9, age_ns)
        if known is not None and not known.is_stale and now_ns - known.at_ns <= self._age_max_ns:
            age_ns = max(0, now_ns - known.at_ns)
            return Mark(name, known.low_e9, known.high_e9, age_ns) if is_changed else None
        is_said = known is not None and known.is_stale
        return None if is_said and not any(map(_is_to_say, holdings)) else Mark(name, 0, 0)


def _is_to_say(holding: Holding) -> bool:
    """Whether a mark without a price says something new of a ledger."""
    if holding.ledger.position:
        return not holding.is_flagged
    return holding.is_changed or holding.is_new or holding.is_flagged


def price_of(value: LastValue | None, now_ns: int, tick_age_max_ns: int) -> tuple[int, int, int] | None:
    """Return what a long and a short position are worth a unit now, and how old that is; None without a fresh price.

    The reference that orders are checked against (DECISIONS 25); where quotes are wide, the worse of it and the mid.
    """
    found = reference(value, now_ns, tick_age_max_ns)
    if value is None or found is None or found.price_e9 <= 0:
        return None
    low_e9 = high_e9 = found.price_e9
    quoted = value.bid_size_e9 > 0 and value.ask_size_e9 > 0 and now_ns - value.written_at_ns <= tick_age_max_ns
    if quoted and found.source is ReferenceSource.LAST_TRADE:
        mid_e9 = (value.bid_e9 + value.ask_e9) // 2
        if mid_e9 > 0 and (value.ask_e9 - value.bid_e9) * BP > mid_e9 * SPREAD_WIDE_BP:
            low_e9, high_e9 = min(low_e9, mid_e9), max(high_e9, mid_e9)
    return low_e9, high_e9, found.age_ns
