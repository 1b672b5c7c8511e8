"""One open session of a sidecar: what it owns, what it is owed after the sync."""

from __future__ import annotations

from engine.orders import Replay
from engine.permit import Permit
from protocol.codes import RetryReason
from protocol.session import Item, Outcome


class Session:
    """One open session."""

    __slots__ = (
        "drained", "finals", "heard", "heard_ns", "identity", "in_retry", "items", "outcomes", "permits", "replays",
        "retries", "retry_reason", "sidecar", "source", "units",
    )  # fmt: skip

    def __init__(self, identity: bytes, source: str, sidecar: str) -> None:
        self.identity = identity
        self.source = source
        self.sidecar = sidecar
        self.in_retry = False
        self.drained = False
        self.heard = True  # since ``present`` looked last
        self.heard_ns = 0
        self.units: dict[str, int] = {}
        self.permits: dict[str, Permit] = {}  # principals are fixed while a process runs
        self.items = 0  # in this turn
        self.outcomes: list[Outcome] = []
        self.replays: list[tuple[int, Item, Replay]] = []  # (index in outcomes, …): read after the sync
        self.retries: list[int] = []
        self.finals: list[tuple[int, str, int]] = []  # (item seq, order id, record): answered HELD, no FINAL yet
        self.retry_reason = RetryReason.VENUE_NOT_READY
