"""Leases: how long the source leaves a delivery with us, on the monotonic clock.

Rule R7 (SOURCES section 1): extend when less than half is left, retry a failed extension after 1 s, and hold a delivery
LOST a margin before the source does, so that a lease that ran out is never settled negatively.
"""

from __future__ import annotations

from typing import Final

from sidecars.core.source import Delivery

NS_PER_MS: Final = 1_000_000
EXTEND_RETRY_NS: Final = 1_000_000_000


def left_ms(delivery: Delivery, now_ns: int) -> int:
    """Return what is left of the lease in whole ms, at least 1; 0 for a delivery without a lease."""
    until_ns = delivery.lease_until_mono_ns
    if until_ns == 0:
        return 0
    return max(1, (until_ns - now_ns) // NS_PER_MS)


def is_over(delivery: Delivery, now_ns: int) -> bool:
    """Whether the lease is gone."""
    return 0 < delivery.lease_until_mono_ns <= now_ns


def needs_extension(delivery: Delivery, extend_ms: int, now_ns: int) -> bool:
    """Whether less than half of what an extension gives is left."""
    until_ns = delivery.lease_until_mono_ns
    return until_ns > 0 and until_ns - now_ns < extend_ms * NS_PER_MS // 2
