"""A venue's statement against the engine's state as of the same report: ``decide_*`` reads, ``apply`` writes.

The rules are the table of docs/reconcile.md. What differs is recorded, alarms, and sets reduce-only at the narrowest
scope that covers it; no position is changed. An order that the venue does not list is UNKNOWN, never rejected: it stays
reserved, is asked for, and is never sent again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import structs

from engine.order import Order, OutgoingKind
from engine.order_state import Happening, next_status
from engine.state import State
from engine.venue_state import VenueState
from protocol.codes import OrderStatus, Scope, TradingState
from protocol.statement import Difference, DifferenceKind, Reconciled, StatedFill, StatedOrder, StatedPosition

DIFFERENCES_MAX: Final = 512
"""Differences in one record; of more it says how many."""
K: Final = DifferenceKind


class Stated(NamedTuple):
    """A whole statement."""

    received_seq: int
    report_seq: int
    states_positions: bool
    whole_positions: bool
    orders: list[StatedOrder]
    fills: list[StatedFill]
    positions: list[StatedPosition]


class Reconciler:
    """Compares, decides and applies over one State."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def decide(self, venue: VenueState, stated: Stated, cause: str, operator: str, reason: str) -> Reconciled:
        """Return what differs and what follows from it. ``stated.report_seq`` is the last report applied here."""
        assert stated.report_seq == venue.report_seq
        found = [
            *self._orders(venue, stated), *self._fills(venue, stated.fills),
            *(self._positions(venue, stated) if stated.states_positions else ()),
        ]  # fmt: skip
        listed = found[:DIFFERENCES_MAX]
        return Reconciled(
            venue.name, stated.received_seq, stated.report_seq, cause, operator, reason, len(stated.orders),
            len(stated.fills), len(stated.positions) if stated.states_positions else -1, stated.whole_positions,
            listed, len(found) - len(listed), self._queries(venue, listed),
        )  # fmt: skip

    def decide_again(self, record: Reconciled) -> bool:
        """Return whether what the venue said to each difference still differs so, and leads to the same."""
        venue = self._state.venues[record.venue]
        again = [self._difference(venue, d, whole=record.whole_positions) for d in record.differences]
        return again == record.differences and self._queries(venue, record.differences) == record.queries

    # What differs

    def _orders(self, venue: VenueState, stated: Stated) -> list[Difference]:
        state = self._state
        there = {order.order_id: order for order in stated.orders}
        found: list[Difference] = []
        for order in state.orders.values():
            if order.route.instrument.venue != venue.name:
                continue
            theirs = there.pop(order.order_id, None)
            if theirs is not None:
                if self._differs(order, theirs):
                    found.append(self._of_order(K.QUANTITY, order, theirs.leaves_quantity_e9, theirs.cum_quantity_e9))
            elif self._should_work(venue, order, stated.received_seq):
                found.append(self._of_order(K.UNKNOWN_AT_VENUE, order, 0, 0))
        for theirs in there.values():
            kind = K.CLOSED_HERE if theirs.order_id in state.closed else K.UNKNOWN_HERE
            found.append(
                self._scoped(
                    Difference(
                        kind, Scope.GLOBAL, "", theirs.account, theirs.instrument, theirs.order_id, "", 0,
                        theirs.leaves_quantity_e9, 0, theirs.cum_quantity_e9,
                    )
                )
            )  # fmt: skip
        return found

    def _differs(self, order: Order, theirs: StatedOrder) -> bool:
        """Whether the quantities differ: on the terms that the venue has confirmed; not of one that is in doubt."""
        step = order.route.instrument.quantity_step_e9
        ours = (order.quantity - order.cum) * step, order.cum * step
        return order.status is not OrderStatus.UNKNOWN and ours != (
            theirs.leaves_quantity_e9, theirs.cum_quantity_e9
        )  # fmt: skip

    def _should_work(self, venue: VenueState, order: Order, received_seq: int) -> bool:
        """Whether the venue has the order by all that is known here: received, not in doubt, not to be sent again."""
        return (
            0 < order.venue_seq <= received_seq  # 0 = it waits here, at no venue
            and order.status is not OrderStatus.UNKNOWN
            and order.order_id not in venue.not_found
        )

    def _of_order(self, kind: DifferenceKind, order: Order, leaves_e9: int, cum_e9: int) -> Difference:
        instrument = order.route.instrument
        step = instrument.quantity_step_e9
        return self._scoped(
            Difference(
                kind, Scope.GLOBAL, "", order.account, instrument.name, order.order_id, "",
                (order.quantity - order.cum) * step, leaves_e9, order.cum * step, cum_e9,
            )
        )  # fmt: skip

    def _fills(self, venue: VenueState, fills: list[StatedFill]) -> list[Difference]:
        known = venue.trade_ids
        return [
            self._scoped(
                Difference(
                    K.FILL_MISSING, Scope.GLOBAL, "", f.account, f.instrument, f.order_id, f.trade_id, 0, f.quantity_e9,
                    price_e9=f.price_e9, side=f.side,
                )
            )
            for f in fills
            if f.trade_id not in known
        ]  # fmt: skip

    def _positions(self, venue: VenueState, stated: Stated) -> list[Difference]:
        theirs = {(p.account, p.instrument): p.quantity_e9 for p in stated.positions}
        instruments = self._state.instruments
        for (account, instrument), ledger in self._state.book.ledgers.items():
            if (ledger.position or ledger.outside) and instruments[instrument].venue == venue.name:
                theirs.setdefault((account, instrument), 0)
        found = []
        for (account, instrument), quantity_e9 in sorted(theirs.items()):
            ours_e9 = self._position(account, instrument, whole=stated.whole_positions)
            if ours_e9 != quantity_e9:
                difference = Difference(K.POSITION, Scope.GLOBAL, "", account, instrument, "", "", ours_e9, quantity_e9)
                found.append(self._scoped(difference))
        return found

    def _position(self, account: str, instrument: str, *, whole: bool) -> int:
        """Return the position as the venue should see it, 1e-9."""
        known = self._state.instruments.get(instrument)
        ledger = self._state.book.ledgers.get((account, instrument))
        if known is None or ledger is None:
            return 0
        return (ledger.position - (0 if whole else ledger.outside)) * known.quantity_step_e9

    def _scoped(self, d: Difference) -> Difference:
        """Return the difference with the narrowest scope that covers it."""
        if d.account in self._state.accounts:
            return structs.replace(d, scope=Scope.ACCOUNT, key=d.account)
        if d.instrument in self._state.instruments:
            return structs.replace(d, scope=Scope.INSTRUMENT, key=d.instrument)
        return d

    def _difference(self, venue: VenueState, d: Difference, *, whole: bool) -> Difference | None:
        """Return the difference anew from what the venue said and the state; None where there is none."""
        state = self._state
        order = state.orders.get(d.order_id)
        match d.kind:
            case K.UNKNOWN_AT_VENUE | K.QUANTITY:
                return None if order is None else self._of_order(d.kind, order, d.theirs_e9, d.theirs_cum_e9)
            case K.UNKNOWN_HERE | K.CLOSED_HERE:
                is_so = order is None and (d.order_id in state.closed) == (d.kind is K.CLOSED_HERE)
            case K.FILL_MISSING:
                is_so = d.trade_id not in venue.trade_ids
            case _:
                is_so = d.ours_e9 == self._position(d.account, d.instrument, whole=whole) != d.theirs_e9
        return self._scoped(d) if is_so else None

    # What follows

    def _queries(self, venue: VenueState, found: list[Difference]) -> list[tuple[str, int]]:
        """Return the numbered queries for orders that the venue does not list."""
        doubtful = [d.order_id for d in found if d.kind is K.UNKNOWN_AT_VENUE]
        return [(order_id, venue.last_seq + n) for n, order_id in enumerate(doubtful, start=1)]

    def apply(self, record: Reconciled, now_ns: int) -> None:
        """Write what ``decide`` decided: doubts and states; no quantity and no position."""
        state = self._state
        venue = state.venues[record.venue]
        for order_id in [o for o in venue.doubted if o not in state.orders]:
            del venue.doubted[order_id]
        for d in record.differences:
            state.raise_state(d.scope, d.key, TradingState.REDUCING, f"venue {venue.name}: {d.kind.name}")
        if record.more:
            state.raise_state(Scope.GLOBAL, "", TradingState.REDUCING, f"venue {venue.name}: {record.more} differences")
        for order_id, venue_seq in record.queries:
            order = state.orders[order_id]
            venue.doubted[order_id] = None
            status = next_status(order.status, Happening.LOST, is_filled_partly=order.cum > 0)
            if status is not None:
                state.set_status(order, status)
            venue.add(venue_seq, OutgoingKind.QUERY, order, now_ns)
