"""What the market was when a decision was made: one value, journaled by its id, enough to repeat the decision.

Prices in 1e-9 of the currency per unit, volatilities in 1e-9 a year (0.15 = 150_000_000), times UTC nanoseconds.
"""

from __future__ import annotations

from msgspec import Struct


class Quote(Struct, frozen=True, forbid_unknown_fields=True):
    """One contract.

    Attributes:
        price_e9: What it is worth; 0 = unknown: an option is then worth what its volatility says.
        iv_e9: The volatility of this very price, where somebody has implied it already; 0 = imply it here.
        iv_before_e9: The last one that was known, for a price that has none; with its time.
    """

    instrument: str
    price_e9: int
    iv_e9: int = 0
    iv_before_e9: int = 0
    iv_before_ns: int = 0
    at_ns: int = 0


class Spot(Struct, frozen=True, forbid_unknown_fields=True):
    """Price of an underlying itself, such as an index."""

    underlying: str
    price_e9: int
    at_ns: int = 0


class Forward(Struct, frozen=True, forbid_unknown_fields=True):
    """Price for delivery at an expiry, where no future of that expiry is quoted."""

    underlying: str
    expiry_ns: int
    price_e9: int


class RiskArray(Struct, frozen=True, forbid_unknown_fields=True):
    """A clearing house's array for one contract: it comes before our own (RISK.md B2.1).

    Attributes:
        losses_e9: 16 losses of one long unit, a loss is positive, in the order of RISK.md's table.
        delta_e9: Composite delta of one unit.
        source: File and date.
    """

    instrument: str
    losses_e9: tuple[int, ...]
    delta_e9: int
    source: str = ""


class MarketSnapshot(Struct, frozen=True, forbid_unknown_fields=True):
    """The market at ``at_ns``, engine time."""

    snapshot_id: str
    at_ns: int
    quotes: tuple[Quote, ...] = ()
    spots: tuple[Spot, ...] = ()
    forwards: tuple[Forward, ...] = ()
    arrays: tuple[RiskArray, ...] = ()
