"""What operators do to a running engine, through the real loops on virtual sockets and time, with restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import msgpack, structs

from protocol.codes import Code, Scope
from protocol.control import SetLimit, SetState, ShowLimits, reply_decoder
from protocol.params import LimitName
from protocol.session import Ping
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS, params

encode = msgpack.encode


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest: one engine, one gateway, two clients."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def code_of(stage: Stage, name: str) -> Code:
    (answer,) = set(stage.answers_to(name))
    code = answer[1]
    assert isinstance(code, Code)
    return code


def submitted(stage: Stage, name: str, quantity: int) -> Code:
    stage.submit(order(name, quantity=quantity))
    stage.settle_all()
    return code_of(stage, name)


def watched(tmp_path: Path) -> Stage:
    """A stage whose source is cancelled after half a second of absence, which begins a lease of a second later."""
    stage = Stage(tmp_path, 1, faults=False)
    given = params()
    channels = tuple(structs.replace(c, disconnect_ns=E9 // 2) for c in given.channels)
    stage.settings = structs.replace(stage.settings, params=structs.replace(given, channels=channels))
    return stage


def rounds(stage: Stage, ms: int, *, pings: bool) -> None:
    """Let time pass while the sidecars ping, or are gone without a word."""
    for _ in range(ms // 50):
        for client in stage.clients if pings else ():
            client.dealer.send(encode(Ping()))
        if pings:
            stage.round()
            continue
        stage.clock.advance(50 * MS)
        for turn in (stage.turn_engine, stage.turn_gateway, stage.turn_engine):
            turn()


def test_orders_are_cancelled_when_their_source_is_away(tmp_path: Path) -> None:
    """A silent sidecar keeps its orders through lease and grace, then they go; at the venue too."""
    stage = watched(tmp_path)
    with stage.patched():
        stage.begin()
        assert submitted(stage, "1", 2) is Code.OK
        rounds(stage, 5_000, pings=True)
        assert len(stage.state.orders) == 1
        rounds(stage, 1_400, pings=False)
        assert [o.cancel_seq for o in stage.state.orders.values()] == [0]
        rounds(stage, 400, pings=False)
        assert stage.state.orders == {}
        stage.until(stage.is_at_rest)
        stage.verify()
        stage.close()


def test_a_reconnect_within_the_grace_cancels_nothing(tmp_path: Path) -> None:
    """Sessions end and come back again and again; the time begins anew with each absence."""
    stage = watched(tmp_path)
    with stage.patched():
        stage.begin()
        assert submitted(stage, "1", 2) is Code.OK
        for _ in range(10):
            for client in stage.clients:
                client.cut()
            rounds(stage, 1_200, pings=False)
            rounds(stage, 600, pings=True)
        assert len(stage.state.orders) == 1
        stage.verify()
        stage.close()


@pytest.mark.parametrize("comes_back", [False, True])
def test_absence_is_counted_anew_after_a_restart(tmp_path: Path, *, comes_back: bool) -> None:
    """An engine that died gives its sources the whole time again, and cancels what nobody came back for."""
    stage = watched(tmp_path)
    with stage.patched():
        stage.begin()
        assert submitted(stage, "1", 2) is Code.OK
        rounds(stage, 1_200, pings=False)
        stage.kill_engine("test", power=True)
        if comes_back:
            for client in stage.clients:
                client.cut()
            stage.until(lambda: stage.engine is not None and all(c.is_open for c in stage.clients))
        rounds(stage, 3_000, pings=comes_back)
        assert len(stage.state.orders) == int(comes_back)
        stage.until(stage.is_at_rest)
        stage.verify()
        stage.close()


@pytest.mark.parametrize("power", [False, True])
def test_a_limit_set_at_run_time_outlives_the_engine(stage: Stage, *, power: bool) -> None:
    """A session that traded before is bound from its next order on, in this life and in the next."""
    assert submitted(stage, "1", 2) is Code.OK
    stage.replies.clear()
    stage.ask(SetLimit(LimitName.POSITION_MAX, Scope.ACCOUNT, "a1", 3 * E9, "volatile"))
    stage.until(lambda: bool(stage.replies))
    assert stage.replies[0].ok, stage.replies
    assert submitted(stage, "2", 2) is Code.POS_LIMIT
    stage.kill_engine("test", power=power)
    stage.until(stage.is_at_rest)
    assert submitted(stage, "3", 2) is Code.POS_LIMIT
    assert submitted(stage, "4", 1) is Code.OK
    stage.replies.clear()
    stage.ask(ShowLimits())
    stage.until(lambda: bool(stage.replies))
    shown = {(s.name, s.key): s for s in stage.replies[0].limits or []}
    change = shown[LimitName.POSITION_MAX, "a1"].change
    assert change is not None
    assert (change.value, change.operator, change.reason) == (3 * E9, "op", "volatile")
    assert shown[LimitName.POSITION_MAX, ""].change is None
    stage.verify()


def test_a_kill_does_not_wait_for_orders_that_came_before_it(stage: Stage) -> None:
    """Both are there when the engine looks: the kill is durable and answered first, the order decided after it."""
    stage.submit(order("1"))
    stage.clients[0].turn()
    stage.replies.clear()
    stage.ask(SetState("kill", Scope.GLOBAL, "", "now"))
    assert stage.engine is not None
    first = stage.engine._writer.next_seq
    stage.clock.advance(MS)
    stage.engine.turn()
    assert stage.engine._writer.next_seq == first + 1
    assert [reply_decoder.decode(b).seq for b in stage.operator.receive(10)] == [first]
    stage.settle_all()
    assert code_of(stage, "1") is Code.STATE_HALTED
    stage.verify()
