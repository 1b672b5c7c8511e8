"""Which case a test shows, and the ids it uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def covers(*cases: str) -> Callable[[T], T]:
    """Say which cases of SOURCES section 12 a test shows."""

    def mark(test: T) -> T:
        test.cases = cases  # type: ignore[attr-defined]
        return test

    return mark


def ids(count: int, first: int = 0) -> list[str]:
    """Return the ids of ``orders(count, first)``."""
    return [f"o{n:06d}" for n in range(first, first + count)]
