"""Black-76: prices, Greeks and implied volatility of options on a forward, over whole arrays.

Units: prices per unit of the underlying, volatility and rates as fractions a year (0.15 = 15 %), time in years of
365 days. float64 inside; whoever needs exact money rounds at the border. Black-Scholes is Black-76 with the forward
``S·e^((r-q)T)``. Rule: every formula is closed; nothing here knows an account or a contract.

Source: F. Black, "The pricing of commodity contracts", 1976; RISK.md B4.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

YEAR_S: Final = 365 * 86_400
DAYS_A_YEAR: Final = 365
TIME_MIN_YEARS: Final = 60 / YEAR_S  # nearer to its end an option counts as one minute from it
VOL_MIN: Final = 1e-6
VOL_MAX: Final = 5.0
STEPS_MAX: Final = 100
VOL_STOP: Final = 1e-12
SQRT_TAU: Final = np.sqrt(2 * np.pi)


class Greeks(NamedTuple):
    """Sensitivities of one long unit.

    Attributes:
        delta: Per 1 of the forward's price, discounted; 0..1 for calls, -1..0 for puts.
        gamma: Change of delta per 1 of the forward's price.
        vega: Money per point (0.01) of volatility.
        theta: Money per calendar day that passes.
    """

    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats


def price(
    is_call: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, rate: ArrayLike
) -> Floats:
    """Return what one unit is worth; all arguments broadcast. Forward and strike > 0, vol >= 0."""
    sign, f, k, t, v, r = _arrays(is_call, forward, strike, years, vol, rate)
    width = np.asarray(v * np.sqrt(t))
    d1 = np.asarray(np.log(f / k) / width + 0.5 * width)
    # In place from here: with many scenarios the arrays are large, and fresh memory costs more than the arithmetic.
    d2 = np.asarray((d1 - width) * sign)
    d1 = np.asarray(d1 * sign)
    worth = np.asarray(ndtr(d1) * f)
    worth -= ndtr(d2) * k
    worth *= np.exp(-r * t) * sign
    return worth


def greeks(
    is_call: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, rate: ArrayLike
) -> Greeks:
    """Return the Greeks of one unit; all arguments broadcast."""
    sign, f, k, t, v, r = _arrays(is_call, forward, strike, years, vol, rate)
    root, discount = np.sqrt(t), np.exp(-r * t)
    width = v * root
    d1 = np.log(f / k) / width + 0.5 * width
    density = np.exp(-0.5 * d1 * d1) / SQRT_TAU
    in_d1, in_d2 = ndtr(sign * d1), ndtr(sign * (d1 - width))
    worth = sign * (f * in_d1 - k * in_d2)
    return Greeks(
        delta=discount * sign * in_d1,
        gamma=discount * density / (f * width),
        vega=discount * f * density * root / 100,
        theta=discount * (r * worth - f * density * v / (2 * root)) / DAYS_A_YEAR,
    )


def implied_vol(
    is_call: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, rate: ArrayLike, worth: ArrayLike,
    tick: ArrayLike = 0.0,
) -> Floats:  # fmt: skip
    """Return the volatility at which each option costs ``worth``; nan where none does.

    Newton's steps on the logarithm of the out-of-the-money side, which has no intrinsic value to lose digits in, held
    in a bracket that shrinks at each step. An option in the money is turned to the other side by put-call parity.
    ``worth`` is the price of one unit; below intrinsic value plus half a ``tick`` there is no answer.

    Returns:
        Fractions a year in [1e-6, 5]; nan for a price outside what these give.
    """
    sign, f, k, t, r, p, half = np.broadcast_arrays(
        *_arrays(is_call, forward, strike, years, rate, worth), np.asarray(tick, np.float64) / 2
    )
    undiscounted = p * np.exp(r * t)
    intrinsic = np.maximum(0.0, sign * (f - k))
    in_money = intrinsic > 0
    target = np.where(in_money, undiscounted - intrinsic, undiscounted)
    side = np.where(in_money, -sign, sign)
    with np.errstate(all="ignore"):
        found = _solve(side.ravel(), f.ravel(), k.ravel(), t.ravel(), target.ravel()).reshape(side.shape)
        return np.where((p < intrinsic * np.exp(-r * t) + half) | ~(target > 0), np.nan, found)


def _solve(sign: Floats, f: Floats, k: Floats, t: Floats, target: Floats) -> Floats:
    """Return the volatilities of undiscounted out-of-the-money prices; nan outside the bounds. One dimension."""
    low, high = np.full_like(f, VOL_MIN), np.full_like(f, VOL_MAX)
    root, log_money = np.sqrt(t), np.log(f / k)

    def worth_and_slope(v: Floats) -> tuple[Floats, Floats]:
        width = v * root
        d1 = log_money / width + 0.5 * width
        value = sign * (f * ndtr(sign * d1) - k * ndtr(sign * (d1 - width)))
        return value, f * np.exp(-0.5 * d1 * d1) / SQRT_TAU * root

    outside = (worth_and_slope(low)[0] > target) | (worth_and_slope(high)[0] < target)
    # Where value bends (the most vega) Newton on the logarithm comes from below in few steps.
    v = np.clip(np.sqrt(2 * np.abs(log_money)) / root, 0.05, 2.0)
    for _ in range(STEPS_MAX):
        value, slope = worth_and_slope(v)
        high = np.where(value > target, v, high)
        low = np.where(value <= target, v, low)
        step = np.log(value / target) * value / slope
        after = v - step
        after = np.where((after > low) & (after < high), after, 0.5 * (low + high))
        moved = np.abs(after - v)
        v = after
        if not np.any((moved > VOL_STOP) & ~outside):
            break
    return np.where(outside, np.nan, v)


def _arrays(is_call: ArrayLike, *rest: ArrayLike) -> tuple[Floats, ...]:
    sign = np.where(np.asarray(is_call, bool), 1.0, -1.0)
    return (sign, *(np.asarray(a, np.float64) for a in rest))
