"""The decision on a held order: approve, approve what improves, trim, reject; replayable, careful without prices."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from protocol.codes import Code
from protocol.units import E9
from risk.portfolio.answer import Decision, Verdict
from risk.portfolio.book import Book, OrderClass, Request
from risk.portfolio.decide import decide, decide_on
from risk.portfolio.margin import up_e9
from risk.portfolio.params import Limit, LimitKind, Params
from risk.portfolio.snapshot import MarketSnapshot, Quote, RiskArray
from risk.portfolio.standing import Standing
from tests.unit.risk.margined import (
    FUTURE,
    LOT,
    NOW_NS,
    S1,
    S1_MARKET,
    S1_PRODUCT,
    book,
    contract,
    desk,
    e9,
    open_order,
    request,
)  # fmt: skip

SHORT_CALL = e9("146081.08")


def answered(asked: Request, of: Book, params: Params = S1, market: MarketSnapshot = S1_MARKET) -> Decision:
    """Return the decision, which is that of a prepared standing and of a second time too."""
    found = decide(asked, of, market, params)
    assert found == decide_on(asked, Standing(of, desk(params, market)))
    return found


def test_an_order_that_the_funds_bear_is_approved() -> None:
    """A short call on an empty book needs S1's margin; the answer carries before, after, increment and scenario."""
    found = answered(request("24000CE", -LOT), book(146_081.09))
    assert (found.verdict, found.code, found.quantity_e9) == (Verdict.APPROVE, Code.OK, LOT * E9)
    assert (found.margin_before_e9, found.worst_scenario) == (0, 11)
    assert found.margin_after_e9 == pytest.approx(SHORT_CALL, abs=5e6)
    assert found.margin_inc_e9 == found.margin_after_e9
    assert (found.book_seq, found.snapshot_id, found.params_version) == (7, "s1", "s1")
    assert found.valid_until_ns == NOW_NS + S1.answer_valid_ns


def test_one_hundredth_less_is_rejected_with_what_binds() -> None:
    """Funds a hundredth below the need: rejected, naming the limit, what it would be and what is allowed."""
    found = answered(request("24000CE", -LOT), book(146_081.07))
    assert (found.verdict, found.quantity_e9, found.limit) == (Verdict.REJECT, 0, "margin")
    assert found.actual_e9 > found.allowed_e9 == e9("146081.07")
    assert found.quantity_max_e9 == 0
    assert "expected at most 146,081.07, was 146,081.08" in found.text


def test_a_hedge_costs_what_it_adds_to_the_book() -> None:
    """A call sold against a future needs 1,066.92 more, not its own 146,081.08."""
    found = answered(request("24000CE", -LOT), book(146_146.92, FUT=LOT))
    assert found.verdict is Verdict.APPROVE
    assert found.margin_inc_e9 == pytest.approx(e9("1066.92"), abs=5e6)


def test_what_does_not_fit_is_trimmed_to_the_most_lots_that_do() -> None:
    """Of five lots two fit; an order that may not be trimmed is rejected and told how many would."""
    funds = book(300_000)
    trimmed = answered(request("24000CE", -5 * LOT, trim=True), funds)
    assert (trimmed.verdict, trimmed.quantity_e9) == (Verdict.TRIM, 2 * LOT * E9)
    assert trimmed.margin_after_e9 <= funds.funds_e9 < trimmed.actual_e9
    whole = answered(request("24000CE", -5 * LOT), funds)
    assert (whole.verdict, whole.quantity_e9, whole.quantity_max_e9) == (Verdict.REJECT, 0, 2 * LOT * E9)


