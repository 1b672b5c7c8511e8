"""The feed's metrics: their names and what its loop measures."""

from __future__ import annotations

from typing import Final

from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, SIZE, Board, Family, Snapshot

TURN: Final = "wojak_feed_turn_seconds"
BEHIND: Final = "wojak_feed_behind_seconds"
BATCH: Final = "wojak_feed_turn_ticks"

FAMILIES: Final = (
    Family(TURN, DURATION, "How long one turn published ticks: the loop's lag"),
    Family(BEHIND, DURATION, "How far the next tick was behind its time after a turn; 0 at speed 0"),
    Family(BATCH, SIZE, "Ticks published in one turn that had any"),
    Family("wojak_feed_ticks", COUNTER, "Ticks published"),
    Family("wojak_feed_rebased", COUNTER, "Times the feed was more than a second behind and went on from there"),
    Family("wojak_feed_snapshots", COUNTER, "Snapshot requests answered: subscribers that missed ticks or came late"),
    Family("wojak_feed_refused", COUNTER, "Snapshot requests that could not be read"),
    Family("wojak_feed_epoch", GAUGE, "Epoch of this start or loop"),
    Family("wojak_feed_instruments", GAUGE, "Instruments that are played"),
    Family("wojak_feed_tick_age_seconds", GAUGE, "Time since the last tick was published; absent before the first"),
)

NS_PER_S: Final = 1_000_000_000


class FeedMeters:
    """What the feed's loop measures; see ``FAMILIES``."""

    def __init__(self) -> None:
        self.turn = Histogram()
        self.behind = Histogram()
        self.batch = Histogram()
        self.last_tick_ns = 0

    def publish(self, board: Board, counts: dict[str, float], now_ns: int) -> None:
        """Put a snapshot on the board; ``now_ns`` is monotonic."""
        values = dict(counts)
        if self.last_tick_ns:
            values["wojak_feed_tick_age_seconds"] = (now_ns - self.last_tick_ns) / NS_PER_S
        histograms = {TURN: self.turn.snapshot(), BEHIND: self.behind.snapshot(), BATCH: self.batch.snapshot()}
        board.publish(Snapshot(now_ns, values, histograms))
