"""What is so now: engines' own words over the control socket, processes' readiness and lags. Reads, changes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from cli.alerting.judge import Key
from cli.alerting.rules import Rule
from cli.scrape import Scraped
from protocol.control import EngineStatus, HaltedScope

CLOCK: Final = "clock jumped"
ENGINE: Final = "engine"
RATES: Final = ("breaches", "failed")
SAMPLES_MAX: Final = 3_700
NS_PER_MS: Final = 1_000_000


class Rates:
    """Counts of one engine over a window; a count that falls is a new process's, which began at 0."""

    def __init__(self, window_ms: int) -> None:
        self._window_ns = window_ms * NS_PER_MS
        self._samples: deque[tuple[int, Mapping[str, int]]] = deque(maxlen=SAMPLES_MAX)
        self._last: dict[str, int] = {}
        self._sum: dict[str, int] = {}

    def take(self, counts: Mapping[str, int], now_ns: int) -> dict[str, int]:
        """Take the counts of now; return how many came in the window, by name."""
        is_first = not self._samples
        for name, count in counts.items():
            before = self._last.get(name, 0)
            self._sum[name] = self._sum.get(name, 0) + (count - before if count >= before else count)
        self._last = dict(counts)
        if is_first:  # what came before we looked is no rate
            self._sum = dict.fromkeys(counts, 0)
        self._samples.append((now_ns, dict(self._sum)))
        while len(self._samples) > 1 and now_ns - self._samples[1][0] >= self._window_ns:
            self._samples.popleft()
        first = self._samples[0][1]
        return {name: total - first.get(name, 0) for name, total in self._sum.items()}


def held_by_engine(
    name: str, status: EngineStatus, rules: Mapping[str, Rule], rates: Mapping[str, Mapping[str, int]], seen_seq: int
) -> Iterator[tuple[Key, str]]:
    """Yield the states that an engine's status shows.

    Args:
        name: Of the engine.
        status: What it said.
        rules: Those that are looked at.
        rates: By rule: how many came in its window, by name.
        seen_seq: How far the event stream came here.
    """
    for halted in status.halted:
        yield (
            Key(_rule_of(halted), name, f"{halted.scope} {halted.key}".strip()),
            (f"{halted.scope} {halted.key} {halted.state} by {halted.operator}: {halted.reason}"),
        )
    for venue in status.venues:
        if not venue.ready:
            yield Key("venue", name, venue.venue), f"venue {venue.venue} is not ready, {venue.unreported} unanswered"
    for rule, count, what in (
        ("unknown_orders", status.unknown_orders, "orders are UNKNOWN: wojak orders --unknown"),
        ("suspense", status.suspense_fills, "fills are in suspense: wojak orders suspense"),
        ("stream_lag", status.durable_seq - seen_seq, "durable records did not come over the event stream"),
    ):
        if rule in rules and count > rules[rule].above:
            yield Key(rule, name, ""), f"{count} {what}"
    for rule in RATES:
        for code, count in rates.get(rule, {}).items():
            if rule in rules and count > rules[rule].above:
                within = rules[rule].window_ms // 1_000
                what = f"refusals {code}" if rule == "breaches" else "inputs whose decision failed"
                yield Key(rule, name, code), f"{count} {what} within {within} s"


def _rule_of(halted: HaltedScope) -> str:
    if halted.operator == ENGINE and halted.reason.startswith(CLOCK):
        return "clock"
    return "reduce_only" if halted.state == "REDUCING" else "halt"


def held_by_process(name: str, found: Scraped, rules: Mapping[str, Rule]) -> Iterator[tuple[Key, str]]:
    """Yield the states that a process's own answer shows, or its silence."""
    if not found.answers or found.reason:
        yield Key("process", "", name), f"process {name} is not ready: {found.reason or 'not running'}"
    parted = int(found.value("wojak_follower_parted"))
    if parted:
        yield Key("drift", "", name), f"engine and {name} differ at record {parted}; no snapshots are made"
    for rule, metric, what in (
        ("books_lag", "wojak_books_lag_ms", "ms behind the engine"),
        ("follower_lag", "wojak_follower_lag_records", "records behind the engine"),
    ):
        lag = int(found.total(metric))
        if rule in rules and lag > rules[rule].above:
            yield Key(rule, "", name), f"{name} is {lag} {what}"
