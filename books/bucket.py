"""What a store of documents needs of a key-value server: many reads, many writes guarded by what was read, no query.

Rule: every write names the version it replaces (or that there is none), so that one which arrives late, after its
sender gave up on it, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

NEW: Final = 0
ANY: Final = -1


class Found(NamedTuple):
    """A document as it is: ``cas`` names this version."""

    cas: int
    data: bytes


class Put(NamedTuple):
    """A document to be written where it is ``cas`` now; NEW = where there is none, ANY = whatever there is."""

    data: bytes
    cas: int


class Refusal(Enum):
    """Why a document was not written, or that nobody knows."""

    CHANGED = auto()  # another version is there, or there is one where none was expected, or none where one was
    TEMPORARY = auto()  # the server can't now; nothing was written
    AMBIGUOUS = auto()  # it may have been written, and may still be


class Bucket(Protocol):
    """One bucket, from one thread at a time."""

    def read(self, keys: Iterable[str]) -> dict[str, Found]:
        """Return the documents there are.

        Raises:
            StoreUnavailableError: If the server does not answer for all of them.
        """

    def write(self, puts: Mapping[str, Put]) -> dict[str, int | Refusal]:
        """Write documents, each by itself; return the new version or the refusal of each.

        Raises:
            StoreTooLargeError: If one is larger than the server takes.
            StoreUnavailableError: If it refuses for a reason that is not one document's.
        """

    def remove(self, keys: Iterable[str]) -> None:
        """Remove documents, those that there are.

        Raises:
            StoreUnavailableError: If the server does not answer.
        """

    def close(self) -> None:
        """Let go."""
