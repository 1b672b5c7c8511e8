"""What a principal may do through a source, looked up once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.params import ChannelParams, PrincipalParams
from risk.gate.exposure import Route

ANY: Final = "*"


class Permit:
    """What one principal may do through one source; ``routes`` remembers what was found permitted.

    (account, strategy) → instrument → route: two small hot dicts, where one of all triples would be cold.
    """

    __slots__ = ("accounts", "routes", "strategies")

    def __init__(self, principal: PrincipalParams) -> None:
        self.routes: dict[tuple[str, str], dict[str, Route]] = {}
        self.take(principal)

    def take(self, principal: PrincipalParams | None) -> None:
        """Take what is granted now, None = nothing; what was found before is looked up anew."""
        self.accounts = frozenset(principal.accounts if principal is not None else ())
        self.strategies = frozenset(principal.strategies if principal is not None else ())
        self.routes.clear()

    def remember(self, route: Route) -> None:
        """Keep a route that was found permitted, under names that every look-up of it shares."""
        self.routes.setdefault((route.account.name, route.strategy.name), {})[route.instrument.name] = route

    def forget(self, account: str, strategy: str) -> None:
        """Have the routes of the two looked up anew: one of them is another now."""
        self.routes.pop((account, strategy), None)

    def may_trade(self, account: str, strategy: str) -> bool:
        """Whether both are granted."""
        return self.may_use(account) and (ANY in self.strategies or strategy in self.strategies)

    def may_use(self, account: str) -> bool:
        """Whether the account is granted: all that a cancel needs."""
        return ANY in self.accounts or account in self.accounts


Permits = dict[tuple[str, str], Permit]


def find_permit(
    permits: Permits,
    channels: Mapping[str, ChannelParams],
    principals: Mapping[str, PrincipalParams],
    source: str,
    principal: str,
) -> Permit | None:
    """Return what the principal may do through the source; None if the source may not speak for it."""
    found = permits.get((source, principal))
    if found is None:
        row = _granted(channels, principals, source, principal)
        if row is not None:
            found = permits[source, principal] = Permit(row)
    return found


def renew(permits: Permits, channels: Mapping[str, ChannelParams], principals: Mapping[str, PrincipalParams]) -> None:
    """Give every permit what new parameters grant: sessions keep theirs, so each stays the one object."""
    for key, permit in list(permits.items()):
        row = _granted(channels, principals, *key)
        permit.take(row)
        if row is None:
            del permits[key]


def _granted(
    channels: Mapping[str, ChannelParams], principals: Mapping[str, PrincipalParams], source: str, principal: str
) -> PrincipalParams | None:
    channel = channels.get(source)
    if channel is None or not (ANY in channel.principals or principal in channel.principals):
        return None
    return principals.get(principal)
