"""Cancels of stale exits: ``decide`` reads; ``Controls.apply_cancels`` writes. Which exits are stale: ``engine.drift``.

Each is cancelled by a record of the engine's own with code EXIT_STALE: at the venue, or void where it was not sent yet.
Where a cancel is refused or lost it is decided again, until the order is over: only then it is forgotten.
"""

from __future__ import annotations

from typing import Final

from engine.controls import CANCELS_MAX, Controls
from engine.order import Order
from engine.state import ENGINE, State
from protocol.codes import Code, Scope
from protocol.records import ControlAction, Controlled

REASON: Final = "the position shrank outside its exits"


class StaleExits:
    """Decides them over one State."""

    __slots__ = ("_controls", "_state")

    def __init__(self, state: State, controls: Controls) -> None:
        self._state = state
        self._controls = controls

    def decide(self, unsent_from: dict[str, int]) -> Controlled | None:
        """Return the record that cancels what is stale and not being cancelled; None = there is no such order.

        ``unsent_from``: as of ``Controls.decide_control``.
        """
        doomed = self._doomed()
        if not doomed:
            return None
        cancels = self._controls.cancels_of(doomed, unsent_from, Code.EXIT_STALE)
        return Controlled(ControlAction.EXIT_STALE, Scope.GLOBAL, "", ENGINE, REASON, True, cancels)

    def decide_again(self, record: Controlled) -> bool:
        """Return whether the orders that are cancelled now are those; which were never sent only the loop knew."""
        return [o.order_id for o in self._doomed()] == [c.order_id for c in record.cancels]

    def _doomed(self) -> list[Order]:
        orders = self._state.orders
        found = [orders[order_id] for order_id in self._state.stale]
        return [order for order in found if not order.cancel_seq][:CANCELS_MAX]
