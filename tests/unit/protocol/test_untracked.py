"""Structs that the garbage collector does not look into can be in no cycle: it would never be freed."""

from __future__ import annotations

import importlib
import types
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from msgspec import Raw, Struct

from sandbox import book

ROOT = Path(__file__).parents[3]
ROOMS = ("protocol", "runtime", "journal", "market", "risk", "engine", "sidecars", "sandbox", "venues", "books", "cli")
PLAIN = (int, float, str, bytes, type(None), Raw, Enum, book.Order)  # the last has plain values in its slots only
HOLDERS = (list, tuple, dict)


def structs() -> list[type[Struct]]:
    """Return every untracked struct of the rooms."""
    found = []
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        if "gc=False" not in path.read_text(encoding="utf-8"):
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        things = vars(importlib.import_module(name)).values()
        found += [t for t in things if isinstance(t, type) and issubclass(t, Struct) and t.__module__ == name]
    return [t for t in found if not t.__struct_config__.gc]


def tracked(kind: Any) -> list[Any]:
    """Return the types inside an annotation through which a value may come to refer to what refers to it."""
    if get_origin(kind) is Annotated:
        return tracked(get_args(kind)[0])
    if get_origin(kind) is Literal or kind is Ellipsis:
        return []
    if get_origin(kind) in {Union, types.UnionType, *HOLDERS}:
        return [found for part in get_args(kind) for found in tracked(part)]
    is_fine = isinstance(kind, type) and (
        issubclass(kind, PLAIN) or (issubclass(kind, Struct) and not kind.__struct_config__.gc)
    )
    return [] if is_fine else [kind]


class Looped(Struct, gc=False):
    """A planted offender: through the dict it may hold itself."""

    holds: dict[str, object]


@pytest.mark.parametrize("struct", structs(), ids=lambda s: s.__qualname__)
def test_an_untracked_struct_holds_plain_values_only(struct: type[Struct]) -> None:
    """Numbers, text, bytes, each other, and lists of these: nothing that can lead back."""
    assert not {
        name: found for name, kind in get_type_hints(struct, include_extras=True).items() if (found := tracked(kind))
    }


def test_the_rule_finds_one_that_can_lead_back() -> None:
    """The rule above bites, and it was asked about the hot path's structs."""
    assert tracked(get_type_hints(Looped)["holds"]) == [object]
    assert {"Item", "Outcome", "Ordered", "Report"} <= {s.__qualname__ for s in structs()}
