"""The scopes of the paper side: what a paper order has in the place of its account, its strategy and their limits.

Rule: nothing here is shared with a real order but the contract. Only one thing goes over, and one way: a real account
or strategy that is halted or in reduce-only is so on paper too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.orders import NewOrder
from protocol.paper import paper_name, real_name
from protocol.units import INT64_MAX
from risk.gate.exposure import AccountState, Ledger, Route, StrategyState
from risk.gate.more import UNLIMITED, Bound, Limits

PAPER_LIMITS: Final = Limits(
    UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED, INT64_MAX,
    (Bound(UNLIMITED), Bound(UNLIMITED), Bound(UNLIMITED), Bound(UNLIMITED), Bound(INT64_MAX)),
)  # fmt: skip
"""Limits count what is real. A worst-case position stays inside int64, so every answer can carry it."""


def paper_route(real: Route, account: AccountState, ledger: Ledger) -> Route:
    """Return the paper route beside a real one: the same contract, and no limit, rate or count of the real scopes."""
    strategy = StrategyState(real.strategy.name, real.strategy.ttl_ns)
    strategy.state = max(real.account.state, real.strategy.state)
    strategy.bounds = account.bounds = PAPER_LIMITS.bounds
    return Route(account, strategy, real.instrument, ledger, Ledger(), PAPER_LIMITS)


def add_paper_route(routes: list[Route], real: Route, account: AccountState, ledger: Ledger) -> Route:
    """Return a paper route that is one of those of the state from now on."""
    made = paper_route(real, account, ledger)
    routes.append(made)
    return made


def is_paper_key(routes: Mapping[tuple[str, str, str], Route], order: NewOrder) -> bool:
    """Whether the order's key is paper now, so that the order is too."""
    route = routes.get((paper_name(order.account), order.strategy, order.instrument))
    return route is not None and bool(route.own.position or route.own.buy or route.own.sell)


def follow_real(
    routes: Iterable[Route], accounts: Mapping[str, AccountState], strategies: Mapping[str, StrategyState]
) -> None:
    """Give paper routes the state that their real account and strategy are in, and nothing else of them."""
    for route in routes:
        route.limits, route.watch = PAPER_LIMITS, None
        real = strategies[route.strategy.name]
        route.strategy.ttl_ns = real.ttl_ns
        route.strategy.state = max(accounts[real_name(route.account.name)].state, real.state)


def reset_paper(routes: Iterable[Route], ledger: Ledger) -> None:
    """Take the strategies' parts of a paper position to 0 with it: an operator reset it (DESIGN 6.14)."""
    for route in routes:
        if route.ledger is ledger:
            route.own.position = 0
