"""Flatten through the real loops: what is open goes, what is held is exited in slices, and no crash doubles an exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from engine.settings import Opening, OpeningPosition
from protocol.codes import Code, OutcomeKind, Scope, Side, TradingState
from protocol.control import AwaitFlatten, FlattenResult, SetState, StartFlatten
from protocol.orders import NewOrder, command_decoder
from protocol.params import LimitName, LimitRow
from protocol.records import FlattenPlan, Ordered
from tests.simulation.faults import GATEWAY_POINTS
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS, params
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
A1 = (Scope.ACCOUNT, "a1")
FREEZE = 4
WITHIN_NS = 30 * E9
POINTS = ("engine.after_report", "engine.after_sync", "engine.after_venue_send", *GATEWAY_POINTS)


@contextmanager
def holding(tmp_path: Path, position: int, *limits: LimitRow, freeze: int = FREEZE) -> Iterator[Stage]:
    """A stage whose account holds a position, with few lots an order and few at the touch."""
    stage = Stage(tmp_path, 1, faults=False, opening=position)
    given = params()
    rows = tuple(row for row in given.limits if row.name is not LimitName.RATE_COUNT) + limits
    few = structs.replace(XY, quantity_max_e9=freeze * E9)
    stage.settings = structs.replace(
        stage.settings, params=structs.replace(given, instruments=(few,), limits=rows),
        opening=Opening((OpeningPosition("a1", "XY", position * E9, 100 * E9),)),
    )  # fmt: skip
    with stage.patched():
        yield stage.begin()
        stage.close()


def ask_flatten(stage: Stage, name: str = "f1", within_ns: int = WITHIN_NS, *, overrides_halts: bool = False) -> None:
    stage.ask(StartFlatten(FlattenPlan(name, within_ns, overrides_halts=overrides_halts), *A1, "out"))


def result(stage: Stage, name: str = "f1") -> FlattenResult:
    """Wait for its end, while the book at the venue fills again."""
    stage.replies.clear()
    stage.ask(AwaitFlatten(name, 60_000))

    def is_over() -> bool:
        stage.quote()
        return any(r.flatten for r in stage.replies)

    stage.until(is_over)
    return [r.flatten for r in stage.replies if r.flatten][-1]


def exits(stage: Stage) -> list[NewOrder]:
    """Every order that the engine made, from the journal."""
    stage.watch.read()
    made: list[NewOrder] = []
    for _, _, _, record in stage.watch.records:
        if isinstance(record, Ordered) and record.source == "engine":
            assert record.decision.kind is OutcomeKind.ACCEPTED
            command = command_decoder.decode(record.item.command)
            assert isinstance(command, NewOrder)
            made.append(command)
    return made


def position(stage: Stage) -> int:
    return int(stage.state.book.ledger("a1", "XY").position)


def submitted(stage: Stage, command: NewOrder) -> Code:
    stage.submit(command)
    stage.settle_all()
    (answer,) = set(stage.answers_to(command.client_order_id))
    code = answer[1]
    assert isinstance(code, Code)
    return code


@pytest.mark.parametrize("held", [10, -10, 3])
def test_a_flatten_ends_flat(tmp_path: Path, held: int) -> None:
    """Open orders go, exits among them; slices no larger than the contract's; then reduce-only stays."""
    with holding(tmp_path, held) as stage:
        away = BUY if held > 0 else SELL
        back = SELL if held > 0 else BUY
        assert submitted(stage, order("in", away, 2, 99 if away is BUY else 102)) is Code.OK
        assert submitted(stage, order("rest", back, 3, 105 if back is SELL else 96)) is Code.OK
        ask_flatten(stage)
        found = result(stage)
        assert (found.why, found.left, found.open_orders, position(stage)) == ("flat", [], 0, 0)
        made = exits(stage)
        assert found.exits == len(made) >= abs(held) // FREEZE
        assert all(o.quantity_e9 <= FREEZE * E9 and o.reduce_only and o.side is back for o in made)
        assert len({o.client_order_id for o in made}) == len(made)
        assert stage.state.halts[A1].state is TradingState.REDUCING
        assert submitted(stage, order("new", away, 1, 99 if away is BUY else 102)) is Code.STATE_REDUCING
        stage.until(stage.is_at_rest)
        stage.verify()


