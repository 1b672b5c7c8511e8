"""What accounts hold and have open, kept from the engine's events: the service's own copy, never ahead of the journal.

Rule: it derives from events alone, in their order, and says how far it is (``seq``); who needs more waits. Closed
orders leave memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from protocol.amend_events import AmendEvent, SuspenseEvent
from protocol.codes import TERMINAL, OrderStatus, Side, TradeStatus
from protocol.event_kinds import AdjustEvent, Event, OrderEvent, ReplaceEvent, StatusEvent, TradeEvent
from protocol.events import events_of
from protocol.frames import iter_records, read_header
from protocol.records import Record, record_decoder
from risk.portfolio.book import OpenOrder, Position


class Working(Struct):
    """An order that may still fill. Amounts in 1e-9."""

    account: str
    client_order_id: str
    instrument: str
    side: Side
    quantity_e9: int
    price_e9: int
    leaves_e9: int
    cum_e9: int = 0


class Replica:
    """Positions and open orders of all accounts, as of record ``seq``."""

    def __init__(self) -> None:
        self.seq = 0
        self._positions: dict[str, dict[str, int]] = {}
        self._orders: dict[str, Working] = {}

    def take(self, frame: bytes) -> None:
        """Apply a frame; frames come once and in order (``runtime.event_stream``)."""
        header = read_header(frame)
        assert header is not None, "the stream checked it"
        for seq, (_, data) in enumerate(iter_records(frame, header), start=header.first_seq):
            self.apply(seq, header.now_ns, record_decoder.decode(data))

    def apply(self, seq: int, now_ns: int, record: Record) -> None:
        """Apply one record."""
        for event in events_of(seq, now_ns, record):
            self._apply(event)
        self.seq = seq

    def positions(self, account: str) -> tuple[Position, ...]:
        """Return what the account holds."""
        held = self._positions.get(account, {})
        return tuple(Position(name, quantity_e9) for name, quantity_e9 in held.items() if quantity_e9)

    def orders(self, account: str, without: str) -> tuple[OpenOrder, ...]:
        """Return the orders of an account that may still fill, but for one."""
        return tuple(self._open(account, without))

    def _open(self, account: str, without: str) -> Iterator[OpenOrder]:
        for order_id, o in self._orders.items():
            if o.account == account and order_id != without and o.leaves_e9 > 0:
                yield OpenOrder(o.client_order_id, o.instrument, o.side, o.leaves_e9, o.price_e9)

    def _apply(self, event: Event) -> None:
        match event:
            case OrderEvent():
                self._came(event)
            case TradeEvent():
                self._hold(event.account, event.instrument, event.position_e9)
                self._change(event.order_id, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
                self._terms(event.order_id, event.quantity_e9, event.price_e9)
            case StatusEvent():
                if event.changes_order:
                    self._change(event.order_id, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
                    self._terms(event.order_id, event.quantity_e9, event.price_e9)
            case ReplaceEvent():
                self._replaced(event)
            case AdjustEvent() if event.instrument:
                self._hold(event.account, event.instrument, event.quantity_e9)
            case AmendEvent():
                self._hold(event.account, event.instrument, event.position_e9)
                if event.knows_order:
                    self._change(event.order_id, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
            case SuspenseEvent() if event.status is TradeStatus.ASSIGNED:
                self._hold(event.account, event.instrument, event.position_e9)
            case _:
                pass

    def _came(self, event: OrderEvent) -> None:
        if not event.order_id or event.status in TERMINAL:
            return
        waits = event.status is OrderStatus.SUSPENDED  # nothing of it can fill yet
        self._orders[event.order_id] = Working(
            event.account, event.client_order_id, event.instrument, event.side, event.quantity_e9, event.price_e9,
            0 if waits else event.quantity_e9,
        )  # fmt: skip

    def _hold(self, account: str, instrument: str, quantity_e9: int) -> None:
        self._positions.setdefault(account, {})[instrument] = quantity_e9

    def _change(self, order_id: str, status: OrderStatus, leaves_e9: int, cum_e9: int) -> None:
        order = self._orders.get(order_id)
        if order is None:
            return
        order.cum_e9 = max(order.cum_e9, cum_e9)
        if leaves_e9 >= 0:
            order.leaves_e9 = leaves_e9
        if status in TERMINAL:
            del self._orders[order_id]

    def _terms(self, order_id: str, quantity_e9: int, price_e9: int) -> None:
        order = self._orders.get(order_id)
        if order is not None and quantity_e9:
            order.quantity_e9, order.price_e9 = quantity_e9, price_e9

    def _replaced(self, event: ReplaceEvent) -> None:
        """Of two totals that may be working, count the larger (RISK.md A1)."""
        order = self._orders.get(event.order_id)
        if order is not None and event.takes_key and event.quantity_e9:
            order.leaves_e9 = max(order.leaves_e9, event.quantity_e9 - order.cum_e9)
