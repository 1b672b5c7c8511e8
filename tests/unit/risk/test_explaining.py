"""What the gate says of its checks: each has a row in the catalogue, and an explanation that is the check's own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from engine.explaining import ENVELOPE, explain_order
from protocol.codes import Code, OrderType, Scope, Side
from protocol.decisions import NewDecision
from protocol.explained import Explained
from protocol.orders import NewOrder
from protocol.params import LimitName
from risk.gate.catalogue import CATALOGUE, CHECKED_CONTRACTS, CHECKED_LIMITS
from risk.gate.checks import CHECKS
from risk.gate.explaining import ALL_CHECKS, CODE_OF
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit

GATE = Path(__file__).resolve().parents[3] / "risk" / "gate"
POSITION = LimitName.POSITION_MAX
A1 = (Scope.ACCOUNT, "a1")


def docstrings() -> dict[str, str]:
    """Return the docstring of each function of the gate, from its source: compiled functions have none."""
    trees = [ast.parse(path.read_text("utf-8")) for path in GATE.glob("*.py")]
    return {
        node.name: ast.get_docstring(node) or "" for t in trees for node in t.body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("name", sorted({check.__name__ for check in ALL_CHECKS}))
def test_a_checks_code_is_the_one_its_docstring_names(name: str) -> None:
    """The table that explanations use can't name another code than the check refuses with."""
    said = re.match(r"[A-Z_]+", docstrings()[name])
    assert said is not None
    assert CODE_OF[name].name == said.group()


def test_every_check_stands_in_the_catalogue() -> None:
    """Each code that a new order can be refused with has its source, its parameters and an example."""
    codes = {*(CODE_OF[check.__name__] for check in ALL_CHECKS), *ENVELOPE, Code.ID_CONFLICT}
    assert codes - CATALOGUE.keys() == set()
    for code in codes:
        entry = CATALOGUE[code]
        assert all((entry.refuses, entry.exits, entry.source, entry.example)), code


def test_every_limit_that_a_file_can_set_is_read() -> None:
    """The six limits of the plain gate are among those that files may name."""
    assert {LimitName(n) for n in range(1, 7)} <= CHECKED_LIMITS
    assert CHECKED_CONTRACTS


def explained(desk: Desk, order: NewOrder) -> dict[str, Explained]:
    """Explain an order and make sure that nothing of the state moved."""
    before = desk.hash()
    answers = explain_order(desk.core, order, ("src", "all"), desk.now, desk.now, REFERENCE)
    assert desk.hash() == before
    return {e.check or e.code.name: e for e in answers}


def test_an_explanation_has_value_and_limit_of_every_check() -> None:
    """Of those that pass too: what was compared, and at which scope the limit stands."""
    desk = Desk(limit(POSITION, 5, *A1), limit(LimitName.OPEN_COUNT_MAX, 3))
    desk.accept(desk.order("1", Side.BUY, 2))
    answers = explained(desk, desk.order("2", Side.BUY, 3))
    assert all(e.passes for e in answers.values())
    assert {check.__name__ for check in CHECKS} <= answers.keys()
    position = answers["check_position"].facts
    assert position is not None
    assert (position.expected, position.actual, position.scope, position.key) == (5 * E9, 5 * E9, *A1)
    count = answers["check_open_count"].facts
    assert count is not None
    assert (count.expected, count.actual) == (3, 2)
    assert not answers["check_order_value"].is_bound


@pytest.mark.parametrize("quantity", [1, 3, 4, 5, 9, 2_000_000])
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("order_type", [OrderType.LIMIT, OrderType.MARKET])
def test_an_explanation_says_what_the_engine_decides(quantity: int, side: Side, order_type: OrderType) -> None:
    """The first check that refuses in the explanation is the code of the decision; all pass if it is accepted."""
    desk = Desk(
        limit(POSITION, 5, *A1),
        limit(LimitName.QUANTITY_MAX, 4),
        limit(LimitName.RATE_COUNT, 2, window_ns=E9),
        position=4,
    )
    desk.accept(desk.order("1", Side.BUY, 1))
    order = desk.order("2", side, quantity, order_type=order_type)
    answers = explained(desk, order)
    decided = desk.submit(order)
    assert isinstance(decided, NewDecision)
    assert next((e.code for e in answers.values() if not e.passes), Code.OK) is decided.code


def test_an_order_that_goes_nowhere_is_explained_as_far_as_it_goes() -> None:
    """Identity comes first: what refuses it ends the list."""
    desk = Desk()
    order = desk.order("1", Side.BUY, 1)
    unknown = explain_order(desk.core, order, ("src", "nobody"), desk.now, desk.now, REFERENCE)
    assert [(e.code, e.passes) for e in unknown] == [(Code.AUTH_NOT_PERMITTED, False)]
    desk.accept(order)
    assert not explained(desk, order)["ID_CONFLICT"].passes
