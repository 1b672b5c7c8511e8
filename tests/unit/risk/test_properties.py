"""RISK.md A7 over random histories of orders, fills and cancels through the core; each property is shown to bite.

Nothing is assumed away: positions beyond their limits, flips, late fills after a cancel and limits of 0 all happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import engine.orders
from engine.order import Order
from engine.orders import Replay
from protocol.codes import Code, ExecType, OutcomeKind, Scope, Side, TradingState
from protocol.decisions import NewDecision, OrderClass
from protocol.params import LimitName
from protocol.records import ControlAction
from risk.gate.checks import CHECKS
from risk.gate.exposure import ExposureBook, Ledger
from risk.gate.view import View
from tests.unit.engine.desk import Desk, limit

EXEMPT = {
    Code.STATE_REDUCING, Code.QTY_MAX, Code.VALUE_ORDER_MAX, Code.VALUE_OPEN_MAX, Code.COUNT_OPEN_MAX, Code.POS_LIMIT,
    Code.PRICE_COLLAR, Code.REDUCE_ONLY_VIOLATION,
}  # fmt: skip
Step = tuple[str, int, int]
KINDS = (
    "buy",
    "sell",
    "buy",
    "sell",
    "fill",
    "fill",
    "fill",
    "ack",
    "cancel",
    "canceled",
    "late fill",
    "reject",
    "again",
)
histories = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(1, 12)), max_size=40)
BIG = 10**6
limits = st.tuples(  # position, quantity, count, order value, open value
    *[st.sampled_from(values) for values in (
        (0, 3, 10, BIG), (0, 5, BIG, BIG, BIG), (0, 3, BIG, BIG, BIG), (0, 700, BIG, BIG, BIG), (0, 2000, BIG, BIG, BIG)
    )]
)  # fmt: skip
positions = st.integers(-15, 15)


class History:
    """A desk, and its own idea of P, B and S beside it."""

    def __init__(self, values: tuple[int, ...], position: int, *, reducing: bool) -> None:
        names = (
            LimitName.POSITION_MAX, LimitName.QUANTITY_MAX, LimitName.OPEN_COUNT_MAX, LimitName.ORDER_VALUE_MAX,
            LimitName.OPEN_VALUE_MAX,
        )  # fmt: skip
        self.values = values
        self.desk = Desk(*[limit(n, v) for n, v in zip(names, values, strict=True)], position=position)
        if reducing:
            self.desk.control(ControlAction.REDUCE_ONLY, Scope.ACCOUNT, "a1")
        self.position = self.first = position
        self.orders: list[Order] = []
        self.leaves: dict[str, int] = {}

    def pending(self, side: Side) -> int:
        return sum(self.leaves[o.order_id] for o in self.orders if o.side is side)

    def is_exit(self, side: Side, quantity: int) -> bool:
        if side is Side.BUY:
            return self.position < 0 and self.position + self.pending(side) + quantity <= 0
        return self.position > 0 and self.position - self.pending(side) - quantity >= 0

    @property
    def worst(self) -> int:
        return max(self.position + self.pending(Side.BUY), self.pending(Side.SELL) - self.position)

    def step(self, kind: str, which: int, quantity: int) -> None:
        if kind in {"buy", "sell"}:
            self.order(Side.BUY if kind == "buy" else Side.SELL, quantity)
        elif self.orders:
            self.change(kind, self.orders[which % len(self.orders)], quantity)

    def order(self, side: Side, quantity: int) -> None:
        desk = self.desk
        is_exit, worst, before = self.is_exit(side, quantity), self.worst, desk.hash_without_keys()
        decided = desk.submit(desk.order(f"o{desk.seq}", side, quantity))
        assert isinstance(decided, NewDecision)
        if decided.kind is not OutcomeKind.ACCEPTED:
            assert not (is_exit and decided.code in EXEMPT), f"an exit was refused: {decided.code.name}"
            assert desk.hash_without_keys() == before, "a refusal left something behind"
            return
        assert (decided.order_class is OrderClass.EXIT) is is_exit
        order = desk.state.orders[decided.order_id]
        self.orders.append(order)
        self.leaves[order.order_id] = quantity
        if is_exit:
            assert self.worst == worst, "an exit changed the worst case (L2)"
        else:
            reach = self.position * (1 if side is Side.BUY else -1) + self.pending(side)
            assert reach <= self.values[0], "an order could lead past the limit (L3)"

    def change(self, kind: str, order: Order, quantity: int) -> None:
        desk, worst = self.desk, self.worst
        is_open = order.order_id in desk.state.orders
        if kind == "again":
            before = desk.hash()
            command = desk.order(order.client_order_id, order.side, order.quantity, strategy=order.route.strategy.name)
            assert isinstance(desk.submit(command), Replay)
            assert desk.hash() == before
        elif kind == "cancel":
            desk.cancel(order.client_order_id)
        elif kind == "ack":
            desk.report(ExecType.NEW, order.order_id)
        elif kind in {"canceled", "reject"} and is_open:
            desk.report(ExecType.CANCELED if kind == "canceled" else ExecType.REJECTED, order.order_id)
            if order.order_id not in desk.state.orders:
                self.leaves[order.order_id] = 0
        elif kind in {"fill", "late fill"}:
            self.fill(order, min(quantity, order.quantity - order.cum), is_open=is_open, late=kind == "late fill")
        if is_open or kind != "late fill":
            assert self.worst <= worst, "a fill or a cancel raised the worst case (L1)"

    def fill(self, order: Order, quantity: int, *, is_open: bool, late: bool) -> None:
        """A fill of an open order; ``late`` only after its cancel, when the reach was given back already."""
        if quantity <= 0 or late is is_open:
            return
        self.desk.fill(order, quantity)
        self.position += quantity if order.side is Side.BUY else -quantity
        if is_open:
            self.leaves[order.order_id] -= quantity

    def verify(self) -> None:
        ledger = self.desk.state.book.ledgers.get(("a1", "XY"), Ledger())
        ours = (self.position, self.pending(Side.BUY), self.pending(Side.SELL))
        assert (ledger.position, ledger.buy, ledger.sell) == ours
        account = self.desk.state.accounts["a1"]
        assert account.open_count == sum(leaves > 0 for leaves in self.leaves.values())
        assert account.open_value_e9 == sum(o.reserved_value_e9 for o in self.orders)

    def end_all(self) -> None:
        for order in list(self.desk.state.orders.values()):
            self.change("canceled", order, 0)


def limits_hold(values: tuple[int, ...], position: int, steps: list[Step]) -> None:
    """L3 without late fills, L5, A7.1, A7.6, A7.7, A7.9 along the way."""
    history = History(values, position, reducing=False)
    for kind, which, quantity in steps:
        if kind != "late fill":
            history.step(kind, which, quantity)
            assert abs(history.position) <= max(abs(position), values[0])
        history.verify()
    history.end_all()
    history.verify()
    account = history.desk.state.accounts["a1"]
    assert (account.open_count, account.open_value_e9) == (0, 0)
    assert history.desk.hash() == history.desk.replayed_hash()


def exits_never_flip(values: tuple[int, ...], position: int, steps: list[Step]) -> None:
    """L4: while reducing, |P| never grows and never changes its sign."""
    history = History(values, position, reducing=True)
    for step in steps:
        if step[0] == "late fill":
            continue
        before = history.position
        history.step(*step)
        assert abs(history.position) <= abs(before)
        assert before * history.position >= 0
    history.verify()


def late_fills_are_booked(values: tuple[int, ...], position: int, steps: list[Step]) -> None:
    """Whatever comes late, the book is what was traded."""
    history = History(values, position, reducing=False)
    for step in steps:
        history.step(*step)
        history.verify()
    assert history.desk.hash() == history.desk.replayed_hash()


PROPERTIES: list[Callable[[tuple[int, ...], int, list[Step]], None]] = [
    limits_hold, exits_never_flip, late_fills_are_booked,
]  # fmt: skip


def run(property_: Callable[..., None], examples: int, **more: Any) -> None:
    """Draw histories for a property."""

    @settings(max_examples=examples, deadline=None, database=None, **more)
    @given(values=limits, position=positions, steps=histories)
    def drawn(values: tuple[int, ...], position: int, steps: list[Step]) -> None:
        property_(values, position, steps)

    drawn()


@pytest.mark.parametrize("property_", PROPERTIES, ids=lambda p: p.__name__)
def test_histories_keep_the_invariants(property_: Callable[..., None]) -> None:
    """Over random orders, fills, cancels, limits and opening positions."""
    run(property_, 100)


def direction_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = View.look

    def look(self: View, *order: Any) -> None:
        rightly(self, *order)
        position = self.route.ledger.position
        self.is_exit = position < 0 if self.side is Side.BUY else position > 0

    monkeypatch.setattr(View, "look", look)


def own_size_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive rule of RISK.md A1: sell while long and q <= P, whatever is pending."""
    rightly = View.look

    def look(self: View, *order: Any) -> None:
        rightly(self, *order)
        position = self.route.ledger.position if self.side is Side.SELL else -self.route.ledger.position
        self.is_exit = 0 < self.quantity <= position

    monkeypatch.setattr(View, "look", look)


