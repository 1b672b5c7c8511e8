"""Limits as data: every scope with a row is checked, the tightest binds (DECISIONS 34)."""

from __future__ import annotations

from protocol.codes import Scope
from protocol.params import LimitName, LimitRow
from protocol.units import INT64_MAX
from risk.gate.exposure import AccountState, InstrumentState, StrategyState
from risk.gate.more import UNLIMITED, Bound, Limits
from risk.gate.rate import RateLog

# In the order of the fields of Limits.
_NAMES = (
    LimitName.QUANTITY_MAX,
    LimitName.ORDER_VALUE_MAX,
    LimitName.OPEN_VALUE_MAX,
    LimitName.OPEN_COUNT_MAX,
    LimitName.POSITION_MAX,
)
_CEILINGS = {LimitName.POSITION_MAX: INT64_MAX}
"""Where no row binds: a worst-case position stays inside int64 in 1e-9, so every answer can carry it."""


class LimitTable:
    """All limit rows, looked up by (name, scope, key)."""

    def __init__(self, rows: tuple[LimitRow, ...]) -> None:
        self._rows: dict[tuple[LimitName, Scope, str], LimitRow] = {}
        for row in rows:
            key = (row.name, row.scope, row.key)
            known = self._rows.get(key)
            if known is None or int(row.value) < int(known.value):
                self._rows[key] = row
        self._scoped = {(row.scope, row.key) for row in rows}
        self._global = self._bounds_of(Scope.GLOBAL, "")
        self._limits: dict[tuple[int, int, int], Limits] = {}

    def bounds(self, scope: Scope, key: str) -> tuple[Bound, ...]:
        """Return the tighter of the scope's own row and the global one, for each name of ``_NAMES``.

        A scope without rows has the global bounds themselves, so that ``limits`` finds what it made for another.
        """
        return self._bounds_of(scope, key) if (scope, key) in self._scoped else self._global

    def limits(self, account: AccountState, strategy: StrategyState, instrument: InstrumentState) -> Limits:
        """Return what binds an order of these three; the same object wherever the same rows bind."""
        scopes = (account.bounds, strategy.bounds, instrument.bounds)
        identity = (id(scopes[0]), id(scopes[1]), id(scopes[2]))  # the scopes keep them alive
        found = self._limits.get(identity)
        if found is None:
            bounds = tuple(min(candidates, key=_value) for candidates in zip(*scopes, strict=True))
            quantity, order_value, open_value, open_count, position = (b.value for b in bounds)
            found = Limits(quantity, order_value, open_value, open_count, position, bounds)
            self._limits[identity] = found
        return found

    def _bounds_of(self, scope: Scope, key: str) -> tuple[Bound, ...]:
        return tuple(self._tightest(name, scope, key) for name in _NAMES)

    def _tightest(self, name: LimitName, scope: Scope, key: str) -> Bound:
        bound = Bound(_CEILINGS.get(name, UNLIMITED))
        for row in (self._rows.get((name, Scope.GLOBAL, "")), self._rows.get((name, scope, key))):
            if row is not None and int(row.value) < bound.value:
                bound = Bound(int(row.value), row.scope, row.key)
        return bound

    def rate(self, scope: Scope, key: str, current: RateLog | None) -> RateLog | None:
        """Return the rate log of a scope: its own row and the global one, which holds for each scope, both bind.

        ``current`` is what the scope has now; its charges are remembered.
        """
        made: RateLog | None = None
        for where in ((Scope.GLOBAL, ""), (scope, key)):
            row = self._rows.get((LimitName.RATE_COUNT, *where))
            if row is not None:
                made = RateLog(int(row.value), row.window_ns, row.reserve_exit, made)
        return made.remember(current) if made is not None and current is not None else made


def _value(bound: Bound) -> int:
    return bound.value
