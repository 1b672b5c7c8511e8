"""The records of OCO groups: one came, its stop price was reached, the leg that waited goes out or ends.

Fields are only ever appended, with defaults, as in ``protocol.records``.
"""

from __future__ import annotations

from msgspec import Struct

from protocol.codes import Code, OutcomeKind
from protocol.decisions import EngineCancel, NewDecision, Reference
from protocol.session import Facts, Item


class OcoDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a NewOco. Refused: ``leg`` is the first that was (from 1; 0 = the whole), ``legs`` is empty."""

    kind: OutcomeKind
    code: Code
    leg: int = 0
    checks_passed: int = 0
    takes_key: bool = True
    facts: Facts | None = None
    legs: list[NewDecision] = []


class OcoOrdered(Struct, array_like=True, tag=63, frozen=True, gc=False):
    """A NewOco came and was decided."""

    source: str
    item: Item
    reference: Reference | None
    decision: OcoDecision
    seq: int = 0


class OcoTriggered(Struct, array_like=True, tag=64, frozen=True, gc=False):
    """The stop price of the leg that waits was reached: the other one is cancelled.

    ``client_order_id`` is the group's, ``order_id`` that of the leg that waits. ``cancel`` None: the other leg is over,
    or is being cancelled.
    """

    account: str
    client_order_id: str
    order_id: str
    reference: Reference
    cancel: EngineCancel | None = None


class OcoReleased(Struct, array_like=True, tag=65, frozen=True, gc=False):
    """The leg that waited goes out (``cancel`` None), or ends unsent.

    It has ``quantity_e9`` from here on; ``reserved_price_e9`` is the worst that it could trade at.
    """

    venue: str
    venue_seq: int
    account: str
    client_order_id: str
    order_id: str
    reference: Reference | None
    code: Code
    quantity_e9: int = 0
    price_e9: int = 0
    reserved_price_e9: int = 0
    cancel: EngineCancel | None = None
