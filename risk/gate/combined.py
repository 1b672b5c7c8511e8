"""Several orders checked as one: each against the book with all the others already in it.

So the answer does not hang on the order of the legs, and no leg passes on room that another one takes. A copy of the
few scopes that the legs touch stands in for the book; the book itself is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from risk.gate.crossing import OwnPrices
from risk.gate.exposure import AccountState, ExposureBook, Ledger, Reservation, Route, StrategyState
from risk.gate.flow import Tally
from risk.gate.more import AccountSums, KeySums, More, UnderlyingSums
from risk.gate.rate import RateLog


def with_others(legs: Sequence[Reservation], index: int, now_ns: int) -> Route:
    """Return the route of one leg as it would be with all other legs accepted.

    Args:
        legs: What each leg would hold. All of one account.
        index: The leg that is looked at.
        now_ns: When, for the rate limits.
    """
    copies = _Copies()
    book = ExposureBook()
    for n, leg in enumerate(legs):
        if n != index:
            book.open(
                Reservation(copies.route(leg.route), leg.side, leg.price, leg.leaves, leg.reserved_value_e9), now_ns
            )
    return copies.route(legs[index].route)


class _Copies:
    """Copies of accounts, strategies and ledgers, each made once, so that legs that share one share its copy."""

    def __init__(self) -> None:
        self._accounts: dict[str, AccountState] = {}
        self._strategies: dict[str, StrategyState] = {}
        self._ledgers: dict[tuple[str, ...], Ledger] = {}
        # By what they are copies of, which the book keeps alive.
        self._sums: dict[int, AccountSums] = {}
        self._underlyings: dict[int, UnderlyingSums] = {}
        self._keys: dict[int, KeySums] = {}
        self._tallies: dict[int, Tally] = {}
        self._rates: dict[int, RateLog] = {}
        self._own_prices: dict[int, OwnPrices] = {}

    def route(self, route: Route) -> Route:
        account, strategy, instrument = route.account, route.strategy, route.instrument
        made = Route(
            self._account(account), self._strategy(strategy), instrument,
            self._ledger((account.name, instrument.name), route.ledger),
            self._ledger((account.name, instrument.name, strategy.name), route.own), route.limits,
        )  # fmt: skip
        if route.is_complete:
            made.more, made.is_complete = self._more(route.more), True
        return made

    def _more(self, more: More) -> More:
        """Return one with sums and counters that are copies, each made once."""
        made = more.alone()
        made.account = self._sums.setdefault(id(more.account), more.account.copy())
        made.underlying = self._underlyings.setdefault(id(more.underlying), more.underlying.copy())
        made.key = self._keys.setdefault(id(more.key), more.key.copy())
        made.account_day = self._tallies.setdefault(id(more.account_day), Tally(more.account_day.count))
        made.strategy_day = self._tallies.setdefault(id(more.strategy_day), Tally(more.strategy_day.count))
        if more.own_prices is not None:
            made.own_prices = self._own_prices.setdefault(id(more.own_prices), more.own_prices.copy())
        made.global_rate, made.venue_rate = self._rate(more.global_rate), self._rate(more.venue_rate)
        return made

    def _rate(self, rate: RateLog | None) -> RateLog | None:
        return None if rate is None else self._rates.setdefault(id(rate), rate.copy())

    def _account(self, account: AccountState) -> AccountState:
        found = self._accounts.get(account.name)
        if found is None:
            found = self._accounts[account.name] = AccountState(account.name, account.currency)
            found.state = account.state
            found.bounds = account.bounds
            found.open_count = account.open_count
            found.open_value_e9 = account.open_value_e9
            found.rate = account.rate.copy() if account.rate is not None else None
        return found

    def _strategy(self, strategy: StrategyState) -> StrategyState:
        found = self._strategies.get(strategy.name)
        if found is None:
            found = self._strategies[strategy.name] = StrategyState(strategy.name, strategy.ttl_ns)
            found.state = strategy.state
            found.bounds = strategy.bounds
            found.rate = strategy.rate.copy() if strategy.rate is not None else None
        return found

    def _ledger(self, key: tuple[str, ...], ledger: Ledger) -> Ledger:
        found = self._ledgers.get(key)
        if found is None:
            found = self._ledgers[key] = Ledger(ledger.position, ledger.buy, ledger.sell)
        return found
