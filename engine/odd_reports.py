"""Reports that a person hears of: of trades taken back or corrected, refused, or with another sum than here.

Apart from ``engine.gateways``, whose hot path is acknowledgements and fills.
"""

from __future__ import annotations

from msgspec import Raw

from engine.differing import decide_differing
from engine.parts import Parts
from engine.statements import Statements
from engine.venue_state import VenueState
from protocol.amends import TradeAmended
from protocol.decisions import ReportDecision, ReportEffect
from protocol.records import Record
from protocol.venue import Report


class OddReports:
    """Takes them for all gateway sessions of one engine."""

    def __init__(self, parts: Parts, statements: Statements) -> None:
        self._core = parts.core
        self._statements = statements
        self._writer = parts.writer
        self._meters = parts.meters
        self._alarm = parts.alarm
        self._make_room = parts.make_room

    def take_amended(self, venue: VenueState, raw: Raw, report: Report, now_ns: int) -> None:
        """Journal and apply one report; the caller has seen to its number being the next one."""
        decision, amendment = self._core.amends.decide(venue, report)
        self._append(TradeAmended(venue.name, raw, decision, amendment), now_ns)
        if amendment is not None:
            self._meters.trades_amended += 1
            text = f"trade {amendment.trade_id} of {report.order_id}: {report.exec_type.name}"
            self._alarm(text + (", and the venue says other leaves or cum" if amendment.disagrees else ""))
        elif decision.effect is not ReportEffect.DUPLICATE:
            self._meters.reports_refused += 1
            self._alarm(f"report {report.report_seq} of {report.order_id}: {decision.effect.name}")

    def tell(
        self, venue: VenueState, report: Report, decision: ReportDecision, now_ns: int, *, can_state: bool
    ) -> None:
        """Count a report that was applied otherwise than plainly, or not; ask the venue where its sums differ."""
        effect = decision.effect
        if effect is ReportEffect.DUPLICATE:
            return
        if effect is not ReportEffect.CUM_DIFFERS:
            self._meters.reports_refused += 1
            self._alarm(f"report {report.report_seq} of {report.order_id}: {effect.name}")
            return
        self._meters.reports_differing += 1
        ours_e9, theirs_e9 = decision.cum_quantity_e9, report.cum_quantity_e9
        which = "a report was missed" if theirs_e9 > ours_e9 else "a trade counts here that does not count there"
        self._alarm(
            f"report {report.report_seq} of {report.order_id}: venue {venue.name} counts {theirs_e9} e9 filled, here "
            f"are {ours_e9} e9: {which}; account {decision.account} may only reduce, the venue is asked"
        )
        queried = decide_differing(self._core.state, venue)
        if queried is not None:
            self._meters.may_have_unknown = True
            self._append(queried, now_ns)
        if can_state:
            self._statements.begin_doubt(venue)

    def _append(self, record: Record, now_ns: int) -> None:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
