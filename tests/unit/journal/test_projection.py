"""The projection: what records mean for orders, trades, positions and breaches."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from journal.errors import ProjectionError
from journal.projection import Changes, NothingStored, Projection, State
from journal.rows import OrderRow, PositionRow, avg_price_e9
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind, Scope, Side
from protocol.decisions import CancelDecision, EngineCancel, ReportDecision, ReportEffect
from protocol.orders import CancelOrder
from protocol.records import CancelRequested, ControlAction, Controlled, Queried, Record
from tests.unit.journal.samples import E9, cancel, item, ordered
from tests.unit.journal.stories import STARTED, Story, report, reported


def _project(records: list[Record], projection: Projection | None = None) -> Changes:
    projection = projection or Projection(NothingStored())
    for seq, record in enumerate(records, start=1):
        projection.apply(seq, seq * 10, record)
    return projection.take()


def _filled(name: str, quantity_e9: int, price_e9: int, position_e9: int, cum_e9: int, side: Side = Side.BUY) -> Record:
    said = report(name, trade_id=f"{name}-{cum_e9}", quantity_e9=quantity_e9, price_e9=price_e9, fee_e9=7)
    status = OrderStatus.FILLED if cum_e9 == 10 * E9 else OrderStatus.PARTIALLY_FILLED
    decision = ReportDecision(
        ReportEffect.APPLIED, "demo", name, "mm", "BTCUSDT", side, status=status,
        leaves_quantity_e9=10 * E9 - cum_e9, cum_quantity_e9=cum_e9, value_e9=1, position_e9=position_e9,
    )  # fmt: skip
    return reported(said, decision)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_story_comes_out_as_its_teller_kept_it(seed: int) -> None:
    """Whatever happens, orders, trades, position, fees and breaches are what the records add up to."""
    story = Story(Random(seed))
    changes = _project(story.write(120))
    orders = {row.client_order_id: row for row in changes.orders}

    assert {n: orders[n].status for n in story.status} == story.status
    assert {n: orders[n].cum_quantity_e9 for n in story.cum} == story.cum
    assert {n: orders[n].filled_e9 for n in story.cum} == story.cum
    assert {n: orders[n].value_e9 for n in story.value} == story.value
    assert all(row.is_open == (row.status not in {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})
               for row in orders.values())  # fmt: skip
    assert sum(p.quantity_e9 for p in changes.positions) == story.position
    assert sum(p.fees_e9.get("USDT", 0) for p in changes.positions) == story.fees
    assert len(changes.trades) == story.trades
    assert len(changes.breaches) == story.refused


class _Rows:
    """A store in memory: the newest form of every row."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, str], tuple[object, ...]] = {}
        self.positions: dict[tuple[str, str], tuple[object, ...]] = {}

    def keep(self, changes: Changes) -> None:
        self.orders |= {(r.account, r.client_order_id): astuple(r) for r in changes.orders}
        self.positions |= {
            (r.account, r.instrument): (*astuple(r)[:6], dict(r.fees_e9), *astuple(r)[7:]) for r in changes.positions
        }

    def find_order(self, account: str, client_order_id: str) -> OrderRow | None:
        found = self.orders.get((account, client_order_id))
        return OrderRow(*found) if found else None  # type: ignore[arg-type]

    def find_order_id(self, order_id: str) -> OrderRow | None:
        rows = [OrderRow(*found) for found in self.orders.values()]  # type: ignore[arg-type]
        return next((row for row in rows if row.order_id == order_id), None)

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        found = self.positions.get((account, instrument))
        return PositionRow(*found) if found else None  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), step=st.integers(1, 40), again=st.booleans())
def test_however_it_is_cut_into_steps_the_rows_are_the_same(seed: int, step: int, again: bool) -> None:
    """Stored in steps, restarted after each, records applied twice: equal to one go."""
    records = Story(Random(seed)).write(120)
    whole, rows = _Rows(), _Rows()
    whole.keep(_project(records))
    state = State()
    for start in range(0, len(records), step):
        projection = Projection(rows, state)
        for seq, record in enumerate(records[: start + step], start=1):
            if again or seq > state.seq:
                projection.apply(seq, seq * 10, record)
        changes = projection.take()
        rows.keep(changes)
        state = changes.state

    assert (rows.orders, rows.positions) == (whole.orders, whole.positions)


def test_only_open_orders_stay_in_memory() -> None:
    """A closed order leaves as soon as it was taken."""
    projection = Projection(NothingStored())
    _project([STARTED, ordered("a"), ordered("b"), _filled("a", 10 * E9, 100 * E9, 10 * E9, 10 * E9)], projection)

    assert projection.open_orders == 1


def test_an_order_knows_its_average_price() -> None:
    """3 at 100 and 7 at 110 are 10 at 107."""
    fills = [_filled("a", 3 * E9, 100 * E9, 3 * E9, 3 * E9), _filled("a", 7 * E9, 110 * E9, 10 * E9, 10 * E9)]
    (row,) = _project([STARTED, ordered("a"), *fills]).orders

    assert (row.status, row.avg_price_e9, row.leaves_quantity_e9) == (OrderStatus.FILLED, 107 * E9, 0)
    assert (row.ledger, row.day, row.accepted_seq, row.seq) == ("paper", 20260102, 2, 4)


