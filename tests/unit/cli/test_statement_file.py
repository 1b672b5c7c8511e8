"""A broker's statement: read whole, or refused with every fault and its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.statement_file import FAULTS_MAX, Position, read_statement
from protocol.errors import ConfigError
from protocol.units import format_e9

ACCOUNTS = {"a1", "a2"}
STEPS = {"XY": "0.5", "ZZ": "1"}
E9 = 10**9


def read(folder: Path, text: str, *, needs_price: bool = False) -> list[Position]:
    path = folder / "broker.csv"
    path.write_text(text, "utf-8")
    return read_statement(path, ACCOUNTS, STEPS, needs_price=needs_price)


def faults(folder: Path, text: str, *, needs_price: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, needs_price=needs_price)
    return str(caught.value)


def test_rows_are_exact_and_know_their_line(tmp_path: Path) -> None:
    """Signed decimals, columns in any order, spaces and empty lines and a byte order mark are no matter."""
    text = "\ufeffinstrument, quantity ,account,price\nXY,-1.5,a1,100.25\n\n ZZ ,3, a2 ,\n"
    assert read(tmp_path, text) == [
        Position("a1", "XY", -1_500_000_000, 100_250_000_000, 2), Position("a2", "ZZ", 3 * E9, 0, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a9,XY,1,1", "line 2: account: expected one of wojak.toml, was 'a9'"),
        ("a1,??,1,1", "line 2: instrument: expected one of wojak.toml, was '??'"),
        ("a1,XY,one,1", "line 2: quantity: expected"),
        ("a1,XY,,1", "line 2: quantity: expected"),
        ("a1,XY,0.3,1", "line 2: quantity: expected a multiple of 0.5, was '0.3'"),
        ("a1,XY,1,x", "line 2: price: expected"),
        ("a1,XY,1,-1", "line 2: price: expected one above 0"),
        ("a1,XY,1,", "line 2: price: expected one above 0"),
        ("a1,XY,1", "line 2: expected 4 cells, was 3"),
        ("a1,XY,1,1,1", "line 2: expected 4 cells, was 5"),
        ("a1,XY,99999999999999999999,1", "line 2: quantity: expected"),
        ('a1,"XY,1,1', "expected CSV"),
    ],
)
def test_a_malformed_row_is_named_with_line_and_expectation(tmp_path: Path, row: str, said: str) -> None:
    """And nothing of the file is taken."""
    assert said in faults(tmp_path, f"account,instrument,quantity,price\n{row}\n", needs_price=True)


@pytest.mark.parametrize(
    "head", ["account,instrument", "account,instrument,quantity,note", "account,account,quantity", ""]
)
def test_columns_are_what_the_docs_say(tmp_path: Path, head: str) -> None:
    """One that is missing, unknown or twice, or no file to speak of."""
    assert "expected" in faults(tmp_path, f"{head}\n")


def test_all_faults_are_named_at_once_up_to_a_bound(tmp_path: Path) -> None:
    """A position twice too; a file of nothing but faults does not fill the screen."""
    said = faults(tmp_path, "account,instrument,quantity\na1,XY,1\na9,XY,1\na1,XY,2\n")
    assert "line 3: account" in said
    assert "line 4: expected a1 XY once, was in line 2 too" in said
    many = faults(tmp_path, "account,instrument,quantity\n" + "a9,XY,1\n" * 1000)
    assert many.count("line ") == FAULTS_MAX


def test_a_file_that_is_none_is_said_so(tmp_path: Path) -> None:
    """Absent, or not text."""
    with pytest.raises(ConfigError, match="can be read"):
        read_statement(tmp_path / "absent.csv", ACCOUNTS, STEPS, needs_price=False)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_statement(tmp_path / "binary.csv", ACCOUNTS, STEPS, needs_price=False)


@given(quantities=st.lists(st.integers(-18 * E9, 18 * E9), min_size=1, max_size=2))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, quantities: list[int]) -> None:
    """Any signed number of steps, to the last digit."""
    names = [("a1", "XY"), ("a2", "XY")]
    lines = [f"{a},{i},{format_e9(q * E9 // 2)}" for (a, i), q in zip(names, quantities, strict=False)]
    rows = read(tmp_path_factory.mktemp("csv"), "account,instrument,quantity\n" + "\n".join(lines))
    assert [r.quantity_e9 for r in rows] == [q * E9 // 2 for q in quantities]