def test_of_a_thousand_lots_the_most_that_fit_are_found() -> None:
    """More lots than are tried at once: the largest that fits is found all the same."""
    one = answered(request("24000CE", -LOT), book(1e9)).margin_after_e9
    found = answered(request("24000CE", -1_000 * LOT, trim=True), book((777 * one + one // 2) / E9))
    assert found.quantity_e9 == 777 * LOT * E9


def test_a_trim_below_the_least_is_a_reject() -> None:
    """Two lots would fit, three are the least that the client wants: nothing is sent."""
    asked = msgspec.structs.replace(request("24000CE", -5 * LOT, trim=True), quantity_min_e9=3 * LOT * E9)
    found = answered(asked, book(300_000))
    assert (found.verdict, found.quantity_max_e9) == (Verdict.REJECT, 2 * LOT * E9)


def test_an_exit_is_approved_whatever_is_broken() -> None:
    """Without funds at all an exit goes, also one that raises margin by taking a hedge away."""
    found = answered(request("25000CE", -LOT, order_class=OrderClass.EXIT), book(0, _24000CE=-LOT, _25000CE=LOT))
    assert (found.verdict, found.code, found.quantity_e9) == (Verdict.APPROVE, Code.RISK_IMPROVES, LOT * E9)
    assert [found.margin_before_e9, found.margin_after_e9] == pytest.approx([e9("63358.84"), SHORT_CALL], abs=6e6)


def test_what_makes_nothing_worse_is_approved_over_a_broken_limit() -> None:
    """Over its funds already, an account may buy what covers its short calls, and not sell more of them."""
    of = book(100_000, _24000CE=-2 * LOT)
    better = answered(request("FUT", LOT, order_class=OrderClass.NONINC), of)
    assert (better.verdict, better.code) == (Verdict.APPROVE, Code.RISK_IMPROVES)
    assert better.margin_after_e9 == better.margin_before_e9
    worse = answered(request("24000CE", -LOT), of)
    assert worse.verdict is Verdict.REJECT


def test_open_orders_count_in_the_worst_of_their_subsets() -> None:
    """A hedge that is only an open order gives nothing: it need not fill."""
    hedge = open_order("FUT", LOT, price=24_000)
    unhedged = answered(request("24000CE", -LOT), book(1e9))
    pending = answered(request("24000CE", -LOT), book(1e9, (hedge,)))
    filled = answered(request("24000CE", -LOT), book(1e9, FUT=LOT))
    assert pending.margin_after_e9 >= max(unhedged.margin_after_e9, filled.margin_after_e9)


def test_an_option_that_is_bought_needs_its_premium() -> None:
    """A long call needs no margin, but its price times quantity: to the millionth."""
    asked = request("24000CE", LOT, price=437.65)
    assert answered(asked, book("28447.25")).verdict is Verdict.APPROVE
    assert answered(asked, book("28447.24")).verdict is Verdict.REJECT


def test_more_than_six_open_orders_are_bounded_by_what_is_reserved() -> None:
    """Seven orders: the margin of the positions plus every reservation, and the order's own."""
    orders = tuple(open_order("FUT", LOT, price=24_000, reserved=200_000) for _ in range(7))
    asked = msgspec.structs.replace(request("24000CE", -LOT), reserved_e9=e9(150_000))
    found = answered(asked, book(1e9, orders))
    assert (found.margin_before_e9, found.margin_after_e9) == (e9(1_400_000), e9(1_550_000))


def test_a_limit_on_delta_binds_with_its_name() -> None:
    """A bound of 40 units of NIFTY's delta: a call of 65 fits at half a delta, a future does not."""
    limits = (Limit(LimitKind.DELTA, e9(40), underlying="NIFTY"), Limit(LimitKind.DELTA, 0, account="other"))
    params = msgspec.structs.replace(S1, limits=limits)
    assert answered(request("24000CE", LOT), book(1e9), params).verdict is Verdict.APPROVE
    found = answered(request("FUT", LOT), book(1e9), params)
    assert (found.verdict, found.limit, found.actual_e9) == (Verdict.REJECT, "DELTA(NIFTY)", e9(65))


def test_a_limit_on_stress_binds() -> None:
    """A future that loses 20 % of 24,000 in the worst cell: more than 30 % of a million is refused."""
    params = msgspec.structs.replace(S1, limits=(Limit(LimitKind.STRESS, e9("0.30")),))
    of = book(1_000_000)
    found = answered(request("FUT", LOT), of, params)
    assert (found.verdict, found.limit) == (Verdict.REJECT, "STRESS")
    assert found.actual_e9 == e9(65 * 4_800)
    assert answered(request("FUT", LOT), msgspec.structs.replace(of, equity_e9=e9(1_040_000)), params).quantity_e9


def test_margin_at_expiry_is_its_own_reason() -> None:
    """Short calls that pay 2 % more on their last day: enough for today is not enough to hold them."""
    product = msgspec.structs.replace(S1_PRODUCT, expiry_exposure_bp=200)
    params = msgspec.structs.replace(S1, products=(product,))
    on_the_day = SHORT_CALL + e9(65 * 24_000 * 0.02)
    short = answered(request("24000CE", -LOT), book(150_000), params)
    assert (short.verdict, short.code, short.limit) == (Verdict.REJECT, Code.MARGIN_AT_EXPIRY, "margin_at_expiry")
    assert short.margin_expiry_e9 == pytest.approx(on_the_day, abs=5e6)
    assert answered(request("24000CE", -LOT), book((on_the_day + e9("0.01")) / E9), params).verdict is Verdict.APPROVE


def test_on_its_expiry_day_a_leg_stands_alone() -> None:
    """A near future against a far one needs a spread's margin today, and on its last day that of both legs."""
    far = contract("FAR", FUTURE, days=58)
    params = msgspec.structs.replace(S1, contracts=(*S1.contracts, far))
    market = msgspec.structs.replace(S1_MARKET, quotes=(*S1_MARKET.quotes, Quote("FAR", e9(24_200))))
    found = answered(request("FUT", LOT), book(200_000, FAR=-LOT), params, market)
    assert (found.code, found.margin_after_e9) == (Code.MARGIN_AT_EXPIRY, found.margin_before_e9)
    assert found.margin_expiry_e9 == e9(2 * 145_080)
    without = msgspec.structs.replace(S1_PRODUCT, hold_to_expiry=False)
    held = answered(
        request("FUT", LOT), book(200_000, FAR=-LOT), msgspec.structs.replace(params, products=(without,)), market
    )
    assert (held.verdict, held.margin_expiry_e9) == (Verdict.APPROVE, 0)
    closing = answered(request("FUT", LOT, order_class=OrderClass.NONINC), book(200_000, FAR=-LOT), params, market)
    assert closing.verdict is Verdict.APPROVE, "only new risk has to be held to its expiry"


def test_a_share_of_the_worst_settlement_is_kept() -> None:
    """Half of what a short call pays at 15 % up is needed beyond the margin of its expiry day."""
    plain = answered(request("24000CE", -LOT), book(1e9))
    params = msgspec.structs.replace(S1, stress_buffer_bp=5_000)
    found = answered(request("24000CE", -LOT), book(1e9), params)
    assert found.margin_expiry_e9 - plain.margin_expiry_e9 == pytest.approx(e9(LOT * 3_600 / 2), abs=1e6)
    assert found.margin_after_e9 == plain.margin_after_e9


def test_a_limit_on_gamma_and_on_vega_counts_open_orders() -> None:
    """Sold straddles: each order's own sign counts, whichever of them fill."""
    vega = 2 * 65 * 27.297
    params = msgspec.structs.replace(S1, limits=(Limit(LimitKind.VEGA, e9(vega - 1), underlying="NIFTY"),))
    pending = book(1e9, (open_order("24000CE", -LOT), open_order("24000PE", LOT)))
    assert answered(request("24000PE", -LOT), book(1e9), params).verdict is Verdict.APPROVE
    found = answered(request("24000PE", -LOT), pending, params)
    assert (found.verdict, found.limit) == (Verdict.REJECT, "VEGA(NIFTY)")
    assert found.actual_e9 == pytest.approx(e9(vega), rel=1e-5)
    gamma = msgspec.structs.replace(S1, limits=(Limit(LimitKind.GAMMA, e9(5), underlying="NIFTY"),))
    found = answered(request("24000PE", -LOT), book(1e9), gamma)
    assert found.actual_e9 == pytest.approx(e9(65 * 0.000384391 * 240), rel=1e-5)


@pytest.mark.parametrize(("name", "limit"), [("GOLD", "contract"), ("25000CE", "price")])
def test_what_nothing_prices_is_never_approved_but_for_an_exit(name: str, limit: str) -> None:
    """An unknown contract, and one without quote or volatility: no new risk in it, a way out of it."""
    market = msgspec.structs.replace(S1_MARKET, quotes=S1_MARKET.quotes[:1])
    found = answered(request(name, LOT), book(1e9), market=market)
    assert (found.verdict, found.limit) == (Verdict.REJECT, limit)
    assert name in found.text
    assert answered(request(name, LOT, order_class=OrderClass.EXIT), book(0), market=market).quantity_e9 == LOT * E9
    assert answered(request("FUT", LOT), book(1e9, **{f"_{name}": LOT}), market=market).verdict is Verdict.REJECT


def test_what_has_expired_is_not_approved() -> None:
    """At the instant of its expiry a contract is no longer one; a nanosecond before it is."""
    expiry_ns = S1.contracts[1].expiry_ns
    for at_ns, verdict in ((expiry_ns - 1, Verdict.APPROVE), (expiry_ns, Verdict.REJECT)):
        market = msgspec.structs.replace(S1_MARKET, at_ns=at_ns)
        found = answered(request("24000CE", -LOT), book(1e9), market=market)
        assert (found.verdict, found.limit) == (verdict, "" if verdict is Verdict.APPROVE else "contract")


def test_a_clearing_houses_array_alone_is_no_price() -> None:
    """With losses from a file and nothing that tells forward or spot: rejected, and never a figure that is none."""
    array = RiskArray("24000CE", (0,) * 16, e9("0.5"))
    market = MarketSnapshot("a", NOW_NS, (Quote("24000CE", e9(400)),), arrays=(array,))
    assert answered(request("24000CE", -LOT), book(1e9), market=market).limit == "price"


def test_a_decision_repeats_from_its_written_inputs() -> None:
    """Request, book, snapshot and parameters written and read again give the same bytes of an answer."""
    inputs = (request("24000CE", -5 * LOT, trim=True), book(300_000, FUT=LOT), S1_MARKET, S1)
    again = [msgspec.json.decode(msgspec.json.encode(value), type=type(value)) for value in inputs]
    assert list(inputs) == again
    assert msgspec.json.encode(decide(*inputs)) == msgspec.json.encode(decide(*again))


def test_money_is_rounded_up_to_a_millionth() -> None:
    """Never down, and not for what lies beyond a float's digits."""
    assert up_e9(0.1234561) == 123_457_000
    assert up_e9(143720.0) == up_e9(143720.0 + 3e-11) == 143_720 * E9
    assert up_e9(-1.0000005) == -1_000_000_000


def test_the_engine_and_the_types_need_no_numpy() -> None:
    """Neither the engine's process nor the values of a request import numpy or scipy."""
    modules = "engine.main, risk.portfolio.book, risk.portfolio.snapshot, risk.portfolio.params, risk.portfolio.answer"
    said = f"import {modules}, sys; print([m for m in ('numpy', 'scipy', 'plotly') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
