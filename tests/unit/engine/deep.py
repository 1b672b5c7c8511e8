"""A state as plain values, every slot of every object in it: what two states must agree in to go on alike."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any

from engine.dedup import DedupTable, KeyHash
from engine.state import State
from risk.gate.limits import LimitTable

# No state: looked up again, or the loop's own.
VALUES = {"Bound", "Limits"}  # never changed: whether two equal ones are one object is no matter
LEFT_OUT = {
    ("State", "permits"), ("State", "group_changes"), ("VenueState", "fresh"), ("InstrumentState", "index"),
    ("RateLog", "_charged"), ("RateLog", "_charged_ns"), ("RateLog", "room"),
}  # fmt: skip


def slots_of(kind: type) -> set[str]:
    """Every slot of a class, its bases' too; compiled ahead of time a class names them otherwise."""
    found = {slot for base in kind.__mro__ for slot in vars(base).get("__slots__", ())}
    return found or {slot for slot in getattr(kind, "__mypyc_attrs__", ()) if slot != "__dict__"}


def plain(state: State) -> Any:  # noqa: C901 - one case a kind of value
    """Return the state as nested tuples; an object that was met before is named by its number."""
    met: dict[int, int] = {}
    kept: list[object] = []

    def walk(value: Any) -> Any:
        match value:
            case Enum():
                return type(value).__name__, value.name
            case None | int() | str() | bytes():
                return value
            case KeyHash():
                return value.key("a", "b")
            case LimitTable():
                return sorted((n.name, s.name, k, repr(row)) for (n, s, k), row in value._rows.items())
            case DedupTable():
                return value.content_hash(), value.keys, value.deleted, value.keys_max
            case dict():
                return tuple((walk(k), walk(v)) for k, v in value.items())
            case frozenset():
                return tuple(sorted(value))
            case list() | tuple() | deque():
                return tuple(walk(v) for v in value)
        slots = slots_of(type(value))
        if not slots:
            return repr(value)
        name = type(value).__name__
        if name not in VALUES:
            if id(value) in met:
                return "met", met[id(value)]
            met[id(value)] = len(met)
            kept.append(value)
        return (
            name,
            *(
                (slot, value.__dict__ if slot == "__dict__" else walk(getattr(value, slot)))
                for slot in sorted(slots)
                if (name, slot) not in LEFT_OUT
            ),
        )

    return walk(state)
