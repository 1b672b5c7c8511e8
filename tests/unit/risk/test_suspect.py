"""REF_SUSPECT: what is decided on a price of a book whose bid is not below its ask."""

from __future__ import annotations

import pytest

from engine.holds import Held
from protocol.codes import Code, ReferenceSource, Side
from protocol.contract_rows import ContractName, ContractRow, ContractScope
from protocol.decisions import NewDecision, Reference
from protocol.params import RiskParams
from risk.gate.row_rules import contract_faults
from tests.unit.engine.desk import E9, Desk
from tests.unit.risk.complete import BUY, NIFTY, SELL, desk_of, given, text
from tests.unit.risk.complete import row as contract_row

CHECKED = contract_row(ContractName.CHECK_CROSSED, 1)
CROSSED = Reference(100 * E9, 0, ReferenceSource.CROSSED)
TRADED = Reference(100 * E9, 0, ReferenceSource.LAST_TRADE)


def submit(desk: Desk, quantity: int = 1, reference: Reference = CROSSED, side: Side = BUY) -> NewDecision:
    decided = desk.submit(desk.order(f"o{desk.seq}", side, quantity), reference=reference)
    assert isinstance(decided, NewDecision)
    assert desk.hash() == desk.replayed_hash()
    return decided


def test_a_crossed_book_takes_no_new_risk_and_lets_exits_out() -> None:
    """BUY R, SELL of what is held A, more than that R; with a price of an ordered book A."""
    desk = desk_of(CHECKED, position=5)
    refused = submit(desk)
    assert refused.code is Code.REF_SUSPECT
    assert text(refused) == (
        "REF_SUSPECT the best bid is not below the best ask, so no price can be trusted (instrument XY)"
    )
    assert submit(desk, 6, side=SELL).code is Code.REF_SUSPECT
    assert submit(desk, 5, side=SELL).code is Code.OK
    assert submit(desk, reference=TRADED).code is Code.OK


@pytest.mark.parametrize("rows", [(), (contract_row(ContractName.CHECK_CROSSED, 0),)])
def test_without_the_row_the_price_is_as_any(rows: tuple[ContractRow, ...]) -> None:
    """Absent, or 0: the book is nobody's matter, as before."""
    assert submit(desk_of(*rows)).code is Code.OK


def test_a_replace_that_adds_is_checked_and_one_that_takes_away_is_not() -> None:
    """Open for 5: 6 R, 4 A while the book is crossed."""
    desk = desk_of(CHECKED)
    desk.accept(desk.order("a", BUY, 5))
    assert desk.replace("a", "b", 6, reference=CROSSED).code is Code.REF_SUSPECT  # type: ignore[union-attr]
    assert desk.replace("a", "c", 4, reference=CROSSED).code is Code.OK  # type: ignore[union-attr]
    assert desk.hash() == desk.replayed_hash()


def test_where_it_is_routed_to_the_risk_service_the_order_is_held() -> None:
    """FWD of RISK.md A2."""
    desk = Desk(given=given(CHECKED, risk=RiskParams((Code.REF_SUSPECT,))))
    order = desk.order("held")
    item = desk.item(order)
    route = desk.core.orders.find_route(desk.state.permit("src", "all"), order)
    decided = desk.core.decide_new(order, item, route, desk.now, CROSSED, None)
    assert isinstance(decided, Held), decided
    assert decided.codes == (Code.REF_SUSPECT,)


def test_the_row_is_a_flag() -> None:
    """1 checks, 0 does not, anything else is a fault."""
    for value, faults in ((0, 0), (1, 0), (2, 1)):
        row = ContractRow(ContractName.CHECK_CROSSED, ContractScope.GLOBAL, "", value)
        assert len(list(contract_faults([NIFTY], [row]))) == faults
