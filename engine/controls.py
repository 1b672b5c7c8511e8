"""Operator controls, clock jumps, parameters, opening positions: ``decide_*`` reads, ``apply_*`` writes.

Halt cancels nothing, kill does; an operator's reduce-only cancels what increases, an automatic one does not
(DECISIONS 20). Severity is raised by anyone and lowered only by an operator (RISK.md A6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.dedup import payload_hash, value_of
from engine.drift import note_drift
from engine.fees import carry
from engine.losses import take_word
from engine.order import Order
from engine.orders import Orders
from engine.paper_scopes import reset_paper
from engine.reports import Reports
from engine.state import CLOCK_JUMPED, ENGINE, Halt, State
from protocol.codes import AT_NO_VENUE, TERMINAL, Code, OrderStatus, Scope, Side, TradingState
from protocol.decisions import EngineCancel, ReplaceAnswer, ReportDecision, ReportEffect
from protocol.orders import CancelOrder, command_decoder
from protocol.paper import is_paper, real_name
from protocol.records import Adjusted, Clocked, ControlAction, Controlled, Failed
from protocol.units import INT64_MAX

NS_PER_MS: Final = 1_000_000
CANCELS_MAX: Final = 4096
"""Cancels in one record; a larger kill is several records of one batch, the first of which sets the state."""

_STATES: Final = {
    ControlAction.HALT: TradingState.HALTED,
    ControlAction.KILL: TradingState.HALTED,
    ControlAction.REDUCE_ONLY: TradingState.REDUCING,
    ControlAction.RESUME: TradingState.ACTIVE,
}


_CHOOSING: Final = frozenset({ControlAction.KILL, ControlAction.REDUCE_ONLY})


class Controls:
    """Decides and applies controls over one State."""

    __slots__ = ("_orders", "_reports", "_state")

    def __init__(self, state: State, orders: Orders, reports: Reports) -> None:
        self._state = state
        self._orders = orders
        self._reports = reports

    def decide_control(
        self,
        action: ControlAction,
        scope: Scope,
        key: str,
        operator: str,
        reason: str,
        unsent_from: dict[str, int],
    ) -> Iterator[Controlled]:
        """Yield the records of one control. Each must be applied before the next is drawn.

        ``unsent_from``: per venue, the first number that surely was never sent (a fact of the loop).
        """
        doomed = self._doomed(action, scope, key)
        for start in range(0, max(1, len(doomed)), CANCELS_MAX):
            cancels = self.cancels_of(doomed[start : start + CANCELS_MAX], unsent_from, Code.OK)
            yield Controlled(action, scope, key, operator, reason, False, cancels)

    def decide_disconnect(self, source: str, away_ns: int, unsent_from: dict[str, int]) -> Iterator[Controlled]:
        """Yield the records of a source's absence: none if nothing of it has to be cancelled. Applied one by one."""
        doomed = self._left_behind(source, away_ns)
        reason = f"source {source} away for {away_ns // NS_PER_MS} ms"
        for start in range(0, len(doomed), CANCELS_MAX):
            cancels = self.cancels_of(doomed[start : start + CANCELS_MAX], unsent_from, Code.OK)
            yield Controlled(
                ControlAction.DISCONNECT, Scope.GLOBAL, source, ENGINE, reason, True, cancels, away_ns=away_ns
            )

    def is_decided_again(self, record: Controlled) -> bool | None:
        """Return whether the recorded cancels are the orders that are cancelled now; None where none are chosen.

        Which of them were never sent only the loop knew.
        """
        if record.action is ControlAction.DISCONNECT:
            doomed = self._left_behind(record.key, record.away_ns)
        elif record.action in _CHOOSING:
            doomed = self._doomed(record.action, record.scope, record.key)
        else:
            return None
        return [o.order_id for o in doomed[:CANCELS_MAX]] == [c.order_id for c in record.cancels]

    def _doomed(self, action: ControlAction, scope: Scope, key: str) -> list[Order]:
        """Return what the control cancels, as far as it is not being cancelled already."""
        orders = self._state.orders
        if action is ControlAction.KILL:
            doomed = [o for o in orders.values() if is_in(o, scope, key)]
        elif action is ControlAction.REDUCE_ONLY:
            # As the gate judges: a strategy that reduces has its own ledger (RISK.md A1).
            newest_first = [o for o in reversed(orders.values()) if is_in(o, scope, key)]
            doomed = _beyond_exits(newest_first, own=scope is Scope.STRATEGY)
        else:
            return []
        return [o for o in doomed if not o.cancel_seq]

    def _left_behind(self, source: str, away_ns: int) -> list[Order]:
        """Return the open orders that came through a source that is away too long for them."""
        state = self._state
        params, channel = state.params, state.channels.get(source)
        if params is None or channel is None:
            return []
        waits = {a.account: a.disconnect_ns for a in params.accounts if a.disconnect_ns >= 0}
        wait_ns = channel.disconnect_ns
        found = [
            o for o in reversed(state.orders.values())
            if o.source == source and 0 < waits.get(real_name(o.account), wait_ns) <= away_ns
        ]  # fmt: skip
        if channel.keep_exits:
            found = _beyond_exits(found, own=False)
        return [o for o in found if not o.cancel_seq]

    def cancels_of(self, doomed: list[Order], unsent_from: dict[str, int], sent_code: Code) -> list[EngineCancel]:
        """Return the cancels of open orders: numbered for the venue, or void where never sent.

        ``sent_code`` says why of those that go to the venue; OK = as the control's own record says.
        """
        last_seq = {name: venue.last_seq for name, venue in self._state.venues.items()}
        unsent_code = Code.UNSENT_KILLED if sent_code is Code.OK else sent_code
        cancels: list[EngineCancel] = []
        for order in doomed:
            venue = order.route.instrument.venue
            cum_e9 = order.cum * order.route.instrument.quantity_step_e9
            names = (order.account, order.client_order_id, order.order_id)
            if order.status in AT_NO_VENUE:
                cancels.append(EngineCancel(*names, 0, 0, unsent_code, cum_e9))
            elif order.venue_seq >= unsent_from.get(venue, 1 << 62):
                cancels.append(EngineCancel(*names, 0, order.venue_seq, unsent_code, cum_e9))
            else:
                last_seq[venue] += 1
                asked = order.terms.replacement if order.terms is not None else None
                unsent = asked is not None and asked.seq >= unsent_from.get(venue, 1 << 62)
                voids_seq = asked.seq if asked is not None and unsent else 0
                cancels.append(EngineCancel(*names, last_seq[venue], voids_seq, sent_code, cum_e9))
        return cancels

    def apply_cancels(self, cancels: list[EngineCancel], now_ns: int) -> None:
        """Write what ``cancels_of`` decided."""
        for cancel in cancels:
            if cancel.venue_seq:
                order = self._state.orders[cancel.order_id]
                if cancel.voids_seq:
                    self._reports.refuse_replace(order)
                self._orders.cancel_at_venue(order, cancel.venue_seq, now_ns)
            else:
                self._reports.apply_unsent(cancel)

    def decide_resolve(
        self, order_id: str, status: OrderStatus, cum_quantity_e9: int, avg_price_e9: int, operator: str, reason: str
    ) -> Controlled | str:
        """Return the record of an operator's word on an UNKNOWN order, or why it can't be taken."""
        order = self._state.orders.get(order_id)
        if order is None or order.status is not OrderStatus.UNKNOWN:
            was = "no open order" if order is None else order.status.name
            return f"order {order_id} expected UNKNOWN, was {was}; see: wojak orders --unknown"
        instrument = order.route.instrument
        cum, off = divmod(cum_quantity_e9, instrument.quantity_step_e9)
        price = avg_price_e9 // instrument.price_step_e9
        is_all = cum in {order.quantity, order.quantity_most}  # of two totals, one may be working
        quantity = max(order.quantity, cum)
        if (
            status not in TERMINAL or off or not order.cum <= cum <= order.quantity_most
            or (status is OrderStatus.FILLED) != is_all or (cum > order.cum and price < 1)
        ):  # fmt: skip
            return (
                f"resolve expected a final status, {order.cum} to {order.quantity_most} filled steps of "
                f"{instrument.quantity_step_e9} e9 (all of them if FILLED, and only then) and a price of what filled, "
                f"was {status.name}, {cum_quantity_e9} e9 at {avg_price_e9} e9"
            )
        filled = cum - order.cum
        value_e9 = min(order.value_e9 + (instrument.value_e9(filled, price) if filled else 0), INT64_MAX)
        position = order.route.ledger.position + (filled if order.side is Side.BUY else -filled)
        step = instrument.quantity_step_e9
        resolved = ReportDecision(
            ReportEffect.APPLIED, order.account, order.client_order_id, order.route.strategy.name, instrument.name,
            order.side, order.order_type, order.time_in_force, quantity * step,
            order.limit_price * instrument.price_step_e9, status, 0, cum_quantity_e9, value_e9, position * step,
            order.trace_id, replace_answer=ReplaceAnswer.TAKEN if cum > order.quantity else ReplaceAnswer.NONE,
        )  # fmt: skip
        return Controlled(ControlAction.RESOLVE, Scope.GLOBAL, order_id, operator, reason, False, [], resolved)

    def apply_controlled(self, record: Controlled, now_ns: int) -> None:
        """Write a control."""
        state = self._state
        if record.action is ControlAction.RESOLVE:
            assert record.resolved is not None
            self._reports.apply_resolved(record.key, record.resolved)
            return
        if record.action is ControlAction.CONFIRM_CLOCK:
            state.unconfirmed_jump = False
            halt = state.halts.get((Scope.GLOBAL, ""))
            if halt is not None and halt.is_clocks:  # what somebody halted for another reason stays
                self._set(Scope.GLOBAL, "", Halt(TradingState.ACTIVE, record.reason, record.operator))
            return
        trading_state = _STATES.get(record.action)
        if trading_state is not None:
            self._set(record.scope, record.key, Halt(trading_state, record.reason, record.operator))
            take_word(state, record.scope, record.key, resumes=record.action is ControlAction.RESUME)
            if record.action is ControlAction.RESUME and record.scope is Scope.STRATEGY:
                state.flow.rearm(record.key)
        elif record.action is ControlAction.FLATTEN:
            known = self._state.halts.get((record.scope, record.key))
            if known is None or known.state < TradingState.REDUCING:
                self._set(record.scope, record.key, Halt(TradingState.REDUCING, record.reason, record.operator))
        self.apply_cancels(record.cancels, now_ns)

    def _set(self, scope: Scope, key: str, halt: Halt) -> None:
        self._state.set_trading_state(scope, key, halt.state)
        if halt.state is TradingState.ACTIVE:
            self._state.halts.pop((scope, key), None)
        else:
            self._state.halts[scope, key] = halt

    def apply_clocked(self, record: Clocked) -> None:
        """Write a clock jump: reduce-only until an operator confirms (DESIGN 6.16)."""
        self._state.unconfirmed_jump = True
        self._state.raise_state(Scope.GLOBAL, "", TradingState.REDUCING, f"{CLOCK_JUMPED} {record.jump_ns} ns")

    def apply_failed(self, record: Failed, position: int) -> None:
        """Write a poison input: its key is answered, its account is in reduce-only (DESIGN 6.12)."""
        state = self._state
        command = command_decoder.decode(record.item.command)
        if not isinstance(command, CancelOrder):
            low, high, _ = state.keys.key(command.account, command.client_order_id)
            slot = state.dedup.find(low, high)
            if slot < 0 and not state.dedup.is_exhausted:
                payload = payload_hash(record.item.command)
                state.dedup.insert(-1 - slot, low, high, payload, value_of(position, OrderStatus.REJECTED))
        if record.account in state.accounts:
            state.raise_state(Scope.ACCOUNT, record.account, TradingState.REDUCING, "decide failed")

    def apply_adjusted(self, record: Adjusted) -> None:
        """Write account truth from outside."""
        state = self._state
        account = state.accounts[record.account]
        if record.currency:
            account.cash_e9[record.currency] = int(record.cash_e9)
        if record.instrument:
            step = state.instruments[record.instrument].quantity_step_e9
            ledger = state.book.ledger(record.account, record.instrument)
            position = record.quantity_e9 // step
            if state.losses.scopes:
                instrument = state.instruments[record.instrument]
                state.losses.settle(record.account, instrument, ledger, record.quantity_e9, record.price_e9)
            ledger.outside += position - ledger.position
            ledger.position = position
            if is_paper(record.account) and not position:
                reset_paper(state.paper_routes, ledger)
            carry(state, ledger, record)
            note_drift(state, ledger)
            if state.further is not None:
                state.further.refresh(record.account, state.instruments[record.instrument], ledger)


