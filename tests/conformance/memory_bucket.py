"""A bucket in memory that fails as a real one does: refuses, keeps without saying so, keeps late, goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random

from books.bucket import ANY, NEW, Found, Put, Refusal
from books.errors import StoreUnavailableError


class MemoryBucket:
    """``faults``: what happens to a write, asked for each; None = it is written."""

    def __init__(self, faults: Callable[[str], str | None] = lambda _: None) -> None:
        self.documents: dict[str, Found] = {}
        self.faults = faults
        self.late: list[tuple[str, Put]] = []
        self.writes = 0
        self._cas = 0

    def read(self, keys: Iterable[str]) -> dict[str, Found]:
        """Return what is there; whatever was late may have come by now."""
        self.arrive()
        return {key: self.documents[key] for key in keys if key in self.documents}

    def write(self, puts: Mapping[str, Put]) -> dict[str, int | Refusal]:
        """Write each, or not."""
        done: dict[str, int | Refusal] = {}
        for key, put in puts.items():
            self.writes += 1
            match self.faults(key):
                case "temporary":
                    done[key] = Refusal.TEMPORARY
                case "silent":
                    self._write(key, put)
                    done[key] = Refusal.AMBIGUOUS
                case "late":
                    self.late.append((key, put))
                    done[key] = Refusal.AMBIGUOUS
                case "away":
                    raise StoreUnavailableError("memory", "went away")
                case _:
                    done[key] = self._write(key, put)
        return done

    def remove(self, keys: Iterable[str]) -> None:
        """Remove what is there."""
        for key in keys:
            self.documents.pop(key, None)

    def close(self) -> None:
        """Nothing."""

    def arrive(self, random: Random | None = None) -> None:
        """Let late writes arrive; the guard they carry decides."""
        late, self.late = self.late, []
        for key, put in late:
            if random is not None and random.random() < 0.5:
                self.late.append((key, put))
            else:
                self._write(key, put)

    def _write(self, key: str, put: Put) -> int | Refusal:
        found = self.documents.get(key)
        if put.cas not in {ANY, found.cas if found else NEW}:
            return Refusal.CHANGED
        self._cas += 1
        self.documents[key] = Found(self._cas, put.data)
        return self._cas
