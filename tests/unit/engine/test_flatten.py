"""Flatten: what is cancelled, whose exits are made in which order, at what price and size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.core import Core
from engine.flatten import CHILDREN_MAX, FLATTENS_MAX, Target, largest_within, worst_price
from engine.flatten_plan import Flatten
from engine.snapshot import load_snapshot
from engine.state import FLATTENED_MAX, state_hash
from protocol.codes import Code, ExecType, OutcomeKind, ReferenceSource, Scope, Side, TradingState
from protocol.decisions import Reference
from protocol.orders import NewOrder
from protocol.params import ContractKind, LimitName, LimitRow
from protocol.records import Adjusted, ControlAction, Controlled, FlattenPlan, Ordered, VenueChanged
from risk.gate.exposure import InstrumentState
from tests.unit.engine.deep import plain
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.engine.test_snapshot import save
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
ZZ = structs.replace(XY, instrument="ZZ")
REFERENCE = Reference(100 * E9, 0, ReferenceSource.LAST_TRADE)
A1 = (Scope.ACCOUNT, "a1")
UNSENT = {"sandbox": 1 << 62}


class FlatDesk(Desk):
    """A desk that flattens as the loop does."""

    def __init__(self, *limits: LimitRow, **positions: int) -> None:
        super().__init__(given=params(*limits, instruments=(XY, ZZ)))
        for instrument, quantity in positions.items():
            self.apply(Adjusted("a1", instrument, quantity * E9, 100 * E9, "", "", "opening"))

    def start(self, at: tuple[Scope, str] = A1, name: str = "f", seconds: int = 30, **plan: int) -> Flatten:
        made = FlattenPlan(name, seconds * E9, **plan)
        assert self.core.flattens.refusal(made) == ""
        for record in self.core.flattens.decide_start(made, *at, "op", "why", UNSENT):
            self.apply(record)
        return self.state.flattens[name]

    def exit(self, flatten: Flatten, target: Target) -> NewOrder | str:
        """Make the next exit of a target, or say why there is none now."""
        flattens = self.core.flattens
        order = flattens.wait_for(flatten, target, self.now) or flattens.make_child(flatten, target, REFERENCE)
        if isinstance(order, str):
            return order
        item = flattens.item(order, self.now)
        decision = flattens.decide_child(order, item, self.now, REFERENCE)
        if decision.kind is not OutcomeKind.ACCEPTED:
            return decision.code.name
        self.apply(Ordered("engine", item, REFERENCE, decision, self.seq + 1))
        return order

    def targets(self, flatten: Flatten) -> list[Target]:
        return self.core.flattens.targets(flatten.scope, flatten.key)

    def end(self, flatten: Flatten) -> str:
        record = self.core.flattens.decide_end(flatten, self.now, UNSENT)
        if record is None:
            return ""
        self.apply(record)
        return record.reason

    def fill_exits(self, quantity: int = 0) -> None:
        """Fill what the engine made, or so much of it, and expire the rest."""
        for order in [o for o in self.state.orders.values() if o.source == "engine"]:
            self.fill(order, quantity or order.leaves)
            if order.leaves:
                self.report(ExecType.CANCELED, order.order_id)


def made(order: NewOrder | str) -> NewOrder:
    assert isinstance(order, NewOrder), order
    return order


def test_everything_open_in_the_scope_is_cancelled_and_nothing_else() -> None:
    """Increasing orders and exits alike, newest first; the other account trades on; the scope is in reduce-only."""
    desk = FlatDesk(XY=5)
    desk.accept(desk.order("in", BUY, 1))
    desk.accept(desk.order("out", SELL, 5))
    other = desk.accept(desk.order("other", BUY, 1, account="a2"))
    desk.start()
    record = desk.records[-1][3]
    assert isinstance(record, Controlled)
    assert [c.client_order_id for c in record.cancels] == ["out", "in"]
    assert other.cancel_seq == 0
    assert desk.state.accounts["a1"].state is TradingState.REDUCING
    assert desk.hash() == desk.replayed_hash()


def test_an_exit_waits_until_what_was_cancelled_is_terminal() -> None:
    """Then it is made, as an immediate order at the collar, and nothing more while it works."""
    desk = FlatDesk(XY=5)
    order = desk.accept(desk.order("in", BUY, 1))
    flatten = desk.start()
    (target,) = desk.targets(flatten)
    assert desk.exit(flatten, target) == "1 orders are being cancelled"
    desk.report(ExecType.CANCELED, order.order_id)
    child = made(desk.exit(flatten, target))
    assert (child.side, child.quantity_e9, child.price_e9, child.reduce_only) == (SELL, 5 * E9, 90 * E9, True)
    assert (child.strategy, child.client_order_id) == ("engine", "f-1")
    assert desk.exit(flatten, target) == "an exit is working"
    desk.fill_exits(2)
    assert made(desk.exit(flatten, desk.targets(flatten)[0])).quantity_e9 == 3 * E9
    desk.fill_exits()
    assert desk.end(flatten) == "flat"
    assert desk.hash() == desk.replayed_hash()


def test_half_the_time_is_the_most_that_an_exit_waits_for_others() -> None:
    """A cancel that nobody answers: the exit goes on what is surely left, and can't cross zero with it."""
    desk = FlatDesk(XY=5)
    stuck = desk.accept(desk.order("out", SELL, 3))
    flatten = desk.start(seconds=30)
    (target,) = desk.targets(flatten)
    desk.now += 15 * E9
    assert made(desk.exit(flatten, target)).quantity_e9 == 2 * E9
    desk.fill(stuck, 3)
    desk.fill_exits()
    assert desk.position == 0


