"""What a gateway's hello may not have forgotten: what it confirmed, what the journal has of it, what it answered."""

from __future__ import annotations

from engine.gateway_session import forgotten
from engine.venue_state import VenueState
from protocol.codes import GatewayKind
from protocol.venue import GatewayHello
from tests.unit.engine.desk import Desk
from venues.sandbox import CAPABILITIES


def unanswered() -> VenueState:
    """Return a venue with three commands that nothing has answered."""
    desk = Desk()
    for name in ("1", "2", "3"):
        desk.accept(desk.order(name))
    return desk.state.venues["sandbox"]


def hello(received_seq: int, report_seq: int = 0) -> GatewayHello:
    return GatewayHello(
        1, "sandbox", "g", b"i" * 16, GatewayKind.SANDBOX, CAPABILITIES, received_seq, report_seq, 1
    )  # fmt: skip


def test_a_gateway_that_knows_as_much_or_more_has_forgotten_nothing() -> None:
    """What nobody knows of may have been lost on the way."""
    venue = unanswered()
    assert forgotten(venue, hello(0), []) == ""
    venue.received_seq = 2
    assert [forgotten(venue, hello(n), [1]) for n in (2, 3)] == ["", ""]


def test_each_way_to_know_is_enough() -> None:
    """A confirmation of this life, the journal's, an answer, a report."""
    venue = unanswered()
    assert forgotten(venue, hello(1), [0, 2]) == "received_seq 1 < 2"
    venue.received_seq = 3
    assert forgotten(venue, hello(2), []) == "received_seq 2 < 3"
    venue.received_seq = 0
    del venue.awaiting[2]
    assert forgotten(venue, hello(1), []) == "received_seq 1 < 2"
    venue.report_seq = 5
    assert forgotten(venue, hello(3, 4), []) == "reports 4 < 5"