def no_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = View.look

    def look(self: View, *order: Any) -> None:
        rightly(self, *order)
        self.is_exit = False

    monkeypatch.setattr(View, "look", look)


def no_position_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def passing(view: View) -> Code:
        return next((c for check in CHECKS if (c := check(view)) not in {Code.OK, Code.POS_LIMIT}), Code.OK)

    monkeypatch.setattr(engine.orders, "first_refusal", passing)


def filled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count pending orders only once they fill."""
    rightly = ExposureBook.open

    def opened(self: ExposureBook, order: Any, now_ns: int) -> None:
        rightly(self, order, now_ns)
        if order.side is Side.BUY:
            order.route.ledger.buy -= order.leaves

    monkeypatch.setattr(ExposureBook, "open", opened)


def charge_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = engine.orders.Orders.decide_new

    def decide(self: Any, order: Any, *rest: Any) -> Any:
        decided = rightly(self, order, *rest)
        if isinstance(decided, NewDecision) and decided.code is not Code.OK:
            self._state.accounts["a1"].open_value_e9 += 1
        return decided

    monkeypatch.setattr(engine.orders.Orders, "decide_new", decide)


@pytest.mark.plants
@pytest.mark.parametrize(
    ("property_", "plant"),
    [
        (exits_never_flip, direction_only), (exits_never_flip, own_size_only), (limits_hold, no_exits),
        (limits_hold, direction_only), (limits_hold, no_position_limit), (limits_hold, filled_only),
        (limits_hold, charge_refusals), (late_fills_are_booked, filled_only),
    ],
)  # fmt: skip
def test_a_planted_defect_fails_the_property(
    property_: Callable[..., None], plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property that nothing can fail would say nothing."""
    plant(monkeypatch)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run(property_, 600, derandomize=True, phases=[Phase.generate])  # the same histories each time


