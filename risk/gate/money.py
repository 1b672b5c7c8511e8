"""Money of accounts: what a trade pays, collateral after its haircut, exchange rates.

Rule: integers in 1e-9 of a currency, and every division rounds against the account, once, here. What a trade pays is a
function of its own terms alone, so what was booked for it goes back exactly if the venue takes it back.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.params import ContractKind

E9: Final = 10**9
E18: Final = 10**18
BP: Final = 10_000


class Collateral(NamedTuple):
    """One thing that an account has pledged: its value in 1e-9 of the currency, and what is taken off, in bp."""

    value_e9: int
    currency: str
    haircut_bp: int

    @property
    def usable_e9(self) -> int:
        """What it counts for: its value less the haircut, rounded down."""
        return self.value_e9 * (BP - self.haircut_bp) // BP


class FxMark(NamedTuple):
    """One unit of a currency is ``rate_e9`` units, in 1e-9, of another; journaled at ``at_ns``."""

    rate_e9: int
    at_ns: int


class Money:
    """What of money is no account's own: the exchange rates, and whether fills are booked as money.

    ``is_booked``: from the first start of a release that does. A journal from before it has the state it had.
    """

    __slots__ = ("is_booked", "marks")

    def __init__(self) -> None:
        self.is_booked = False
        self.marks: dict[tuple[str, str], FxMark] = {}

    def needed_e9(self, amount_e9: int, of: str, to: str) -> int | None:
        """Return an amount that is needed or owed in another currency, rounded up; None without a mark (RISK.md A0)."""
        usable = self.usable_e9(-amount_e9, of, to)
        return None if usable is None else -usable

    def usable_e9(self, amount_e9: int, of: str, to: str) -> int | None:
        """Return an amount that is there (negative: is owed) in another currency, rounded down; None without a mark.

        A mark serves both ways: if there is none from the one to the other, it is divided by the one back.
        """
        if of == to:
            return amount_e9
        mark = self.marks.get((of, to))
        if mark is not None:
            return amount_e9 * mark.rate_e9 // E9
        back = self.marks.get((to, of))
        return None if back is None else amount_e9 * E9 // back.rate_e9


def paid_e9(kind: ContractKind, multiplier_e9: int, signed_e9: int, price_e9: int) -> int:
    """Return what a trade moves: negative = paid, positive = got; in 1e-9 of the currency, rounded down.

    LINEAR and SPOT -q·p·multiplier; INVERSE q·multiplier/p, for who buys the contract sells its currency. A position q
    at the mark p would close for ``paid_e9(…, -q, p)``: with what its trades paid that is its profit.

    Args:
        kind: How value follows price.
        multiplier_e9: Of the contract.
        signed_e9: Quantity, negative for a sell, 1e-9.
        price_e9: Above 0.
    """
    if kind is ContractKind.INVERSE:
        return signed_e9 * multiplier_e9 // price_e9
    return -signed_e9 * price_e9 * multiplier_e9 // E18
