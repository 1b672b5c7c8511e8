"""Which test file starts when several processes run the tests: the longest first, so that none is waited for alone.

A file is one process's (``--dist loadfile``), so what a module starts once, a broker for instance, is started once.
Rule: files start in falling order of the seconds they took, as recorded in tests/seconds.json; one without a record
counts as the longest of its folder, because a new file of brokers or processes is long. ``--record-seconds`` writes the
record anew. In one process (``-n 0``) nothing is reordered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

SECONDS: Final = Path(__file__).parent / "seconds.json"


def recorded() -> dict[str, int]:
    """Return how many seconds each file took when they were recorded."""
    return dict(json.loads(SECONDS.read_text("utf-8")))


def file_of(nodeid: str) -> str:
    """Return the file of a test, from the root, with slashes."""
    return nodeid.partition("::")[0]


def starts(files: Iterable[str], seconds: Mapping[str, int]) -> list[str]:
    """Return the files in the order in which they are to start."""
    longest: dict[str, int] = {}
    for file, took in seconds.items():
        folder = file.rpartition("/")[0]
        longest[folder] = max(took, longest.get(folder, 0))
    return sorted(set(files), key=lambda f: (-seconds.get(f, longest.get(f.rpartition("/")[0], 0)), f))


def record(took_s: Mapping[str, float]) -> str:
    """Return the text of a new record: the files that ran, in whole seconds; others keep theirs while they exist."""
    root = SECONDS.parents[1]
    kept = {file: s for file, s in recorded().items() if (root / file).exists()}
    return json.dumps({**kept, **{file: round(s) for file, s in took_s.items()}}, indent=0, sort_keys=True) + "\n"