def test_shorts_are_bought_back_before_longs_are_sold() -> None:
    """While the short is there the long waits, for half the time at most."""
    desk = FlatDesk(XY=5, ZZ=-3)
    flatten = desk.start()
    short, long = desk.targets(flatten)
    assert (short.instrument.name, long.instrument.name) == ("ZZ", "XY")
    assert desk.exit(flatten, long) == "shorts are bought back first"
    assert made(desk.exit(flatten, short)).side is BUY
    assert desk.exit(flatten, long) == "shorts are bought back first"
    desk.fill_exits()
    assert made(desk.exit(flatten, long)).side is SELL
    desk.fill_exits()
    assert desk.end(flatten) == "flat"


def test_exits_carry_the_strategy_that_holds_the_position() -> None:
    """The largest part first, no more than it; what no strategy holds goes under the engine's name."""
    desk = FlatDesk(XY=1)
    for strategy, quantity in (("s1", 2), ("s2", 4)):
        desk.fill(desk.accept(desk.order(strategy, BUY, quantity, strategy=strategy)), quantity)
    flatten = desk.start()
    found = []
    for _ in range(3):
        child = made(desk.exit(flatten, desk.targets(flatten)[0]))
        found.append((child.strategy, child.quantity_e9 // E9))
        desk.fill_exits()
    assert found == [("s2", 4), ("s1", 2), ("engine", 1)]
    assert desk.end(flatten) == "flat"
    assert all(route.own.position == 0 for route in desk.state.routes.values() if route.strategy.name != "engine")


def test_a_strategy_is_flattened_in_its_own_ledger() -> None:
    """Its part goes, the other strategy's stays; where the account holds less, only so much can be exited."""
    desk = FlatDesk()
    for strategy, side, quantity in (("s1", BUY, 6), ("s2", SELL, 4)):
        desk.fill(desk.accept(desk.order(strategy, side, quantity, strategy=strategy)), quantity)
    assert desk.position == 2
    flatten = desk.start((Scope.STRATEGY, "s1"))
    (target,) = desk.targets(flatten)
    assert made(desk.exit(flatten, target)).quantity_e9 == 2 * E9
    desk.fill_exits()
    (target,) = desk.targets(flatten)
    assert target.position == 4
    assert isinstance(desk.exit(flatten, target), str)
    desk.now = flatten.deadline_ns
    assert desk.end(flatten) == "deadline"


def test_the_gates_own_limits_do_not_hold_an_exit_back() -> None:
    """Limits breached already, position 0 allowed: the way out stays open (RISK.md A7.1)."""
    desk = FlatDesk(LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 0),
                    LimitRow(LimitName.OPEN_COUNT_MAX, Scope.GLOBAL, "", 0), XY=5)  # fmt: skip
    flatten = desk.start()
    assert made(desk.exit(flatten, desk.targets(flatten)[0])).quantity_e9 == 5 * E9


def test_a_full_rate_refuses_and_nothing_is_journaled() -> None:
    """The refusal is no record: the loop tries again, and the number is not used up."""
    desk = FlatDesk(LimitRow(LimitName.RATE_COUNT, Scope.GLOBAL, "", 0, E9, 1), XY=5)
    flatten = desk.start()
    made(desk.exit(flatten, desk.targets(flatten)[0]))
    desk.fill_exits(2)
    records = desk.seq
    assert desk.exit(flatten, desk.targets(flatten)[0]) in {"RATE_STRATEGY", "RATE_ACCOUNT"}
    assert (desk.seq, flatten.children) == (records, 1)
    desk.now += E9
    assert made(desk.exit(flatten, desk.targets(flatten)[0])).client_order_id == "f-2"


def test_no_more_exits_than_are_bounded() -> None:
    """A venue that refuses each one ends the flatten in the end."""
    desk = FlatDesk(XY=5)
    flatten = desk.start()
    flatten.children = CHILDREN_MAX
    assert desk.end(flatten) == f"{CHILDREN_MAX} exits were not enough"


def test_flattens_are_bounded_and_forgotten_in_order() -> None:
    """So many at a time, so many remembered."""
    desk = FlatDesk(XY=5)
    for n in range(FLATTENS_MAX):
        desk.start(name=f"f{n}")
    assert "at a time" in desk.core.flattens.refusal(FlattenPlan("more", E9))
    desk.control(ControlAction.KILL, *A1)
    assert desk.state.flattens == {}
    for n in range(FLATTENED_MAX):
        desk.start(name=f"g{n}")
        desk.control(ControlAction.RESUME, *A1)
    assert len(desk.state.flattened) == FLATTENED_MAX
    assert "g0" in desk.state.flattened
    assert "was asked for before" in desk.core.flattens.refusal(FlattenPlan("g0", E9))


@pytest.mark.parametrize(
    ("action", "at", "stops"),
    [
        (ControlAction.KILL, (Scope.GLOBAL, ""), True),
        (ControlAction.HALT, (Scope.INSTRUMENT, "XY"), True),
        (ControlAction.RESUME, A1, True),
        (ControlAction.KILL, (Scope.ACCOUNT, "a2"), False),
        (ControlAction.REDUCE_ONLY, (Scope.GLOBAL, ""), False),
    ],
)
def test_an_overlapping_control_stops_it(action: ControlAction, at: tuple[Scope, str], *, stops: bool) -> None:
    """What has no order in common, or takes exits anyway, leaves it."""
    desk = FlatDesk(XY=5)
    desk.start()
    desk.control(action, *at)
    assert ("f" in desk.state.flattened) is stops
    assert desk.hash() == desk.replayed_hash()


def test_a_venue_that_is_away_gets_nothing() -> None:
    """The exit is made when it is back: an order can't wait in the outbox for a price of then."""
    desk = FlatDesk(XY=5)
    flatten = desk.start()
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 0))
    assert desk.exit(flatten, desk.targets(flatten)[0]) == "venue sandbox is not ready"


