"""Records as people and programs outside read them: names for numbers, decimal text for amounts, ISO beside ns.

Rule: nothing is lost and nothing rounded, so a record can be made again from what this returns; a kind of record or a
field that is added later is decoded without a change here. Field names lose their ``_e9``: ``price`` is ``"61800.5"``.
The one exception is the journal's secret, the key of order ids: who reads an export must not be able to make ids.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
from msgspec import Raw, Struct

from journal.times import format_ns
from protocol.orders import command_decoder
from protocol.params import params_decoder
from protocol.records import ParamsSet, Started
from protocol.units import format_e9
from protocol.venue import report_decoder

TYPE: Final = "type"
WITHHELD: Final = "withheld"
_INSTANTS: Final = frozenset({"exch_ns", "expiry_ns", "now_ns", "deadline_ns", "durable_ns"})
_NONE_IS_MINUS_1: Final = frozenset({"position_limit_e9"})
_Field = tuple[str, str, Callable[[Any], Any] | None, str]
_plans: dict[type[Struct], list[_Field]] = {}


def readable(value: Struct) -> dict[str, Any]:
    """Return a Struct's fields, nested ones too; what is one of several types says which under ``type``."""
    kind = type(value)
    plan = _plans.get(kind)
    if plan is None:
        plan = _plans[kind] = _plan(kind)
    fields: dict[str, Any] = {}
    for name, shown, convert, instant in plan:
        found = getattr(value, name)
        fields[shown] = found if convert is None else convert(found)
        if instant:
            fields[instant] = format_ns(found)
    return fields


def is_instant(name: str) -> bool:
    """Whether a field holds a point in time, and not a duration."""
    return name in _INSTANTS or name.endswith("_at_ns")


def instant_name(name: str) -> str:
    """Return under which name an instant stands in ISO 8601: ``exch_ns`` → ``exch_at``."""
    stem = name.removesuffix("_ns")
    return stem if stem == "at" or stem.endswith("_at") else f"{stem}_at"


def _plan(kind: type[Struct]) -> list[_Field]:
    """Return (field, name shown, conversion, name of its ISO form) for a type, made once."""
    plan: list[_Field] = []
    for field in msgspec.structs.fields(kind):
        convert: Callable[[Any], Any] | None = _any
        if field.name in _NONE_IS_MINUS_1:
            convert = _limit
        elif field.name.endswith("_e9"):
            convert = _amount
        elif (kind, field.name) == (Started, "order_id_key"):
            convert = _secret
        elif kind is ParamsSet and field.name == "content":
            convert = _params
        elif field.type is Raw:
            convert = {"command": _command, "report": _report}.get(field.name, _raw)
        elif _base(field.type) in {int, bool, str}:
            convert = None
        instant = instant_name(field.name) if is_instant(field.name) else ""
        plan.append((field.name, field.name.removesuffix("_e9"), convert, instant))
    return plan


def _base(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _any(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Struct):
        return _tagged(value)
    if isinstance(value, list | tuple):
        return [_any(v) for v in value]
    if isinstance(value, dict):
        return {str(_any(k)): _any(v) for k, v in value.items()}
    return value


def _tagged(value: Struct) -> dict[str, Any]:
    fields = readable(value)
    return {TYPE: type(value).__name__, **fields} if value.__struct_config__.tag is not None else fields


def _amount(value: Any) -> Any:
    """Return decimal text; an unbounded sum stands in the record as the text of an integer, empty for none."""
    if isinstance(value, list | tuple):
        return [_amount(v) for v in value]
    return value if value is None or value == "" else format_e9(int(value))


def _limit(value: int) -> str | None:
    return None if value == -1 else format_e9(value)


def _secret(value: bytes) -> str:
    return WITHHELD if value else ""


def _command(value: Raw) -> Any:
    return _any(command_decoder.decode(value))


def _report(value: Raw) -> Any:
    return _any(report_decoder.decode(value))


def _params(value: bytes) -> Any:
    return _any(params_decoder.decode(value))


def _raw(value: Raw) -> Any:
    return _any(msgspec.msgpack.decode(value))
