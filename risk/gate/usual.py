"""Bounds of the usual order of a route, resolved once: far inside them no check of the complete gate can refuse.

They are parameters only, so all routes that are given the same share one object, and what every order reads of them
stays in the cache. The tightest of several limits stands here once, in the units that an order has. Rule: a bound may
be tighter than what it is made of, never wider; where a route has something unusual, no time of the day is inside.
"""

from __future__ import annotations

from typing import Final

NEVER_NS: Final = 1 << 63
UNLIMITED: Final = 1 << 200


class UsualSide:
    """What differs by side.

    ``until_ns``: end of hours, of the contract, or of new risk, whichever is first. A quantity step adds at most
    ``weight_e18`` to exposure, ``margin_e9`` to margin and ``delta``, a size, to the delta that ``is_up`` names; a unit
    of value takes at most ``cash_2e40``, in 2**-40, in cash.
    """

    __slots__ = ("cash_2e40", "delta", "is_up", "margin_e9", "until_ns", "weight_e18")

    def __init__(self) -> None:
        self.until_ns = 0
        self.weight_e18 = 0
        self.margin_e9 = 0
        self.cash_2e40 = 0
        self.delta = 0
        self.is_up = False


class Usual:
    """Bounds of an order of a route, both included but for counts; ``is_guarded``: prices beyond the reference are."""

    __slots__ = (
        "account_count",
        "asks_cash",
        "bounds_gross",
        "buy",
        "checks_margin",
        "gross_e18",
        "high_e9",
        "is_guarded",
        "lot",
        "low_e9",
        "net",
        "one_sided",
        "open_count",
        "open_ns",
        "open_value_e9",
        "quantity_high_e9",
        "quantity_max",
        "quantity_min",
        "reach",
        "sell",
        "strategy_count",
        "tick",
        "ttl_ns",
        "value_high_e9",
        "value_low_e9",
    )  # fmt: skip

    def __init__(self) -> None:
        self.buy = UsualSide()
        self.sell = UsualSide()
        self.ttl_ns = NEVER_NS
        self.open_ns = 0
        self.tick = 1
        self.low_e9 = 1
        self.high_e9 = UNLIMITED
        self.is_guarded = False
        self.lot = 1
        self.quantity_min = 0
        self.quantity_max = 0
        self.quantity_high_e9 = 0
        self.value_low_e9 = 0
        self.value_high_e9 = 0
        self.open_value_e9 = 0
        self.open_count = 0
        self.account_count = 0
        self.strategy_count = 0
        self.reach = 0
        self.bounds_gross = False
        self.gross_e18 = 0
        self.net = 0
        self.one_sided = 0
        self.asks_cash = False
        self.checks_margin = False


NOTHING_USUAL: Final = Usual()
"""Of routes that have none: no order is inside; never changed."""
