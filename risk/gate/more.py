"""What the complete gate needs of a route beyond the plain one, and the aggregates it keeps as orders come and go.

A route without any parameter of the complete gate shares ``NOTHING`` and takes the plain gate: absent parameters cost
nothing. Exposures, margins and cash reserved derive from ledgers, open orders and parameters, so they stand in no
snapshot: ``further`` makes them anew. What was counted (``flow``) does not derive, and is state.

Exposure of one ledger key, RISK.md A1: E = max(max(hi, 0)·wl, max(-lo, 0)·ws), with hi = P + B and lo = P - S. Margin
has the same shape, with money a lot for weights, so it covers every position that the open orders can lead to. Delta
counts both ends: up is the larger of δ·hi and δ·lo, down the smaller.
"""

from __future__ import annotations

from math import gcd
from typing import Final

from protocol.codes import Scope, Side
from risk.gate.crossing import OwnPrices
from risk.gate.flow import NO_INTENTS, Duplicates, Signature, Tally
from risk.gate.money import Collateral, Money
from risk.gate.pnl import Pnl
from risk.gate.rate import RateLog
from risk.gate.ratio import Ratio
from risk.gate.usual import NOTHING_USUAL, Usual

BUY: Final = Side.BUY
NEVER_NS: Final = 1 << 63
UNLIMITED: Final = 1 << 200
BP: Final = 10_000
FEE_DIVISOR: Final = BP * 10**9
FEE_BITS: Final = 40
OPEN: Final = 0
EXITS_PASS: Final = 1
ALL_REFUSED: Final = 2


class Bound:
    """The tightest limit of one name over some scopes, and where it stands."""

    __slots__ = ("key", "scope", "value")

    def __init__(self, value: int = UNLIMITED, scope: Scope = Scope.GLOBAL, key: str = "") -> None:
        self.value = value
        self.scope = scope
        self.key = key


UNBOUND: Final = Bound()


class Limits:
    """The values that bind an order over all its scopes; shared by all routes they are the same for, never changed.

    ``bounds`` says where each stands, in the order of the fields before it.
    """

    __slots__ = ("bounds", "open_count", "open_value_e9", "order_value_e9", "position_e9", "quantity_e9")

    def __init__(
        self,
        quantity_e9: int,
        order_value_e9: int,
        open_value_e9: int,
        open_count: int,
        position_e9: int,
        bounds: tuple[Bound, ...],
    ) -> None:
        self.quantity_e9 = quantity_e9
        self.order_value_e9 = order_value_e9
        self.open_value_e9 = open_value_e9
        self.open_count = open_count
        self.position_e9 = position_e9
        self.bounds = bounds


CONTRACT_FIELDS: Final = (
    "band_high_e9", "band_low_e9", "close_ns", "collar_soft_bp", "cutoff_buy_ns", "cutoff_sell_ns", "delta",
    "exposure_long_e18", "exposure_short_e18", "fee", "fee_2e40", "fee_divisor", "freeze_e9", "is_book_checked",
    "is_option", "is_owned", "is_paid", "is_premium", "is_protected", "lpp_absolute_e9", "lpp_bp", "lpp_break_e9",
    "margin_long_e9", "margin_short_e9", "margin_steps", "open_ns", "otr_absolute_e9", "otr_bp",
    "underlying", "value_min_e9",
)  # fmt: skip


