"""How a process ends, in its exit code: what a supervisor, a pod or a person may conclude from it."""

from __future__ import annotations

from typing import Final

CLEAN: Final = 0
"""Everything is settled."""
FAILED: Final = 1
"""Something broke; a restart may help."""
CANNOT_RUN: Final = 2
"""Configuration, damage or fencing: somebody must change something first."""
UNFINISHED: Final = 3
"""It left in time, but the other side had not answered for all: given back, or in the journal. Nothing is lost."""
