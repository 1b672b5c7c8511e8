"""What is journaled as received nests no deeper than whoever reads the journal can follow."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from protocol.codes import OrderType, Side, TimeInForce
from protocol.errors import NOT_DECODED
from protocol.nesting import FLAT_BYTES, NESTING_MAX, require_flat
from protocol.orders import LEGS_MAX, NAME_CHARS_MAX, NewBasket, NewOrder

VALUES = st.recursive(
    st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_leaves=60,
)


def depth(value: object) -> int:
    """Return how many containers stand around the innermost value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def nested(levels: int) -> Raw:
    return Raw(b"\x91" * levels + b"\xc0")


def test_the_bound_is_where_it_is_said_to_be() -> None:
    """16 levels pass, 17 do not, and what no decoder can follow is refused likewise."""
    require_flat(nested(NESTING_MAX))
    with pytest.raises(msgspec.DecodeError, match="nesting expected at most 16 levels"):
        require_flat(nested(NESTING_MAX + 1))
    with pytest.raises(NOT_DECODED):
        require_flat(nested(100_000))


@given(VALUES, st.integers(0, 30))
@example(None, NESTING_MAX)
@example(None, NESTING_MAX + 1)
@example([], NESTING_MAX - 1)
@example([], NESTING_MAX)
def test_values_pass_by_their_depth_alone(value: object, around: int) -> None:
    """Arrays and maps, wide or narrow."""
    for _ in range(around):
        value = [value, 1]
    try:
        require_flat(Raw(msgspec.msgpack.encode(value)))
        passed = True
    except msgspec.DecodeError:
        passed = False
    assert passed == (depth(value) <= NESTING_MAX)


def test_our_own_largest_command_passes() -> None:
    """A basket of the most legs with the longest names is longer than what is never looked at."""
    name = "n" * NAME_CHARS_MAX
    leg = NewOrder(name, name, name, name, Side.BUY, OrderType.LIMIT, TimeInForce.DAY, 1)
    raw = Raw(msgspec.msgpack.encode(NewBasket(name, name, [leg] * LEGS_MAX)))
    assert len(raw) > FLAT_BYTES
    require_flat(raw)
