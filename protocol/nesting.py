"""How deep what is journaled as received may nest, so that whoever reads the journal can follow.

A decoder passes over fields that it does not know, however deep they are, as long as the interpreter's recursion limit
(1,000 calls by default) lets it; commands and reports are journaled as received, one or two levels further inside, and
read on deeper stacks: recovery, follower, books. What went through here just under the limit would stop those for ever.

Rule: up to ``FLAT_BYTES`` there is nothing to look at, for nothing nests deeper than it is long, and half the limit is
left to any reader; what is longer may nest ``NESTING_MAX`` levels. So an order of the usual size pays one comparison.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

FLAT_BYTES: Final = 512
NESTING_MAX: Final = 16
"""The deepest of our own, a basket, has 3."""

_decode: Final = msgspec.msgpack.Decoder().decode


def require_flat(message: Raw) -> None:
    """Pass what may be journaled as received; ask only of what is longer than ``FLAT_BYTES``.

    Raises:
        DecodeError: If it nests deeper than ``NESTING_MAX``, or is no msgpack in a field that nobody knows.
        UnicodeDecodeError, RecursionError: Likewise; all are ``errors.NOT_DECODED``.
    """
    level = [_decode(message)]
    for _ in range(NESTING_MAX):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    if not any(isinstance(value, list | tuple | dict) for value in level):  # an empty one is a level too
        return
    text = f"nesting expected at most {NESTING_MAX} levels, was more"
    raise msgspec.DecodeError(text)


def _inside(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return []
