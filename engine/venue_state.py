"""What the engine knows of one venue: its session, the outbox of numbered commands, the fills it has counted."""

from __future__ import annotations

from collections import deque

from engine.order import Order, Outgoing, OutgoingKind
from protocol.venue import Capabilities


class VenueState:
    """One venue. ``fresh`` hands new commands to the loop; it is no state and is empty after recovery."""

    __slots__ = (
        "awaiting",
        "capabilities",
        "changed_ns",
        "doubted",
        "fresh",
        "gateway_instance",
        "last_seq",
        "manual_trades",
        "name",
        "not_found",
        "ready",
        "received_seq",
        "report_seq",
        "trade_ids",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = False
        self.changed_ns = 0
        self.gateway_instance = b""
        self.last_seq = 0
        self.received_seq = 0
        self.report_seq = 0
        self.awaiting: dict[int, Outgoing] = {}
        self.not_found: dict[str, Order] = {}
        self.trade_ids: dict[str, None] = {}
        self.manual_trades: dict[str, None] = {}  # booked by hand: known however many others follow
        self.doubted: dict[str, None] = {}  # ids that the venue once did not list: never sent again
        self.fresh: deque[Outgoing] = deque()
        self.capabilities: Capabilities | None = None

    def add(self, seq: int, kind: OutgoingKind, order: Order, at_ns: int) -> None:
        """Take the next number for a command."""
        assert seq == self.last_seq + 1
        self.last_seq = seq
        outgoing = Outgoing(seq, kind, order, at_ns)
        self.awaiting[seq] = outgoing
        self.fresh.append(outgoing)

    def row(self) -> tuple[object, ...]:
        """Return everything that is state, for its hash."""
        awaiting = [(o.seq, int(o.kind), o.order.order_id, o.at_ns) for o in self.awaiting.values()]
        # A venue without them has the hash it had before there were any.
        by_hand = [(n, list(known)) for n, known in enumerate((self.manual_trades, self.doubted)) if known]
        return (
            self.name, self.ready, self.changed_ns, self.gateway_instance, self.last_seq, self.received_seq,
            self.report_seq, awaiting, list(self.not_found), list(self.trade_ids), *by_hand,
            *(() if self.capabilities is None else (self.capabilities,)),
        )  # fmt: skip
