"""Where the keys of a TOML document stand."""

from __future__ import annotations

import tomllib

import pytest

from protocol.errors import ConfigError
from runtime.toml_lines import TomlLines

TEXT = '''\
# a comment
presets = [
  "one",   # [[not.a.header]]
  "two",
]
text = """
key = 1
[[limits]]
"""

[risk]
a.b = 1

[[limits]]
limit = "A"

[[limits]]   # the second
limit = "B"
inner = { x = 1, y = [1, 2] }

[limits.more]
z = 1

[[limits.deep]]
w = 1

[[limits.deep]]
w = 2

[[limits]]
"quoted" = 'a # b'

[[limits.deep]]
w = 3
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("presets", 2),
        ("presets[1]", 2),
        ("text", 6),
        ("risk", 11),
        ("risk.a.b", 12),
        ("limits[0]", 14),
        ("limits[0].limit", 15),
        ("limits[1].limit", 18),
        ("limits[1].inner.y[1]", 19),
        ("limits[1].more.z", 22),
        ("limits[1].deep[0].w", 25),
        ("limits[1].deep[1].w", 28),
        ("limits[2].quoted", 31),
        ("limits[2].deep[0].w", 34),
        ("limits[1].absent", 17),
        ("absent", 0),
    ],
)
def test_a_key_is_found_where_it_stands(path: str, line: int) -> None:
    """Arrays of tables are counted, strings and arrays over lines are one statement, an absent key has its table's."""
    assert tomllib.loads(TEXT)
    assert TomlLines(TEXT).line_of(path) == line


def test_a_fault_has_the_line_of_its_key() -> None:
    """What names no key has none, and the error says which line it is."""
    faults = ["limits[1].limit: expected C, was 'B'", "expected a file"]
    found = TomlLines(TEXT).of_faults(faults)
    assert found == [18, 0]
    said = str(ConfigError(faults, "a.toml", found)).splitlines()
    assert said[1:] == ["  - line 18: limits[1].limit: expected C, was 'B'", "  - expected a file"]
