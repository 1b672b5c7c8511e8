"""``wojak flatten``: what is left is listed, and options that mean nothing are refused before anything is asked."""

from __future__ import annotations

import pytest

from cli.flatten import flatten, is_flat, lines_of
from protocol.control import FlattenResult, LeftOver
from protocol.errors import ConfigError

E9 = 10**9


def test_what_is_left_is_listed_with_its_reason() -> None:
    """A position, an order in doubt, or neither."""
    flat = FlattenResult("f", "flat", 3, 0, [])
    assert is_flat(flat)
    assert lines_of(flat) == ["✔ flat"]
    left = [LeftOver("demo", "BTCUSDT", -5 * E9 // 10, "no fresh price"), LeftOver("demo", "ETHUSDT", str(2 * E9), "")]
    late = FlattenResult("f", "deadline", 0, 1, left)
    assert not is_flat(late)
    assert lines_of(late) == [
        "✘ not flat: deadline", "  demo BTCUSDT -0.5: no fresh price", "  demo ETHUSDT 2",
        "  1 orders open or in doubt: wojak orders --open",
    ]  # fmt: skip
    assert not is_flat(FlattenResult("f", "deadline", 0, 1, []))


@pytest.mark.parametrize(
    ("within", "slippage", "named"),
    [("30", "", "--within"), ("2h", "", "--within"), ("61m", "", "--within"), ("50ms", "", "--within"),
     ("30s", "5", "--max-slippage"), ("30s", "10001bp", "--max-slippage"), ("30s", "0.125%", "--max-slippage"),
     ("30s", "-1bp", "--max-slippage")],
)  # fmt: skip
def test_times_and_slippages_are_bounded(within: str, slippage: str, named: str) -> None:
    """Each is named with what was expected."""
    with pytest.raises(ConfigError) as refused:
        flatten(reason="x", everything=True, within=within, max_slippage=slippage)
    assert named in str(refused.value)


def test_one_scope_is_needed() -> None:
    """A flatten of nothing in particular is none."""
    with pytest.raises(ConfigError):
        flatten(reason="x")
