"""Fees: exact until one rounding, half up, to 1e-9 of the currency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Liquidity
from protocol.params import ContractKind, InstrumentParams
from sandbox.models.fee import FeeModel

E9 = 10**9


def params(kind: ContractKind, maker_bp_e9: int, taker_bp_e9: int, multiplier_e9: int = E9) -> InstrumentParams:
    """Prices in 0.1, quantities in 0.001 (1 for the inverse contract)."""
    step = E9 if kind is ContractKind.INVERSE else E9 // 1000
    return InstrumentParams(
        "X", "V", "C", kind, E9 // 10, step, E9 // 10, step, multiplier_e9, step, 10**6 * E9, 100, E9,
        taker_fee_bp_e9=taker_bp_e9, maker_fee_bp_e9=maker_bp_e9,
    )  # fmt: skip


def test_example_21_a_linear_perpetual() -> None:
    """0.5 x 61,800.3 at 0.05 % taker is 15.450075, at 0.02 % maker 6.180030."""
    fees = FeeModel(params(ContractKind.LINEAR, 2 * E9, 5 * E9))

    assert fees.fee_e9(618_003, 500, Liquidity.TAKER) == 15_450_075_000
    assert fees.fee_e9(618_003, 500, Liquidity.MAKER) == 6_180_030_000


def test_an_inverse_contract_pays_in_coin() -> None:
    """3 contracts of 100 at 61,800.3: 300 / 61,800.3 x 0.05 % = 0.000002427172683... coin, rounded once."""
    fees = FeeModel(params(ContractKind.INVERSE, 0, 5 * E9, multiplier_e9=100 * E9))

    assert fees.fee_e9(618_003, 3, Liquidity.TAKER) == 2_427


def test_a_negative_rate_is_a_rebate() -> None:
    """A maker who is paid has a negative fee."""
    fees = FeeModel(params(ContractKind.LINEAR, -E9, 5 * E9))

    assert fees.fee_e9(1_000, 1_000, Liquidity.MAKER) == -10_000_000


@pytest.mark.parametrize(("rate_bp_e9", "fee"), [(5_000_000, 1), (4_999_999, 0), (-5_000_000, 0), (-5_000_001, -1)])
def test_half_a_unit_rounds_up(rate_bp_e9: int, fee: int) -> None:
    """0.1 x 0.01 at 0.005 bp is half of 1e-9: up to 1 for a fee, up to 0 for a rebate."""
    fees = FeeModel(params(ContractKind.LINEAR, 0, rate_bp_e9))

    assert fees.fee_e9(1, 10, Liquidity.TAKER) == fee


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(-(10**11), 10**11))
def test_the_error_is_at_most_half_a_unit(price: int, quantity: int, rate_bp_e9: int) -> None:
    """|fee - exact| <= 1/2 of 1e-9 whatever the size."""
    fee = FeeModel(params(ContractKind.LINEAR, 0, rate_bp_e9)).fee_e9(price, quantity, Liquidity.TAKER)

    below = 10**31
    exact = price * (E9 // 10) * quantity * (E9 // 1000) * E9 * rate_bp_e9
    assert 2 * abs(fee * below - exact) <= below
