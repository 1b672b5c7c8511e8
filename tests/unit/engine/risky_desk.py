"""A desk whose position limit goes to the risk service, and what that service says."""

from __future__ import annotations

from msgspec import structs

from engine.holds import Held
from protocol.codes import Code, OrderStatus
from protocol.held_records import HoldTimed, OrderHeld, RiskChanged, RiskDecided
from protocol.orders import NewOrder, TrimmableOrder
from protocol.params import LimitName, LimitRow, RiskParams
from protocol.risk import RiskAnswer, Verdict
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params

RULES = RiskParams((Code.POS_LIMIT, Code.PRICE_COLLAR, Code.VALUE_ORDER_MAX), held_max=2)


class RiskyDesk(Desk):
    """A desk whose position limit of 10 goes to the risk service."""

    def __init__(self, rules: RiskParams = RULES, *rows: LimitRow, position: int = 0, ready: bool = True) -> None:
        limits = rows or (limit(LimitName.POSITION_MAX, 10),)
        super().__init__(given=structs.replace(params(*limits), risk=rules), position=position)
        if ready:
            self.apply(RiskChanged(True, 1))

    def ask(self, order: NewOrder) -> object:
        """Decide a new order; one that is held is applied."""
        item = self.item(order)
        route = self.core.orders.find_route(self.state.permit("src", "all"), order)
        decided = self.core.decide_new(order, item, route, self.now, REFERENCE, None)
        if isinstance(decided, Held):
            self.apply(OrderHeld("src", item, REFERENCE, decided.decision, list(decided.codes), decided.deadline_ns))
        return decided

    def hold(self, client_order_id: str = "1", quantity: int = 20, *, trims: bool = False) -> str:
        """Hold an order; return its id."""
        order = self.order(client_order_id, quantity=quantity)
        if trims:
            order = TrimmableOrder(*structs.astuple(order))
        decided = self.ask(order)
        assert isinstance(decided, Held)
        return decided.decision.order_id

    def says(self, order_id: str, verdict: Verdict = Verdict.APPROVE, **rest: int) -> RiskDecided | None:
        """Take an answer of the service."""
        said = structs.replace(RiskAnswer(order_id, 1, verdict, valid_until_ns=self.now + E9), **rest)
        record = self.core.holds.decide_answer(said, self.now, REFERENCE)
        if record is not None:
            assert self.core.decide_again(record, self.now)
            self.apply(record)
        return record

    def time(self) -> list[HoldTimed]:
        """End what is due."""
        records = []
        for hold in self.core.holds.due(self.now):
            record = self.core.holds.decide_timer(hold, self.now, REFERENCE)
            assert self.core.decide_again(record, self.now)
            self.apply(record)
            records.append(record)
        return records

    def status(self, order_id: str) -> OrderStatus:
        """What the order is, open or closed."""
        order = self.state.orders.get(order_id) or self.state.closed[order_id]
        return order.status

    def reserved(self) -> tuple[int, int, int]:
        """What is reserved: lots to buy, open orders, open value."""
        account = self.state.accounts["a1"]
        return self.state.book.ledger("a1", "XY").buy, account.open_count, account.open_value_e9

    @property
    def sent(self) -> list[str]:
        """Ids of the orders in the outbox."""
        return [o.order.order_id for o in self.state.venues["sandbox"].awaiting.values()]
