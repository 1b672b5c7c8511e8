"""Refusals that also stop a scope: a strategy in a loop, and the checks that are routed ``halt``.

The state is raised where the refusal is applied, so the record that refuses is the record that halts: durable before
anybody hears of either, and the same in recovery. Rule: it only rises; an operator lowers it.
"""

from __future__ import annotations

from typing import Final

from engine.state import State
from protocol.codes import Code, Scope, TradingState
from protocol.orders import NewOrder
from protocol.paper import is_paper
from protocol.session import Facts
from risk.gate.exposure import Route

HALTED_AUTO: Final = TradingState.HALTED_AUTO


def halt_loop(state: State, order: NewOrder, code: Code, facts: Facts | None) -> None:
    """Stop a strategy that means the same again and again; reduce one that sends much and trades little: RISK.md A2."""
    expected, actual = (facts.expected, facts.actual) if facts is not None else (0, 0)
    if code is Code.RATIO_OTR:
        reduce_ratio(state, order.strategy, expected, actual)
        return
    reason = f"{Code.LOOP_INTENT.name}: {expected} orders on one side of {order.instrument} without a fill"
    state.raise_state(Scope.STRATEGY, order.strategy, HALTED_AUTO, reason)


def reduce_ratio(state: State, strategy: str, expected: int | str, actual: int | str) -> None:
    """Put a strategy into reduce-only that sends too many messages for its trades."""
    reason = f"{Code.RATIO_OTR.name}: expected at most {expected} messages today for its trades, was {actual}"
    state.raise_state(Scope.STRATEGY, strategy, TradingState.REDUCING, reason)


def halt_breach(state: State, code: Code, facts: Facts | None, account: str) -> None:
    """Stop the scope of the limit that was breached, if its check is routed ``halt``; exits pass (DECISIONS 20).

    Of a limit that stands at no scope with a trading state (an underlying, a venue), and of a check without evidence,
    it is the account.
    """
    if code not in state.risk.halts:
        return
    scope, key, reason = Scope.ACCOUNT, account, code.name
    if facts is not None and (facts.expected or facts.actual or facts.key):
        reason = f"{code.name}: limit {facts.expected}, was {facts.actual}"
        if state.knows(facts.scope, facts.key):
            scope, key = facts.scope, facts.key
    state.raise_state(scope, key, HALTED_AUTO, reason)


def halt_overfilled(state: State, route: Route, order_id: str) -> None:
    """Stop what a venue filled beyond an order: the instrument, or the account's paper side of a paper order."""
    scope, key = Scope.INSTRUMENT, route.instrument.name
    if is_paper(route.account.name):
        scope, key = Scope.ACCOUNT, route.account.name
    state.raise_state(scope, key, HALTED_AUTO, f"overfill of {order_id}")
