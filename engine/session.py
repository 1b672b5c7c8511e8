"""One open session of a sidecar: what it owns, what it is owed after the sync."""

from __future__ import annotations

from collections.abc import Container

from engine.orders import Replay
from engine.permit import Permit
from protocol.channels import IDENTITY_BYTES_MIN
from protocol.codes import ByeReason, RetryReason
from protocol.session import PROTOCOL_VERSION, Hello, Item, Outcome


class Session:
    """One open session."""

    __slots__ = (
        "drained", "finals", "heard", "heard_ns", "identity", "in_retry", "items", "moved", "outcomes", "permit",
        "permits", "principal", "replays", "retries", "retry_reason", "sidecar", "source", "unit",
        "unit_epoch", "units",
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
        self.unit, self.unit_epoch = "", 0  # of the item before, if it was claimed: mostly the next one's too
        self.moved: set[str] = set()  # units that another session has claimed since
        self.permits: dict[str, Permit] = {}  # principals are fixed while a process runs
        self.principal = ""  # the last one that was looked up
        self.permit: Permit | None = None
        self.items = 0  # in this turn
        self.outcomes: list[Outcome] = []
        self.replays: list[tuple[int, Item, Replay]] = []  # (index in outcomes, …): read after the sync
        self.retries: list[int] = []
        self.finals: list[tuple[int, str, int]] = []  # (item seq, order id, record): answered HELD, no FINAL yet
        self.retry_reason = RetryReason.VENUE_NOT_READY


def hello_fault(hello: Hello, identity: bytes, sources: Container[str]) -> tuple[ByeReason, str] | None:
    """Return why nobody is let in with this Hello; None if somebody is."""
    if hello.protocol_version != PROTOCOL_VERSION:
        return ByeReason.VERSION, f"protocol version expected {PROTOCOL_VERSION}, was {hello.protocol_version}"
    if hello.source not in sources:
        return ByeReason.SOURCE_UNKNOWN, f"source {hello.source} is not configured; add it to [[sources]]"
    if len(identity) < IDENTITY_BYTES_MIN:
        text = f"identity expected at least {IDENTITY_BYTES_MIN} random bytes, was {len(identity)}"
        return ByeReason.MALFORMED, text
    return None
