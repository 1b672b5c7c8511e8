"""What every check would say of an order now, without deciding anything: for ``wojak limits explain``.

Works on a state that runs and on one that was made of a configuration alone (``cli.explain``). Nothing is journaled,
charged or reserved, and no key is taken.
"""

from __future__ import annotations

from typing import Final

from engine.core import Core
from engine.explained_losses import explain_losses
from engine.state import State
from protocol.codes import Code, Scope
from protocol.decisions import Reference
from protocol.explained import Explained
from protocol.orders import NewOrder, TermedOrder
from protocol.paper import paper_name
from protocol.session import Facts
from risk.gate.explaining import explain_view
from risk.gate.exposure import Route
from risk.gate.view import View

ENVELOPE: Final = (
    Code.AUTH_NOT_PERMITTED,
    Code.WRONG_SHARD,
    Code.ACCOUNT_UNKNOWN,
    Code.STRATEGY_UNKNOWN,
    Code.INSTR_UNKNOWN,
)
"""What is checked before an order has a route, in this order."""


def explain_order(
    core: Core, order: NewOrder, sent_by: tuple[str, str], created_at_ns: int, now_ns: int, reference: Reference | None
) -> list[Explained]:
    """Return every check of an order; up to the first that refuses, where it goes nowhere.

    Args:
        core: Its state is read, and not changed.
        order: As a sidecar would send it.
        sent_by: Source and principal.
        created_at_ns: When its producer made it, UTC.
        now_ns: The time it is checked at, UTC.
        reference: Price it is checked against; None = no fresh one.
    """
    state = core.state
    route = core.orders.find_route(state.permit(*sent_by), order)
    if route is Code.PAPER_KEY:
        route = state.route(paper_name(order.account), order.strategy, order.instrument)
    if not isinstance(route, Route):
        passed = ENVELOPE[: ENVELOPE.index(route)]
        return [*(Explained("", code, True) for code in passed), Explained("", route, False)]
    low, high, _ = state.keys.key(order.account, order.client_order_id)
    answers = [Explained("", code, True) for code in ENVELOPE]
    answers.append(Explained("", Code.ID_CONFLICT, state.dedup.find(low, high) < 0))
    view = view_of(state, order, route, created_at_ns, now_ns, reference)
    answers += explain_view(view, is_termed=_is_termed(order))
    answers += explain_losses(state, route, is_exit=view.is_exit)
    venue = state.venues[route.instrument.venue]
    answers.append(Explained("", Code.VENUE_DOWN, venue.ready, Facts(0, 0, Scope.INSTRUMENT, route.instrument.name)))
    return answers


def view_of(
    state: State, order: NewOrder, route: Route, created_at_ns: int, now_ns: int, reference: Reference | None
) -> View:
    """Return the order as the checks see it."""
    params = state.params
    assert params is not None
    view = View()
    view.order_age_max_ns = params.order_age_max_ns
    view.skew_max_ns = params.skew_max_ns
    # All checks are asked, also behind the one that a plain order of a wrong type would end at.
    view.stop_price = view.stop_price_e9 = view.off_stop = view.expire_at_ns = 0
    view.post_only = False
    view.look(state.book, order, created_at_ns, route, now_ns, reference)
    if isinstance(order, TermedOrder):
        view.look_terms(order.stop_price_e9, order.expire_at_ns, order.post_only)
    return view


def _is_termed(order: NewOrder) -> bool:
    return isinstance(order, TermedOrder)