@pytest.mark.parametrize(
    ("side", "slippage_bp", "expected"),
    [
        (BUY, -1, 110),
        (BUY, 10_000, 110),
        (BUY, 100, 101),
        (BUY, 0, 100),
        (SELL, -1, 90),
        (SELL, 100, 99),
        (SELL, 0, 100),
    ],
)
def test_the_price_is_inside_slippage_and_collar(side: Side, slippage_bp: int, expected: int) -> None:
    """XY's collar is 10 %; a wider slippage ends at it."""
    assert worst_price(InstrumentState(XY), side, 100 * E9, slippage_bp) == expected


@given(st.sampled_from(list(Side)), st.integers(1, 10**15), st.integers(-1, 20_000), st.integers(1, 50))
def test_the_price_is_on_a_tick_and_never_beyond_the_collar(side: Side, ref: int, bp: int, tick: int) -> None:
    """Rounded inward, whatever the tick."""
    instrument = InstrumentState(structs.replace(XY, tick_e9=tick * E9))
    price = worst_price(instrument, side, ref, bp)
    worst = instrument.collar(side, ref)
    assert price % tick == 0
    assert price <= worst if side is BUY else price >= worst


@given(st.sampled_from(list(ContractKind)), st.integers(1, 10**6), st.integers(0, 10**18), st.integers(1, 10**9))
def test_no_larger_quantity_fits_the_value(kind: ContractKind, price: int, cap: int, quantity: int) -> None:
    """It fits, and one step more would not, or it is all."""
    instrument = InstrumentState(structs.replace(XY, kind=kind))
    found = largest_within(instrument, price, cap, quantity)
    assert found == 0 or instrument.value_e9(found, price) <= cap
    assert found == quantity or instrument.value_e9(found + 1, price) > cap


