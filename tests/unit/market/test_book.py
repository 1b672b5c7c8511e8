"""The book by price level, against a model that sorts everything at each step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from market.book import Book
from protocol.codes import Side
from protocol.ticks import Level

LEVELS = st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0, 0, 1, 5, 9])), max_size=6)


def test_levels_are_absolute() -> None:
    """A size replaces, 0 removes, and removing an unknown level is normal."""
    book = Book()
    book.apply_snapshot([(100, 10), (99, 20)], [(101, 8), (102, 12)])
    book.apply_levels([(100, 0), (98, 30), (50, 0)], [(101, 3)])
    assert book.levels(Side.BUY) == [(99, 20), (98, 30)]
    assert book.levels(Side.SELL) == [(101, 3), (102, 12)]
    assert (book.best_bid, book.bid_size(), book.best_ask, book.ask_size()) == (99, 20, 101, 3)


def test_an_empty_side_has_no_best() -> None:
    """Without levels there is no best price and its size is 0."""
    book = Book()
    assert (book.best_bid, book.bid_size(), book.best_ask, book.ask_size()) == (None, 0, None, 0)
    book.apply_levels([(100, 1)], [])
    book.apply_levels([(100, 0)], [])
    assert (book.best_bid, book.bid_size()) == (None, 0)
    book.apply_levels([(7, 1)], [(9, 1)])
    book.clear()
    assert (book.best_bid, book.best_ask, book.bids, book.asks) == (None, None, {}, {})


def test_a_message_moves_both_sides_at_once() -> None:
    """A bid at the old ask is no crossing when the same message takes that ask away."""
    book = Book()
    book.apply_snapshot([(100, 10)], [(101, 8), (102, 12)])
    book.apply_levels([(101, 5)], [(101, 0)])
    assert (book.best_bid, book.best_ask, book.dropped) == (101, 102, 0)


def test_crossed_levels_of_the_older_side_are_dropped() -> None:
    """A bid above resting asks shows that those are stale; a locked book stays."""
    book = Book()
    book.apply_snapshot([(100, 10)], [(101, 8), (102, 12), (103, 4)])
    book.apply_levels([(102, 5)], [])
    assert (book.best_bid, book.levels(Side.SELL), book.dropped) == (102, [(102, 12), (103, 4)], 1)
    book.apply_levels([], [(99, 1)])
    assert (book.levels(Side.BUY), book.best_ask, book.dropped) == ([], 99, 3)


def test_the_best_is_found_far_away() -> None:
    """Past the walk to the neighbours the whole side is searched."""
    book = Book()
    book.apply_snapshot([(10_000, 1), (5, 1)], [(10_001, 1), (90_000, 1)])
    book.apply_levels([(10_000, 0)], [(10_001, 0)])
    assert (book.best_bid, book.best_ask) == (5, 90_000)


@settings(deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS), max_size=30))
def test_the_best_prices_are_those_of_the_sorted_levels(messages: list[tuple[list[Level], list[Level]]]) -> None:
    """Whatever comes, best prices equal the extremes, no size is 0, and the book is never crossed."""
    book = Book()
    for bids, asks in messages:
        book.apply_levels(bids, [(price + 150, size) for price, size in asks])
        assert book.best_bid == max(book.bids, default=None)
        assert book.best_ask == min(book.asks, default=None)
        assert 0 not in book.bids.values()
        assert 0 not in book.asks.values()
        assert book.best_bid is None or book.best_ask is None or book.best_bid <= book.best_ask
