"""RISK.md A7 over random histories through the complete gate; each property is shown to bite on a planted defect.

Nothing is assumed away: positions and cash beyond their limits, flips, pending orders and limits of 0 all happen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs

import engine.orders
from engine.snapshot import load_snapshot
from protocol.codes import Code, OutcomeKind, Scope, Side
from protocol.contract_rows import ContractClass, ContractName, ContractRow, ContractScope
from protocol.decisions import NewDecision, OrderClass
from protocol.params import AccountParams, LimitName, LimitRow, Params
from protocol.records import Adjusted
from risk.gate.further_checks import COMPLETE_CHECKS
from risk.gate.more import AccountSums, More
from risk.gate.view import View
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.test_properties import History, Step, histories, positions
from tests.unit.venues.stage import XY

EXEMPT = {
    Code.VALUE_ORDER_MIN, Code.COUNT_DAILY_MAX, Code.LOOP_INTENT, Code.POS_UNDERLYING, Code.EXPO_GROSS, Code.EXPO_NET,
    Code.CASH_INSUFFICIENT, Code.MARGIN_ESTIMATE, Code.INSTR_BAN_REDUCE_ONLY, Code.INSTR_EXPIRY_CUTOFF,
    Code.PERM_OPTION_WRITE, Code.POS_LIMIT, Code.VALUE_OPEN_MAX, Code.COUNT_OPEN_MAX,
}  # fmt: skip
LONG, SHORT, MARGIN_LONG, MARGIN_SHORT = 2, 3, 5, 7
BIG = 10**6
Bounds = tuple[int, ...]
bounds = st.tuples(  # exposure, net, one side, orders a day, cash
    *[st.sampled_from((*tight, *(BIG,) * 4)) for tight in ((0, 12, 40), (0, 8), (0, 9), (0, 1, 2), (0, 60, 60_000))]
)


def given_by(values: Bounds) -> Params:
    """Return parameters with every sum of the complete gate in use."""
    names = (LimitName.GROSS_MAX, LimitName.NET_MAX, LimitName.UNDERLYING_MAX)
    limits = [LimitRow(name, Scope.GLOBAL, "", v * E9) for name, v in zip(names, values[:3], strict=True)]
    limits.append(LimitRow(LimitName.DAILY_COUNT_MAX, Scope.ACCOUNT, "a1", values[3]))
    weights = {
        ContractName.EXPOSURE_LONG: LONG * E9, ContractName.EXPOSURE_SHORT: SHORT * E9,
        ContractName.MARGIN_LONG: MARGIN_LONG * E9, ContractName.MARGIN_SHORT: MARGIN_SHORT * E9,
    }  # fmt: skip
    rows = tuple(ContractRow(name, ContractScope.GLOBAL, "", value) for name, value in weights.items())
    instrument = structs.replace(XY, underlying="X", contract_class=ContractClass.CALL)
    accounts = (AccountParams("a1", "USDT", checks_cash=True, checks_margin=True),)
    return structs.replace(params(*limits, instruments=(instrument,)), contracts=rows, accounts=accounts)


class Complete(History):
    """A history through the complete gate, with its own idea of every sum."""

    def __init__(self, values: Bounds, position: int) -> None:
        super().__init__((BIG, BIG, BIG, BIG, BIG), position, reducing=False)
        self.desk = Desk(given=given_by(values), position=position)
        self.desk.apply(Adjusted("a1", "", 0, 0, str(values[4] * E9), "USDT", "opening"))
        self.most = values
        self.accepted = 0

    @property
    def more(self) -> More:
        return self.desk.state.route("a1", "s1", "XY").more

    def reserved(self) -> int:
        cash_e9 = self.more.contract.cash_e9
        return sum(cash_e9(o.side, o.reserved_value_e9) for o in self.orders)

    def order(self, side: Side, quantity: int) -> None:
        is_exit = self.is_exit(side, quantity)
        before = self.more.account.copy()
        count = len(self.orders)
        self.submit(side, quantity, is_exit=is_exit)
        if len(self.orders) == count:
            return
        self.accepted += 1
        sums, most = self.more.account, self.most
        if is_exit:
            assert (sums.gross_e18, sums.margin_e9) == (before.gross_e18, before.margin_e9), (
                "an exit took exposure (L2)"
            )
            return
        assert self.accepted <= most[3], "one order more than the day takes"
        if sums.gross_e18 > before.gross_e18:
            assert sums.gross_e18 <= most[0] * E9 * E9, "an order raised the exposure beyond its limit (A7.4)"
        if sums.margin_e9 > before.margin_e9:
            assert sums.margin_e9 + sums.cash_reserved_e9 <= most[4] * E9, "margin that no cash covers (A7.12)"
        assert sums.cash_reserved_e9 <= most[4] * E9, "cash was promised twice"
        reach = self.position * (1 if side is Side.BUY else -1) + self.pending(side)
        assert reach <= min(most[1], most[2]), "an order could lead past the limit of the underlying"

    def submit(self, side: Side, quantity: int, *, is_exit: bool) -> None:
        desk = self.desk
        before = desk.hash_without_keys()
        decided = desk.submit(desk.order(f"o{desk.seq}", side, quantity))
        assert isinstance(decided, NewDecision)
        if decided.kind is not OutcomeKind.ACCEPTED:
            assert not (is_exit and decided.code in EXEMPT), f"an exit was refused: {decided.code.name} (A7.1)"
            assert desk.hash_without_keys() == before, "a refusal left something behind (A7.6)"
            return
        assert (decided.order_class is OrderClass.EXIT) is is_exit
        order = desk.state.orders[decided.order_id]
        self.orders.append(order)
        self.leaves[order.order_id] = quantity

    def verify(self) -> None:
        """The sums are those of our own P, B and S, and those made anew (A7.7)."""
        high, low = self.position + self.pending(Side.BUY), self.position - self.pending(Side.SELL)
        more, step = self.more, XY.quantity_step_e9
        one = E9 // step
        lots = XY.lot_e9 // step
        exposure = max(0, high * LONG, -low * SHORT) * E9 * E9
        margin = max(0, high * one * MARGIN_LONG * E9 // lots, -low * one * MARGIN_SHORT * E9 // lots)
        ours = AccountSums(exposure, margin, self.reserved())
        assert row(more.account) == row(ours)
        of = more.underlying
        assert (of.up, of.down) == (high * E9 * 10**4, low * E9 * 10**4)
        assert (of.long, of.short) == (max(0, high) * E9 * 10**4, max(0, -low) * E9 * 10**4)
        self.desk.state.count_further()
        assert row(self.more.account) == row(ours), "made anew they are others"


def row(sums: AccountSums) -> tuple[int, int, int]:
    return sums.gross_e18, sums.margin_e9, sums.cash_reserved_e9


def sums_hold(values: Bounds, position: int, steps: list[Step]) -> None:
    """A7.1, 4, 6, 7, 8, 12 along a history, and nothing is left of it at its end."""
    history = Complete(values, position)
    for step in steps:
        if step[0] != "late fill":
            history.step(*step)
            history.verify()
    history.end_all()
    history.verify()
    assert history.reserved() == 0
    assert history.desk.hash() == history.desk.replayed_hash()


def run(property_: Callable[..., None], examples: int, **more: Any) -> None:
    """Draw histories for a property."""

    @settings(max_examples=examples, deadline=None, database=None, **more)
    @given(values=bounds, position=positions, steps=histories)
    def drawn(values: Bounds, position: int, steps: list[Step]) -> None:
        property_(values, position, steps)

    drawn()


def test_sums_and_limits_hold_over_any_history() -> None:
    """Over random orders, fills, cancels, limits, cash and opening positions."""
    run(sums_hold, 80)


def no_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(More, "refresh", lambda *_: None)


def no_cash_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(More, "reserve", lambda *_: None)


def no_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(More, "charge", lambda *_: None)


def no_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = View.look

    def look(self: View, *order: Any) -> None:
        rightly(self, *order)
        self.is_exit = False

    monkeypatch.setattr(View, "look", look)


def without(*codes: Code) -> Callable[[pytest.MonkeyPatch], None]:
    """Plant a gate that never refuses with these codes."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        passing = {Code.OK, *codes}

        def first(view: View) -> Code:
            return next((c for check in COMPLETE_CHECKS if (c := check(view)) not in passing), Code.OK)

        monkeypatch.setattr(engine.orders, "first_complete_refusal", first)

    return plant


