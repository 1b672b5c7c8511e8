"""What holds of margin whatever the book: the theorem that the gate's estimate rests on, and what worst case means."""

from __future__ import annotations

from itertools import chain, combinations

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.units import E9
from risk.portfolio.book import OpenOrder
from risk.portfolio.decide import WHOLE
from risk.portfolio.margin import Spreads, calendar_charge
from risk.portfolio.params import Params, Product
from risk.portfolio.snapshot import MarketSnapshot, Quote
from risk.portfolio.standing import Desk, Standing
from risk.portfolio.worst import alone, leg_of, need
from tests.unit.risk.margined import CALL, FUTURE, NOW_NS, PUT, book, contract, desk, e9, open_order

STRIKES = (22_000, 24_000, 26_000)
CHARGE = 420


def two_expiries(charge: float, minimum: float = 0) -> Desk:
    """Return a desk of futures and options of two expiries, exposure and add-ons included."""
    contracts = [contract(f"F{days}", FUTURE, days=days) for days in (9, 37)]
    contracts += [
        contract(f"{strike}{name}{days}", kind, strike, days)
        for days in (9, 37) for strike in STRIKES for name, kind in (("CE", CALL), ("PE", PUT))
    ]  # fmt: skip
    product = Product(
        "NIFTY", price_scan_bp=930, vol_scan_e9=e9("0.04"), rate_bp=650, calendar_charge_e9=e9(charge), exposure_bp=200,
        ad_hoc_bp=50, deep_otm_bp=100, deep_otm_from_bp=800, expiry_exposure_bp=200,
        short_option_minimum_e9=e9(minimum),
    )  # fmt: skip
    quotes = [Quote(c.instrument, e9(24_000 if c.kind is FUTURE else 0), iv_e9=e9("0.15")) for c in contracts]
    return desk(Params("two", tuple(contracts), (product,)), MarketSnapshot("two", NOW_NS, tuple(quotes)))


WITH_CHARGE, WITHOUT = two_expiries(CHARGE), two_expiries(0)
WITH_MINIMUM = two_expiries(CHARGE, 300)
NAMES = list(WITH_CHARGE.catalogue.index)
books = st.dictionaries(st.sampled_from(NAMES), st.integers(-6, 6).map(lambda lots: lots * 65.0), max_size=6)
orders = st.tuples(st.sampled_from(NAMES), st.integers(-6, 6).filter(bool).map(lambda lots: lots * 65.0))


def held(on: Desk, positions: dict[str, float]) -> Standing:
    """Return a standing of these positions."""
    return Standing(book(**{f"_{name}": quantity for name, quantity in positions.items()}), on)


def plus(positions: dict[str, float], order: tuple[str, float]) -> dict[str, float]:
    """Return the positions once the order has filled."""
    name, quantity = order
    return positions | {name: positions.get(name, 0.0) + quantity}


@settings(max_examples=150, deadline=None)
@example(
    positions={"24000CE9": 195.0, "22000CE9": -130.0}, order=("26000CE37", 65.0)
)  # fails without the charge in R_o
@given(positions=books, order=orders)
def test_an_order_never_adds_more_than_its_own_margin_and_its_calendar_charge(
    positions: dict[str, float], order: tuple[str, float]
) -> None:
    """M(P + o) <= M(P) + R_o over two expiries, where R_o has quantity times delta times the charge in it."""
    for on in (WITH_CHARGE, WITHOUT, WITH_MINIMUM):
        before = float(held(on, positions).margin_of(0).total[0])
        after = float(held(on, plus(positions, order)).margin_of(0).total[0])
        assert after <= before + alone(on, on.catalogue.index[order[0]], order[1]) + 1e-6


@settings(max_examples=150, deadline=None)
@given(positions=books, name=st.sampled_from([n for n in NAMES if "E" in n]), lots=st.integers(1, 6))
def test_buying_an_option_raises_span_by_at_most_its_calendar_charge(
    positions: dict[str, float], name: str, lots: int
) -> None:
    """Nothing without the charge; with it, quantity times delta times the charge."""
    for on, charge in ((WITHOUT, 0.0), (WITH_CHARGE, CHARGE)):
        before = float(held(on, positions).margin_of(0).span[0])
        after = float(held(on, plus(positions, (name, lots * 65.0))).margin_of(0).span[0])
        delta = abs(float(on.valued.delta[on.catalogue.index[name]]))
        assert after <= before + lots * 65.0 * delta * charge + 1e-6


def test_without_the_charge_in_it_the_bound_fails() -> None:
    """A call bought that raises span, for it is spread against the near month: the term is needed."""
    positions, order = {"24000CE9": 195.0, "22000CE9": -130.0}, ("26000CE37", 65.0)
    before, after = (held(WITH_CHARGE, p).margin_of(0) for p in (positions, plus(positions, order)))
    assert float(after.span[0] - before.span[0]) == pytest.approx(1_141.69, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(positions=books, pending=st.lists(orders, max_size=5))
def test_the_worst_case_is_the_worst_of_all_subsets(
    positions: dict[str, float], pending: list[tuple[str, float]]
) -> None:
    """Margin and premiums of each subset of open orders, one by one, against the one pass over all of them."""
    open_orders = tuple(open_order(name, quantity) for name, quantity in pending)
    on = WITH_CHARGE
    account = msgspec.structs.replace(held(on, positions).book, orders=open_orders)
    worst = 0.0
    for filled in chain.from_iterable(combinations(open_orders, n) for n in range(len(open_orders) + 1)):
        at = dict(positions)
        for order in filled:
            at = plus(at, (order.instrument, signed(order)))
        premium = sum(leg_of(on, on.catalogue.index[o.instrument], o).premium for o in filled)
        worst = max(worst, float(held(on, at).margin_of(0).total[0]) + premium)
    assert float(need(Standing(account, on), 0, None, WHOLE).now[0]) == pytest.approx(worst, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(positions=books, pending=st.lists(orders, min_size=7, max_size=8))
def test_beyond_six_orders_the_bound_holds_for_every_subset(
    positions: dict[str, float], pending: list[tuple[str, float]]
) -> None:
    """Positions plus what is reserved is at least what any subset of seven or eight orders needs."""
    on = WITH_CHARGE
    open_orders = tuple(open_order(name, quantity) for name, quantity in pending)
    account = msgspec.structs.replace(held(on, positions).book, orders=open_orders)
    bound = float(need(Standing(account, on), 0, None, WHOLE).now[0])
    for start in range(len(open_orders)):
        at = dict(positions)
        for order in open_orders[start:]:
            at = plus(at, (order.instrument, signed(order)))
        assert float(held(on, at).margin_of(0).total[0]) <= bound + 1e-6


@settings(max_examples=100, deadline=None)
@given(deltas=st.lists(st.integers(-9, 9), min_size=1, max_size=5))
def test_the_calendar_charge_takes_each_delta_once(deltas: list[int]) -> None:
    """Pairs are of opposite sign and use up the smaller side, no more: the charge is that of the matched units."""
    spreads = Spreads(WITH_CHARGE.catalogue.products[0], np.full(len(deltas), 24_000.0))
    matched = min(sum(d for d in deltas if d > 0), -sum(d for d in deltas if d < 0))
    assert float(calendar_charge(np.array([deltas], np.float64), spreads)[0]) == pytest.approx(CHARGE * matched)


def signed(order: OpenOrder) -> float:
    """Return the order's quantity, negative for a sell."""
    return (order.leaves_e9 if order.side == 1 else -order.leaves_e9) / E9
