"""Stress, VaR, futures equivalent, add-ons near expiry, credits: worked numbers, and what a report adds up to."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from market.pricing import price
from protocol.units import E9
from risk.portfolio import units as u
from risk.portfolio.margin import settlement
from risk.portfolio.params import DAY_NS, Contract, CreditSpread, Params, Settlement, StressGrid
from risk.portfolio.report import report
from risk.portfolio.snapshot import Forward, MarketSnapshot, Quote, RiskArray, Spot
from risk.portfolio.stress import cells, returns_pnl, value_at_risk
from tests.unit.risk.margined import (
    CALL,
    FUTURE,
    LOT,
    NOW_NS,
    PUT,
    S1,
    S1_MARKET,
    S1_PRODUCT,
    contract,
    desk,
    e9,
    standing,
)  # fmt: skip


def test_historical_var_is_the_kth_worst_loss() -> None:
    """P&L of -125 to 124 at 99 %: the third worst is 123, the mean of the three worst 124."""
    assert value_at_risk(np.arange(-125.0, 125.0), 9_900) == (123.0, 124.0)
    assert value_at_risk(np.array([-5.0, 3.0]), 9_900) == (5.0, 5.0)


def test_var_revalues_in_full() -> None:
    """A short straddle loses on a day of either sign: a delta would see no loss at all."""
    on = desk(S1, S1_MARKET)
    held = standing(on, _24000CE=-LOT, _24000PE=-LOT)
    pnl = returns_pnl(on.valued, held.quantity, np.array([[0.05], [-0.05], [0.0]]))
    worth = price([True, False], 24_000 * 1.05, 24_000, on.valued.years[1], 0.15, 0.065).sum()
    assert pnl[0] == pytest.approx(-LOT * (worth - 2 * 409.51809), abs=0.01)
    assert pnl[0] < 0 > pnl[1]
    assert pnl[2] == pytest.approx(0, abs=1e-9)


def test_futures_equivalent_is_the_net_delta() -> None:
    """1,000 at a delta of 0.35 are 350; 100 futures less 200 puts of -0.5 are 200, and with 200 of them none."""
    contracts = (
        contract("FUT", FUTURE, lot=1),
        contract("CALL", CALL, 24_500, lot=1),
        contract("PUT", PUT, 24_000, lot=1),
    )
    arrays = tuple(RiskArray(n, (0,) * 16, e9(d)) for n, d in (("FUT", 1), ("CALL", "0.35"), ("PUT", "-0.5")))
    quotes = (Quote("FUT", e9(24_000)), *(Quote(n, 0, iv_e9=e9("0.15")) for n in ("CALL", "PUT")))
    market = MarketSnapshot("m", NOW_NS, quotes, arrays=arrays)
    on = desk(Params("p", contracts, (S1_PRODUCT,)), market)
    for held, expected in (({"CALL": 1_000}, 350), ({"FUT": 100, "PUT": -200}, 200), ({"FUT": 100, "PUT": 200}, 0)):
        assert standing(on, **held).totals(0)[:, u.DELTA].sum() == pytest.approx(expected)


def test_the_stress_grid_revalues_each_cell() -> None:
    """Spot, volatility and time of a cell are those of Black-76; at expiry an option is worth its intrinsic value."""
    grid = StressGrid(spot_bp=(-2_000, 500), vol_bp=(3_000,), time_ns=(0, -1))
    on = desk(msgspec.structs.replace(S1, stress=grid), S1_MARKET)
    gains = dict(zip(cells(on.valued), -on.stress[on.catalogue.index["24000CE"]], strict=True))
    for cell, gain in gains.items():
        years = on.valued.years[1] if cell.time_ns == 0 else 60 / (365 * 86_400)
        worth = price(True, 24_000 * (1 + cell.spot_bp / 1e4), 24_000, years, 0.15 * 1.3, 0.065)
        assert gain == pytest.approx(float(worth) - 409.51809, abs=1e-3)
    assert len(gains) == 4


def test_sticky_delta_moves_the_smile_with_the_price() -> None:
    """Where volatility follows moneyness, a fall makes the struck option take the volatility of a higher one."""
    contracts = (contract("FUT", FUTURE), *(contract(f"{k}CE", CALL, k) for k in (20_000, 24_000, 28_000)))
    quotes = (Quote("FUT", e9(24_000)), *(Quote(f"{k}CE", 0, iv_e9=e9(v)) for k, v in
              ((20_000, "0.3"), (24_000, "0.2"), (28_000, "0.1"))))  # fmt: skip
    market = MarketSnapshot("m", NOW_NS, quotes)
    losses = {}
    for sticky in (False, True):
        grid = StressGrid((-1_000,), (0,), (0,), sticky_delta=sticky)
        on = desk(Params("p", contracts, (S1_PRODUCT,), stress=grid), market)
        losses[sticky] = float(on.stress[on.catalogue.index["24000CE"], 0])
    higher = 0.2 - 0.1 * (24_000 / 0.9 - 24_000) / 4_000
    expected = price(True, 21_600, 24_000, 30 / 365, higher, 0.065) - price(True, 21_600, 24_000, 30 / 365, 0.2, 0.065)
    assert losses[False] - losses[True] == pytest.approx(float(expected))


def near_expiry(days: float, settles: Settlement = Settlement.CASH, **product: object) -> tuple[Params, MarketSnapshot]:
    """Return S1's call with an expiry so many days from now, and its market."""
    expiry = NOW_NS + round(days * DAY_NS)
    call = Contract("CE", "NIFTY", CALL, LOT * E9, expiry, e9(23_000), settlement=settles)
    params = Params("near", (call,), (msgspec.structs.replace(S1_PRODUCT, **product),))
    forwards = (Forward("NIFTY", expiry, e9(24_000)),)
    return params, MarketSnapshot(
        "near", NOW_NS, (Quote("CE", 0, iv_e9=e9("0.15")),), (Spot("NIFTY", e9(24_000)),), forwards
    )


