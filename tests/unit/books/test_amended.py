"""The books of trades that were taken back, corrected, or of nobody's order: rows as if they had come so at first."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from books.sqlite import SqliteStore
from books.store import StoreMark
from books.views import TradeView, view
from journal.projection import Changes, NothingStored, Projection, State
from journal.rows import OrderRow, PositionRow, TradeRow
from protocol.amends import TradeAmended
from protocol.codes import ExecType, OrderStatus, Side, TradeStatus
from protocol.records import Adjusted, Reported
from protocol.venue import Details, Report
from tests.unit.engine.amending import Amending
from tests.unit.engine.desk import E9
from tests.unit.engine.test_suspense import Suspending

T = TradeStatus
_encode = msgspec.msgpack.encode


def projected(desk: Amending) -> Changes:
    """Return what all records of a desk mean, taken at once."""
    projection = Projection(NothingStored())
    for seq, now_ns, _, record in desk.records:
        projection.apply(seq, now_ns, record)
    return projection.take()


def stored(desk: Amending, path: Path, step: int) -> SqliteStore:
    """Return a store that took the records step by step, each step by a projection that remembers nothing."""
    store, mark = SqliteStore(path), StoreMark()
    for start in range(0, len(desk.records), step):
        projection = Projection(store, mark.state)
        for seq, now_ns, _, record in desk.records[start : start + step]:
            projection.apply(seq, now_ns, record)
        changes = projection.take()
        after = StoreMark(changes.state.seq, 0, 1, changes.state)
        store.apply(mark, changes, after)
        mark = after
    return store


def trades_of(changes: Changes) -> dict[str, TradeRow]:
    return {t.trade_id: t for t in changes.trades}


def position_of(changes: Changes) -> PositionRow:
    (position,) = changes.positions
    return position


walks = st.lists(
    st.tuples(
        st.sampled_from(("buy", "sell", "bust", "correct")), st.integers(1, 6), st.integers(90, 110),
        st.integers(1, 9),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(walk=walks, step=st.integers(1, 12))
def test_any_history_comes_to_what_its_trades_come_to(
    tmp_path_factory: pytest.TempPathFactory, walk: list[tuple[str, int, int, int]], step: int
) -> None:
    """Position, average, cum and value are those of the trades that count, alone and in their order; however stored."""
    desk = Amending()
    orders = {side: desk.working(side.name, 1_000, side) for side in Side}
    counts: dict[str, tuple[Side, int, int]] = {}
    for kind, amount, price, which in walk:
        named = f"T{which}"
        known = counts.get(named)
        match kind:
            case "buy" | "sell":
                side = Side[kind.upper()]
                desk.fill(orders[side], amount, price)
                counts[f"T{desk.trades}"] = side, amount, price
            case _ if known is None or not known[1]:
                continue
            case "bust":
                desk.bust(orders[known[0]], named)
                counts[named] = known[0], 0, 0
            case _:
                desk.amend(orders[known[0]].order_id, named, quantity=amount, price=price)
                counts[named] = known[0], amount, price
    changes = projected(desk)
    plain = PositionRow(0, "paper", "a1", "XY", 0, 0, {}, 0)
    for side, quantity, price in counts.values():
        if quantity:
            signed_e9 = quantity * E9 if side is Side.BUY else -quantity * E9
            plain.fill(signed_e9, price * E9, plain.quantity_e9 + signed_e9)
    for position in changes.positions:
        assert (position.quantity_e9, position.cost_e18) == (plain.quantity_e9, plain.cost_e18)
        assert position.quantity_e9 == desk.position * E9
    for row in changes.orders:
        mine = [(q, p) for side, q, p in counts.values() if side is row.side]
        filled = sum(q for q, _ in mine)
        assert (row.cum_quantity_e9, row.filled_e9, row.leaves_quantity_e9) == (
            filled * E9, filled * E9, (1_000 - filled) * E9,
        )  # fmt: skip
        assert row.cost_e18 == sum(q * p for q, p in mine) * E9 * E9
        assert row.value_e9 == sum(q * p for q, p in mine) * E9
    store = stored(desk, tmp_path_factory.mktemp("books") / "s", step)
    for kind in ("orders", "trades", "positions"):
        assert sorted(map(repr, store.list_rows(kind, {}, 500).rows)) == sorted(map(repr, getattr(changes, kind)))
    store.close()


def test_a_trade_row_says_what_became_of_it() -> None:
    """Taken back it keeps its terms and counts no more; corrected it has the new ones, and those it came with."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3, 99)
    desk.fill(order, 2, 98)
    desk.fill(order, 1, 97)
    desk.amend(order.order_id, "T1", quantity=4, price=96)
    desk.bust(order, "T2")
    seq = desk.seq
    trades = trades_of(projected(desk))
    assert [t.status for t in trades.values()] == [T.CORRECTED, T.BUSTED, T.BOOKED]
    one, two = trades["T1"], trades["T2"]
    assert (one.last_quantity_e9, one.last_price_e9) == (4 * E9, 96 * E9)
    assert (one.first_quantity_e9, one.first_price_e9) == (3 * E9, 99 * E9)
    assert (two.last_quantity_e9, two.last_price_e9, two.changed_seq) == (2 * E9, 98 * E9, seq)
    shown = view(two)
    assert isinstance(shown, TradeView)
    assert (shown.status, shown.changed_seq) == ("BUSTED", seq)


