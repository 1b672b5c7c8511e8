"""``gate``: what the gate itself costs an order, plain and complete, at workload W and at ten times its size.

Timed is all that the gate does of an order it accepts: the view is derived, every check runs, and the exposure book,
its sums and counters take the order. Not timed: decoding, deduplication, records, making the order. Between two rounds,
off the clock, the oldest orders end, so the open set keeps its size. The floor is the same with routes that have no
parameter of the complete gate: what absent parameters cost.

W's day has a hundred orders for each pair of account and instrument. So every pair trades once before the clock of the
figures starts; those first orders, which make what is kept of a pair, are a figure of their own. Ten times W has ten
million pairs, of which one million trade.
"""

from __future__ import annotations

import gc
import random
import time
from collections import deque
from typing import Final, NamedTuple

from msgspec import structs

from benchmarks import workload
from benchmarks.conditions import conditions
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report
from engine.state import State
from protocol.codes import Code, OrderType, ReferenceSource, Scope, Side, TimeInForce
from protocol.contract_rows import ALL_DAYS, ContractClass, ContractName, ContractRow, ContractScope, VenueRow
from protocol.decisions import Reference
from protocol.orders import NewOrder
from protocol.params import AccountParams, LimitName, LimitRow, Params
from protocol.units import E9
from risk.gate.exposure import Reservation, Route
from risk.gate.further_checks import COMPLETE_CHECKS
from risk.gate.gate import refusal_of
from risk.gate.remembering import remember
from risk.gate.view import View

LARGER: Final = "larger"
OPEN_ORDERS: Final = 10_000
ROUND: Final = 1_000
ROUNDS: Final = 40
QUICK_ROUNDS: Final = 5
RUNS_MAX: Final = 5
PAIRS: Final = workload.INSTRUMENTS * workload.ACCOUNTS
QUICK_PAIRS: Final = 5_000
TENFOLD: Final = 10
SEED: Final = 20_260_601
DATE: Final = 20260601
DAY_NS: Final = 86_400 * E9
NOW: Final = 1_780_315_200 * E9  # that date at noon
BAR_US: Final = 3.9
BAR_COMPILED_US: Final = 2.0
BAR_GROWTH: Final = 1.20
BIG: Final = 10**9 * E9
AWAY_MAX: Final = 5_000  # ticks: so wide that no two orders of a run are the same within the window of duplicates


def gate(options: Options) -> Report:
    """Measure the gate in this process."""
    options.folder.mkdir(parents=True, exist_ok=True)
    rounds, pairs = (QUICK_ROUNDS, QUICK_PAIRS) if options.quick else (ROUNDS, PAIRS)
    measured_under = conditions(options.folder)
    report = Report(
        "gate",
        f"the complete gate, {len(COMPLETE_CHECKS)} checks behind the envelope's, for accepted orders: view, checks, "
        f"commit to the exposure book; {workload.INSTRUMENTS:,} instruments, {workload.ACCOUNTS} accounts, "
        f"{OPEN_ORDERS:,} open orders, and {TENFOLD} times each; floor = the plain gate",
        str(measured_under),
    )
    gc.collect()
    gc.disable()
    try:
        for _ in range(min(options.runs, RUNS_MAX)):
            for name, scale in ((FLOOR, 1), (ENGINE, 1), (LARGER, TENFOLD)):
                took = _measure(scale, rounds, pairs * scale, complete=name != FLOOR)
                report.add(name, us_per_order=took.again_us, us_first=took.first_us)
                gc.collect()
    finally:
        gc.enable()
    us = report.figure(ENGINE, "us_per_order", "µs an order, complete")
    report.figure(LARGER, "us_per_order", f"µs an order, complete, {TENFOLD} times the size")
    report.figure(FLOOR, "us_per_order", "µs an order, plain")
    report.figure(ENGINE, "us_first", "µs an order, complete, the first of its account and instrument")
    report.figure(FLOOR, "us_first", "µs an order, plain, the first of its account and instrument")
    report.ratio("complete ÷ plain", (ENGINE, "us_per_order"), (FLOOR, "us_per_order"))
    report.ratio(f"{TENFOLD} times the size ÷ W", (LARGER, "us_per_order"), (ENGINE, "us_per_order"))
    report.bar("gate, µs an order", us, at_most=BAR_COMPILED_US if measured_under.is_compiled else BAR_US)
    report.hold(f"{rounds * ROUND} orders a run, all accepted")
    report.end()
    return report


