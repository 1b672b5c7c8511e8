"""The suspense ledger: fills of orders that nobody knows, until an operator says whose they are.

A venue reported them, so somebody holds them, and no position here has them. While one is here everything is in
reduce-only and a resume of all is refused; an operator assigns it (a journaled adjustment of one position) or dismisses
it with a reason. Rule: each (venue, trade id) is here once, and after it was resolved its id is a trade's like others:
repeated it counts nothing, taken back it takes back what was assigned.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from engine.drift import note_drift
from engine.fees import book_fee
from engine.state import State
from engine.venue_state import VenueState
from protocol.amends import Amendment, SuspendedFill, SuspenseResolved
from protocol.codes import ExecType, Scope, Side, TradingState
from protocol.decisions import ReportDecision, ReportEffect
from protocol.units import INT64_MAX
from protocol.venue import Details, Report

SUSPENSE_MAX: Final = 1_000
"""Fills in the ledger; of more only the count is kept here, and the journal and the books have them."""
NO_DETAILS: Final = Details()


class Suspense:
    """Takes fills of unknown orders, and operators' words on them, over one State."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def take(self, venue: VenueState, report: Report) -> None:
        """Write a fill of an unknown order; one that is in the ledger already, or was resolved, is nothing new."""
        state = self._state
        if report.trade_id and report.trade_id in venue.trade_ids:
            return
        state.raise_state(Scope.GLOBAL, "", TradingState.REDUCING, f"fill of unknown order {report.order_id}")
        if not can_be_held(report) or (venue.name, report.trade_id) in state.suspense:
            return
        if len(state.suspense) >= SUSPENSE_MAX:
            state.suspense_more += 1
        else:
            details = report.details or NO_DETAILS
            state.suspense[venue.name, report.trade_id] = SuspendedFill(
                venue.name, report.trade_id, report.order_id, report.report_seq, report.last_quantity_e9,
                report.last_price_e9, report.exch_ns, details.account, details.instrument, details.side,
                report.fee_e9, report.currency,
            )  # fmt: skip

    def decide_amended(
        self, venue: VenueState, trade_id: str, report: Report
    ) -> tuple[ReportDecision, Amendment | None]:
        """Say what a TRADE_CANCEL or TRADE_CORRECT does to a fill in suspense: the order is as unknown as before."""
        fill = self._state.suspense[venue.name, trade_id]
        is_cancel = report.exec_type is ExecType.TRADE_CANCEL
        if fill.order_id != report.order_id or not (is_cancel or can_be_held(report)):
            return ReportDecision(ReportEffect.REFUSED), None
        to = (0, 0) if is_cancel else (report.last_quantity_e9, report.last_price_e9)
        amendment = Amendment(trade_id, fill.quantity_e9, fill.price_e9, *to, 0, knows_order=False, in_suspense=True)
        return ReportDecision(ReportEffect.ORDER_UNKNOWN), amendment

    def amend(self, venue: VenueState, report: Report, amendment: Amendment) -> None:
        """Write that a fill in suspense was taken back, and so leaves, or has other terms."""
        key = (venue.name, amendment.trade_id)
        fill = self._state.suspense[key]
        if amendment.to_quantity_e9:
            to = structs.replace(fill, quantity_e9=amendment.to_quantity_e9, price_e9=amendment.to_price_e9)
            self._state.suspense[key] = to
            venue.remember_correction(report.trade_id, amendment.trade_id)
        else:
            del self._state.suspense[key]
            venue.remember_trade(amendment.trade_id, (fill.order_id, None, 0, 0, 0, 0, ""))
            venue.amended[amendment.trade_id] = None

    def decide(
        self,
        venue_name: str,
        trade_id: str,
        operator: str,
        reason: str,
        *,
        account: str = "",
        strategy: str = "",
        instrument: str = "",
        side: Side | None = None,
    ) -> SuspenseResolved | str:
        """Return the record of an operator's word on a fill, or why it can't be taken. No account: it is nobody's.

        ``instrument`` and ``side`` are needed where the venue did not say them, and must be its own where it did.
        """
        state = self._state
        if not trade_id and not account:
            if not state.suspense_more:
                return "the suspense ledger holds every fill; name one: wojak orders suspense"
            return SuspenseResolved("", "", operator, reason)
        fill = state.suspense.get((venue_name, trade_id))
        if fill is None:
            which = f"trade {trade_id} of venue {venue_name}"
            return f"{which} expected one in suspense, was none; see: wojak orders suspense"
        if not account:
            return SuspenseResolved(
                venue_name, trade_id, operator, reason, "", "", fill.instrument, fill.side or Side.BUY,
                fill.quantity_e9, fill.price_e9,
            )  # fmt: skip
        said = [("instrument", instrument, fill.instrument), ("side", _name(side), _name(fill.side))]
        for name, ours, theirs in said:
            if ours and theirs and ours != theirs:
                return f"{name} expected {theirs}, as venue {venue_name} said, was {ours}"
            if not ours and not theirs:
                return f"{name} expected, for venue {venue_name} did not say it; give --{name}"
        name, of_side = fill.instrument or instrument, fill.side or side
        assert of_side is not None
        return self._assigned(
            SuspenseResolved(
                venue_name, trade_id, operator, reason, account, strategy, name, of_side, fill.quantity_e9,
                fill.price_e9,
            )
        )  # fmt: skip

    def _assigned(self, record: SuspenseResolved) -> SuspenseResolved | str:
        state = self._state
        known = state.instruments.get(record.instrument)
        if record.account not in state.accounts or state.belongs_elsewhere(record.account) is not None:
            return f"account {record.account!r} expected one of this engine; see wojak.toml"
        if record.strategy not in state.strategies:
            return f"strategy {record.strategy!r} is not known; see wojak.toml"
        if known is None or known.venue != record.venue:
            return f"instrument {record.instrument!r} expected one of venue {record.venue}"
        quantity, off_step = divmod(record.quantity_e9, known.quantity_step_e9)
        ledger = state.book.ledgers.get((record.account, record.instrument))
        before_e9 = 0 if ledger is None else ledger.position * known.quantity_step_e9
        if off_step or abs(before_e9) + record.quantity_e9 > INT64_MAX or record.price_e9 < known.price_step_e9:
            return f"fill of {record.quantity_e9} e9 at {record.price_e9} e9 expected steps of {record.instrument}"
        signed_e9 = quantity * known.quantity_step_e9 * (1 if record.side is Side.BUY else -1)
        return SuspenseResolved(
            record.venue, record.trade_id, record.operator, record.reason, record.account, record.strategy,
            record.instrument, record.side, record.quantity_e9, record.price_e9, before_e9 + signed_e9,
        )  # fmt: skip

    def decide_again(self, record: SuspenseResolved) -> bool:
        """Return whether the same is decided now."""
        names = record.venue, record.trade_id, record.operator, record.reason
        if not record.account:
            return self.decide(*names) == record
        again = self.decide(
            *names, account=record.account, strategy=record.strategy, instrument=record.instrument, side=record.side
        )
        return again == record

    def apply(self, record: SuspenseResolved) -> None:
        """Write it: the fill leaves, and if it is somebody's it moves the position as a trade of the venue."""
        state = self._state
        if not record.trade_id:
            state.suspense_more = 0
            return
        fill = state.suspense.pop((record.venue, record.trade_id))
        venue = state.venues[record.venue]
        if not record.account:
            venue.remember_trade(record.trade_id, (fill.order_id, None, 0, 0, 0, 0, ""))
            venue.amended[record.trade_id] = None
            return
        route = state.route(record.account, record.strategy, record.instrument)
        quantity = record.quantity_e9 // route.instrument.quantity_step_e9
        signed = quantity if record.side is Side.BUY else -quantity
        state.book.move(route, signed)
        note_drift(state, route.ledger)
        paid_e9 = state.book.pay(route, signed, record.price_e9)
        fee_e9, currency = book_fee(state, route, fill.fee_e9, fill.currency)
        counted = fill.order_id, route, signed, record.price_e9, paid_e9, fee_e9, currency
        venue.remember_trade(record.trade_id, counted)
        venue.amended[record.trade_id] = None


def can_be_held(report: Report) -> bool:
    """Whether the fill says enough to be told from others and booked one day."""
    return bool(report.trade_id) and 0 < report.last_quantity_e9 <= INT64_MAX and 0 < report.last_price_e9 <= INT64_MAX


def _name(side: Side | None) -> str:
    return "" if side is None else side.name
