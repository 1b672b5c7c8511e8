"""Maker and taker fees from the instrument's rates, exact until one rounding.

Rule: the fee of a fill is rounded once, here, to 1e-9 of the currency, half up; value and rate are never rounded
on the way. Linear and spot: price x quantity x multiplier x rate; inverse: quantity x multiplier / price x rate.
Source: SANDBOX section 7 (rates on notional; negative is a rebate) and worked example 21.
"""

from __future__ import annotations

from math import gcd
from typing import Final

from protocol.codes import Liquidity
from protocol.params import ContractKind, InstrumentParams

_BP: Final = 10_000
_E9: Final = 10**9


class FeeModel:
    """Fees of one instrument, with its constants multiplied out once."""

    __slots__ = ("_inverse", "_maker", "_taker", "currency")

    def __init__(self, params: InstrumentParams) -> None:
        self.currency = params.currency
        self._inverse = params.kind is ContractKind.INVERSE
        self._maker = _ratio(params, params.maker_fee_bp_e9)
        self._taker = _ratio(params, params.taker_fee_bp_e9)

    def fee_e9(self, price_steps: int, quantity_steps: int, liquidity: Liquidity) -> int:
        """Return the fee in 1e-9 of the currency; negative is a rebate.

        Args:
            price_steps: Price in price steps; above 0 for an inverse contract.
            quantity_steps: Quantity in quantity steps.
            liquidity: MAKER or TAKER.
        """
        above, below = self._maker if liquidity is Liquidity.MAKER else self._taker
        if self._inverse:
            above, below = quantity_steps * above, price_steps * below
        else:
            above *= price_steps * quantity_steps
        return (2 * above + below) // (2 * below)


def _ratio(params: InstrumentParams, rate_bp_e9: int) -> tuple[int, int]:
    """Return the fee in 1e-9 per step of quantity and price as a reduced fraction."""
    above = params.quantity_step_e9 * params.multiplier_e9 * rate_bp_e9
    if params.kind is ContractKind.INVERSE:
        below = params.price_step_e9 * _E9 * _BP
    else:
        above *= params.price_step_e9
        below = _E9 * _E9 * _E9 * _BP
    common = gcd(above, below)
    return above // common, below // common
