"""Operator controls, clock jumps, parameters, opening positions: ``decide_*`` reads, ``apply_*`` writes.

Halt cancels nothing, kill does; an operator's reduce-only cancels what increases, an automatic one does not
(DECISIONS 20). Severity is raised by anyone and lowered only by an operator (RISK.md A6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.dedup import payload_hash, value_of
from engine.order import Order
from engine.orders import Orders
from engine.reports import Reports
from engine.state import CLOCK_JUMPED, Halt, State
from protocol.codes import TERMINAL, Code, OrderStatus, Scope, Side, TradingState
from protocol.orders import NewOrder, command_decoder
from protocol.records import (
    Adjusted,
    Clocked,
    ControlAction,
    Controlled,
    EngineCancel,
    Failed,
    ReportDecision,
    ReportEffect,
)
from protocol.units import INT64_MAX

CANCELS_MAX: Final = 4096
"""Cancels in one record; a larger kill is several records of one batch, the first of which sets the state."""

_STATES: Final = {
    ControlAction.HALT: TradingState.HALTED,
    ControlAction.KILL: TradingState.HALTED,
    ControlAction.REDUCE_ONLY: TradingState.REDUCING,
    ControlAction.RESUME: TradingState.ACTIVE,
}


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
        if action is ControlAction.KILL:
            doomed = [o for o in self._state.orders.values() if _is_in(o, scope, key)]
        elif action is ControlAction.REDUCE_ONLY:
            doomed = self._increasing(scope, key)
        else:
            doomed = []
        doomed = [o for o in doomed if not o.cancel_seq]
        for start in range(0, max(1, len(doomed)), CANCELS_MAX):
            cancels = self._cancels(doomed[start : start + CANCELS_MAX], unsent_from)
            yield Controlled(action, scope, key, operator, reason, False, cancels)

    def _cancels(self, doomed: list[Order], unsent_from: dict[str, int]) -> list[EngineCancel]:
        last_seq = {name: venue.last_seq for name, venue in self._state.venues.items()}
        cancels: list[EngineCancel] = []
        for order in doomed:
            venue = order.route.instrument.venue
            cum_e9 = order.cum * order.route.instrument.quantity_step_e9
            names = (order.account, order.client_order_id, order.order_id)
            if order.venue_seq >= unsent_from.get(venue, 1 << 62):
                cancels.append(EngineCancel(*names, 0, order.venue_seq, Code.UNSENT_KILLED, cum_e9))
            else:
                last_seq[venue] += 1
                cancels.append(EngineCancel(*names, last_seq[venue], 0, Code.OK, cum_e9))
        return cancels

    def _increasing(self, scope: Scope, key: str) -> list[Order]:
        """Return the orders that could raise |position|, newest first, until exits alone are left."""
        doomed: list[Order] = []
        left: dict[tuple[str, str, Side], int] = {}
        for order in reversed(self._state.orders.values()):
            if not _is_in(order, scope, key):
                continue
            # As the gate judges: a strategy that reduces has its own ledger (RISK.md A1).
            ledger = order.route.own if scope is Scope.STRATEGY else order.route.ledger
            where = (order.account, order.route.instrument.name, order.side)
            pending = left.setdefault(where, ledger.buy if order.side is Side.BUY else ledger.sell)
            room = max(0, -ledger.position if order.side is Side.BUY else ledger.position)
            if pending > room:
                doomed.append(order)
                left[where] = pending - order.leaves
        return doomed

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
        is_all = cum == order.quantity
        if (
            status not in TERMINAL or off or not order.cum <= cum <= order.quantity
            or (status is OrderStatus.FILLED) != is_all or (cum > order.cum and price < 1)
        ):  # fmt: skip
            return (
                f"resolve expected a final status, {order.cum} to {order.quantity} filled steps of "
                f"{instrument.quantity_step_e9} e9 (all of them if FILLED, and only then) and a price of what filled, "
                f"was {status.name}, {cum_quantity_e9} e9 at {avg_price_e9} e9"
            )
        filled = cum - order.cum
        value_e9 = min(order.value_e9 + (instrument.value_e9(filled, price) if filled else 0), INT64_MAX)
        position = order.route.ledger.position + (filled if order.side is Side.BUY else -filled)
        step = instrument.quantity_step_e9
        resolved = ReportDecision(
            ReportEffect.APPLIED, order.account, order.client_order_id, order.route.strategy.name, instrument.name,
            order.side, order.order_type, order.time_in_force, order.quantity * step,
            order.limit_price * instrument.price_step_e9, status, 0, cum_quantity_e9, value_e9, position * step,
            order.trace_id,
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
        for cancel in record.cancels:
            if cancel.venue_seq:
                self._orders.cancel_at_venue(state.orders[cancel.order_id], cancel.venue_seq, now_ns)
            else:
                self._reports.apply_unsent(cancel)

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
        if isinstance(command, NewOrder):
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
            state.book.ledger(record.account, record.instrument).position = record.quantity_e9 // step


def _is_in(order: Order, scope: Scope, key: str) -> bool:
    match scope:
        case Scope.GLOBAL:
            return True
        case Scope.ACCOUNT:
            return order.account == key
        case Scope.STRATEGY:
            return order.route.strategy.name == key
        case Scope.INSTRUMENT:
            return order.route.instrument.name == key
