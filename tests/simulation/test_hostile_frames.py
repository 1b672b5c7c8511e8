"""Malformed frames of authenticated peers: counted, answered, never a crash, and everybody else is served on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, example, given, settings
from msgspec import Raw

from engine.core import Core
from protocol.codes import ByeReason, ExecType, GatewayKind, OrderStatus, OutcomeKind, Scope
from protocol.control import (
    ConfirmClock,
    ControlBody,
    ControlReply,
    ControlRequest,
    Reconcile,
    Resolve,
    SetState,
    ShowLimits,
    Status,
    UnknownOrders,
    reply_decoder,
)
from protocol.errors import FencedError
from protocol.orders import CancelOrder, ReplaceOrder
from protocol.session import (
    PROTOCOL_VERSION,
    Bye,
    Claim,
    Claimed,
    Drained,
    EngineMessage,
    Hello,
    Item,
    Leave,
    Outcomes,
    Ping,
    Resume,
    SidecarMessage,
    Submit,
    engine_decoder,
)
from protocol.statement import StatedFill, StatedOrder, StatedPosition, Statement
from protocol.venue import (
    Confirm,
    GatewayHello,
    GatewayLeave,
    GatewayMessage,
    GatewayReady,
    Report,
    Reports,
    VenueBye,
    engine_venue_decoder,
    gateway_decoder,
)
from tests.simulation.hostile import DEEP, NO_TEXT, frames
from tests.simulation.machines import TOKEN
from tests.simulation.memory import MemoryDealer
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS
from tests.unit.venues.stage import XY
from venues.core.control import reply_decoder as gateway_reply_decoder
from venues.sandbox import SandboxVenue

_encode = msgspec.msgpack.encode
NOISE = (b"", b"\xc1", DEEP, NO_TEXT, b"\x92\x02" + NO_TEXT)
EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
INSTANCE = b"i" * 16


@contextmanager
def at_rest() -> Iterator[Stage]:
    """Yield a stage at rest in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), 1, faults=False, clients=2)
        with stage.patched():
            yield stage.begin()
            stage.close()


def turn(stage: Stage) -> None:
    stage.clock.advance(MS)
    assert stage.engine is not None
    stage.engine.turn()


def serves(stage: Stage) -> None:
    """Somebody else's command is decided by the engine that was there before, and its journal can be read."""
    assert stage.crashes == []
    name = f"after-{stage.clock.wall}"
    stage.submit(CancelOrder("a1", name), client=1)
    stage.until(lambda: stage.clients[1].is_open and stage.clients[1].is_settled)
    assert stage.crashes == []
    replica = Core(2_000)
    stage.watch.read()
    for record in stage.watch.records:
        replica.apply(*record)


def malformed(stage: Stage) -> tuple[int, int, int]:
    assert stage.engine is not None
    meters = stage.engine._meters
    return meters.malformed_sidecars, meters.malformed_venues, meters.malformed_control


def guest(stage: Stage, unit: str = "u") -> tuple[MemoryDealer, int]:
    """Open one more session of a sidecar; return its dealer and its unit's epoch."""
    dealer = MemoryDealer(stage.net, "sidecars", 0)
    dealer.send(_encode(Hello(PROTOCOL_VERSION, "src", "guest", INSTANCE)))
    dealer.send(_encode(Claim(unit)))
    turn(stage)
    _, claimed = (engine_decoder.decode(b) for b in dealer.receive(2))
    return dealer, claimed.unit_epoch  # type: ignore[union-attr]


def sidecar_frames(unit_epoch: int) -> list[bytes]:
    commands = [order("g1"), CancelOrder("a1", "g1"), ReplaceOrder("a1", "g2", "g1", E9)]
    items = [
        Item(n, "u", unit_epoch, 0, "l", "all", b"t" * 16, 1_780_000_000 * E9, Raw(_encode(c)))
        for n, c in enumerate(commands)
    ]
    messages: list[SidecarMessage] = [
        Hello(PROTOCOL_VERSION, "src", "guest", INSTANCE), Claim("u"), Submit(items), Submit(items[:1]), Ping(),
        Resume(), Drained(), Leave(),
    ]  # fmt: skip
    return [_encode(m) for m in messages]


FIRST_UNIT_EPOCH = (1 << 32) + 3  # two clients have claimed before it


@EXAMPLES
@given(frames(sidecar_frames(FIRST_UNIT_EPOCH)))
def test_a_sidecars_bytes_never_stop_the_engine(bodies: list[bytes]) -> None:
    """Whatever one sidecar sends, the engine lives, answers the others, and its journal can be read."""
    with at_rest() as stage:
        dealer, unit_epoch = guest(stage)
        assert unit_epoch == FIRST_UNIT_EPOCH
        for body in bodies:
            dealer.send(body)
            turn(stage)
        serves(stage)


