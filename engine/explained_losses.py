"""What limits on losses and on used margin say of an order: how far the nearest of them is used up, at its scope.

They refuse nothing themselves: at a limit the scope is reduced or halted, and that is what refuses (``engine.losses``).
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.losses import used_margin_bp
from engine.state import State
from protocol.codes import Code, Scope
from protocol.explained import Explained
from protocol.session import Facts
from protocol.units import wide
from risk.gate.exposure import Route
from risk.gate.more import UNLIMITED


def explain_losses(state: State, route: Route, *, is_exit: bool) -> Iterator[Explained]:
    """Yield one answer a limit; an exit passes them all."""
    places = (Scope.GLOBAL, ""), (Scope.ACCOUNT, route.account.name), (Scope.STRATEGY, route.strategy.name)
    money = state.book.money
    found: dict[Code, list[Facts]] = {Code.LOSS_DAILY: [], Code.LOSS_DRAWDOWN: [], Code.MARGIN_UTILISATION: []}
    for place in places:
        scope = state.losses.scopes.get(place)
        if scope is None:
            continue
        today_e9 = scope.profit_e9(money, scope.day, {})
        if scope.daily_max_e9 < UNLIMITED and today_e9 is not None:
            found[Code.LOSS_DAILY].append(Facts(wide(scope.daily_max_e9), wide(-today_e9), *place))
        since_e9 = scope.profit_e9(money, scope.start, {})
        if scope.drawdown_max_e9 < UNLIMITED and since_e9 is not None:
            fall_e9 = scope.peak_e9 - since_e9
            found[Code.LOSS_DRAWDOWN].append(Facts(wide(scope.drawdown_max_e9), wide(fall_e9), *place))
    used_bp, most_bp = used_margin_bp(state, route.account.name), state.losses.margin_max_bp.get(route.account.name)
    if used_bp is not None and most_bp is not None:
        found[Code.MARGIN_UTILISATION].append(Facts(most_bp, wide(used_bp), Scope.ACCOUNT, route.account.name))
    for code, of_scopes in found.items():
        if not of_scopes:
            yield Explained("", code, True, None, is_bound=False)
            continue
        facts = min(of_scopes, key=_left)
        is_used_up = _left(facts) < 0 if code is Code.MARGIN_UTILISATION else _left(facts) <= 0
        yield Explained("", code, is_exit or not is_used_up, facts)


def _left(facts: Facts) -> int:
    return int(facts.expected) - int(facts.actual)
