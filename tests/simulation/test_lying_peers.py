"""Peers that say what can't be: answers to what was never sent, less than they once confirmed, fields with no end."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from protocol.codes import ByeReason, GatewayKind, OrderStatus
from protocol.nesting import FLAT_BYTES
from protocol.records import Reported, record_decoder
from protocol.session import PROTOCOL_VERSION, Bye, Item, Outcomes, Submit, engine_decoder
from protocol.venue import Confirm, GatewayHello, Reports, VenueBye, engine_venue_decoder
from tests.simulation.durable import Medium
from tests.simulation.memory import MemoryDealer
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import MS
from tests.simulation.test_hostile_frames import INSTANCE, at_rest, guest, malformed, report, turn, with_an_order
from tests.unit.venues.stage import XY
from venues.sandbox import SandboxVenue

_encode = msgspec.msgpack.encode


def deepened(command: object, levels: int) -> Raw:
    """Return a message with one more field than anybody knows, nested so deep."""
    bottomless = Raw(b"\x91" * levels + b"\xc0")
    return Raw(_encode([*msgspec.msgpack.decode(_encode(command)), bottomless]))


def read_deep_down(stage: Stage, frames_: int) -> int:
    """Read the whole journal on a stack that much deeper; return how many records it has."""
    if frames_:
        return read_deep_down(stage, frames_ - 1)
    medium = Medium(stage.disk, stage.journal)
    return len([record_decoder.decode(found.data) for found in medium.read()])


@pytest.mark.parametrize("levels", [FLAT_BYTES, 700, 990])
def test_what_nests_too_deep_for_readers_of_the_journal_is_refused(levels: int) -> None:
    """A field that nobody knows, deep inside a command, as deep as a decoder goes: BYE, and nothing is journaled."""
    with at_rest() as stage:
        dealer, unit_epoch = guest(stage)
        before = len(stage.watch.records)
        for deep in (levels, 2):
            raw = deepened(order(f"g{deep}"), deep)
            dealer.send(_encode(Submit([Item(deep, "u", unit_epoch, 0, "l", "all", b"t" * 16, stage.clock.wall, raw)])))
            turn(stage)
            said = engine_decoder.decode(dealer.receive(9)[-1])
            if deep == levels:
                assert isinstance(said, Bye)
                assert (said.reason, malformed(stage)) == (ByeReason.MALFORMED, (1, 0, 0))
                dealer, unit_epoch = guest(stage)
        assert isinstance(said, Outcomes)  # a newer sidecar's field is passed over
        stage.watch.read()
        assert len(stage.watch.records) == before + 1
        assert read_deep_down(stage, 300) == before + 1


def test_a_report_that_nests_too_deep_ends_the_session() -> None:
    """Counted, BYE, nothing journaled; the next session trades."""
    with at_rest() as stage:
        dealer, seq, order_id = with_an_order(stage)
        before = len(stage.watch.records)
        dealer.send(_encode(Reports(1, 1, [deepened(report(seq, order_id), 600)])))
        turn(stage)
        assert malformed(stage) == (0, 1, 0)
        stage.submit(order("2"))
        stage.until(lambda: stage.is_at_rest() and stage.is_at_venue("2"))
        assert all(len(r.report) < 300 for *_, r in stage.watch.records[before:] if isinstance(r, Reported))


WINDOW = 8


def with_some_unsent(stage: Stage) -> tuple[MemoryDealer, int, str]:
    """Accept two orders more than the window holds; return the gateway's line, the last number and its order's id."""
    dealer, *_ = with_an_order(stage)
    for n in range(WINDOW + 2):
        stage.submit(order(f"w{n}", quantity=1))
    stage.clients[0].turn()
    turn(stage)
    venue = stage.state.venues["sandbox"]
    dealer.receive(100)  # so the gateway itself never sees them in this session
    return dealer, venue.last_seq, venue.awaiting[venue.last_seq].order.order_id


@pytest.mark.parametrize("named", ["by a report", "by its watermark"])
def test_a_gateway_can_answer_no_command_that_was_not_sent(named: str) -> None:
    """The right order under its own number, which waits for the window: counted, BYE; then it goes out, once."""
    with at_rest() as stage:
        dealer, last, order_id = with_some_unsent(stage)
        venue = stage.state.venues["sandbox"]
        new = Raw(_encode(report(venue.report_seq + 1, order_id, venue_seq=last)))
        lie = Reports(1, 1, [new]) if named == "by a report" else Confirm(1, last)
        dealer.send(_encode(lie))
        turn(stage)
        assert malformed(stage) == (0, 1, 0)
        assert isinstance(engine_venue_decoder.decode(dealer.receive(100)[-1]), VenueBye)
        assert stage.state.orders[order_id].status is OrderStatus.PENDING_NEW
        assert last in venue.awaiting
        stage.engine.gateways._bye(dealer.identity, ByeReason.MALFORMED, "again: the first was read here")  # type: ignore[union-attr]
        stage.until(lambda: stage.is_at_rest() and stage.is_at_venue(f"w{WINDOW + 1}"))
        stage.verify()


@pytest.mark.parametrize("knows", ["its confirmation", "an answer"])
def test_a_gateway_that_forgot_what_it_received_is_refused(knows: str) -> None:
    """Its log is older than what it confirmed, in this life or before it, or answered: orders could double."""
    with at_rest() as stage:
        with_an_order(stage)
        venue = stage.state.venues["sandbox"]
        if knows == "an answer":
            stage.kill_engine("to forget the session", power=False)
            turn_until_started(stage)
            venue = stage.state.venues["sandbox"]
        assert (venue.last_seq, dict(venue.awaiting)) == (1, {})
        before = malformed(stage)[1]
        stranger = MemoryDealer(stage.net, "venues", 0)
        able = SandboxVenue([XY]).capabilities
        hello = GatewayHello(
            PROTOCOL_VERSION, "sandbox", "g", INSTANCE, GatewayKind.SANDBOX, able, 0, venue.report_seq, 1
        )
        stranger.send(_encode(hello))
        turn(stage)
        bye = engine_venue_decoder.decode(stranger.receive(9)[-1])
        assert isinstance(bye, VenueBye)
        assert (bye.reason, bye.text) == (
            ByeReason.FENCED, "gateway log is older than the journal: received_seq 0 < 1; restore it"
        )  # fmt: skip
        assert malformed(stage)[1] == before + 1
        assert any(bye.text in str(facts) for _, facts in stage.log.lines)
        stage.submit(order("2"))
        stage.until(lambda: stage.is_at_rest() and stage.is_at_venue("2"))
        stage.verify()


def turn_until_started(stage: Stage) -> None:
    while stage.engine is None:
        stage.clock.advance(MS)
        stage.turn_engine()
