"""Reports that take a trade back or correct it, from a venue's gateway into the journal; a person hears of each.

Apart from ``engine.gateways``, whose hot path is acknowledgements and fills.
"""

from __future__ import annotations

from msgspec import Raw

from engine.parts import Parts
from engine.venue_state import VenueState
from protocol.amends import TradeAmended
from protocol.decisions import ReportEffect
from protocol.venue import Report


class AmendedReports:
    """Takes them for all gateway sessions of one engine."""

    def __init__(self, parts: Parts) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._meters = parts.meters
        self._alarm = parts.alarm
        self._make_room = parts.make_room

    def take(self, venue: VenueState, raw: Raw, report: Report, now_ns: int) -> None:
        """Journal and apply one report; the caller has seen to its number being the next one."""
        decision, amendment = self._core.amends.decide(venue, report)
        self._make_room(now_ns)
        record = TradeAmended(venue.name, raw, decision, amendment)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
        if amendment is not None:
            self._meters.trades_amended += 1
            text = f"trade {amendment.trade_id} of {report.order_id}: {report.exec_type.name}"
            self._alarm(text + (", and the venue says other leaves or cum" if amendment.disagrees else ""))
        elif decision.effect is not ReportEffect.DUPLICATE:
            self._meters.reports_refused += 1
            self._alarm(f"report {report.report_seq} of {report.order_id}: {decision.effect.name}")
