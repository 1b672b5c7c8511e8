"""The trading day in the loop: when the calendar rolls it, and one step of what a roll leaves to do a turn.

The calendar is an input like any other: that a session's end has come is journaled with the roll. While a jump of the
clock waits to be confirmed it rolls nothing; an engine that was down over one or more ends rolls once, at its start.
"""

from __future__ import annotations

from typing import Final

from engine.core import Core
from engine.gateways import Gateways
from engine.parts import Parts
from protocol.records import Record
from protocol.rolls import SessionRolled
from runtime.sessions import SessionCalendar, day_after

NEVER: Final = 1 << 63
STEP_EVERY_NS: Final = 2_000_000
"""Steps leave the decision thread this much between them under load; without load each turn does one."""


def due_roll(core: Core, calendar: SessionCalendar, now_ns: int) -> SessionRolled | None:
    """Return the roll that the calendar asks for now; one, whatever number of ends went by."""
    state = core.state
    due_ns = calendar.end_ns(state.trading_date)
    if now_ns < due_ns or state.unconfirmed_jump:
        return None
    rolled = core.rolls.decide_roll(calendar.trading_date(now_ns), "", "", due_ns)
    assert isinstance(rolled, SessionRolled), rolled
    return rolled


class Days:
    """Rolls by the calendar and by operators, and does the steps. ``due_ns``: when the calendar rolls next."""

    def __init__(self, parts: Parts, gateways: Gateways) -> None:
        self._core = parts.core
        self._day = parts.core.state.day
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._gateways = gateways
        session = parts.settings.session
        self._calendar = None if session is None else SessionCalendar(session)
        self._step_at_ns = 0
        self.due_ns = NEVER
        self._set_due()

    def _set_due(self) -> None:
        if self._calendar is not None:
            self.due_ns = self._calendar.end_ns(self._core.state.trading_date)

    @property
    def is_busy(self) -> bool:
        """Whether a roll has left steps to do."""
        return self._day.is_busy

    def watch(self, now_ns: int) -> None:
        """Roll if the calendar says so; to be called from ``due_ns`` on, until it did."""
        if self._calendar is not None:
            rolled = due_roll(self._core, self._calendar, now_ns)
            if rolled is not None:
                self._append(rolled, now_ns)
                self._set_due()

    def roll(self, to_date: int, operator: str, reason: str, now_ns: int) -> SessionRolled | str:
        """Roll for an operator; ``to_date`` 0 = to the next trading day. Return the record or why not."""
        if not to_date:
            today = self._core.state.trading_date
            to_date = day_after(today) if self._calendar is None else self._calendar.next_date(today)
        rolled = self._core.rolls.decide_roll(to_date, operator, reason, 0)
        if isinstance(rolled, SessionRolled):
            self._append(rolled, now_ns)
            self._set_due()
        return rolled

    def step(self, now_ns: int, monotonic_ns: int) -> None:
        """Do one step of what a roll left, not more often than ``STEP_EVERY_NS``."""
        if monotonic_ns < self._step_at_ns:
            return
        self._step_at_ns = monotonic_ns + STEP_EVERY_NS
        step = self._core.rolls.decide_step(self._gateways.unsent_from())
        if step is not None:
            self._append(step, now_ns)

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
