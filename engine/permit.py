"""What a principal may do through a source, looked up once and kept."""

from __future__ import annotations

from typing import Final

from protocol.params import PrincipalParams
from risk.gate.exposure import Route

ANY: Final = "*"


class Permit:
    """What one principal may do through one source; ``routes`` remembers what was found permitted.

    (account, strategy) → instrument → route: two small hot dicts, where one of all triples would be cold.
    """

    __slots__ = ("accounts", "routes", "strategies")

    def __init__(self, principal: PrincipalParams) -> None:
        self.accounts = frozenset(principal.accounts)
        self.strategies = frozenset(principal.strategies)
        self.routes: dict[tuple[str, str], dict[str, Route]] = {}

    def remember(self, route: Route) -> None:
        """Keep a route that was found permitted, under names that every look-up of it shares."""
        self.routes.setdefault((route.account.name, route.strategy.name), {})[route.instrument.name] = route

    def may_trade(self, account: str, strategy: str) -> bool:
        """Whether both are granted."""
        return self.may_use(account) and (ANY in self.strategies or strategy in self.strategies)

    def may_use(self, account: str) -> bool:
        """Whether the account is granted: all that a cancel needs."""
        return ANY in self.accounts or account in self.accounts
