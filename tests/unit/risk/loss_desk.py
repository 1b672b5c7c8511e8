"""Desks with limits on losses: marks in, what they come to applied as the engine's loop would."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.losses import decide_trips
from engine.order import Order
from protocol.codes import Code, Mode, Scope, Side, TradingState
from protocol.decisions import NewDecision
from protocol.marks import LossLevel, Mark, Marked
from protocol.money import Adjust, CashRow, HeldRow
from protocol.params import LimitName, LimitRow
from protocol.records import Started, VenueChanged
from risk.gate.loss_scopes import Place
from tests.unit.engine.desk import E9, params
from tests.unit.engine.test_money import Till
from tests.unit.venues.stage import XY

DAILY, DRAWDOWN = LimitName.DAILY_LOSS_MAX, LimitName.DRAWDOWN_MAX
A1: Place = (Scope.ACCOUNT, "a1")
S1: Place = (Scope.STRATEGY, "s1")
ALL: Place = (Scope.GLOBAL, "")
ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED_AUTO
ZZ = msgspec.structs.replace(XY, instrument="ZZ")
EU = msgspec.structs.replace(XY, instrument="EU", currency="EUR")


def row(name: LimitName, value: int, at: Place = A1) -> LimitRow:
    """Return a limit in whole units of money."""
    return LimitRow(name, *at, value * E9)


class LossDesk(Till):
    """A desk that books money, with prices of its own."""

    def __init__(self, *limits: LimitRow, position: int = 0, price: int = 100, **more: Any) -> None:
        self.given = msgspec.structs.replace(params(*limits, instruments=(XY, ZZ, EU)), **more)
        super(Till, self).__init__(given=self.given)
        self.apply(Started(2, b"j" * 16, Mode.PAPER, 0, 20260530, 1, "1", books_money=True))
        self.ready()
        if position:
            self.holds(position, price)

    def ready(self) -> None:
        self.apply(VenueChanged("sandbox", True, b"g" * 16, self.state.venues["sandbox"].last_seq))

    def holds(self, quantity: int, price: int, account: str = "a1", instrument: str = "XY") -> None:
        """Set a position from outside."""
        assert self.adjusts(Adjust("set", positions=[HeldRow(account, instrument, quantity * E9, price * E9)])) == []

    def pays_in(self, amount: int, account: str = "a1", currency: str = "USDT") -> None:
        assert self.adjusts(Adjust("paid in", [CashRow(account, currency, str(amount * E9), adds=True)])) == []

    def marks(self, **prices: float | tuple[float, float] | None) -> list[tuple[Place, Code, LossLevel]]:
        """Mark instruments, at one price, at one for longs and one for shorts, or at none; return what that reached."""
        marks = [Mark(name, *_both(price)) for name, price in prices.items()]
        record = Marked(marks, decide_trips(self.state, marks))
        assert self.core.decide_again(record, self.now) is True
        self.apply(record)
        assert self.hash() == self.replayed_hash()
        return [((trip.scope, trip.key), trip.code, trip.level) for trip in record.trips]

    def deals(
        self, quantity: int, price: int, *, side: Side = Side.BUY, fee: int = 0, currency: str = "USDT", **more: Any
    ) -> Order:
        """Trade at a price, whatever state the account is in."""
        order = self.accept(self.order(f"t{self.seq}", side, quantity, **more))
        self.pays(order, quantity, price, fee_e9=fee * E9, currency=currency)
        return order

    def rolls(self, to_date: int = 20260531) -> None:
        rolled = self.core.rolls.decide_roll(to_date, "op", "over", 0)
        assert not isinstance(rolled, str)
        self.apply(rolled)

    def says(self, side: Side = Side.BUY, quantity: int = 1, **more: Any) -> Code:
        """Return what a new order is answered; nothing is kept of it."""
        decided = self.decide(self.order(f"o{self.seq}", side, quantity, **more))
        assert isinstance(decided, NewDecision), decided
        return decided.code

    def is_in(self, place: Place = A1) -> TradingState:
        halt = self.state.halts.get(place)
        return ACTIVE if halt is None else halt.state

    def profit(self, place: Place = A1) -> int | None:
        scope = self.state.losses.scopes[place]
        return scope.profit_e9(self.state.book.money, scope.day, {})


def _both(price: float | tuple[float, float] | None) -> tuple[int, int]:
    if price is None:
        return 0, 0
    low, high = price if isinstance(price, tuple) else (price, price)
    return round(low * E9), round(high * E9)