def test_fees_go_back_and_are_those_of_the_correction() -> None:
    """A taken back trade costs nothing; a corrected one what its correction says, or what it cost before."""
    desk = Amending()
    order = desk.working()

    def say(exec_type: ExecType, trade_id: str, original: str, fee: int, currency: str, quantity: int) -> None:
        details = Details(original_trade_id=original) if original else None
        said = Report(
            desk.venue.report_seq + 1, exec_type, order.order_id, "v", 0, OrderStatus.NONE, 0, 0, desk.now, trade_id,
            quantity * E9, 100 * E9, fee_e9=fee, currency=currency, details=details,
        )  # fmt: skip
        raw = Raw(_encode(said))
        if original:
            desk.apply(TradeAmended("sandbox", raw, *desk.core.amends.decide(desk.venue, said)))
        else:
            desk.apply(Reported("sandbox", raw, desk.core.reports.decide_report(desk.venue, said)))

    for n in (1, 2, 3):
        say(ExecType.TRADE, f"T{n}", "", 10 * n, "USDT", 2)
    assert position_of(projected(desk)).fees_e9 == {"USDT": 60}
    say(ExecType.TRADE_CANCEL, "", "T3", 0, "", 0)
    assert position_of(projected(desk)).fees_e9 == {"USDT": 30}
    say(ExecType.TRADE_CORRECT, "C1", "T2", 15, "USDT", 3)
    say(ExecType.TRADE_CORRECT, "C2", "T1", 0, "", 1)
    assert position_of(projected(desk)).fees_e9 == {"USDT": 25}


def test_a_trade_from_before_an_adjustment_is_booked_out_at_its_price() -> None:
    """What the position was made of is not known any more: its quantity is exact, its cost by the trade's own price."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 4, 100)
    desk.apply(Adjusted("a1", "XY", 10 * E9, 50 * E9, "", "", "statement"))
    desk.bust(order, "T1")
    position = position_of(projected(desk))
    assert (position.quantity_e9, position.avg_price_e9) == (6 * E9, 50 * E9)
    assert desk.position == 6


def test_an_order_that_the_engine_forgot_still_has_its_row_right() -> None:
    """The engine says what the trade counted; the books have the order."""
    desk = Amending()
    order = desk.working(quantity=3)
    desk.fill(order, 3, 99)
    del desk.state.closed[order.order_id]
    desk.state.closed_order.remove(order.order_id)
    desk.amend(order.order_id, "T1")
    changes = projected(desk)
    (row,) = changes.orders
    assert isinstance(row, OrderRow)
    assert (row.status, row.cum_quantity_e9, row.filled_e9, row.value_e9, row.cost_e18, row.leaves_quantity_e9) == (
        OrderStatus.CANCELED, 0, 0, 0, 0, 0,
    )  # fmt: skip
    assert (position_of(changes).quantity_e9, position_of(changes).cost_e18) == (0, 0)


def test_a_fill_in_suspense_is_a_row_that_counts_nowhere_until_it_is_assigned(tmp_path: Path) -> None:
    """SUSPENSE, then ASSIGNED with whose it is and the position it moved, or DISMISSED; found by its status."""
    desk = Suspending()
    desk.unknown("T1", 3, 99, account="a1", instrument="XY", side=Side.BUY)
    desk.unknown("T2", 2, 98)
    store = stored(desk, tmp_path / "one", 2)
    rows = store.list_rows("trades", {"status": int(T.SUSPENSE)}, 10).rows
    assert [r.trade_id for r in rows if isinstance(r, TradeRow)] == ["T1", "T2"]
    assert not store.list_rows("positions", {}, 10).rows
    store.close()
    desk.assign("T1")
    desk.dismiss("T2")
    desk.unknown("T2", 2, 98)  # said again
    changes = projected(desk)
    one, two = (trades_of(changes)[t] for t in ("T1", "T2"))
    assert (one.status, one.account, one.strategy, one.position_e9) == (T.ASSIGNED, "a1", "s1", 3 * E9)
    assert two.status is T.DISMISSED
    assert (position_of(changes).quantity_e9, position_of(changes).avg_price_e9) == (3 * E9, 99 * E9)
    store = stored(desk, tmp_path / "two", 1)
    assert [repr(r) for r in store.list_rows("trades", {}, 10).rows] == [repr(t) for t in changes.trades]
    assert view(one) != view(two)
    store.close()


def test_a_state_without_amendments_reads_nothing_of_the_store() -> None:
    """Plain trades cost no look-up."""
    desk = Amending()
    desk.fill(desk.working(), 3)
    assert projected(desk).amended == []
    assert projected(desk).state == State(desk.seq, "paper", 20260530)
