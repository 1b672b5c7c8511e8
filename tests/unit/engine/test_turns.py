"""How much a turn of the loop takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.loop import messages_next


@given(items_max=st.integers(1, 1_024), messages=st.integers(1, 1_024), each=st.integers(1, 1_024))
def test_a_turn_takes_as_many_messages_as_have_the_items_of_a_batch(items_max: int, messages: int, each: int) -> None:
    """Whatever a message holds: no more items than a batch, unless one message alone has more, and none left idle."""
    following = messages_next(items_max, messages, messages * each)
    assert following * each <= items_max or following == 1
    assert (following + 1) * each > items_max


def test_messages_without_items_do_not_starve_the_next_turn() -> None:
    """Hellos and pings have no items: the next turn takes as many messages as a batch may have."""
    assert messages_next(1_024, 3, 0) == 1_024
