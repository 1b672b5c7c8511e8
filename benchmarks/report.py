"""What a benchmark prints: every run as it ends, then medians with their spread, ratios, checks and a hash.

Rule: a figure never stands alone. Beside it are its floor from the same minutes, the ratio, and the lowest and
highest run; the last line is a hash of what was computed, so that nobody gets faster by computing something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from statistics import median
from typing import Final

from msgspec import Struct

from benchmarks.errors import BenchError
from cli.options import say

Value = int | float
ENGINE: Final = "engine"
FLOOR: Final = "floor"


class Run(Struct, frozen=True):
    """One run: of what, and its raw figures, the unit last in each name."""

    of: str
    values: dict[str, Value]


class Report:
    """One benchmark's runs and the lines about them.

    Attributes:
        summary: (what, figure) for the table at the end of ``all``.
    """

    def __init__(self, name: str, what: str, conditions: str) -> None:
        self.name = name
        self.runs: list[Run] = []
        self.summary: list[tuple[str, str]] = []
        self.digest = ""
        self._results: set[str] = set()
        say(f"{name}: {what}")
        say(f"  {conditions}")

    def add(self, of: str, **values: Value) -> None:
        """Keep one run, and say it."""
        self.runs.append(Run(of, values))
        parts = ", ".join(f"{key} {_number(value)}" for key, value in values.items())
        say(f"  run {len(self.runs):>2} {of}: {parts}")

    def say(self, text: str) -> None:
        """Say something beside the figures."""
        say(f"  {text}")

    def values(self, of: str, key: str) -> list[Value]:
        """Return one raw figure of every run of ``of``."""
        return [run.values[key] for run in self.runs if run.of == of]

    def figure(self, of: str, key: str, what: str) -> Value:
        """Say the median and the spread of one figure; return the median."""
        values = self.values(of, key)
        middle = median(values)
        self._sum_up(f"{of} {what}", f"{_number(middle)} [{_number(min(values))}–{_number(max(values))}]")
        return middle

    def ratio(self, what: str, over: tuple[str, str], under: tuple[str, str], bar: float = 0.0) -> float:
        """Say the ratio of two medians with the spread of the interleaved pairs; ``bar``: at most, 0 = none."""
        upper, lower = self.values(*over), self.values(*under)
        found = median(upper) / median(lower)
        pairs = [a / b for a, b in zip(upper, lower, strict=True)]
        text = f"{found:.3f} [{min(pairs):.3f}–{max(pairs):.3f}]"
        self._sum_up(what, text + (f", bar ≤ {bar:g}: {_met(found <= bar)}" if bar else ""))
        return found

    def bar(self, what: str, value: Value, *, at_least: Value | None = None, at_most: Value | None = None) -> None:
        """Say whether a figure meets its bar."""
        ok = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bounds = [f"≥ {_number(at_least)}"] if at_least is not None else []
        bounds += [f"≤ {_number(at_most)}"] if at_most is not None else []
        self._sum_up(what, f"{_number(value)}, bar {' and '.join(bounds)}: {_met(ok)}")

    def hold(self, result: str) -> None:
        """Take what a run computed, in words or as a hash."""
        self._results.add(result)

    def end(self) -> None:
        """Say the hash of what every run computed.

        Raises:
            BenchError: If two runs of the same commands computed different things.
        """
        if len(self._results) != 1:
            raise BenchError(f"{self.name}: expected one result of all runs, was {len(self._results)} different ones")
        self.digest = hashlib.sha256(self._results.pop().encode()).hexdigest()
        say(f"results {self.digest}")

    def _sum_up(self, what: str, figure: str) -> None:
        self.summary.append((what, figure))
        say(f"  {what}: {figure}")


def interleaved(runs: int, first: str = ENGINE, second: str = FLOOR) -> Iterator[str]:
    """Yield what to run next: pairs whose order alternates, so that a drift of the machine meets both alike."""
    for number in range(runs):
        yield from (first, second) if number % 2 == 0 else (second, first)


def table(reports: list[Report]) -> None:
    """Say all figures once more, as a table for a page."""
    say("| benchmark | figure | median [lowest–highest] |")
    say("|---|---|---|")
    for report in reports:
        for what, figure in report.summary:
            say(f"| {report.name} | {what} | {figure} |")


def _number(value: Value) -> str:
    return f"{value:,.3f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def _met(ok: bool) -> str:
    return "met" if ok else "NOT met"
