"""Parameters of portfolio risk for one date: contracts, products, spreads, limits, stress.

They are data: ``rows`` reads dated rows with their sources and resolves them to this. Amounts in 1e-9, rates in basis
points, volatilities in 1e-9 a year, durations in ns. Rule: a parameter without a row is absent and has no effect, but
for the scan ranges, without which a product can't be margined at all.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from protocol.units import E9

DAY_NS: Final = 86_400 * E9


class ContractKind(IntEnum):
    """What a contract pays."""

    FUTURE = 0
    CALL = 1
    PUT = 2


class Settlement(IntEnum):
    """How it ends."""

    CASH = 0
    DELIVERY = 1


class Contract(Struct, frozen=True, forbid_unknown_fields=True):
    """One contract.

    Attributes:
        expiry_ns: 0 = never (a perpetual future).
        multiplier_e9: Units of the underlying per unit of quantity.
        lot_e9: Smallest change of quantity; ``quantity_max_e9`` the most in one order, 0 = no bound.
        tick_e9: Smallest change of price; 0 = none is known.
    """

    instrument: str
    underlying: str
    kind: ContractKind
    lot_e9: int
    expiry_ns: int = 0
    strike_e9: int = 0
    multiplier_e9: int = E9
    quantity_max_e9: int = 0
    tick_e9: int = 0
    settlement: Settlement = Settlement.CASH


class Product(Struct, frozen=True, forbid_unknown_fields=True):
    """How one underlying is margined on a date (RISK.md B2, B3).

    Attributes:
        price_scan_bp: Scan range of the price, of the underlying's; ``price_scan_e9`` > 0 is absolute and comes first.
        vol_scan_e9: Scan range of the volatility, absolute.
        extreme_multiple, extreme_cover_bp: Scenarios 15 and 16: so many scan ranges, of whose loss this share counts.
        look_ahead_ns: Time that passes in every scenario.
        rate_bp: Of interest, continuously compounded.
        delta_weights_e9: Of a composite delta: the price as it is, and moved by 1/3, 2/3 and 3/3 either way.
        calendar_charge_e9: Money per delta unit spread over two expiries; 0 = ``calendar_bp`` of the far forward.
        calendar_near_excluded: On its expiry day a leg is no part of a spread.
        short_option_minimum_e9: Money per unit of a short option.
        exposure_bp: Of futures' price and of short options' underlying. Of a pair of futures only a share of the far
            leg counts, ``calendar_exposure_bp``; 10,000 = no such relief, both legs count whole.
        expiry_exposure_bp: More of it for short options on the day they expire.
        ad_hoc_bp: As ``exposure_bp``, and more.
        deep_otm_bp, deep_otm_from_bp: More for short options whose strike is so far from the underlying.
        delivery_bp: Of long in-the-money options to be delivered: share of the margin that is due so many
            trading days before expiry (0 = on the day); ``delivery_margin_bp`` is that margin, of quantity x strike.
        hold_to_expiry: New risk has to bear the margin of its expiry day too (RISK.md B5).
    """

    underlying: str
    price_scan_bp: int = 0
    price_scan_e9: int = 0
    vol_scan_e9: int = 0
    extreme_multiple: int = 2
    extreme_cover_bp: int = 3_500
    look_ahead_ns: int = DAY_NS
    rate_bp: int = 0
    delta_weights_e9: tuple[int, int, int, int] = (E9, 0, 0, 0)
    calendar_charge_e9: int = 0
    calendar_bp: int = 0
    calendar_near_excluded: bool = False
    short_option_minimum_e9: int = 0
    exposure_bp: int = 0
    calendar_exposure_bp: int = 10_000
    expiry_exposure_bp: int = 0
    ad_hoc_bp: int = 0
    deep_otm_bp: int = 0
    deep_otm_from_bp: int = 3_000
    delivery_margin_bp: int = 0
    delivery_bp: tuple[int, ...] = ()
    hold_to_expiry: bool = True


class CreditSpread(Struct, frozen=True, forbid_unknown_fields=True):
    """Inter-commodity credit: two underlyings with opposite deltas in a ratio (RISK.md B2.4). None is the default."""

    underlying_a: str
    underlying_b: str
    ratio_a_e9: int
    ratio_b_e9: int
    rate_bp: int


class LimitKind(IntEnum):
    """What a portfolio limit bounds. In brackets: unit of its value in 1e-9."""

    MARGIN = 1  # [money] total margin of the worst case, beside the funds
    DELTA = 2  # [units of the underlying] absolute: the futures equivalent
    GAMMA = 3  # [units per 1 % of the price] absolute
    VEGA = 4  # [money per point of volatility] absolute
    STRESS = 5  # [share of the equity, 1 = all] worst loss of the stress grid


class Limit(Struct, frozen=True, forbid_unknown_fields=True):
    """One bound, at an account or (``""``) at each; at an underlying, or over all. Every one that applies is checked.

    MARGIN and STRESS are over all underlyings, DELTA, GAMMA and VEGA of one.
    """

    kind: LimitKind
    value_e9: int
    account: str = ""
    underlying: str = ""


class StressGrid(Struct, frozen=True, forbid_unknown_fields=True):
    """Moves that are combined: of spot in bp, of volatility in bp of itself, and time (RISK.md B5).

    Attributes:
        sticky_delta: Volatility follows moneyness instead of the strike.
        time_ns: 0 = now; -1 = at the contract's expiry.
    """

    spot_bp: tuple[int, ...] = (-2_000, -1_500, -1_000, -700, -500, -300, 0, 300, 500, 700, 1_000, 1_500)
    vol_bp: tuple[int, ...] = (-3_000, 0, 3_000, 6_000)
    time_ns: tuple[int, ...] = (0, DAY_NS, -1)
    sticky_delta: bool = False


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """All of it, resolved for one date.

    Attributes:
        day_offset_ns: Added to UTC before a date is taken: the exchange's day (IST: 5 h 30 min).
        stress_buffer_bp: Share of the worst settlement of the shorts that funds must bear beyond the margin.
        iv_age_max_ns: How old a volatility may be that stands in for a price which has none.
        answer_valid_ns: How long an approval holds.
        holidays: Dates without trading besides Saturdays and Sundays, yyyy-mm-dd.
    """

    version: str
    contracts: tuple[Contract, ...]
    products: tuple[Product, ...]
    credits: tuple[CreditSpread, ...] = ()
    limits: tuple[Limit, ...] = ()
    stress: StressGrid = StressGrid()
    day_offset_ns: int = 0
    stress_buffer_bp: int = 0
    iv_age_max_ns: int = 3_600 * E9
    answer_valid_ns: int = 500_000_000
    holidays: tuple[str, ...] = ()
