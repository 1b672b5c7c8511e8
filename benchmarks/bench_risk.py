"""``risk``: a book of 5,000 option positions valued and margined, and one order more on it, beside bare numpy."""

from __future__ import annotations

import hashlib
import time
from random import Random
from typing import Final

import msgspec
import numpy as np

from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from market.pricing import Floats, price
from protocol.codes import Side
from protocol.units import E9
from risk.portfolio.book import Book, OpenOrder, Position, Request
from risk.portfolio.catalogue import Catalogue
from risk.portfolio.decide import decide_on
from risk.portfolio.params import DAY_NS, Contract, ContractKind, Limit, LimitKind, Params, Product
from risk.portfolio.snapshot import MarketSnapshot, Quote, Spot
from risk.portfolio.standing import Desk, Standing
from risk.portfolio.valuation import Valued

POSITIONS: Final = 5_000
QUICK_POSITIONS: Final = 200
UNDERLYINGS: Final = 3
EXPIRIES: Final = 6
REPEATS: Final = 20  # of the whole book, a run
ORDERS: Final = 200  # what-ifs a run
QUICK_REPEATS: Final = 2
BAR_BOOK_MS: Final = 25
BAR_ORDER_MS: Final = 2
NOW_NS: Final = 1_780_000_000 * E9
LOT_E9: Final = 65 * E9
SPOT: Final = 24_000
FUNDS_E9: Final = 10**15 * E9  # nothing is refused for funds: every what-if is worked out whole


def risk(options: Options) -> Report:
    """Value and margin the book from a new snapshot, then decide orders on it."""
    size, repeats = (QUICK_POSITIONS, QUICK_REPEATS) if options.quick else (POSITIONS, REPEATS)
    options.folder.mkdir(parents=True, exist_ok=True)  # its disk is named in the conditions
    report = Report(
        "risk",
        f"{size:,} option positions in {UNDERLYINGS} underlyings of {EXPIRIES} expiries and 4 open orders: from a new "
        "snapshot with its volatilities to margin and Greeks; then one order more; floor = numpy alone: the options "
        "repriced in 16 scenarios from ready arrays, and one product of positions and losses",
        str(conditions(options.folder)),
    )
    world = _World(size)
    for of in interleaved(options.runs):
        if of == ENGINE:
            _measure(report, world, repeats)
        else:
            _measure_floor(report, world, repeats)
    book_ms = report.figure(ENGINE, "book_ms", "ms, the whole book from a new snapshot (median of a run)")
    report.figure(ENGINE, "implied_ms", "ms, the same where every volatility is implied from a price first")
    order_ms = report.figure(ENGINE, "order_ms", "ms, one order more (median of a run)")
    report.figure(ENGINE, "order_p99_ms", "ms, one order more (p99 of a run)")
    report.figure(FLOOR, "book_ms", "ms, 16 prices of each option")
    report.figure(FLOOR, "order_ms", "ms, one product")
    report.ratio("book ÷ bare repricing", (ENGINE, "book_ms"), (FLOOR, "book_ms"))
    report.bar("risk, book ms", book_ms, at_most=BAR_BOOK_MS)
    report.bar("risk, one order ms", order_ms, at_most=BAR_ORDER_MS)
    report.end()
    return report


