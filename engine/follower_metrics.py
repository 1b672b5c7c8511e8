"""The follower's metrics: their names and what its loop measures."""

from __future__ import annotations

from typing import Final

from engine.replica import Replica
from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, Board, Family, Snapshot

SNAPSHOT: Final = "wojak_follower_snapshot_seconds"

FAMILIES: Final = (
    Family(SNAPSHOT, DURATION, "From beginning a snapshot to its name being durable"),
    Family("wojak_follower_snapshots", COUNTER, "Snapshots written by this process"),
    Family("wojak_follower_decided_again", COUNTER, "Recorded decisions that this replica decided the same"),
    Family("wojak_follower_unchecked", COUNTER, "Records applied without deciding them again, far behind"),
    Family("wojak_follower_hashes", COUNTER, "State hashes of the engine that were this replica's too"),
    Family("wojak_follower_parted", GAUGE, "First record at which engine and replica differ; 0 = none"),
    Family("wojak_follower_as_of_seq", GAUGE, "Last record applied"),
    Family("wojak_follower_lag_records", GAUGE, "Durable records not applied"),
    Family("wojak_follower_snapshot_seq", GAUGE, "Last record in the newest snapshot"),
    Family("wojak_follower_served", COUNTER, "Requests for history that were answered with frames or why not"),
    Family("wojak_follower_later", COUNTER, "Requests for history that were told to come later"),
    Family("wojak_follower_malformed", COUNTER, "Messages on the history socket that were no request"),
)


class FollowerMeters:
    """What the follower's loop measures; see ``FAMILIES``."""

    def __init__(self) -> None:
        self.snapshot = Histogram()
        self.snapshots = 0
        self.served = 0
        self.later = 0
        self.malformed = 0

    def publish(self, board: Board, replica: Replica, lag: int, now_ns: int) -> None:
        """Put a snapshot on the board; ``now_ns`` is monotonic."""
        values = {
            "wojak_follower_snapshots": self.snapshots,
            "wojak_follower_decided_again": replica.decided,
            "wojak_follower_unchecked": replica.unchecked,
            "wojak_follower_hashes": replica.hashes,
            "wojak_follower_parted": replica.parted.seq if replica.parted is not None else 0,
            "wojak_follower_as_of_seq": replica.seq,
            "wojak_follower_lag_records": lag,
            "wojak_follower_snapshot_seq": replica.snapshot_seq,
            "wojak_follower_served": self.served,
            "wojak_follower_later": self.later,
            "wojak_follower_malformed": self.malformed,
        }
        board.publish(Snapshot(now_ns, values, {SNAPSHOT: self.snapshot.snapshot()}))
