"""Where the keys of a TOML document stand: ``limits[3].value`` → line 41.

The grammar stays ``tomllib``'s, which knows no lines: a statement (a header, or a key with its value) is the shortest
run of lines that it takes alone, so strings and arrays over several lines need no second grammar here. Only of
documents that it took as a whole. Of what one statement holds inside, the line is the one it begins at.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Final

STATEMENT_LINES_MAX: Final = 2_000
_PATH: Final = re.compile(r"^[\w*-]+(?:\[\d+\])?(?:\.[\w*-]+(?:\[\d+\])?)*")


class TomlLines:
    """The line of each key, by its path as a fault names it."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        table = ""
        for line, is_header, parsed in _statements(text):
            if is_header:
                table = self._enter(parsed, line)
            else:
                self._note(table, parsed, line)

    def line_of(self, path: str) -> int:
        """Return the line of a key, counted from 1; of the nearest table around it if it is absent, 0 = unknown."""
        while path:
            if (line := self._lines.get(path)) is not None:
                return line
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return 0

    def of_faults(self, faults: Sequence[str]) -> list[int]:
        """Return the line of each fault that begins with a key's path; 0 where it begins with none."""
        found = (_PATH.match(fault) for fault in faults)
        return [self.line_of(match.group()) if match is not None else 0 for match in found]

    def _enter(self, parsed: dict[str, object], line: int) -> str:
        """Note a header, and return the path of its table."""
        path = ""
        value: object = parsed
        while isinstance(value, dict) and value:
            name, value = next(iter(value.items()))
            path = f"{path}.{name}" if path else name
            if isinstance(value, list):  # the header's own table is a new one of an array
                self._lines.setdefault(path, line)
                count = self._counts[path] = self._counts.get(path, -1) + 1
                path = f"{path}[{count}]"
                self._forget_counts(path)
                break
            if value and path in self._counts:  # inside the newest one of an array
                path = f"{path}[{self._counts[path]}]"
        self._lines.setdefault(path, line)
        return path

    def _forget_counts(self, path: str) -> None:
        for inner in [name for name in self._counts if name.startswith(f"{path}.")]:
            del self._counts[inner]

    def _note(self, table: str, parsed: object, line: int) -> None:
        """Note every key that a statement sets; a dotted key, a table or an array in it begin at its line."""
        waiting = [(table, parsed)]
        while waiting:
            path, value = waiting.pop()
            if isinstance(value, dict):
                inner = [(f"{path}.{name}" if path else name, each) for name, each in value.items()]
            elif isinstance(value, list):
                inner = [(f"{path}[{n}]", each) for n, each in enumerate(value)]
            else:
                continue
            for where, _ in inner:
                self._lines.setdefault(where, line)
            waiting += inner


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, object]]]:
    """Yield line, whether it is a header, and what ``tomllib`` makes of it alone, for each statement."""
    held: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start if held else number
        held.append(line)
        if len(held) > STATEMENT_LINES_MAX:
            return  # what follows has no line
        if len(held) > 1 and line.partition("#")[0].rstrip().endswith(","):
            continue  # an item of an array: not its end
        try:
            parsed = tomllib.loads("\n".join(held))
        except tomllib.TOMLDecodeError:
            continue
        yield start, held[0].lstrip().startswith("["), parsed
        held.clear()
