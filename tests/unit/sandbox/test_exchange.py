"""Many instruments behind one numbering: validation, the order of reports, bounded memory."""

from __future__ import annotations

import msgspec
import pytest

from protocol.codes import Code, ExecType, OrderStatus, OrderType, Side, TimeInForce
from protocol.params import ContractKind, InstrumentParams, InstrumentStatus
from protocol.ticks import BookSnapshot, Trade
from protocol.venue import Query, Report, SendCancel, SendNew, SendReplace, VenueCommand, Void
from sandbox.exchange import Exchange

E9 = 10**9
TRACE = bytes(16)
XY = InstrumentParams(
    instrument="XY", venue="V", currency="USDT", kind=ContractKind.LINEAR, price_step_e9=E9 // 10,
    quantity_step_e9=E9 // 100, tick_e9=E9 // 2, lot_e9=E9 // 10, multiplier_e9=E9, quantity_min_e9=E9 // 5,
    quantity_max_e9=100 * E9, collar_bp=1000, tick_age_max_ns=E9,
)  # fmt: skip


def exchange(*instruments: InstrumentParams, closed_max: int = 100) -> Exchange:
    made = Exchange(instruments or (XY,), closed_max=closed_max)
    for name in made.listings:
        # Steps of 0.1 and 0.01: bid 100 x 10, ask 101 x 8.
        made.on_tick(name, BookSnapshot(1, 1, 5, 5, [(1000, 1000)], [(1010, 800)]), [])
    return made


def new(order_id: str, *, price_e9: int = 100 * E9, quantity_e9: int = E9, **changes: object) -> SendNew:
    order = SendNew(
        1, order_id, "A", "XY", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, quantity_e9, price_e9, TRACE
    )  # fmt: skip
    return msgspec.structs.replace(order, **changes)


