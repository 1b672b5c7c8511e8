"""Black-76 against worked examples and two independent libraries, deep in and out of the money, to the last minute."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib
from hypothesis import given, settings
from hypothesis import strategies as st
from vollib.black import black
from vollib.black.greeks import analytical as black_greeks
from vollib.black.implied_volatility import implied_volatility
from vollib.black_scholes import black_scholes
from vollib.black_scholes.greeks import analytical as scholes_greeks

from market.pricing import TIME_MIN_YEARS, Floats, greeks, implied_vol, price

MINUTES = (1, 5, 30)
TIMES = (*(m * TIME_MIN_YEARS for m in MINUTES), 1 / 365, 30 / 365, 0.5, 2.0)
VOLS = (0.03, 0.15, 0.6, 2.0)
STRIKES = (200.0, 600.0, 850.0, 950.0, 995.0, 1000.0, 1005.0, 1050.0, 1150.0, 1600.0, 4000.0)
FORWARD, RATE = 1000.0, 0.065


def grid() -> tuple[Floats, Floats, Floats, Floats]:
    """Return every (is_call, strike, years, vol), flat."""
    parts = np.meshgrid([0.0, 1.0], STRIKES, TIMES, VOLS, indexing="ij")
    is_call, strike, years, vol = (p.ravel() for p in parts)
    return is_call.astype(bool), strike, years, vol


def test_prices_are_those_of_the_textbooks() -> None:
    """Haug's futures option, Hull's stock option and an at-the-money one, to the printed digits."""
    assert price(True, 19, 19, 0.75, 0.28, 0.10) == pytest.approx(1.701051, abs=1e-6)
    forward = 42 * np.exp(0.10 * 0.5)
    assert price([True, False], forward, 40, 0.5, 0.20, 0.10) == pytest.approx([4.759422, 0.808599], abs=1e-6)
    assert price(True, 100, 100, 0.5, 0.20, 0.02) == pytest.approx(5.581107, abs=1e-6)


def test_the_worked_at_the_money_option() -> None:
    """RISK.md's S1: call and put cost the same; delta, gamma and vega to the printed digits."""
    assert price([True, False], 24000, 24000, 30 / 365, 0.15, 0.065) == pytest.approx([409.5181] * 2, abs=1e-4)
    found = greeks(True, 24000, 24000, 30 / 365, 0.15, 0.065)
    assert [float(found.delta), float(found.gamma), float(found.vega)] == pytest.approx(
        [0.505868, 0.000384391, 27.2970], rel=2e-6
    )


@pytest.mark.parametrize(("years", "vol"), [(t, v) for t in (0.5, 0.1, 0.01) for v in (0.3, 2.0)])
def test_prices_and_greeks_are_those_of_vollib(years: float, vol: float) -> None:
    """The grid of vollib's own tests: strike 1,000, 5 % interest, spots from 750 to 1,250, within its tolerance."""
    for spot in np.linspace(750, 1250, 6):
        forward, growth = float(spot * np.exp(0.05 * years)), float(np.exp(0.05 * years))
        for flag, is_call in (("c", True), ("p", False)):
            ours = greeks(is_call, forward, 1000, years, vol, 0.05)
            asked = (flag, spot, 1000, years, 0.05, vol)
            assert float(price(is_call, forward, 1000, years, vol, 0.05)) == pytest.approx(
                black_scholes(flag, spot, 1000, years, 0.05, vol), abs=1e-9
            )
            # Per 1 of the forward's price here, per 1 of the spot's there: they differ by its growth.
            assert float(ours.delta) * growth == pytest.approx(scholes_greeks.delta(*asked[:4], 0.05, vol), abs=1e-9)
            assert float(ours.gamma) * growth**2 == pytest.approx(scholes_greeks.gamma(*asked), abs=1e-9)
            assert float(ours.vega) == pytest.approx(scholes_greeks.vega(*asked), abs=1e-9)


def test_the_published_row_of_vollib() -> None:
    """S = K = 1,000, half a year, 30 %: the row that RISK.md quotes from vollib's test data."""
    forward = 1000 * np.exp(0.05 * 0.5)
    found = greeks(True, forward, 1000, 0.5, 0.3, 0.05)
    assert price([True, False], forward, 1000, 0.5, 0.3, 0.05) == pytest.approx([96.3487663, 71.6586783], abs=1e-6)
    assert float(found.delta * np.exp(0.025)) == pytest.approx(0.588589114, abs=1e-8)
    assert float(found.vega) == pytest.approx(275.110741 / 100, abs=1e-8)


def test_prices_are_those_of_quantlib_over_the_grid() -> None:
    """From one minute to two years, from a fifth to four times the strike: within 1e-9 of a forward of 1,000."""
    is_call, strike, years, vol = grid()
    ours = price(is_call, FORWARD, strike, years, vol, RATE)
    theirs = [
        QuantLib.blackFormula(
            QuantLib.Option.Call if c else QuantLib.Option.Put, k, FORWARD, v * np.sqrt(t), np.exp(-RATE * t)
        )
        for c, k, t, v in zip(is_call, strike, years, vol, strict=True)
    ]
    assert np.max(np.abs(ours - np.array(theirs))) < 1e-9