def test_exits_are_sliced_by_value_too(tmp_path: Path) -> None:
    """No more than 250 an order at a price of about 100: two lots each."""
    cap = LimitRow(LimitName.ORDER_VALUE_MAX, Scope.ACCOUNT, "a1", 250 * E9)
    with holding(tmp_path, 7, cap, freeze=100) as stage:
        ask_flatten(stage)
        assert result(stage).why == "flat"
        assert {o.quantity_e9 for o in exits(stage)} <= {2 * E9, 1 * E9}
        stage.verify()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crash_in_the_middle_goes_on_and_doubles_nothing(tmp_path: Path, point: str, seed: int) -> None:
    """The engine or the gateway dies again and again, with the power or without; what is sold is what was held."""
    with holding(tmp_path, 20) as stage:
        stage.random.seed(seed)
        assert submitted(stage, order("rest", SELL, 3, 105)) is Code.OK
        ask_flatten(stage)
        stage.until(lambda: "f1" in stage.state.flattens)
        for _ in range(12):
            stage.armed = point
            for _ in range(4):
                stage.round()
        stage.armed = ""
        assert len(stage.crashes) >= 2
        stage.until(lambda: stage.engine is not None)
        if "f1" not in stage.state.flattens and "f1" not in stage.state.flattened:
            ask_flatten(stage)  # it died before the request was durable; asking again is safe
        assert result(stage).why == "flat"
        assert position(stage) == 0
        stage.until(stage.is_at_rest)
        stage.verify()


def test_asking_twice_begins_one_flatten(tmp_path: Path) -> None:
    """The id is the key: the second is refused and says so."""
    with holding(tmp_path, 5) as stage:
        ask_flatten(stage)
        ask_flatten(stage)
        stage.until(lambda: len(stage.replies) == 2)
        assert [r.ok for r in stage.replies] == [True, False]
        assert "was asked for before" in stage.replies[1].text
        assert result(stage).why == "flat"
        stage.verify()


def test_without_a_price_the_deadline_says_what_is_left(tmp_path: Path) -> None:
    """Nothing is sold blind; the position and the reason are named, and nothing is sent after it."""
    with holding(tmp_path, 5) as stage:
        for n in range(30):  # no price comes any more, and the last one grows old
            if n == 15:
                ask_flatten(stage, within_ns=2 * E9)
            stage.clock.advance(400 * MS)
            stage.turn_engine()
            stage.turn_gateway()
        found = result(stage)
        assert found.why == "deadline"
        assert [(p.account, p.instrument, p.quantity_e9) for p in found.left] == [("a1", "XY", 5 * E9)]
        made = len(exits(stage))
        stage.rounds()
        assert len(exits(stage)) == made
        stage.verify()


@pytest.mark.parametrize("action", ["kill", "halt", "resume"])
def test_an_operators_word_stops_it(tmp_path: Path, action: str) -> None:
    """Kill, halt and resume of an overlapping scope end it, over restarts; its exits do not come back."""
    with holding(tmp_path, 20, freeze=1) as stage:
        ask_flatten(stage)
        stage.until(lambda: len(exits(stage)) >= 3)
        stage.ask(SetState(action, *(A1 if action == "resume" else (Scope.GLOBAL, "")), "stop"))
        found = result(stage)
        assert found.why == f"{action} by op: stop"
        stage.kill_engine("test", power=True)
        stage.until(stage.is_at_rest)
        made, held = len(exits(stage)), position(stage)
        assert held > 0
        stage.rounds()
        assert (len(exits(stage)), position(stage)) == (made, held)
        stage.verify()


def test_after_a_kill_of_its_scope_it_still_exits(tmp_path: Path) -> None:
    """Kill, then flatten: asking for it overrides the halt of its own scope, not one of another without saying so."""
    with holding(tmp_path, 5) as stage:
        stage.ask(SetState("kill", *A1, "x"))
        ask_flatten(stage, name="f1")
        assert result(stage, "f1").why == "flat"
        assert stage.state.halts[A1].state is TradingState.HALTED
        stage.verify()


@pytest.mark.parametrize("overrides", [False, True])
def test_a_halt_of_another_scope_stands_unless_overridden(tmp_path: Path, *, overrides: bool) -> None:
    """The instrument was halted: the account's flatten leaves it and says why, or overrides it when told to."""
    with holding(tmp_path, 5) as stage:
        stage.ask(SetState("halt", Scope.INSTRUMENT, "XY", "exchange said so"))
        ask_flatten(stage, within_ns=2 * E9, overrides_halts=overrides)
        found = result(stage)
        if overrides:
            assert found.why == "flat"
        else:
            assert (found.why, exits(stage)) == ("deadline", [])
            assert "STATE_HALTED" in found.left[0].why
        stage.verify()


def test_an_order_of_the_same_id_is_passed_over(tmp_path: Path) -> None:
    """A client that took a derived id before neither stops the exit nor is answered for it."""
    with holding(tmp_path, 3) as stage:
        assert submitted(stage, order("f1-1", BUY, 1, 99)) is Code.OK
        ask_flatten(stage)
        assert result(stage).why == "flat"
        assert {o.client_order_id for o in exits(stage)} == {"f1-2"}
        stage.verify()
