"""Frames that an authenticated peer should not send: noise, and valid frames with one place changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DEEP = b"\x91" * 3_000 + b"\xc0"  # arrays within arrays, deeper than a decoder goes
NO_TEXT = b"\xa1\xff"  # a string that is no UTF-8
NUMBERS = (-(2**63), -1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
NASTY: tuple[Any, ...] = (
    *NUMBERS, None, True, "", "x" * 300, b"", b"b" * 16, 0.5, [], {}, [[]], msgspec.Raw(DEEP), msgspec.Raw(NO_TEXT),
)  # fmt: skip


def frames(valid: Sequence[bytes]) -> SearchStrategy[list[bytes]]:
    """Return up to 20 frames: noise, valid ones, and valid ones changed."""
    body = st.sampled_from(valid)
    return st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.sampled_from((DEEP, NO_TEXT, b"\x92\x02" + NO_TEXT, b'{"token":"\xff"}', b"[" * 3_000)),
            body,
            st.builds(_cut, body, st.integers(0, 400)),
            st.builds(_flip, body, st.integers(0, 400), st.integers(1, 255)),
            st.builds(_replace, body, st.lists(st.integers(0, 30), min_size=1, max_size=5), st.sampled_from(NASTY)),
        ),
        max_size=20,
    )


def _cut(body: bytes, size: int) -> bytes:
    return body[: size % len(body)]


def _flip(body: bytes, at: int, bits: int) -> bytes:
    changed = bytearray(body)
    changed[at % len(body)] ^= bits
    return bytes(changed)


def _replace(body: bytes, path: list[int], nasty: Any) -> bytes:
    """Put something else at one place of a message, however deep."""
    if body[:1] == b"{":
        nasty = "nasty" if isinstance(nasty, msgspec.Raw | bytes) else nasty
        return msgspec.json.encode(_put(msgspec.json.decode(body), path, nasty))
    return msgspec.msgpack.encode(_put(msgspec.msgpack.decode(body), path, nasty))


def _put(value: Any, path: list[int], nasty: Any) -> Any:
    if not path or not isinstance(value, list | dict) or not value:
        return nasty
    if isinstance(value, dict):
        key = list(value)[path[0] % len(value)]
        return {**value, key: _put(value[key], path[1:], nasty)}
    at = path[0] % len(value)
    return [*value[:at], _put(value[at], path[1:], nasty), *value[at + 1 :]]
