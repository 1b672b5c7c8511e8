"""The loop's part of orders that wait, exits in the place of others and second legs of OCO groups, and of stale exits.

Looked at twice a turn, and only while some order waits: after the reports and before new commands, so that what a
cancel has freed is not taken by an order that came later; and at the end, for what controls, clocks and new commands
have changed. Each release is a record of its own. What is kept here is the pace: of cancels that are made again, and of
looks at the prices that groups wait for; an engine that starts again looks anew.

A price is seen where it still stands in the last-value table at one of these looks, ``WATCH_NS`` apart: one that came
and went between two of them was not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.group import Group
from engine.oco import GROUPS_MAX, is_reached
from engine.parts import Parts
from protocol.decisions import Reference
from protocol.records import Record
from risk.gate.exposure import InstrumentState

RETRY_NS: Final = 250_000_000
"""Between two cancels of an order that works on."""
WATCH_MS: Final = 2
WATCH_NS: Final = WATCH_MS * 1_000_000
"""Between two looks at the prices that groups wait for."""
EXPIRY_NS: Final = 100_000_000
"""Between two looks whether a leg that waits is past its expiry."""
HINDERED_NS: Final = 50_000_000
"""Before a stop is looked at again that is reached and can't go out: a halt over many must not keep the loop busy."""
TOLD_MAX: Final = 8
BLIND_NS: Final = 60_000_000_000
"""Between two alarms about an instrument that has no fresh price while stop orders wait for one."""


class Releases:
    """Releases every order that waited and is due."""

    def __init__(
        self,
        parts: Parts,
        reference_of: Callable[[InstrumentState, int], Reference | None],
        unsent_from: Callable[[], dict[str, int]],
    ) -> None:
        self._core = parts.core
        self._meters = parts.meters
        self._unsent_from = unsent_from
        self._stale_seen = 0  # State.stale_count at the last look
        self._stale_due_ns = 0
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._reference_of = reference_of
        self._cancel_due_ns = 0
        self._watch_due_ns = 0
        self._look_due_ns = 0
        self._seen = -1  # State.group_changes at the last look
        self._watched: dict[str, list[Group]] = {}  # that wait for a price, by instrument
        self._hindered_until_ns: dict[str, int] = {}  # legs that wait, reached and not let out
        self._alarm_due_ns: dict[str, int] = {}  # instruments that had none

    @property
    def is_watching(self) -> bool:
        """Whether a group waits for a price, which comes without waking the loop."""
        return bool(self._watched)

    def step(self, now_ns: int, monotonic_ns: int) -> None:
        """Decide, journal and apply what is due now; cancel again, at most each ``RETRY_NS``, what works on."""
        state = self._core.state
        if state.stale:
            self._cancel_stale(now_ns, monotonic_ns)
        if not state.exits and not state.groups:
            self._watched.clear()
            return
        exits = self._core.exit_replaces
        for order in exits.due():
            reference = self._reference_of(order.route.instrument, now_ns)
            self._append(exits.decide_release(order, now_ns, reference), now_ns)
        if state.groups:
            self._step_groups(now_ns, monotonic_ns)
        if monotonic_ns >= self._cancel_due_ns:
            self._cancel_due_ns = monotonic_ns + RETRY_NS
            again = exits.decide_cancels()
            if again is not None:
                self._append(again, now_ns)

    def _cancel_stale(self, now_ns: int, monotonic_ns: int) -> None:
        """Cancel exits of more than is left: new ones at once, those that work on each ``RETRY_NS``."""
        state = self._core.state
        if state.stale_count == self._stale_seen and monotonic_ns < self._stale_due_ns:
            return
        is_new = state.stale_count != self._stale_seen
        self._stale_seen = state.stale_count
        self._stale_due_ns = monotonic_ns + RETRY_NS
        while (record := self._core.stale_exits.decide(self._unsent_from())) is not None:
            self._append(record, now_ns)
            if is_new:
                self._meters.exits_stale += len(record.cancels)
                names = ", ".join(c.order_id for c in record.cancels[:TOLD_MAX])
                self._alarm(f"{len(record.cancels)} exits are of more than is left and are cancelled: {names}")

    def _step_groups(self, now_ns: int, monotonic_ns: int) -> None:
        state = self._core.state
        if state.group_changes != self._seen or monotonic_ns >= self._look_due_ns:
            self._look_due_ns = monotonic_ns + EXPIRY_NS
            self._release_due(now_ns)
        if monotonic_ns >= self._watch_due_ns:
            self._watch_due_ns = monotonic_ns + WATCH_NS
            self._trigger_reached(now_ns, monotonic_ns)
            if state.group_changes != self._seen:  # a leg may be over already
                self._release_due(now_ns)

    def _release_due(self, now_ns: int) -> None:
        """Let out what is due, and note which groups wait for a price."""
        state, ocos = self._core.state, self._core.ocos
        for group in ocos.due(now_ns):
            reference = self._reference_of(state.orders[group.second].route.instrument, now_ns)
            self._append(ocos.decide_release(group, now_ns, reference), now_ns)
        self._seen = state.group_changes
        self._watched.clear()
        for group in state.groups.values():
            second = ocos.waiting(group)
            if second is not None and not group.triggered:
                self._watched.setdefault(second.route.instrument.name, []).append(group)

    def _trigger_reached(self, now_ns: int, monotonic_ns: int) -> None:
        state, ocos = self._core.state, self._core.ocos
        for name, groups in self._watched.items():
            reference = self._reference_of(state.instruments[name], now_ns)
            if reference is None:
                self._say_blind(name, len(groups), monotonic_ns)
                continue
            for group in groups:
                second = ocos.waiting(group)
                if second is None or not is_reached(second, reference.price_e9):
                    continue
                if monotonic_ns < self._hindered_until_ns.get(group.second, 0):
                    continue
                record = ocos.decide_trigger(group, now_ns, reference)
                if record is not None:
                    self._append(record, now_ns)
                else:
                    self._hindered_until_ns[group.second] = monotonic_ns + HINDERED_NS
        if len(self._hindered_until_ns) > GROUPS_MAX:  # of groups that are over
            self._hindered_until_ns.clear()

    def _say_blind(self, instrument: str, stops: int, monotonic_ns: int) -> None:
        """Call a person: stop orders wait for a price, and there is none."""
        if monotonic_ns >= self._alarm_due_ns.get(instrument, 0):
            self._alarm_due_ns[instrument] = monotonic_ns + BLIND_NS
            self._alarm(f"no fresh price of {instrument}: {stops} stop orders of OCO groups wait for one; see the feed")

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
