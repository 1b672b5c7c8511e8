"""Paper orders: what a breach routed to ``sandbox`` becomes; ``decide`` reads, ``apply`` writes (DESIGN 6.14).

A paper order has a route of its own: the account's paper side, a ledger and a strategy's part of it that no real order
ever reads, and no limits. So whatever its fills move is apart from what real verdicts are made of, and an exit is
judged by the position of its own side. While (account, strategy, instrument) has a paper position or order, every new
order of that key is paper; a key with a real position or order does not become paper.

The paper side trades at the venue of its instrument, which a paper engine knows to be simulated. In a live engine there
is no simulated venue to send to, so there the breach is refused with its own code (DECISIONS 22).
"""

from __future__ import annotations

from typing import Final

from engine.dedup import payload_hash, value_of
from engine.order import Order, OutgoingKind, Terms
from engine.orders import Breach, Defer, Orders
from engine.paper_scopes import paper_route
from engine.refusals import CHECKS_ALL, refused_new
from engine.state import State
from protocol.codes import Code, Mode, OrderStatus, OrderType, OutcomeKind, RetryReason, Scope, Side, TimeInForce
from protocol.decisions import NewDecision, OrderClass, Reference
from protocol.orders import NAME_CHARS_MAX, NewOrder, TermedOrder
from protocol.paper import PAPER, PaperOrdered, is_paper, paper_name
from protocol.session import Facts
from risk.gate.evidence import facts_of
from risk.gate.exposure import AccountState, Ledger, Route
from risk.gate.forward import forwarded
from risk.gate.fused import first_refusal
from risk.gate.termed import first_termed_refusal
from risk.gate.view import View

OK: Final = Code.OK
PENDING_NEW: Final = OrderStatus.PENDING_NEW
ACCOUNT_CHARS_MAX: Final = NAME_CHARS_MAX - len(PAPER)
PAPER_OPEN_MAX: Final = 4096
"""Open paper orders in all: no limit of an account bounds them, and each takes memory."""


