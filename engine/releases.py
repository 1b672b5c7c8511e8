"""The loop's part of exits in the place of others: when the last order that one waits for is over, it goes out.

Looked at twice a turn, and only while some exit waits: after the reports and before new commands, so that what a
cancel has freed is not taken by an order that came later; and at the end, for what controls, clocks and new commands
have changed. Each release is a record of its own. What is kept here is the pace of the cancels: an engine
that starts again looks anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.parts import Parts
from protocol.decisions import Reference
from protocol.records import Record
from risk.gate.exposure import InstrumentState

RETRY_NS: Final = 250_000_000
"""Between two cancels of an order that works on."""


class Releases:
    """Releases every exit that is due."""

    def __init__(self, parts: Parts, reference_of: Callable[[InstrumentState, int], Reference | None]) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._reference_of = reference_of
        self._cancel_due_ns = 0

    def step(self, now_ns: int, monotonic_ns: int) -> None:
        """Decide, journal and apply what is due now; cancel again, at most each ``RETRY_NS``, what works on."""
        if not self._core.state.exits:
            return
        exits = self._core.exit_replaces
        for order in exits.due():
            reference = self._reference_of(order.route.instrument, now_ns)
            self._append(exits.decide_release(order, now_ns, reference), now_ns)
        if monotonic_ns >= self._cancel_due_ns:
            self._cancel_due_ns = monotonic_ns + RETRY_NS
            again = exits.decide_cancels()
            if again is not None:
                self._append(again, now_ns)

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
