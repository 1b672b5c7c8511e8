"""Reports on orders whose terms may have changed: what a replace was answered with, and what is reserved meanwhile.

Until a replace is answered either terms may be working: a fill of the old total may come, and one beyond it says that
the new one works. The answer is the venue's REPLACED or REPLACE_REJECT, or after a lost session the terms that the
status names. Terms that are neither are refused, recorded and counted; the order stays reserved at the worst.
"""

from __future__ import annotations

from typing import Final

from engine.described import described, matches, unchanged
from engine.order import Order, OutgoingKind, Replacement, Terms
from engine.order_state import Happening, happening_of, next_status
from engine.state import State
from engine.venue_state import VenueState
from protocol.codes import TERMINAL, Code, ExecType, OrderStatus
from protocol.decisions import ReplaceAnswer, ReportDecision, ReportEffect
from protocol.replaces import ReplaceUnsent
from protocol.venue import Details, Report

APPLIED: Final = ReportEffect.APPLIED
REFUSED: Final = ReportEffect.REFUSED
FILLED: Final = OrderStatus.FILLED
AMENDING: Final = frozenset({ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT})
WORKING_STATES: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class TermReports:
    """Decides and applies reports on orders that have ``Terms``."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def decide_termed(self, order: Order, terms: Terms, report: Report, filled: int, cum: int) -> ReportDecision:
        """Say what a report does that names no terms; ``filled`` and ``cum`` in steps, with it."""
        asked = terms.replacement
        most = order.quantity_most
        if cum > most:
            if report.exec_type in AMENDING:  # it does not say which trade it means
                return unchanged(order, REFUSED)
            return described(order, ReportEffect.OVERFILL, FILLED, 0, cum, filled, report)
        happening = happening_of(report.exec_type, report.status, leaves_nothing=cum == most)
        if asked is not None and report.exec_type is ExecType.ORDER_STATUS and report.status in WORKING_STATES:
            return unchanged(order, REFUSED)  # it works, and on which terms is not said
        if asked is not None and happening in ANSWERS and report.venue_seq not in {0, asked.seq}:
            return unchanged(order, REFUSED)  # of an earlier replace
        answer = _answer_of(order, asked, report, happening, cum)
        return self._decide(order, report, happening, filled, cum, answer)

    def decide_detailed(self, order: Order, report: Report, details: Details) -> ReportDecision:
        """Say what a report without a fill does that names the terms at the venue."""
        asked = order.terms.replacement if order.terms is not None else None
        instrument = order.route.instrument
        quantity, off = divmod(details.quantity_e9, instrument.quantity_step_e9)
        price = details.price_e9 // instrument.price_step_e9
        stop_price = details.stop_price_e9 // instrument.price_step_e9
        is_asked = asked is not None and matches(asked, quantity, price, stop_price)
        own_stop = order.terms.stop_price if order.terms is not None else 0
        is_own = (order.quantity, order.limit_price, own_stop) == (quantity, price, stop_price)
        is_status = report.exec_type is ExecType.ORDER_STATUS
        cum_e9 = order.cum * instrument.quantity_step_e9
        if off or not (is_asked or is_own) or (is_status and report.cum_quantity_e9 != cum_e9):
            return unchanged(order, REFUSED)
        answer = ReplaceAnswer.NONE
        if asked is not None:
            answer = _answer_named(asked, report, is_asked=is_asked)
        leaves_nothing = order.cum == (quantity if answer is ReplaceAnswer.TAKEN else order.quantity)
        happening = happening_of(report.exec_type, report.status, leaves_nothing=leaves_nothing)
        if asked is not None and answer is ReplaceAnswer.NONE and happening in ANSWERS:
            return unchanged(order, REFUSED)  # of an earlier replace, or of terms that were not asked for
        return self._decide(order, report, happening, 0, order.cum, answer)

    def _decide(
        self, order: Order, report: Report, happening: Happening | None, filled: int, cum: int, answer: ReplaceAnswer
    ) -> ReportDecision:
        asked = order.terms.replacement if order.terms is not None else None
        if happening is None:
            return unchanged(order, REFUSED)
        is_replacing = asked is not None and answer is ReplaceAnswer.NONE
        status = next_status(order.status, happening, is_filled_partly=cum > 0, is_replacing=is_replacing)
        quantity = order.quantity
        if answer is ReplaceAnswer.TAKEN:
            assert asked is not None
            quantity = asked.quantity
        if status is None or (cum > quantity and not is_replacing):
            return unchanged(order, REFUSED)
        if cum == quantity and not is_replacing and status not in TERMINAL:
            status = FILLED  # the last fill came while the replace was unanswered; a cancel behind it is void
        leaves = 0 if status in TERMINAL else quantity - cum
        return described(order, APPLIED, status, leaves, cum, filled, report, answer)

    def apply_termed(self, venue: VenueState, order: Order, terms: Terms, decision: ReportDecision) -> None:
        """Write which terms work now, and reserve for them; for both while the replace is unanswered."""
        book = self._state.book
        leaves = decision.leaves_quantity_e9 // order.route.instrument.quantity_step_e9
        asked = terms.replacement
        if asked is None:
            book.set_leaves(order, leaves)
        elif decision.replace_answer is ReplaceAnswer.TAKEN:
            terms.replacement = None
            if asked.is_flip:
                order.is_exit = False
            price = asked.price_reserved(order)
            order.quantity, order.limit_price, terms.stop_price = asked.quantity, asked.price, asked.stop_price
            self._reserve(order, leaves, price)
        elif decision.replace_answer is ReplaceAnswer.REFUSED:
            self.refuse(venue, order, leaves)
        elif decision.status in TERMINAL:
            terms.replacement = None
            void_number(venue, asked.seq)
            book.set_leaves(order, 0)
        else:
            book.set_leaves(order, order.quantity_most - order.cum)
        if terms.group is not None:
            self._state.regroup(order)

    def refuse(self, venue: VenueState, order: Order, leaves: int) -> None:
        """Write that the old terms work on."""
        terms = order.terms
        assert terms is not None
        asked = terms.replacement
        assert asked is not None
        terms.replacement = None
        void_number(venue, asked.seq)
        self._state.forget_name(order, asked.key)
        self._reserve(order, leaves, order.own_price())
        if terms.group is not None:
            self._state.regroup(order)

    def _reserve(self, order: Order, leaves: int, price: int) -> None:
        if leaves:
            self._state.book.set_terms(order, leaves, price)
        else:
            self._state.book.set_leaves(order, 0)

    def decide_unsent(self, order: Order, venue_seq: int, code: Code) -> ReplaceUnsent:
        """Say that a replace does not go out any more."""
        instrument = order.route.instrument
        status = next_status(order.status, Happening.REPLACE_UNSENT, is_filled_partly=order.cum > 0)
        assert status is not None
        leaves = order.quantity - order.cum
        if not leaves and status not in TERMINAL:
            status = FILLED
        step = instrument.quantity_step_e9
        return ReplaceUnsent(
            instrument.venue, venue_seq, order.account, order.client_order_id, order.order_id, code, status,
            leaves * step, order.cum * step,
        )  # fmt: skip


ANSWERS: Final = frozenset({Happening.REPLACED, Happening.REPLACE_REJECTED})


def _answer_of(
    order: Order, asked: Replacement | None, report: Report, happening: Happening | None, cum: int
) -> ReplaceAnswer:
    """Return what a report without terms says of the replace."""
    if asked is None:
        return ReplaceAnswer.NONE
    if report.exec_type is ExecType.REPLACE_REJECT or report.exec_type is ExecType.NOT_FOUND:
        return ReplaceAnswer.REFUSED
    if cum > order.quantity or report.exec_type is ExecType.REPLACED:
        return ReplaceAnswer.TAKEN
    if happening is Happening.FILL and cum == asked.quantity != order.quantity:
        return ReplaceAnswer.TAKEN
    return ReplaceAnswer.NONE


def _answer_named(asked: Replacement, report: Report, *, is_asked: bool) -> ReplaceAnswer:
    """Return what a report with terms says of the replace."""
    if report.exec_type is ExecType.REPLACED:
        return ReplaceAnswer.TAKEN if is_asked else ReplaceAnswer.NONE
    if report.exec_type is ExecType.REPLACE_REJECT:
        return ReplaceAnswer.REFUSED if report.venue_seq == asked.seq else ReplaceAnswer.NONE
    if report.exec_type is not ExecType.ORDER_STATUS or report.venue_seq < asked.seq:
        return ReplaceAnswer.NONE  # what was said before the replace came is no answer to it
    return ReplaceAnswer.TAKEN if is_asked else ReplaceAnswer.REFUSED


def void(venue: VenueState, order: Order) -> None:
    """Empty the numbers of a finished order; they stay, for numbers not yet sent must be contiguous."""
    void_number(venue, order.venue_seq)
    void_number(venue, order.cancel_seq)
    if order.terms is not None and order.terms.replacement is not None:
        void_number(venue, order.terms.replacement.seq)


def void_number(venue: VenueState, seq: int) -> None:
    """Let a number be sent as VOID, if it is sent at all."""
    outgoing = venue.awaiting.get(seq)
    if outgoing is not None:
        outgoing.kind = OutgoingKind.VOID
