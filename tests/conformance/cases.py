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


def without(*names: str) -> Callable[[type], type]:
    """Take cases out of a source's suite that its broker has nothing for; the matrix says why of each.

    They are not collected: a test that is skipped looks like one that could have run.
    """

    def take_out(suite: type) -> type:
        for name in names:
            assert callable(getattr(suite, name, None)), f"{suite.__name__} has no case {name}"
            setattr(suite, name, None)
        return suite

    return take_out


def ids(count: int, first: int = 0) -> list[str]:
    """Return the ids of ``orders(count, first)``."""
    return [f"o{n:06d}" for n in range(first, first + count)]
