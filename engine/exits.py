"""The loop's part of a flatten: when to look, what the price is now, and what to tell who waits for the end.

Which exits are made is decided by ``engine.flatten`` and journaled. What is kept here is no state: the pace, and why a
position has no exit now. An engine that starts again begins to look anew and makes no exit twice, for what is pending
is state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from engine.flatten import Target
from engine.flatten_plan import Flatten
from engine.gateways import Gateways
from engine.parts import Parts
from engine.state import ENGINE
from protocol.codes import OutcomeKind, Scope
from protocol.control import FlattenResult, LeftOver
from protocol.decisions import Reference
from protocol.records import Controlled, FlattenPlan, Ordered, Record
from protocol.units import wide
from risk.gate.exposure import InstrumentState

NS_PER_MS: Final = 1_000_000
STEP_MS: Final = 20
"""Between two looks: a flatten costs the orders of others at most one pass over what is open in so long."""
RETRY_NS: Final = 250 * NS_PER_MS
"""Between two exits of a position when the first changed nothing, and between two cancels of the same order."""
EXITS_PER_STEP: Final = 256
SETTLE_NS: Final = 5_000 * NS_PER_MS
"""How long the answer waits for the last exits of a flatten that is over."""

ReferenceOf = Callable[[InstrumentState, int], Reference | None]
Place = tuple[str, str, str]


class Pace:
    """What a position was when it got its last exit, when that was (monotonic ns), and why it has none now."""

    __slots__ = ("at_ns", "position", "why")

    def __init__(self) -> None:
        self.at_ns = 0
        self.position = 0
        self.why = ""


class Exits:
    """Drives every flatten under way."""

    def __init__(self, parts: Parts, gateways: Gateways, reference_of: ReferenceOf) -> None:
        self._core = parts.core
        self._state = parts.core.state
        self._flattens = parts.core.flattens
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._gateways = gateways
        self._reference_of = reference_of
        self._due_ns = 0
        self._cancel_due_ns: dict[str, int] = {}
        self._paces: dict[str, dict[Place, Pace]] = {}

    def start(
        self, plan: FlattenPlan, scope: Scope, key: str, operator: str, reason: str, now_ns: int
    ) -> tuple[int, int]:
        """Begin a flatten; return (sequence of its first record, orders cancelled)."""
        for known in [i for i in self._paces if i not in self._state.flattens and i not in self._state.flattened]:
            del self._paces[known]
        seq = self._writer.next_seq
        records = self._flattens.decide_start(plan, scope, key, operator, reason, self._gateways.unsent_from())
        cancels = self._append_all(records, now_ns)
        self._due_ns = 0
        return seq, cancels

    def step(self, now_ns: int, monotonic_ns: int) -> None:
        """Look at every flatten, at most each ``STEP_MS``."""
        if monotonic_ns < self._due_ns:
            return
        self._due_ns = monotonic_ns + STEP_MS * NS_PER_MS
        for flatten in list(self._state.flattens.values()):
            ended = self._flattens.decide_end(flatten, now_ns, self._gateways.unsent_from())
            if ended is not None:
                self._append(ended, now_ns)
                self._cancel_due_ns.pop(flatten.flatten_id, None)
                self._alarm(f"flatten {flatten.flatten_id} is over: {ended.reason}")
                continue
            if monotonic_ns >= self._cancel_due_ns.get(flatten.flatten_id, 0):
                self._cancel_due_ns[flatten.flatten_id] = monotonic_ns + RETRY_NS
                self._append_all(self._flattens.decide_cancels(flatten, self._gateways.unsent_from()), now_ns)
            self._exit(flatten, now_ns, monotonic_ns)

    def _exit(self, flatten: Flatten, now_ns: int, monotonic_ns: int) -> None:
        paces = self._paces.setdefault(flatten.flatten_id, {})
        made = 0
        for target in self._flattens.targets(flatten.scope, flatten.key):
            pace = paces.setdefault(_place(target), Pace())
            if pace.position == target.position and monotonic_ns - pace.at_ns < RETRY_NS:
                continue
            pace.why = self._flattens.wait_for(flatten, target, now_ns)
            if pace.why:
                continue
            pace.why = self._make(flatten, target, now_ns)
            pace.position, pace.at_ns = target.position, monotonic_ns
            made += 1
            if made >= EXITS_PER_STEP:
                return

    def _make(self, flatten: Flatten, target: Target, now_ns: int) -> str:
        """Make the next exit of a position; return why there is none, empty if there is."""
        reference = self._reference_of(target.instrument, now_ns)
        order = self._flattens.make_child(flatten, target, reference)
        if isinstance(order, str):
            return order
        item = self._flattens.item(order, now_ns)
        decision = self._flattens.decide_child(order, item, now_ns, reference)
        if decision.kind is not OutcomeKind.ACCEPTED:
            return f"the gate refuses it: {decision.code.name}"
        self._make_room(now_ns)
        self._append(Ordered(ENGINE, item, reference, decision, self._writer.next_seq), now_ns)
        return ""

    def result(self, flatten_id: str, now_ns: int) -> FlattenResult | None:
        """Return how a flatten ended; None while it, or one of its exits, is under way."""
        over = self._state.flattened.get(flatten_id)
        if over is None:
            return None
        children = self._flattens.children(flatten_id)
        if children and now_ns - over.at_ns < SETTLE_NS:
            return None
        paces = self._paces.get(flatten_id, {})
        left = [
            LeftOver(
                t.account, t.instrument.name, wide(t.position * t.instrument.quantity_step_e9),
                paces[_place(t)].why if _place(t) in paces else "",
            )
            for t in self._flattens.targets(over.scope, over.key)
        ]  # fmt: skip
        open_orders = len(self._flattens.open_orders(over.scope, over.key))
        return FlattenResult(flatten_id, over.why, over.children, open_orders, left)

    def _append_all(self, records: Iterator[Controlled], now_ns: int) -> int:
        cancels = 0
        for record in records:
            self._append(record, now_ns)
            cancels += len(record.cancels)
            self._make_room(now_ns)
        return cancels

    def _append(self, record: Record, now_ns: int) -> None:
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)


def _place(target: Target) -> Place:
    return target.account, target.instrument.name, target.own.strategy.name if target.own is not None else ""
