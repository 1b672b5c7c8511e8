"""Parameters of the simulated world, its venue that hesitates and lets orders expire, and a quiet log."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from protocol.codes import Code, ExecType, OrderStatus, Scope
from protocol.params import (
    AccountParams,
    ChannelParams,
    LimitName,
    LimitRow,
    OnDeadline,
    Params,
    PrincipalParams,
    RiskParams,
    StrategyParams,
)
from protocol.venue import Report, SendCancel, SendNew, VenueCommand
from sandbox.exchange import Closed
from tests.unit.venues.stage import XY
from venues.core.venue import VenueStatement
from venues.sandbox import SandboxVenue

E9 = 10**9
MS = 10**6
POSITION_MAX = 30
KEYS_MAX = 2_000
AMENDED_OF = 8
PATIENCES = (0, 0, 1, 1, 2, 30)
REFUSED_SHARE = 0.25
MISCOUNTED_SHARE = 0.2


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
        risk=RiskParams(
            (Code.PRICE_COLLAR,), 400 * MS, hold_max_ns=2 * E9, held_max=4,
            on_deadline=((Code.PRICE_COLLAR, OnDeadline.HOLD),),
        ),
    )  # fmt: skip


class MoodyVenue(SandboxVenue):
    """A venue that lets orders expire, refuses a cancel now and then, and may take its time.

    What it had not said when its gateway died, it never did.
    """

    random: Random

    def __init__(
        self, random: Random, *, is_slow: bool = True, refuses: bool = False, miscounts: Random | None = None
    ) -> None:
        super().__init__([XY])
        self.random = random
        self.miscounts = miscounts  # draws which fills come with a sum that is not theirs; None = none
        self.is_slow = is_slow
        self.refuses = refuses
        self.patience = 0  # so many turns it says nothing
        self.unsaid: list[Report] = []
        self.seen: dict[str, SendNew] = {}  # said and done may lie in two frames of the log

    def expire_one(self) -> None:
        """End an order as an exchange does at its close: sandbox orders never expire by themselves."""
        orders = self.exchange.oldest_first()
        if not orders:
            return
        order = self.random.choice(orders)
        listing = self.exchange.listings[order.symbol]
        listing.matcher.cancel(order)
        out: list[Report] = []
        self.exchange._report_canceled(listing, order, 0, Code.OK, out)
        report = msgspec.structs.replace(out[0], exec_type=ExecType.EXPIRED, status=OrderStatus.EXPIRED)
        self._close_expired(report, order.number)
        self._reports.append(report)

    def amend_one(self, *, bust: bool) -> bool:
        """Take one of the newest trades back, or correct it; return whether there was one that could be."""
        fills = list(self.exchange.fills)[-AMENDED_OF:]
        if not fills:
            return False
        fill = self.random.choice(fills)
        quantity_e9 = 0 if bust else self.random.randint(1, fill.quantity_e9 // E9 + 1) * E9
        return not self.exchange.amend_trade(fill.trade_id, quantity_e9, fill.price_e9 + E9, self._reports)

    def wake(self, now_ns: int) -> list[Report]:
        return self._say(super().wake(now_ns))

    def execute(self, commands: Sequence[VenueCommand], now_ns: int) -> list[Report]:
        return self._say(super().execute([c for c in commands if not self._refuses(c)], now_ns))

    def _refuses(self, command: VenueCommand) -> bool:
        """Refuse one cancel in four of what works: the order is being looked at, come again."""
        if not isinstance(command, SendCancel) or command.order_id not in self.exchange.open:
            return False
        if not self.refuses or self.random.random() > REFUSED_SHARE:
            return False
        names = command.order_id, command.venue_seq
        self.exchange._answer(ExecType.CANCEL_REJECT, *names, Code.VENUE_REJECTED, self._reports)
        return True

    def statement(self) -> VenueStatement | None:
        return None if self.unsaid else super().statement()

    def replay(self, commands: Sequence[VenueCommand], reports: Sequence[Report], note: bytes) -> None:
        self.seen.update({c.order_id: c for c in commands if isinstance(c, SendNew)})
        for report in reports:
            if report.exec_type is ExecType.EXPIRED:
                canceled = msgspec.structs.replace(report, exec_type=ExecType.CANCELED)
                self.exchange.restore_report(canceled, self.seen)
            else:
                self.exchange.restore_report(report, self.seen)

    def _close_expired(self, report: Report, number: int) -> None:
        self.exchange.closed[report.order_id] = Closed(number, OrderStatus.EXPIRED, report.cum_quantity_e9)

    def _miscount(self, report: Report) -> Report:
        """Say another sum with a fill now and then; of the last one it would be kept, as what filled of the order."""
        draw = self.miscounts
        if draw is None or report.status is not OrderStatus.PARTIALLY_FILLED or report.exec_type is not ExecType.TRADE:
            return report
        off_e9 = draw.choice((-E9, E9)) if draw.random() < MISCOUNTED_SHARE else 0
        return msgspec.structs.replace(report, cum_quantity_e9=max(1, report.cum_quantity_e9 + off_e9))

    def _say(self, reports: list[Report]) -> list[Report]:
        self.unsaid += map(self._miscount, reports)
        if self.is_slow and self.patience > 0:
            self.patience -= 1
            return []
        if self.unsaid:
            self.patience = self.random.choice(PATIENCES)
        said, self.unsaid = self.unsaid, []
        return said

    def cancel_all(self, code: Code) -> list[Report]:
        said, self.unsaid = self.unsaid + super().cancel_all(code), []
        return said


class Log:
    """structlog's shape; keeps alarms."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    warning = error = info

    def bind(self, **facts: object) -> Log:
        return self