def test_a_unit_that_was_claimed_again_is_taken_under_its_new_epoch_only() -> None:
    """What a session submits under the epoch it had before is NOT_TAKEN, however often that one was taken."""
    with at_rest() as stage:
        dealer, first = guest(stage)
        assert [type(m) for m in ask(stage, dealer, sidecar_frames(first)[3])] == [Outcomes]
        assert [type(m) for m in ask(stage, dealer, _encode(Claim("u")))] == [Claimed]
        (told,) = ask(stage, dealer, sidecar_frames(first)[3])
        assert isinstance(told, Outcomes)
        assert {o.kind for o in told.items} == {OutcomeKind.NOT_TAKEN}
        serves(stage)


def ask(stage: Stage, dealer: MemoryDealer, body: bytes) -> list[EngineMessage]:
    """Send, and return what one turn answers."""
    dealer.send(body)
    turn(stage)
    return [engine_decoder.decode(b) for b in dealer.receive(9)]


def test_a_malformed_frame_of_a_sidecar_is_counted_and_gets_bye() -> None:
    """Each kind of noise ends that session with MALFORMED, alone or behind a valid one in the same turn."""
    with at_rest() as stage:
        for n, noise in enumerate((*NOISE, _encode(Submit([])) + b"\x01")):
            dealer, _ = guest(stage, f"u{n}")
            dealer.send(_encode(Ping()))
            dealer.send(noise)
            turn(stage)
            byes = [engine_decoder.decode(b) for b in dealer.receive(9)]
            assert next(b.reason for b in byes if isinstance(b, Bye)) is ByeReason.MALFORMED
            assert malformed(stage) == (n + 1, 0, 0)
        serves(stage)


def report(seq: int, order_id: str, **facts: object) -> Report:
    plain = Report(seq, ExecType.NEW, order_id, "v", 0, OrderStatus.NEW, 2 * E9, 0, 1)
    return msgspec.structs.replace(plain, **facts)


def gateway_frames(seq: int, order_id: str) -> list[bytes]:
    fill = report(
        seq + 1, order_id, exec_type=ExecType.TRADE, trade_id="t", last_quantity_e9=E9, last_price_e9=99 * E9
    )  # fmt: skip
    reports = [report(seq, order_id), fill, report(seq + 2, "stranger"), report(seq + 3, order_id)]
    raws = [Raw(_encode(r)) for r in reports]
    rows = (
        [StatedOrder(order_id, "a1", "XY", E9, 0)], [StatedFill("t", order_id, "a1", "XY", order("x").side, E9, E9)],
        [StatedPosition("a1", "XY", E9)],
    )  # fmt: skip
    hello = GatewayHello(
        PROTOCOL_VERSION, "sandbox", "g", INSTANCE, GatewayKind.SANDBOX, SandboxVenue([XY]).capabilities, 1, seq - 1, 1
    )
    messages: list[GatewayMessage] = [
        hello, GatewayReady(1, 1), Confirm(1, 1), Reports(1, 1, raws), Reports(1, 1, raws[:1]),
        Reports(1, 1, raws[1:2]), GatewayLeave("bye"), Statement(1, 1, 2, seq - 1, 0, 1, True, True, *rows),
    ]  # fmt: skip
    return [_encode(m) for m in messages] + [_encode(Reports(1, 1, [Raw(_encode(r)) for r in (reports[0], fill)]))]


def with_an_order(stage: Stage) -> tuple[MemoryDealer, int, str]:
    """Let one order work; return the gateway's own line, the number of its next report and the order's id."""
    stage.submit(order("1"))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    assert stage.gateway is not None
    (order_id,) = stage.state.orders
    return stage.gateway._engine, stage.state.venues["sandbox"].report_seq + 1, order_id  # type: ignore[return-value]


def _known() -> tuple[int, str]:
    with at_rest() as stage:
        return with_an_order(stage)[1:]


NEXT_REPORT, ORDER_ID = _known()  # the stage is the same each time
UNKNOWN_FIRST = _encode(Reports(1, 1, [Raw(_encode(report(NEXT_REPORT, "?")))]))


@EXAMPLES
@given(frames(gateway_frames(NEXT_REPORT, ORDER_ID)))
@example(
    [_encode(Reports(1, 1, [Raw(_encode(report(NEXT_REPORT, "?")))])), gateway_frames(NEXT_REPORT, ORDER_ID)[3], b""]
)
def test_a_gateways_bytes_never_stop_the_engine(bodies: list[bytes]) -> None:
    """But for a hello that knows more than the journal, which rule 2 stops by name."""
    with at_rest() as stage:
        dealer, *known = with_an_order(stage)
        assert known == [NEXT_REPORT, ORDER_ID]
        stage.watch.ledgers.is_venue_honest = False  # it may report fills that never were
        for body in bodies:
            dealer.send(body)
            try:
                turn(stage)
            except FencedError:
                assert isinstance(gateway_decoder.decode(body), GatewayHello)
                return
            dealer.receive(100)
        serves(stage)