class Papers:
    """Decides and applies paper orders over one State."""

    __slots__ = ("_orders", "_state", "_view")

    def __init__(self, state: State, orders: Orders) -> None:
        self._state = state
        self._orders = orders
        self._view = View()

    def takes(self, code: Code) -> bool:
        """Whether a breach with this code is for here to decide."""
        return code is Code.PAPER_KEY or code in self._state.risk.sandboxes

    def decide(
        self,
        breach: Breach,
        order: NewOrder,
        created_at_ns: int,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> NewDecision | Defer:
        """Say whether an order becomes paper, or is refused after all.

        Args:
            breach: Why it is not a real one: PAPER_KEY, or the first check that refuses it, with its view.
            order: The command.
            created_at_ns: When its producer made it, UTC.
            now_ns: The batch's clock read, UTC nanoseconds.
            reference: Price the order is checked against; None = no fresh one.
            defer: Why new risk can't be taken now; exits pass.
        """
        is_termed = isinstance(order, TermedOrder)
        is_first = breach.code is not Code.PAPER_KEY
        facts: Facts | None = None
        if is_first:
            refused = self._refused(breach, is_termed=is_termed)
            if refused is not OK:
                return refused_new(refused, breach.view, order)
            facts = facts_of(breach.code, breach.view)
        view = self._look(order, created_at_ns, self._route(order), now_ns, reference)
        instrument = view.route.instrument
        venue = self._state.venues[instrument.venue]
        dedup = self._state.dedup
        if defer is not None or dedup.keys >= dedup.keys_max or not venue.ready:
            deferred = self._orders.deferred(view, venue, defer)
            if deferred is not None:
                return deferred
        code = first_termed_refusal(view) if is_termed else first_refusal(view)
        if code is not OK:
            return refused_new(code, view, order)
        count = sum(a.open_count for a in self._state.accounts.values() if is_paper(a.name))
        if count >= PAPER_OPEN_MAX and not view.is_exit:
            full = Facts(PAPER_OPEN_MAX, count + 1, Scope.ACCOUNT, view.route.account.name)
            return NewDecision(OutcomeKind.REJECTED, Code.PAPER_OPEN_MAX, checks_passed=CHECKS_ALL, facts=full)
        after_e9 = view.reach * instrument.quantity_step_e9
        return NewDecision(
            OutcomeKind.PAPER, breach.code, self._orders.order_id(breach.id_key, self._state.trading_date),
            venue.last_seq + 1, CHECKS_ALL, after_e9 if view.side is Side.BUY else -after_e9, -1,
            OrderClass.EXIT if view.is_exit else OrderClass.INC, facts=facts,
        )  # fmt: skip

    def _refused(self, breach: Breach, *, is_termed: bool) -> Code:
        """Return the code that refuses an order of a key that is not paper; OK = it may become paper.

        Every check that refuses it must be routed here. An exit never is paper, and a key with anything real is real.
        """
        view = breach.view
        codes, refused = forwarded(view, self._state.risk.sandboxes, is_termed=is_termed)
        if not codes:
            return refused if refused is not OK else breach.code
        is_live = self._state.mode is Mode.LIVE or len(view.route.account.name) > ACCOUNT_CHARS_MAX
        return breach.code if is_live or view.is_exit or self._is_real(view.route) else OK

    def _is_real(self, route: Route) -> bool:
        """Whether the key has a real position or order, one that waits and reserves nothing too."""
        own = route.own
        if own.position or own.buy or own.sell:
            return True
        orders = self._state.orders
        return any(orders[order_id].route is route for order_id in self._state.exits)

    def _route(self, order: NewOrder) -> Route:
        """Return the paper route of the order; one that is kept nowhere while its account has no paper side."""
        state = self._state
        name = paper_name(order.account)
        if name in state.accounts:
            return state.route(name, order.strategy, order.instrument)
        account = AccountState(name, state.accounts[order.account].currency)
        real = state.route(order.account, order.strategy, order.instrument)
        return paper_route(real, account, Ledger())

    def _look(
        self, order: NewOrder, created_at_ns: int, route: Route, now_ns: int, reference: Reference | None
    ) -> View:
        state, view = self._state, self._view
        assert state.params is not None
        view.order_age_max_ns, view.skew_max_ns = state.params.order_age_max_ns, state.params.skew_max_ns
        view.look(state.book, order, created_at_ns, route, now_ns, reference)
        if isinstance(order, TermedOrder):
            view.look_terms(order.stop_price_e9, order.expire_at_ns, order.post_only)
        return view

    def apply(self, record: PaperOrdered, order: NewOrder, position: int, now_ns: int) -> None:
        """Write what ``decide`` decided: the key, the paper side where it is new, the order, its venue command."""
        state, item, decision = self._state, record.item, record.decision
        low, high, _ = state.keys.key(order.account, order.client_order_id)
        slot = state.dedup.take_key(low, high, payload_hash(item.command), value_of(position, PENDING_NEW))
        account = paper_name(order.account)
        if account not in state.accounts:
            state.accounts[account] = AccountState(account, state.accounts[order.account].currency)
        route = state.route(account, order.strategy, order.instrument)
        for permit in state.permits.values():
            permit.forget(order.account, order.strategy)  # or its real route would be found there
        view = self._look(order, item.created_at_ns, route, now_ns, record.reference)
        is_at_price = order.order_type is OrderType.LIMIT or order.order_type is OrderType.STOP_LIMIT
        opened = Order(
            route, order.side, view.price, view.quantity, view.value_e9, account, order.client_order_id,
            decision.order_id, order.order_type, order.time_in_force, PENDING_NEW, view.quantity,
            view.price if is_at_price else 0, order.reduce_only, decision.venue_seq, now_ns, item.created_at_ns,
            item.trace_id, slot,
        )  # fmt: skip
        opened.source = record.source
        opened.is_exit = decision.order_class is OrderClass.EXIT
        if isinstance(order, TermedOrder):
            expire_at_ns = order.expire_at_ns if order.time_in_force is TimeInForce.GTD else 0
            opened.terms = Terms(view.stop_price, expire_at_ns, order.post_only)
        state.orders[opened.order_id] = opened
        state.book.open(opened, now_ns)
        state.venues[route.instrument.venue].add(decision.venue_seq, OutgoingKind.NEW, opened, now_ns)
