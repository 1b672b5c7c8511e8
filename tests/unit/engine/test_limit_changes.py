"""Limits that an operator changes while the engine runs: what is refused, what binds, what a restart keeps."""

from __future__ import annotations

import pytest
from msgspec import structs

from engine.core import Core
from engine.limit_changes import carry_over, decide_limit, limit_views
from engine.state import State
from protocol.codes import Code, OutcomeKind, Scope, Side
from protocol.decisions import NewDecision
from protocol.event_kinds import SystemEvent
from protocol.events import events_of
from protocol.params import LimitChange, LimitName, LimitRow, Params
from protocol.records import ParamsSet
from tests.unit.engine.desk import E9, Desk, limit, params
from tests.unit.venues.stage import XY

POSITION, RATE = LimitName.POSITION_MAX, LimitName.RATE_COUNT
A1 = (Scope.ACCOUNT, "a1")


def change(value: int | None, name: LimitName = POSITION, at: tuple[Scope, str] = A1, **rest: int) -> LimitChange:
    """An operator's row; quantities in whole units."""
    exact = value if value is None or name is RATE else value * E9
    return LimitChange(name, *at, exact, "op", "why", 7, **rest)


def set_limit(desk: Desk, changed: LimitChange) -> None:
    record = decide_limit(desk.state, changed)
    assert isinstance(record, ParamsSet), record
    desk.apply(record)


def code_of(desk: Desk, client_order_id: str, quantity: int, side: Side = Side.BUY) -> Code:
    decided = desk.submit(desk.order(client_order_id, side, quantity))
    assert isinstance(decided, NewDecision)
    return decided.code


def params_now(state: State) -> Params:
    assert state.params is not None
    return state.params


def test_a_change_binds_the_next_order_and_a_lift_gives_the_file_back() -> None:
    """Tighter, then looser than the file, then the file again; the journal alone comes to the same state."""
    desk = Desk(limit(POSITION, 5, *A1))
    assert code_of(desk, "1", 2) is Code.OK
    set_limit(desk, change(3))
    assert code_of(desk, "2", 2) is Code.POS_LIMIT
    set_limit(desk, change(9))
    assert code_of(desk, "3", 7) is Code.OK
    set_limit(desk, change(None))
    assert code_of(desk, "4", 1) is Code.POS_LIMIT
    assert desk.hash() == desk.replayed_hash()


def test_a_change_never_loosens_a_wider_scope() -> None:
    """Every scope with a row is checked: an account's looser row leaves the global one binding."""
    desk = Desk(limit(POSITION, 5))
    set_limit(desk, change(100))
    assert code_of(desk, "1", 6) is Code.POS_LIMIT


def test_a_tightened_limit_stops_no_exit() -> None:
    """Limit 0 with a position of 4: the way out stays open."""
    desk = Desk(position=4)
    set_limit(desk, change(0))
    assert code_of(desk, "1", 1) is Code.POS_LIMIT
    assert code_of(desk, "2", 4, Side.SELL) is Code.OK


@pytest.mark.parametrize(
    ("name", "at", "known"),
    [
        (LimitName.UNDERLYING_MAX, (Scope.UNDERLYING, "GOLD"), True),
        (LimitName.UNDERLYING_MAX, (Scope.UNDERLYING, "TIN"), False),
        (LimitName.UNDERLYING_MAX, (Scope.UNDERLYING, ""), False),
        (LimitName.REJECT_COUNT, (Scope.VENUE, "sandbox"), True),
        (LimitName.REJECT_COUNT, (Scope.VENUE, "moon"), False),
    ],
)
def test_limits_of_underlyings_and_venues_are_changed_too(name: LimitName, at: tuple[Scope, str], known: bool) -> None:
    """Of those that an instrument has; the row is in force, and in the state that a replay comes to."""
    desk = Desk(given=params(instruments=(structs.replace(XY, underlying="GOLD"),)))
    changed = LimitChange(name, *at, 3, "op", "why", 7)
    if not known:
        assert "is not known" in str(decide_limit(desk.state, changed))
        return
    set_limit(desk, changed)
    views = limit_views(params_now(desk.state))
    assert views[name, *at].change == changed
    assert desk.hash() == desk.replayed_hash()


def test_a_rate_is_changed_with_what_it_has_counted() -> None:
    """Two in a second were taken; with a new bound of two the third is refused."""
    desk = Desk()
    set_limit(desk, change(5, RATE, window_ns=E9))
    assert [code_of(desk, str(n), 1) for n in range(2)] == [Code.OK] * 2
    set_limit(desk, change(2, RATE, window_ns=E9))
    assert code_of(desk, "9", 1) is Code.RATE_ACCOUNT
    desk.now += E9
    assert code_of(desk, "10", 1) is Code.OK


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (change(3, at=(Scope.ACCOUNT, "zz")), "not known"),
        (change(3, LimitName.CONCENTRATION_MAX_BP), "nothing would come of it"),
        (change(3, RATE), "window"),
        (
            change(3, RATE, (Scope.INSTRUMENT, "XY"), window_ns=E9),
            "scope expected global, account, strategy, was instrument",
        ),
        (change(3, window_ns=E9), "window"),
        (change(3, reserve_exit=1), "window"),
        (change(10**10), "expected 0 to"),
        (change(None), "no operator's value"),
        (change(8), "at most 7000000000"),
        (change(30, RATE, (Scope.STRATEGY, "s1"), window_ns=E9 - 1), "window of at least"),
        (change(30, RATE, (Scope.STRATEGY, "s1"), window_ns=E9, reserve_exit=1), "more for exits"),
    ],
)
def test_what_is_malformed_or_too_loose_is_refused(changed: LimitChange, said: str) -> None:
    """Nothing is journaled, and the line says what was expected."""
    row = structs.replace(limit(POSITION, 5, *A1), value_max=7 * E9)
    rate = LimitRow(RATE, Scope.STRATEGY, "s1", 20, E9, 0, 40)
    desk = Desk(row, rate)
    answer = decide_limit(desk.state, changed)
    assert isinstance(answer, str)
    assert said in answer
    assert isinstance(decide_limit(desk.state, change(7)), ParamsSet)


