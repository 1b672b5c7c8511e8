"""Counts that halt a strategy by what its venue says: its fills, what they come to, and refusals.

RISK.md A2: LOOP_EXECUTIONS, LOOP_CHURN and ERR_BUDGET. They are counted as reports come, so an order pays nothing for
them, and what they do is a halt: the strategy's next order is STATE_HALTED, its exits and cancels pass. Counters are
state (``flow``), limits are not: they are resolved for a trading date, of every scope with a row the tightest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.codes import Code, Scope
from protocol.params import LimitName, LimitRow
from risk.gate.flow import ANSWERS_MAX, Answers, Churn, Flow, Tally
from risk.gate.more import BP, UNLIMITED

WATCHED: Final = (
    LimitName.REJECT_COUNT, LimitName.EXECUTION_COUNT, LimitName.CHURN_COUNT, LimitName.CHURN_RATIO,
    LimitName.REJECT_SHARE_BP, LimitName.REJECT_SHARE_ORDERS,
)  # fmt: skip
CLOCKED: Final = (LimitName.CLOCK_OFFSET_MAX_US, LimitName.CLOCK_AGE_MAX_MS)
CLOCK_AGE_MS: Final = 60_000
CHURN_RATIO: Final = 8
SHARE_ORDERS: Final = 50
"""Where no row says otherwise: RISK.md A2, house values."""


class Watch:
    """Counters of one route, shared with all that count the same, and where they halt. ``UNLIMITED`` = not counted.

    ``rejects``: of the strategy at the venue, since it took an order last; ``answers``: of its newest ``share_orders``
    there. ``executions``: of the strategy. ``churn``: of the strategy in the instrument, within ``churn_ns``.
    """

    __slots__ = (
        "answers", "churn", "churn_max", "churn_ns", "churn_ratio", "executions", "executions_max", "rejects",
        "rejects_max", "share_bp", "share_orders",
    )  # fmt: skip

    def __init__(self, executions: Tally, rejects: Tally, churn: Churn, answers: Answers) -> None:
        self.executions = executions
        self.executions_max = UNLIMITED
        self.rejects = rejects
        self.rejects_max = UNLIMITED
        self.churn = churn
        self.churn_max = UNLIMITED
        self.churn_ratio = CHURN_RATIO
        self.churn_ns = 0
        self.answers = answers
        self.share_bp = UNLIMITED
        self.share_orders = SHARE_ORDERS

    def take_fill(self, signed: int, now_ns: int) -> None:
        """Count a fill of so many quantity steps, negative = sold."""
        if self.executions_max < UNLIMITED:
            self.executions.count += 1
        if self.churn_max < UNLIMITED:
            self.churn.take(signed, now_ns)

    def take_reject(self) -> None:
        """Count an order that the venue refused."""
        if self.rejects_max < UNLIMITED:
            self.rejects.count += 1
        if self.share_bp < UNLIMITED:
            self.answers.take(True, self.share_orders)

    def take_order(self, *, is_first: bool) -> None:
        """Note that the venue has an order; ``is_first``: it says so of this one for the first time."""
        self.rejects.count = 0
        if is_first and self.share_bp < UNLIMITED:
            self.answers.take(False, self.share_orders)

    def why_halted(self, now_ns: int) -> str:
        """Return why the strategy is to be halted; empty if nothing is used up."""
        if self.executions.count >= self.executions_max:
            return (
                f"{Code.LOOP_EXECUTIONS.name}: expected fewer than {self.executions_max} fills before a person resumes "
                f"the strategy, was {self.executions.count}"
            )
        if self.rejects.count >= self.rejects_max:
            return (
                f"{Code.ERR_BUDGET.name}: expected fewer than {self.rejects_max} orders refused by the venue one after "
                f"another, was {self.rejects.count}"
            )
        return self._why_share() or self._why_churn(now_ns)

    def _why_share(self) -> str:
        """RISK.md A2: so many of the last m refused. 30 % of 50: 14 pass, 15 halt."""
        if self.share_bp >= UNLIMITED:
            return ""
        answers, orders = self.answers, self.share_orders
        answers.forget(orders)
        if len(answers.log) < orders or answers.refused * BP < self.share_bp * orders:
            return ""
        return (
            f"{Code.ERR_BUDGET.name}: expected less than {self.share_bp} bp of the last {orders} orders refused by the "
            f"venue, was {answers.refused} orders"
        )

    def _why_churn(self, now_ns: int) -> str:
        """RISK.md A2: n fills, and more traded than r times what it came to. +1, -1 by turns halts, +1 does not."""
        if self.churn_max >= UNLIMITED:
            return ""
        churn = self.churn
        churn.forget(now_ns - self.churn_ns)
        if len(churn.log) < self.churn_max or churn.traded <= self.churn_ratio * max(1, abs(churn.net)):
            return ""
        return (
            f"{Code.LOOP_CHURN.name}: expected to trade at most {self.churn_ratio} times what the position changes, of "
            f"{self.churn_max} fills or more in {self.churn_ns // 10**6} ms, was {churn.traded} steps for "
            f"{abs(churn.net)} in {len(churn.log)} fills"
        )


class Watches:
    """The limits of counts by venue reports, of one trading date.

    ``clock``: how far the engine's clock may be off, and how old the sample that says so, in ns; None = not checked.
    """

    __slots__ = ("_exempt", "_flow", "_rows", "clock")

    def __init__(self, rows: Iterable[LimitRow], flow: Flow, exempt: str = "") -> None:
        """Take the rows; ``exempt`` is the strategy under whose name the engine exits, whatever others did."""
        self._exempt = exempt
        self._flow = flow
        self._rows: dict[tuple[LimitName, Scope, str], LimitRow] = {}
        for row in rows:
            if row.name in WATCHED or row.name in CLOCKED:
                key = row.name, row.scope, row.key
                known = self._rows.get(key)
                if known is None or int(row.value) < int(known.value):
                    self._rows[key] = row
        self.clock: tuple[int, int] | None = None
        offset = self._rows.pop((LimitName.CLOCK_OFFSET_MAX_US, Scope.GLOBAL, ""), None)
        age = self._rows.pop((LimitName.CLOCK_AGE_MAX_MS, Scope.GLOBAL, ""), None)
        if offset is not None:
            age_ms = CLOCK_AGE_MS if age is None else int(age.value)
            self.clock = int(offset.value) * 1_000, age_ms * 1_000_000

    def watch(self, strategy: str, instrument: str, venue: str) -> Watch | None:
        """Return the counters of a strategy in an instrument, at its venue; None = nothing limits them."""
        if not self._rows or strategy == self._exempt:
            return None
        by_strategy = (Scope.GLOBAL, ""), (Scope.STRATEGY, strategy)
        by_venue = (*by_strategy, (Scope.VENUE, venue))
        by_instrument = (*by_strategy, (Scope.INSTRUMENT, instrument))
        executions = self._tightest(LimitName.EXECUTION_COUNT, by_strategy)
        rejects = self._tightest(LimitName.REJECT_COUNT, by_venue)
        share = self._tightest(LimitName.REJECT_SHARE_BP, by_venue)
        churn = self._tightest(LimitName.CHURN_COUNT, by_instrument)
        if executions is None and rejects is None and share is None and churn is None:
            return None
        flow = self._flow
        made = Watch(
            flow.executions_of(strategy), flow.rejects_of(strategy, venue), flow.churn_of(strategy, instrument),
            flow.answers_of(strategy, venue),
        )  # fmt: skip
        if executions is not None:
            made.executions_max = int(executions.value)
        if rejects is not None:
            made.rejects_max = int(rejects.value)
        if share is not None:
            made.share_bp = int(share.value)
            orders = self._tightest(LimitName.REJECT_SHARE_ORDERS, by_venue)
            made.share_orders = SHARE_ORDERS if orders is None else min(ANSWERS_MAX, int(orders.value))
        if churn is not None:
            made.churn_max, made.churn_ns = int(churn.value), churn.window_ns
            ratio = self._tightest(LimitName.CHURN_RATIO, by_instrument)
            made.churn_ratio = CHURN_RATIO if ratio is None else int(ratio.value)
        return made

    def _tightest(self, name: LimitName, places: Iterable[tuple[Scope, str]]) -> LimitRow | None:
        rows = [row for place in places if (row := self._rows.get((name, *place))) is not None]
        return min(rows, key=_value) if rows else None


def _value(row: LimitRow) -> int:
    return int(row.value)
