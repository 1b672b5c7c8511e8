"""Rows of a limits file applied to a running engine: what binds, what is refused, what the journal makes of it."""

from __future__ import annotations

import pytest
from msgspec import structs

from engine.core import Core
from engine.limit_changes import decide_limit
from engine.row_changes import Applied, decide_rows
from protocol.codes import Code, OutcomeKind, Scope, Side
from protocol.contract_rows import ContractName, ContractRow, ContractScope
from protocol.decisions import NewDecision
from protocol.event_kinds import SystemEvent
from protocol.events import events_of
from protocol.params import LimitChange, LimitName, LimitRow, RowsApplied
from protocol.records import ParamsSet
from protocol.risk_rows import RiskRows, rows_of
from tests.unit.engine.desk import E9, Desk, limit

POSITION, RATE = LimitName.POSITION_MAX, LimitName.RATE_COUNT
A1 = (Scope.ACCOUNT, "a1")
WHO = RowsApplied("op", "new quarter", "limits.toml", 7)


def apply(desk: Desk, *limits: LimitRow, contracts: tuple[ContractRow, ...] = ()) -> list[str]:
    decided = decide_rows(desk.state, RiskRows(limits, contracts), WHO)
    assert isinstance(decided, Applied), decided
    desk.apply(decided.record)
    return decided.lines


def code_of(desk: Desk, client_order_id: str, quantity: int, side: Side = Side.BUY) -> Code:
    decided = desk.submit(desk.order(client_order_id, side, quantity))
    assert isinstance(decided, NewDecision)
    assert (decided.kind is OutcomeKind.ACCEPTED) is (decided.code is Code.OK)
    return decided.code


def test_applied_rows_bind_the_next_order_and_stand_in_the_journal() -> None:
    """The file's rows in the place of the running ones; a replay comes to the same state and decides the same."""
    desk = Desk(limit(POSITION, 5, *A1))
    assert code_of(desk, "1", 4) is Code.OK
    apply(desk, limit(POSITION, 4, *A1))
    assert code_of(desk, "2", 1) is Code.POS_LIMIT
    apply(desk)
    assert code_of(desk, "3", 9) is Code.OK
    assert desk.hash() == desk.replayed_hash()
    core = Core(desk.state.dedup.keys_max)
    for seq, now_ns, position, record in desk.records:
        again = core.decide_again(record, now_ns)
        assert again is True or not (isinstance(record, ParamsSet) and record.applied)
        core.apply(seq, now_ns, position, record)
    applied = [r for *_, r in desk.records if isinstance(r, ParamsSet) and r.applied]
    (event,) = events_of(9, 9, applied[0])
    assert isinstance(event, SystemEvent)
    assert event.text == "limits of limits.toml applied by op: new quarter"


def test_a_recorded_application_that_is_not_what_is_decided_is_found() -> None:
    """A record whose rows the rules refuse is not decided again as it stands."""
    desk = Desk(limit(POSITION, 5, *A1))
    decided = decide_rows(desk.state, RiskRows((limit(POSITION, 4, *A1),)), WHO)
    assert isinstance(decided, Applied)
    assert desk.core.decide_again(decided.record, desk.now) is True
    other = structs.replace(decided.record, content_hash=b"x" * 16)
    assert desk.core.decide_again(other, desk.now) is False


GUARDED = structs.replace(limit(POSITION, 5, *A1), value_max=7 * E9)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (RiskRows((limit(POSITION, 5, Scope.ACCOUNT, "zz"), GUARDED)), "account 'zz' is not known"),
        (RiskRows((GUARDED, limit(RATE, 0, window_ns=E9))), "binds exits too, nobody could leave a position"),
        (RiskRows((GUARDED, limit(RATE, 5))), "window expected"),
        (RiskRows((GUARDED, GUARDED)), "expected one row"),
        (RiskRows((structs.replace(GUARDED, soft=6 * E9),)), "soft expected at most"),
        (RiskRows((structs.replace(GUARDED, value=-1),)), "value expected 0 to"),
        (RiskRows(), "at most 7000000000, the running value_max"),
        (RiskRows((limit(POSITION, 6, *A1),)), "with a value_max no looser"),
        (RiskRows((structs.replace(GUARDED, value_max=8 * E9),)), "was 5000000000"),
        (RiskRows((structs.replace(GUARDED, effective_from=20260601),)), "for all of its dates"),
        (
            RiskRows((GUARDED,), (ContractRow(ContractName.LOT, ContractScope.GLOBAL, "", 10**8),)),
            "multiple of quantity_step",
        ),
        (
            RiskRows((GUARDED,), (ContractRow(ContractName.FREEZE, ContractScope.GLOBAL, "", 1),)),
            "expected FREEZE of at least the lot",
        ),
        (
            RiskRows((GUARDED,), (ContractRow(ContractName.TICK, ContractScope.INSTRUMENT, "ZZ", E9),)),
            "instrument 'ZZ' is not known",
        ),
        (RiskRows((GUARDED,)), "nothing to apply"),
    ],
)
def test_rows_are_refused_as_a_whole(rows: RiskRows, said: str) -> None:
    """Whatever is wrong with one row, none is taken; the running rows stay as they are."""
    desk = Desk(GUARDED)
    before = desk.hash()
    answer = decide_rows(desk.state, rows, WHO)
    assert isinstance(answer, str), answer
    assert said in answer
    assert desk.hash() == before
    assert isinstance(decide_rows(desk.state, RiskRows((structs.replace(GUARDED, value=6 * E9),)), WHO), Applied)


def test_every_fault_is_named_up_to_a_bound() -> None:
    """Forty bad rows are twenty lines and a word that there may be more."""
    rows = RiskRows(tuple(limit(POSITION, 5, Scope.ACCOUNT, f"z{n}") for n in range(40)))
    answer = decide_rows(Desk().state, rows, WHO)
    assert isinstance(answer, str)
    assert len(answer.splitlines()) == 21


def test_an_operators_value_stays_beside_applied_rows() -> None:
    """As at a start: it is dropped only where the file's row was edited and is tighter."""
    desk = Desk(limit(POSITION, 5, *A1))
    change = LimitChange(POSITION, *A1, 3 * E9, "op", "why", 7)
    record = decide_limit(desk.state, change)
    assert isinstance(record, ParamsSet)
    desk.apply(record)
    (kept,) = apply(desk, limit(POSITION, 4, *A1))
    assert "is 3000000000, set by op; the file says 4000000000" in kept
    assert code_of(desk, "1", 4) is Code.POS_LIMIT
    (dropped,) = apply(desk, limit(POSITION, 2, *A1))
    assert "is dropped" in dropped
    assert code_of(desk, "2", 3) is Code.POS_LIMIT
    assert code_of(desk, "3", 2) is Code.OK
    assert desk.state.params is not None
    assert rows_of(desk.state.params).limits == (limit(POSITION, 2, *A1),)


def test_an_applied_row_stops_no_exit() -> None:
    """Limit 0 with a position of 4: the way out stays open."""
    desk = Desk(position=4)
    apply(desk, limit(POSITION, 0))
    assert code_of(desk, "1", 1) is Code.POS_LIMIT
    assert code_of(desk, "2", 4, Side.SELL) is Code.OK
