"""What the engine knows of one venue: its session, the outbox of numbered commands, the fills it has counted.

What each fill counted is kept with its id, so that a venue that takes it back takes back exactly that.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from engine.order import Order, Outgoing, OutgoingKind
from protocol.venue import Capabilities
from risk.gate.exposure import Route

TRADE_IDS_MAX: Final = 50_000
CORRECTIONS_MAX: Final = 10_000

# Order id, route, signed quantity in steps (0: taken back), price in 1e-9, what it paid, its fee and the fee's currency
# as booked ("" = none was). Route None: taken back before it came.
Counted = tuple[str, Route | None, int, int, int, int, str]


class VenueState:
    """One venue. ``fresh`` hands new commands to the loop; it is no state and is empty after recovery."""

    __slots__ = (
        "amended",
        "awaiting",
        "capabilities",
        "changed_ns",
        "corrections",
        "differing",
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
        "trade_order",
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
        # None: from a snapshot of a release that did not keep what was counted.
        self.trade_ids: dict[str, Counted | None] = {}
        # Their ids, oldest first. The dict alone would have to walk over the holes that its first entries left.
        self.trade_order: deque[str] = deque()
        self.amended: dict[str, None] = {}  # trades taken back or corrected
        self.corrections: dict[str, str] = {}  # ids of corrections, and of the trade that each is of
        self.manual_trades: dict[str, None] = {}  # booked by hand: known however many others follow
        self.doubted: dict[str, None] = {}  # ids that the venue once did not list: never sent again
        self.differing: tuple[str, ...] = ()  # ids of open orders of which it counts other fills, not yet asked for
        self.fresh: deque[Outgoing] = deque()
        self.capabilities: Capabilities | None = None

    def add(self, seq: int, kind: OutgoingKind, order: Order, at_ns: int) -> None:
        """Take the next number for a command."""
        assert seq == self.last_seq + 1
        self.last_seq = seq
        outgoing = Outgoing(seq, kind, order, at_ns)
        self.awaiting[seq] = outgoing
        self.fresh.append(outgoing)

    def remember_trade(self, trade_id: str, counted: Counted) -> None:
        """Take the id into the window in which a repeated fill is seen."""
        self.trade_ids[trade_id] = counted
        self.trade_order.append(trade_id)
        if len(self.trade_order) > TRADE_IDS_MAX:
            self._forget_trade()

    def _forget_trade(self) -> None:
        oldest = self.trade_order.popleft()
        counted = self.trade_ids.pop(oldest)
        if self.manual_trades and oldest in self.manual_trades:
            self.trade_ids[oldest] = counted
            self.trade_order.append(oldest)
        elif self.amended:
            self.amended.pop(oldest, None)

    def amend_trade(self, trade_id: str, counted: Counted, correction_id: str = "") -> None:
        """Let a remembered trade count otherwise. ``correction_id``: under which the venue said it, if another."""
        self.trade_ids[trade_id] = counted
        self.amended[trade_id] = None
        if correction_id:
            self.remember_correction(correction_id, trade_id)

    def remember_correction(self, correction_id: str, trade_id: str) -> None:
        """Take the id of a correction: it is not booked twice, and what is said of it is said of the trade."""
        self.corrections[correction_id] = trade_id
        if len(self.corrections) > CORRECTIONS_MAX:
            del self.corrections[next(iter(self.corrections))]

    def _counted_row(self) -> tuple[object, ...]:
        """Return what every trade counted, once one was amended: until then the reports alone say it."""
        if not self.amended:
            return ()
        counted = [None if c is None else (c[0], _names(c[1]), c[2], c[3]) for c in self.trade_ids.values()]
        return (list(self.amended), list(self.corrections.items()), counted)

    def row(self) -> tuple[object, ...]:
        """Return everything that is state, for its hash."""
        awaiting = [(o.seq, int(o.kind), o.order.order_id, o.at_ns) for o in self.awaiting.values()]
        # A venue without them has the hash it had before there were any.
        kept = self.manual_trades, self.doubted, self.differing
        by_hand = [(n, list(known)) for n, known in enumerate(kept) if known]
        return (
            self.name, self.ready, self.changed_ns, self.gateway_instance, self.last_seq, self.received_seq,
            self.report_seq, awaiting, list(self.not_found), list(self.trade_ids), *by_hand,
            *(() if self.capabilities is None else (self.capabilities,)), *self._counted_row(),
        )  # fmt: skip


def _names(route: Route | None) -> tuple[str, ...]:
    return () if route is None else (route.account.name, route.strategy.name, route.instrument.name)
