"""What a refusal of a new order says: the code's evidence, and how many checks had passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OutcomeKind, Scope
from protocol.decisions import NewDecision
from protocol.orders import NewOrder, TermedOrder
from protocol.session import Facts
from protocol.texts import pack_kind
from risk.gate.checks import CHECKS
from risk.gate.evidence import facts_of
from risk.gate.further_checks import COMPLETE_CHECKS
from risk.gate.gate import checks_of
from risk.gate.termed import termed_checks_of
from risk.gate.view import View

REJECTED: Final = OutcomeKind.REJECTED
# MSG, AUTH, ACCOUNT, STRATEGY, INSTR and ID come before the view exists.
ENVELOPE_CHECKS: Final = 6
CHECKS_ALL: Final = ENVELOPE_CHECKS + len(CHECKS)
COMPLETE_CHECKS_ALL: Final = ENVELOPE_CHECKS + len(COMPLETE_CHECKS)


def refused_new(code: Code, view: View, order: NewOrder) -> NewDecision:
    """Return the refusal of a new order, with its evidence."""
    facts = facts_of(code, view)
    checks = checks_of(view)
    if isinstance(order, TermedOrder):
        checks = termed_checks_of(view)
        if code is Code.TYPE_UNSUPPORTED:
            packed = pack_kind(view.order_type, view.time_in_force, post_only=view.post_only)
            facts = Facts(0, packed, Scope.INSTRUMENT, view.route.instrument.name)
    return NewDecision(REJECTED, code, checks_passed=passed(code, view, checks), facts=facts)


def passed(code: Code, view: View, checks: tuple[Callable[[View], Code], ...]) -> int:
    """Return how many checks passed before the one that refused."""
    for index, check in enumerate(checks):
        if check(view) is code:
            return ENVELOPE_CHECKS + index
    return CHECKS_ALL
