"""OCO groups against everything that can come between: properties over drawn interleavings (RISK.md A1, A7)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.order import Order
from protocol.codes import TERMINAL, ExecType, OrderStatus, OutcomeKind, Side
from protocol.oco_records import OcoDecision
from protocol.params import LimitName
from protocol.records import ControlAction, VenueChanged
from tests.unit.engine.desk import limit
from tests.unit.engine.oco_desk import OcoDesk

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus
FINAL = (ExecType.CANCELED, ExecType.REJECTED, ExecType.EXPIRED)

step = st.tuples(
    st.sampled_from(
        (
            "group", "group", "price", "price", "fill", "fill", "fill", "over", "over", "refuse", "cancel", "order",
            "exit", "replace", "lost", "control",
        )
    ),
    st.integers(0, 9), st.integers(1, 8), st.booleans(),
)  # fmt: skip


class Race:
    """One account and what happens to it; what each order filled is counted here, from what the venue was let say."""

    def __init__(self, position: int, side: Side, *, promises: bool) -> None:
        self.d = OcoDesk(keys_max=512, position=position if side is SELL else -position)
        self.side = side
        self.promises = promises
        self.reduce()
        self.made: list[str] = []
        self.groups: dict[str, tuple[str, str, int]] = {}  # name → order ids and quantity of the stop
        self.filled: dict[str, int] = {}

    def reduce(self) -> None:
        """Where the groups do not promise to reduce only, nothing else is allowed."""
        if not self.promises:
            self.d.control(ControlAction.REDUCE_ONLY)

    @property
    def held(self) -> int:
        """What is held on the side that exits reduce, as a positive number."""
        return self.d.position if self.side is SELL else -self.d.position

    def live(self) -> list[Order]:
        return [o for o in self.d.state.orders.values() if o.status is not S.SUSPENDED]

    def take(self, kind: str, pick: int, quantity: int, *, more: bool) -> None:
        d, live = self.d, self.live()
        name = f"o{len(self.made)}"
        match kind:
            case "group":
                self.make_group(name, quantity, quantity + pick % 3 - 1 or 1, more=more)
            case "order":
                d.submit(d.order(name, self.side, quantity, 100, reduce_only=True))
                self.made.append(name)
            case "exit" if self.made:
                d.submit_exit(d.exit_replace(name, [self.made[pick % len(self.made)]], quantity * 3, self.side))
                self.made.append(name)
            case "replace" if self.made:
                d.replace((live[pick % len(live)].client_order_id if live else "none"), name, quantity)
            case "cancel" if self.made:
                d.cancel(self.made[pick % len(self.made)])
            case "price":
                d.watch((94, 95, 100, 105, 106)[pick % 5])
            case "lost":
                self.lose()
            case "control":
                self.control(pick)
            case "refuse" if live:
                asked = [o for o in live if o.terms is not None and o.terms.replacement is not None] or live
                self.say(kind, asked[pick % len(asked)], quantity)
            case "fill" | "over" if live:
                self.say(kind, live[pick % len(live)], quantity)
            case _:
                pass

    def make_group(self, name: str, quantity: int, stop_quantity: int, *, more: bool) -> None:
        d, is_sell = self.d, self.side is SELL
        price, stop_price = (105, 95) if is_sell else (95, 105)
        command = d.oco(
            name, price, stop_price, quantity, self.side, stop_quantity=stop_quantity, limit=stop_price if more else 0,
            reduce_only=self.promises,
        )  # fmt: skip
        decided = d.submit_oco(command)
        if isinstance(decided, OcoDecision) and decided.kind is OutcomeKind.ACCEPTED:
            self.groups[name] = decided.legs[0].order_id, decided.legs[1].order_id, stop_quantity
            self.made += [name, f"{name}/1", f"{name}/2"]

    def control(self, pick: int) -> None:
        d = self.d
        if pick == 0:
            d.control(ControlAction.KILL)
        elif pick < 4:
            d.control(ControlAction.HALT if pick % 2 else ControlAction.REDUCE_ONLY)
        d.watch(95 if self.side is SELL else 105)
        if pick != 2:
            d.control(ControlAction.RESUME)
            self.reduce()

    def say(self, kind: str, order: Order, quantity: int) -> None:
        d = self.d
        if kind == "fill":
            most = order.quantity_most - order.cum
            done = min(quantity, most)
            self.filled[order.order_id] = self.filled.get(order.order_id, 0) + done
            d.fill(order, done)
        elif kind == "over":
            d.report(FINAL[quantity % 3], order.order_id)
        elif order.terms is not None and order.terms.replacement is not None:
            asked = order.terms.replacement
            exec_type = ExecType.REPLACED if quantity % 2 else ExecType.REPLACE_REJECT
            terms = asked if quantity % 2 else order
            price = asked.price if quantity % 2 else order.limit_price
            d.answer(exec_type, order, terms.quantity, price, venue_seq=asked.seq)
        elif order.cancel_seq:
            d.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)

    def lose(self) -> None:
        d = self.d
        venue = d.state.venues["sandbox"]
        d.apply(VenueChanged("sandbox", False, b"g" * 16, venue.last_seq))
        d.watch(95 if self.side is SELL else 105)
        d.apply(VenueChanged("sandbox", True, b"g" * 16, venue.last_seq))
        queried = d.core.reports.decide_unknown(venue, venue.last_seq)
        if queried is not None:
            d.apply(queried)

    def check(self) -> None:
        """Nothing flips, one leg of a group is at the venue, and what is reserved is what could still fill."""
        d = self.d
        ledger = d.state.book.ledger("a1", "XY")
        pending = ledger.sell if self.side is SELL else ledger.buy
        assert self.held >= 0
        assert pending == sum(o.leaves for o in d.state.orders.values())
        assert pending <= self.held
        assert d.state.accounts["a1"].open_count == len(d.state.orders)
        assert pending >= self.worst()
        money = d.state.accounts["a1"].open_value_e9
        assert money == sum(o.reserved_value_e9 for o in d.state.orders.values()) >= 0

    def worst(self) -> int:
        """The most that can still fill: of each group the larger of both ways, of all else what is open."""
        orders = self.d.state.orders
        worst = {i: o.quantity_most - self.filled.get(i, 0) for i, o in orders.items() if o.status is not S.SUSPENDED}
        for first, second, quantity in self.groups.values():
            waits = second in orders and orders[second].status is S.SUSPENDED
            assert not (first in worst and second in worst), "both legs are at the venue"
            if waits:
                left = max(0, quantity - self.filled.get(first, 0))
                worst[first] = max(worst.get(first, 0), left)
        return sum(worst.values())

    def end(self) -> None:
        """Let the venue and the market end everything."""
        d = self.d
        turn = 0
        while d.state.orders:
            turn += 1
            live = self.live()
            if live:
                self.say("fill" if turn % 2 else "over", live[0], 1_000)
            d.release()
            d.watch(94 if self.side is SELL else 106)
            self.check()
            assert turn < 500, d.state.orders


@settings(max_examples=300, deadline=None)
@given(
    position=st.integers(1, 20),
    steps=st.lists(step, min_size=5, max_size=40),
    side=st.sampled_from((SELL, BUY)),
    promises=st.booleans(),
)
def test_no_interleaving_of_exit_groups_flips_the_position(
    position: int, steps: list[Any], side: Side, *, promises: bool
) -> None:
    """Whatever comes in whatever order: never past zero, and reserved is at every step what could still fill."""
    race = Race(position, side, promises=promises)
    for kind, pick, quantity, more in steps:
        race.take(kind, pick, quantity, more=more)
        race.check()
        race.d.release()
        if more and (again := race.d.core.exit_replaces.decide_cancels()) is not None:
            race.d.apply(again)
        race.check()
    race.d.control(ControlAction.RESUME)
    race.reduce()
    race.end()
    d = race.d
    assert (d.state.groups, d.state.accounts["a1"].open_value_e9) == ({}, 0)
    assert all(o.status in TERMINAL for o in d.state.closed.values())
    assert d.replayed_hash() == d.hash()
    assert False not in d.decided_again()


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(step, min_size=5, max_size=30), most=st.integers(3, 12), position=st.integers(-6, 6))
def test_entries_never_pass_the_position_limit(steps: list[Any], most: int, position: int) -> None:
    """Groups that open positions: whatever fills, and whichever leg, |position| stays within the limit."""
    race = Race(1, BUY, promises=True)
    race.promises = False
    race.d = d = OcoDesk(limit(LimitName.POSITION_MAX, most), keys_max=512, position=position)
    bound = max(most, abs(position))
    for kind, pick, quantity, more in steps:
        if kind not in {"order", "exit", "control"}:
            race.side = SELL if more and kind == "group" else BUY
            race.take(kind, pick, quantity, more=False)
        ledger = d.state.book.ledger("a1", "XY")
        assert abs(d.position) <= bound
        assert ledger.position + ledger.buy <= bound
        assert ledger.sell - ledger.position <= bound
        if pick % 2:
            d.watch(95 if more else 105)
    assert d.replayed_hash() == d.hash()
