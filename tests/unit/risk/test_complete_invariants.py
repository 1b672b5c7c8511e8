"""RISK.md A7.5 and A7.10 of the complete gate: rows only ever tighten, rates hold in every window at every level."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs

from protocol.codes import Code, Scope, Side
from protocol.decisions import NewDecision
from protocol.params import LimitName, LimitRow
from risk.gate.further import Furthers, Place
from risk.gate.rate import RateLog
from tests.unit.engine.desk import E9, Desk, params
from tests.unit.risk.test_complete_properties import Bounds, Complete, bounds, given_by
from tests.unit.risk.test_properties import Step, histories, positions

ADDED = {
    LimitName.GROSS_MAX: Scope.ACCOUNT, LimitName.NET_MAX: Scope.ACCOUNT, LimitName.UNDERLYING_MAX: Scope.ACCOUNT,
    LimitName.DAILY_COUNT_MAX: Scope.GLOBAL,
}  # fmt: skip
LEVELS = (
    (LimitName.GLOBAL_RATE_COUNT, Scope.GLOBAL, "", 4, 7, 1),
    (LimitName.VENUE_RATE_COUNT, Scope.VENUE, "sandbox", 3, 5, 2),
    (LimitName.RATE_COUNT, Scope.ACCOUNT, "a1", 2, 3, 1), (LimitName.RATE_COUNT, Scope.STRATEGY, "s1", 3, 4, 0),
)  # fmt: skip
Message = tuple[int, str]
messages = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(("new", "new", "exit", "refused"))), max_size=30)


def rows_only_tighten(
    values: Bounds, position: int, steps: list[Step], name: LimitName, value: int, side: Side, quantity: int
) -> None:
    """A7.5: one more row, of another scope and of any value, never turns a refusal into a pass."""
    history = Complete(values, position)
    for step in steps:
        history.step(*step)
    desk = history.desk
    before = desk.decide(desk.order("x", side, quantity))
    plain = name is LimitName.DAILY_COUNT_MAX
    row = LimitRow(name, ADDED[name], "" if plain else "a1", value if plain else value * E9)
    had = given_by(values)
    desk.set_params(structs.replace(had, limits=(*had.limits, row)))
    after = desk.decide(desk.order("x", side, quantity))
    assert isinstance(before, NewDecision)
    assert isinstance(after, NewDecision)
    assert before.code is Code.OK or after.code is not Code.OK, f"{name.name} {value} let {before.code.name} pass"


def run_rows(examples: int, phases: Iterable[Phase] = tuple(Phase), *, derandomize: bool = False) -> None:
    @settings(max_examples=examples, deadline=None, database=None, phases=phases, derandomize=derandomize)
    @given(
        values=bounds, position=positions, steps=histories, name=st.sampled_from(sorted(ADDED)),
        value=st.sampled_from((0, 1, 9, 40, 10**6)), side=st.sampled_from(Side), quantity=st.integers(1, 20),
    )  # fmt: skip
    def drawn(
        values: Bounds, position: int, steps: list[Step], name: LimitName, value: int, side: Side, quantity: int
    ) -> None:
        rows_only_tighten(values, position, steps, name, value, side, quantity)

    drawn()


def test_one_more_row_never_lets_more_pass() -> None:
    """Over random histories, limits of 0 and positions beyond them included."""
    run_rows(60)


@pytest.mark.plants
def test_a_gate_in_which_the_widest_row_binds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: of several rows the widest one binds."""

    def widest(self: Furthers, name: LimitName, places: Iterable[Place]) -> LimitRow | None:
        rows = [row for place in places if (row := self._rows.get((name, place))) is not None]
        return max(rows, key=lambda row: int(row.value), default=None)

    monkeypatch.setattr(Furthers, "_tightest", widest)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_rows(400, (Phase.generate,), derandomize=True)


def rates_hold(sent: list[Message]) -> None:
    """A7.10: an order passes while every level has room in its window, and what is refused takes none of it."""
    rows = tuple(LimitRow(name, scope, key, count, window, more) for name, scope, key, count, window, more in LEVELS)
    desk = Desk(given=params(*rows), position=1_000)
    charged: list[int] = []
    for n, (later_ns, kind) in enumerate(sent):
        desk.now += later_ns
        side, price = (Side.SELL, 100) if kind == "exit" else (Side.BUY, 100 if kind == "new" else 10_000)
        decided = desk.submit(desk.order(f"o{n}", side, 1, price))
        assert isinstance(decided, NewDecision)
        has_room = all(
            sum(desk.now - at < window for at in charged) < count + (more if kind == "exit" else 0)
            for _, _, _, count, window, more in LEVELS
        )
        assert (decided.code is Code.OK) is (has_room and kind != "refused"), decided.code.name
        if decided.code is Code.OK:
            charged.append(desk.now)
    assert desk.hash() == desk.replayed_hash()


def run_rates(examples: int, phases: Iterable[Phase] = tuple(Phase), *, derandomize: bool = False) -> None:
    @settings(max_examples=examples, deadline=None, database=None, phases=phases, derandomize=derandomize)
    @given(sent=messages)
    def drawn(sent: list[Message]) -> None:
        rates_hold(sent)

    drawn()


def test_no_window_of_any_level_takes_more_than_its_rate() -> None:
    """Global, venue, account and strategy at once; exits have the reserve."""
    run_rates(60)


def forgets_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLog, "charge", lambda *_: None)


def promises_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLog, "_room", lambda self: self.count)


@pytest.mark.plants
@pytest.mark.parametrize("plant", [forgets_charges, promises_too_much])
def test_a_rate_that_lets_too_many_pass_is_found(plant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: charges that are not kept, and room that is promised twice."""
    assert callable(plant)
    plant(monkeypatch)
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        run_rates(400, (Phase.generate,), derandomize=True)
