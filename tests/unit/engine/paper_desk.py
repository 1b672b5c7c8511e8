"""A desk whose position limit of 10 makes orders paper, and both sides of what it holds."""

from __future__ import annotations

from msgspec import structs

from engine.order import Order
from engine.orders import Defer, Replay
from protocol.codes import Code, Mode, OutcomeKind, RetryReason
from protocol.decisions import NewDecision, Reference
from protocol.orders import NewOrder
from protocol.paper import PaperOrdered, paper_name
from protocol.params import LimitName, LimitRow, RiskParams
from protocol.records import Ordered
from tests.unit.engine.desk import REFERENCE, Desk, limit, params

SANDBOX = RiskParams((), sandbox=(Code.POS_LIMIT, Code.COUNT_OPEN_MAX, Code.VALUE_ORDER_MAX))
PAPER_A1 = paper_name("a1")


class PaperDesk(Desk):
    """A desk whose position limit of 10 is routed to sandbox."""

    def __init__(
        self, *rows: LimitRow, rules: RiskParams | None = SANDBOX, position: int = 0, mode: Mode = Mode.PAPER
    ) -> None:
        limits = rows or (limit(LimitName.POSITION_MAX, 10),)
        super().__init__(given=structs.replace(params(*limits), risk=rules), position=position, mode=mode)

    def ask(
        self, order: NewOrder, *, reference: Reference | None = REFERENCE, defer: RetryReason | None = None
    ) -> NewDecision | Replay | Defer:
        """Decide and apply a new order as the loop does."""
        item = self.item(order)
        route = self.core.orders.find_route(self.state.permit("src", "all"), order)
        decided = self.core.decide_new(order, item, route, self.now, reference, defer)
        assert isinstance(decided, NewDecision | Replay | Defer)
        if isinstance(decided, NewDecision):
            kind = PaperOrdered if decided.kind is OutcomeKind.PAPER else Ordered
            record = kind("src", item, reference, decided, self.seq + 1)
            assert self.core.decide_again(record, self.now)
            self.apply(record)
        return decided

    def decided(self, order: NewOrder) -> NewDecision:
        """Ask, and expect a decision."""
        found = self.ask(order)
        assert isinstance(found, NewDecision)
        return found

    def code(self, order: NewOrder) -> tuple[OutcomeKind, Code]:
        """Ask, and return what came of it."""
        found = self.decided(order)
        return found.kind, found.code

    def paper(self, client_order_id: str = "p", quantity: int = 20, **rest: str) -> Order:
        """Have an order that is paper because of its breach."""
        found = self.decided(self.order(client_order_id, quantity=quantity, **rest))  # type: ignore[arg-type]
        assert found.kind is OutcomeKind.PAPER, found
        return self.state.orders[found.order_id]

    @property
    def real(self) -> tuple[object, ...]:
        """All that verdicts about real orders are made of, of every account and strategy."""
        state = self.state
        ledgers = {
            key: (v.position, v.buy, v.sell, v.outside, v.traded_e9)
            for key, v in state.book.ledgers.items() if key[0] in state.listed[0]
        }  # fmt: skip
        own = {
            key: (r.own.position, r.own.buy, r.own.sell, r.own.traded_e9)
            for key, r in state.routes.items() if key[0] in state.listed[0]
        }  # fmt: skip
        accounts = {
            a.name: (
                a.open_count, a.open_value_e9, dict(a.cash_e9), dict(a.fees_e9), a.state,
                a.rate.charges() if a.rate else None,
            )
            for a in state.accounts.values() if a.name in state.listed[0]
        }  # fmt: skip
        strategies = {s.name: (s.state, s.rate.charges() if s.rate else None) for s in state.strategies.values()}
        instruments = {i.name: i.state for i in state.instruments.values()}
        moved = {key: v for key, v in ledgers.items() if any(v)}, {key: v for key, v in own.items() if any(v)}
        return (*moved, accounts, strategies, instruments, state.book.state, state.flow.row())

    @property
    def paper_position(self) -> int:
        """What the paper side of a1 holds."""
        return self.state.book.ledger(PAPER_A1, "XY").position
