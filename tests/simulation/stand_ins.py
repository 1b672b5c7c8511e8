"""Parameters of the simulated world, and its worst machines: a disk that fails, a venue that hesitates, a quiet log."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from random import Random

from protocol.codes import Scope
from protocol.params import AccountParams, ChannelParams, LimitName, LimitRow, Params, PrincipalParams, StrategyParams
from protocol.venue import Report, SendNew, VenueCommand
from tests.unit.journal.samples import PowerDisk
from tests.unit.venues.stage import XY
from venues.sandbox import SandboxVenue

E9 = 10**9
MS = 10**6
POSITION_MAX = 30
KEYS_MAX = 2_000


def params() -> Params:
    """Return what the gate is told: tight enough that limits refuse, loose enough that most orders pass."""
    rows = [
        LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", POSITION_MAX * E9),
        LimitRow(LimitName.OPEN_COUNT_MAX, Scope.ACCOUNT, "a1", 12),
        LimitRow(LimitName.ORDER_VALUE_MAX, Scope.GLOBAL, "", 5_000 * E9),
        LimitRow(LimitName.RATE_COUNT, Scope.ACCOUNT, "a1", 200, E9, 50),
    ]
    return Params(
        (XY,), (AccountParams("a1", "USDT"),), (StrategyParams("s1"),), (PrincipalParams("all", ("*",), ("*",)),),
        (ChannelParams("src", ("*",)),), tuple(rows), 60 * E9, E9, 500 * MS, venue_wait_ns=4 * E9,
    )  # fmt: skip


class FaultyDisk(PowerDisk):
    """A disk whose power may go, and whose sync may fail once."""

    sync_fails_in = 0

    def fdatasync(self, fd: int) -> None:
        if self.sync_fails_in:
            self.sync_fails_in -= 1
            if not self.sync_fails_in:
                raise OSError(errno.EIO, "planted")
        super().fdatasync(fd)

    def cut_in(self, operations: int) -> None:
        """Let the power go in the operation so many from now."""
        self._cut_at = self.operations + operations


class SlowVenue(SandboxVenue):
    """A venue whose answers take their time; what it had not said when its gateway died, it never did."""

    random: Random

    def __init__(self, random: Random) -> None:
        super().__init__([XY])
        self.random = random
        self.unsaid: list[Report] = []
        self.seen: dict[str, SendNew] = {}  # said and done may lie in two frames of the log

    def wake(self, now_ns: int) -> list[Report]:
        return self._say(super().wake(now_ns))

    def execute(self, commands: Sequence[VenueCommand], now_ns: int) -> list[Report]:
        return self._say(super().execute(commands, now_ns))

    def replay(self, commands: Sequence[VenueCommand], reports: Sequence[Report], note: bytes) -> None:
        self.seen.update({c.order_id: c for c in commands if isinstance(c, SendNew)})
        for report in reports:
            self.exchange.restore_report(report, self.seen)

    def _say(self, reports: list[Report]) -> list[Report]:
        self.unsaid += reports
        if self.random.random() < 0.5:
            return []
        said, self.unsaid = self.unsaid, []
        return said


class Log:
    """structlog's shape; keeps alarms."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    warning = error = info