def test_a_position_keeps_its_average_when_it_shrinks() -> None:
    """Average cost: 10 at 100 less 4 sold at 120 is 6 at 100; a flip begins anew at its price."""
    position = PositionRow(0, "paper", "demo", "X", 0, 0, {}, 0)
    position.fill(10 * E9, 100 * E9, 10 * E9)
    position.fill(-4 * E9, 120 * E9, 6 * E9)
    assert (position.quantity_e9, position.avg_price_e9) == (6 * E9, 100 * E9)
    position.fill(-9 * E9, 130 * E9, -3 * E9)
    assert (position.quantity_e9, position.avg_price_e9) == (-3 * E9, 130 * E9)
    position.fill(-3 * E9, 110 * E9, -6 * E9)
    assert position.avg_price_e9 == 120 * E9
    position.fill(6 * E9, 90 * E9, 0)
    assert (position.cost_e18, position.avg_price_e9) == (0, 0)


def test_the_engines_position_is_the_truth() -> None:
    """Where the quantity here and the engine's differ, the engine's is taken and the average kept."""
    position = PositionRow(0, "paper", "demo", "X", 10 * E9, 1000 * E9 * E9, {}, 0)
    position.fill(5 * E9, 100 * E9, 25 * E9)

    assert (position.quantity_e9, position.avg_price_e9) == (25 * E9, 100 * E9)


@given(cost=st.integers(-(2**100), 2**100), quantity=st.integers(-(2**70), 2**70))
def test_an_average_is_the_nearest(cost: int, quantity: int) -> None:
    """The rounded average is within half a unit of the exact one."""
    average = avg_price_e9(cost, quantity)

    assert average == 0 if quantity == 0 else abs(2 * (average * quantity - cost)) <= abs(quantity)


def test_a_refusal_without_the_key_leaves_the_order_alone() -> None:
    """A conflict is a breach of its own, and the order of that id is as it was."""
    conflict = ordered("a", kind=OutcomeKind.REJECTED, code=Code.ID_CONFLICT, takes_key=False)
    changes = _project([STARTED, ordered("a"), conflict])

    assert [(r.client_order_id, r.status, r.seq) for r in changes.orders] == [("a", OrderStatus.PENDING_NEW, 2)]
    assert [(b.seq, b.code, b.takes_key) for b in changes.breaches] == [(3, Code.ID_CONFLICT, False)]


def test_a_refused_order_is_a_row_and_a_breach() -> None:
    """REJECTED with the key taken: the order shows as REJECTED, nothing of it is open."""
    changes = _project([STARTED, ordered("a", kind=OutcomeKind.REJECTED, code=Code.QTY_MAX)])

    assert [(r.status, r.code, r.is_open, r.leaves_quantity_e9) for r in changes.orders] == [
        (OrderStatus.REJECTED, Code.QTY_MAX, False, 0)
    ]
    assert [b.code for b in changes.breaches] == [Code.QTY_MAX]


def test_a_tombstone_is_no_order() -> None:
    """A cancel that came first makes no row, and one that is not permitted is a breach."""
    not_permitted = CancelRequested(
        "http", item(CancelOrder("other", "x")), CancelDecision(OutcomeKind.REJECTED, Code.AUTH_NOT_PERMITTED)
    )
    changes = _project([STARTED, cancel("a"), not_permitted])

    assert changes.orders == []
    assert [(b.command, b.account, b.client_order_id) for b in changes.breaches] == [("cancel", "other", "x")]


def test_an_engines_cancel_leaves_leaves_alone() -> None:
    """Leaves of -1 mean unchanged: what is pending cancel still works at the venue."""
    records = Story(Random(3))
    records._new()
    records._ack()
    kill = Controlled(
        ControlAction.KILL, Scope.GLOBAL, "", "op", "", False, [EngineCancel("demo", "o0", "P-demo-o0", 9, 0, Code.OK)]
    )
    (row,) = _project([*records.records, kill]).orders

    assert (row.status, row.leaves_quantity_e9) == (OrderStatus.PENDING_CANCEL, records.quantity["o0"])


def test_an_order_nobody_answered_for_is_unknown() -> None:
    """A query makes the order UNKNOWN and open, found by the engine's own id."""
    (row,) = _project([STARTED, ordered("a"), Queried("sandbox", [("P-demo-a", 2)])]).orders

    assert (row.status, row.is_open, row.seq) == (OrderStatus.UNKNOWN, True, 3)


def test_a_time_beyond_int64_is_kept_at_its_bound() -> None:
    """A venue may claim any time; the books go on."""
    said = report("a", trade_id="t", quantity_e9=E9, price_e9=E9, exch_ns=2**64 - 1)
    decision = ReportDecision(ReportEffect.APPLIED, "demo", "a", "mm", "BTCUSDT", status=OrderStatus.PARTIALLY_FILLED)

    (trade,) = _project([STARTED, ordered("a"), reported(said, decision)]).trades
    assert trade.exch_ns == 2**63 - 1


def test_a_missing_record_stops_the_projection() -> None:
    """A gap, and a change of an order that never was, are named and never guessed over."""
    projection = Projection(NothingStored())
    with pytest.raises(ProjectionError) as gap:
        projection.apply(2, 0, STARTED)
    assert gap.value.seq == 2
    projection.apply(1, 0, STARTED)
    decision = ReportDecision(ReportEffect.APPLIED, "demo", "ghost", "mm", "BTCUSDT", status=OrderStatus.NEW)
    with pytest.raises(ProjectionError) as ghost:
        projection.apply(2, 0, reported(report("ghost", exec_type=ExecType.NEW), decision))
    assert "ghost" in ghost.value.why
