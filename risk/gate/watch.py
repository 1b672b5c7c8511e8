"""Counts that halt a strategy by what its venue says: fills since a person last looked, refusals one after another.

RISK.md A2, LOOP_EXECUTIONS and ERR_BUDGET. They are counted as reports come, so an order pays nothing for them, and
what they do is a halt: the strategy's next order is STATE_HALTED, its exits and cancels pass. Counters are state
(``flow``), limits are not: they are resolved for a trading date, of every scope with a row the tightest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.codes import Code, Scope
from protocol.params import LimitName, LimitRow
from risk.gate.flow import Flow, Tally
from risk.gate.more import UNLIMITED

WATCHED: Final = (LimitName.REJECT_COUNT, LimitName.EXECUTION_COUNT)


class Watch:
    """Counters of one route, shared with all that count the same, and where they halt. ``UNLIMITED`` = not counted.

    ``rejects``: of the strategy at the venue, since it took an order last. ``executions``: of the strategy.
    """

    __slots__ = ("executions", "executions_max", "rejects", "rejects_max")

    def __init__(self, executions: Tally, executions_max: int, rejects: Tally, rejects_max: int) -> None:
        self.executions = executions
        self.executions_max = executions_max
        self.rejects = rejects
        self.rejects_max = rejects_max

    def take_fill(self) -> None:
        """Count a fill."""
        if self.executions_max < UNLIMITED:
            self.executions.count += 1

    def take_reject(self) -> None:
        """Count an order that the venue refused."""
        if self.rejects_max < UNLIMITED:
            self.rejects.count += 1

    def why_halted(self) -> str:
        """Return why the strategy is to be halted; empty if nothing is used up."""
        if self.executions.count >= self.executions_max:
            return (
                f"{Code.LOOP_EXECUTIONS.name}: expected fewer than {self.executions_max} fills before a person resumes "
                f"the strategy, was {self.executions.count}"
            )
        if self.rejects.count >= self.rejects_max:
            return (
                f"{Code.ERR_BUDGET.name}: expected fewer than {self.rejects_max} orders refused by the venue one after "
                f"another, was {self.rejects.count}"
            )
        return ""


class Watches:
    """The limits of counts by venue reports, of one trading date."""

    __slots__ = ("_exempt", "_flow", "_most")

    def __init__(self, rows: Iterable[LimitRow], flow: Flow, exempt: str = "") -> None:
        """Take the rows; ``exempt`` is the strategy under whose name the engine exits, whatever others did."""
        self._exempt = exempt
        self._flow = flow
        self._most: dict[tuple[LimitName, Scope, str], int] = {}
        for row in rows:
            if row.name in WATCHED:
                key = row.name, row.scope, row.key
                self._most[key] = min(int(row.value), self._most.get(key, UNLIMITED))

    def watch(self, strategy: str, venue: str) -> Watch | None:
        """Return the counters of a strategy at a venue; None = nothing limits them."""
        if not self._most or strategy == self._exempt:
            return None
        by_strategy = (Scope.GLOBAL, ""), (Scope.STRATEGY, strategy)
        executions_max = self._tightest(LimitName.EXECUTION_COUNT, by_strategy)
        rejects_max = self._tightest(LimitName.REJECT_COUNT, (*by_strategy, (Scope.VENUE, venue)))
        if executions_max >= UNLIMITED and rejects_max >= UNLIMITED:
            return None
        return Watch(
            self._flow.executions_of(strategy), executions_max, self._flow.rejects_of(strategy, venue), rejects_max
        )

    def _tightest(self, name: LimitName, places: Iterable[tuple[Scope, str]]) -> int:
        return min(self._most.get((name, scope, key), UNLIMITED) for scope, key in places)
