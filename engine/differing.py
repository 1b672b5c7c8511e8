"""Filled quantities that differ: what the venue counts of an order, and what is counted of it here.

A report that fills or ends an order says how much of it has filled in all (FIX CumQty). Another sum than the order's
own with this report means that a report was missed (theirs is more) or that a trade counts here that does not count
there (theirs is less: one under two ids, or one taken back of which nothing was said). Rules:

- each trade counts by its id, once, whatever the sums say: what was reported is held, what was not can't be made up;
- the order is UNKNOWN until the venue answers a numbered query, or a report with a sum that agrees ends the doubt; it
  stays reserved as it is, and is never sent again;
- its account is in reduce-only until a person looked: of a trade too many an exit could sell what is not there.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from engine.order import Order, OutgoingKind
from engine.order_state import Happening, next_status
from engine.state import State
from engine.venue_state import VenueState
from protocol.codes import ExecType, Scope, TradingState
from protocol.decisions import ReportDecision, ReportEffect
from protocol.records import Queried
from protocol.venue import Report

SUMMED: Final = frozenset({ExecType.TRADE, ExecType.CANCELED, ExecType.EXPIRED})
"""Reports that say what has filled in all; what a status says is compared before it is believed (``described``)."""


def effect_of_cum(report: Report) -> ReportEffect:
    """Return the effect of a report whose filled quantity is not the order's own.

    None said (0) differs from nothing; a report without a number is an operator's, who says none.
    """
    if report.cum_quantity_e9 and report.report_seq and report.exec_type in SUMMED:
        return ReportEffect.CUM_DIFFERS
    return ReportEffect.APPLIED


def compared(decision: ReportDecision, report: Report, cum_e9: int) -> ReportDecision:
    """Return the decision of a report, its filled quantity compared with the order's."""
    if report.cum_quantity_e9 == cum_e9 or decision.effect is not ReportEffect.APPLIED:
        return decision
    return structs.replace(decision, effect=effect_of_cum(report))


def note_differing(state: State, venue: VenueState, order: Order) -> None:
    """Write that the venue counts other fills of an order; if it is open and can be asked for, it has to be."""
    why = f"venue {venue.name} counts other fills of {order.order_id}"
    state.raise_state(Scope.ACCOUNT, order.account, TradingState.REDUCING, why)
    can_ask = venue.capabilities is None or venue.capabilities.query
    if can_ask and order.order_id in state.orders and order.order_id not in venue.differing:
        venue.differing = (*venue.differing, order.order_id)


def decide_differing(state: State, venue: VenueState) -> Queried | None:
    """Return the numbered queries for what has to be asked for; None if nothing of it is open."""
    doubtful = [order_id for order_id in venue.differing if order_id in state.orders]
    if not doubtful:
        return None
    queries = [(order_id, venue.last_seq + n) for n, order_id in enumerate(doubtful, start=1)]
    return Queried(venue.name, queries, is_of_cum=True)


def apply_differing(state: State, record: Queried, now_ns: int) -> None:
    """Write: the orders are UNKNOWN until their queries are answered; what else waits for an answer goes on waiting."""
    venue = state.venues[record.venue]
    venue.differing = ()
    for order_id, seq in record.queries:
        order = state.orders[order_id]
        venue.doubted[order_id] = None
        status = next_status(order.status, Happening.LOST, is_filled_partly=order.cum > 0)
        if status is not None:
            state.set_status(order, status)
        venue.add(seq, OutgoingKind.QUERY, order, now_ns)
