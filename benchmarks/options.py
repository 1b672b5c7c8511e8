"""What every benchmark is told."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class Options(Struct, frozen=True, kw_only=True):
    """Sizes of a benchmark.

    Attributes:
        runs: Interleaved pairs of runs.
        seconds: How long a run takes at the bar, or at ``rate_per_s``: it fixes the number of orders.
        rate_per_s: Of open loops.
        batch: Orders a message, for ``decided``.
        poisson: Random arrivals instead of even ones.
        direct_io: The engine writes its journal past the page cache (``engine.direct_io``).
        direct_floor: The floor does.
        quick: Just see that it works: no figure of such a run means anything.
        folder: Where journals are written; its disk is what is measured.
        recording: The recorded session, for ``ticks``.
        ticks_per_s: How fast it is replayed, for ``ticks``.
        orders_of_day: Commands of the day that ``core`` decides and ``recovery`` recovers; 0 = their own number.
        kind: Of the source that is measured, for ``source``.
        connections: Of the HTTP client; orders of one account share one.
    """

    runs: int = 7
    seconds: float = 10.0
    rate_per_s: int = 5_000
    batch: int = 1
    poisson: bool = False
    direct_io: bool = False
    direct_floor: bool = False
    quick: bool = False
    folder: Path = Path(".wojak/bench")
    recording: Path = Path("../shared/data/btcusdt_20240808.gz")
    ticks_per_s: int = 25_000
    connections: int = 50
    kind: str = "rabbitmq"
    orders_of_day: int = 0

    def orders(self, per_s: int) -> int:
        """Return how many orders a run has."""
        return max(100, int(per_s * self.seconds))
