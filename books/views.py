"""What the API shows of rows: decimal strings, FIX names, enumerations by name. Pure."""

from __future__ import annotations

from msgspec import Struct

from books.store import Row
from journal.rows import BreachRow, OrderRow, PositionRow, TradeRow
from protocol.codes import Side
from protocol.session import Facts
from protocol.texts import refusal_text
from protocol.units import format_e9


class OrderView(Struct):
    """One order. Prices and quantities are decimal strings, times UTC nanoseconds, ``day`` the trading date."""

    account: str
    client_order_id: str
    order_id: str
    ledger: str
    day: int
    strategy: str
    instrument: str
    side: str
    order_type: str
    time_in_force: str
    reduce_only: bool
    quantity: str
    price: str
    status: str
    open: bool
    leaves_quantity: str
    cum_quantity: str
    avg_price: str
    code: str
    venue: str
    venue_order_id: str
    source: str
    principal: str
    trace_id: str
    created_at_ns: int
    accepted_at_ns: int
    updated_at_ns: int
    accepted_seq: int
    seq: int


class TradeView(Struct):
    """One fill; ``position`` is what the account held after it, ``fee`` in ``currency``, negative is a rebate.

    ``status``: BOOKED and CORRECTED count, as ASSIGNED does; BUSTED (the venue took it back) and DISMISSED do not;
    SUSPENSE is a fill of an order that nobody knows, and counts nowhere yet. ``first_*`` are the terms it came with,
    ``changed_seq`` is the record that changed it last.
    """

    venue: str
    trade_id: str
    ledger: str
    day: int
    account: str
    client_order_id: str
    order_id: str
    venue_order_id: str
    strategy: str
    instrument: str
    side: str
    last_quantity: str
    last_price: str
    liquidity: str
    fee: str
    currency: str
    position: str
    trace_id: str
    exch_ns: int
    at_ns: int
    seq: int
    status: str
    first_quantity: str
    first_price: str
    changed_seq: int
    changed_at_ns: int


class PositionView(Struct):
    """What an account holds: ``avg_price`` by average cost, ``fees`` paid so far by currency."""

    account: str
    instrument: str
    ledger: str
    quantity: str
    avg_price: str
    fees: dict[str, str]
    updated_at_ns: int
    seq: int


class BreachView(Struct):
    """One refusal: ``text`` says what was expected and what it was; ``reference``: the price it was checked against."""

    seq: int
    ledger: str
    day: int
    command: str
    account: str
    client_order_id: str
    strategy: str
    instrument: str
    side: str
    quantity: str
    price: str
    code: str
    text: str
    scope: str
    scope_key: str
    reference: str
    reference_age_ns: int
    reference_source: str
    source: str
    principal: str
    trace_id: str
    at_ns: int


View = OrderView | TradeView | PositionView | BreachView


def view(row: Row) -> View:
    """Return the row as the API shows it."""
    match row:
        case OrderRow():
            return _order(row)
        case TradeRow():
            return _trade(row)
        case PositionRow():
            return _position(row)
        case BreachRow():
            return _breach(row)


def _order(row: OrderRow) -> OrderView:
    return OrderView(
        account=row.account,
        client_order_id=row.client_order_id,
        order_id=row.order_id,
        ledger=row.ledger,
        day=row.day,
        strategy=row.strategy,
        instrument=row.instrument,
        side=row.side.name,
        order_type=row.order_type.name,
        time_in_force=row.time_in_force.name,
        reduce_only=row.reduce_only,
        quantity=format_e9(row.quantity_e9),
        price=format_e9(row.price_e9),
        status=row.status.name,
        open=row.is_open,
        leaves_quantity=format_e9(row.leaves_quantity_e9),
        cum_quantity=format_e9(row.cum_quantity_e9),
        avg_price=format_e9(row.avg_price_e9),
        code=row.code.name,
        venue=row.venue,
        venue_order_id=row.venue_order_id,
        source=row.source,
        principal=row.principal,
        trace_id=row.trace_id.hex(),
        created_at_ns=row.created_at_ns,
        accepted_at_ns=row.accepted_at_ns,
        updated_at_ns=row.updated_at_ns,
        accepted_seq=row.accepted_seq,
        seq=row.seq,
    )


def _trade(row: TradeRow) -> TradeView:
    return TradeView(
        venue=row.venue,
        trade_id=row.trade_id,
        ledger=row.ledger,
        day=row.day,
        account=row.account,
        client_order_id=row.client_order_id,
        order_id=row.order_id,
        venue_order_id=row.venue_order_id,
        strategy=row.strategy,
        instrument=row.instrument,
        side=Side(row.side).name if row.side else "",
        last_quantity=format_e9(row.last_quantity_e9),
        last_price=format_e9(row.last_price_e9),
        liquidity=row.liquidity.name,
        fee=format_e9(row.fee_e9),
        currency=row.currency,
        position=format_e9(row.position_e9),
        trace_id=row.trace_id.hex(),
        exch_ns=row.exch_ns,
        at_ns=row.at_ns,
        seq=row.seq,
        status=row.status.name,
        first_quantity=format_e9(row.first_quantity_e9),
        first_price=format_e9(row.first_price_e9),
        changed_seq=row.changed_seq,
        changed_at_ns=row.changed_at_ns,
    )


def _position(row: PositionRow) -> PositionView:
    return PositionView(
        account=row.account,
        instrument=row.instrument,
        ledger=row.ledger,
        quantity=format_e9(row.quantity_e9),
        avg_price=format_e9(row.avg_price_e9),
        fees={currency: format_e9(fee_e9) for currency, fee_e9 in sorted(row.fees_e9.items())},
        updated_at_ns=row.updated_at_ns,
        seq=row.seq,
    )


def _breach(row: BreachRow) -> BreachView:
    facts = Facts(
        row.expected,
        row.actual,
        row.scope,
        row.scope_key,
        row.reference_e9,
        row.reference_age_ns,
        row.reference_source,
    )
    return BreachView(
        seq=row.seq,
        ledger=row.ledger,
        day=row.day,
        command=row.command,
        account=row.account,
        client_order_id=row.client_order_id,
        strategy=row.strategy,
        instrument=row.instrument,
        side=Side(row.side).name if row.side else "",
        quantity=format_e9(row.quantity_e9),
        price=format_e9(row.price_e9),
        code=row.code.name,
        text=refusal_text(row.code, facts),
        scope=row.scope.name,
        scope_key=row.scope_key,
        reference=format_e9(row.reference_e9),
        reference_age_ns=row.reference_age_ns,
        reference_source=row.reference_source.name,
        source=row.source,
        principal=row.principal,
        trace_id=row.trace_id.hex(),
        at_ns=row.at_ns,
    )
