"""``wojak limits``: what a line says, and what is refused before the engine is asked."""

from __future__ import annotations

import pytest

from cli.limits import line_of, set_limit
from protocol.codes import Scope
from protocol.control import ShownLimit
from protocol.errors import ConfigError
from protocol.params import LimitChange, LimitName, LimitRow

E9 = 10**9
ROW = LimitRow(LimitName.POSITION_MAX, Scope.ACCOUNT, "demo", 5 * E9, value_max=8 * E9)
CHANGE = LimitChange(LimitName.POSITION_MAX, Scope.ACCOUNT, "demo", 3 * E9, "ann", "volatile", 1_780_000_000 * E9)


def test_a_line_says_what_is_in_force_first() -> None:
    """The operator's value with name, time and reason, then the file's; without one, the file's alone."""
    alone = line_of(ShownLimit(ROW.name, ROW.scope, ROW.key, ROW, None))
    assert alone.split() == ["POSITION_MAX", "account", "demo", "5", "(at", "most", "8)", "as", "the", "file", "says"]
    both = line_of(ShownLimit(ROW.name, ROW.scope, ROW.key, ROW, CHANGE))
    assert both.split()[3] == "3"
    assert "set by ann 2026-05-28 20:26:40: volatile   the file says 5 (at most 8)" in both
    rate = LimitRow(LimitName.RATE_COUNT, Scope.GLOBAL, "", 9, E9, 2)
    assert "9 in 1000 ms, 2 more for exits" in line_of(ShownLimit(rate.name, rate.scope, "", rate, None))
    assert "the file says no row" in line_of(ShownLimit(ROW.name, ROW.scope, ROW.key, None, CHANGE))


@pytest.mark.parametrize(
    ("limit", "value"), [("POSITION_MAX", "1e3"), ("POSITION_MAX", "-1"), ("OPEN_COUNT_MAX", "1.5")]
)
def test_a_value_that_is_none_is_refused(limit: str, value: str) -> None:
    """Decimals for money and quantities, whole numbers for counts, nothing below 0."""
    with pytest.raises(ConfigError):
        set_limit(limit, value, reason="x", everything=True)  # type: ignore[arg-type]


def test_one_scope_is_named() -> None:
    """None and two are refused alike."""
    for scopes in ({}, {"account": "demo", "everything": True}):
        with pytest.raises(ConfigError):
            set_limit("POSITION_MAX", "3", reason="x", **scopes)  # type: ignore[arg-type]