def test_greeks_are_those_of_quantlib_over_the_grid() -> None:
    """Delta, gamma, vega and theta, each in its unit, where they are not lost to rounding."""
    is_call, strike, years, vol = grid()
    ours = greeks(is_call, FORWARD, strike, years, vol, RATE)
    for n, (c, k, t, v) in enumerate(zip(is_call, strike, years, vol, strict=True)):
        payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if c else QuantLib.Option.Put, k)
        theirs = QuantLib.BlackCalculator(payoff, FORWARD, v * np.sqrt(t), np.exp(-RATE * t))
        gamma, vega = theirs.gammaForward(), theirs.vega(t) / 100
        assert ours.delta[n] == pytest.approx(theirs.deltaForward(), abs=1e-10)
        assert ours.gamma[n] == pytest.approx(gamma, rel=1e-8, abs=1e-12)
        assert ours.vega[n] == pytest.approx(vega, rel=1e-8, abs=1e-12)
        decay = black_greeks.theta("c" if c else "p", FORWARD, k, t, RATE, v)
        assert ours.theta[n] == pytest.approx(decay, rel=1e-8, abs=1e-9)


def test_implied_volatility_comes_back_over_the_grid() -> None:
    """Wherever a price has time value beyond float64's digits, its volatility is found to 1e-6; nowhere a wrong one."""
    is_call, strike, years, vol = grid()
    worth = price(is_call, FORWARD, strike, years, vol, RATE)
    intrinsic = np.maximum(0, np.where(is_call, FORWARD - strike, strike - FORWARD)) * np.exp(-RATE * years)
    told = worth - intrinsic > 1e-7
    found = implied_vol(is_call, FORWARD, strike, years, RATE, worth)
    assert told.sum() > 300
    assert np.max(np.abs(found[told] - vol[told])) < 1e-6
    answered = ~np.isnan(found)
    again = price(is_call[answered], FORWARD, strike[answered], years[answered], found[answered], RATE)
    assert np.max(np.abs(again - worth[answered])) < 1e-9


def test_implied_volatility_is_that_of_two_libraries() -> None:
    """QuantLib's and vollib's own solvers give the same, in and out of the money, to minutes before the end."""
    for c, k, t, v in [
        (True, 1000, 30 / 365, 0.15), (True, 1150, 30 / 365, 0.15), (False, 850, 0.5, 0.6), (True, 600, 0.5, 0.6),
        (False, 4000, 2.0, 2.0), (True, 1005, 30 * TIME_MIN_YEARS, 0.6), (False, 995, 5 * TIME_MIN_YEARS, 2.0),
    ]:  # fmt: skip
        worth = float(price(c, FORWARD, k, t, v, RATE))
        found = float(implied_vol(c, FORWARD, k, t, RATE, worth))
        kind = QuantLib.Option.Call if c else QuantLib.Option.Put
        width = QuantLib.blackFormulaImpliedStdDev(
            kind, k, FORWARD, worth, np.exp(-RATE * t), 0.0, v * np.sqrt(t), 1e-14
        )
        assert found == pytest.approx(width / np.sqrt(t), abs=1e-8)
        assert found == pytest.approx(implied_volatility(worth, FORWARD, k, RATE, t, "c" if c else "p"), abs=1e-8)
        assert worth == pytest.approx(black("c" if c else "p", FORWARD, k, t, RATE, v), abs=1e-9)


def test_a_price_that_no_volatility_gives_has_none() -> None:
    """Below intrinsic value and half a tick, above the forward, and at nothing at all: nan, not a guess."""
    worth = [99.0, 100.02, 1001.0, 0.0, -1.0]
    found = implied_vol(True, 1000, [900, 900, 1000, 1000, 1000], 0.1, 0.0, worth, tick=0.05)
    assert np.isnan(found).all()
    assert not np.isnan(implied_vol(True, 1000, 900, 0.1, 0.0, 100.03, tick=0.05))


@settings(max_examples=200, deadline=None)
@given(
    strike=st.floats(100, 5000), years=st.floats(TIME_MIN_YEARS, 3), vol=st.floats(0.01, 4), rate=st.floats(-0.05, 0.2)
)
def test_a_call_less_a_put_is_the_forward_less_the_strike(strike: float, years: float, vol: float, rate: float) -> None:
    """Put-call parity, whatever the terms; no price is below nothing or above what it can pay."""
    call, put = price([True, False], FORWARD, strike, years, vol, rate)
    discount = np.exp(-rate * years)
    assert call - put == pytest.approx(discount * (FORWARD - strike), abs=1e-8)
    assert -1e-9 <= call <= discount * FORWARD + 1e-9
    assert -1e-9 <= put <= discount * strike + 1e-9
