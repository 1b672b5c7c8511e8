"""Equal numbers of many instruments as one object each, so that what every order reads of them stays in the cache."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

KEPT_MAX: Final = 1 << 14


@lru_cache(maxsize=KEPT_MAX)
def same(value: int) -> int:
    """Return the number; for equal numbers the same object, unless more than ``KEPT_MAX`` others came between."""
    return value