def test_short_options_pay_more_on_the_day_they_expire() -> None:
    """2 % of the underlying on the day itself, nothing the day before, nothing for long ones."""
    for days, expected in ((0.1, LOT * 24_000 * 0.02), (1.1, 0)):
        on = desk(*near_expiry(days, expiry_exposure_bp=200))
        assert float(standing(on, CE=-LOT).margin_of(0).addons[0]) == pytest.approx(expected)
        assert float(standing(on, CE=LOT).margin_of(0).addons[0]) == 0


@pytest.mark.parametrize(("days", "share"), [(0.1, 1.0), (1, 0.7), (4, 0.45), (5, 0.25), (6, 0.1), (11, 0)])
def test_long_options_to_be_delivered_pay_towards_it(days: float, share: float) -> None:
    """A growing share of 20 % of quantity times strike, by trading days from a Thursday on; not if short."""
    params, market = near_expiry(
        days, Settlement.DELIVERY, delivery_margin_bp=2_000, delivery_bp=(10_000, 7_000, 4_500, 2_500, 1_000)
    )
    on = desk(params, market)
    assert float(standing(on, CE=LOT).margin_of(0).addons[0]) == pytest.approx(share * 0.2 * LOT * 23_000)
    assert float(standing(on, CE=-LOT).margin_of(0).addons[0]) == 0


def test_options_far_from_the_money_pay_for_it_when_short() -> None:
    """A strike 30 % away pays 20 % of the notional; one nearer does not."""
    product = msgspec.structs.replace(S1_PRODUCT, deep_otm_bp=2_000)
    contracts = (contract("FUT", FUTURE), contract("FAR", PUT, 16_800), contract("NEAR", PUT, 16_900))
    quotes = (Quote("FUT", e9(24_000)), *(Quote(n, 0, iv_e9=e9("0.2")) for n in ("FAR", "NEAR")))
    on = desk(Params("deep", contracts, (product,)), MarketSnapshot("m", NOW_NS, quotes))
    assert float(standing(on, FAR=-LOT).margin_of(0).addons[0]) == pytest.approx(0.2 * LOT * 24_000)
    assert float(standing(on, NEAR=-LOT).margin_of(0).addons[0]) == 0


def test_the_most_to_be_paid_at_settlement_nets_the_wing() -> None:
    """A short call with a wing 1,000 higher pays at most 1,000 a unit, alone what 15 % up makes of it."""
    on = desk(S1, S1_MARKET)
    spread = standing(on, _24000CE=-LOT, _25000CE=LOT)
    assert float(settlement(spread.totals(0)[None], 0)[0]) == pytest.approx(LOT * 1_000)
    assert float(settlement(standing(on, _24000CE=-LOT).totals(0)[None], 0)[0]) == pytest.approx(LOT * 3_600)


