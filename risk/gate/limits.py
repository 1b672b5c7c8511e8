"""Limits as data: every scope with a row is checked, the tightest binds (DECISIONS 34)."""

from __future__ import annotations

from protocol.codes import Scope
from protocol.params import LimitName, LimitRow
from protocol.units import INT64_MAX
from risk.gate.exposure import UNLIMITED, AccountState, Bound, InstrumentState, StrategyState
from risk.gate.rate import RateLog

# In the order of Route's fields.
_NAMES = (
    LimitName.QUANTITY_MAX,
    LimitName.ORDER_VALUE_MAX,
    LimitName.OPEN_VALUE_MAX,
    LimitName.OPEN_COUNT_MAX,
    LimitName.POSITION_MAX,
)
_CEILINGS = {LimitName.POSITION_MAX: INT64_MAX}
"""Where no row binds: a worst-case position stays inside int64 in 1e-9, so every answer can carry it."""


def tightest(account: AccountState, strategy: StrategyState, instrument: InstrumentState) -> list[Bound]:
    """Return the tightest bound of each limit over an order's scopes, in the order of Route's fields."""
    return [
        a if a.value <= s.value and a.value <= i.value else (s if s.value <= i.value else i)
        for a, s, i in zip(account.bounds, strategy.bounds, instrument.bounds, strict=True)
    ]


class LimitTable:
    """All limit rows, looked up by (name, scope, key). Bounds are shared: a route is made of three of them a name."""

    def __init__(self, rows: tuple[LimitRow, ...]) -> None:
        self._rows: dict[tuple[LimitName, Scope, str], LimitRow] = {}
        for row in rows:
            key = (row.name, row.scope, row.key)
            known = self._rows.get(key)
            if known is None or int(row.value) < int(known.value):
                self._rows[key] = row

    def bounds(self, scope: Scope, key: str) -> tuple[Bound, ...]:
        """Return the tighter of the scope's own row and the global one, for each limit of a Route, in its order."""
        return tuple(self._tightest(name, scope, key) for name in _NAMES)

    def _tightest(self, name: LimitName, scope: Scope, key: str) -> Bound:
        bound = Bound(_CEILINGS.get(name, UNLIMITED))
        for row in (self._rows.get((name, Scope.GLOBAL, "")), self._rows.get((name, scope, key))):
            if row is not None and int(row.value) < bound.value:
                bound = Bound(int(row.value), row.scope, row.key)
        return bound

    def rate(self, scope: Scope, key: str, current: RateLog | None) -> RateLog | None:
        """Return the rate log of a scope: its own row or the global one, whichever is tighter in count."""
        rows = [r for k in (key, "") if (r := self._rows.get((LimitName.RATE_COUNT, scope if k else Scope.GLOBAL, k)))]
        if not rows:
            return None
        row = min(rows, key=lambda r: int(r.value))
        if current is not None:
            return current.with_limit(int(row.value), row.window_ns, row.reserve_exit)
        return RateLog(int(row.value), row.window_ns, row.reserve_exit)
