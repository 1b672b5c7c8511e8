"""What a sidecar owns towards its engine: its own instance, or the units that its broker has assigned to it.

Rules: an epoch is the engine's word for one claim; nothing is sent of a unit before its word is there, and never
anything of a unit that is not assigned, also not under the instance's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.session import Claim, Claimed
from sidecars.core.source import Delivery


class Claims:
    """The claims of one session."""

    def __init__(self) -> None:
        self.own = ""
        self._own_epoch = 0
        self._units: dict[str, int] | None = None  # epochs, 0 = asked for; None = the broker assigns none

    def assign(self, units: Iterable[str]) -> list[Claim]:
        """Take what the broker has assigned, all of it anew; return what the engine is to be asked."""
        self._units = dict.fromkeys(units, 0)
        return [Claim(unit) for unit in self._units]

    def again(self) -> list[Claim]:
        """Return what a new session is asked for: everything; what an earlier one said counts no more."""
        self._own_epoch = 0
        return [Claim(self.own), *(self.assign(self._units) if self._units is not None else ())]

    def confirm(self, claimed: Claimed) -> None:
        """Take the engine's word."""
        if claimed.unit == self.own:
            self._own_epoch = claimed.unit_epoch
        elif self._units is not None and claimed.unit in self._units:
            self._units[claimed.unit] = claimed.unit_epoch

    @property
    def are_confirmed(self) -> bool:
        """Whether the engine's word is there for all."""
        return self._own_epoch > 0 and (self._units is None or all(self._units.values()))

    def has(self, delivery: Delivery) -> bool:
        """Whether a delivery may be sent."""
        return self._units is None or delivery.unit in self._units

    def of(self, delivery: Delivery) -> tuple[str, int]:
        """Return unit and epoch that a delivery is sent under; only of one that it ``has``."""
        if self._units is None:
            return self.own, self._own_epoch
        return delivery.unit, self._units[delivery.unit]