class _World:
    """Contracts, a snapshot with volatilities, the same with prices, a book, and orders; of one seed."""

    def __init__(self, positions: int) -> None:
        chance = Random(7)
        contracts: list[Contract] = []
        quotes: list[Quote] = []
        held: list[Position] = []
        strikes = -(-positions // (UNDERLYINGS * EXPIRIES * 2))
        for u in range(UNDERLYINGS):
            for e in range(EXPIRIES):
                expiry_ns = NOW_NS + (7 + 28 * e) * DAY_NS
                contracts.append(Contract(f"U{u}-{e}-F", f"U{u}", ContractKind.FUTURE, LOT_E9, expiry_ns))
                quotes.append(Quote(contracts[-1].instrument, SPOT * E9))
                for k in range(strikes):
                    strike_e9 = round(SPOT * (0.8 + 0.4 * k / strikes)) * E9
                    for kind in (ContractKind.CALL, ContractKind.PUT):
                        name = f"U{u}-{e}-{k}-{kind.name}"
                        contracts.append(Contract(name, f"U{u}", kind, LOT_E9, expiry_ns, strike_e9))
                        quotes.append(Quote(name, 0, iv_e9=chance.randrange(120_000_000, 300_000_000)))
                        if len(held) < positions:
                            held.append(Position(name, chance.choice((-3, -2, -1, 1, 2, 3)) * LOT_E9))
        products = tuple(
            Product(
                f"U{u}", price_scan_bp=930, vol_scan_e9=40_000_000, rate_bp=650, calendar_charge_e9=420 * E9,
                exposure_bp=200, expiry_exposure_bp=200,
            )
            for u in range(UNDERLYINGS)
        )  # fmt: skip
        limits = (
            Limit(LimitKind.DELTA, 10**9 * E9, underlying="U0"),
            Limit(LimitKind.VEGA, 10**12 * E9, underlying="U0"),
        )
        self.params = Params("bench", tuple(contracts), products, limits=limits)
        self.catalogue = Catalogue(self.params)
        spots = tuple(Spot(p.underlying, SPOT * E9) for p in products)
        self.market = MarketSnapshot("bench", NOW_NS, tuple(quotes), spots)
        worth = Valued(self.market, self.catalogue).price
        priced = tuple(Quote(q.instrument, max(1, round(w * E9))) for q, w in zip(quotes, worth, strict=True))
        self.priced = MarketSnapshot("bench", NOW_NS, priced, spots)
        options = [c.instrument for c in contracts if c.kind is not ContractKind.FUTURE and c.underlying == "U0"]
        orders = tuple(
            OpenOrder(f"open-{n}", chance.choice(options), chance.choice((Side.BUY, Side.SELL)), LOT_E9, 100 * E9)
            for n in range(4)
        )
        self.book = Book("bench", "INR", FUNDS_E9, tuple(held), orders)
        self.requests = [
            Request(str(n), str(n), chance.choice(options), chance.choice((Side.BUY, Side.SELL)), LOT_E9, now_ns=NOW_NS)
            for n in range(ORDERS)
        ]


def _measure(report: Report, world: _World, repeats: int) -> None:
    took = [_book(world, world.market)[1] for _ in range(repeats)]
    implied = [_book(world, world.priced)[1] for _ in range(repeats)]
    standing, _ = _book(world, world.market)
    answers, asked = [], []
    for request in world.requests:
        began_ns = time.perf_counter_ns()
        answer = decide_on(request, standing)
        asked.append(time.perf_counter_ns() - began_ns)
        answers.append(answer)
    if standing.unpriced or any(not a.margin_after_e9 or not a.quantity_e9 for a in answers):
        raise BenchError("risk expected every position priced and every order approved with a margin, was not")
    report.hold(hashlib.sha256(msgspec.json.encode(answers)).hexdigest())
    report.add(
        ENGINE, book_ms=_middle_ms(took), implied_ms=_middle_ms(implied), order_ms=_middle_ms(asked),
        order_p99_ms=sorted(asked)[len(asked) * 99 // 100] / 1e6,
    )  # fmt: skip


def _book(world: _World, market: MarketSnapshot) -> tuple[Standing, int]:
    """Return the book on a snapshot, margins and Greeks of every underlying made, and how long it took, ns."""
    began_ns = time.perf_counter_ns()
    standing = Standing(world.book, Desk(Valued(market, world.catalogue)))
    for number in standing.underlyings:
        standing.margin_of(number)
    return standing, time.perf_counter_ns() - began_ns


def _measure_floor(report: Report, world: _World, repeats: int) -> None:
    c = world.catalogue
    valued = Valued(world.market, c)
    o = np.flatnonzero(c.is_option)
    forward: Floats = valued.forward[o, None] * np.linspace(0.9, 1.1, 16)
    vol: Floats = np.tile(valued.vol[o, None], 16)
    took, asked = [], []
    for _ in range(repeats):
        began_ns = time.perf_counter_ns()
        price(c.is_call[o, None], forward, c.strike[o, None], valued.years[o, None], vol, valued.rate[o, None])
        took.append(time.perf_counter_ns() - began_ns)
    quantity = Standing(world.book, Desk(valued)).quantity
    for _ in range(ORDERS):
        began_ns = time.perf_counter_ns()
        (quantity @ valued.losses).max()
        asked.append(time.perf_counter_ns() - began_ns)
    report.add(FLOOR, book_ms=_middle_ms(took), order_ms=_middle_ms(asked))


def _middle_ms(took_ns: list[int]) -> float:
    return sorted(took_ns)[len(took_ns) // 2] / 1e6
