"""The checkers bite: each planted defect is caught by one of its seeds, and for the right reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.mutations import MUTATIONS, NOT_APPLICABLE, Edit, Mutation, Run, apply, run

# Issue 4, point 12.
NAMED = (
    "answer before sync", "DUPLICATE before the first is durable", "settle on BYE", "resend without query",
    "venue id from the sequence", "early key eviction", "UNKNOWN released by a timer", "exit ignoring pending orders",
    "old epoch accepted", "reader past the watermark", "held order unreserved", "kill not journaled",
    "sequence reuse after a cut",
)  # fmt: skip
PROCESSES = 2
RunOf = Callable[[Mutation], Run]


@pytest.fixture(scope="module")
def run_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunOf]:
    """Run the selected mutants side by side; each test waits for its own."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen: list[Any] = [
        i.callspec.params["mutation"] for i in items if i.originalname == "test_a_planted_defect_is_caught"
    ]
    folder = tmp_path_factory.mktemp("mutants")
    with ThreadPoolExecutor(PROCESSES) as pool:
        runs: dict[str, Future[Run]] = {m.name: pool.submit(run, m, folder / m.name.replace(" ", "-")) for m in chosen}
        yield lambda mutation: runs[mutation.name].result()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_defect_is_caught(mutation: Mutation, run_of: RunOf) -> None:
    """A seed fails on the copy with the defect, says why, and how to run it again."""
    caught, output = run_of(mutation)
    assert caught, f"expected a seed to fail with {mutation.caught_by!r}, was: {output}"
    assert "again: make simulate SEED=" in output


def test_every_named_defect_is_planted_or_said_to_be_impossible() -> None:
    """Nothing of issue 4's list is left out in silence."""
    assert {m.name for m in MUTATIONS} | set(NOT_APPLICABLE) >= set(NAMED)
    assert not {m.name for m in MUTATIONS} & set(NOT_APPLICABLE)


def test_a_mutation_whose_code_is_gone_says_so(tmp_path: Path) -> None:
    """A defect can't be planted where the text it replaces is no longer written."""
    (tmp_path / "x.py").write_text("a = 1\n")
    with pytest.raises(AssertionError, match="rotten"):
        apply(Mutation("rotten", "", (Edit("x.py", "b = 1", "b = 2"),)), tmp_path)
