"""Explanations over the complete gate: every parameter given, so that each further check has something to compare."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

from engine.explaining import explain_order
from protocol.codes import Code, OrderType, ReferenceSource, Scope, Side, TimeInForce
from protocol.contract_rows import ContractName, RestrictionKind, RestrictionRow, VenueRow
from protocol.decisions import NewDecision, Reference
from protocol.explained import Explained
from protocol.orders import NewOrder, TermedOrder
from protocol.params import AccountParams, LimitName, LimitRow
from protocol.records import Adjusted
from protocol.texts import refusal_text
from risk.gate.further_checks import COMPLETE_CHECKS
from tests.unit.engine.desk import E9, Desk
from tests.unit.risk.complete import OPTION, given, row

REFERENCE = Reference(100 * E9, 0, ReferenceSource.LAST_TRADE)
VALUES = {
    ContractName.TICK: E9 // 20, ContractName.LOT: E9, ContractName.QUANTITY_MIN: E9,
    ContractName.QUANTITY_MAX: 90 * E9, ContractName.COLLAR_BP: 5_000, ContractName.FREEZE: 60 * E9,
    ContractName.BAND_LOW: 50 * E9,
    ContractName.BAND_HIGH: 140 * E9, ContractName.LPP_BREAK: 50 * E9, ContractName.LPP_ABSOLUTE: 20 * E9,
    ContractName.LPP_BP: 4_000, ContractName.ORDER_VALUE_MIN: 150 * E9, ContractName.MARGIN_LONG: 100 * E9,
    ContractName.MARGIN_SHORT: 200 * E9, ContractName.EXPOSURE_LONG: 100 * E9, ContractName.EXPOSURE_SHORT: 100 * E9,
    ContractName.DELTA_BP: 5_000,
}  # fmt: skip
LIMITS = (
    LimitRow(LimitName.DAILY_COUNT_MAX, Scope.GLOBAL, "", 3),
    LimitRow(LimitName.GROSS_MAX, Scope.ACCOUNT, "a1", 5_000 * E9),
    LimitRow(LimitName.NET_MAX, Scope.GLOBAL, "", 22 * E9),
    LimitRow(LimitName.UNDERLYING_MAX, Scope.UNDERLYING, "NIFTY", 20 * E9),
    LimitRow(LimitName.DUPLICATE_COUNT, Scope.GLOBAL, "", 1, E9),
    LimitRow(LimitName.INTENT_COUNT, Scope.STRATEGY, "s1", 3, E9),
    LimitRow(LimitName.GLOBAL_RATE_COUNT, Scope.GLOBAL, "", 4, E9),
    LimitRow(LimitName.VENUE_RATE_COUNT, Scope.VENUE, "sandbox", 4, E9),
)


def full_desk(*restrictions: RestrictionRow, write: bool = True) -> Desk:
    """Return a desk on which no further check is without parameters."""
    desk = Desk(
        given=given(
            *(row(name, value) for name, value in VALUES.items()), limits=LIMITS, instrument=OPTION,
            accounts=(AccountParams("a1", "USDT", -1, -1, True, True, write),), restrictions=restrictions,
            venues=(VenueRow("sandbox", needs_algo_id=False),),
        )
    )  # fmt: skip
    desk.apply(Adjusted("a1", "", 0, 0, str(4_000 * E9), "USDT", "opening cash"))
    return desk


def explain(desk: Desk, order: NewOrder) -> tuple[Code, int]:
    """Return the first code that refuses, and how many checks had something to compare; nothing of the state moves."""
    before = desk.hash()
    answers = explain_order(desk.core, order, ("src", "all"), desk.now, desk.now, REFERENCE)
    assert desk.hash() == before
    for answer in answers:
        assert refusal_text(answer.code, answer.facts)
    assert {check.__name__ for check in COMPLETE_CHECKS} <= {a.check for a in answers}
    code = next((a.code for a in answers if not a.passes), Code.OK)
    return code, sum(a.facts is not None and a.is_bound for a in answers)


@pytest.mark.parametrize("quantity", [1, 2, 3, 15, 30, 45, 61, 91])
@pytest.mark.parametrize("price", [40, 60, 61, 100, 139, 141, 151])
@pytest.mark.parametrize("side", Side)
def test_an_explanation_says_what_the_complete_gate_decides(quantity: int, price: int, side: Side) -> None:
    """Whatever refuses: first in the explanation, code of the decision; checks that pass are compared all the same."""
    desk = full_desk()
    first = msgspec.structs.replace(desk.order("1", Side.BUY, 2), price_e9=100 * E9)
    desk.accept(first)
    order = msgspec.structs.replace(desk.order("2", side, quantity), price_e9=price * E9)
    code, compared = explain(desk, order)
    decided = desk.submit(order, reference=REFERENCE)
    assert isinstance(decided, NewDecision)
    assert decided.code is code
    assert compared >= 15


@pytest.mark.parametrize(
    ("restriction", "expected"),
    [
        (RestrictionRow(RestrictionKind.NO_ORDERS, underlying="NIFTY"), Code.INSTR_RESTRICTED),
        (RestrictionRow(RestrictionKind.EXITS_ONLY, instrument="XY"), Code.INSTR_BAN_REDUCE_ONLY),
    ],
)
def test_a_restriction_is_explained(restriction: RestrictionRow, expected: Code) -> None:
    """The list that forbids it refuses in the explanation too."""
    desk = full_desk(restriction)
    order = msgspec.structs.replace(desk.order("1", Side.BUY, 2), price_e9=100 * E9)
    assert explain(desk, order)[0] is expected


def test_a_permission_and_a_repetition_are_explained() -> None:
    """A sale that could end short without the permission; the same terms twice."""
    desk = full_desk(write=False)
    sale = msgspec.structs.replace(desk.order("1", Side.SELL, 2), price_e9=100 * E9)
    assert explain(desk, sale)[0] is Code.PERM_OPTION_WRITE
    bought = msgspec.structs.replace(desk.order("2", Side.BUY, 2), price_e9=100 * E9)
    desk.accept(bought)
    again = msgspec.structs.replace(desk.order("3", Side.BUY, 2), price_e9=100 * E9)
    assert explain(desk, again)[0] is Code.DUP_ECONOMIC
    assert again.order_type is OrderType.LIMIT


PRICES = st.sampled_from([-(2**63 - 1), -1, 0, 1, 100 * E9, 2**63 - 1]) | st.integers(-(2**63 - 1), 2**63 - 1)
ORDERS = st.builds(
    TermedOrder,
    st.just("a1"), st.just("x"), st.just("s1"), st.just("XY"), st.sampled_from(Side), st.sampled_from(OrderType),
    st.sampled_from(TimeInForce), st.sampled_from([1, E9, 2**63 - 1]) | st.integers(1, 2**63 - 1), PRICES,
    st.booleans(), PRICES, st.integers(-(2**63), 2**63 - 1), st.booleans(),
)  # fmt: skip
REFERENCES = st.none() | st.builds(
    Reference, st.sampled_from([1, 100 * E9, 2**63 - 1]), st.just(0), st.sampled_from(ReferenceSource)
)


@given_(order=ORDERS, is_termed=st.booleans(), reference=REFERENCES, is_full=st.booleans(), position=st.integers(-5, 5))
@settings(max_examples=300, deadline=None)
def test_no_order_breaks_an_explanation(
    *, order: TermedOrder, is_termed: bool, reference: Reference | None, is_full: bool, position: int
) -> None:
    """It runs in the engine's own loop: whatever a client sends is answered, and the state stays as it was."""
    desk = full_desk() if is_full else Desk()
    if position:
        desk.apply(Adjusted("a1", "XY", position * E9, 100 * E9, "", "", "opening"))
    plain = NewOrder(*(getattr(order, name) for name in NewOrder.__struct_fields__))
    before = desk.hash()
    asked = order if is_termed else plain
    answers = explain_order(desk.core, asked, ("src", "all"), desk.now, desk.now, reference)
    assert desk.hash() == before
    assert all(refusal_text(a.code, a.facts) for a in answers)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answers), type=list[Explained]) == answers
