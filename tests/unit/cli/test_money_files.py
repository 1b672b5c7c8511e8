"""Files of account truth: an opening file and a broker's statement of money, read whole or refused with every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.adjust import account_lines
from cli.configuration import load, to_opening
from cli.money_file import is_money, read_money
from protocol.errors import ConfigError
from protocol.money import AccountMoney, CashRow, CollateralRow, CurrencyMoney, FxRow, PledgedMoney
from tests.unit.cli.test_configuration import write

ACCOUNTS = {"a1", "a2"}
E9 = 10**9


def statement(folder: Path, text: str) -> Path:
    path = folder / "broker.csv"
    path.write_text(text, "utf-8")
    return path


def test_cash_is_exact_and_knows_its_line(tmp_path: Path) -> None:
    """Columns in any order, amounts beyond int64, spaces and empty lines are no matter."""
    path = statement(tmp_path, "\ufeffcash, account ,currency\n-1.5,a1,USDT\n\n99999999999.000000001, a2 ,INR\n")
    assert is_money(path)
    assert [(r.row, r.line) for r in read_money(path, ACCOUNTS)] == [
        (CashRow("a1", "USDT", "-1500000000"), 2), (CashRow("a2", "INR", "99999999999000000001"), 4),
    ]  # fmt: skip


def test_collateral_may_say_its_haircut(tmp_path: Path) -> None:
    """Without the column it is 0."""
    path = statement(tmp_path, "account,asset,value,currency,haircut_bp\na1,BOND,5,INR,1000\n")
    assert [r.row for r in read_money(path, ACCOUNTS)] == [CollateralRow("a1", "BOND", "5000000000", "INR", 1000)]
    path = statement(tmp_path, "account,asset,value,currency\na1,BOND,5,INR\n")
    assert [r.row for r in read_money(path, ACCOUNTS)] == [CollateralRow("a1", "BOND", "5000000000", "INR", 0)]


def test_a_statement_of_positions_is_none_of_money(tmp_path: Path) -> None:
    """Its columns say so."""
    assert not is_money(statement(tmp_path, "account,instrument,quantity,price\n"))
    assert not is_money(statement(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("account,currency,cash\n", "expected at least one row"),
        ("account,currency,cash,what\na1,USDT,1,x\n", "line 1: expected the columns"),
        ("account,currency,cash\nnobody,USDT,1\n", "line 2: account: expected one of wojak.toml, was 'nobody'"),
        ("account,currency,cash\na1,USDT,1e3\n", "line 2: cash: expected a decimal"),
        ("account,currency,cash\na1,U$D,1\n", "line 2: expected a currency"),
        ("account,currency,cash\na1,USDT,1\n\na1,USDT,2\n", "line 4: expected a1 USDT once, was in line 2 too"),
        ("account,currency,cash\na1,USDT\n", "line 2: expected 3 cells, was 2"),
        ('account,currency,cash\na1,"USDT,1\n', "expected CSV"),
        ("account,asset,value,currency\na1,B,-1,INR\n", "line 2: expected a value of at least 0"),
        ("account,asset,value,currency,haircut_bp\na1,B,1,INR,1.5\n", "haircut in whole basis points"),
        ("account,asset,value,currency,haircut_bp\na1,B,1,INR,10001\n", "at most 10000 bp"),
    ],
)  # fmt: skip
def test_a_malformed_statement_is_refused_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    """Nothing of it is taken."""
    with pytest.raises(ConfigError) as caught:
        read_money(statement(tmp_path, text), ACCOUNTS)
    assert fault in str(caught.value)


def test_an_opening_file_has_all_of_account_truth(tmp_path: Path) -> None:
    """Cash of any size, collateral with its haircut, exchange rates."""
    path = write(tmp_path, ("# opening_file", "opening_file"))
    (tmp_path / "opening.toml").write_text(
        '[[cash]]\naccount = "demo"\ncurrency = "INR"\ncash = "99999999999"\n'
        '[[collateral]]\naccount = "demo"\nasset = "BOND"\nvalue = "5"\ncurrency = "INR"\nhaircut_bp = 1000\n'
        '[[fx]]\nof = "USDT"\nto = "INR"\nrate = "83.25"\n',
        "utf-8",
    )
    opening = to_opening(load(path))
    assert opening.cash[0].cash_e9 == 99_999_999_999 * E9
    assert opening.collateral == (CollateralRow("demo", "BOND", "5000000000", "INR", 1000),)
    assert opening.fx == (FxRow("USDT", "INR", 83_250_000_000),)


def test_accounts_are_shown_as_decimals() -> None:
    """An exchange rate that is missing is said, never taken as 0."""
    money = AccountMoney("a1", "USDT", [CurrencyMoney("USDT", "-1500000000", "7", "0")],
                         [PledgedMoney("BOND", "5000000000", "INR", 1000, "4500000000")], None)  # fmt: skip
    assert account_lines(money) == [
        "a1   usable unknown: an exchange rate is missing USDT",
        "  USDT: cash -1.5   fees 0.000000007   contracts 0",
        "  BOND: 5 INR less 1000 bp = 4.5",
    ]
