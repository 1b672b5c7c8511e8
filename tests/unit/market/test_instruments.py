"""Instrument rows become exact integers, or an error that names the field."""

from __future__ import annotations

import msgspec
import pytest

from market.errors import InstrumentError, StepError
from market.instruments import InstrumentRow, Steps, to_master, to_params
from protocol.errors import FieldError
from protocol.params import ContractKind, InstrumentParams, InstrumentStatus

ROW = InstrumentRow("X", "SANDBOX", "USDT", price_step="0.1", quantity_step="0.001", quantity_max="100")


def test_a_row_becomes_parameters() -> None:
    """Every decimal string is an exact integer in 1e-9; tick, lot and minimum default to the steps."""
    row = msgspec.structs.replace(
        ROW,
        kind="inverse",
        tick="0.5",
        lot="0.002",
        multiplier="100",
        quantity_min="0.004",
        collar_bp=250,
        tick_age_max_ms=1_500,
        status="suspended",
        expiry_ns=7,
        taker_fee_bp="4.5",
        maker_fee_bp="-0.25",
    )
    assert to_params(row) == InstrumentParams(
        instrument="X",
        venue="SANDBOX",
        currency="USDT",
        kind=ContractKind.INVERSE,
        price_step_e9=100_000_000,
        quantity_step_e9=1_000_000,
        tick_e9=500_000_000,
        lot_e9=2_000_000,
        multiplier_e9=100_000_000_000,
        quantity_min_e9=4_000_000,
        quantity_max_e9=100_000_000_000,
        collar_bp=250,
        tick_age_max_ns=1_500_000_000,
        status=InstrumentStatus.SUSPENDED,
        expiry_ns=7,
        taker_fee_bp_e9=4_500_000_000,
        maker_fee_bp_e9=-250_000_000,
    )
    params = to_params(ROW)
    assert (params.tick_e9, params.lot_e9, params.quantity_min_e9) == (100_000_000, 1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("price_step", "0", "more than 0"),
        ("price_step", "-0.1", "more than 0"),
        ("price_step", "1e-1", "a decimal string"),
        ("quantity_step", "0.0000000001", "a decimal string"),
        ("tick", "0.25", "a multiple of price_step 0.1"),
        ("lot", "0.0015", "a multiple of quantity_step 0.001"),
        ("quantity_min", "0.0015", "a multiple of lot 0.001"),
        ("quantity_max", "100.0005", "a multiple of lot 0.001"),
        ("quantity_max", "", "a decimal string"),
        ("multiplier", "0", "more than 0"),
        ("currency", "", "a currency"),
        ("taker_fee_bp", "5bp", "a decimal string"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: str, expected: str) -> None:
    """The error carries instrument, field, value and what was expected."""
    with pytest.raises(InstrumentError) as error:
        to_params(msgspec.structs.replace(ROW, **{field: value}))
    assert (error.value.instrument, error.value.field, error.value.value) == ("X", field, value)
    assert expected in error.value.expected


def test_the_largest_quantity_is_at_least_the_smallest() -> None:
    """Bounds that no order can meet are refused."""
    with pytest.raises(InstrumentError, match="at least quantity_min 200"):
        to_params(msgspec.structs.replace(ROW, quantity_min="200"))


def test_two_rows_of_one_name_are_refused() -> None:
    """A master has one row an instrument."""
    assert list(to_master([ROW, msgspec.structs.replace(ROW, instrument="Y")])) == ["X", "Y"]
    with pytest.raises(InstrumentError, match="one row an instrument"):
        to_master([ROW, ROW])


def test_unknown_keys_of_a_row_are_refused() -> None:
    """A misspelt key is an error, never a default."""
    with pytest.raises(msgspec.ValidationError, match="prise_step"):
        msgspec.convert({**msgspec.to_builtins(ROW), "prise_step": "1"}, InstrumentRow)


def test_steps_are_exact() -> None:
    """Decimal text becomes whole steps however it is written; what is between two steps is refused."""
    steps = Steps("X", "price", 100_000_000)
    assert [steps[t] for t in ("61800.30", "61800.3", "0.1", "0", "61800.30")] == [618_003, 618_003, 1, 0, 618_003]
    with pytest.raises(StepError) as error:
        steps["61800.25"]
    assert (error.value.value, error.value.step) == ("61800.25", "0.1")
    for text in ("-0.1", "nan", "1e3", ""):
        with pytest.raises(FieldError):
            steps[text]


def test_steps_remember_a_bounded_number_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session with endless different texts does not grow without end."""
    monkeypatch.setattr("market.instruments.DECIMALS_KEPT_MAX", 10)
    steps = Steps("X", "quantity", 1_000_000_000)
    assert [steps[str(n)] for n in range(35)] == list(range(35))
    assert len(steps) <= 10
