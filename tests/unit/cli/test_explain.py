"""``wojak limits explain``: without an engine, by the configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.example import write_example
from cli.explain import explain
from cli.order import Terms
from protocol.errors import ConfigError

ORDER = {
    "account": "demo",
    "strategy": "manual",
    "instrument": "BTCUSDT",
    "side": "BUY",
    "quantity": "0.01",
    "price": "61800",
}
DATED = """
[[limits]]
limit = "POSITION_MAX"
value = "3"
effective_from = 2026-01-01
effective_to = 2026-06-30
source = "committee"

"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wojak.toml"
    write_example(path)
    return path


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_every_check_is_said_with_its_rows(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a check, below it the rows it reads, the one that binds marked; exit code 0 if all pass."""
    assert explain("buy", "BTCUSDT", "0.01", terms=Terms(limit="61800"), reference="62000", config=config) == 0
    lines = said(capsys)
    at = lines.index("✔ POS_LIMIT expected a worst-case position of at most 5, was 0.01 (account demo)")
    assert lines[at + 1] == "▸ POSITION_MAX of account demo 5"
    assert "✔ PRICE_COLLAR expected no worse than 62620, was 61800" in lines
    assert "▸ set by instruments.collar_bp" in lines
    assert lines[-1].startswith("ACCEPTED: ")


def test_all_rows_are_shown_and_the_tightest_is_marked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two scopes with a row: both stand there, one binds; on another trading date the other does."""
    config.write_text(config.read_text().replace("[[limits]]", DATED + "[[limits]]", 1))
    buy = Terms(limit="61800")
    assert explain("buy", "BTCUSDT", "4", terms=buy, reference="62000", date="2026-06-30", config=config) == 1
    lines = said(capsys)
    at = lines.index("✘ POS_LIMIT expected a worst-case position of at most 3, was 4 (all accounts)")
    assert lines[at + 1] == "▸ POSITION_MAX of global 3 from 2026-01-01 to 2026-06-30 [committee]"
    assert lines[at + 2] == "POSITION_MAX of account demo 5"
    assert lines[-1] == "REJECTED: POS_LIMIT"
    assert explain("buy", "BTCUSDT", "4", terms=buy, reference="62000", date="2026-07-01", config=config) == 0
    lines = said(capsys)
    assert "▸ POSITION_MAX of account demo 5" in lines
    assert not any("global 3" in line for line in lines)


def test_an_order_comes_from_a_file(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON as the HTTP source takes it; what it lacks is named, and an order in words beside it is refused."""
    file = tmp_path / "order.json"
    file.write_text(json.dumps(ORDER))
    assert explain(file=file, reference="62000", config=config) == 0
    assert explain(file=file, config=config) == 1
    assert said(capsys)[-1] == "REJECTED: REF_STALE"
    file.write_text(json.dumps(ORDER | {"quantity": 1}))
    with pytest.raises(ConfigError, match="quantity"):
        explain(file=file, config=config)
    with pytest.raises(ConfigError, match="both or neither"):
        explain("buy", "BTCUSDT", "1", file=file, config=config)


def test_opening_positions_count(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was held before the journal began is in the worst case."""
    text = config.read_text().replace("# opening_file", "opening_file")
    config.write_text(text)
    row = '[[positions]]\naccount = "demo"\ninstrument = "BTCUSDT"\nquantity = "4.5"\nprice = "61000"\n'
    (tmp_path / "opening.toml").write_text(row)
    assert explain("buy", "BTCUSDT", "1", terms=Terms(limit="61800"), reference="62000", config=config) == 1
    assert any("POS_LIMIT expected a worst-case position of at most 5, was 5.5" in line for line in said(capsys))
    assert explain("sell", "BTCUSDT", "4.5", terms=Terms(limit="61800"), reference="62000", config=config) == 0
