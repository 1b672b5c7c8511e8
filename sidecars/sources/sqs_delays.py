"""For how long SQS keeps what is given back away from everybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from sidecars.core.source import Settlement, Why
from sidecars.sources.sqs_settings import SqsSettings

LATER: Final = frozenset({Why.ENGINE_BUSY, Why.SESSION_OVER})  # given back with a delay, all else at once
DOUBLINGS_MAX: Final = 16


def delays_s(back: Sequence[Settlement], settings: SqsSettings, between: Callable[[int, int], int]) -> list[int]:
    """Return whole seconds for each: half to all of a time that doubles with each receive; 0 = at once.

    Args:
        back: What is given back in one go.
        settings: Of the source.
        between: Returns a chance number from the first to the second, both included.

    Returns:
        Of a FIFO queue the same for all of one group: what comes later in it must not come earlier.
    """
    found = []
    of_lane: dict[str, int] = defaultdict(int)
    for settlement in back:
        receives = settlement.delivery.receipt.receives
        most = min(settings.retry_s << min(receives - 1, DOUBLINGS_MAX), settings.retry_max_s)
        found.append(between((most + 1) // 2, most) if settlement.why in LATER else 0)
        lane = settlement.delivery.lane
        of_lane[lane] = max(of_lane[lane], found[-1])
    return [of_lane[s.delivery.lane] for s in back] if settings.is_fifo else found
