"""Profit and loss of the scopes that a loss limit is on, kept as marks come; RISK.md A2, LOSS_DAILY and LOSS_DRAWDOWN.

A position's profit is what its trades paid and got, and what it would close at (``gate.money``): realised and
unrealised in one, without an average price. Fees count as they are booked; transfers of cash are no profit, and a
position that is set from outside goes on with the profit it had. Rule: an order and a fill pay nothing for this. What
moved since the last mark is seen at the next one, ten times a second, and only holders of what is marked are touched.

Amounts are kept by currency and compared in the currency of the account; of a strategy and of the whole engine in that
of the first account. Without an exchange rate that this needs the profit is unknown (PNL_UNKNOWN).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from protocol.codes import Scope
from protocol.marks import Mark
from protocol.params import LimitName, LimitRow, Params
from risk.gate.exposure import InstrumentState, Ledger, Route
from risk.gate.loss_scopes import FX, Amounts, Holding, HoldingKey, LossScope, Place, Price, shift
from risk.gate.money import Money
from risk.gate.more import UNLIMITED
from risk.gate.pnl import Pnl

LOSS_LIMITS: Final = (LimitName.DAILY_LOSS_MAX, LimitName.DRAWDOWN_MAX)
EVERYBODY: Final[Place] = (Scope.GLOBAL, "")


class Losses:
    """All watched scopes of one shard, their holdings, and the prices of those.

    ``replaced``: what a scope's state was before a limit here raised it, to go back to when that is over. ``margined``:
    accounts in reduce-only for the margin they use, of which ``margin_max_bp`` is the limit.
    """

    __slots__ = ("by_instrument", "holdings", "margin_max_bp", "margined", "pnls", "prices", "replaced", "scopes")

    def __init__(self) -> None:
        self.scopes: dict[Place, LossScope] = {}
        self.holdings: dict[HoldingKey, Holding] = {}
        self.by_instrument: dict[str, list[Holding]] = {}
        self.pnls: dict[str, Pnl] = {}
        self.prices: dict[str, Price] = {}
        self.margin_max_bp: dict[str, int] = {}
        self.margined: dict[str, None] = {}
        self.replaced: dict[Place, tuple[int, str, str]] = {}

    @property
    def is_used(self) -> bool:
        """Whether any limit reads it."""
        return bool(self.scopes or self.margin_max_bp)

    # Parameters

    def take_params(
        self, rows: Iterable[LimitRow], params: Params, ledgers: Mapping[tuple[str, str], Ledger],
        routes: Mapping[tuple[str, str, str], Route], instruments: Mapping[str, InstrumentState],
    ) -> None:  # fmt: skip
        """Take the limits of a trading date. What is watched already goes on; what is new begins here."""
        given = _tightest(rows)
        if not given and not self.is_used:
            return
        currencies = {row.account: row.currency for row in params.accounts}
        places = sorted({place for name, place in given if name in LOSS_LIMITS})
        known, self.scopes = self.scopes, {}
        for place in places:
            scope = self.scopes[place] = known.get(place) or LossScope(*place)
            home = currencies.get(place[1]) if place[0] is Scope.ACCOUNT else None
            scope.currency = home or next(iter(currencies.values()), "")
            scope.daily_max_e9 = given.get((LimitName.DAILY_LOSS_MAX, place), UNLIMITED)
            scope.drawdown_max_e9 = given.get((LimitName.DRAWDOWN_MAX, place), UNLIMITED)
            scope.pnls = {}
        self._take_accounts(given, currencies)
        before, self.holdings, self.by_instrument = self.holdings, {}, {}
        for (account, name), ledger in ledgers.items():
            self._add((account, "", name), instruments[name], ledger, before)
        for key, route in routes.items():
            self._add(key, route.instrument, route.own, before)
        for pnl in self.pnls.values():
            pnl.unknown = {key: None for key in pnl.unknown if key[0] == FX or (pnl.account, *key) in self.holdings}
        self.prices = {name: price for name, price in self.prices.items() if name in self.by_instrument}

    def _take_accounts(self, given: Mapping[tuple[LimitName, Place], int], currencies: Mapping[str, str]) -> None:
        """Choose the accounts whose profit has to be known, and those whose use of margin is looked at."""
        of_all = any(place[0] is not Scope.ACCOUNT for place in self.scopes)
        for account in currencies:
            if of_all or (Scope.ACCOUNT, account) in self.scopes:
                self.pnls.setdefault(account, Pnl(account))
            else:
                self.pnls.pop(account, None)
        margins: dict[str, int] = {}
        for account in currencies:
            most_bp = min(
                given.get((LimitName.MARGIN_USED_MAX_BP, place), UNLIMITED)
                for place in (EVERYBODY, (Scope.ACCOUNT, account))
            )
            if most_bp < UNLIMITED:
                margins[account] = most_bp
        self.margin_max_bp = margins
        self.margined = {account: None for account in self.margined if account in margins}

    def watch_route(self, route: Route) -> None:
        """Watch the ledgers of a new route, where a limit is on them."""
        account, strategy, instrument = route.account.name, route.strategy.name, route.instrument
        self.watch_ledger(account, instrument, route.ledger)
        self._add((account, strategy, instrument.name), instrument, route.own, {})

    def watch_ledger(self, account: str, instrument: InstrumentState, ledger: Ledger) -> None:
        """Watch an account's ledger, where a limit is on it."""
        if (account, "", instrument.name) not in self.holdings:
            self._add((account, "", instrument.name), instrument, ledger, {})

    def _add(
        self, key: HoldingKey, instrument: InstrumentState, ledger: Ledger, before: Mapping[HoldingKey, Holding]
    ) -> None:
        scopes = self._scopes_of(key[0], key[1])
        pnl = self.pnls.get(key[0])
        if not scopes or pnl is None:
            return
        holding = before.get(key)
        if holding is None:
            holding = Holding(key, instrument, ledger, pnl)
        holding.pnl = pnl
        for scope in scopes:
            scope.pnls[pnl.account] = pnl
            if scope not in holding.scopes and not holding.is_new:
                shift(scope, instrument.currency, holding.value_e9)
        holding.scopes = scopes
        self.holdings[key] = holding
        self.by_instrument.setdefault(instrument.name, []).append(holding)

    def _scopes_of(self, account: str, strategy: str) -> tuple[LossScope, ...]:
        places: tuple[Place, ...] = ((Scope.STRATEGY, strategy),) if strategy else (EVERYBODY, (Scope.ACCOUNT, account))
        return tuple(scope for place in places if (scope := self.scopes.get(place)) is not None)

    # What happens

    def pay_fee(self, account: str, strategy: str, currency: str, fee_e9: int) -> None:
        """Count a fee; negative is a rebate, or one given back."""
        for scope in (*self._scopes_of(account, ""), *self._scopes_of(account, strategy)):
            scope.sums[currency] = scope.sums.get(currency, 0) - fee_e9

    def settle(
        self, account: str, instrument: InstrumentState, ledger: Ledger, quantity_e9: int, price_e9: int
    ) -> None:
        """Keep the profit of a position that is about to be set from outside (``engine.fees.carry``)."""
        self.watch_ledger(account, instrument, ledger)
        holding = self.holdings.get((account, "", instrument.name))
        if holding is None or holding.is_new:
            return
        if price_e9 > 0:  # it begins anew at this price, with a profit of 0
            holding.settled_e9 = holding.worth_e9(ledger.position, price_e9, price_e9)
        elif not quantity_e9:
            holding.settled_e9 = holding.value_e9
        else:  # its trades stay, and only the quantity is another one
            price = self.prices.get(instrument.name)
            if price is None or price.low_e9 <= 0:
                return
            at = price.low_e9, price.high_e9
            after = holding.worth_e9(quantity_e9 // instrument.quantity_step_e9, *at)
            holding.settled_e9 += holding.worth_e9(ledger.position, *at) - after

    def changes(self, marks: Iterable[Mark]) -> dict[Place, Amounts]:
        """Return by how much these marks move each scope that they touch, by currency. Changes nothing."""
        found: dict[Place, Amounts] = {}
        for mark in marks:
            for holding in self.by_instrument.get(mark.instrument, ()):
                position = holding.ledger.position
                if (position and mark.low_e9 <= 0) or holding.is_blank:
                    continue
                worth_e9 = holding.worth_e9(position, mark.low_e9, mark.high_e9)
                moved_e9 = 0 if holding.is_new else worth_e9 - holding.value_e9
                for scope in holding.scopes:
                    amounts = found.setdefault((scope.scope, scope.key), {})
                    currency = holding.instrument.currency
                    amounts[currency] = amounts.get(currency, 0) + moved_e9
        return found

    def take(self, marks: Iterable[Mark], money: Money, now_ns: int) -> None:
        """Value the holders of what is marked."""
        touched: dict[Place, LossScope] = {}
        for mark in marks:
            price = self.prices.setdefault(mark.instrument, Price())
            price.is_stale = mark.low_e9 <= 0
            if not price.is_stale:
                price.low_e9, price.high_e9, price.at_ns = mark.low_e9, mark.high_e9, now_ns - mark.age_ns
            for holding in self.by_instrument.get(mark.instrument, ()):
                if holding.ledger.position and price.is_stale:
                    holding.pnl.unknown[holding.key[1:]] = None
                    continue
                holding.pnl.unknown.pop(holding.key[1:], None)
                if holding.is_blank:
                    continue
                self._value(holding, mark)
                touched.update(((scope.scope, scope.key), scope) for scope in holding.scopes)
        for scope in touched.values():
            profit_e9 = scope.profit_e9(money, scope.start, {})
            flag = (FX, f"{scope.scope.name} {scope.key}")
            for pnl in scope.pnls.values():
                if profit_e9 is None:
                    pnl.unknown[flag] = None
                else:
                    pnl.unknown.pop(flag, None)
            if profit_e9 is not None and profit_e9 > scope.peak_e9:
                scope.peak_e9 = profit_e9

    def _value(self, holding: Holding, mark: Mark) -> None:
        ledger, currency = holding.ledger, holding.instrument.currency
        worth_e9 = holding.worth_e9(ledger.position, mark.low_e9, mark.high_e9)
        for scope in holding.scopes:
            if holding.is_new:
                shift(scope, currency, worth_e9)
            else:
                scope.sums[currency] = scope.sums.get(currency, 0) + worth_e9 - holding.value_e9
        holding.is_new = False
        holding.value_e9, holding.position, holding.traded_e9 = worth_e9, ledger.position, ledger.traded_e9

    def forget_prices(self) -> None:
        """Know no price any more: an engine that starts was away for who knows how long."""
        for price in self.prices.values():
            price.is_stale = True
        for holding in self.holdings.values():
            if holding.ledger.position:
                holding.pnl.unknown[holding.key[1:]] = None

    # The state's hash and snapshots

    def rows(self) -> tuple[object, ...]:
        """Return everything that does not derive, as it came; empty where nothing is watched."""
        return self._rows(self.holdings.values())

    def canonical(self) -> tuple[object, ...]:
        """Return the same in canonical order, without ledgers that nothing ever was in."""
        rows = self._rows([h for h in self.holdings.values() if not h.is_blank])
        return tuple(sorted(part) for part in rows)

    def _rows(self, holdings: Iterable[Holding]) -> tuple[list[Any], ...]:
        if not (self.is_used or self.replaced):
            return ()
        return (
            [scope.row() for scope in self.scopes.values()],
            [(*h.key, h.is_new, str(h.value_e9), str(h.settled_e9), h.position, str(h.traded_e9)) for h in holdings],
            [(name, p.low_e9, p.high_e9, p.at_ns, p.is_stale) for name, p in self.prices.items()],
            [(pnl.account, list(pnl.unknown)) for pnl in self.pnls.values() if pnl.unknown],
            list(self.margined),
            [(int(scope), key, *halt) for (scope, key), halt in self.replaced.items()],
        )

    def load(
        self, rows: Any, ledgers: Mapping[tuple[str, str], Ledger], routes: Mapping[tuple[str, str, str], Route],
        instruments: Mapping[str, InstrumentState],
    ) -> None:  # fmt: skip
        """Take what ``rows`` returned; scopes and accounts stand as the parameters made them."""
        scopes, holdings, prices, unknown, margined, replaced = rows
        for scope, key, *row in scopes:
            self.scopes[Scope(scope), key].load(*row)
        self.holdings, self.by_instrument = {}, {}
        for account, strategy, name, is_new, value_e9, settled_e9, position, traded_e9 in holdings:
            key = (account, strategy, name)
            ledger = routes[key].own if strategy else ledgers[account, name]
            made = Holding(key, instruments[name], ledger, self.pnls[account])
            made.is_new, made.value_e9, made.settled_e9 = is_new, int(value_e9), int(settled_e9)
            made.position, made.traded_e9 = position, int(traded_e9)
            made.scopes = self._scopes_of(account, strategy)
            for scope in made.scopes:
                scope.pnls[account] = made.pnl
            self.holdings[key] = made
            self.by_instrument.setdefault(name, []).append(made)
        for name, low_e9, high_e9, at_ns, is_stale in prices:
            price = self.prices[name] = Price()
            price.low_e9, price.high_e9, price.at_ns, price.is_stale = low_e9, high_e9, at_ns, is_stale
        for account, keys in unknown:
            self.pnls[account].unknown = {tuple(key): None for key in keys}
        self.margined = dict.fromkeys(margined)
        self.replaced = {(Scope(scope), key): (state, reason, by) for scope, key, state, reason, by in replaced}


def _tightest(rows: Iterable[LimitRow]) -> dict[tuple[LimitName, Place], int]:
    return dict(_pairs(sorted(rows, key=_value, reverse=True)))


def _pairs(rows: Iterable[LimitRow]) -> Iterator[tuple[tuple[LimitName, Place], int]]:
    for row in rows:
        if row.name in LOSS_LIMITS or row.name is LimitName.MARGIN_USED_MAX_BP:
            yield (row.name, (row.scope, row.key)), int(row.value)


def _value(row: LimitRow) -> int:
    return int(row.value)
