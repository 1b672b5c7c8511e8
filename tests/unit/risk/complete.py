"""Desks with parameters of the complete gate."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.codes import (
    Code,
    ReferenceSource,
    Side,
)
from protocol.contract_rows import (
    ContractClass,
    ContractName,
    ContractRow,
    ContractScope,
)
from protocol.decisions import NewDecision, Reference
from protocol.orders import NewOrder
from protocol.params import LimitRow, Params
from protocol.texts import refusal_text
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
N = ContractName
MS = 10**6
CENT = 10**7
GLOBAL = ContractScope.GLOBAL
HOUR_NS = 3_600 * E9
NIFTY = msgspec.structs.replace(
    XY, price_step_e9=CENT, tick_e9=5 * CENT, underlying="NIFTY", contract_class=ContractClass.INDEX_FUTURE,
    quantity_max_e9=10**6 * E9, collar_bp=9_999, taker_fee_bp_e9=0, maker_fee_bp_e9=0,
)  # fmt: skip
OPTION = msgspec.structs.replace(NIFTY, contract_class=ContractClass.CALL)


def row(name: ContractName, value: int) -> ContractRow:
    return ContractRow(name, GLOBAL, "", value)


def given(*rows: ContractRow, limits: tuple[LimitRow, ...] = (), instrument: Any = NIFTY, **more: Any) -> Params:
    changes = {"contracts": rows, **more}
    return msgspec.structs.replace(params(*limits, instruments=(instrument,)), **changes)


def desk_of(*rows: ContractRow, position: int = 0, **more: Any) -> Desk:
    return Desk(given=given(*rows, **more), position=position)


def order(desk: Desk, quantity: int = 1, price_e9: int = 100 * E9, side: Side = BUY, **more: Any) -> NewOrder:
    made = desk.order(f"o{desk.seq}", side, quantity, **more)
    return msgspec.structs.replace(made, price_e9=price_e9)


def says(desk: Desk, command: NewOrder, reference_e9: int = 100 * E9) -> NewDecision:
    """Decide and apply, and hold that the record leads recovery to the same state."""
    decided = desk.submit(command, reference=Reference(reference_e9, 0, ReferenceSource.LAST_TRADE))
    assert isinstance(decided, NewDecision)
    assert desk.hash() == desk.replayed_hash()
    return decided


def code(desk: Desk, *args: Any, reference_e9: int = 100 * E9, **more: Any) -> Code:
    return says(desk, order(desk, *args, **more), reference_e9).code


def text(decided: NewDecision) -> str:
    return refusal_text(decided.code, decided.facts)