def test_a_pair_of_futures_keeps_a_third_of_the_far_leg() -> None:
    """Exposure of a matched pair is one third of the far leg's; without the row both legs count whole."""
    contracts = (contract("NEAR", FUTURE, days=30), contract("FAR", FUTURE, days=58))
    market = MarketSnapshot("m", NOW_NS, (Quote("NEAR", e9(24_000)), Quote("FAR", e9(24_300))))
    for left, expected in ((10_000, 24_000 + 24_300), (3_000, 0.3 * 24_300)):
        product = msgspec.structs.replace(S1_PRODUCT, exposure_bp=200, calendar_exposure_bp=left)
        on = desk(Params("pair", contracts, (product,)), market)
        found = standing(on, NEAR=LOT, FAR=-LOT).margin_of(0)
        assert float(found.exposure[0]) == pytest.approx(0.02 * LOT * expected)


def test_a_leg_that_expires_today_is_in_no_spread() -> None:
    """On its last day the near leg offsets nothing where a row says so, also behind an expiry that is over."""
    contracts = (
        contract("OLD", FUTURE, days=-28), Contract("NEAR", "NIFTY", FUTURE, LOT * E9, NOW_NS + 3_600 * E9),
        contract("FAR", FUTURE, days=28),
    )  # fmt: skip
    market = MarketSnapshot("m", NOW_NS, tuple(Quote(n, e9(24_000)) for n in ("OLD", "NEAR", "FAR")))
    for excluded, charge in ((False, 420 * LOT), (True, 0)):
        product = msgspec.structs.replace(S1_PRODUCT, calendar_charge_e9=e9(420), calendar_near_excluded=excluded)
        on = desk(Params("last day", contracts, (product,)), market)
        assert float(standing(on, NEAR=LOT, FAR=-LOT).margin_of(0).calendar[0]) == pytest.approx(charge)


def test_short_options_need_at_least_their_minimum() -> None:
    """Where the scenarios ask for less: so much a unit sold, and what it would cost to buy them back; none for long."""
    product = msgspec.structs.replace(S1_PRODUCT, short_option_minimum_e9=e9(3_000))
    on = desk(msgspec.structs.replace(S1, products=(product,)), S1_MARKET)
    covered = standing(on, FUT=2 * LOT, _24000CE=-LOT, _24000PE=LOT)
    found = covered.margin_of(0)
    assert float(found.scan[0]) < 3_000 * LOT == float(found.minimum[0])
    assert float(found.span[0]) == pytest.approx(3_000 * LOT - float(found.nov[0]))
    assert float(standing(on, _24000CE=LOT).margin_of(0).minimum[0]) == 0


def test_two_underlyings_against_each_other_earn_a_credit_only_by_a_row() -> None:
    """Half of the price risk of the matched units on each leg where a row gives it; nothing where none does."""
    contracts = (contract("A", FUTURE), contract("B", FUTURE, underlying="BANK"))
    products = (S1_PRODUCT, msgspec.structs.replace(S1_PRODUCT, underlying="BANK", price_scan_e9=e9(5_000)))
    market = MarketSnapshot("m", NOW_NS, (Quote("A", e9(24_000)), Quote("B", e9(50_000))))
    credit = (CreditSpread("NIFTY", "BANK", e9(2), e9(1), 5_000),)
    without = standing(desk(Params("c", contracts, products), market), A=2 * LOT, B=-LOT)
    given = standing(desk(Params("c", contracts, products, credit), market), A=2 * LOT, B=-LOT)
    assert without.credits == {}
    assert given.credits == {0: pytest.approx(0.5 * 2 * LOT * 2_232), 1: pytest.approx(0.5 * LOT * 5_000)}
    assert report(given).total == pytest.approx(report(without).total - sum(given.credits.values()))


def test_a_report_adds_up() -> None:
    """Shares of scan risk add up to it, the scenarios' worst is its loss, totals are sums of their parts."""
    product = msgspec.structs.replace(S1_PRODUCT, exposure_bp=200)
    held = standing(desk(msgspec.structs.replace(S1, products=(product,)), S1_MARKET), FUT=LOT, _24000CE=-LOT)
    found = report(held)
    (row,) = found.margins
    assert sum(e.margin_share for e in found.exposures) == pytest.approx(row.scan)
    assert -min(found.scenarios["NIFTY"]) == pytest.approx(row.scan) == pytest.approx(119_528.24, abs=0.01)
    assert row.total == pytest.approx(row.span + row.exposure + row.addons) == pytest.approx(row.worst_case)
    assert row.exposure == pytest.approx(0.02 * 2 * LOT * 24_000)
    assert found.worst_stress is not None
    assert found.worst_stress[1] == pytest.approx(-float(held.stress.max()))
    assert (len(found.stress), found.unpriced) == (144, ())
