"""The one projection of journal records into rows. Books, verify and any replica use this and nothing else.

Rules: rows derive from records alone, so a rebuild equals the live store; a record at or below ``seq`` changes
nothing; memory holds open orders and positions only, what is needed of closed orders comes from the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from journal.amended import amend_order, amend_position, amended_trade, resolved_trade, trade_in_suspense
from journal.errors import ProjectionError
from journal.rows import BreachRow, OrderRow, PositionRow, TradeRow
from protocol.amend_events import AmendEvent, SuspenseEvent
from protocol.codes import TERMINAL, Code, ExecType, Mode, OrderStatus, ReferenceSource, Side, TradeStatus
from protocol.decisions import ReportDecision
from protocol.event_kinds import AdjustEvent, Event, OrderEvent, ReplaceEvent, StatusEvent, TradeEvent
from protocol.events import events_of
from protocol.records import Controlled, Queried, Record, Started
from protocol.rolls import SessionRolled
from protocol.session import Facts
from protocol.statement import Reconciled
from protocol.units import INT64_MAX

LEDGERS: Final = {Mode.PAPER: "paper", Mode.LIVE: "live"}
_NO_FACTS: Final = Facts()
# Refused for who asks, or for where: not for the state of the order.
_CANCEL_BREACHES: Final = frozenset({Code.AUTH_NOT_PERMITTED, Code.WRONG_SHARD})


class Lookup(Protocol):
    """What a projection asks of what it projected before."""

    def find_order_id(self, order_id: str) -> OrderRow | None:
        """Return the order with the engine's own id as last stored."""

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        """Return the position as last stored."""

    def find_trade(self, venue: str, trade_id: str) -> TradeRow | None:
        """Return the trade as last stored."""

    def trades_of(self, account: str, instrument: str, after_seq: int) -> Iterator[TradeRow]:
        """Yield the stored trades of a position that came after a record, oldest first."""


class NothingStored:
    """The lookup of a projection that begins at the first record and is taken once, at the end."""

    def find_order_id(self, order_id: str) -> OrderRow | None:
        """Return None."""

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        """Return None."""

    def find_trade(self, venue: str, trade_id: str) -> TradeRow | None:
        """Return None."""

    def trades_of(self, account: str, instrument: str, after_seq: int) -> Iterator[TradeRow]:
        """Yield nothing."""
        return iter(())


class State(Struct, frozen=True):
    """What a projection knows besides rows; a store keeps it with its watermark."""

    seq: int = 0
    ledger: str = "paper"
    trading_date: int = 0


class Changes(NamedTuple):
    """Rows that are new or changed since the last ``take``, each once, in its newest form."""

    orders: list[OrderRow]
    trades: list[TradeRow]
    positions: list[PositionRow]
    breaches: list[BreachRow]
    state: State
    amended: Sequence[TradeRow] = ()  # trades that were taken before, in their newest form


