"""The loop's part of exits in the place of others: when the last order that one waits for is over, it goes out.

Looked at twice a turn, and only while some exit waits: after the reports and before new commands, so that what a
cancel has freed is not taken by an order that came later; and at the end, for what controls, clocks and new commands
have changed. Each release is a record of its own. Nothing is kept here: an engine that starts again looks anew.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.parts import Parts
from protocol.records import Reference
from risk.gate.exposure import InstrumentState


class Releases:
    """Releases every exit that is due."""

    def __init__(self, parts: Parts, reference_of: Callable[[InstrumentState, int], Reference | None]) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._reference_of = reference_of

    def step(self, now_ns: int) -> None:
        """Decide, journal and apply what is due now."""
        if not self._core.state.exits:
            return
        exits = self._core.exit_replaces
        for order in exits.due():
            reference = self._reference_of(order.route.instrument, now_ns)
            record = exits.decide_release(order, now_ns, reference)
            self._make_room(now_ns)
            seq = self._writer.next_seq
            self._core.apply(seq, now_ns, self._writer.append(record), record)
