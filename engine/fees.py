"""Money that moves besides a trade's own: fees, resolved orders, positions carried at a price. ``apply`` calls it.

Rule: what is booked is what the venue reports (DECISIONS 21), and what is taken back is what was booked.
"""

from __future__ import annotations

from typing import Final

from engine.order import Order
from engine.state import State
from engine.venue_state import Counted
from protocol.codes import Side
from protocol.paper import is_paper
from protocol.params import ContractKind
from protocol.records import Adjusted
from protocol.venue import Report
from risk.gate.exposure import Ledger, Route
from risk.gate.money import paid_e9

BUY: Final = Side.BUY


def book_trade(state: State, order: Order, filled: int, report: Report) -> Counted:
    """Book what a trade of ``filled`` steps paid and cost, and return what it counted."""
    route = order.route
    signed = filled if order.side is BUY else -filled
    price_e9 = report.last_price_e9
    paid_e9 = state.book.pay(route, signed, price_e9)
    if not report.fee_e9:
        return order.order_id, route, signed, price_e9, paid_e9, 0, ""
    fee_e9, currency = book_fee(state, route, report.fee_e9, report.currency)
    return order.order_id, route, signed, price_e9, paid_e9, fee_e9, currency


def book_fee(state: State, route: Route, fee_e9: int, currency: str) -> tuple[int, str]:
    """Book a fee and return it as booked; one without a currency is of the instrument's."""
    if not fee_e9 or not state.book.money.is_booked:
        return 0, ""
    currency = currency or route.instrument.currency
    _pay_fee(state, route, currency, fee_e9)
    return fee_e9, currency


def amend_fee(state: State, route: Route, fee_e9: int, currency: str, report: Report | None) -> tuple[int, str]:
    """Book what becomes of a booked fee, and return it: gone with its trade (None), or as the correction says.

    A correction that names no currency says nothing of the fee. A fee that was not booked stays so.
    """
    if not state.book.money.is_booked or (report is not None and not report.currency):
        return fee_e9, currency
    to_e9, to_currency = (0, "") if report is None else (report.fee_e9, report.currency)
    if fee_e9:
        _pay_fee(state, route, currency, -fee_e9)
    if to_e9:
        _pay_fee(state, route, to_currency, to_e9)
    return to_e9, to_currency


def _pay_fee(state: State, route: Route, currency: str, fee_e9: int) -> None:
    route.account.pay_fee(currency, fee_e9)
    if state.losses.scopes and not is_paper(route.account.name):  # losses are of what is real
        state.losses.pay_fee(route.account.name, route.strategy.name, currency, fee_e9)


def pay_value(state: State, order: Order, value_e9: int) -> None:
    """Book what an operator says has filled of an order, of which only the value is known: rounded as values are."""
    if not state.book.money.is_booked:
        return
    pays = (order.side is BUY) is not (order.route.instrument.kind is ContractKind.INVERSE)
    state.book.move_money(order.route, -value_e9 if pays else value_e9)


def carry(state: State, ledger: Ledger, record: Adjusted) -> None:
    """Let a position that was set from outside be as if just taken at the price it is carried at, unpaid.

    What it had gained before is settled by that, and belongs into the cash that is adjusted with it. Without a price a
    position that is not 0 keeps what its trades paid.
    """
    if not state.book.money.is_booked:
        return
    if record.price_e9 > 0 or not record.quantity_e9:
        instrument = state.instruments[record.instrument]
        held_e9, price_e9 = record.quantity_e9, max(record.price_e9, 1)
        ledger.traded_e9 = paid_e9(instrument.kind, instrument.multiplier_e9, held_e9, price_e9)
