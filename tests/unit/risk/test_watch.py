"""What venues say halts a strategy: fills since a person looked, refusals one after another. RISK.md's examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.order import Order
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.codes import Code, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.params import LimitName, LimitRow
from protocol.records import ControlAction
from risk.gate.flow import Flow
from risk.gate.row_rules import limit_fault
from risk.gate.watch import Watch, Watches
from tests.unit.engine.desk import E9, Desk, limit, params
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.complete import BUY, SELL, code

EXECUTIONS, REJECTS = LimitName.EXECUTION_COUNT, LimitName.REJECT_COUNT
CHURN, RATIO = LimitName.CHURN_COUNT, LimitName.CHURN_RATIO
SHARE, ORDERS = LimitName.REJECT_SHARE_BP, LimitName.REJECT_SHARE_ORDERS
MINUTE_NS = 60 * E9
S1 = (Scope.STRATEGY, "s1")


def row(name: LimitName, value: int, scope: Scope = Scope.STRATEGY, key: str = "s1") -> LimitRow:
    return LimitRow(name, scope, key, value)


def churn(value: int, scope: Scope = Scope.STRATEGY, key: str = "s1") -> LimitRow:
    return LimitRow(CHURN, scope, key, value, window_ns=MINUTE_NS)


def by_turns(desk: Desk, count: int, each_ns: int = 1) -> None:
    for n in range(count):
        desk.now += each_ns
        filled(desk, side=SELL if n % 2 else BUY)


def acknowledged(desk: Desk, count: int = 1) -> None:
    for _ in range(count):
        desk.report(ExecType.NEW, sent(desk).order_id, status=OrderStatus.NEW)


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
    desk = Desk(row(EXECUTIONS, 3), row(REJECTS, 2), churn(9), row(SHARE, 10_000))
    filled(desk, 2)
    refused(desk)
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert state_hash(core.state) == desk.hash()
    assert core.state.flow.churns["s1", "XY"].traded == 2
    assert list(core.state.flow.answers["s1", "sandbox"].log) == [False, False, True]
    assert core.state.strategies["s1"].state is TradingState.ACTIVE
    desk.core = core
    filled(desk)
    assert core.state.strategies["s1"].state is TradingState.HALTED_AUTO


def test_a_limit_that_nothing_could_reach_is_refused() -> None:
    """They halt at the event that reaches them: 0 would be reached by none."""
    for name in (EXECUTIONS, REJECTS, RATIO, SHARE, ORDERS):
        assert "at least 1" in limit_fault(row(name, 0))
        assert not limit_fault(row(name, 1))
    for too_much in (churn(10_001), row(ORDERS, 10_001), row(SHARE, 10_001)):
        assert "at most 10000" in limit_fault(too_much)


def test_fills_that_come_to_nothing_halt_and_fills_that_build_do_not() -> None:
    """n=10, r=8, W=60 s: BUY 1, SELL 1 by turns halts at the 10th fill (10/1); ten times BUY 1 is 10/10."""
    desk = Desk(churn(10))
    filled(desk, 10)
    assert state_of(desk) is TradingState.ACTIVE
    desk = Desk(churn(10))
    by_turns(desk, 9)
    assert state_of(desk) is TradingState.ACTIVE
    filled(desk, side=SELL)
    assert state_of(desk) is TradingState.HALTED_AUTO
    assert desk.state.halts[S1].reason == (
        "LOOP_CHURN: expected to trade at most 8 times what the position changes, of 10 fills or more in 60000 ms, was "
        "10 steps for 0 in 10 fills"
    )
    assert code(desk) is Code.STATE_HALTED
    desk.control(ControlAction.RESUME, *S1)
    by_turns(desk, 9)
    assert state_of(desk) is TradingState.ACTIVE


def test_churn_counts_within_its_window_and_against_its_ratio() -> None:
    """Fills 60 s old are out, younger ones in. 10 traded for 2: 5 times; r=5 passes, r=4 halts."""
    desk = Desk(churn(10))
    by_turns(desk, 24, MINUTE_NS // 9 + 1)
    assert state_of(desk) is TradingState.ACTIVE
    assert len(desk.state.flow.churns["s1", "XY"].log) == 9
    filled(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO
    for ratio, expected in ((5, TradingState.ACTIVE), (4, TradingState.HALTED_AUTO)):
        desk = Desk(churn(10), row(RATIO, ratio))
        by_turns(desk, 8)
        filled(desk, 2)
        assert state_of(desk) is expected


def test_churn_is_counted_by_instrument_and_strategy() -> None:
    """What s2 churns is no matter of s1; the row of an instrument binds every strategy in it."""
    desk = Desk(churn(4, Scope.INSTRUMENT, "XY"), row(RATIO, 3, Scope.GLOBAL, ""))
    by_turns(desk, 3)
    for side in (BUY, SELL, BUY):
        filled(desk, 1, side, "s2")
    assert (state_of(desk), state_of(desk, "s2")) == (TradingState.ACTIVE, TradingState.ACTIVE)
    filled(desk, 1, SELL, "s2")
    assert (state_of(desk), state_of(desk, "s2")) == (TradingState.ACTIVE, TradingState.HALTED_AUTO)


def test_old_churn_halts_nobody_when_the_limit_gets_tighter_later() -> None:
    """A new limit looks at the fills of its window before now, not at the window of the last fill."""
    for wait_ns, expected in ((0, TradingState.HALTED_AUTO), (MINUTE_NS, TradingState.ACTIVE)):
        desk = Desk(churn(99))
        by_turns(desk, 20)
        desk.now += wait_ns
        desk.set_params(params(churn(10)))
        assert state_of(desk) is expected


def test_a_share_of_the_newest_orders_refused_halts() -> None:
    """30 % of the last 50: 14 refused pass, 15 halt; with 49 answers nothing is known yet."""
    for before, refusals, expected in (
        (36, 14, TradingState.ACTIVE),
        (35, 15, TradingState.HALTED_AUTO),
        (34, 15, TradingState.ACTIVE),
    ):
        desk = Desk(row(SHARE, 3_000, Scope.VENUE, "sandbox"), limit(LimitName.OPEN_COUNT_MAX, 100))
        acknowledged(desk, before)
        refused(desk, refusals)
        assert state_of(desk) is expected
    desk = Desk(row(SHARE, 3_000), row(ORDERS, 10))
    refused(desk, 3)
    acknowledged(desk, 6)
    assert state_of(desk) is TradingState.ACTIVE
    acknowledged(desk)
    assert state_of(desk) is TradingState.HALTED_AUTO
    assert desk.state.halts[S1].reason == (
        "ERR_BUDGET: expected less than 3000 bp of the last 10 orders refused by the venue, was 3 orders"
    )


def test_an_order_is_one_answer_however_often_the_venue_speaks_of_it() -> None:
    """Acknowledged, acknowledged again, filled in two parts: taken once. An order cancelled first is one, too."""
    desk = Desk(row(SHARE, 5_000), row(ORDERS, 10))
    order = desk.accept(desk.order("1", BUY, 2))
    for _ in range(2):
        desk.report(ExecType.NEW, order.order_id, status=OrderStatus.NEW)
    desk.fill(order, 1)
    desk.fill(order, 1)
    filled(desk)
    late = sent(desk)
    desk.cancel(late.client_order_id)
    desk.report(ExecType.NEW, late.order_id, status=OrderStatus.NEW)
    assert list(desk.state.flow.answers["s1", "sandbox"].log) == [False] * 3
    assert state_of(desk) is TradingState.ACTIVE


@given(
    fills=st.lists(st.tuples(st.integers(0, 9), st.sampled_from((-3, -2, -1, 1, 2, 3))), max_size=40),
    fewest=st.integers(1, 6),
    ratio=st.integers(1, 6),
    window_ns=st.integers(1, 20),
)
def test_churn_is_what_the_fills_of_its_window_come_to(
    fills: list[tuple[int, int]], fewest: int, ratio: int, window_ns: int
) -> None:
    """For any fills, at any time after each: the sums that are kept answer as sums made anew of (t - W, t]."""
    flow = Flow()
    rows = [LimitRow(CHURN, *S1, fewest, window_ns=window_ns), LimitRow(RATIO, *S1, ratio)]
    watch = Watches(rows, flow).watch("s1", "XY", "sandbox")
    assert watch is not None
    seen: list[tuple[int, int]] = []
    now_ns = 0
    for after_ns, signed in fills:
        now_ns += after_ns
        watch.take_fill(signed, now_ns)
        seen.append((now_ns, signed))
        for later_ns in (now_ns, now_ns + window_ns // 2):
            within = [s for at_ns, s in seen if at_ns > later_ns - window_ns]
            is_churn = len(within) >= fewest and sum(map(abs, within)) > ratio * max(1, abs(sum(within)))
            assert bool(copy_of(flow, rows).why_halted(later_ns)) is is_churn
        assert watch.churn.traded == sum(abs(s) for _, s in watch.churn.log)


def copy_of(flow: Flow, rows: list[LimitRow]) -> Watch:
    """Return a watch that looks at a copy, for a look forgets what is too old."""
    copied = Flow()
    copied.load(*flow.row())  # type: ignore[arg-type]
    watch = Watches(rows, copied).watch("s1", "XY", "sandbox")
    assert watch is not None
    return watch


@given(answers=st.lists(st.booleans(), max_size=40), orders=st.integers(1, 8), share_bp=st.integers(1, 10_000))
def test_a_share_is_that_of_the_newest_answers(answers: list[bool], orders: int, share_bp: int) -> None:
    """For any answers: refused of the last m, against x of them, and nothing before there are m."""
    flow = Flow()
    rows = [LimitRow(SHARE, *S1, share_bp), LimitRow(ORDERS, *S1, orders)]
    watch = Watches(rows, flow).watch("s1", "XY", "sandbox")
    assert watch is not None
    for n, is_refused in enumerate(answers, start=1):
        if is_refused:
            watch.take_reject()
        else:
            watch.take_order(is_first=True)
        newest = answers[max(0, n - orders) : n]
        is_over = n >= orders and sum(newest) * 10_000 >= share_bp * orders
        assert bool(watch.why_halted(0)) is is_over
