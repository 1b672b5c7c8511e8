"""What venues say halts a strategy: fills since a person looked, refusals one after another. RISK.md's examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.order import Order
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.codes import Code, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.params import LimitName, LimitRow
from protocol.records import ControlAction
from risk.gate.row_rules import limit_fault
from tests.unit.engine.desk import Desk, params
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.complete import BUY, SELL, code

EXECUTIONS, REJECTS = LimitName.EXECUTION_COUNT, LimitName.REJECT_COUNT
S1 = (Scope.STRATEGY, "s1")


def row(name: LimitName, value: int, scope: Scope = Scope.STRATEGY, key: str = "s1") -> LimitRow:
    return LimitRow(name, scope, key, value)


def sent(desk: Desk, side: Side = BUY, strategy: str = "s1") -> Order:
    return desk.accept(desk.order(f"o{desk.seq}", side, strategy=strategy))


def filled(desk: Desk, count: int = 1, side: Side = BUY, strategy: str = "s1") -> None:
    for _ in range(count):
        desk.fill(sent(desk, side, strategy), 1)


def refused(desk: Desk, count: int = 1, side: Side = BUY, strategy: str = "s1") -> None:
    for _ in range(count):
        desk.report(ExecType.REJECTED, sent(desk, side, strategy).order_id, status=OrderStatus.REJECTED)


def state_of(desk: Desk, strategy: str = "s1") -> TradingState:
    assert desk.hash() == desk.replayed_hash()
    return desk.state.strategies[strategy].state


def test_the_last_of_so_many_fills_halts_until_a_person_resumes() -> None:
    """n=3 in the place of 100: after two fills orders pass, after the third none does; resumed it counts from 0."""
    desk = Desk(row(EXECUTIONS, 3))
    filled(desk, 2)
    assert state_of(desk) is TradingState.ACTIVE
    filled(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO
    assert desk.state.halts[S1].reason == (
        "LOOP_EXECUTIONS: expected fewer than 3 fills before a person resumes the strategy, was 3"
    )
    assert code(desk) is Code.STATE_HALTED
    desk.control(ControlAction.RESUME, *S1)
    filled(desk, 2)
    assert state_of(desk) is TradingState.ACTIVE
    filled(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO


def test_exits_and_cancels_pass_the_halt_and_exits_are_counted() -> None:
    """The way out stays open: an exit of a strategy that was halted for its fills goes to the venue, as its cancel."""
    desk = Desk(row(EXECUTIONS, 2))
    filled(desk, 2)
    exit_order = sent(desk, SELL)
    assert exit_order.is_exit
    assert desk.cancel(exit_order.client_order_id).code is Code.OK  # type: ignore[union-attr]
    desk.fill(exit_order, 1)
    assert desk.state.flow.executions["s1"].count == 3
    assert state_of(desk) is TradingState.HALTED_AUTO


def test_each_part_of_an_order_is_a_fill_and_a_repeated_report_is_none() -> None:
    """Executions are trades: one order of three parts is three; a trade told twice is one."""
    desk = Desk(row(EXECUTIONS, 3))
    order = desk.accept(desk.order("1", BUY, 3))
    for trade_id in ("T1", "T1", "T2"):
        desk.report(ExecType.TRADE, order.order_id, quantity=1, trade_id=trade_id)
    assert state_of(desk) is TradingState.ACTIVE
    desk.report(ExecType.TRADE, order.order_id, quantity=1, trade_id="T3")
    assert state_of(desk) is TradingState.HALTED_AUTO


def test_a_venue_that_takes_one_order_forgives_the_refusals_before() -> None:
    """n=5: four refused, one taken, four refused pass; the fifth in a row halts."""
    desk = Desk(row(REJECTS, 5))
    refused(desk, 4)
    desk.report(ExecType.NEW, sent(desk).order_id, status=OrderStatus.NEW)
    refused(desk, 4)
    assert state_of(desk) is TradingState.ACTIVE
    refused(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO
    assert desk.state.halts[S1].reason == (
        "ERR_BUDGET: expected fewer than 5 orders refused by the venue one after another, was 5"
    )
    assert code(desk) is Code.STATE_HALTED


def test_a_refusal_told_twice_counts_once() -> None:
    """The gateway repeats reports after a reconnect; a refused order was refused once."""
    desk = Desk(row(REJECTS, 2))
    order = sent(desk)
    for _ in range(3):
        desk.report(ExecType.REJECTED, order.order_id, status=OrderStatus.REJECTED)
    assert desk.state.flow.rejects["s1", "sandbox"].count == 1
    assert state_of(desk) is TradingState.ACTIVE


def test_a_fill_forgives_refusals_and_other_strategies_count_apart() -> None:
    """A venue that trades takes orders. What s2 is refused is no matter of s1."""
    desk = Desk(row(REJECTS, 2, Scope.VENUE, "sandbox"))
    refused(desk)
    filled(desk)
    refused(desk)
    refused(desk, strategy="s2")
    assert (state_of(desk), state_of(desk, "s2")) == (TradingState.ACTIVE, TradingState.ACTIVE)
    refused(desk, strategy="s2")
    assert (state_of(desk), state_of(desk, "s2")) == (TradingState.ACTIVE, TradingState.HALTED_AUTO)


@pytest.mark.parametrize("name", [EXECUTIONS, REJECTS])
def test_of_global_and_own_rows_the_tightest_binds(name: LimitName) -> None:
    """A row of the strategy never loosens the global one."""
    cause = filled if name is EXECUTIONS else refused
    desk = Desk(row(name, 2, Scope.GLOBAL, ""), row(name, 1, key="s2"), row(name, 9))
    cause(desk)
    assert state_of(desk) is TradingState.ACTIVE
    cause(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO
    cause(desk, strategy="s2")
    assert state_of(desk, "s2") is TradingState.HALTED_AUTO


def test_a_tighter_limit_halts_what_is_over_it_at_once() -> None:
    """Three fills under 9 are one too many under 3; a looser limit lifts no halt."""
    desk = Desk(row(EXECUTIONS, 9))
    filled(desk, 3)
    desk.set_params(params(row(EXECUTIONS, 3)))
    assert state_of(desk) is TradingState.HALTED_AUTO
    desk.set_params(params(row(EXECUTIONS, 9)))
    assert state_of(desk) is TradingState.HALTED_AUTO


def test_without_a_limit_nothing_is_counted() -> None:
    """Absent parameters cost nothing, neither on the way nor in the state."""
    desk = Desk()
    filled(desk, 2)
    refused(desk, 2)
    assert desk.state.flow.is_empty
    assert all(route.watch is None for route in desk.state.routes.values())


def test_what_was_counted_outlives_a_restart_from_a_snapshot(tmp_path: Path) -> None:
    """Two fills and a refusal before it: the third fill after it halts; recovery halts nobody by itself."""
    desk = Desk(row(EXECUTIONS, 3), row(REJECTS, 2))
    filled(desk, 2)
    refused(desk)
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert state_hash(core.state) == desk.hash()
    assert core.state.strategies["s1"].state is TradingState.ACTIVE
    desk.core = core
    filled(desk)
    assert core.state.strategies["s1"].state is TradingState.HALTED_AUTO


def test_a_limit_that_nothing_could_reach_is_refused() -> None:
    """They halt at the event that reaches them: 0 would be reached by none."""
    for name in (EXECUTIONS, REJECTS):
        assert "at least 1" in limit_fault(row(name, 0))
        assert not limit_fault(row(name, 1))