class Projection:
    """Apply records in order, then ``take`` what changed and store it before applying more.

    Args:
        lookup: Where rows are that were taken before.
        state: As of those rows.
    """

    def __init__(self, lookup: Lookup, state: State | None = None) -> None:
        self._lookup = lookup
        state = state or State()
        self.seq = state.seq
        self.ledger = state.ledger
        self.trading_date = state.trading_date
        self._open_ids: dict[str, OrderRow] = {}
        self._positions: dict[tuple[str, str], PositionRow] = {}
        # An id may be another order's on a later trading date, once its key has left.
        self._changed_orders: dict[tuple[str, str, int], OrderRow] = {}
        self._changed_ids: dict[str, OrderRow] = {}
        self._changed_positions: dict[tuple[str, str], PositionRow] = {}
        self._trades: dict[tuple[str, str], TradeRow] = {}
        self._amended: dict[tuple[str, str], TradeRow] = {}
        self._breaches: list[BreachRow] = []

    @property
    def open_orders(self) -> int:
        """How many open orders are in memory."""
        return len(self._open_ids)

    def apply(self, seq: int, now_ns: int, record: Record) -> None:
        """Project one record; one that was applied before changes nothing.

        Raises:
            ProjectionError: If the record is not the next one, or changes an order that was never accepted.
        """
        if seq <= self.seq:
            return
        if seq != self.seq + 1:
            raise ProjectionError(seq, f"expected record {self.seq + 1}")
        if isinstance(record, Started):
            self.ledger = LEDGERS[record.mode]
            self.trading_date = record.trading_date
        elif isinstance(record, SessionRolled):
            self.trading_date = record.to_date
        for event in events_of(seq, now_ns, record):
            if isinstance(event, AdjustEvent):
                if not isinstance(record, Controlled):  # else it says what ``_on_resolved`` books
                    self._on_adjust(event)
            else:
                self._on_event(event)
        if isinstance(record, Controlled) and record.resolved is not None:
            self._on_resolved(seq, now_ns, record.key, record.resolved)
        elif isinstance(record, Queried | Reconciled):
            self._on_queried(seq, now_ns, record)
        self.seq = seq

    def take(self) -> Changes:
        """Return what changed since the last call. Rows are the caller's until the next ``apply``."""
        changes = Changes(
            list(self._changed_orders.values()),
            list(self._trades.values()),
            list(self._changed_positions.values()),
            self._breaches,
            State(self.seq, self.ledger, self.trading_date),
            list(self._amended.values()),
        )
        self._changed_orders.clear()
        self._changed_ids.clear()
        self._changed_positions.clear()
        self._trades, self._amended, self._breaches = {}, {}, []
        return changes

    # Events

    def _on_event(self, event: Event) -> None:
        match event:
            case OrderEvent():
                self._on_order(event)
            case TradeEvent():
                self._on_trade(event)
            case StatusEvent() | ReplaceEvent():
                self._on_change(event)
            case AmendEvent():
                self._on_amend(event)
            case SuspenseEvent():
                self._on_suspense(event)
            case _:
                pass

    def _on_order(self, event: OrderEvent) -> None:
        if event.exec_type is ExecType.REJECTED:
            self._breaches.append(self._breach_of_order(event))
            if not event.takes_key:
                return  # the id may be that of another order, which this refusal is no answer of
        is_open = event.status not in TERMINAL
        waits = event.status is OrderStatus.SUSPENDED  # nothing of it can fill yet
        leaves_e9 = event.quantity_e9 if is_open and not waits else 0
        row = OrderRow(
            event.seq, event.seq, self.ledger, self.trading_date, event.account, event.client_order_id,
            event.order_id, event.strategy, event.instrument, event.side, event.order_type, event.time_in_force,
            event.reduce_only, event.quantity_e9, event.price_e9, event.status, is_open,
            leaves_e9, 0, 0, 0, 0, event.code, "", "", event.source, event.principal,
            event.trace_id, _int64(event.created_at_ns), event.at_ns, event.at_ns,
        )  # fmt: skip
        self._keep_order(row)

    def _on_change(self, event: StatusEvent | ReplaceEvent) -> None:
        if isinstance(event, StatusEvent):
            self._on_status(event)
        else:
            self._on_replace(event)

    def _on_status(self, event: StatusEvent) -> None:
        if not event.changes_order:
            if event.exec_type is ExecType.CANCEL_REJECT and event.code in _CANCEL_BREACHES:
                self._breaches.append(self._breach_of_cancel(event))
            return
        row = self._order(event.seq, event.order_id, event.client_order_id)
        row.seq, row.updated_at_ns = event.seq, event.at_ns
        self._set_status(row, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
        if event.quantity_e9:
            row.quantity_e9, row.price_e9 = event.quantity_e9, event.price_e9
        if event.code is not Code.OK:
            row.code = event.code
        row.venue = event.venue or row.venue
        row.venue_order_id = event.venue_order_id or row.venue_order_id
        self._keep_order(row)

    def _on_replace(self, event: ReplaceEvent) -> None:
        """The order is PENDING_REPLACE; its terms change when the venue says so. A refusal is a breach."""
        if event.exec_type is ExecType.REPLACE_REJECT:
            self._breaches.append(self._breach_of_replace(event))
            return
        row = self._order(event.seq, event.order_id, event.order_client_order_id)
        row.seq, row.updated_at_ns = event.seq, event.at_ns
        self._set_status(row, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
        self._keep_order(row)

    def _on_trade(self, event: TradeEvent) -> None:
        row = self._order(event.seq, event.order_id, event.client_order_id)
        row.seq, row.updated_at_ns = event.seq, event.at_ns
        self._set_status(row, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
        if event.quantity_e9:
            row.quantity_e9, row.price_e9 = event.quantity_e9, event.price_e9
        row.filled_e9 += event.last_quantity_e9
        row.cost_e18 += event.last_quantity_e9 * event.last_price_e9
        row.value_e9 = event.value_e9
        row.venue, row.venue_order_id = event.venue, event.venue_order_id or row.venue_order_id
        self._keep_order(row)
        position = self._position(event.account, event.instrument)
        signed_e9 = event.last_quantity_e9 if event.side is Side.BUY else -event.last_quantity_e9
        position.fill(signed_e9, event.last_price_e9, event.position_e9)
        position.add_fee(event.currency, event.fee_e9)
        self._keep_position(position, event.seq, event.at_ns)
        self._trades[event.venue, event.trade_id] = TradeRow(
            event.seq, self.ledger, self.trading_date, event.venue, event.trade_id, event.account,
            event.client_order_id, event.order_id, event.strategy, event.instrument, int(event.side),
            event.last_quantity_e9, event.last_price_e9, event.liquidity, event.fee_e9, event.currency,
            event.position_e9, event.venue_order_id, event.trace_id, _int64(event.exch_ns), event.at_ns,
            TradeStatus.BOOKED, event.seq, event.at_ns, event.last_quantity_e9, event.last_price_e9,
        )  # fmt: skip

    def _on_amend(self, event: AmendEvent) -> None:
        """Rows as if the trade had come as it is now: fills, value, cost, fees, position and its average."""
        before = self._trade(event.venue, event.trade_id)
        if before is None:
            raise ProjectionError(event.seq, f"changes trade {event.trade_id!r} of {event.venue}, never booked")
        after = amended_trade(before, event)
        self._keep_trade(after)
        if before.client_order_id:  # else it was in suspense, and assigned to no order
            row = self._order(event.seq, event.order_id, event.client_order_id)
            row.seq, row.updated_at_ns = event.seq, event.at_ns
            amend_order(row, before, event)
            if event.knows_order:
                self._set_status(row, event.status, event.leaves_quantity_e9, event.cum_quantity_e9)
            if event.order_quantity_e9:
                row.quantity_e9, row.price_e9 = event.order_quantity_e9, event.order_price_e9
            self._keep_order(row)
        position = self._position(before.account, before.instrument)
        amend_position(position, before, event, self._trades_of(position))
        position.add_fee(before.currency, -before.fee_e9)
        if after.status is TradeStatus.CORRECTED:
            position.add_fee(after.currency, after.fee_e9)
        self._keep_position(position, event.seq, event.at_ns)

    def _on_suspense(self, event: SuspenseEvent) -> None:
        """A fill that is nobody's is a trade that counts nowhere; assigned it counts in one position."""
        known = self._trade(event.venue, event.trade_id)
        if known is None:
            if event.status is TradeStatus.SUSPENSE:
                self._trades[event.venue, event.trade_id] = trade_in_suspense(
                    event, self.ledger, self.trading_date, _int64(event.exch_ns)
                )
            return
        if known.status is not TradeStatus.SUSPENSE:
            return  # said again
        row = resolved_trade(known, event)
        self._keep_trade(row)
        if row.status is TradeStatus.ASSIGNED:
            position = self._position(row.account, row.instrument)
            signed_e9 = row.last_quantity_e9 if row.side == Side.BUY else -row.last_quantity_e9
            position.fill(signed_e9, row.last_price_e9, row.position_e9)
            position.add_fee(row.currency, row.fee_e9)
            position.anchor(event.seq)
            self._keep_position(position, event.seq, event.at_ns)

    def _on_adjust(self, event: AdjustEvent) -> None:
        if event.instrument:  # else cash alone
            position = self._position(event.account, event.instrument)
            position.set(event.quantity_e9, event.price_e9)
            position.anchor(event.seq)
            self._keep_position(position, event.seq, event.at_ns)

    def _on_resolved(self, seq: int, now_ns: int, order_id: str, resolved: ReportDecision) -> None:
        """Book fills that an operator stated: quantity and value, without a trade."""
        row = self._order(seq, order_id, resolved.client_order_id)
        added_e9, value_e9 = row.cum_quantity_e9 - row.filled_e9, resolved.value_e9 - row.value_e9
        if added_e9 <= 0:
            return
        # The value carries the multiplier, so this price is exact for instruments whose multiplier is 1.
        price_e9 = value_e9 * 10**9 // added_e9
        row.filled_e9 += added_e9
        row.cost_e18 += added_e9 * price_e9
        row.value_e9 = resolved.value_e9
        self._keep_order(row)
        position = self._position(resolved.account, resolved.instrument)
        position.fill(added_e9 if resolved.side is Side.BUY else -added_e9, price_e9, resolved.position_e9)
        position.anchor(seq)
        self._keep_position(position, seq, now_ns)

    def _on_queried(self, seq: int, now_ns: int, record: Queried | Reconciled) -> None:
        """In doubt, and asked for: UNKNOWN until a report says what they are."""
        for order_id, _ in record.queries:
            row = self._open_ids.get(order_id) or self._lookup.find_order_id(order_id)
            if row is None:
                raise ProjectionError(seq, f"queries order {order_id!r}, never accepted")
            row.seq, row.updated_at_ns, row.status = seq, now_ns, OrderStatus.UNKNOWN
            self._keep_order(row)

    # Rows

    def _order(self, seq: int, order_id: str, client_order_id: str) -> OrderRow:
        row = self._open_ids.get(order_id) or self._changed_ids.get(order_id) or self._lookup.find_order_id(order_id)
        if row is None:
            raise ProjectionError(seq, f"changes order {client_order_id!r} with id {order_id!r}, never accepted")
        return row

    def _keep_order(self, row: OrderRow) -> None:
        self._changed_orders[row.account, row.client_order_id, row.day] = row
        if row.order_id:
            self._changed_ids[row.order_id] = row
            if row.is_open:
                self._open_ids[row.order_id] = row
            else:
                self._open_ids.pop(row.order_id, None)

    def _set_status(self, row: OrderRow, status: OrderStatus, leaves_e9: int, cum_e9: int) -> None:
        row.status = status
        row.is_open = status not in TERMINAL
        if leaves_e9 >= 0:
            row.leaves_quantity_e9 = leaves_e9
        # What the engine says by itself of a cancel may leave cum out. What takes a fill back has set it before.
        row.cum_quantity_e9 = max(row.cum_quantity_e9, cum_e9)

    def _trade(self, venue: str, trade_id: str) -> TradeRow | None:
        key = (venue, trade_id)
        return self._trades.get(key) or self._amended.get(key) or self._lookup.find_trade(venue, trade_id)

    def _keep_trade(self, row: TradeRow) -> None:
        key = (row.venue, row.trade_id)
        (self._trades if key in self._trades else self._amended)[key] = row

    def _trades_of(self, position: PositionRow) -> Iterator[TradeRow]:
        """Yield the trades of a position since it was set from outside, each in its newest form, oldest first."""
        account, instrument = position.account, position.instrument
        for row in self._lookup.trades_of(account, instrument, position.anchor_seq):
            yield self._amended.get((row.venue, row.trade_id), row)
        for row in self._trades.values():
            if row.account == account and row.instrument == instrument and row.seq > position.anchor_seq:
                yield row

    def _position(self, account: str, instrument: str) -> PositionRow:
        key = (account, instrument)
        row = self._positions.get(key)
        if row is None:
            row = self._lookup.find_position(account, instrument)
            if row is None:
                row = PositionRow(0, self.ledger, account, instrument, 0, 0, {}, 0)
            self._positions[key] = row
        return row

    def _keep_position(self, row: PositionRow, seq: int, at_ns: int) -> None:
        row.seq, row.updated_at_ns = seq, at_ns
        self._changed_positions[row.account, row.instrument] = row

    def _breach_of_order(self, event: OrderEvent) -> BreachRow:
        facts, reference = event.facts or _NO_FACTS, event.reference
        reference_e9, age_ns, source = facts.reference_e9, facts.reference_age_ns, facts.reference_source
        if reference is not None:
            reference_e9, age_ns, source = reference.price_e9, reference.age_ns, reference.source
        return BreachRow(
            event.seq, self.ledger, self.trading_date, "new", event.account, event.client_order_id, event.strategy,
            event.instrument, int(event.side), event.quantity_e9, event.price_e9, event.code, int(facts.expected),
            int(facts.actual), facts.scope, facts.key, reference_e9, age_ns, source, event.takes_key, event.source,
            event.principal, event.trace_id, event.at_ns,
        )  # fmt: skip

    def _breach_of_cancel(self, event: StatusEvent) -> BreachRow:
        facts = event.facts or _NO_FACTS
        return BreachRow(
            event.seq, self.ledger, self.trading_date, "cancel", event.account, event.client_order_id, "", "", 0, 0, 0,
            event.code, int(facts.expected), int(facts.actual), facts.scope, facts.key, 0, 0, ReferenceSource.NONE,
            False, "", "", b"", event.at_ns,
        )  # fmt: skip

    def _breach_of_replace(self, event: ReplaceEvent) -> BreachRow:
        facts, reference = event.facts or _NO_FACTS, event.reference
        reference_e9, age_ns, source = facts.reference_e9, facts.reference_age_ns, facts.reference_source
        if reference is not None:
            reference_e9, age_ns, source = reference.price_e9, reference.age_ns, reference.source
        return BreachRow(
            event.seq, self.ledger, self.trading_date, "replace", event.account, event.client_order_id, "", "", 0,
            event.quantity_e9, event.price_e9, event.code, int(facts.expected), int(facts.actual), facts.scope,
            facts.key, reference_e9, age_ns, source, event.takes_key, event.source, event.principal, event.trace_id,
            event.at_ns,
        )  # fmt: skip


def _int64(value: int) -> int:
    """Return a time from outside as a store can hold it: a producer may claim any."""
    return max(-INT64_MAX, min(value, INT64_MAX))
