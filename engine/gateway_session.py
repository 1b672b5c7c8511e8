"""One gateway's session: what it was sent, what it confirmed; and whether a gateway has forgotten what it once had."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.order import Outgoing
from engine.venue_state import VenueState
from protocol.venue import Capabilities, GatewayHello


class GatewaySession:
    """One gateway that said Hello; ``ready`` once it confirmed the epoch and replayed its reports."""

    __slots__ = (
        "acked_seq", "capabilities", "confirmed_at_ns", "identity", "instance", "marked_at_ns", "marked_seq", "queue",
        "ready", "reports_seen", "sent_seq", "venue",
    )  # fmt: skip

    def __init__(
        self,
        identity: bytes,
        instance: bytes,
        venue: VenueState,
        acked_seq: int,
        at_ns: int,
        capabilities: Capabilities,
    ) -> None:
        self.capabilities = capabilities
        self.identity = identity
        self.instance = instance
        self.venue = venue
        self.ready = False
        self.acked_seq = acked_seq
        self.sent_seq = venue.last_seq  # the last number it may have seen; while it is READY, the last that was sent
        self.confirmed_at_ns = at_ns  # monotonic
        self.marked_seq = 0  # had been sent at ``marked_at_ns``, monotonic
        self.marked_at_ns = at_ns
        self.queue: deque[Outgoing] = deque()
        self.reports_seen = False


def forgotten(venue: VenueState, hello: GatewayHello, confirmed: Sequence[int]) -> str:
    """Return what a gateway lacks of what it once had durably; empty if nothing.

    What it had received it confirmed, in ``confirmed`` or before the last session's end, which is in the journal; or it
    answered, and then the number waits for nothing any more. Sent again, orders that it forgot could work twice.
    """
    if hello.report_seq < venue.report_seq:
        return f"reports {hello.report_seq} < {venue.report_seq}"
    answered = venue.last_seq
    while answered in venue.awaiting:
        answered -= 1
    received = max(venue.received_seq, answered, *confirmed)
    return f"received_seq {hello.received_seq} < {received}" if hello.received_seq < received else ""
