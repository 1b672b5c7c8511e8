"""What can go wrong with the books' store. A FencedError (protocol) stops the writer; these may be tried again."""

from __future__ import annotations

from protocol.errors import StoreError


class StoreUnavailableError(StoreError):
    """The store does not answer or can't write now; nothing of the transaction was kept."""

    code = "STORE_UNAVAILABLE"

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        self.cause = cause
        super().__init__(f"{self.code}: {where}: {cause}; tried again until it works: free its disk or unlock it")


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
