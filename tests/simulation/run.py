"""Run seeds in two processes and say what they reached: ``make simulate SEEDS=1000``, or one again: ``SEED=17``.

Ends with 1 if a seed failed, or, over the default number of seeds and more, if a fault never met an order state that
it can meet. ``--first-failure`` stops at the first failing seed, which is what the planted defects are run with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tests.simulation import asked, coverage
from tests.simulation.world import simulate

PROCESSES = 2
COMMANDS = 500
SEEDS_COVERING = 200  # so many reach every cell
PROGRESS_EVERY = 50


class Result(Struct):
    """What one seed did. ``failure``: empty if it held."""

    seed: int
    failure: str
    commands: int
    compared: int
    peeks: int
    reached: dict[tuple[str, int], int]
    crashes: dict[str, int]
    codes: dict[str, int]
    counts: dict[str, int]
    asked: dict[str, int]


def run_seed(seed: int) -> Result:
    """Run one seed in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix=f"wojak-seed-{seed}-") as folder:
        try:
            world = simulate(Path(folder) / "world", seed, COMMANDS)
        except AssertionError as e:
            cause = "".join(traceback.format_tb(e.__cause__.__traceback__)[-2:]) if e.__cause__ else ""
            return Result(seed, f"{e}\n{cause}", 0, 0, 0, {}, {}, {}, {}, {})
    watch = world.watch
    counts = {
        "accepted": len(watch.accepted), "records": len(watch.records), "unknown": len(watch.unknown),
        "killed": len(watch.killed), "unsent": len(watch.unsent), "fills": len(watch.ledgers.trades),
        "amended": watch.amended, "stale": watch.stale, "miscounted": watch.ledgers.miscounted,
        "snapshots": world.following.snapshots, "from_snapshot": world.from_snapshot,
        "exits": watch.exits, "flattened": watch.flattened["flat"], "limits": watch.limits,
    }  # fmt: skip
    return Result(
        seed, "", world.commands, world.compared, world.books.peeks, dict(world.reached), dict(Counter(world.crashes)),
        {code.name: count for code, count in world.answers.codes.items()}, counts,
        dict(asked.asked_of(watch)),
    )  # fmt: skip


def run_seeds(seeds: range, processes: int = PROCESSES) -> Iterator[Result]:
    """Yield results as they come, in no order."""
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run_seed, seeds)


class Totals:
    """What all seeds together did."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failures: list[str] = []
        self.commands_least = 1 << 30
        self.reached: coverage.Reached = Counter()
        self.crashes = Counter[str]()
        self.codes = Counter[str]()
        self.counts = Counter[str]()
        self.asked: asked.Asked = Counter()

    def add(self, result: Result) -> None:
        """Add one seed."""
        self.seeds += 1
        if result.failure:
            self.failures.append(result.failure)
            return
        self.commands_least = min(self.commands_least, result.commands)
        self.reached.update(result.reached)
        self.crashes.update(result.crashes)
        self.codes.update(result.codes)
        self.counts.update(result.counts)
        self.asked.update(result.asked)
        self.counts.update(commands=result.commands, compared=result.compared, peeks=result.peeks)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", default=str(SEEDS_COVERING), help="how many, or first:end")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--first-failure", action="store_true", help="stop at the first seed that fails")
    args = parser.parse_args()
    first, _, end = args.seeds.rpartition(":")
    seeds = range(int(first or 0), int(end))
    totals = Totals()
    for result in run_seeds(seeds, 1 if len(seeds) == 1 else args.processes):
        totals.add(result)
        if result.failure:
            _say(f"FAILED {result.failure}")
            if args.first_failure:
                return 1
        if totals.seeds % PROGRESS_EVERY == 0:
            _say(f"{totals.seeds} of {len(seeds)} seeds, {len(totals.failures)} failed")
    return _report(totals)


def _report(totals: Totals) -> int:
    _say(coverage.table(totals.reached))
    counts = ", ".join(f"{count} {name}" for name, count in totals.counts.items())
    _say(f"{totals.seeds} seeds, at least {totals.commands_least} commands each: {counts}")
    _say("asked for: " + ", ".join(f"{what} {totals.asked[what]}" for what in asked.REQUIRED))
    wrong = coverage.wrongly_impossible(totals.reached)
    if wrong:
        _say(f"called impossible and reached: {', '.join(wrong)}; correct tests/simulation/coverage.py")
    is_covering = totals.seeds >= SEEDS_COVERING
    missing = [*coverage.missing(totals.reached), *asked.missing(totals.asked)] if is_covering else []
    if missing:
        _say(f"never reached: {', '.join(missing)}")
    if totals.failures:
        _say(f"{len(totals.failures)} of {totals.seeds} seeds failed; again, one each:")
        for failure in totals.failures:
            _say("  make simulate SEED=" + failure.removeprefix("seed ").split(":")[0])
    return 1 if totals.failures or missing or wrong else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
