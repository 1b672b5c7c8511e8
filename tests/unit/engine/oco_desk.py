"""A desk that knows OCO groups: taken, watched and let out as the loop does it."""

from __future__ import annotations

from typing import Any

from engine.order import Order
from engine.orders import Defer, Replay
from protocol.codes import Code, OrderType, OutcomeKind, ReferenceSource, RetryReason, Side, TimeInForce
from protocol.decisions import Reference
from protocol.oco_records import OcoDecision, OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import NewOco, NewOrder, TermedOrder
from protocol.params import LimitRow
from tests.unit.engine.desk import E9, REFERENCE, Desk


class OcoDesk(Desk):
    """Takes groups, and looks at the prices that they wait for."""

    def oco(
        self,
        client_order_id: str,
        price: int = 105,
        stop_price: int = 95,
        quantity: int = 10,
        side: Side = Side.SELL,
        *,
        stop_quantity: int = 0,
        limit: int = 0,
        time_in_force: TimeInForce = TimeInForce.GTC,
        expire_at_ns: int = 0,
        reduce_only: bool = False,
        account: str = "a1",
        strategy: str = "s1",
        instrument: str = "XY",
    ) -> NewOco:
        """Return a group of a LIMIT order and a STOP order behind it; with ``limit`` a STOP_LIMIT."""
        first = NewOrder(
            account, f"{client_order_id}/1", strategy, instrument, side, OrderType.LIMIT, TimeInForce.GTC,
            quantity * E9, price * E9, reduce_only,
        )  # fmt: skip
        second = TermedOrder(
            account, f"{client_order_id}/2", strategy, instrument, side,
            OrderType.STOP_LIMIT if limit else OrderType.STOP, time_in_force, (stop_quantity or quantity) * E9,
            limit * E9, reduce_only, stop_price * E9, expire_at_ns,
        )  # fmt: skip
        return NewOco(account, client_order_id, [first, second])

    def submit_oco(
        self,
        command: NewOco,
        *,
        reference: Reference | None = REFERENCE,
        principal: str = "all",
        defer: RetryReason | None = None,
    ) -> OcoDecision | Replay | Defer:
        """Decide and apply, as the loop does."""
        item = self.item(command, principal=principal)
        route = self.core.orders.find_route(self.state.permit("src", principal), command.legs[0])
        decided = self.core.ocos.decide_oco(command, item, route, self.now, reference, defer)
        if isinstance(decided, OcoDecision):
            self.apply(OcoOrdered("src", item, reference, decided, self.seq + 1))
        return decided

    def watch(self, price: int = 0) -> list[OcoTriggered | OcoReleased]:
        """Look at what groups wait for, as the loop does; ``price`` is the market's, 0 = none is known."""
        ocos = self.core.ocos
        reference = Reference(price * E9, 0, ReferenceSource.LAST_TRADE) if price else None
        done: list[OcoTriggered | OcoReleased] = []
        for group in list(self.state.groups.values()):
            triggered = ocos.decide_trigger(group, self.now, reference)
            if triggered is not None:
                self.apply(triggered)
                done.append(triggered)
        for group in ocos.due(self.now):
            released = ocos.decide_release(group, self.now, reference)
            self.apply(released)
            done.append(released)
        return done

    def accept_oco(self, command: NewOco) -> tuple[Order, Order]:
        """Return the orders of a group that is accepted: the one at the venue, the one that waits."""
        decided = self.submit_oco(command)
        assert isinstance(decided, OcoDecision)
        assert decided.kind is OutcomeKind.ACCEPTED, decided
        first, second = (self.state.orders[leg.order_id] for leg in decided.legs)
        return first, second

    def reserved(self) -> tuple[int, int, int, int]:
        """What is reserved to sell and to buy, in money, and how many orders are open."""
        ledger, account = self.state.book.ledger("a1", "XY"), self.state.accounts["a1"]
        return ledger.sell, ledger.buy, account.open_value_e9 // E9, account.open_count

    def require_verified(self) -> None:
        """The journal alone comes to the same state, and each decision is decided again."""
        assert self.replayed_hash() == self.hash()
        assert False not in self.decided_again()

    def require_flat(self) -> None:
        """Nothing is left of any group, and nothing is reserved."""
        assert (self.state.orders, self.state.groups, self.reserved()) == ({}, {}, (0, 0, 0, 0))
        self.require_verified()


def refused(decided: object) -> tuple[Code, int]:
    """Return why a group was refused, and which leg of it."""
    assert isinstance(decided, OcoDecision)
    assert decided.kind is OutcomeKind.REJECTED, decided
    return decided.code, decided.leg


def group(*limits: LimitRow, position: int = 10, **terms: Any) -> tuple[OcoDesk, Order, Order]:
    """Return a desk that is long, and a group that exits all of it: target 105, stop 95."""
    d = OcoDesk(*limits, position=position)
    return d, *d.accept_oco(d.oco("g", **terms))
