"""Who owns which unit of a source: one session at a time, the one that claimed it last.

Rules: each claim has a number of its own, higher than all before and than any of an earlier engine; what is sent of a
unit under an earlier one, or by who had it before, is late, which is no fault; who owns nothing else has no session.
"""

from __future__ import annotations

from typing import Final

from engine.session import Session

EPOCH_SHIFT: Final = 32
LATE: Final = -1
UNCLAIMED: Final = -(1 << 62)
UNITS_MAX: Final = 10_000  # of a session, lost ones too: partitions of a topic, and its own


class Units:
    """The units of all sessions."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, str], Session] = {}
        self._claims = 0

    def may_claim(self, session: Session, unit: str) -> bool:
        """Whether there is place for one more."""
        return unit in session.units or len(session.units) + len(session.moved) < UNITS_MAX

    def claim(self, session: Session, unit: str, engine_epoch: int) -> Session | None:
        """Let a session have a unit from now on; return who has nothing left by that."""
        owner = self._owners.get((session.source, unit))
        self._claims += 1
        self._owners[session.source, unit] = session
        session.units[unit] = engine_epoch << EPOCH_SHIFT | self._claims
        session.moved.discard(unit)
        session.unit = ""  # what was looked up last
        if owner is None or owner is session:
            return None
        del owner.units[unit]
        owner.moved.add(unit)
        owner.unit = ""
        return None if owner.units else owner

    def forget(self, session: Session) -> None:
        """Free the units of a session that is over."""
        for unit in session.units:
            del self._owners[session.source, unit]
        session.units, session.unit = {}, ""  # they may be another one's now


def lease_of(session: Session, unit: str, unit_epoch: int, lease_left_ms: int) -> int:
    """Return what is left of the lease of an item: nothing if another session has its unit now, or it was claimed anew.

    Returns:
        As given if the unit is the session's under this epoch, which is noted for the next item; ``LATE``; or
        ``UNCLAIMED`` if it never was.
    """
    claimed = session.units.get(unit)
    if claimed is None:
        return LATE if unit in session.moved else UNCLAIMED
    if unit_epoch == claimed:
        session.unit, session.unit_epoch = unit, unit_epoch
        return lease_left_ms
    return LATE if 0 < unit_epoch < claimed else UNCLAIMED
