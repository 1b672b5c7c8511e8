"""A broker's statement of cash or of collateral: a CSV file, read whole or refused whole, every fault with its line.

Its columns say what it is: ``account,currency,cash`` or ``account,asset,value,currency[,haircut_bp]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cli.statement_file import FAULTS_MAX, ROWS_MAX, cells_of, text_of
from protocol.errors import ConfigError, FieldError
from protocol.money import CashRow, CollateralRow, parse_money_e9

CASH: Final = ("account", "currency", "cash")
COLLATERAL: Final = ("account", "asset", "value", "currency")
HAIRCUT: Final = "haircut_bp"


class MoneyRow(NamedTuple):
    """One row, and the line of the file it ends at."""

    row: CashRow | CollateralRow
    line: int


def is_money(path: Path) -> bool:
    """Whether a statement's columns say that it is of cash or collateral; else it is of positions.

    Raises:
        ConfigError: If it can't be read.
    """
    first = text_of(path).splitlines()[:1]
    columns = {name.strip() for name in first[0].split(",")} if first else set[str]()
    return columns >= set(CASH) or columns >= set(COLLATERAL)


def read_money(path: Path, accounts: AbstractSet[str]) -> list[MoneyRow]:
    """Return the rows of a statement of cash or collateral.

    Args:
        path: UTF-8, comma separated, the first line names the columns; other columns are refused.
        accounts: Known ones.

    Raises:
        ConfigError: Naming every fault with its line, up to a bound.
    """
    faults: list[str] = []
    rows: list[MoneyRow] = []
    seen: dict[tuple[str, str], int] = {}
    for found in _rows(text_of(path), accounts):
        if isinstance(found, str):
            faults.append(found)
        else:
            row, line = found
            key = row.account, row.currency if isinstance(row, CashRow) else row.asset
            first = seen.setdefault(key, line)
            if first != line:
                faults.append(f"line {line}: expected {' '.join(key)} once, was in line {first} too")
            rows.append(found)
            if len(rows) > ROWS_MAX:
                faults.append(f"line {line}: expected at most {ROWS_MAX} rows, was one more")
                break
        if len(faults) >= FAULTS_MAX:
            break
    if not rows and not faults:
        faults.append("expected at least one row, was none")
    if faults:
        raise ConfigError(faults, str(path))
    return rows


def _rows(text: str, accounts: AbstractSet[str]) -> Iterator[MoneyRow | str]:
    columns: list[str] = []
    for found in cells_of(text):
        if isinstance(found, str):
            yield found
            continue
        line, cells = found
        if not columns:
            columns = cells
            known = [{*CASH}, {*COLLATERAL}, {*COLLATERAL, HAIRCUT}]
            if set(columns) not in known or len(set(columns)) != len(columns):
                expected = f"{','.join(CASH)} or {','.join(COLLATERAL)} and perhaps {HAIRCUT}"
                yield f"line {line}: expected the columns {expected}, was {','.join(columns)!r}"
                return
        elif len(cells) != len(columns):
            yield f"line {line}: expected {len(columns)} cells, was {len(cells)}"
        else:
            yield _row(dict(zip(columns, cells, strict=True)), line, accounts)


def _row(row: dict[str, str], line: int, accounts: AbstractSet[str]) -> MoneyRow | str:
    account = row["account"]
    if account not in accounts:
        return f"line {line}: account: expected one of wojak.toml, was {account!r}"
    try:
        if "cash" in row:
            cash = CashRow(account, row["currency"], str(parse_money_e9(row["cash"], "cash")))
            return MoneyRow(msgspec.convert(msgspec.to_builtins(cash), CashRow), line)
        value_e9 = parse_money_e9(row["value"], "value")
        haircut = row.get(HAIRCUT) or "0"
        if value_e9 < 0 or not (haircut.isascii() and haircut.isdecimal()):
            return f"line {line}: expected a value of at least 0 and a haircut in whole basis points"
        pledged = CollateralRow(account, row["asset"], str(value_e9), row["currency"], int(haircut[:6]))
        return MoneyRow(msgspec.convert(msgspec.to_builtins(pledged), CollateralRow), line)
    except FieldError as e:
        return f"line {line}: {e.field}: expected {e.expected}, was {e.value!r}"
    except msgspec.ValidationError:
        return f"line {line}: expected a currency of 1 to 16 letters, an asset, a haircut of at most 10000 bp"
