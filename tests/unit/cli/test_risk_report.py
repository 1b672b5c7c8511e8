"""``wojak risk report``: the example's figures in the terminal, a page that needs no network, a run's own positions."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from books.sqlite import SqliteStore
from books.store import StoreMark
from cli.configuration import load
from cli.example import EXAMPLE
from cli.risk import report
from journal.projection import Changes, State
from journal.rows import PositionRow
from protocol.errors import ConfigError
from protocol.units import E9
from tests.tidy_rules import ROOT

FOLDER = ROOT / "examples" / "risk"
BOOK, PARAMS, MARKET = FOLDER / "book.json", FOLDER / "params.toml", FOLDER / "market.json"


def test_the_example_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Margin, Greeks, scenarios, stress, expiries, limits and the source of each parameter, in tables."""
    assert report(BOOK, params=PARAMS, market=MARKET) == 0
    said = capsys.readouterr().out
    assert "desk · 2026-05-29 · margin 599,061 INR, funds 1,500,000" in said
    for title in (
        "Margin, INR",
        "Exposure",
        "P&L of the 16 scenarios",
        "Stress: the worst 5 of 144",
        "When it expires",
    ):
        assert f"\n{title}" in said
    assert re.search(r"STRESS +490,381 +750,000 +65 %", said)
    assert re.search(r"calendar_charge +420 money +2026-05-29 +nsccl", said)
    assert all(len(line) <= 96 for line in said.splitlines())


def test_the_page_holds_everything_itself(tmp_path: Path) -> None:
    """Six plots with their library inside, every table, and no script, style or picture from elsewhere."""
    page = tmp_path / "risk.html"
    assert report(BOOK, params=PARAMS, market=MARKET, html=page) == 0
    text = page.read_text("utf-8")
    assert len(re.findall(r"Plotly\.newPlot\(", text.split("</head>")[1])) == 6
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
    for figure in ("599,061", "660,320", "−490,381", "−3,699"):
        assert figure in text


def test_what_is_exceeded_or_not_priced_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Funds that do not suffice, and a contract without a price: exit code 1, the latter by its name."""
    poor = json.loads(BOOK.read_bytes()) | {"funds": "1000"}
    unknown = json.loads(BOOK.read_bytes())
    unknown["positions"].append({"instrument": "GOLD<b>", "quantity": "1"})
    for number, content in enumerate((poor, unknown)):
        path, page = tmp_path / f"{number}.json", tmp_path / f"{number}.html"
        path.write_text(json.dumps(content))
        assert report(path, params=PARAMS, market=MARKET, html=page) == 1
    assert "not priced, not in these figures: GOLD<b>" in capsys.readouterr().out
    assert "GOLD&lt;b&gt;" in page.read_text("utf-8"), "names are text on a page"
    assert "GOLD<b>" not in page.read_text("utf-8")


def deployment(folder: Path, quantity: int) -> Path:
    """Write a deployment whose books hold one position, and return its configuration."""
    config = folder / "wojak.toml"
    config.write_text(EXAMPLE)
    store = load(config).paths.of(0).books
    store.parent.mkdir(parents=True, exist_ok=True)
    books = SqliteStore(store)
    rows = [PositionRow(1, "paper", "demo", "NIFTY26JUNFUT", quantity, 0, {}, 1)]
    books.apply(StoreMark(), Changes([], [], rows, [], State(seq=1)), StoreMark(1, 7, 1, State(seq=1)))
    books.close()
    return config


def test_positions_come_from_the_books_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the account's positions are those that its books have: two lots of the future."""
    config = deployment(tmp_path, 130 * E9)
    assert report(params=PARAMS, market=MARKET, account="demo", funds="2000000", config=config) == 0
    said = capsys.readouterr().out
    assert re.search(r"NIFTY +2026-06-30 +– +130 +130.0", said)
    assert "scan risk                  284,692" in said


def test_an_account_that_is_none_is_refused(tmp_path: Path) -> None:
    """Neither file nor account, an unknown account, and books that were never written: each said."""
    config = tmp_path / "wojak.toml"
    config.write_text(EXAMPLE)
    for account, said in (("", "--account"), ("nobody", "expected one of demo, flow"), ("demo", "were none")):
        with pytest.raises(ConfigError, match=said):
            report(params=PARAMS, market=MARKET, account=account, config=config)


def test_an_environment_without_numpy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command names it instead of a traceback."""
    for name in [n for n in sys.modules if n.startswith("risk.portfolio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigError, match=r"wojak\[risk\]"):
        report(BOOK, params=PARAMS, market=MARKET)
