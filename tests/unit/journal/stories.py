"""Journals that could have happened: random lives of orders as the records an engine would write."""

from __future__ import annotations

from random import Random

import msgspec

from protocol.codes import (
    Code,
    ExecType,
    Liquidity,
    Mode,
    OrderStatus,
    OutcomeKind,
    Scope,
    Side,
)
from protocol.decisions import CancelDecision, EngineCancel, ReportDecision, ReportEffect
from protocol.orders import CancelOrder
from protocol.records import (
    Adjusted,
    CancelRequested,
    ControlAction,
    Controlled,
    Queried,
    Record,
    Reported,
    SendDecided,
    Started,
)
from protocol.session import Facts
from protocol.venue import Report
from tests.unit.journal.samples import E9, item, ordered

STARTED = Started(1, b"i" * 16, Mode.PAPER, 0, 20260102, 1, "0.1.0", b"k" * 16)


def report(
    name: str,
    *,
    trade_id: str = "",
    quantity_e9: int = 0,
    price_e9: int = 0,
    exec_type: ExecType = ExecType.TRADE,
    code: Code = Code.OK,
    fee_e9: int = 0,
    exch_ns: int = 5,
) -> Report:
    """Return what a venue says."""
    return Report(
        1, exec_type, f"P-demo-{name}", f"V-{name}", 0, OrderStatus.NEW, 0, 0, exch_ns, trade_id, quantity_e9, price_e9,
        Liquidity.MAKER if trade_id else Liquidity.NONE, fee_e9, "USDT", code,
    )  # fmt: skip


def reported(said: Report, decision: ReportDecision) -> Reported:
    """Return the record of a report."""
    return Reported("sandbox", msgspec.Raw(msgspec.msgpack.encode(said)), decision)


