"""A report's decision as it stands in the record: what it did, and the order after it."""

from __future__ import annotations

from engine.order import Order, Replacement
from protocol.codes import TERMINAL, OrderStatus
from protocol.decisions import ReplaceAnswer, ReportDecision, ReportEffect
from protocol.units import INT64_MAX
from protocol.venue import Report

TAKEN = ReplaceAnswer.TAKEN


def described(
    order: Order,
    effect: ReportEffect,
    status: OrderStatus,
    leaves: int,
    cum: int,
    filled: int,
    report: Report | None = None,
    answer: ReplaceAnswer = ReplaceAnswer.NONE,
) -> ReportDecision:
    """Return the decision; quantities in steps.

    Args:
        order: As it is before.
        effect: What the report does.
        status: After it, as ``leaves`` and ``cum`` are.
        leaves: What is still to fill.
        cum: What has filled.
        filled: By this report; 0 = none.
        report: Needed for a fill.
        answer: To the replace that was unanswered; TAKEN: its terms are the order's.
    """
    route = order.route
    instrument = route.instrument
    step = instrument.quantity_step_e9
    price_step = instrument.price_step_e9
    value_e9 = order.value_e9
    position = route.ledger.position
    if filled:
        assert report is not None
        value_e9 += instrument.value_e9(filled, report.last_price_e9 // price_step)
        value_e9 = min(value_e9, INT64_MAX)  # of one order: its limit value was checked, a better price may not fit
        position += filled if order.side == 1 else -filled
    quantity, price, stop_price = order.quantity, order.limit_price, 0
    terms = order.terms
    if terms is not None:
        stop_price = terms.stop_price
        if answer is TAKEN:
            asked = terms.replacement
            assert asked is not None
            quantity, price, stop_price = asked.quantity, asked.price, asked.stop_price
    return ReportDecision(
        effect, order.account, order.client_order_id, route.strategy.name, instrument.name, order.side,
        order.order_type, order.time_in_force, quantity * step, price * price_step, status, leaves * step, cum * step,
        value_e9, position * step, order.trace_id, stop_price * price_step, answer,
    )  # fmt: skip


def unchanged(order: Order, effect: ReportEffect) -> ReportDecision:
    """Return the decision of a report that leaves the order as it is."""
    leaves = 0 if order.status in TERMINAL else order.quantity - order.cum
    return described(order, effect, order.status, leaves, order.cum, 0)


def is_credible(report: Report, order: Order, cum_e9: int) -> bool:
    """Whether what a report says was traded can be: by an id, at a price, an amount that fits.

    A trade without an id could not be told from the next one, and one at no price has no value. Refused, the order
    stays reserved as it is and a person is called, who enters the trade by hand.
    """
    position = order.route.ledger.position * order.route.instrument.quantity_step_e9
    return (
        bool(report.trade_id)
        and report.last_quantity_e9 > 0
        and abs(position) + report.last_quantity_e9 <= INT64_MAX
        and cum_e9 <= INT64_MAX
        and 0 < report.last_price_e9 <= INT64_MAX
    )


def agrees(report: Report, order: Order) -> bool:
    """Whether a status tells of the fills that were reported: none is missing, and FILLED means all."""
    if report.cum_quantity_e9 != order.cum * order.route.instrument.quantity_step_e9:
        return False
    if report.status is not OrderStatus.FILLED or order.cum >= order.quantity:
        return True
    asked = order.terms.replacement if order.terms is not None else None
    return asked is not None and order.cum == asked.quantity


def matches(asked: Replacement, quantity: int, price: int, stop_price: int) -> bool:
    """Whether these are the terms that were asked for."""
    return asked.quantity == quantity and asked.price == price and asked.stop_price == stop_price
