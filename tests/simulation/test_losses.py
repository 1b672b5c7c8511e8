"""Limits on losses through the real loop: what a falling price stops, what is journaled, what crashes change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from engine.settings import Opening, OpeningPosition
from protocol.codes import Code, Scope, Side, TradingState
from protocol.control import SetState
from protocol.marks import Mark, Marked
from protocol.params import LimitName, LimitRow
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS, params

BUY, SELL = Side.BUY, Side.SELL
A1 = (Scope.ACCOUNT, "a1")
DAILY = LimitRow(LimitName.DAILY_LOSS_MAX, *A1, 50 * E9)


@contextmanager
def watched(tmp_path: Path, *limits: LimitRow, position: int = 10) -> Iterator[Stage]:
    """A stage whose account holds a position carried at 100."""
    stage = Stage(tmp_path, 1, faults=False, opening=position)
    given = params()
    stage.settings = structs.replace(
        stage.settings, params=structs.replace(given, limits=(*given.limits, *limits)),
        opening=Opening((OpeningPosition("a1", "XY", position * E9, 100 * E9),)),
    )  # fmt: skip
    with stage.patched():
        yield stage.begin()
        stage.close()


def marked(stage: Stage) -> list[tuple[int, Marked]]:
    """Every record of marks with its time, from the journal."""
    stage.watch.read()
    return [(now_ns, record) for _, now_ns, _, record in stage.watch.records if isinstance(record, Marked)]


def says(stage: Stage, name: str, side: Side = BUY, quantity: int = 1) -> Code:
    stage.submit(order(name, side, quantity, 99 if side is BUY else 105))
    stage.settle_all()
    (answer,) = set(stage.answers_to(name))
    code = answer[1]
    assert isinstance(code, Code)
    return code


def state_of(stage: Stage) -> TradingState:
    return stage.state.accounts["a1"].state  # type: ignore[no-any-return]


def silence(stage: Stage, ms: int) -> None:
    """Let time go by without a tick."""
    for _ in range(ms // 50):
        stage.clock.advance(50 * MS)
        stage.turn_engine()
        stage.turn_gateway()
        stage.risk.turn()


@pytest.mark.parametrize("power", [False, True])
def test_a_falling_price_stops_new_risk_and_a_crash_does_not_lift_it(tmp_path: Path, *, power: bool) -> None:
    """At -50 reduce-only, and after a start still; exits pass; a person resumes, and the count begins anew."""
    with watched(tmp_path, DAILY) as stage:
        assert says(stage, "in") is Code.OK
        stage.last_price = 95
        stage.until(lambda: state_of(stage) is TradingState.REDUCING)
        assert says(stage, "more") is Code.STATE_REDUCING
        assert says(stage, "out", SELL, 2) is Code.OK
        stage.kill_engine("between", power=power)
        stage.until(lambda: stage.engine is not None and stage.is_at_rest())
        stage.last_price = 99
        stage.rounds()
        assert state_of(stage) is TradingState.REDUCING
        assert says(stage, "again") is Code.STATE_REDUCING
        stage.ask(SetState("resume", *A1, "seen"))
        stage.until(lambda: state_of(stage) is TradingState.ACTIVE)
        assert says(stage, "after") is Code.OK
        trips = [(trip.code, trip.level.name) for _, record in marked(stage) for trip in record.trips]
        assert trips == [(Code.LOSS_DAILY, "REDUCING")]
        stage.verify()


def test_what_changes_is_journaled_ten_times_a_second_at_most(tmp_path: Path) -> None:
    """A price that moves ten times a second: at most as many records in any second; one that stands: few."""
    with watched(tmp_path, DAILY) as stage:
        for n in range(100):
            stage.last_price = 100 + n // 2 % 2
            stage.round()
        times = [now_ns for now_ns, _ in marked(stage)]
        assert len(times) >= 20
        assert all(later - earlier >= 1_000 * MS for earlier, later in zip(times, times[10:], strict=False))
        stage.last_price = 100
        stage.round()
        stage.round()
        before = len(marked(stage))
        for _ in range(200):
            stage.round()
        assert 3 <= len(marked(stage)) - before <= 5
        stage.verify()


@pytest.mark.parametrize(("position", "limits"), [(10, ()), (0, (DAILY,))])
def test_without_a_limit_or_a_position_nothing_is_journaled(
    tmp_path: Path, position: int, limits: tuple[LimitRow, ...]
) -> None:
    """No limit reads a mark, or nobody holds anything: no record, however the price moves."""
    with watched(tmp_path, *limits, position=position) as stage:
        for n in range(40):
            stage.last_price = 100 + n % 2
            stage.round()
        assert marked(stage) == []


def test_a_feed_that_is_silent_makes_the_profit_unknown_until_it_speaks(tmp_path: Path) -> None:
    """Ten seconds after the last price: one record says so, exits pass, and the next price ends it."""
    with watched(tmp_path, DAILY) as stage:
        stage.rounds()
        silence(stage, 9_000)
        assert not stage.state.losses.pnls["a1"].unknown
        silence(stage, 3_000)
        assert stage.state.losses.pnls["a1"].unknown
        silence(stage, 5_000)
        last = marked(stage)[-1][1]
        assert last.marks == [Mark("XY", 0, 0)]
        assert len([r for _, r in marked(stage) if r.marks == last.marks]) == 1
        stage.round()
        stage.rounds()
        assert not stage.state.losses.pnls["a1"].unknown
        assert says(stage, "in") is Code.OK
        stage.verify()
