"""Makes records again from exported rows, by the records' types alone: what an export lost can't be made again.

Knows of the export only its table of columns; names, amounts and nesting are turned back by code of its own.
"""

from __future__ import annotations

import json
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from msgspec import Raw, Struct

from journal.flat import FIELD_COLUMNS
from protocol.orders import Command
from protocol.params import Params
from protocol.records import ParamsSet, Record, Started
from protocol.venue import Report

KINDS: dict[str, type[Struct]] = {kind.__name__: kind for kind in get_args(Record)}
COMMANDS: dict[str, type[Struct]] = {kind.__name__: kind for kind in get_args(Command)}


def rows_of_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON lines export."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet export as the JSON lines would have them, but for the ISO instants."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    times = [f.name for f in table.schema if str(f.type).startswith("timestamp")]
    found = []
    for row in table.drop_columns(times).to_pylist():
        shown = {name: value for name, value in row.items() if value is not None}
        shown["rest"] = json.loads(shown["rest"])
        found.append({k: f"{v:f}" if isinstance(v, Decimal) else v for k, v in shown.items()})
    return found


def without_secret(record: Record) -> Record:
    """Return the record as an export shows it: without the key of order ids."""
    return msgspec.structs.replace(record, order_id_key=b"") if isinstance(record, Started) else record


def rebuild(row: dict[str, Any]) -> Record:
    """Return the record that the row was made from, but for the key of order ids."""
    kind, nested = KINDS[row["kind"]], row["rest"]
    if kind is Started:
        assert nested["order_id_key"] in {"", "withheld"}
        nested["order_id_key"] = ""
    for column in FIELD_COLUMNS:
        if column.name in row and column.paths:
            _put_back(nested, kind, row, column.paths, row[column.name])
    record = _back(kind, nested)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record)  # type: ignore[return-value]


def _put_back(nested: Any, kind: Any, row: dict[str, Any], paths: tuple[str, ...], value: Any) -> None:
    for path in paths:
        *steps, last = path.split(".")
        parent, at = nested, kind
        for step in steps:
            at = _field_type(at, step, row)
            parent = parent.get(step) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and last not in parent and (last == "type" or _field_type(at, last, row)):
            parent[last] = value
            return
    raise AssertionError(f"{paths} is no field of {row['kind']}")


def _field_type(kind: Any, shown: str, row: dict[str, Any]) -> Any:
    """Return the type of a field by the name it is shown under, None where there is no such field."""
    struct = next((k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, Struct)), None)
    if struct is None:
        return None
    for field in msgspec.structs.fields(struct):
        if field.name.removesuffix("_e9") == shown:
            if field.type is Raw:
                return COMMANDS[row["command"]] if shown == "command" else Report
            return field.type
    return None


def _back(kind: Any, value: Any, name: str = "") -> Any:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if value is None or kind is Any:
        return value
    if name.endswith("_e9"):
        return _amount(kind, value)
    if get_origin(kind) in {Union, UnionType}:
        return _back_of_union(kind, value)
    if get_origin(kind) in {list, tuple}:
        inner = get_args(kind)
        same = get_origin(kind) is list or (len(inner) == 2 and inner[1] is Ellipsis)
        made = [_back(inner[0] if same else inner[n], v) for n, v in enumerate(value)]
        return get_origin(kind)(made)
    if issubclass(kind, Struct):
        return kind(**{f.name: _field_back(kind, f, value) for f in msgspec.structs.fields(kind)})
    if issubclass(kind, IntEnum):
        return kind[value]
    return bytes.fromhex(value) if kind is bytes else value


def _back_of_union(kind: Any, value: Any) -> Any:
    if isinstance(value, dict):
        options = [k for k in get_args(kind) if isinstance(k, type) and issubclass(k, Struct)]
        return _back(next(k for k in options if value.get("type", k.__name__) == k.__name__), value)
    options = [k for k in get_args(kind) if k is not type(None)]
    return _back(options[0], value) if len(options) == 1 else value


def _field_back(kind: type[Struct], field: Any, value: dict[str, Any]) -> Any:
    shown = value[field.name.removesuffix("_e9")]
    if field.name == "position_limit_e9" and shown is None:
        return -1
    if field.type is Raw and field.name in {"command", "report"}:
        inner = COMMANDS[shown["type"]] if field.name == "command" else Report
        return Raw(msgspec.msgpack.encode(_back(inner, shown)))
    if kind is ParamsSet and field.name == "content":
        return msgspec.msgpack.encode(_back(Params, shown))
    return _back(field.type, shown, field.name)


def _amount(kind: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_amount(int, v) for v in value]
    if value == "":
        return value
    sign, digits = (-1, value[1:]) if value.startswith("-") else (1, value)
    whole, _, fraction = digits.partition(".")
    number = sign * (int(whole) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0))
    return str(number) if kind is str else number


def any_record() -> st.SearchStrategy[Record]:
    """Return every kind of record there is, with any value in every field, extremes included."""
    return st.one_of([_any_of(kind) for kind in KINDS.values()])


def _any_of(kind: Any, name: str = "", owner: Any = None) -> st.SearchStrategy[Any]:
    if get_origin(kind) is Annotated:
        return _any_within(*get_args(kind))
    if kind is Raw:
        return _any_raw(name)
    if owner is ParamsSet and name == "content":
        return _any_of(Params).map(msgspec.msgpack.encode)
    if get_origin(kind) is not None or isinstance(kind, UnionType):
        return _any_generic(kind)
    if issubclass(kind, Struct):
        return st.builds(kind, **{f.name: _any_of(f.type, f.name, kind) for f in msgspec.structs.fields(kind)})
    if issubclass(kind, IntEnum):
        return st.sampled_from(list(kind))
    if kind is str and name.endswith("_e9"):
        return st.one_of(st.just(""), st.integers(-(2**80), 2**80).map(str))
    return ANY[kind]


ANY: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=16),
}


def _any_generic(kind: Any) -> st.SearchStrategy[Any]:
    inner = get_args(kind)
    if get_origin(kind) in {Union, UnionType}:
        return st.one_of([st.none() if k is type(None) else _any_of(k) for k in inner])
    if get_origin(kind) is list:
        return st.lists(_any_of(inner[0]), max_size=2)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return st.lists(_any_of(inner[0]), max_size=2).map(tuple)
    return st.tuples(*[_any_of(k) for k in inner])


def _any_within(kind: Any, *metas: Any) -> st.SearchStrategy[Any]:
    meta = next(m for m in metas if isinstance(m, msgspec.Meta))
    if meta.pattern is not None and meta.min_length:  # of a name
        return st.text("Az09._-", min_size=meta.min_length, max_size=8)
    if meta.pattern is not None:  # of a whole number as text, as it is written: "007" would be shown as 7
        return st.integers(-(2**99), 2**99).map(str)
    if kind is int:
        return st.integers(meta.ge if meta.ge is not None else -(2**63 - 1), meta.le or 2**63 - 1)
    if kind is str:
        return st.text(min_size=meta.min_length or 0, max_size=min(meta.max_length or 8, 8))
    if kind is bytes:
        return st.binary(min_size=meta.min_length or 0, max_size=meta.max_length or 8)
    if get_origin(kind) is list:
        least = meta.min_length or 0
        return st.lists(_any_of(get_args(kind)[0]), min_size=least, max_size=max(least, min(meta.max_length or 2, 2)))
    return _any_of(kind)


def _any_raw(name: str) -> st.SearchStrategy[Any]:
    inner: Any = {"command": Command, "report": Report}[name]
    return _any_of(inner).map(lambda made: Raw(msgspec.msgpack.encode(made)))
