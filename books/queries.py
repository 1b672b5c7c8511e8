"""From query parameters to what the store is asked, every fault named. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from books.errors import QueryError
from books.store import FILTERS, LIMIT_MAX, accepted_filters
from protocol.codes import Code, TradeStatus
from protocol.shards import SHARDS_MAX
from protocol.units import INT64_MAX

LIMIT_DEFAULT: Final = 100
NAME_CHARS_MAX: Final = 256
_PAGING: Final = frozenset({"limit", "cursor", "min_seq"})


class Query(NamedTuple):
    """What a list is asked."""

    filters: dict[str, str | int]
    limit: int
    cursor: int
    min_seq: int
    shard: int | None = None


def parse_query(kind: str, parameters: Iterable[tuple[str, str]], *, by_shard: bool = False) -> Query:
    """Return the query for a list of ``kind``; ``by_shard``: there are several shards, and it may name one.

    Raises:
        QueryError: For an unknown or repeated parameter, a bad value, or filters that no index answers.
    """
    found = _once(parameters)
    paging = _PAGING | {"shard"} if by_shard else _PAGING
    known = sorted(paging | frozenset().union(*FILTERS[kind]))
    for name, value in found.items():
        if name not in known:
            raise QueryError(name, value, f"one of the parameters: {', '.join(known)}")
    filters = {name: _filter_value(name, value) for name, value in found.items() if name not in paging}
    if frozenset(filters) not in FILTERS[kind]:
        raise QueryError("filters", "+".join(sorted(filters)), f"one of: {accepted_filters(kind)}")
    return Query(
        filters,
        _number("limit", found.get("limit", str(LIMIT_DEFAULT)), 1, LIMIT_MAX),
        _number("cursor", found.get("cursor", "0"), 0, INT64_MAX),
        _number("min_seq", found.get("min_seq", "0"), 0, INT64_MAX),
        _number("shard", found["shard"], 0, SHARDS_MAX - 1) if "shard" in found else None,
    )


def parse_min_seq(parameters: Iterable[tuple[str, str]]) -> int:
    """Return ``min_seq`` where it is the only parameter; 0 if absent."""
    found = _once(parameters)
    for name, value in found.items():
        if name != "min_seq":
            raise QueryError(name, value, "one of the parameters: min_seq")
    return _number("min_seq", found.get("min_seq", "0"), 0, INT64_MAX)


def _once(parameters: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parameters:
        if name in found:
            raise QueryError(name, value, f"one value, {found[name]!r} came first")
        found[name] = value
    return found


def _number(name: str, text: str, least: int, most: int) -> int:
    # isascii, since other scripts' digits are digits to Python; the length bounds the work.
    if text.isascii() and text.isdigit() and len(text) <= len(str(INT64_MAX)) and least <= int(text) <= most:
        return int(text)
    raise QueryError(name, text[:NAME_CHARS_MAX], f"a whole number from {least} to {most}")


def _filter_value(name: str, text: str) -> str | int:
    if name == "open":
        if text not in {"true", "false"}:
            raise QueryError(name, text[:NAME_CHARS_MAX], "true or false")
        return int(text == "true")
    if name == "day":
        return _number(name, text, 19700101, 99991231)
    if name == "status":
        if text not in TradeStatus.__members__:
            raise QueryError(name, text[:NAME_CHARS_MAX], f"one of: {', '.join(TradeStatus.__members__)}")
        return int(TradeStatus[text])
    if name == "code":
        if text not in Code.__members__:
            raise QueryError(name, text[:NAME_CHARS_MAX], f"one of: {', '.join(Code.__members__)}")
        return int(Code[text])
    if not 1 <= len(text) <= NAME_CHARS_MAX:
        raise QueryError(name, text[:NAME_CHARS_MAX], f"1 to {NAME_CHARS_MAX} characters")
    return text
