"""Seeds: random commands, and faults of every kind in every state an order can be in; then rest.

``WOJAK_SIM_SEEDS=2000`` runs so many, ``WOJAK_SIM_SEEDS=17:18`` one again; ``make simulate`` does so without pytest.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from protocol.codes import OrderStatus
from protocol.orders import Command
from tests.simulation import asked, coverage
from tests.simulation.run import COMMANDS, PROCESSES, SEEDS_COVERING, Totals, run_seeds
from tests.simulation.world import simulate


def seeds() -> range:
    """Return the seeds to run, as the environment says."""
    first, _, end = os.environ.get("WOJAK_SIM_SEEDS", str(SEEDS_COVERING)).rpartition(":")
    return range(int(first or 0), int(end))


@pytest.fixture(scope="module")
def totals() -> Totals:
    """Every seed run to its end, in two processes."""
    return _run(seeds())


@pytest.fixture
def covering(totals: Totals) -> Totals:
    """The same, where there are enough seeds to ask what they reached."""
    return totals if totals.seeds >= SEEDS_COVERING else _run(range(SEEDS_COVERING))


def _run(chosen: range) -> Totals:
    totals = Totals()
    for result in run_seeds(chosen, PROCESSES):
        totals.add(result)
    return totals


def test_every_seed_comes_to_rest_and_holds(totals: Totals) -> None:
    """No seed leaves a message unsettled, an order in doubt, or a checker unsatisfied."""
    assert totals.failures == []
    assert totals.seeds == len(seeds())
    assert totals.commands_least >= COMMANDS


def test_every_fault_meets_every_order_state(covering: Totals) -> None:
    """No cell of fault by state stays empty, but for those that are said to be impossible."""
    missing = coverage.missing(covering.reached)
    assert missing == [], f"never reached: {missing}\n{coverage.table(covering.reached)}"
    wrong = coverage.wrongly_impossible(covering.reached)
    assert wrong == [], f"called impossible and reached: {wrong}"


def test_everything_that_can_be_asked_is_asked(covering: Totals) -> None:
    """Every kind of command is taken and refused, under all terms, and operators do all that they can do."""
    assert asked.missing(covering.asked) == []
    assert [what for what in asked.NOT_DRAWN if covering.asked[what]] == [], "it is drawn after all"


def test_a_kind_that_is_never_asked_for_is_named() -> None:
    """Each command of the protocol is required, and one that no seed drew is missing."""
    kinds = {what for what in asked.missing(Counter()) if what.endswith(" taken")}
    assert kinds >= {f"{kind.__name__} taken" for kind in get_args(Command)}
    assert asked.missing(Counter(asked.REQUIRED[1:])) == [asked.REQUIRED[0]]


def test_the_table_has_every_state_and_says_what_is_missing() -> None:
    """A state that is new in the protocol is a column at once, and an empty cell is named."""
    assert set(coverage.STATES) | coverage.NO_ORDER == set(OrderStatus)
    assert "loss x UNKNOWN" in coverage.missing(Counter())
    full = Counter({(f.value, int(s)): 1 for f in coverage.Fault for s in coverage.STATES})
    assert coverage.missing(full) == []
    assert all(state.name in coverage.table(full) for state in coverage.STATES)


def test_the_seeds_reach_what_the_checkers_look_at(covering: Totals) -> None:
    """Every kind of answer is given; orders are killed, held back, lost and found; readers look into syncs."""
    assert covering.codes.keys() >= {
        "OK", "TOMBSTONE", "CANCELLED_BEFORE_ARRIVAL", "ORDER_TERMINAL", "ID_CONFLICT", "STATE_HALTED", "POS_LIMIT",
        "STATE_REDUCING", "COUNT_OPEN_MAX", "PRICE_COLLAR", "REDUCE_ONLY_VIOLATION", "VENUE_DOWN", "AUTH_NOT_PERMITTED",
    }  # fmt: skip
    floor = {"accepted": 5_000, "fills": 2_000, "unknown": 300, "killed": 300, "unsent": 300, "peeks": 300}
    floor |= {"snapshots": 300, "from_snapshot": 300}
    floor |= {"amended": 100, "exits": 60, "flattened": 20, "limits": 30}
    assert {name: count for name, count in floor.items() if covering.counts[name] < count} == {}
    assert covering.counts["compared"] > 3_000
    for point in ("engine.after_sync", "gateway.in_sync", "sidecar.before_settle", "books.before_commit", "zombie"):
        assert any(point in why for why in covering.crashes), f"nothing ever died at {point}"


def test_one_seed_is_one_run(tmp_path: Path) -> None:
    """The same seed gives the same records, whatever else the machine does."""
    first, again = simulate(tmp_path / "a", 5), simulate(tmp_path / "b", 5)
    assert [r[:2] for r in first.watch.records] == [r[:2] for r in again.watch.records]
    assert first.crashes == again.crashes
    assert first.answers.contents == again.answers.contents
    assert first.reached == again.reached
