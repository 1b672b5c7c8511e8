"""Counts how deliveries ended and how long each hop took; what went all its ways together is recorded once."""

from __future__ import annotations

from protocol.codes import OutcomeKind
from sidecars.core.metrics import Metrics
from sidecars.core.source import Settlement, Verb


class Ends:
    """The ends of one settle call; ``flush`` says that there are no more."""

    def __init__(self, metrics: Metrics, called_ns: int, now_ns: int) -> None:
        self._metrics = metrics
        self._called_ns = called_ns
        self._now_ns = now_ns
        self._received_ns = self._submitted_ns = self._answered_ns = 0
        self._alike = 0

    def count(self, settlement: Settlement) -> None:
        """Count a delivery that has ended and was not lost."""
        outcome = settlement.outcome
        if outcome is None:
            self._count_undecided(settlement)
            return
        metrics = self._metrics
        if settlement.verb is Verb.DEAD_LETTER:
            metrics.settled_parked += 1
        elif outcome.kind is OutcomeKind.REJECTED:
            metrics.settled_reject += 1
        else:
            metrics.settled_ok += 1
        received_ns, submitted_ns = settlement.delivery.received_mono_ns, settlement.submitted_mono_ns
        if (
            submitted_ns != self._submitted_ns
            or received_ns != self._received_ns
            or settlement.answered_mono_ns != self._answered_ns
        ):
            self.flush()
            self._received_ns, self._submitted_ns = received_ns, submitted_ns
            self._answered_ns = settlement.answered_mono_ns
        self._alike += 1

    def flush(self) -> None:
        """Record those alike that were counted last."""
        count, self._alike = self._alike, 0
        if count:
            metrics, now_ns = self._metrics, self._now_ns
            metrics.receive_to_settle.record(now_ns - self._received_ns, count)
            metrics.receive_to_submit.record(self._submitted_ns - self._received_ns, count)
            metrics.submit_to_outcome.record(self._answered_ns - self._submitted_ns, count)
            metrics.outcome_to_settle.record(self._called_ns - self._answered_ns, count)
            metrics.settle_latency.record(now_ns - self._answered_ns, count)

    def _count_undecided(self, settlement: Settlement) -> None:
        metrics, verb = self._metrics, settlement.verb
        metrics.receive_to_settle.record(self._now_ns - settlement.delivery.received_mono_ns)
        metrics.handed_back += verb is Verb.RETRY
        metrics.abandoned += verb is Verb.ABANDON
        metrics.settled_parked += verb is Verb.DEAD_LETTER