def test_every_record_of_a_flatten_is_decided_again() -> None:
    """Beginning, cancels, exits, end: from the journal alone; a planted difference is seen."""
    desk = FlatDesk(XY=5)
    order = desk.accept(desk.order("in", BUY, 1))
    flatten = desk.start()
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
    desk.report(ExecType.NEW, order.order_id)
    for record in desk.core.flattens.decide_cancels(flatten, UNSENT):
        desk.apply(record)
    desk.report(ExecType.CANCELED, order.order_id)
    made(desk.exit(flatten, desk.targets(flatten)[0]))
    desk.fill_exits()
    assert desk.end(flatten) == "flat"
    core = Core(desk.state.dedup.keys_max)
    kinds = set()
    for seq, now_ns, position, record in desk.records:
        again = core.decide_again(record, now_ns)
        assert again is not False, record
        if isinstance(record, Controlled | Ordered) and again:
            kinds.add(record.action if isinstance(record, Controlled) else record.source)
        if isinstance(record, Ordered) and record.source == "engine":
            other = structs.replace(record, decision=structs.replace(record.decision, venue_seq=99))
            assert core.decide_again(other, now_ns) is False
        if isinstance(record, Controlled) and record.action is ControlAction.FLATTEN_END:
            assert core.decide_again(structs.replace(record, reason="deadline"), now_ns) is False
        core.apply(seq, now_ns, position, record)
    assert kinds == {
        ControlAction.FLATTEN, ControlAction.FLATTEN_CANCEL, ControlAction.FLATTEN_END, "engine", "src"
    }  # fmt: skip


def test_a_snapshot_holds_a_flatten_under_way_and_those_that_ended(tmp_path: Path) -> None:
    """What is loaded goes on as the state it was taken of: the next exit has the next number."""
    desk = FlatDesk(XY=5)
    desk.start(name="old", seconds=1)
    desk.control(ControlAction.KILL, *A1)
    flatten = desk.start(slippage_bp=30)
    made(desk.exit(flatten, desk.targets(flatten)[0]))
    core, _ = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    assert state_hash(core.state) == desk.hash()
    assert plain(core.state) == plain(desk.state)
    assert core.state.flattens["f"].children == 1


def test_a_halt_of_its_own_scope_is_overridden_and_another_is_not() -> None:
    """Asking for the flatten says so for the scope it names; for others the plan must."""
    desk = FlatDesk(XY=5)
    desk.control(ControlAction.KILL, *A1)
    desk.control(ControlAction.HALT, Scope.INSTRUMENT, "XY")
    flatten = desk.start()
    assert desk.exit(flatten, desk.targets(flatten)[0]) == Code.STATE_HALTED.name
    sure = desk.start(name="sure", overrides_halts=True)
    assert isinstance(desk.exit(sure, desk.targets(sure)[0]), NewOrder)
