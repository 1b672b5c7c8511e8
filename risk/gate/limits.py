"""Limits as data: every scope with a row is checked, the tightest binds (DECISIONS 34)."""

from __future__ import annotations

from protocol.codes import Scope
from protocol.params import LimitName, LimitRow
from protocol.units import INT64_MAX
from risk.gate.exposure import UNLIMITED, Bound, Route
from risk.gate.rate import RateLog

_MOST = {
    LimitName.QUANTITY_MAX: "quantity",
    LimitName.ORDER_VALUE_MAX: "order_value",
    LimitName.OPEN_VALUE_MAX: "open_value",
    LimitName.OPEN_COUNT_MAX: "open_count",
    LimitName.POSITION_MAX: "position",
}


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

    def bind(self, route: Route) -> None:
        """Set the tightest bound of each name on the route."""
        scopes = (
            (Scope.GLOBAL, ""),
            (Scope.ACCOUNT, route.account.name),
            (Scope.STRATEGY, route.strategy.name),
            (Scope.INSTRUMENT, route.instrument.name),
        )
        for name, attribute in _MOST.items():
            bound = Bound(_CEILINGS.get(name, UNLIMITED))
            for scope, key in scopes:
                row = self._rows.get((name, scope, key))
                if row is not None and int(row.value) < bound.value:
                    bound = Bound(int(row.value), scope, key)
            setattr(route, attribute, bound)

    def rate(self, scope: Scope, key: str, current: RateLog | None) -> RateLog | None:
        """Return the rate log of a scope: its own row or the global one, whichever is tighter in count."""
        rows = [r for k in (key, "") if (r := self._rows.get((LimitName.RATE_COUNT, scope if k else Scope.GLOBAL, k)))]
        if not rows:
            return None
        row = min(rows, key=lambda r: int(r.value))
        if current is not None:
            return current.with_limit(int(row.value), row.window_ns, row.reserve_exit)
        return RateLog(int(row.value), row.window_ns, row.reserve_exit)
