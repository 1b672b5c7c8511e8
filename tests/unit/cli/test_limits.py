"""``wojak limits``: what a line says, and what is refused before the engine is asked."""

from __future__ import annotations

import pytest

from cli.limit_text import differences
from cli.limits import line_of, set_limit
from protocol.codes import Scope
from protocol.contract_rows import ContractName, ContractRow, ContractScope
from protocol.control import ShownLimit
from protocol.errors import ConfigError
from protocol.params import LimitChange, LimitName, LimitRow
from protocol.risk_rows import RiskRows

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


def test_a_difference_says_what_is_new_gone_and_changed() -> None:
    """Rows are matched by what they are about and when they count; the order of rows is no difference."""
    rate = LimitRow(LimitName.RATE_COUNT, Scope.GLOBAL, "", 9, E9, source="NSE", version="2")
    lot = ContractRow(ContractName.LOT, ContractScope.UNDERLYING, "NIFTY", 65 * E9, 20251231)
    cutoff = ContractRow(ContractName.CUTOFF_SELL_NS, ContractScope.CLASS, "CALL", 1_800_000 * 10**6)
    running = RiskRows((ROW, rate), (lot,))
    assert differences(running, RiskRows((rate, ROW), (lot,))) == []
    wider = LimitRow(LimitName.POSITION_MAX, Scope.ACCOUNT, "demo", 6 * E9, soft=5 * E9)
    found = differences(running, RiskRows((wider,), (lot, cutoff)))
    gone, changed, new = sorted(found, key=lambda line: "-~+".index(line[0]))
    assert " ".join(gone.split()) == "- RATE_COUNT of global 9 in 1000 ms [NSE version 2]"
    assert " ".join(changed.split()) == "~ POSITION_MAX of account demo 5 (at most 8) → 6, soft 5"
    assert " ".join(new.split()) == "+ CUTOFF_SELL_NS of class CALL 1800000 ms"
