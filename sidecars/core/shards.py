"""The engines of all shards as a source sees them: which one an order goes to, and how much may be received.

Rules (DECISIONS 39): order holds per (lane, shard); each shard has its own hold buffer, bounded by its credits; when
one is half full, only the units feeding it stop, and what other units still bring for it has the other half, so that
the bound holds whatever comes. No I/O here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from protocol.codes import Mode
from protocol.shards import ShardMap
from sidecars.core.session import EngineSession
from sidecars.core.source import Why

STRAYS: Final = 8  # of a full shard's place, the part that one receive may take
NONE: Final[frozenset[str]] = frozenset()
WHOLE: Final = ""


class EngineSessions:
    """One session a shard, and the rule between them (``source.Engines``)."""

    def __init__(self, sessions: Sequence[EngineSession], shards: ShardMap) -> None:
        assert len(sessions) == shards.shards
        self.shards = sessions
        self._first = sessions[0]
        self._is_one = len(sessions) == 1
        self._shard_of = shards.shard_of
        self.on_claimed: Callable[[], None] = _nothing  # told when there is something to say to the engines

    def of(self, account: str) -> EngineSession:
        """Return the session that orders of the account go to."""
        return self._first if self._is_one else self.shards[self._shard_of(account)]

    def shard_of(self, account: str) -> int | None:
        """Return the number of the shard that orders of the account go to; None where there is one engine only."""
        return None if self._is_one else self._shard_of(account)

    # Together

    @property
    def is_open(self) -> bool:
        """Whether deliveries for at least one shard are taken now."""
        return self._first.is_open if self._is_one else any(s.is_open for s in self.shards)

    @property
    def why_closed(self) -> Why:
        """Why none is."""
        if self._is_one:
            return self._first.why_closed
        return Why.DRAINING if all(s.why_closed is Why.DRAINING for s in self.shards) else Why.ENGINE_AWAY

    @property
    def fault(self) -> str:
        """What engines complained of."""
        if self._is_one:
            return self._first.fault
        return "; ".join(f"shard {n}: {s.fault}" for n, s in enumerate(self.shards) if s.fault)

    @property
    def mode(self) -> Mode:
        """The engines' mode."""
        return self._first.mode

    @property
    def epoch(self) -> int:
        """The highest epoch; 0 before the first session."""
        return max(s.epoch for s in self.shards)

    @property
    def is_stopping(self) -> bool:
        """Whether this process leaves."""
        return self._first.is_stopping

    @property
    def is_draining(self) -> bool:
        """Whether the source is to pause: this process leaves, or the only engine does."""
        return self.is_stopping or (self._is_one and self._first.is_draining)

    def claim(self, units: Iterable[str], now_ns: int) -> None:
        """Claim what the broker has assigned, of every engine."""
        claimed = tuple(units)
        for session in self.shards:
            session.claim(claimed, now_ns)
        self.on_claimed()

    # How much

    def room(self, *, reserved: bool) -> int:
        """Return the largest room of any shard: for a source that knows the account, and asks ``of`` it."""
        return max(s.room(reserved=reserved) for s in self.shards)

    def allowed(self, *, reserved: bool) -> int:
        """Return how many deliveries of whatever accounts have a place, all of one shard's even.

        One receive fills no shard further than just over half; of what a full one has left it lets in a part.
        """
        if self._is_one:
            return self._first.room(reserved=reserved)
        most = min(_allowed(session) for session in self.shards)
        if reserved and most:
            most += min(s.room(reserved=True) - s.room(reserved=False) for s in self.shards)
        return most

    def to_stop(self) -> frozenset[str]:
        """Return the units that feed a full shard. Cost: one pass over what is under way in full shards."""
        if self._is_one:
            return NONE
        return frozenset(d.unit for s in self.shards if _is_full(s) for d in s.live())


def _nothing() -> None:
    """Tell nobody."""


def _is_full(session: EngineSession) -> bool:
    return session.room(reserved=False) * 2 < session.bound


def _allowed(session: EngineSession) -> int:
    room = session.room(reserved=False)
    return -(-room // STRAYS) if _is_full(session) else min(room, room - session.bound // 2 + 1)