def do(venue: Exchange, *commands: VenueCommand) -> list[Report]:
    out: list[Report] = []
    for command in commands:
        venue.execute(command, out)
    return out


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (new("P", price_e9=100 * E9 + E9 // 10), Code.PRICE_TICK),
        (new("P", quantity_e9=E9 + E9 // 100), Code.QTY_LOT),
        (new("P", quantity_e9=E9 // 10), Code.QTY_MIN),
        (new("P", quantity_e9=101 * E9), Code.QTY_MAX),
        (new("P", instrument="ZZ"), Code.INSTR_UNKNOWN),
        (new("P", price_e9=1, quantity_e9=1), Code.PRICE_TICK),  # the first check in the order of SANDBOX section 3
    ],
)
def test_each_refusal_has_its_code(order: SendNew, code: Code) -> None:
    """A refused order is REJECTED with nothing left, and known as such afterwards."""
    venue = exchange()

    refused, again = do(venue, order, order)

    assert (refused.exec_type, refused.code, refused.leaves_quantity_e9) == (ExecType.REJECTED, code, 0)
    assert (again.exec_type, again.status) == (ExecType.ORDER_STATUS, OrderStatus.REJECTED)


def test_a_suspended_instrument_takes_no_order() -> None:
    """STATUS other than open refuses before anything else is looked at."""
    venue = exchange(msgspec.structs.replace(XY, status=InstrumentStatus.SUSPENDED))

    (report,) = do(venue, new("P", price_e9=1))

    assert report.code is Code.INSTR_NOT_TRADABLE


def test_reports_number_all_instruments_in_one_sequence() -> None:
    """report_seq, venue order ids and trade ids count over the whole venue."""
    venue = exchange(XY, msgspec.structs.replace(XY, instrument="ZZ"))

    reports = do(venue, new("P-1", price_e9=101 * E9), new("P-2", price_e9=101 * E9, instrument="ZZ"), Void(3))

    assert [(r.report_seq, r.venue_order_id, r.trade_id) for r in reports] == [
        (1, "S-1", ""), (2, "S-1", "S-T1"), (3, "S-2", ""), (4, "S-2", "S-T2"),
    ]  # fmt: skip


def test_closed_orders_are_forgotten_oldest_first() -> None:
    """Memory is bounded by ``closed_max``; open orders never leave."""
    venue = exchange(closed_max=3)
    do(venue, new("open"))
    for n in range(5):
        do(venue, new(f"P-{n}"), SendCancel(2, f"P-{n}", TRACE))

    answers = do(venue, *(Query(3, i, TRACE) for i in ("P-1", "P-2", "open")))

    assert [r.exec_type for r in answers] == [ExecType.NOT_FOUND, ExecType.ORDER_STATUS, ExecType.ORDER_STATUS]
    assert len(venue.closed) == 3


def test_a_cancel_of_nothing_is_too_late() -> None:
    """An id never seen has no state to carry."""
    (report,) = do(exchange(), SendCancel(1, "P", TRACE))

    assert (report.exec_type, report.status, report.code) == (
        ExecType.CANCEL_REJECT, OrderStatus.NONE, Code.TOO_LATE,
    )  # fmt: skip


def test_cancel_all_takes_the_oldest_first() -> None:
    """Every open order of every instrument, in the order of arrival."""
    venue = exchange(XY, msgspec.structs.replace(XY, instrument="ZZ"))
    do(venue, new("P-1"), new("P-2", instrument="ZZ"), new("P-3"))
    out: list[Report] = []

    venue.cancel_all(Code.STATE_HALTED, out)

    assert [(r.order_id, r.exec_type, r.code) for r in out] == [
        (f"P-{n}", ExecType.CANCELED, Code.STATE_HALTED) for n in (1, 2, 3)
    ]
    assert venue.open == {}


# Replaces


def change(order_id: str, quantity_e9: int, price_e9: int, venue_seq: int = 2) -> SendReplace:
    return SendReplace(venue_seq, order_id, quantity_e9, price_e9, 0, TRACE)


def sold(venue: Exchange, quantity: int) -> list[tuple[str, int]]:
    """Let somebody sell into the bid of 100: (order, quantity in steps) of our fills, in order."""
    out: list[Report] = []
    venue.on_tick("XY", Trade(1, 2, 6, 6, 1000, quantity, Side.SELL, 0), out)
    return [(r.order_id, r.last_quantity_e9 // (E9 // 100)) for r in out]


@pytest.mark.parametrize(
    ("quantity_e9", "price_e9", "first"),
    [(E9 // 2, 100 * E9, "P-1"), (2 * E9, 100 * E9, "P-2"), (E9, 100 * E9, "P-1")],
)
def test_a_replace_keeps_its_place_only_if_it_takes_away(quantity_e9: int, price_e9: int, first: str) -> None:
    """Less, or the same: first in the queue as before; more: behind whoever came meanwhile."""
    venue = exchange()
    do(venue, new("P-1"), new("P-2"))

    (report,) = do(venue, change("P-1", quantity_e9, price_e9))

    assert (report.exec_type, report.status, report.leaves_quantity_e9) == (
        ExecType.REPLACED, OrderStatus.NEW, quantity_e9,
    )  # fmt: skip
    assert report.details is not None
    assert (report.details.quantity_e9, report.details.price_e9) == (quantity_e9, price_e9)
    assert sold(venue, 1001)[0][0] == first


def test_a_new_price_loses_the_place_also_when_it_comes_back() -> None:
    """Away and back again is last in the queue."""
    venue = exchange()
    do(venue, new("P-1"), new("P-2"), change("P-1", E9, 99 * E9), change("P-1", E9, 100 * E9))

    assert [o for o, _ in sold(venue, 1300)] == ["P-2", "P-1"]


def test_a_replace_that_crosses_trades_at_once() -> None:
    """REPLACED first, then its fills as a taker."""
    venue = exchange()
    do(venue, new("P-1"))

    replaced, trade = do(venue, change("P-1", 3 * E9, 101 * E9))

    assert (replaced.exec_type, trade.exec_type, trade.status) == (
        ExecType.REPLACED, ExecType.TRADE, OrderStatus.FILLED,
    )  # fmt: skip
    assert trade.last_quantity_e9 == 3 * E9


def test_a_replace_counts_what_filled() -> None:
    """Below it is refused, equal cancels the rest, above leaves the difference; a finished order is too late."""
    venue = exchange()
    do(venue, new("P-1", quantity_e9=10 * E9, price_e9=101 * E9))  # 8 fill, 2 rest

    below, above, equal, late = do(
        venue, change("P-1", 7 * E9, 101 * E9), change("P-1", 9 * E9, 100 * E9), change("P-1", 8 * E9, 100 * E9),
        change("P-1", 9 * E9, 100 * E9),
    )  # fmt: skip

    assert (below.exec_type, below.code, below.leaves_quantity_e9) == (
        ExecType.REPLACE_REJECT, Code.QTY_BELOW_FILLED, 2 * E9,
    )  # fmt: skip
    assert (above.status, above.leaves_quantity_e9, above.cum_quantity_e9) == (
        OrderStatus.PARTIALLY_FILLED, E9, 8 * E9,
    )  # fmt: skip
    assert (equal.exec_type, equal.cum_quantity_e9) == (ExecType.CANCELED, 8 * E9)
    assert (late.exec_type, late.code, late.status) == (
        ExecType.REPLACE_REJECT, Code.TOO_LATE, OrderStatus.CANCELED,
    )  # fmt: skip


def test_a_replace_keeps_the_contract() -> None:
    """Tick, lot, bounds, and the gateway's kill, which lets through what only takes away."""
    venue = exchange()
    do(venue, new("P-1"))
    refused = do(
        venue, change("P-1", E9, 100 * E9 + 1), change("P-1", E9 + 1, 100 * E9), change("P-1", E9 // 10, 100 * E9),
        change("P-1", 200 * E9, 100 * E9),
    )  # fmt: skip
    venue.is_killed = True
    more, less = do(venue, change("P-1", 2 * E9, 100 * E9), change("P-1", E9 // 2, 100 * E9))

    codes = [Code.PRICE_TICK, Code.QTY_LOT, Code.QTY_MIN, Code.QTY_MAX]
    assert [r.code for r in refused] == codes
    assert (more.code, less.exec_type) == (Code.STATE_HALTED, ExecType.REPLACED)


def test_a_restart_brings_an_order_back_on_its_last_terms() -> None:
    """From a checkpoint and from the reports after it alike; a query names them."""
    venue = exchange()
    order = new("P-1")
    reports = do(venue, order, change("P-1", 3 * E9, 99 * E9))
    (kept,) = venue.open_orders()
    restored, replayed = exchange(), exchange()
    restored.restore_open(kept)
    for report in reports:
        replayed.restore_report(report, {"P-1": order})

    for again in (restored, replayed):
        (status,) = do(again, Query(3, "P-1", TRACE))
        assert status.details is not None
        assert (status.details.quantity_e9, status.details.price_e9) == (3 * E9, 99 * E9)
        assert status.leaves_quantity_e9 == 3 * E9


# Stop orders, FOK, GTD, post-only

STOP, STOP_LIMIT = OrderType.STOP, OrderType.STOP_LIMIT


def trade(venue: Exchange, price: int, quantity: int = 1, side: Side = Side.BUY) -> list[Report]:
    """Let somebody trade at a price in steps."""
    out: list[Report] = []
    venue.on_tick("XY", Trade(1, 2, 6, 6, price, quantity, side, 0), out)
    return out


@pytest.mark.parametrize(("side", "misses", "meets"), [(Side.BUY, 1019, 1020), (Side.SELL, 981, 980)])
def test_a_stop_waits_for_a_trade_at_its_price(side: Side, misses: int, meets: int) -> None:
    """One step before nothing happens; at it TRIGGERED, then a market order: its fills, and the rest cancelled."""
    venue = exchange()
    stop_e9 = 102 * E9 if side is Side.BUY else 98 * E9
    (ack,) = do(venue, new("P-1", side=side, order_type=STOP, price_e9=0, stop_price_e9=stop_e9, quantity_e9=20 * E9))

    missed, met = trade(venue, misses), trade(venue, meets)

    assert (ack.exec_type, missed) == (ExecType.NEW, [])
    assert [r.exec_type for r in met] == [ExecType.TRIGGERED, ExecType.TRADE, ExecType.CANCELED]
    assert venue.open == {}


def test_a_stop_limit_rests_where_it_does_not_fill() -> None:
    """Triggered, it takes up to its limit and rests with what is left."""
    venue = exchange()
    do(venue, new("P-1", order_type=STOP_LIMIT, price_e9=101 * E9, stop_price_e9=100 * E9, quantity_e9=10 * E9))

    met = trade(venue, 1000)

    assert [r.exec_type for r in met] == [ExecType.TRIGGERED, ExecType.TRADE]
    assert met[-1].leaves_quantity_e9 == 2 * E9
    (status,) = do(venue, Query(3, "P-1", TRACE))
    assert status.details is not None
    assert (status.details.price_e9, status.details.stop_price_e9) == (101 * E9, 100 * E9)


def test_a_stop_that_the_market_has_passed_is_triggered_at_once() -> None:
    """By the last trade, as it comes and as it is replaced; and it can be cancelled while it waits."""
    venue = exchange()
    trade(venue, 1020)
    reports = do(venue, new("P-1", order_type=STOP, price_e9=0, stop_price_e9=102 * E9))
    assert [r.exec_type for r in reports] == [ExecType.NEW, ExecType.TRIGGERED, ExecType.TRADE]

    do(venue, new("P-2", order_type=STOP, price_e9=0, stop_price_e9=103 * E9))
    moved = do(venue, SendReplace(4, "P-2", E9, 0, 102 * E9, TRACE))
    assert [r.exec_type for r in moved] == [ExecType.REPLACED, ExecType.TRIGGERED, ExecType.TRADE]

    do(venue, new("P-3", order_type=STOP, price_e9=0, stop_price_e9=103 * E9))
    (cancelled,) = do(venue, SendCancel(5, "P-3", TRACE))
    assert (cancelled.exec_type, trade(venue, 1030)) == (ExecType.CANCELED, [])


def test_stops_are_triggered_in_the_order_they_came() -> None:
    """Two at one trade: the older one takes first."""
    venue = exchange()
    for name in ("P-1", "P-2"):
        do(venue, new(name, order_type=STOP, price_e9=0, stop_price_e9=102 * E9, quantity_e9=6 * E9))

    fills = [(r.order_id, r.last_quantity_e9) for r in trade(venue, 1020) if r.exec_type is ExecType.TRADE]

    assert fills == [("P-1", 6 * E9), ("P-2", 2 * E9)]


def test_fill_or_kill_is_all_or_nothing() -> None:
    """8 are offered: 9 are cancelled untouched, 8 fill."""
    venue = exchange()

    ack, killed = do(venue, new("P-1", price_e9=101 * E9, quantity_e9=9 * E9, time_in_force=TimeInForce.FOK))
    _, filled = do(venue, new("P-2", price_e9=101 * E9, quantity_e9=8 * E9, time_in_force=TimeInForce.FOK))

    assert (ack.exec_type, killed.exec_type, killed.cum_quantity_e9) == (ExecType.NEW, ExecType.CANCELED, 0)
    assert (filled.exec_type, filled.status) == (ExecType.TRADE, OrderStatus.FILLED)


def test_a_post_only_order_never_takes() -> None:
    """At the offer it is refused with its code; below, it rests."""
    venue = exchange()

    (taker,) = do(venue, new("P-1", price_e9=101 * E9, post_only=True))
    (maker,) = do(venue, new("P-2", price_e9=100 * E9, post_only=True))

    assert (taker.exec_type, taker.code) == (ExecType.REJECTED, Code.POST_ONLY)
    assert maker.exec_type is ExecType.NEW


def test_good_till_date_ends_at_its_instant() -> None:
    """Not before; the earliest first; one that ended otherwise is not expired; one that is over is refused."""
    venue = exchange()
    for name, at in (("P-1", 300), ("P-2", 200), ("P-3", 200)):
        do(venue, new(name, time_in_force=TimeInForce.GTD, expire_at_ns=at))
    do(venue, SendCancel(9, "P-3", TRACE))
    out: list[Report] = []
    for now in (199, 200, 300):
        venue.now_ns = now
        venue.expire_due(out)
        out.append(msgspec.structs.replace(out[0], order_id=str(now)) if out else do(venue, Query(1, "x", TRACE))[0])

    assert [r.order_id for r in out] == ["x", "P-2", "200", "P-1", "300"]
    assert out[1].status is OrderStatus.EXPIRED
    (late,) = do(venue, new("P-4", time_in_force=TimeInForce.GTD, expire_at_ns=300))
    assert (late.exec_type, late.code) == (ExecType.REJECTED, Code.TIME_EXPIRE_PAST)


def test_a_restart_keeps_what_waits_and_what_was_triggered() -> None:
    """From a checkpoint and from the reports alike: the one waits on, the other rests, both still expire."""
    waits = new("P-1", order_type=STOP, price_e9=0, stop_price_e9=103 * E9)
    went = new(
        "P-2", order_type=STOP_LIMIT, price_e9=100 * E9, stop_price_e9=100 * E9, time_in_force=TimeInForce.GTD,
        expire_at_ns=500,
    )  # fmt: skip
    venue = exchange()
    reports = [*do(venue, waits, went), *trade(venue, 1000)]
    restored, replayed = exchange(), exchange()
    for kept in venue.open_orders():
        restored.restore_open(kept)
    for report in reports:
        replayed.restore_report(report, {"P-1": waits, "P-2": went})

    for again in (restored, replayed):
        assert [r.exec_type for r in trade(again, 1030)] == [ExecType.TRIGGERED, ExecType.TRADE]
        assert list(again.open) == ["P-2"]
        again.now_ns = 500
        out: list[Report] = []
        again.expire_due(out)
        assert [(r.order_id, r.status) for r in out] == [("P-2", OrderStatus.EXPIRED)]