def _beyond_exits(newest_first: list[Order], *, own: bool) -> list[Order]:
    """Return those that could raise |position|, newest first, until exits alone are left.

    ``own``: judged in the strategy's own ledger instead of the account's.
    """
    doomed: list[Order] = []
    left: dict[tuple[str, str, Side], int] = {}
    for order in newest_first:
        if order.status is OrderStatus.SUSPENDED and (order.terms is None or order.terms.group is None):
            continue  # takes no more than what is left when it goes out
        ledger = order.route.own if own else order.route.ledger
        where = (order.account, order.route.instrument.name, order.side)
        pending = left.setdefault(where, ledger.buy if order.side is Side.BUY else ledger.sell)
        room = max(0, -ledger.position if order.side is Side.BUY else ledger.position)
        if pending > room:
            doomed.append(order)
            left[where] = pending - order.leaves
    return doomed


def is_in(order: Order, scope: Scope, key: str) -> bool:
    """Whether the order is of the scope."""
    match scope:
        case Scope.GLOBAL:
            return True
        case Scope.ACCOUNT:
            return key in (order.account, real_name(order.account))  # what is paper of it too
        case Scope.STRATEGY:
            return order.route.strategy.name == key
        case Scope.INSTRUMENT:
            return order.route.instrument.name == key
        case _:
            return False  # of limits only: no control is at it