@settings(max_examples=100, deadline=None)
@given(
    values=limits, position=positions, steps=histories, side=st.sampled_from(Side), quantity=st.integers(2, 20),
    less=st.integers(1, 19),
)  # fmt: skip
def test_less_of_what_passes_passes(
    values: tuple[int, ...], position: int, steps: list[Step], side: Side, quantity: int, less: int
) -> None:
    """A7.5: with the same state, any smaller order passes the checks of size and position."""
    history = History(values, position, reducing=False)
    for step in steps:
        history.step(*step)
    desk = history.desk
    larger = desk.decide(desk.order("x", side, quantity))
    smaller = desk.decide(desk.order("y", side, min(less, quantity - 1)))
    assert isinstance(larger, NewDecision)
    assert isinstance(smaller, NewDecision)
    assert not (larger.code is Code.OK and smaller.code is not Code.OK), smaller.code.name


@settings(max_examples=100, deadline=None)
@given(
    values=limits, position=positions, side=st.sampled_from(Side), quantity=st.integers(1, 20), cut=st.integers(0, 4)
)
def test_tightening_never_lets_more_pass(
    values: tuple[int, ...], position: int, side: Side, quantity: int, cut: int
) -> None:
    """A7.5: a tighter limit never turns a refusal into a pass."""
    tight = tuple(v // 2 if n == cut else v for n, v in enumerate(values))
    before, after = (History(v, position, reducing=False).desk for v in (values, tight))
    loose_says, tight_says = (d.decide(d.order("x", side, quantity)) for d in (before, after))
    assert isinstance(loose_says, NewDecision)
    assert isinstance(tight_says, NewDecision)
    assert not (loose_says.code is not Code.OK and tight_says.code is Code.OK)


scopes = st.sampled_from(((Scope.GLOBAL, ""), (Scope.ACCOUNT, "a1"), (Scope.STRATEGY, "s1"), (Scope.INSTRUMENT, "XY")))


@settings(max_examples=100, deadline=None)
@given(raises=st.lists(st.tuples(scopes, st.sampled_from(TradingState)), max_size=12))
def test_the_engine_itself_never_lowers_a_severity(raises: list[tuple[tuple[Scope, str], TradingState]]) -> None:
    """A7.11: whatever it raises in whatever order, each scope keeps its highest."""
    desk = Desk()
    highest: dict[tuple[Scope, str], TradingState] = {}
    for (scope, key), state in raises:
        desk.state.raise_state(scope, key, state, "because")
        highest[scope, key] = max(state, highest.get((scope, key), TradingState.ACTIVE))
        assert desk.state.halts[scope, key].state is highest[scope, key]
    seen = {(Scope.GLOBAL, ""): desk.state.book.state, (Scope.ACCOUNT, "a1"): desk.state.accounts["a1"].state}
    assert all(state is highest.get(where, TradingState.ACTIVE) for where, state in seen.items())
