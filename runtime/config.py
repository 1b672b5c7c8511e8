"""Typed configuration files: TOML decoded into a Struct, with every fault named by key, value and expectation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from protocol.errors import ConfigError
from runtime.toml_lines import TomlLines

T = TypeVar("T")
FILE_BYTES_MAX: Final = 4 << 20

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)


def load_toml(path: Path, kind: type[T]) -> T:
    """Return the file as ``kind``.

    Raises:
        ConfigError: If the file is absent, is no TOML, has an unknown, missing or wrong key.
    """
    text = read_text(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError([f"expected TOML: {e}"], str(path)) from e
    try:
        return convert(raw, kind, str(path))
    except ConfigError as e:
        raise ConfigError(e.problems, str(path), TomlLines(text).of_faults(e.problems)) from e


def read_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: If it is absent, can't be read, is too large or is no UTF-8.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError([f"expected at most {FILE_BYTES_MAX} bytes, was {path.stat().st_size}"], str(path))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(["the file does not exist; make one with: wojak init"], str(path)) from None
    except PermissionError:
        raise ConfigError(["the file can't be read; check its owner and mode"], str(path)) from None
    except UnicodeDecodeError as e:
        raise ConfigError([f"expected TOML: {e}"], str(path)) from e


def convert(raw: object, kind: type[T], path: str) -> T:
    """Return decoded TOML as ``kind``; ``path`` names the file in the error.

    Raises:
        ConfigError: Naming the key, the value it had and what was expected.
    """
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as e:
        raise ConfigError([explain(str(e), raw)], path) from e


def explain(message: str, raw: object) -> str:
    """Return msgspec's message as ``key: expected X, was Y``, with the value looked up in ``raw``."""
    match = _AT.match(message)
    assert match is not None
    what, at = match.group("what"), (match.group("path") or "").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        return f"{_join(at, unknown.group(1))}: unknown key; check its spelling, or remove it"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return f"{_join(at, missing.group(1))}: missing; add it (see the commented example: wojak init)"
    expected = re.sub(r"^Expected ", "expected ", what)
    expected = re.sub(r", got .*$", "", expected)
    return f"{at or 'file'}: {expected}, was {_value(raw, at)!r}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value(raw: object, path: str) -> object:
    value = raw
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
