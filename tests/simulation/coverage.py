"""What a set of seeds reached: how often each kind of fault struck while an order was in each state.

A fault counts when it takes effect (a frame was lost, bytes were torn), not when it was planned; a final state counts
for the 32 records after an order reached it. A cell that is impossible stands in IMPOSSIBLE with its reason; every
other cell must be reached, or the run says so and fails.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from protocol.codes import OrderStatus


class Fault(StrEnum):
    """Every way in which a run goes wrong."""

    LOSS = "loss"
    DUPLICATION = "duplication"
    REORDER = "reorder"
    DELAY = "delay"
    PARTITION = "partition"
    CUT = "connection cut"
    CRASH_ENGINE = "engine crash"
    CRASH_GATEWAY = "gateway crash"
    CRASH_SIDECAR = "sidecar crash"
    CRASH_BOOKS = "books crash"
    POWER = "power loss"
    LOST_WRITE = "lost write"
    TORN_WRITE = "torn write"
    SYNC = "sync failed"
    DISK_FULL = "disk full"
    CLOCK_BACK = "clock back"
    CLOCK_FORWARD = "clock forward"
    ZOMBIE_ENGINE = "zombie engine"
    ZOMBIE_GATEWAY = "zombie gateway"
    ZOMBIE_SIDECAR = "zombie sidecar"
    STOP = "stop and start"
    BUST = "trade taken back"
    CORRECT = "trade corrected"
    CRASH_FOLLOWER = "follower crash"
    HANG = "engine hangs"
    GATEWAY_KILL = "gateway's kill"
    ENGINE_LOSS = "engine unheard"


# No order is in these: a key without an order, and nothing at all.
NO_ORDER = frozenset({OrderStatus.TOMBSTONE, OrderStatus.NONE})
STATES = tuple(s for s in OrderStatus if s not in NO_ORDER)

# (fault, state) or (fault, None) for all states of a fault, (None, state) for all faults in a state: why never.
IMPOSSIBLE: dict[tuple[Fault | None, OrderStatus | None], str] = {}

Reached = Counter[tuple[str, int]]


def impossible(fault: Fault, state: OrderStatus) -> str:
    """Return why the cell can't be reached; empty if it can."""
    return IMPOSSIBLE.get((fault, state)) or IMPOSSIBLE.get((fault, None)) or IMPOSSIBLE.get((None, state)) or ""


def missing(reached: Reached) -> list[str]:
    """Return the cells that should have been reached and were not."""
    return [
        f"{fault.value} x {state.name}"
        for fault in Fault
        for state in STATES
        if not reached[fault.value, state] and not impossible(fault, state)
    ]


def wrongly_impossible(reached: Reached) -> list[str]:
    """Return the cells that are called impossible and were reached."""
    return [
        f"{fault.value} x {state.name}"
        for fault in Fault
        for state in STATES
        if reached[fault.value, state] and impossible(fault, state)
    ]


def table(reached: Reached) -> str:
    """Return fault by state, how often; ``-`` is impossible, with its reason below."""
    width = max(len(s.name) for s in STATES) + 1
    lines = [" " * 16 + "".join(s.name.rjust(width) for s in STATES)]
    for fault in Fault:
        cells = ("-" if impossible(fault, s) else str(reached[fault.value, s]) for s in STATES)
        lines.append(fault.value.ljust(16) + "".join(c.rjust(width) for c in cells))
    for (which, state), why in IMPOSSIBLE.items():
        lines.append(f"- {which.value if which else 'any fault'} x {state.name if state else 'any state'}: {why}")
    return "\n".join(lines)