def test_a_restart_keeps_what_an_operator_set() -> None:
    """The file says 5, the operator 3: 3 binds, and the difference is said."""
    file = params(limit(POSITION, 5, *A1))
    desk = Desk(given=file)
    set_limit(desk, change(3))
    kept, lines = carry_over(file, params_now(desk.state))
    assert kept == params_now(desk.state)
    (line,) = lines
    assert "POSITION_MAX of account a1 is 3000000000, set by op; the file says 5000000000" in line
    assert carry_over(file, None) == (file, [])


@pytest.mark.parametrize(
    ("value", "edited", "value_max", "is_kept"),
    [
        (3, 5, None, True),  # tighter, the file is as it was
        (3, 4, None, True),  # tighter than the edited file too
        (3, 2, None, False),  # the edited file is tighter still
        (9, 5, None, True),  # loosened, the file is as it was
        (9, 4, None, False),  # loosened, and the file was edited since
        (9, 5, 8, False),  # the file forbids it now
        (3, 100, None, True),  # an edited file loosens nothing that was tightened
    ],
)
def test_an_edited_file_can_tighten_and_never_loosen(
    value: int, edited: int, value_max: int | None, *, is_kept: bool
) -> None:
    """Whichever is dropped is named, never silently."""
    desk = Desk(limit(POSITION, 5, *A1))
    set_limit(desk, change(value))
    row = limit(POSITION, edited, *A1)
    file = params(structs.replace(row, value_max=value_max and value_max * E9))
    kept, lines = carry_over(file, params_now(desk.state))
    assert bool(kept.changes) is is_kept
    assert ("dropped" in lines[0]) is not is_kept
    desk.set_params(kept)
    in_force = value if is_kept else edited
    assert code_of(desk, "1", in_force) is Code.OK
    assert code_of(desk, "2", 1) is Code.POS_LIMIT


def test_what_is_shown_names_both_sides() -> None:
    """The file's row and the operator's, with rows only one of them has."""
    desk = Desk(limit(POSITION, 5, *A1))
    set_limit(desk, change(3))
    set_limit(desk, change(2, at=(Scope.INSTRUMENT, "XY")))
    views = limit_views(params_now(desk.state))
    both, alone = views[POSITION, Scope.ACCOUNT, "a1"], views[POSITION, Scope.INSTRUMENT, "XY"]
    assert both.row is not None
    assert both.change is not None
    assert (both.row.value, both.change.value, both.change.operator, both.change.reason) == (
        5 * E9,
        3 * E9,
        "op",
        "why",
    )
    assert alone.row is None


def test_a_change_is_decided_again_and_told_as_an_event() -> None:
    """What a verifier and a reader of the stream see of it."""
    desk = Desk(limit(POSITION, 5, *A1))
    set_limit(desk, change(3))
    core = Core(desk.state.dedup.keys_max)
    answers = []
    for seq, now_ns, position, record in desk.records:
        answers.append(core.decide_again(record, now_ns))
        core.apply(seq, now_ns, position, record)
    assert answers[-1] is True
    (event,) = events_of(9, 9, desk.records[-1][3])
    assert isinstance(event, SystemEvent)
    assert event.text == "limit POSITION_MAX of account a1 set to 3000000000 by op: why"


def test_positions_orders_and_rates_stay_through_a_change() -> None:
    """A change of one limit changes nothing else: the open order fills into the same ledger."""
    desk = Desk(limit(POSITION, 5, *A1))
    order = desk.accept(desk.order("1", Side.BUY, 2))
    set_limit(desk, change(4))
    desk.fill(order, 2)
    assert desk.position == 2
    decided = desk.submit(desk.order("2", Side.BUY, 3))
    assert isinstance(decided, NewDecision)
    assert decided.kind is OutcomeKind.REJECTED


def test_a_dated_limit_is_guarded_and_shown_by_its_dates() -> None:
    """The value_max of a row of any date holds; what is shown is the row of the trading date."""
    now = structs.replace(limit(POSITION, 5, *A1), effective_to=20260630)
    later = structs.replace(limit(POSITION, 4, *A1), effective_from=20260701, value_max=6 * E9)
    desk = Desk(now, later)
    assert isinstance(decide_limit(desk.state, change(6)), ParamsSet)
    assert "at most 6000000000" in str(decide_limit(desk.state, change(7)))
    views = limit_views(params_now(desk.state), desk.state.trading_date)
    assert views[POSITION, Scope.ACCOUNT, "a1"].row == now
    assert limit_views(params_now(desk.state), 20260701)[POSITION, Scope.ACCOUNT, "a1"].row == later


def test_a_limit_is_set_only_where_it_is_read_and_never_shuts_the_way_out() -> None:
    """A scope that no check reads is refused, and a rate of nothing, which binds exits too."""
    desk = Desk()
    assert "scope expected" in str(decide_limit(desk.state, change(1, LimitName.GROSS_MAX, (Scope.INSTRUMENT, "XY"))))
    none = change(0, RATE, window_ns=E9)
    assert "nobody could leave a position" in str(decide_limit(desk.state, none))
    assert isinstance(decide_limit(desk.state, structs.replace(none, reserve_exit=1)), ParamsSet)