class Contract:
    """Further parameters of one instrument, resolved for a trading date. Prices, quantities, money in 1e-9.

    ``margin_*_e9`` for ``margin_steps``, in money; ``exposure_*_e18`` a quantity step, in 1e-18; ``delta`` a quantity
    step, in 1e-13 of a unit of the underlying (1e-9 times basis points). The fee is ``fee`` over ``fee_divisor`` of the
    value; ``fee_2e40`` is the same in binary and rounded up, for a bound without a division.
    """

    __slots__ = CONTRACT_FIELDS

    def values(self) -> tuple[object, ...]:
        """Return all of it, to find one that is the same."""
        return tuple(getattr(self, name) for name in CONTRACT_FIELDS)

    def __init__(self) -> None:
        self.open_ns = 0
        self.close_ns = NEVER_NS
        self.cutoff_buy_ns = NEVER_NS
        self.cutoff_sell_ns = NEVER_NS
        self.band_low_e9 = 0
        self.band_high_e9 = UNLIMITED
        self.lpp_break_e9 = 0
        self.lpp_absolute_e9 = 0
        self.lpp_bp = 0
        self.otr_bp = 0
        self.otr_absolute_e9 = 0
        self.freeze_e9 = UNLIMITED
        self.value_min_e9 = 0
        self.collar_soft_bp = 0
        self.margin_steps = 1
        self.margin_long_e9 = 0
        self.margin_short_e9 = 0
        self.exposure_long_e18 = 0
        self.exposure_short_e18 = 0
        self.delta = 0
        self.fee = 0
        self.fee_divisor = 1
        self.fee_2e40 = 0
        self.is_book_checked = False
        self.is_option = False
        self.is_owned = False
        self.is_paid = False
        self.is_premium = False
        self.is_protected = False
        self.underlying = ""

    def lpp_width_e9(self, reference_e9: int) -> int:
        """Return how far a limit price may be from the reference; 0 = no protection. Rounded inward."""
        if reference_e9 <= self.lpp_break_e9:
            return self.lpp_absolute_e9
        return reference_e9 * self.lpp_bp // BP

    def take_margins(self, long_e9: int, short_e9: int, lot: int) -> None:
        """Take what a long and a short lot of so many steps need, in lowest terms: most need no division then."""
        common = gcd(long_e9, short_e9, lot)
        self.margin_long_e9, self.margin_short_e9 = long_e9 // common, short_e9 // common
        self.margin_steps = lot // common

    def take_fee(self, fee_bp_e9: int) -> None:
        """Take a fee rate of ``InstrumentParams``, in lowest terms: small numbers are quick ones. A rebate is none."""
        fee = max(0, fee_bp_e9)
        common = gcd(fee, FEE_DIVISOR)
        self.fee, self.fee_divisor = fee // common, FEE_DIVISOR // common
        self.fee_2e40 = -((-fee << FEE_BITS) // FEE_DIVISOR)

    def cash_e9(self, side: Side, value_e9: int) -> int:
        """Return the cash that an order of this value may take: what is paid for, and the fee; rounded up."""
        fee_e9 = (value_e9 * self.fee + self.fee_divisor - 1) // self.fee_divisor
        return fee_e9 + value_e9 if self.is_paid and side is BUY else fee_e9

    def margin_e9(self, high: int, low: int) -> int:
        """Return the margin of a ledger that can reach ``high`` and ``low``, in steps; rounded up."""
        long_e9 = -(-high * self.margin_long_e9 // self.margin_steps) if high > 0 else 0
        short_e9 = -(low * self.margin_short_e9 // self.margin_steps) if low < 0 else 0
        return max(long_e9, short_e9)


class AccountSums:
    """Aggregates of one account over all its ledgers and open orders."""

    __slots__ = ("cash_reserved_e9", "gross_e18", "margin_e9")

    def __init__(self, gross_e18: int = 0, margin_e9: int = 0, cash_reserved_e9: int = 0) -> None:
        self.gross_e18 = gross_e18
        self.margin_e9 = margin_e9
        self.cash_reserved_e9 = cash_reserved_e9

    def copy(self) -> AccountSums:
        """Return one of its own."""
        return AccountSums(self.gross_e18, self.margin_e9, self.cash_reserved_e9)


class UnderlyingSums:
    """Worst-case delta of one account in one underlying: ``up`` and ``down`` net, ``long`` and ``short`` apart."""

    __slots__ = ("down", "long", "short", "up")

    def __init__(self, up: int = 0, down: int = 0, long: int = 0, short: int = 0) -> None:
        self.up = up
        self.down = down
        self.long = long
        self.short = short

    def copy(self) -> UnderlyingSums:
        """Return one of its own."""
        return UnderlyingSums(self.up, self.down, self.long, self.short)


class KeySums:
    """What one (account, instrument) contributes; ``high``, ``low``: the ends, in steps, that it was made from."""

    __slots__ = ("exposure_e18", "high", "low", "margin_e9", "spent_e9")

    def __init__(self) -> None:
        self.exposure_e18 = 0
        self.margin_e9 = 0
        self.spent_e9 = 0  # premiums paid that no settlement took out of the cash yet
        self.high = self.low = 0

    def copy(self) -> KeySums:
        """Return one of its own."""
        made = KeySums()
        made.exposure_e18, made.margin_e9, made.spent_e9 = self.exposure_e18, self.margin_e9, self.spent_e9
        made.high, made.low = self.high, self.low
        return made


USED_FIELDS: Final = (
    "account", "account_day", "bounds_delta", "cash_e9", "checks_margin", "contract", "currency", "duplicates",
    "global_rate", "intents_buy", "intents_sell", "key", "own_prices", "pnl", "ratio", "reserves", "strategy_day",
    "underlying", "usual", "venue_rate",
)  # fmt: skip
SELDOM_FIELDS: Final = (
    "banned", "bounds_gross", "checks_cash", "collateral", "gross_least_e18", "gross_max", "gross_soft",
    "lacks_algo_id", "money", "net_least", "net_max", "no_short", "no_write", "per_account", "per_strategy",
    "restricted", "side_least", "soft_open_value_e9", "soft_order_value_e9", "soft_position_e9",
    "underlying_max",
)  # fmt: skip


class Used:
    """What every order uses of a route's parameters and sums: first in memory, in half as many lines of the cache."""

    __slots__ = USED_FIELDS


class More(Used):
    """Parameters, limits, counters and aggregates of one route. Bounds: their ``value`` is what a check compares."""

    __slots__ = SELDOM_FIELDS

    def __init__(
        self, contract: Contract | None = None, account: AccountSums | None = None,
        underlying: UnderlyingSums | None = None, key: KeySums | None = None,
    ) -> None:  # fmt: skip
        self.contract = Contract() if contract is None else contract
        self.account = AccountSums() if account is None else account
        self.underlying = UnderlyingSums() if underlying is None else underlying
        self.key = KeySums() if key is None else key
        self.usual: Usual = NOTHING_USUAL  # of all the rest that is a parameter
        self.restricted = OPEN
        self.banned = False
        self.no_write = False
        self.no_short = False
        self.own_prices: OwnPrices | None = None  # None = the account's orders may trade with each other
        self.ratio: Ratio | None = None  # None = messages a trade are not counted
        self.lacks_algo_id = False
        self.pnl: Pnl | None = None  # None = no limit on losses concerns the account
        self.checks_cash = False
        self.checks_margin = False
        # Whether any row reads them: exposure, delta, cash reserved.
        self.bounds_gross = True
        self.bounds_delta = True
        self.reserves = True
        self.currency = ""
        self.cash_e9: dict[str, int] = {}
        self.collateral: dict[str, Collateral] = {}
        self.money: Money | None = None
        self.gross_max = UNBOUND
        self.gross_soft = UNBOUND
        self.net_max = UNBOUND
        self.underlying_max = UNBOUND
        self.per_account = UNBOUND
        self.per_strategy = UNBOUND
        self.account_day = Tally()
        self.strategy_day = Tally()
        self.duplicates: Duplicates | None = None
        self.intents_buy = NO_INTENTS
        self.intents_sell = NO_INTENTS
        self.global_rate: RateLog | None = None
        self.venue_rate: RateLog | None = None
        self.soft_position_e9 = UNLIMITED
        # The tighter of hard and soft, in the units of the sums: what ``is_tight`` compares.
        self.gross_least_e18 = UNLIMITED
        self.net_least = UNLIMITED
        self.side_least = UNLIMITED
        self.soft_order_value_e9 = UNLIMITED
        self.soft_open_value_e9 = UNLIMITED

    def charge(self, now_ns: int) -> None:
        """Count a message to the venue."""
        self.account_day.count += 1
        self.strategy_day.count += 1
        if self.global_rate is not None:
            self.global_rate.charge(now_ns)
        if self.venue_rate is not None:
            self.venue_rate.charge(now_ns)

    def take(self, side: Side, signature: Signature, now_ns: int) -> None:
        """Remember an accepted order by its terms."""
        if self.duplicates is not None:
            self.duplicates.take(signature, now_ns)
        intents = self.intents_buy if side is BUY else self.intents_sell
        if intents is not NO_INTENTS:
            intents.take(now_ns)

    def fill(self, side: Side) -> None:
        """Take note of a fill: what was meant so often had an effect."""
        intents = self.intents_buy if side is BUY else self.intents_sell
        if intents is not NO_INTENTS:
            intents.clear()
        if self.ratio is not None:
            self.ratio.take_trade()

    def pledged_e9(self) -> int:
        """Return what the account's collateral counts for in the instrument's currency; without a mark: nothing."""
        total_e9 = 0
        if self.money is not None:
            for pledged in self.collateral.values():
                total_e9 += self.money.usable_e9(pledged.usable_e9, pledged.currency, self.currency) or 0
        return total_e9

    def reserve(self, side: Side, before_e9: int, after_e9: int) -> None:
        """Set what an order reserves in cash: it reserved the value ``before_e9``, and reserves ``after_e9``."""
        if self.reserves:
            cash_e9 = self.contract.cash_e9
            self.account.cash_reserved_e9 += cash_e9(side, after_e9) - cash_e9(side, before_e9)

    def grow(self, side: Side, reach: int, value_e9: int) -> None:
        """Set what this ledger contributes with one order more, which raises the end on its side only; O(1).

        The same as ``reserve`` and ``refresh`` would. Written out: it runs for every order.

        Args:
            side: Of the order.
            reach: The worst-case position on that side with it, as a positive number, in steps.
            value_e9: What the order reserves.
        """
        contract, key, account = self.contract, self.key, self.account
        is_buy = side is BUY
        if is_buy:
            before, key.high = key.high, reach
        else:
            before, key.low = -key.low, -reach
        if reach > 0:
            weight = contract.exposure_long_e18 if is_buy else contract.exposure_short_e18
            if weight:
                exposure = reach * weight
                if exposure > key.exposure_e18:
                    account.gross_e18 += exposure - key.exposure_e18
                    key.exposure_e18 = exposure
            if self.checks_margin:
                margin = reach * (contract.margin_long_e9 if is_buy else contract.margin_short_e9)
                if contract.margin_steps != 1:
                    margin = -(-margin // contract.margin_steps)
                if margin > key.margin_e9:
                    account.margin_e9 += margin - key.margin_e9
                    key.margin_e9 = margin
        if self.reserves:
            cash_e9 = (value_e9 * contract.fee + contract.fee_divisor - 1) // contract.fee_divisor
            if is_buy and contract.is_paid:
                cash_e9 += value_e9
            account.cash_reserved_e9 += cash_e9
        delta = contract.delta
        if delta and self.bounds_delta:
            of, size = self.underlying, delta if delta > 0 else -delta
            grown = (reach - before) * size
            held = grown if before >= 0 else max(0, reach) * size
            if is_buy is (delta > 0):
                of.up += grown
                of.long += held
            else:
                of.down -= grown
                of.short += held

    def refresh(self, position: int, buy: int, sell: int, traded_e9: int) -> None:
        """Set what this ledger contributes, from what can be reached now and what its trades paid; O(1).

        Written out: it runs for every fill, and a call, also of max, costs as much as the sum it makes.
        """
        contract, key, account = self.contract, self.key, self.account
        if contract.is_premium and self.reserves:
            spent_e9 = -traded_e9 if traded_e9 < 0 else 0
            if spent_e9 != key.spent_e9:
                account.cash_reserved_e9 += spent_e9 - key.spent_e9
                key.spent_e9 = spent_e9
        high, low = position + buy, position - sell
        was_high, was_low = key.high, key.low
        if high == was_high and low == was_low:
            return
        key.high, key.low = high, low
        long = high if high > 0 else 0  # noqa: FURB136
        short = -low if low < 0 else 0
        exposure, other = long * contract.exposure_long_e18, short * contract.exposure_short_e18
        if other > exposure:  # noqa: PLR1730
            exposure = other
        if exposure != key.exposure_e18:
            account.gross_e18 += exposure - key.exposure_e18
            key.exposure_e18 = exposure
        if self.checks_margin:
            margin = -(-long * contract.margin_long_e9 // contract.margin_steps)
            other = -(-short * contract.margin_short_e9 // contract.margin_steps)
            if other > margin:  # noqa: PLR1730
                margin = other
            account.margin_e9 += margin - key.margin_e9
            key.margin_e9 = margin
        delta = contract.delta
        if delta and self.bounds_delta:
            of = self.underlying
            rise, fall = (high - was_high) * delta, (low - was_low) * delta
            long -= was_high if was_high > 0 else 0  # noqa: FURB136
            short -= -was_low if was_low < 0 else 0
            if delta > 0:
                of.up += rise
                of.down += fall
                of.long += long * delta
                of.short += short * delta
            else:
                of.up += fall
                of.down += rise
                of.long -= short * delta
                of.short -= long * delta

    def alone(self) -> More:
        """Return one with the same parameters and sums of its own: for orders that are only looked at."""
        made = More()
        for name in (*USED_FIELDS, *SELDOM_FIELDS):
            setattr(made, name, getattr(self, name))
        return made


NOTHING: Final = More()
"""Of every route that the plain gate is enough for; never changed."""
