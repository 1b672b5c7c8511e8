"""Parameters of the complete gate, resolved for one trading date and given to routes; and its aggregates, made anew.

Resolution, DECISIONS 34: contract parameters by the most specific row; of limits every scope with a row is checked and
the tightest binds. A route that no row, flag or list concerns stays on the plain gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.codes import Code, Scope, Side
from protocol.contract_rows import (
    ContractName,
    ContractRow,
    RestrictionKind,
    RestrictionRow,
    VenueRow,
    counts_on,
    resolve_contract,
)
from protocol.params import ContractKind, InstrumentParams, LimitName, LimitRow, Params
from risk.gate.crossing import OwnPrices
from risk.gate.exposure import InstrumentState, Ledger, Reservation, Route, note_price
from risk.gate.flow import Flow
from risk.gate.losses import LOSS_LIMITS
from risk.gate.money import Money
from risk.gate.more import (
    ALL_REFUSED,
    BP,
    EXITS_PASS,
    NOTHING,
    UNBOUND,
    UNLIMITED,
    AccountSums,
    Bound,
    Contract,
    KeySums,
    More,
    UnderlyingSums,
)
from risk.gate.pnl import Pnl
from risk.gate.ratio import FLOOR, Ratio, RatioBound
from risk.gate.sure import Identity, identity_of, usual_of
from risk.gate.usual import Usual

BUY: Final = Side.BUY
SELL: Final = Side.SELL
E9: Final = 10**9
_ORDINARY: Final = frozenset({
    ContractName.TICK, ContractName.LOT, ContractName.QUANTITY_MIN, ContractName.QUANTITY_MAX, ContractName.COLLAR_BP,
})  # fmt: skip
"""They stand in the place of what ``InstrumentParams`` says, and the plain gate checks them."""
_NOT_CHECKED: Final = _ORDINARY | {ContractName.OTR_BP, ContractName.OTR_ABSOLUTE}
"""Rows that alone let no order take the complete gate: a limit reads them, or none does."""
_FURTHER: Final = frozenset({
    LimitName.DAILY_COUNT_MAX, LimitName.GROSS_MAX, LimitName.NET_MAX, LimitName.UNDERLYING_MAX,
    LimitName.DUPLICATE_COUNT, LimitName.INTENT_COUNT, LimitName.GLOBAL_RATE_COUNT, LimitName.VENUE_RATE_COUNT,
    LimitName.MESSAGE_RATIO_MAX,
})  # fmt: skip
_SOFT: Final = {
    LimitName.POSITION_MAX: Code.POS_LIMIT,
    LimitName.ORDER_VALUE_MAX: Code.VALUE_ORDER_MAX,
    LimitName.OPEN_VALUE_MAX: Code.VALUE_OPEN_MAX,
    LimitName.GROSS_MAX: Code.EXPO_GROSS,
    LimitName.MESSAGE_RATIO_MAX: Code.RATIO_OTR,
}
"""Limits that may have a soft value, and their codes."""
Place = tuple[Scope, str]
GLOBAL: Final[Place] = (Scope.GLOBAL, "")


class Furthers:
    """What the complete gate needs, for all routes of one shard on one trading date."""

    def __init__(self, params: Params, trading_date: int, flow: Flow, money: Money, pnls: Mapping[str, Pnl]) -> None:
        self._money = money
        self._pnls = pnls
        # A soft value means something only where the service may be asked.
        self._forwards = frozenset(params.risk.forward) if params.risk is not None else frozenset[Code]()
        self._params = params
        self._date = trading_date
        self._flow = flow
        self._rows: dict[tuple[LimitName, Place], LimitRow] = {}
        for row in params.limits_on(trading_date):
            key = (row.name, (row.scope, row.key))
            known = self._rows.get(key)
            if known is None or int(row.value) < int(known.value):
                self._rows[key] = row
        self._limited = frozenset(r.name for r in self._rows.values() if r.name in _FURTHER or r.soft is not None)
        self._venues = {row.venue: row for row in _newest(params.venues, trading_date)}
        self._restrictions = [
            row for row in params.restrictions if counts_on(row.effective_from, row.effective_to, trading_date)
        ]
        self._contract_rows: tuple[ContractRow, ...] = params.contracts
        self._instruments: dict[str, InstrumentParams] = {row.instrument: row for row in params.instruments}
        self._accounts = {row.account: row for row in params.accounts}
        self._strategies = {row.strategy: row for row in params.strategies}
        self._contracts: dict[str, tuple[Contract, bool]] = {}
        self._same: dict[tuple[object, ...], Contract] = {}
        self._usuals: dict[Identity, Usual] = {}
        self._bounds: dict[tuple[LimitName, Place], Bound] = {}
        self._sums: dict[str, AccountSums] = {}
        self._underlyings: dict[tuple[str, str], UnderlyingSums] = {}
        self._keys: dict[tuple[str, str], KeySums] = {}
        self._ledgers: dict[tuple[str, str], More] = {}
        self._own_prices: dict[tuple[str, str], OwnPrices] = {}

    # Contracts

    def update(self, instrument: InstrumentState) -> None:
        """Let dated rows stand in the place of the instrument's own tick, lot, bounds of quantity and collar."""
        rows = self._resolved(instrument)
        if _ORDINARY.isdisjoint(rows):
            return
        if ContractName.TICK in rows:
            instrument.tick = max(1, rows[ContractName.TICK] // instrument.price_step_e9)
        if ContractName.LOT in rows:
            instrument.lot = max(1, rows[ContractName.LOT] // instrument.quantity_step_e9)
        if ContractName.QUANTITY_MIN in rows:
            instrument.quantity_min = -(-rows[ContractName.QUANTITY_MIN] // instrument.quantity_step_e9)
        if ContractName.QUANTITY_MAX in rows:
            instrument.quantity_max = rows[ContractName.QUANTITY_MAX] // instrument.quantity_step_e9
        if ContractName.COLLAR_BP in rows:
            instrument.collar_buy_bp = BP + rows[ContractName.COLLAR_BP]
            instrument.collar_sell_bp = BP - rows[ContractName.COLLAR_BP]

    def _resolved(self, instrument: InstrumentState) -> dict[ContractName, int]:
        given = self._instruments.get(instrument.name)
        if given is None or not self._contract_rows:
            return {}
        found = resolve_contract(
            self._contract_rows, self._date, venue=given.venue, contract_class=given.contract_class,
            underlying=given.underlying, instrument=given.instrument,
        )  # fmt: skip
        return {name: row.value for name, row in found.items()}

    def contract(self, instrument: InstrumentState) -> tuple[Contract, bool]:
        """Return the instrument's further parameters, and whether any of them has to be checked."""
        known = self._contracts.get(instrument.name)
        if known is not None:
            return known
        rows = self._resolved(instrument)
        contract = Contract()
        given = self._instruments.get(instrument.name)
        if given is not None:
            contract.underlying = given.underlying
            contract.is_option, contract.is_owned = given.contract_class.is_option, given.contract_class.is_owned
            contract.is_paid = contract.is_option or contract.is_owned or given.kind is ContractKind.SPOT
            contract.is_premium = contract.is_option and given.kind is not ContractKind.SPOT
            contract.take_fee(max(given.taker_fee_bp_e9, given.maker_fee_bp_e9))
        self._take_rows(contract, rows, instrument)
        if Code.PRICE_COLLAR in self._forwards:
            contract.collar_soft_bp = rows.get(ContractName.COLLAR_SOFT_BP, 0)
        is_checked = bool(rows.keys() - _NOT_CHECKED) or self._take_hours(contract, instrument.venue)
        # Of instruments with the same parameters one object: what many routes read stays in the cache.
        contract = self._same.setdefault(contract.values(), contract)
        self._contracts[instrument.name] = contract, is_checked
        return contract, is_checked

    def _take_rows(self, contract: Contract, rows: Mapping[ContractName, int], instrument: InstrumentState) -> None:
        get = rows.get
        contract.freeze_e9 = get(ContractName.FREEZE, UNLIMITED)
        contract.band_low_e9 = get(ContractName.BAND_LOW, 0)
        contract.band_high_e9 = get(ContractName.BAND_HIGH, UNLIMITED)
        contract.lpp_break_e9 = get(ContractName.LPP_BREAK, 0)
        contract.lpp_absolute_e9 = get(ContractName.LPP_ABSOLUTE, 0)
        contract.lpp_bp = get(ContractName.LPP_BP, 0)
        contract.otr_bp, contract.otr_absolute_e9 = get(ContractName.OTR_BP, 0), get(ContractName.OTR_ABSOLUTE, 0)
        contract.is_book_checked = get(ContractName.CHECK_CROSSED, 0) == 1
        contract.is_protected = contract.lpp_bp > 0 or contract.lpp_break_e9 > 0
        contract.value_min_e9 = get(ContractName.ORDER_VALUE_MIN, 0)
        more_e9 = get(ContractName.MARGIN_CALENDAR, 0)
        contract.take_margins(
            get(ContractName.MARGIN_LONG, 0) + more_e9, get(ContractName.MARGIN_SHORT, 0) + more_e9, instrument.lot
        )
        contract.exposure_long_e18 = get(ContractName.EXPOSURE_LONG, 0) * instrument.quantity_step_e9
        contract.exposure_short_e18 = get(ContractName.EXPOSURE_SHORT, 0) * instrument.quantity_step_e9
        contract.delta = get(ContractName.DELTA_BP, BP) * instrument.quantity_step_e9 if contract.underlying else 0
        if instrument.expiry_ns:
            contract.cutoff_buy_ns = instrument.expiry_ns - get(ContractName.CUTOFF_BUY_NS, 0)
            contract.cutoff_sell_ns = instrument.expiry_ns - get(ContractName.CUTOFF_SELL_NS, 0)

    def _take_hours(self, contract: Contract, venue: str) -> bool:
        row = self._venues.get(venue)
        hours = None if row is None else row.hours_on(self._date)
        if hours is not None:
            contract.open_ns, contract.close_ns = hours
        return hours is not None

    # Routes

    def attach(self, route: Route) -> None:
        """Give the route what it needs; one that needs nothing takes the plain gate."""
        account, strategy, instrument = route.account, route.strategy, route.instrument
        contract, is_checked = self.contract(instrument)
        more = self._more_of(account.name, instrument)
        self._take_people(more, account.name, strategy.name, instrument)
        self._take_limits(more, account.name, strategy.name, contract)
        is_checked = is_checked or bool(self._limited) or more.restricted > 0 or more.banned or more.lacks_algo_id
        more.pnl = self._pnls.get(account.name)
        is_checked = is_checked or more.own_prices is not None or more.pnl is not None
        if not (is_checked or more.no_write or more.no_short or more.checks_cash or more.checks_margin):
            route.more, route.is_complete = NOTHING, False
            return
        more.cash_e9, more.collateral, more.money = account.cash_e9, account.collateral, self._money
        more.currency = instrument.currency
        self._take_flow(more, route)
        more.usual = self._usual(route, more)
        route.more, route.is_complete = more, True

    def _usual(self, route: Route, more: More) -> Usual:
        """Return the bounds of a usual order; one object for all routes that they are the same for."""
        identity = identity_of(route, more)  # it keeps alive what it names
        found = self._usuals.get(identity)
        if found is None:
            found = self._usuals[identity] = usual_of(route, more)
        return found

    def _more_of(self, account: str, instrument: InstrumentState) -> More:
        """Return a new one with the sums that all routes of the account, its underlying and its ledger share."""
        contract = self.contract(instrument)[0]
        more = More(
            contract, self._sums.setdefault(account, AccountSums()),
            self._underlyings.setdefault((account, contract.underlying), UnderlyingSums()),
            self._keys.setdefault((account, instrument.name), KeySums()),
        )  # fmt: skip
        given = self._accounts.get(account)
        more.checks_margin = given is not None and given.checks_margin
        # What no row reads is not kept. It is the same for all that share the sums.
        more.reserves = given is not None and (given.checks_cash or given.checks_margin)
        more.bounds_delta = not self._limited.isdisjoint((LimitName.NET_MAX, LimitName.UNDERLYING_MAX))
        more.bounds_gross = LimitName.GROSS_MAX in self._limited
        return more

    def _take_people(self, more: More, account: str, strategy: str, instrument: InstrumentState) -> None:
        who, what = self._accounts.get(account), self._strategies.get(strategy)
        may_write = (who is None or who.option_write) and (what is None or what.option_write)
        may_short = (who is None or who.short_sell) and (what is None or what.short_sell)
        more.no_write = more.contract.is_option and not may_write
        more.no_short = more.contract.is_owned and not may_short
        more.checks_cash = who is not None and who.checks_cash
        if who is not None and who.checks_crossing:
            more.own_prices = self._own_prices.setdefault((account, instrument.name), OwnPrices())
        venue = self._venues.get(instrument.venue)
        more.lacks_algo_id = venue is not None and venue.needs_algo_id and not (what is not None and what.algo_id)
        for row in self._restrictions:
            if _concerns(row, account, strategy, instrument.name, more.contract.underlying):
                if row.kind is RestrictionKind.EXITS_ONLY:
                    more.banned = True
                else:
                    more.restricted = max(more.restricted, EXITS_PASS if row.exits else ALL_REFUSED)

    def _take_limits(self, more: More, account: str, strategy: str, contract: Contract) -> None:
        of_account: tuple[Place, ...] = (GLOBAL, (Scope.ACCOUNT, account))
        of_strategy: tuple[Place, ...] = ((Scope.STRATEGY, strategy),)
        of_underlying: tuple[Place, ...] = (*of_account, (Scope.UNDERLYING, contract.underlying))
        more.gross_max = self._bound(LimitName.GROSS_MAX, of_account)
        more.gross_soft = self._soft(LimitName.GROSS_MAX, of_account)
        more.net_max = self._bound(LimitName.NET_MAX, of_underlying)
        more.underlying_max = self._bound(LimitName.UNDERLYING_MAX, of_underlying)
        more.gross_least_e18 = min(more.gross_max.value, more.gross_soft.value) * E9
        more.net_least, more.side_least = more.net_max.value * BP, more.underlying_max.value * BP
        more.per_account = self._bound(LimitName.DAILY_COUNT_MAX, of_account)
        more.per_strategy = self._bound(LimitName.DAILY_COUNT_MAX, of_strategy)

    def _take_flow(self, more: More, route: Route) -> None:
        account, strategy, instrument = route.account.name, route.strategy.name, route.instrument
        more.account_day = self._flow.day(Scope.ACCOUNT, account)
        more.strategy_day = self._flow.day(Scope.STRATEGY, strategy)
        row = self._tightest(LimitName.DUPLICATE_COUNT, (GLOBAL, (Scope.ACCOUNT, account), (Scope.STRATEGY, strategy)))
        if row is not None:
            key = (account, strategy, instrument.name)
            more.duplicates = self._flow.duplicates_of(key, int(row.value), row.window_ns)
        row = self._tightest(LimitName.INTENT_COUNT, (GLOBAL, (Scope.STRATEGY, strategy)))
        if row is not None:
            bounds = int(row.value), row.window_ns
            more.intents_buy = self._flow.intents_of((strategy, instrument.name, int(BUY)), *bounds)
            more.intents_sell = self._flow.intents_of((strategy, instrument.name, int(SELL)), *bounds)
        row = self._tightest(LimitName.GLOBAL_RATE_COUNT, (GLOBAL,))
        if row is not None:
            more.global_rate = self._flow.rate(Scope.GLOBAL, "", (int(row.value), row.window_ns, row.reserve_exit))
        venue: Place = (Scope.VENUE, instrument.venue)
        row = self._tightest(LimitName.VENUE_RATE_COUNT, (GLOBAL, venue))
        if row is not None:
            more.venue_rate = self._flow.rate(*venue, (int(row.value), row.window_ns, row.reserve_exit))
        more.ratio = self._ratio(route, more.contract)
        everywhere: tuple[Place, ...] = (
            GLOBAL, (Scope.ACCOUNT, account), (Scope.STRATEGY, strategy), (Scope.INSTRUMENT, instrument.name),
        )  # fmt: skip
        more.soft_position_e9 = self._soft(LimitName.POSITION_MAX, everywhere).value
        more.soft_order_value_e9 = self._soft(LimitName.ORDER_VALUE_MAX, everywhere).value
        more.soft_open_value_e9 = self._soft(LimitName.OPEN_VALUE_MAX, everywhere).value

    def _ratio(self, route: Route, contract: Contract) -> Ratio | None:
        """Return what counts messages a trade: of the strategy, which the global row binds too, account and venue."""
        if LimitName.MESSAGE_RATIO_MAX not in self._limited:
            return None
        of_strategy, venue = (Scope.STRATEGY, route.strategy.name), (Scope.VENUE, route.instrument.venue)
        bounds: list[RatioBound] = []
        for places in ((of_strategy, GLOBAL), ((Scope.ACCOUNT, route.account.name),), (venue,)):
            hard = self._tightest(LimitName.MESSAGE_RATIO_MAX, places)
            if hard is None:
                continue
            floor = self._tightest(LimitName.MESSAGE_FLOOR, (*places, GLOBAL))
            counted = self._flow.messages_of(*places[0])
            soft = self._soft(LimitName.MESSAGE_RATIO_MAX, places).value
            least = FLOOR if floor is None else int(floor.value)
            bounds.append(RatioBound(counted, int(hard.value), soft, least, hard.scope, hard.key))
        step_e9 = route.instrument.price_step_e9
        last = self._flow.last_price_of(route.instrument.name)
        return Ratio(bounds, last, contract.otr_bp, contract.otr_absolute_e9 // step_e9) if bounds else None

    def _tightest(self, name: LimitName, places: Iterable[Place]) -> LimitRow | None:
        rows = [row for place in places if (row := self._rows.get((name, place))) is not None]
        return min(rows, key=_value, default=None)

    def _bound(self, name: LimitName, places: tuple[Place, ...]) -> Bound:
        """Return the tightest hard value; one object a row: what many routes read stays in the cache."""
        row = self._tightest(name, places)
        if row is None:
            return UNBOUND
        where = (name, (row.scope, row.key))
        known = self._bounds.get(where)
        if known is None:
            known = self._bounds[where] = Bound(int(row.value), row.scope, row.key)
        return known

    def _soft(self, name: LimitName, places: tuple[Place, ...]) -> Bound:
        found = UNBOUND
        if _SOFT[name] not in self._forwards:
            return found
        for place in places:
            row = self._rows.get((name, place))
            if row is not None and row.soft is not None and int(row.soft) < found.value:
                found = Bound(int(row.soft), row.scope, row.key)
        return found

    # Aggregates

    def margin_e9(self, account: str) -> int:
        """Return the margin of the worst case of an account; 0 where none is kept."""
        sums = self._sums.get(account)
        return 0 if sums is None else sums.margin_e9

    def refresh(self, account: str, instrument: InstrumentState, ledger: Ledger) -> None:
        """Set what one ledger contributes; for a position that moved without an order."""
        key = (account, instrument.name)
        more = self._ledgers.get(key)
        if more is None:
            more = self._ledgers[key] = self._more_of(account, instrument)
        more.refresh(ledger.position, ledger.buy, ledger.sell, ledger.traded_e9)

    def clear(self) -> None:
        """Begin new sums; every route has to be attached again."""
        for known in (self._sums, self._underlyings, self._keys, self._ledgers, self._own_prices):
            known.clear()

    def count(
        self, orders: Iterable[Reservation], ledgers: Mapping[tuple[str, str], Ledger],
        instruments: Mapping[str, InstrumentState],
    ) -> None:  # fmt: skip
        """Add up all sums, which ``clear`` took back to 0, from what is open and held."""
        for (account, name), ledger in ledgers.items():
            instrument = instruments.get(name)
            if instrument is not None:
                self.refresh(account, instrument, ledger)
        for order in orders:
            if order.route.is_complete and order.reserved_value_e9:
                order.route.more.reserve(order.side, 0, order.reserved_value_e9)
            note_price(order)


def is_needed(params: Params) -> bool:
    """Whether any parameter of the complete gate is given at all."""
    return bool(
        params.contracts
        or params.venues
        or params.restrictions
        or any(row.name in _FURTHER or row.name in LOSS_LIMITS or row.soft is not None for row in params.limits)
        or any(change.name in _FURTHER or change.name in LOSS_LIMITS for change in params.changes)
        or any(a.checks_cash or a.checks_margin or a.checks_crossing for a in params.accounts)
        or any(not (a.option_write and a.short_sell) for a in params.accounts)
        or any(not (s.option_write and s.short_sell) for s in params.strategies)
    )


def _newest(rows: Iterable[VenueRow], trading_date: int) -> list[VenueRow]:
    found = [row for row in rows if counts_on(row.effective_from, row.effective_to, trading_date)]
    return sorted(found, key=_from)


def _from(row: VenueRow) -> int:
    return row.effective_from


def _value(row: LimitRow) -> int:
    return int(row.value)


def _concerns(row: RestrictionRow, account: str, strategy: str, instrument: str, underlying: str) -> bool:
    return (
        row.account in {"", account}
        and row.strategy in {"", strategy}
        and (
            (row.instrument != "" and row.instrument == instrument)
            or (row.underlying != "" and row.underlying == underlying)
        )
    )