PLANTS = {
    "no_refresh": no_refresh, "no_cash_reserved": no_cash_reserved, "no_charge": no_charge, "no_exits": no_exits,
    "no_gross": without(Code.EXPO_GROSS), "no_net": without(Code.EXPO_NET), "no_side": without(Code.POS_UNDERLYING),
    "no_cash": without(Code.CASH_INSUFFICIENT), "no_margin": without(Code.MARGIN_ESTIMATE),
    "no_day": without(Code.COUNT_DAILY_MAX),
}  # fmt: skip


@pytest.mark.plants
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_planted_defect_fails_the_property(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property that nothing can fail would say nothing."""
    plant(monkeypatch)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run(sums_hold, 400, derandomize=True, phases=[Phase.generate])


@settings(max_examples=60, deadline=None)
@given(
    values=bounds, position=positions, steps=histories, side=st.sampled_from(Side), quantity=st.integers(2, 20),
    less=st.integers(1, 19),
)  # fmt: skip
def test_less_of_what_passes_passes(
    values: Bounds, position: int, steps: list[Step], side: Side, quantity: int, less: int
) -> None:
    """A7.5: with the same state, any smaller order passes exposure, delta, cash and margin too."""
    history = Complete(values, position)
    for step in steps:
        history.step(*step)
    desk = history.desk
    larger = desk.decide(desk.order("x", side, quantity))
    smaller = desk.decide(desk.order("y", side, min(less, quantity - 1)))
    assert isinstance(larger, NewDecision)
    assert isinstance(smaller, NewDecision)
    assert not (larger.code is Code.OK and smaller.code is not Code.OK), smaller.code.name


def test_a_snapshot_keeps_what_was_counted_and_makes_the_sums_anew(tmp_path: Path) -> None:
    """A core from a snapshot has the state, counts on where it was, and refuses what the other one refuses."""
    desk = Desk(given=given_by((40, BIG, BIG, 3, 3000)), position=2)
    desk.apply(Adjusted("a1", "", 0, 0, str(3000 * E9), "USDT", "opening"))
    for n in range(2):
        desk.accept(desk.order(f"k{n}", Side.BUY, 2))
    core, _ = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    first, second = (state.route("a1", "s1", "XY").more for state in (desk.state, core.state))
    assert row(second.account) == row(first.account)
    assert row(first.account)[0] > 0
    assert second.account_day.count == first.account_day.count == 2
    desk.core = core
    desk.accept(desk.order("k2", Side.BUY, 1))
    decided = desk.decide(desk.order("k3", Side.BUY, 1))
    assert getattr(decided, "code", None) is Code.COUNT_DAILY_MAX
