"""A core whose venue takes trades back and corrects them; operators too."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from engine.order import Order
from engine.venue_state import VenueState
from protocol.amends import Amendment, TradeAmended
from protocol.codes import ExecType, OrderStatus, Side
from protocol.decisions import ReportDecision, ReportEffect
from protocol.venue import Details, Report
from tests.unit.engine.desk import E9, Desk

_encode = msgspec.msgpack.encode


class Amending(Desk):
    """A desk whose venue takes trades back."""

    corrections = 0

    @property
    def venue(self) -> VenueState:
        return self.state.venues["sandbox"]

    def amend(
        self,
        order_id: str,
        trade_id: str,
        *,
        quantity: int = 0,
        price: int = 0,
        correction_id: str = "",
        says: tuple[int, int] | None = None,
    ) -> tuple[ReportDecision, Amendment | None]:
        """Let the venue take a trade back, or with a quantity correct it; ``says``: its leaves and cum after it."""
        if quantity and not correction_id:
            self.corrections += 1
            correction_id = f"C{self.corrections}"
        report = Report(
            self.venue.report_seq + 1, ExecType.TRADE_CORRECT if quantity else ExecType.TRADE_CANCEL, order_id, "v", 0,
            OrderStatus.NONE, 0, 0, self.now,
            correction_id, quantity * E9, price * E9, details=Details(original_trade_id=trade_id),
        )  # fmt: skip
        decision, _ = self.core.amends.decide(self.venue, report)
        leaves_e9, cum_e9 = decision.leaves_quantity_e9, decision.cum_quantity_e9
        if says is not None:
            leaves_e9, cum_e9 = says[0] * E9, says[1] * E9
        report = msgspec.structs.replace(report, leaves_quantity_e9=leaves_e9, cum_quantity_e9=cum_e9)
        decided = self.core.amends.decide(self.venue, report)
        self.apply(TradeAmended("sandbox", Raw(_encode(report)), *decided))
        return decided

    def bust(self, order: Order, trade_id: str) -> ReportEffect:
        return self.amend(order.order_id, trade_id)[0].effect

    def bust_by_hand(self, order_id: str, trade_id: str) -> TradeAmended | str:
        found = self.core.amends.decide_by_hand(order_id, trade_id, self.now)
        if isinstance(found, str):
            return found
        venue, report, decided = found
        record = TradeAmended(venue.name, Raw(_encode(report)), *decided, operator="op", reason="why")
        self.apply(record)
        return record

    def working(self, name: str = "o", quantity: int = 10, side: Side = Side.BUY) -> Order:
        order = self.accept(self.order(name, side, quantity))
        self.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
        return order

    def figures(self, order: Order) -> tuple[object, ...]:
        """All that a fill moves."""
        ledger, own, account = order.route.ledger, order.route.own, order.route.account
        return (
            order.status, order.cum, order.value_e9, order.leaves, order.reserved_value_e9, ledger.position, ledger.buy,
            ledger.sell, own.position, own.buy, account.open_count, account.open_value_e9,
        )  # fmt: skip

    def check(self) -> None:
        """What must hold after anything: a replay comes to the same, each decision is made again, nothing leaks."""
        assert self.hash() == self.replayed_hash()
        assert all(again is not False for again in self.decided_again())
