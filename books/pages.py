"""Indexes as pages of numbers in a tree of fixed shape: a leaf for every 1,024 numbers, four levels, root 0. Pure.

Why: lists have to be paged in the order rows were made, also of what changes (open orders), without a query service.
A page's place follows from the number alone, so a writer changes a leaf, and what is above it only where the leaf
begins or ceases to be empty; a reader goes down past what is empty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

SPAN_BITS: Final = 10
LEVELS: Final = 4
NUMBER_MAX: Final = (1 << SPAN_BITS * LEVELS) - 1
_LOW: Final = (1 << SPAN_BITS) - 1


class Page(NamedTuple):
    """One page: of a list's index, at a level (0 = leaves), its place in it."""

    kind: str
    filters: str
    level: int
    number: int


_Changes = dict[Page, tuple[set[int], set[int]]]


def _nothing() -> tuple[set[int], set[int]]:
    return set(), set()


class Edit:
    """What is to be added to pages and taken out of them, level by level."""

    def __init__(self) -> None:
        self._levels: list[dict[Page, tuple[set[int], set[int]]]] = [
            defaultdict(lambda: (set(), set())) for _ in range(LEVELS)
        ]

    def add(self, kind: str, index: str, number: int) -> None:
        """Put a row's number into an index."""
        self._change(Page(kind, index, 0, number >> SPAN_BITS), number & _LOW, 0)

    def remove(self, kind: str, index: str, number: int) -> None:
        """Take a row's number out of an index."""
        self._change(Page(kind, index, 0, number >> SPAN_BITS), number & _LOW, 1)

    def run(self, read: Callable[[list[Page]], list[list[int]]]) -> Iterator[tuple[Page, list[int]]]:
        """Yield each page with what it is to hold; ``read`` returns what pages hold now."""
        for level, changes in enumerate(self._levels):
            pages = list(changes)
            for page, before in zip(pages, read(pages), strict=True):
                added, removed = changes[page]
                after = sorted((set(before) | added) - removed)
                if after == before:
                    continue
                yield page, after
                if level + 1 < LEVELS and bool(after) != bool(before):
                    parent = Page(page.kind, page.filters, level + 1, page.number >> SPAN_BITS)
                    self._change(parent, page.number & _LOW, 0 if after else 1)

    def _change(self, page: Page, low: int, which: int) -> None:
        both = self._levels[page.level][page]
        both[which].add(low)
        both[1 - which].discard(low)


def numbers_after(
    kind: str, index: str, after: int, read: Callable[[Page], Iterable[int]], page: Page | None = None
) -> Iterator[int]:
    """Yield an index's numbers above ``after``, rising; ``read`` returns what a page holds, and is asked late."""
    page = page or Page(kind, index, LEVELS - 1, 0)
    for low in read(page):
        number = page.number << SPAN_BITS | low
        if (number + 1 << SPAN_BITS * page.level) - 1 <= after:
            continue  # all of it is below
        if page.level == 0:
            yield number
        else:
            yield from numbers_after(kind, index, after, read, Page(kind, index, page.level - 1, number))
