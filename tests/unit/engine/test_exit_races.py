"""Exits in the place of others against everything that can come between: one property over drawn interleavings."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.order import Order
from protocol.codes import TERMINAL, ExecType, OrderStatus, Side
from protocol.records import ControlAction, VenueChanged
from tests.unit.engine.desk import Desk

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus


step = st.tuples(
    st.sampled_from(
        ("exit", "exit", "order", "buy", "cancel", "fill", "fill", "canceled", "reject", "lost", "control")
    ),
    st.integers(0, 7), st.integers(1, 6), st.booleans(),
)  # fmt: skip


class Race:
    """One long account, under reduce-only or not, whose plain orders promise to reduce."""

    def __init__(self, position: int, *, reducing: bool) -> None:
        self.d = Desk(keys_max=512, position=position)
        self.reducing = reducing
        self.reduce()
        self.made: list[str] = []
        self.least = position

    def reduce(self) -> None:
        if self.reducing:
            self.d.control(ControlAction.REDUCE_ONLY)

    def live(self) -> list[Order]:
        return [o for o in self.d.state.orders.values() if o.status is not S.SUSPENDED]

    def take(self, kind: str, pick: int, quantity: int, *, more: bool) -> None:
        d, live = self.d, self.live()
        name = f"o{len(self.made)}"
        match kind:
            case "order" | "buy":
                d.submit(d.order(name, SELL if kind == "order" else BUY, quantity, 101, reduce_only=True))
                self.made.append(name)
            case "exit" if self.made:
                named = list(dict.fromkeys((self.made[pick % len(self.made)], self.made[-1])))
                d.submit_exit(d.exit_replace(name, named if more else named[:1], quantity * 3))
                self.made.append(name)
            case "cancel" if self.made:
                d.cancel(self.made[pick % len(self.made)])
            case "control" if more and pick == 0:
                d.control(ControlAction.KILL)
                d.control(ControlAction.RESUME)
                self.reduce()
            case "lost":
                self.lose()
            case "fill" | "canceled" | "reject" if live:
                self.say(kind, live[pick % len(live)], quantity)
            case _:
                pass

    def say(self, kind: str, order: Order, quantity: int) -> None:
        d = self.d
        if kind == "fill":
            d.fill(order, min(quantity, order.leaves))
        elif kind == "canceled":
            d.report(ExecType.CANCELED, order.order_id)
        elif order.cancel_seq:
            d.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
        else:
            d.report(ExecType.REJECTED, order.order_id)

    def lose(self) -> None:
        d = self.d
        venue = d.state.venues["sandbox"]
        d.apply(VenueChanged("sandbox", False, b"g" * 16, venue.last_seq))
        d.apply(VenueChanged("sandbox", True, b"g" * 16, venue.last_seq))
        queried = d.core.reports.decide_unknown(venue, venue.last_seq)
        if queried is not None:
            d.apply(queried)

    def check(self) -> None:
        d = self.d
        ledger = d.state.book.ledger("a1", "XY")
        assert 0 <= d.position <= self.least
        assert ledger.sell == sum(o.leaves for o in d.state.orders.values()) <= d.position
        assert ledger.buy == 0
        assert d.state.accounts["a1"].open_count == len(d.state.orders)
        waiting = {i for i, o in d.state.orders.items() if o.status is S.SUSPENDED}
        assert waiting == set(d.state.exits)
        self.least = d.position


@settings(max_examples=250, deadline=None)
@given(position=st.integers(1, 20), steps=st.lists(step, min_size=5, max_size=40), reducing=st.booleans())
def test_no_interleaving_flips_or_raises_the_position(position: int, steps: list[Any], *, reducing: bool) -> None:
    """Exits, fills, cancels, refusals, lost gateways, kills in any order: |position| only falls, never past 0."""
    race = Race(position, reducing=reducing)
    race.d.accept(race.d.order("o0", SELL, max(1, position // 2), 105))
    race.made.append("o0")
    for kind, pick, quantity, more in steps:
        race.take(kind, pick, quantity, more=more)
        race.check()
        race.d.release()
        if more and (again := race.d.core.exit_replaces.decide_cancels()) is not None:
            race.d.apply(again)
        race.check()
    while race.d.state.orders:
        race.say("fill" if len(race.d.state.orders) % 2 else "canceled", race.live()[0], position)
        race.d.release()
        race.check()
    assert not race.d.state.exits
    assert all(o.status in TERMINAL for o in race.d.state.closed.values())
    assert race.d.replayed_hash() == race.d.hash()
    assert False not in race.d.decided_again()
