"""SQLite tables derived from the row Structs, so that a field can't be in one and not in the other.

Rule: INTEGER columns hold int64 only; sums without a bound, and amounts that a venue states, are TEXT.
"""

from __future__ import annotations

import typing
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, structs

from journal.rows import BreachRow, OrderRow, PositionRow, TradeRow

SCHEMA_VERSION: Final = 3
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[str, int]).decode


class Table(NamedTuple):
    """One kind of row in SQLite.

    Attributes:
        key: Primary key; for what is upserted, the row's identity.
        cursor: Column that pages lists.
        unbounded: Fields of type int kept as TEXT.
        unique: Another key that must not repeat.
        indexes: Columns of each index; the cursor column is appended to all.
    """

    name: str
    row: type[Any]
    key: tuple[str, ...]
    cursor: str
    unbounded: frozenset[str]
    unique: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...]


TABLES: Final = {
    t.name: t
    for t in (
        Table(
            "orders",
            OrderRow,
            ("account", "client_order_id", "day"),  # an id may come again on a later trading date
            "accepted_seq",
            frozenset({"value_e9", "cost_e18", "cum_quantity_e9", "filled_e9"}),
            (),
            (("account", "is_open"), ("account", "strategy"), ("account", "instrument"), ("account",), ("day",),
             ("code",), ("is_open",), ("order_id",), ()),
        ),
        Table(
            "trades",
            TradeRow,
            ("seq",),
            "seq",
            frozenset({
                "fee_e9", "position_e9", "last_price_e9", "last_quantity_e9", "first_price_e9", "first_quantity_e9",
            }),
            ("venue", "trade_id"),
            (("account", "client_order_id"), ("account", "strategy"), ("account", "instrument"), ("account",),
             ("day",), ("status",)),
        ),
        Table(
            "positions",
            PositionRow,
            ("account", "instrument"),
            "rowid",
            frozenset({"quantity_e9", "cost_e18", "anchor_quantity_e9", "anchor_cost_e18"}),
            (),
            (),
        ),
        Table(
            "breaches",
            BreachRow,
            ("seq",),
            "seq",
            frozenset({"expected", "actual", "reference_age_ns"}),
            (),
            (("account", "strategy"), ("account", "instrument"), ("account",), ("day",), ("code",)),
        ),
    )
}  # fmt: skip


def columns(table: Table) -> tuple[str, ...]:
    """Return the column names, as the Struct's fields."""
    return tuple(f.name for f in structs.fields(table.row))


def ddl() -> list[str]:
    """Return the statements that make an empty store."""
    found = [
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
    ]
    for table in TABLES.values():
        hints = typing.get_type_hints(table.row)
        parts = [f"{name} {_sql_type(table, name, hints[name])} NOT NULL" for name in columns(table)]
        single = len(table.key) == 1
        parts = [
            p.replace(" NOT NULL", " PRIMARY KEY") if single and p.split()[0] == table.key[0] else p for p in parts
        ]
        if not single:
            parts.append(f"PRIMARY KEY ({', '.join(table.key)})")
        if table.unique:
            parts.append(f"UNIQUE ({', '.join(table.unique)})")
        found.append(f"CREATE TABLE {table.name} ({', '.join(parts)})")
        for index in table.indexes:
            by = [*index, table.cursor]
            found.append(f"CREATE INDEX {table.name}_{'_'.join(by)} ON {table.name} ({', '.join(by)})")
    return found


def _sql_type(table: Table, name: str, hint: object) -> str:
    if name in table.unbounded or hint is str or typing.get_origin(hint) is dict:
        return "TEXT"
    return "BLOB" if hint is bytes else "INTEGER"


class Coder:
    """Turns rows of one table into SQLite values and back."""

    def __init__(self, table: Table) -> None:
        names = columns(table)
        hints = typing.get_type_hints(table.row)
        self.table = table
        self.columns = names
        self._text = [i for i, name in enumerate(names) if name in table.unbounded]
        self._json = [i for i, name in enumerate(names) if typing.get_origin(hints[name]) is dict]
        self._casts = [
            (i, hints[name])
            for i, name in enumerate(names)
            if isinstance(hints[name], type) and hints[name] not in {int, str, bytes}
        ]

    def encode(self, row: Struct) -> list[Any]:
        """Return the row's values in column order."""
        values: list[Any] = list(structs.astuple(row))
        for i in self._text:
            values[i] = str(values[i])
        for i in self._json:
            values[i] = _encode(values[i], order="sorted").decode()
        return values

    def decode(self, values: tuple[Any, ...]) -> Any:
        """Return the row."""
        out: list[Any] = list(values)
        for i in self._text:
            out[i] = int(out[i])
        for i in self._json:
            out[i] = _decode(out[i])
        for i, cast in self._casts:
            out[i] = cast(out[i])
        return self.table.row(*out)
