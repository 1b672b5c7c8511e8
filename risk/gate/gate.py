"""The gate as its users call it: the plain one, or the complete one where the route has parameters of it."""

from __future__ import annotations

from collections.abc import Callable

from protocol.codes import Code
from risk.gate.checks import CHECKS, SEND_CHECKS
from risk.gate.further_checks import COMPLETE_CHECKS, COMPLETE_SEND_CHECKS
from risk.gate.fused import first_complete_refusal, first_late_complete_refusal, first_late_refusal, first_refusal
from risk.gate.view import View


def refusal_of(view: View) -> Code:
    """Return the code of the first check that refuses a plain order."""
    return first_complete_refusal(view) if view.route.is_complete else first_refusal(view)


def late_refusal_of(view: View) -> Code:
    """Return the code of the first check that refuses a late send of one (DESIGN 6.8)."""
    return first_late_complete_refusal(view) if view.route.is_complete else first_late_refusal(view)


def send_checks_of(view: View) -> tuple[Callable[[View], Code], ...]:
    """Return the checks of a late send of a plain order of this route."""
    return COMPLETE_SEND_CHECKS if view.route.is_complete else SEND_CHECKS


def checks_of(view: View) -> tuple[Callable[[View], Code], ...]:
    """Return the checks that a plain order of this route takes, in their order."""
    return COMPLETE_CHECKS if view.route.is_complete else CHECKS
