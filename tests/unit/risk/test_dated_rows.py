"""Dated rows: which one holds on a trading date, and that the engine takes it at START, PARAMS and SESSION_ROLL."""

from __future__ import annotations

import msgspec
import pytest

from protocol.codes import Scope
from protocol.contract_rows import (
    ContractClass,
    ContractName,
    ContractRow,
    ContractScope,
    counts_on,
    resolve_contract,
)
from protocol.params import LimitChange, LimitName, LimitRow
from protocol.rolls import SessionRolled
from tests.unit.engine.desk import E9, Desk, params

FREEZE = ContractName.FREEZE


@pytest.mark.parametrize(
    ("first", "last", "date", "counts"),
    [
        (0, 0, 20260530, True), (20260530, 0, 20260530, True), (20260531, 0, 20260530, False),
        (0, 20260530, 20260530, True), (0, 20260529, 20260530, False),
    ],
)  # fmt: skip
def test_a_row_counts_between_its_dates(first: int, last: int, date: int, *, counts: bool) -> None:
    """Both ends included, 0 is unbounded."""
    assert counts_on(first, last, date) is counts


def test_the_most_specific_row_wins_and_then_the_latest() -> None:
    """DECISIONS 34: instrument over underlying over class over venue over global."""
    rows = [
        ContractRow(FREEZE, ContractScope.UNDERLYING, "NIFTY", 1800),
        ContractRow(FREEZE, ContractScope.UNDERLYING, "NIFTY", 1200, 20260601),
        ContractRow(FREEZE, ContractScope.GLOBAL, "", 9),
        ContractRow(FREEZE, ContractScope.CLASS, "PUT", 8),
    ]

    def freeze(date: int, underlying: str, contract_class: ContractClass = ContractClass.CALL) -> int:
        found = resolve_contract(
            rows, date, venue="v", contract_class=contract_class, underlying=underlying, instrument="i"
        )
        return found[FREEZE].value

    assert [freeze(20260531, "NIFTY"), freeze(20260601, "NIFTY"), freeze(20260601, "")] == [1800, 1200, 9]
    assert freeze(20260601, "BANKNIFTY", ContractClass.PUT) == 8


def test_a_limit_begins_and_ends_with_its_trading_dates() -> None:
    """A7.14: only a session roll changes which rows hold."""
    first = LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 5 * E9, effective_to=20260530)
    second = LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 3 * E9, effective_from=20260531)
    desk = Desk(first, second)
    route = desk.state.route("a1", "s1", "XY")
    assert route.limits.position_e9 == 5 * E9
    desk.apply(SessionRolled(20260530, 20260531, "", "", 0))
    assert route.limits.position_e9 == 3 * E9
    assert desk.hash() == desk.replayed_hash()


def test_an_operators_value_keeps_the_soft_one() -> None:
    """A changed hard limit says nothing of the soft one."""
    row = LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 5 * E9, soft=4 * E9)
    change = LimitChange(LimitName.POSITION_MAX, Scope.GLOBAL, "", 6 * E9, "ann", "more", 1)
    (found,) = msgspec.structs.replace(params(row), changes=(change,)).limits_on(20260530)
    assert (found.value, found.soft) == (6 * E9, 4 * E9)
