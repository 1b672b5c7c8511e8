"""The records of held orders: one came, the risk service decided, its time is over, the service came or went.

Fields are only ever appended, with defaults, as in ``protocol.records``.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from protocol.codes import Code
from protocol.decisions import NewDecision, Reference
from protocol.risk import RiskAnswer
from protocol.session import Item


class HoldEffect(IntEnum):
    """What became of a hold."""

    SENT = 1
    REJECTED = 2
    EXPIRED = 3
    WAITS = 4  # it goes on: for longer, or is asked about again
    LATE = 5  # the order had left already


class HoldDecision(Struct, array_like=True, frozen=True, gc=False):
    """What became of a hold.

    Attributes:
        code: Of SENT: OK, RISK_TRIMMED, or why it went without an approval. Else why not.
        venue_seq: Of SENT.
        quantity_e9: Of SENT; less than asked for where it was trimmed. ``price_e9`` is its limit.
        deadline_ns: Of WAITS.
    """

    effect: HoldEffect
    code: Code
    venue_seq: int = 0
    quantity_e9: int = 0
    deadline_ns: int = 0
    price_e9: int = 0


class OrderHeld(Struct, array_like=True, tag=66, frozen=True, gc=False):
    """A NewOrder came and is held: ``codes`` would have refused it, and are the risk service's to judge."""

    source: str
    item: Item
    reference: Reference | None
    decision: NewDecision
    codes: list[Code]
    deadline_ns: int
    seq: int = 0


class RiskDecided(Struct, array_like=True, tag=67, frozen=True, gc=False):
    """The risk service answered, as received, and what that did."""

    account: str
    client_order_id: str
    venue: str
    reference: Reference | None
    answer: RiskAnswer
    decision: HoldDecision

    @property
    def order_id(self) -> str:
        """The order it is about."""
        return self.answer.order_id


class HoldTimed(Struct, array_like=True, tag=68, frozen=True, gc=False):
    """The time of a hold is over (RISK_DEADLINE), or nobody is there to answer (RISK_UNAVAILABLE)."""

    account: str
    client_order_id: str
    order_id: str
    venue: str
    reference: Reference | None
    code: Code
    decision: HoldDecision


class RiskChanged(Struct, array_like=True, tag=69, frozen=True):
    """A risk service opened a session (``ready``), or was lost."""

    ready: bool
    instance_epoch: int
