"""What the state keeps of a flatten: one under way, and how one ended. What is done with it: ``engine.flatten``."""

from __future__ import annotations

from typing import NamedTuple

from protocol.codes import Scope
from protocol.records import FlattenPlan


class Flatten:
    """A flatten under way (``engine.flatten``). ``children``: number of its last exit."""

    __slots__ = ("children", "key", "operator", "plan", "scope", "started_ns")

    def __init__(self, plan: FlattenPlan, scope: Scope, key: str, operator: str, started_ns: int) -> None:
        self.plan = plan
        self.scope = scope
        self.key = key
        self.operator = operator
        self.started_ns = started_ns
        self.children = 0

    @property
    def flatten_id(self) -> str:
        """What it is known by."""
        return self.plan.flatten_id

    @property
    def slippage_bp(self) -> int:
        """As the plan says."""
        return self.plan.slippage_bp

    @property
    def deadline_ns(self) -> int:
        """When it ends, flat or not."""
        return self.started_ns + self.plan.within_ns

    @property
    def patience_ns(self) -> int:
        """Until when longs wait for shorts, and exits for cancels."""
        return self.started_ns + self.plan.within_ns // 2


class Flattened(NamedTuple):
    """A flatten that is over; kept for who asks what became of it."""

    scope: Scope
    key: str
    why: str
    children: int
    at_ns: int
