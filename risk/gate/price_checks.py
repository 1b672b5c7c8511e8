"""Checks of the complete gate that ask what the reference price is worth: the soft collar, and a book that is crossed.

Like those of ``further_checks``: each one ``return`` of one expression over the ``View``.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import Code, OrderType, ReferenceSource, Side
from risk.gate.more import BP
from risk.gate.view import View

OK: Final = Code.OK
BUY: Final = Side.BUY
LIMIT: Final = OrderType.LIMIT
CROSSED: Final = ReferenceSource.CROSSED


def check_suspect(v: View) -> Code:
    """REF_SUSPECT: the reference is of a book whose bid is not below its ask. 99/100 A, 100/100 R. Exits pass."""
    return (
        Code.REF_SUSPECT
        if v.route.more.contract.is_book_checked
        and v.reference is not None
        and v.reference.source is CROSSED
        and not v.is_exit
        else OK
    )


def check_soft_collar(v: View) -> Code:
    """PRICE_COLLAR, soft. Ref 100, 10 % soft, 25 % hard: 110 A, 110.05 to the service, 125.05 R. Exits pass."""
    return Code.PRICE_COLLAR if v.route.more.contract.collar_soft_bp and not v.is_exit and is_beyond_soft(v) else OK


def is_beyond_soft(v: View) -> bool:
    """Whether the limit price is worse than the soft collar."""
    if v.reference is None or v.order_type is not LIMIT:
        return False
    soft_bp, reference_e9 = v.route.more.contract.collar_soft_bp, v.reference.price_e9
    if v.side is BUY:
        return v.price_e9 * BP > reference_e9 * (BP + soft_bp)
    return v.price_e9 * BP < reference_e9 * (BP - soft_bp)
