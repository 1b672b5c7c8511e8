"""What a feed is told: its settings, and which of them can't be played.

Not in market/feed.py: that module is compiled ahead of time, where a ``msgspec.Struct`` can't be defined.
"""

from __future__ import annotations

from msgspec import Struct

from market.errors import FeedError
from protocol.params import InstrumentParams
from runtime.health import HealthSettings


class FeedSettings(Struct, frozen=True):
    """What a feed is told.

    Attributes:
        instruments: What is played: exactly the recorded one for a recording, any number for a synthetic session.
        recording: Path of a raw Binance recording; empty = a synthetic session.
        start_prices_e9: Of the synthetic session, one an instrument; empty = 618,000 ticks each.
        rate_per_s: Of the synthetic session: things that happen a second in each instrument.
        speed: 1 = as recorded, N = N times as fast, 0 = as fast as it goes.
        loop: Begin again at the end of a recording; else stay, answer, and let the table age.
        epoch_path: Where the feed remembers its epoch between starts; empty = beside the table.
        spread_over: For benchmarks (DECISIONS 50): tick i also goes to the table's row of instrument i mod N of
            these, in the first instrument's prices; nothing of it is published.
        health: Where the feed tells how it is.
    """

    publish_endpoint: str
    request_endpoint: str
    table_path: str
    instruments: tuple[InstrumentParams, ...]
    recording: str = ""
    seed: int = 1
    start_prices_e9: tuple[int, ...] = ()
    rate_per_s: int = 100
    speed: float = 1.0
    loop: bool = True
    epoch_path: str = ""
    spread_over: tuple[str, ...] = ()
    publish_hwm: int = 100_000
    health: HealthSettings = HealthSettings()


def require_playable(settings: FeedSettings) -> None:
    """Raise FeedError if what the settings say can't be played; names it and what to do."""
    count = len(settings.instruments)
    if settings.recording and count != 1:
        raise FeedError("instruments of a recording", "exactly the recorded one", str(count), "name that one")
    if not count:
        raise FeedError("instruments", "at least one", "none", "add one")
    if settings.start_prices_e9 and len(settings.start_prices_e9) != count:
        raise FeedError(
            "start_prices_e9", f"{count}, one an instrument", str(len(settings.start_prices_e9)), "add or remove"
        )
    if settings.speed < 0 or settings.rate_per_s < 1:
        raise FeedError(
            "speed, rate_per_s", "at least 0 and 1", f"{settings.speed}, {settings.rate_per_s}", "correct them"
        )
