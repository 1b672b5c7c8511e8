"""What a sidecar counts, under the names all sources share (SOURCES section 1), as Prometheus text.

Plain integers and histograms while orders pass; a snapshot once a second, and when somebody asks: the text is made on
the sidecar's own thread, between its other work, some times a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from runtime.clock import monotonic_ns
from runtime.histogram import Histogram, Reading
from runtime.metrics import (
    COUNTER,
    DURATION,
    GAUGE,
    Board,
    BoardCollector,
    Family,
    Labelled,
    Snapshot,
    registry_of,
    text_of,
)

NS_PER_S: Final = 1_000_000_000
TEXT_NS: Final = 200_000_000
RECEIVE_TO_SUBMIT: Final = "wojak_sidecar_receive_to_submit_seconds"
SUBMIT_TO_OUTCOME: Final = "wojak_sidecar_submit_to_outcome_seconds"
OUTCOME_TO_SETTLE: Final = "wojak_sidecar_outcome_to_settle_seconds"
SETTLE: Final = "wojak_sidecar_settle_latency_seconds"
RECEIVE_TO_SETTLE: Final = "wojak_sidecar_receive_to_settle_seconds"
LATE: Final = "wojak_sidecar_loop_late_seconds"

FAMILIES: Final = (
    Family("wojak_sidecar_received", COUNTER, "Deliveries received from the source"),
    Family("wojak_sidecar_forwarded", COUNTER, "Deliveries submitted to the engine, repeats included"),
    Family("wojak_sidecar_settled", COUNTER, "Deliveries settled", ("result",)),
    Family("wojak_sidecar_handed_back", COUNTER, "Deliveries given back because the engine had not taken them"),
    Family("wojak_sidecar_abandoned", COUNTER, "Deliveries left without an outcome that the engine may have taken"),
    Family("wojak_sidecar_lost_lease", COUNTER, "Deliveries whose lease ended first"),
    Family("wojak_sidecar_redelivered", COUNTER, "Deliveries that the source says came before"),
    Family("wojak_sidecar_settle_errors", COUNTER, "Settles that failed and were tried again"),
    Family("wojak_sidecar_lease_extensions", COUNTER, "Lease extensions", ("result",)),
    Family("wojak_sidecar_answers", COUNTER, "Answers to callers by status", ("status",)),
    Family("wojak_sidecar_refused_connections", COUNTER, "Connections refused or ended, by what they did", ("reason",)),
    Family("wojak_sidecar_reconnects", COUNTER, "Engine sessions after the first"),
    Family("wojak_sidecar_paused_seconds", COUNTER, "Time without an open session of every engine"),
    Family("wojak_sidecar_in_flight", GAUGE, "Deliveries submitted and unanswered"),
    Family("wojak_sidecar_held", GAUGE, "Deliveries taken that wait for credits or for the end of a RETRY"),
    Family("wojak_sidecar_credits", GAUGE, "What the engine lets be unanswered"),
    Family("wojak_sidecar_epoch", GAUGE, "Epoch of the engine spoken with"),
    Family("wojak_sidecar_shard_open", GAUGE, "Of several engines, whether orders of this one's are taken", ("shard",)),
    Family("wojak_sidecar_oldest_unsettled_age_seconds", GAUGE, "Age of the oldest unsettled delivery"),
    Family("wojak_sidecar_broker_lag", GAUGE, "Messages that wait at the broker; absent where it can't be asked"),
    Family("wojak_sidecar_broker_oldest_age_seconds", GAUGE, "Age of the oldest of them; absent likewise"),
    Family(RECEIVE_TO_SUBMIT, DURATION, "From the receipt of a delivery to its submit"),
    Family(SUBMIT_TO_OUTCOME, DURATION, "From the submit to the engine's outcome"),
    Family(OUTCOME_TO_SETTLE, DURATION, "From the outcome to the call that settles, the broker's answer left out"),
    Family(SETTLE, DURATION, "From the outcome to the settled delivery"),
    Family(RECEIVE_TO_SETTLE, DURATION, "From the receipt to the settled delivery"),
    Family(LATE, DURATION, "How much later than due the loop looked at the time: the loop's lag"),
)


class Metrics:
    """Counters, gauges and latencies of one sidecar."""

    def __init__(self, source: str, monotonic: Callable[[], int] = monotonic_ns) -> None:
        self._monotonic = monotonic
        self._text = b""
        self._text_until_ns = 0
        self.received = 0
        self.forwarded = 0
        self.settled_ok = 0
        self.settled_reject = 0
        self.settled_parked = 0
        self.handed_back = 0
        self.abandoned = 0
        self.lost_lease = 0
        self.redelivered = 0
        self.settle_errors = 0
        self.extensions_ok = 0
        self.extensions_failed = 0
        self.reconnects = 0
        self.paused_ns = 0
        self.shards_open: list[bool] = [False]
        self.in_flight = 0
        self.held = 0
        self.credits = 0
        self.epoch = 0
        self.oldest_unsettled_ns = 0
        self.broker_lag = -1
        self.broker_oldest_age_ns = -1
        self.answers: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.receive_to_submit = Histogram()
        self.submit_to_outcome = Histogram()
        self.outcome_to_settle = Histogram()
        self.settle_latency = Histogram()
        self.receive_to_settle = Histogram()
        self.late = Histogram()
        self.board = Board()
        self._registry = registry_of(BoardCollector(self._snapshots, FAMILIES, {"source": source}))

    def text(self) -> bytes:
        """Return the Prometheus exposition, at most ``TEXT_NS`` old. To be called on the thread that counts.

        So whoever asks without end has a millisecond of this thread five times a second, and no more.
        """
        now_ns = self._monotonic()
        if now_ns >= self._text_until_ns:
            self._text, self._text_until_ns = text_of(self._registry), now_ns + TEXT_NS
        return self._text

    def _snapshots(self) -> tuple[Snapshot, ...]:
        return (*self.board.snapshots, self._take(self._monotonic(), Histogram.peek))

    def publish(self, now_ns: int, not_ready: tuple[str, ...] = ()) -> None:
        """Say that the loop turns and why it can't work; keep a snapshot once a second, for the last seconds."""
        board = self.board
        board.turned_ns, board.not_ready = now_ns, not_ready
        if board.is_due(now_ns):
            board.publish(self._take(now_ns, Histogram.snapshot))

    def _take(self, now_ns: int, reading: Callable[[Histogram], Reading]) -> Snapshot:
        histograms = {
            RECEIVE_TO_SUBMIT: reading(self.receive_to_submit),
            SUBMIT_TO_OUTCOME: reading(self.submit_to_outcome),
            OUTCOME_TO_SETTLE: reading(self.outcome_to_settle),
            SETTLE: reading(self.settle_latency),
            RECEIVE_TO_SETTLE: reading(self.receive_to_settle),
            LATE: reading(self.late),
        }
        return Snapshot(now_ns, {**self._counters(), **self._gauges()}, histograms)

    def _counters(self) -> dict[str, float | Labelled]:
        return {
            "wojak_sidecar_received": self.received,
            "wojak_sidecar_forwarded": self.forwarded,
            "wojak_sidecar_settled": {
                ("ok",): self.settled_ok, ("reject",): self.settled_reject, ("parked",): self.settled_parked,
            },
            "wojak_sidecar_handed_back": self.handed_back,
            "wojak_sidecar_abandoned": self.abandoned,
            "wojak_sidecar_lost_lease": self.lost_lease,
            "wojak_sidecar_redelivered": self.redelivered,
            "wojak_sidecar_settle_errors": self.settle_errors,
            "wojak_sidecar_lease_extensions": {("ok",): self.extensions_ok, ("failed",): self.extensions_failed},
            "wojak_sidecar_answers": {(status,): count for status, count in self.answers.items()},
            "wojak_sidecar_refused_connections": {(reason,): count for reason, count in self.refused.items()},
            "wojak_sidecar_reconnects": self.reconnects,
            "wojak_sidecar_paused_seconds": self.paused_ns / NS_PER_S,
        }  # fmt: skip

    def _gauges(self) -> dict[str, float | Labelled]:
        gauges: dict[str, float | Labelled] = {
            "wojak_sidecar_in_flight": self.in_flight,
            "wojak_sidecar_held": self.held,
            "wojak_sidecar_credits": self.credits,
            "wojak_sidecar_epoch": self.epoch,
            "wojak_sidecar_oldest_unsettled_age_seconds": self.oldest_unsettled_ns / NS_PER_S,
        }
        if len(self.shards_open) > 1:
            gauges["wojak_sidecar_shard_open"] = {(str(n),): int(it) for n, it in enumerate(self.shards_open)}
        if self.broker_lag >= 0:
            gauges["wojak_sidecar_broker_lag"] = self.broker_lag
        if self.broker_oldest_age_ns >= 0:
            gauges["wojak_sidecar_broker_oldest_age_seconds"] = self.broker_oldest_age_ns / NS_PER_S
        return gauges
