"""What can go wrong with the books' store, by what to do about it.

Temporary: ``StoreUnavailableError``, tried again. Ambiguous: ``StoreAmbiguousError``, tried again after a look at what
is there. Too large and lost stop the writer, as a FencedError (protocol) does: trying again would change nothing.
"""

from __future__ import annotations

from protocol.errors import StoreError


class StoreUnavailableError(StoreError):
    """The store does not answer or can't write now; nothing of the transaction was kept."""

    code = "STORE_UNAVAILABLE"

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        self.cause = cause
        super().__init__(
            f"{self.code}: {where}: {cause}; tried again until it works: see that it is reached, has space and no lock"
        )


class StoreAmbiguousError(StoreUnavailableError):
    """The store did not say whether it kept a write; what it has is read again before anything else is written."""

    code = "STORE_AMBIGUOUS"


class StoreTooLargeError(StoreError):
    """A row is larger than the store takes; no later try would bring it in."""

    code = "STORE_TOO_LARGE"

    def __init__(self, key: str, size_bytes: int) -> None:
        self.key = key
        self.size_bytes = size_bytes
        super().__init__(
            f"{self.code}: document {key} expected to be small enough for the store, was {size_bytes} bytes; "
            "use a store without this limit and report it"
        )


class StoreLostError(StoreError):
    """The store has lost what its watermark says it has."""

    code = "STORE_LOST"

    def __init__(self, what: str, seq: int) -> None:
        self.what = what
        self.seq = seq
        super().__init__(
            f"{self.code}: {what} expected in the books up to record {seq}, was absent: the store lost it; "
            "stop the books writer and make them anew from the journal: wojak books rebuild"
        )


class StoreDamagedError(StoreError):
    """The store's file is not what SQLite wrote."""

    code = "STORE_DAMAGED"

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        self.cause = cause
        super().__init__(
            f"{self.code}: {where}: {cause}; the journal has everything: remove this file, "
            "the books writer makes it anew"
        )


class StoreVersionError(StoreError):
    """The file is no books of this release."""

    code = "STORE_VERSION"

    def __init__(self, where: str, expected: int, was: int) -> None:
        self.where = where
        super().__init__(
            f"{self.code}: {where} expected books of version {expected}, was {was}; "
            "remove it, the books writer makes it anew from the journal"
        )


class QueryError(StoreError):
    """A reader asked for what the store does not answer: which parameter, its value, what is accepted."""

    code = "QUERY"

    def __init__(self, field: str, value: str, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{self.code}: {field} expected {expected}, was {value!r}")
