"""What the engine counts while it works: outcomes by code, durations, batch sizes. Never read by a decision."""

from __future__ import annotations

from protocol.codes import ByeReason, Code
from runtime.histogram import Histogram


class Meters:
    """Counters and histograms since the start of this process.

    Attributes:
        retries: Items that were told to come back later.
        may_have_unknown: Whether UNKNOWN orders must be looked for; set where orders become UNKNOWN, so that nobody
            walks over all open orders to count none.
        decided: From taking a batch to its last decision, ns; these four count once per item of the batch.
        durable: To the end of its sync.
        answered: To its outcomes having been handed over.
        sent: To its venue commands having been handed over; once per batch.
        turn: How long a turn kept the loop from looking at its sockets: the loop's lag.
        late: How much later than due housekeeping ran.
        turn_items: Items decided in one turn that had any.
        sync_records: Records made durable by one sync.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.cancels = 0
        self.replaces = 0
        self.baskets = 0
        self.exit_replaces = 0
        self.ocos = 0
        self.held = 0
        self.papers = 0
        self.holds_sent = 0
        self.holds_refused = 0
        self.holds_overdue = 0
        self.risk_late = 0
        self.malformed_risk = 0
        self.fills = 0
        self.failed = 0
        self.reports_refused = 0
        self.reports_differing = 0
        self.exits_stale = 0
        self.trades_amended = 0
        self.retries = 0
        self.journal_bytes = 0
        self.alarms = 0
        self.malformed_sidecars = 0
        self.malformed_venues = 0
        self.malformed_control = 0
        self.may_have_unknown = True
        self.rejected: dict[Code, int] = {}
        self.ended: dict[ByeReason, int] = {}
        self.decided = Histogram()
        self.durable = Histogram()
        self.answered = Histogram()
        self.sent = Histogram()
        self.sync = Histogram()
        self.turn = Histogram()
        self.late = Histogram()
        self.turn_items = Histogram()
        self.sync_records = Histogram()

    def refuse(self, code: Code) -> None:
        """Count a refusal."""
        self.rejected[code] = self.rejected.get(code, 0) + 1

    def end(self, reason: ByeReason) -> None:
        """Count a session that this side ended."""
        self.ended[reason] = self.ended.get(reason, 0) + 1