def parameters(scale: int, *, complete: bool) -> Params:
    """Return W's parameters; ``complete``: with a real bound for every check of the complete gate."""
    base = workload.params()
    contract = base.instruments[0]
    instruments = tuple(
        structs.replace(
            contract, instrument=f"I{n:05d}", underlying=f"U{n % (100 * scale):04d}" if complete else "",
            contract_class=ContractClass.CALL if complete else ContractClass.NONE, expiry_ns=NOW + DAY_NS,
        )
        for n in range(workload.INSTRUMENTS * scale)
    )  # fmt: skip
    accounts = tuple(
        AccountParams(f"a{n:04d}", "USDT", checks_cash=complete, checks_margin=complete, option_write=True)
        for n in range(workload.ACCOUNTS * scale)
    )
    limits = tuple(row for row in base.limits if row.scope is not Scope.ACCOUNT)
    limits += tuple(LimitRow(LimitName.RATE_COUNT, Scope.ACCOUNT, a.account, 100_000, E9) for a in accounts)
    if not complete:
        return structs.replace(base, instruments=instruments, accounts=accounts, limits=limits)
    limits += tuple(
        LimitRow(name, Scope.GLOBAL, "", str(BIG * E9))
        for name in (LimitName.GROSS_MAX, LimitName.NET_MAX, LimitName.UNDERLYING_MAX)
    )
    limits += (
        LimitRow(LimitName.DAILY_COUNT_MAX, Scope.GLOBAL, "", 10**9),
        LimitRow(LimitName.DAILY_COUNT_MAX, Scope.STRATEGY, workload.STRATEGY, 10**9),
        LimitRow(LimitName.DUPLICATE_COUNT, Scope.GLOBAL, "", 1, E9 // 2),
        LimitRow(LimitName.INTENT_COUNT, Scope.GLOBAL, "", 10_000, E9),
        LimitRow(LimitName.GLOBAL_RATE_COUNT, Scope.GLOBAL, "", 1_000_000, E9),
        LimitRow(LimitName.VENUE_RATE_COUNT, Scope.VENUE, workload.VENUE, 1_000_000, E9),
    )
    values = {
        ContractName.FREEZE: 500 * E9, ContractName.BAND_LOW: E9, ContractName.BAND_HIGH: 10**6 * E9,
        ContractName.LPP_BREAK: 50 * E9, ContractName.LPP_ABSOLUTE: 20 * E9, ContractName.LPP_BP: 4_000,
        ContractName.ORDER_VALUE_MIN: 5 * E9, ContractName.MARGIN_LONG: E9, ContractName.MARGIN_SHORT: E9,
        ContractName.EXPOSURE_LONG: 60_000 * E9, ContractName.EXPOSURE_SHORT: 60_000 * E9,
        ContractName.DELTA_BP: 5_000, ContractName.CUTOFF_BUY_NS: 1_800 * E9, ContractName.CUTOFF_SELL_NS: 1_800 * E9,
    }  # fmt: skip
    return structs.replace(
        base, instruments=instruments, accounts=accounts, limits=limits,
        contracts=tuple(ContractRow(name, ContractScope.GLOBAL, "", value) for name, value in values.items()),
        venues=(VenueRow(workload.VENUE, 0, DAY_NS, 0, ALL_DAYS),),
    )  # fmt: skip


class Took(NamedTuple):
    """µs an order: the first of a pair of account and instrument, and one of a pair that has traded."""

    first_us: float
    again_us: float


def _measure(scale: int, rounds: int, pairs: int, *, complete: bool) -> Took:
    """Let each of some pairs trade once, then measure rounds of orders of these pairs."""
    state = State(1_024)
    state.trading_date = DATE
    given = parameters(scale, complete=complete)
    state.set_params(given, b"")
    for account in state.accounts.values():
        account.cash_e9["USDT"] = BIG * E9
    view = View()
    view.order_age_max_ns, view.skew_max_ns = given.order_age_max_ns, given.skew_max_ns
    draw = random.Random(SEED)
    reference = Reference(workload.PRICE_E9, 0, ReferenceSource.LAST_TRADE)
    opened: deque[Reservation] = deque()
    among = draw.sample(range(len(given.accounts) * len(given.instruments)), pairs)
    firsts = -(-pairs // ROUND)
    now_ns, first_ns, again_ns = NOW, 0, 0
    for n in range(firsts + rounds):
        chosen = among[n * ROUND : (n + 1) * ROUND] if n < firsts else draw.choices(among, k=ROUND)
        made = [_order(draw, given, pair, n * ROUND + i) for i, pair in enumerate(chosen)]
        routed = [(order, state.route(order.account, order.strategy, order.instrument)) for order in made]
        held, took_ns = _round(state, view, routed, now_ns, reference)
        if n < firsts:
            first_ns += took_ns
        else:
            again_ns += took_ns
        opened.extend(held)
        while len(opened) > OPEN_ORDERS * scale:
            state.book.set_leaves(opened.popleft(), 0)
        now_ns += 10_000_000
    return Took(first_ns / pairs / 1e3, again_ns / (rounds * ROUND) / 1e3)


def _round(
    state: State, view: View, routed: list[tuple[NewOrder, Route]], now_ns: int, reference: Reference
) -> tuple[list[Reservation], int]:
    """Let the orders of a round through the gate and into the book; return them and the time of both, in ns."""
    held = [Reservation(route, order.side, 0, 0, 0) for order, route in routed]
    book = state.book
    began_ns = time.perf_counter_ns()
    for (order, route), reservation in zip(routed, held, strict=True):
        view.look(book, order, now_ns, route, now_ns, reference)
        code = refusal_of(view)
        if code is not Code.OK:
            raise AssertionError(f"expected every order to pass, was {code.name}")
        reservation.price, reservation.leaves, reservation.reserved_value_e9 = view.price, view.quantity, view.value_e9
        book.open(reservation, now_ns)
        if route.is_complete:
            remember(view, now_ns)
    return held, time.perf_counter_ns() - began_ns


def _order(draw: random.Random, given: Params, pair: int, n: int) -> NewOrder:
    """Return an order that passes; both sides in turn, so that no position of the worst case grows without end."""
    side = Side.BUY if n % 2 else Side.SELL
    away = draw.randrange(1, AWAY_MAX) * workload.TICK_E9
    price_e9 = workload.PRICE_E9 - away if side is Side.BUY else workload.PRICE_E9 + away
    account, place = divmod(pair, len(given.instruments))
    instrument = given.instruments[place].instrument
    return NewOrder(
        given.accounts[account].account, f"g-{n:08d}", workload.STRATEGY, instrument, side, OrderType.LIMIT,
        TimeInForce.GTC, draw.randrange(1, 50) * workload.LOT_E9, price_e9,
    )  # fmt: skip
