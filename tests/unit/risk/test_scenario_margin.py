"""Margin by 16 scenarios against RISK.md B7: S1, McMillan's array, and the published NSE case."""

from __future__ import annotations

import numpy as np
import pytest

from risk.portfolio.params import Params, Product
from risk.portfolio.snapshot import MarketSnapshot, Quote, RiskArray
from tests.unit.risk.margined import (
    CALL,
    FUTURE,
    LOT,
    NOW_NS,
    S1,
    S1_MARKET,
    contract,
    desk,
    e9,
    standing,
)  # fmt: skip

S1_ARRAYS = {
    "FUT": "0 0 -744 -744 744 744 -1488 -1488 1488 1488 -2232 -2232 2232 2232 -1562.4 1562.4",
    "24000CE": "-100.56 114.19 -560.47 -395.13 193.07 350.59 -1157.15 -1078.41 339.36 404.40 -1837.88 -1811.45 393.10 "
    "409.36 -1411.02 143.33",
    "24000PE": "-100.56 114.19 179.70 345.04 -547.10 -389.57 323.19 401.92 -1140.98 -1075.93 382.62 409.05 -1827.40 "
    "-1811.14 143.33 -1411.02",
}


def numbers(text: str) -> list[float]:
    """Return the numbers of a printed array."""
    return [float(n) for n in text.split()]


@pytest.mark.parametrize("name", list(S1_ARRAYS))
def test_the_sixteen_losses_of_s1(name: str) -> None:
    """Each of S1's arrays to the printed hundredth: moves of price and volatility, a day gone, extremes at 35 %."""
    on = desk(S1, S1_MARKET)
    assert on.valued.losses[on.catalogue.index[name]] == pytest.approx(numbers(S1_ARRAYS[name]), abs=0.00501)


@pytest.mark.parametrize(
    ("held", "worst", "scan", "nov", "span"),
    [
        ({"FUT": LOT}, 13, 145080.00, 0, 145080.00),
        ({"_24000CE": -LOT}, 11, 119462.40, -26618.68, 146081.08),
        ({"_24000PE": -LOT}, 13, 118780.92, -26618.68, 145399.60),
        ({"_24000CE": -LOT, "_24000PE": -LOT}, 11, 94592.12, -53237.35, 147829.47),
        ({"_24000CE": LOT}, 14, 26608.40, 26618.68, 0),
        ({"FUT": LOT, "_24000CE": -LOT}, 13, 119528.24, -26618.68, 146146.92),
        ({"_24000CE": -LOT, "_25000CE": LOT}, 12, 42983.14, -20375.71, 63358.84),
    ],
)
def test_the_margins_of_s1(held: dict[str, float], worst: int, scan: float, nov: float, span: float) -> None:
    """Each book of S1's table: worst scenario, scan risk, net option value and span, to the hundredth."""
    found = standing(desk(S1, S1_MARKET), **held).margin_of(0)
    assert int(found.worst[0]) == worst
    assert [float(x[0]) for x in (found.scan, found.nov, found.span)] == pytest.approx([scan, nov, span], abs=0.0051)


# McMillan, Options as a Strategic Investment, ch. 34: gains of one contract; here as losses.
MCMILLAN = {
    "FUT": "0 0 3330 3330 -3330 -3330 6670 6670 -6670 -6670 10000 10000 -10000 -10000 7000 -7000",
    "410CE": "460 -610 2640 1730 -1270 -2340 5210 4540 -2540 -3430 8060 7640 -3380 -3990 3130 -1500",
}


@pytest.mark.parametrize(
    ("held", "requirement", "worst"),
    [
        ({"FUT": 1}, 10_000, 13),
        ({"_410CE": 1}, 3_990, 14),
        ({"FUT": 1, "_410CE": -1}, 6_620, 13),
        ({"_410CE": -1}, 8_060, 11),
        ({"FUT": 1, "_410CE": -2}, 6_120, 11),
    ],
)
def test_the_textbook_array(held: dict[str, float], requirement: float, worst: int) -> None:
    """The requirements of McMillan's chapter on its own array, which comes before ours: exact."""
    contracts = (contract("FUT", FUTURE, lot=1), contract("410CE", CALL, 410, lot=1))
    params = Params("mcmillan", contracts, (Product("NIFTY", price_scan_e9=e9(10_000), vol_scan_e9=e9("0.04")),))
    arrays = tuple(
        RiskArray(name, tuple(-e9(n) for n in text.split()), e9(1), "McMillan, ch. 34")
        for name, text in MCMILLAN.items()
    )
    market = MarketSnapshot("m", NOW_NS, (Quote("FUT", e9(410)), Quote("410CE", e9(20))), arrays=arrays)
    found = standing(desk(params, market), **held).margin_of(0)
    assert (float(found.scan[0]), int(found.worst[0])) == (requirement, worst)


def test_an_unmargined_scenario_is_no_margin() -> None:
    """An empty book needs nothing, in every part."""
    found = standing(desk(S1, S1_MARKET)).margin_of(0)
    assert not np.any([part[0] for part in found[:-1]])
