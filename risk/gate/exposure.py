"""The exposure book: the one owner of positions, pending orders, reservations and rate logs.

It is told what an order's leaves are now (``set_leaves``: set, never decrement, RISK.md L5) and what was filled.
Per ledger key: P signed filled, B and S the leaves of every order that could still buy or sell, from acceptance to
the terminal event. hi = P + B and lo = P - S bound every position that can be reached (RISK.md A1).
Quantities count quantity steps, prices price steps, money 1e-9.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import OrderType, Side, TimeInForce, TradingState
from protocol.params import ContractKind, InstrumentParams, InstrumentStatus
from protocol.venue import Capabilities
from risk.gate.money import Collateral, Money, paid_e9
from risk.gate.more import BP, NOTHING, UNLIMITED, Bound, Limits, More
from risk.gate.rate import RateLog
from risk.gate.same import same
from risk.gate.watch import Watch

BUY: Final = Side.BUY
E18: Final = 10**18
PLAIN_TIMES: Final[tuple[TimeInForce, ...]] = (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)
SPOT: Final = ContractKind.SPOT


class Ledger:
    """P, B and S of one key; ``outside``: how much of P did not come from trades (opening, adjustments).

    ``traded_e9``: what the trades of P paid (-) and got (+), fees apart; with what P would close for, its profit.
    """

    __slots__ = ("buy", "outside", "position", "sell", "traded_e9")

    def __init__(self, position: int = 0, buy: int = 0, sell: int = 0) -> None:
        self.position = position
        self.buy = buy
        self.sell = sell
        self.outside = 0
        self.traded_e9 = 0

    def is_exit(self, side: Side, quantity: int) -> bool:
        """Whether the order, with all pending ones of its side filled, still cannot cross zero (RISK.md A1)."""
        if side is BUY:
            return self.position < 0 and self.position + self.buy + quantity <= 0
        return self.position > 0 and self.position - self.sell - quantity >= 0

    def reach(self, side: Side) -> int:
        """Return the worst-case position on a side as a positive number: hi for BUY, -lo for SELL."""
        return self.position + self.buy if side is BUY else self.sell - self.position


class InstrumentState:
    """The contract of one instrument, in steps, and its trading state."""

    __slots__ = (
        "bounds",
        "capabilities",
        "collar_buy_bp",
        "collar_divisor",
        "collar_sell_bp",
        "currency",
        "expiry_ns",
        "index",
        "kind",
        "limit_times",
        "lot",
        "market_times",
        "multiplier_e9",
        "name",
        "price_step_e9",
        "quantity_max",
        "quantity_min",
        "quantity_step_e9",
        "state",
        "step_value_e27",
        "tick",
        "tick_age_max_ns",
        "tradable",
        "unit_value_e9",
        "venue",
    )

    def __init__(self, params: InstrumentParams) -> None:
        self.name = params.instrument
        self.price_step_e9 = same(params.price_step_e9)
        self.quantity_step_e9 = same(params.quantity_step_e9)
        self.state = TradingState.ACTIVE
        self.index = -1  # of the last-value table; found by the loop
        self.bounds: tuple[Bound, ...] = ()  # of limits.LimitTable
        self.take_capabilities(None)
        self.update(params)

    def take_capabilities(self, capabilities: Capabilities | None) -> None:
        """Take what the venue takes; None = nobody said, so everything that an order can be.

        GTD is in neither tuple: it needs a time, which plain orders do not have.
        """
        self.capabilities = capabilities
        times, types = PLAIN_TIMES, None
        if capabilities is not None:
            types = capabilities.order_types
            times = tuple(t for t in PLAIN_TIMES if t in capabilities.times_in_force)
        self.limit_times = times if types is None or OrderType.LIMIT in types else ()
        # A MARKET order can't rest, so it can't be good till cancelled.
        market = tuple(t for t in times if t is not TimeInForce.GTC)
        self.market_times = market if types is None or OrderType.MARKET in types else ()

    def update(self, params: InstrumentParams) -> None:
        """Take new dated parameters; the steps are for ever."""
        assert params.price_step_e9 == self.price_step_e9
        assert params.quantity_step_e9 == self.quantity_step_e9
        self.venue = params.venue
        self.currency = params.currency
        self.kind = params.kind
        self.multiplier_e9 = params.multiplier_e9
        self.tick = same(params.tick_e9 // params.price_step_e9)
        self.lot = same(params.lot_e9 // params.quantity_step_e9)
        self.quantity_min = same(-(-params.quantity_min_e9 // params.quantity_step_e9))
        self.quantity_max = same(params.quantity_max_e9 // params.quantity_step_e9)
        self.collar_buy_bp = same(BP + params.collar_bp)
        self.collar_sell_bp = same(BP - params.collar_bp)
        self.collar_divisor = same(BP * params.price_step_e9)
        self.tick_age_max_ns = params.tick_age_max_ns
        self.tradable = params.status is InstrumentStatus.OPEN
        self.expiry_ns = params.expiry_ns
        self.step_value_e27 = same(params.price_step_e9 * params.quantity_step_e9 * params.multiplier_e9)
        # One step of quantity times one of price where that is a whole number of 1e-9, else 0: nothing to round.
        exact = params.kind is not ContractKind.INVERSE and self.step_value_e27 % E18 == 0
        self.unit_value_e9 = same(self.step_value_e27 // E18) if exact else 0

    def value_e9(self, quantity: int, price: int) -> int:
        """Return the value of ``quantity`` steps at ``price`` steps, in 1e-9 of the currency, rounded up.

        LINEAR and SPOT q·p·multiplier; INVERSE q·multiplier/p. The one place where value is rounded.
        """
        if self.kind is ContractKind.INVERSE:
            price_e9 = price * self.price_step_e9
            return -(-quantity * self.quantity_step_e9 * self.multiplier_e9 // price_e9) if price_e9 > 0 else UNLIMITED
        return -(-quantity * price * self.step_value_e27 // E18)

    def collar(self, side: Side, reference_e9: int) -> int:
        """Return the worst price, in steps, that the collar lets the side pay or take; rounded inward."""
        if side is BUY:
            return reference_e9 * self.collar_buy_bp // self.collar_divisor
        return -(-reference_e9 * self.collar_sell_bp // self.collar_divisor)


class AccountState:
    """What is counted per account.

    ``cash_e9`` by currency: what was loaded and adjusted, less what SPOT trades paid, less fees; what contracts gained
    is in their ledgers until an operator books a settlement. ``fees_e9`` by currency, negative = rebates; both as
    venues reported. ``collateral`` by asset.
    """

    __slots__ = (
        "bounds", "cash_e9", "collateral", "currency", "fees_e9", "name", "open_count", "open_value_e9", "rate",
        "state",
    )  # fmt: skip

    def __init__(self, name: str, currency: str) -> None:
        self.name = name
        self.currency = currency
        self.state = TradingState.ACTIVE
        self.bounds: tuple[Bound, ...] = ()  # of limits.LimitTable
        self.open_count = 0
        self.open_value_e9 = 0
        self.rate: RateLog | None = None
        self.cash_e9: dict[str, int] = {}
        self.fees_e9: dict[str, int] = {}
        self.collateral: dict[str, Collateral] = {}

    def move_cash(self, currency: str, change_e9: int) -> None:
        """Add to the cash of a currency."""
        self.cash_e9[currency] = self.cash_e9.get(currency, 0) + change_e9

    def pay_fee(self, currency: str, fee_e9: int) -> None:
        """Book a fee as the venue reported it; negative is a rebate, or one given back."""
        self.fees_e9[currency] = self.fees_e9.get(currency, 0) + fee_e9
        self.move_cash(currency, -fee_e9)


class StrategyState:
    """What is counted per strategy."""

    __slots__ = ("bounds", "name", "rate", "state", "ttl_ns")

    def __init__(self, name: str, ttl_ns: int) -> None:
        self.name = name
        self.ttl_ns = ttl_ns
        self.bounds: tuple[Bound, ...] = ()  # of limits.LimitTable
        self.state = TradingState.ACTIVE
        self.rate: RateLog | None = None


class Route:
    """(account, strategy, instrument) with everything the gate needs of it, looked up once.

    ``ledger`` is the account's, ``own`` the strategy's own part of it: the scope that is REDUCING decides which
    one says what an exit is (RISK.md A1). ``is_complete``: its orders take the complete gate, which reads ``more``.
    ``watch``: what its venue's reports are counted by; None = they are not.
    """

    __slots__ = ("account", "instrument", "is_complete", "ledger", "limits", "more", "own", "strategy", "watch")

    def __init__(
        self,
        account: AccountState,
        strategy: StrategyState,
        instrument: InstrumentState,
        ledger: Ledger,
        own: Ledger,
        limits: Limits,
    ) -> None:
        self.account = account
        self.strategy = strategy
        self.instrument = instrument
        self.ledger = ledger
        self.own = own
        self.limits = limits
        self.more: More = NOTHING
        self.is_complete = False
        self.watch: Watch | None = None


class Reservation:
    """What an order holds in the book. Orders of the engine are reservations with a life cycle.

    ``price`` is the effective price in steps: the limit, or the collar bound of a MARKET order.
    """

    __slots__ = ("leaves", "price", "reserved_value_e9", "route", "side")

    def __init__(self, route: Route, side: Side, price: int, leaves: int, reserved_value_e9: int) -> None:
        self.route = route
        self.side = side
        self.price = price
        self.leaves = leaves
        self.reserved_value_e9 = reserved_value_e9

    def resting_price(self) -> int:
        """Return the price, in steps, at which an order of the other side would trade with it; 0 = none does."""
        return self.price


class ExposureBook:
    """Positions and reservations of all ledgers of one shard."""

    __slots__ = ("ledgers", "money", "state")

    def __init__(self) -> None:
        self.state = TradingState.ACTIVE
        self.money = Money()
        self.ledgers: dict[tuple[str, str], Ledger] = {}

    def ledger(self, account: str, instrument: str) -> Ledger:
        """Return the ledger of the key, making an empty one the first time."""
        key = (account, instrument)
        found = self.ledgers.get(key)
        if found is None:
            found = self.ledgers[key] = Ledger()
        return found

    def set_leaves(self, order: Reservation, leaves: int) -> None:
        """Set what of the order can still be filled; all that is reserved for it follows."""
        before = order.leaves
        if leaves == before:
            return
        assert before, "a closed order reserves nothing again"
        route = order.route
        change = leaves - before
        ledger, own, account = route.ledger, route.own, route.account
        if order.side is BUY:
            ledger.buy += change
            own.buy += change
        else:
            ledger.sell += change
            own.sell += change
        value = route.instrument.value_e9(leaves, order.price) if leaves else 0
        if route.is_complete:
            route.more.reserve(order.side, order.reserved_value_e9, value)
            _refresh(route)
            if not leaves and route.more.own_prices is not None:
                route.more.own_prices.note(order, order.side, 0)
        account.open_value_e9 += value - order.reserved_value_e9
        order.reserved_value_e9 = value
        if leaves == 0:
            account.open_count -= 1
        order.leaves = leaves

    def set_terms(self, order: Reservation, leaves: int, price: int) -> None:
        """Set leaves and effective price of an open order at once: other terms, or the worst of two."""
        route = order.route
        if price != order.price:
            value = route.instrument.value_e9(order.leaves, price)
            if route.is_complete:
                route.more.reserve(order.side, order.reserved_value_e9, value)
            route.account.open_value_e9 += value - order.reserved_value_e9
            order.reserved_value_e9 = value
            order.price = price
        self.set_leaves(order, leaves)
        if route.is_complete:
            note_price(order)

    def charge(self, order: Reservation, now_ns: int) -> None:
        """Count a message about an order against its rate limits."""
        for rate in (order.route.account.rate, order.route.strategy.rate):
            if rate is not None:
                rate.charge(now_ns)
        if order.route.is_complete:
            order.route.more.charge(now_ns)

    def open(self, order: Reservation, now_ns: int) -> None:
        """Take an order that comes with its leaves and value set, and count it against its rate limits."""
        route = order.route
        leaves, ledger, own = order.leaves, route.ledger, route.own
        if order.side is BUY:
            ledger.buy += leaves
            own.buy += leaves
        else:
            ledger.sell += leaves
            own.sell += leaves
        account = route.account
        account.open_value_e9 += order.reserved_value_e9
        account.open_count += 1
        rate = account.rate
        if rate is not None:
            rate.charge(now_ns)
        rate = route.strategy.rate
        if rate is not None:
            rate.charge(now_ns)
        if route.is_complete:
            more = route.more
            more.charge(now_ns)
            reach = ledger.position + ledger.buy if order.side is BUY else ledger.sell - ledger.position
            more.grow(order.side, reach, order.reserved_value_e9)
            if more.own_prices is not None:
                note_price(order)

    def suspend(self, order: Reservation, now_ns: int) -> None:
        """Take an order that waits: it is open and charged for, and reserves nothing."""
        order.route.account.open_count += 1
        self.charge(order, now_ns)

    def take(self, order: Reservation, leaves: int, value_e9: int) -> None:
        """Take an order that is held: it is open and reserves all it may need; it is charged for when it is sent."""
        order.route.account.open_count += 1
        self.hold(order, leaves, value_e9)

    def drop(self, order: Reservation) -> None:
        """Take a waiting order out: it ended, and nothing of it was ever reserved."""
        order.route.account.open_count -= 1

    def hold(self, order: Reservation, leaves: int, value_e9: int) -> None:
        """Set what a waiting order reserves besides what it waits for; with nothing reserved it stays open."""
        route = order.route
        change = leaves - order.leaves
        if order.side is BUY:
            route.ledger.buy += change
            route.own.buy += change
        else:
            route.ledger.sell += change
            route.own.sell += change
        route.account.open_value_e9 += value_e9 - order.reserved_value_e9
        before_e9 = order.reserved_value_e9
        order.leaves, order.reserved_value_e9 = leaves, value_e9
        if route.is_complete:
            _follow(order, before_e9)

    def release(self, order: Reservation, leaves: int, price: int) -> None:
        """Reserve for a waiting order, which goes out now."""
        assert leaves > 0, f"an order that goes out reserves something, was {leaves}"
        assert order.leaves == 0, f"a waiting order reserves nothing, was {order.leaves}"
        route = order.route
        if order.side is BUY:
            route.ledger.buy += leaves
            route.own.buy += leaves
        else:
            route.ledger.sell += leaves
            route.own.sell += leaves
        order.leaves, order.price = leaves, price
        order.reserved_value_e9 = route.instrument.value_e9(leaves, price)
        route.account.open_value_e9 += order.reserved_value_e9
        if route.is_complete:
            _follow(order, 0)

    def reopen(self, order: Reservation, leaves: int) -> None:
        """Reserve again for an order that works though nothing was left: a fill of it was taken back."""
        assert order.leaves == 0, f"a reopened order reserved nothing, was {order.leaves}"
        order.route.account.open_count += 1
        self.release(order, leaves, order.price)

    def move(self, route: Route, signed: int) -> None:
        """Move a position by what a venue said of a trade later on."""
        ledger = route.ledger
        ledger.position += signed
        route.own.position += signed
        if route.is_complete:
            _refresh(route)

    def fill(self, order: Reservation, quantity: int) -> None:
        """Book a fill; the leaves are set apart."""
        signed = quantity if order.side is BUY else -quantity
        route = order.route
        route.ledger.position += signed
        route.own.position += signed
        if route.is_complete:
            route.more.fill(order.side)
            _refresh(route)

    def pay(self, route: Route, signed: int, price_e9: int) -> int:
        """Book what a trade of ``signed`` steps paid, and return it; 0 where money is not booked."""
        if not self.money.is_booked:
            return 0
        instrument = route.instrument
        paid = paid_e9(instrument.kind, instrument.multiplier_e9, signed * instrument.quantity_step_e9, price_e9)
        self.move_money(route, paid)
        return paid

    def move_money(self, route: Route, change_e9: int) -> None:
        """Book what trades of a route pay: into both ledgers, and out of the cash where the whole value is paid."""
        route.ledger.traded_e9 += change_e9
        route.own.traded_e9 += change_e9
        if route.instrument.kind is SPOT:
            route.account.move_cash(route.instrument.currency, change_e9)
        if route.is_complete:
            _refresh(route)


def note_price(order: Reservation) -> None:
    """Have known at which price an order may trade, where the account's orders may not trade with each other."""
    prices = order.route.more.own_prices
    if prices is not None:
        prices.note(order, order.side, order.resting_price() if order.leaves else 0)


def _refresh(route: Route) -> None:
    """Let the aggregates of the complete gate follow a ledger."""
    ledger = route.ledger
    route.more.refresh(ledger.position, ledger.buy, ledger.sell, ledger.traded_e9)


def _follow(order: Reservation, before_e9: int) -> None:
    """Let the aggregates of the complete gate follow an order that reserved the value ``before_e9`` until now."""
    more = order.route.more
    more.reserve(order.side, before_e9, order.reserved_value_e9)
    _refresh(order.route)
    note_price(order)