class Story:
    """Writes the records of one account's orders and keeps, on its own, what must come out."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.records: list[Record] = [STARTED]
        self.quantity: dict[str, int] = {}
        self.cum: dict[str, int] = {}
        self.value: dict[str, int] = {}
        self.side: dict[str, Side] = {}
        self.status: dict[str, OrderStatus] = {}
        self.position = 0
        self.fees = 0
        self.trades = 0
        self.refused = 0

    def write(self, steps: int) -> list[Record]:
        """Return the records of ``steps`` random steps."""
        actions = [self._new, self._new, self._ack, self._fill, self._fill, self._fill, self._cancel, self._cancelled,
                   self._refuse, self._adjust, self._kill, self._resolve, self._late_send,
                   self._query, self._answer]  # fmt: skip
        for _ in range(steps):
            self.random.choice(actions)()
        return self.records

    def _pick(self, *statuses: OrderStatus) -> str | None:
        names = sorted(n for n, s in self.status.items() if s in statuses)
        return self.random.choice(names) if names else None

    def _decision(self, name: str, status: OrderStatus, leaves: int) -> ReportDecision:
        self.status[name] = status
        return ReportDecision(
            ReportEffect.APPLIED, "demo", name, "mm", "BTCUSDT", self.side[name], status=status,
            quantity_e9=self.quantity[name], leaves_quantity_e9=leaves, cum_quantity_e9=self.cum[name],
            value_e9=self.value[name], position_e9=self.position, trace_id=b"t" * 16,
        )  # fmt: skip

    def _leaves(self, name: str) -> int:
        return max(0, self.quantity[name] - self.cum[name])

    def _new(self) -> None:
        name = f"o{len(self.quantity)}"
        self.quantity[name] = self.random.randint(1, 20) * E9
        self.cum[name], self.value[name] = 0, 0
        self.side[name] = self.random.choice(list(Side))
        self.status[name] = OrderStatus.PENDING_NEW
        self.records.append(ordered(name, quantity_e9=self.quantity[name], side=self.side[name]))

    def _ack(self) -> None:
        if name := self._pick(OrderStatus.PENDING_NEW):
            decision = self._decision(name, OrderStatus.NEW, self._leaves(name))
            self.records.append(reported(report(name, exec_type=ExecType.NEW), decision))

    def _fill(self) -> None:
        # Terminal orders too: a late fill, sometimes more than was asked for.
        if name := self._pick(*(s for s in OrderStatus if s is not OrderStatus.REJECTED)):
            quantity, price = self.random.randint(1, 5) * E9, self.random.randint(90, 110) * E9
            self.cum[name] += quantity
            self.value[name] += quantity * price // E9
            self.position += quantity if self.side[name] is Side.BUY else -quantity
            self.fees += 3
            self.trades += 1
            was_terminal = self.status[name].is_terminal
            leaves = 0 if was_terminal else self._leaves(name)
            status = OrderStatus.FILLED if leaves == 0 and not was_terminal else OrderStatus.PARTIALLY_FILLED
            said = report(name, trade_id=f"T{self.trades}", quantity_e9=quantity, price_e9=price, fee_e9=3)
            self.records.append(
                reported(said, self._decision(name, self.status[name] if was_terminal else status, leaves))
            )

    def _cancel(self) -> None:
        if name := self._pick(OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
            self.status[name] = OrderStatus.PENDING_CANCEL
            decision = CancelDecision(
                OutcomeKind.ACCEPTED, Code.OK, f"P-demo-{name}", 7, OrderStatus.PENDING_CANCEL, 0,
                self._leaves(name), self.cum[name],
            )  # fmt: skip
            self.records.append(CancelRequested("http", item(CancelOrder("demo", name)), decision))

    def _cancelled(self) -> None:
        if name := self._pick(OrderStatus.PENDING_CANCEL):
            decision = self._decision(name, OrderStatus.CANCELED, 0)
            self.records.append(reported(report(name, exec_type=ExecType.CANCELED), decision))

    def _refuse(self) -> None:
        # Sometimes under the id of an order that is there: a conflict, which is no answer of that order.
        name, takes_key = self._pick(*OrderStatus), False
        if name is None or self.random.random() < 0.5:
            name, takes_key = f"r{self.refused}", True
        self.refused += 1
        facts = Facts(expected=5 * E9, actual=str(2**70), scope=Scope.ACCOUNT, key="demo")
        code = Code.QTY_MAX if takes_key else Code.ID_CONFLICT
        self.records.append(ordered(name, kind=OutcomeKind.REJECTED, code=code, takes_key=takes_key, facts=facts))

    def _adjust(self) -> None:
        if self.random.random() < 0.2:
            self.position = self.random.randint(-50, 50) * E9
            self.records.append(Adjusted("demo", "BTCUSDT", self.position, 100 * E9, "1000", "USDT", "opening"))

    def _kill(self) -> None:
        cancels = []
        for name in sorted(self.status):
            if self.random.random() < 0.9:
                continue
            if self.status[name] is OrderStatus.PENDING_NEW:
                self.status[name] = OrderStatus.CANCELED
                cancels.append(EngineCancel("demo", name, f"P-demo-{name}", 0, 3, Code.UNSENT_KILLED))
            elif self.status[name] in {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED}:
                self.status[name] = OrderStatus.PENDING_CANCEL
                cancels.append(EngineCancel("demo", name, f"P-demo-{name}", 8, 0, Code.OK, self.cum[name]))
        self.records.append(Controlled(ControlAction.KILL, Scope.ACCOUNT, "demo", "op", "test", False, cancels))

    def _resolve(self) -> None:
        if (name := self._pick(OrderStatus.PENDING_NEW)) and self.random.random() < 0.3:
            added = self._leaves(name)
            self.cum[name] += added
            self.value[name] += added * 100
            self.position += added if self.side[name] is Side.BUY else -added
            resolved = self._decision(name, OrderStatus.FILLED, 0)
            self.records.append(
                Controlled(
                    ControlAction.RESOLVE, Scope.GLOBAL, f"P-demo-{name}", "op", "called them", False, [], resolved
                )
            )

    def _query(self) -> None:
        if name := self._pick(OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PENDING_CANCEL):
            self.status[name] = OrderStatus.UNKNOWN
            self.records.append(Queried("sandbox", [(f"P-demo-{name}", 9)]))

    def _answer(self) -> None:
        if name := self._pick(OrderStatus.UNKNOWN):
            decision = self._decision(name, OrderStatus.NEW, self._leaves(name))
            self.records.append(reported(report(name, exec_type=ExecType.ORDER_STATUS), decision))

    def _late_send(self) -> None:
        if name := self._pick(OrderStatus.PENDING_NEW):
            self.status[name] = OrderStatus.CANCELED
            cancel = EngineCancel("demo", name, f"P-demo-{name}", 0, 3, Code.UNSENT_STALE)
            self.records.append(SendDecided("sandbox", 3, f"P-demo-{name}", Code.UNSENT_STALE, cancel))
