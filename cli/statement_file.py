"""A broker's position statement: a CSV file, read whole or refused whole, every fault with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

from protocol.errors import ConfigError, FieldError
from protocol.units import parse_e9

REQUIRED: Final = ("account", "instrument", "quantity")
OPTIONAL: Final = ("price",)
ROWS_MAX: Final = 10_000
BYTES_MAX: Final = 8 << 20
FAULTS_MAX: Final = 50


class Position(NamedTuple):
    """One row, and the line of the file it ends at."""

    account: str
    instrument: str
    quantity_e9: int
    price_e9: int
    line: int


def read_statement(
    path: Path, accounts: AbstractSet[str], quantity_steps: Mapping[str, str], *, needs_price: bool
) -> list[Position]:
    """Return the rows of a statement.

    Args:
        path: UTF-8, comma separated, the first line names the columns; other columns are refused.
        accounts: Known ones.
        quantity_steps: Of known instruments, decimal.
        needs_price: Whether a quantity that is not 0 needs a price.

    Raises:
        ConfigError: Naming every fault with its line, up to a bound.
    """
    text = text_of(path)
    faults: list[str] = []
    rows: list[Position] = []
    seen: dict[tuple[str, str], int] = {}
    for found in _rows(text, accounts, quantity_steps, needs_price=needs_price):
        if isinstance(found, str):
            faults.append(found)
            if len(faults) == FAULTS_MAX:
                break
            continue
        first = seen.setdefault((found.account, found.instrument), found.line)
        if first != found.line:
            faults.append(
                f"line {found.line}: expected {found.account} {found.instrument} once, was in line {first} too"
            )
        rows.append(found)
        if len(rows) > ROWS_MAX:
            faults.append(f"line {found.line}: expected at most {ROWS_MAX} rows, was one more")
            break
    if not rows and not faults:
        faults.append("expected at least one row, was none")
    if faults:
        raise ConfigError(faults, str(path))
    return rows


def text_of(path: Path) -> str:
    """Return the text of a statement.

    Raises:
        ConfigError: If it can't be read, is no UTF-8 or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.decode("utf-8-sig")
    except OSError as e:
        raise ConfigError([f"expected a file that can be read: {e.strerror}"], str(path)) from e
    except UnicodeDecodeError as e:
        raise ConfigError([f"expected UTF-8 text, was another at byte {e.start}"], str(path)) from e
    if len(data) > BYTES_MAX:
        raise ConfigError([f"expected at most {BYTES_MAX} bytes, was more"], str(path))
    return text


def cells_of(text: str) -> Iterator[tuple[int, list[str]] | str]:
    """Yield the lines of CSV text that have something in them, each with its number; at its end what is wrong."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as e:
        yield f"line {reader.line_num}: expected CSV, was {e}"


def _rows(
    text: str, accounts: AbstractSet[str], quantity_steps: Mapping[str, str], *, needs_price: bool
) -> Iterator[Position | str]:
    columns: list[str] = []
    for found in cells_of(text):
        if isinstance(found, str):
            yield found
            continue
        line, cells = found
        if not columns:
            columns = cells
            if fault := _columns_fault(columns):
                yield f"line {line}: {fault}"
                return
        elif len(cells) != len(columns):
            yield f"line {line}: expected {len(columns)} cells, was {len(cells)}"
        else:
            row = dict(zip(columns, cells, strict=True))
            yield _position(row, line, accounts, quantity_steps, needs_price=needs_price)


def _columns_fault(columns: list[str]) -> str:
    known = {*REQUIRED, *OPTIONAL}
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in known]
    if missing or unknown or len(set(columns)) != len(columns):
        return f"expected the columns {','.join(REQUIRED)} and perhaps price, was {','.join(columns)!r}"
    return ""


def _position(
    row: dict[str, str], line: int, accounts: AbstractSet[str], quantity_steps: Mapping[str, str], *, needs_price: bool
) -> Position | str:
    account, instrument = row["account"], row["instrument"]
    if account not in accounts:
        return f"line {line}: account: expected one of wojak.toml, was {account!r}"
    if instrument not in quantity_steps:
        return f"line {line}: instrument: expected one of wojak.toml, was {instrument!r}"
    try:
        quantity_e9 = parse_e9(row["quantity"], "quantity")
        price_e9 = parse_e9(row.get("price") or "0", "price")
    except FieldError as e:
        return f"line {line}: {e.field}: expected {e.expected}, was {e.value!r}"
    if quantity_e9 % parse_e9(quantity_steps[instrument], "quantity_step"):
        return f"line {line}: quantity: expected a multiple of {quantity_steps[instrument]}, was {row['quantity']!r}"
    if price_e9 < 0 or (needs_price and quantity_e9 and not price_e9):
        return f"line {line}: price: expected one above 0 to value what is adopted, was {row.get('price', '')!r}"
    return Position(account, instrument, quantity_e9, price_e9, line)