def test_a_malformed_frame_of_a_gateway_is_counted_and_alarmed_and_gets_bye() -> None:
    """Noise, reports of no known type, and numbers that go back or jump: the session ends, the next one trades."""
    with at_rest() as stage:
        dealer, seq, order_id = with_an_order(stage)
        venue = stage.state.venues["sandbox"]
        raw = msgspec.msgpack.decode(_encode(report(seq, order_id)))
        raw[1] = 250  # no exec_type
        lies: list[Callable[[], bytes]] = [
            *(lambda noise=noise: noise for noise in NOISE),  # type: ignore[misc]
            lambda: _encode(Reports(1, venue.received_seq, [Raw(_encode(raw))])),
            lambda: _encode(Reports(1, venue.last_seq, [Raw(DEEP)])),
            lambda: _encode(Reports(1, venue.last_seq, [Raw(_encode(report(venue.report_seq + 2, order_id)))])),
            lambda: _encode(Confirm(1, venue.last_seq + 1)),
            lambda: _encode(GatewayReady(1, venue.last_seq)),
        ]
        for n, lie in enumerate(lies):
            stage.until(stage.is_at_rest)
            dealer = stage.gateway._engine  # type: ignore[union-attr,assignment]
            dealer.receive(100)
            dealer.send(lie())
            turn(stage)
            last = engine_venue_decoder.decode(dealer.receive(100)[-1])
            assert isinstance(last, VenueBye), n
            assert last.reason is ByeReason.MALFORMED
            assert malformed(stage) == (0, n + 1, 0)
            assert not venue.ready
            stage.engine.gateways._bye(dealer.identity, ByeReason.MALFORMED, "again: the first was read here")  # type: ignore[union-attr]
        stage.submit(order("2"))
        stage.until(lambda: stage.is_at_rest() and stage.is_at_venue("2"))
        assert sum("breaks the protocol" in str(facts) for _, facts in stage.log.lines) == len(lies)


def control_frames() -> list[bytes]:
    bodies: list[ControlBody] = [
        Status(), ShowLimits(), UnknownOrders(), ConfirmClock("r"), SetState("halt", Scope.STRATEGY, "s1", "r"),
        Resolve(ORDER_ID, OrderStatus.CANCELED, 0, 0, "r"), Reconcile("", "r"),
    ]  # fmt: skip
    return [_encode(ControlRequest(TOKEN, "op", body)) for body in bodies]


@EXAMPLES
@given(frames(control_frames()))
def test_an_operators_bytes_never_stop_the_engine(bodies: list[bytes]) -> None:
    """With the right token too: every request is answered, and the engine lives."""
    with at_rest() as stage:
        with_an_order(stage)
        for body in bodies:
            stage.operator.send(body)
            turn(stage)
        serves(stage)
        stage.until(lambda: len(stage.replies) + len(stage.operator.receive(0)) >= len(bodies))


def test_a_malformed_request_is_counted_and_refused() -> None:
    """The answer says what was expected."""
    with at_rest() as stage:
        for n, noise in enumerate(NOISE):
            stage.operator.send(noise)
            turn(stage)
            (reply,) = [reply_decoder.decode(b) for b in stage.operator.receive(9)]
            assert isinstance(reply, ControlReply)
            assert not reply.ok
            assert "expected a ControlRequest" in reply.text
            assert malformed(stage) == (0, 0, n + 1)


def gateway_control_frames() -> list[bytes]:
    return [
        msgspec.json.encode({"token": TOKEN, "operator": "op", "action": action, "reason": "r"})
        for action in ("kill", "resume", "status")
    ]


@EXAMPLES
@given(frames(gateway_control_frames()))
def test_bytes_at_the_gateways_control_never_stop_it(bodies: list[bytes]) -> None:
    """Every request is answered, what is refused is counted, and the gateway lives."""
    with at_rest() as stage:
        gateway = stage.gateway
        assert gateway is not None
        dealer = MemoryDealer(stage.net, "gcontrol", 0)
        for body in bodies:
            dealer.send(body)
            gateway.turn(0)
        replies = [gateway_reply_decoder.decode(b) for b in dealer.receive(100)]
        assert len(replies) == len(bodies)
        assert gateway._meters.refused == sum(not r.ok for r in replies)
        serves(stage)
        assert stage.gateway is gateway
