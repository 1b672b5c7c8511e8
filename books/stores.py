"""Which store a deployment has, and how its processes open it. A store's own package is imported when it is opened.

Rule: the engine's process opens none of these.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from books.document_reader import DocumentReader
from books.document_store import DocumentStore
from books.settings import CouchbaseSettings
from books.sqlite import SqliteStore
from books.store import Reader, Store
from protocol.errors import ConfigError

if TYPE_CHECKING:
    from books.couchbase import CouchbaseBucket


class Stores:
    """One shard's books.

    Args:
        path: File of the SQLite store.
        couchbase: The cluster instead of the file.
    """

    def __init__(self, path: str, couchbase: CouchbaseSettings | None = None) -> None:
        self._path = Path(path)
        self._settings = couchbase
        self._lock = threading.Lock()
        self._bucket: CouchbaseBucket | None = None

    @property
    def path(self) -> Path | None:
        """The file, where there is one."""
        return None if self._settings else self._path

    def writer(self) -> Store:
        """Return the store to write into; of documents it is taken over from any earlier writer.

        Raises:
            StoreUnavailableError: If it does not answer.
        """
        if self._settings is None:
            return SqliteStore(self._path)
        return DocumentStore(self.bucket(), self._where, self._settings.shard)

    def reader(self) -> Reader:
        """Return the store to read from.

        Raises:
            StoreUnavailableError: If it is not there.
        """
        if self._settings is None:
            return SqliteStore(self._path, read_only=True)
        return DocumentReader(self.bucket(), self._where, self._settings.shard)

    def bucket(self) -> CouchbaseBucket:
        """Return the cluster's bucket: one connection for all that is opened here; it mends itself after an outage.

        Raises:
            StoreUnavailableError: If the cluster does not answer.
        """
        assert self._settings is not None
        try:
            from books.couchbase import CouchbaseBucket
        except ImportError as e:
            raise ConfigError([f"books.store: expected the SDK: pip install 'wojak[couchbase]', was {e}"]) from e
        with self._lock:
            if self._bucket is None:
                self._bucket = CouchbaseBucket(self._settings)
            return self._bucket

    def close(self) -> None:
        """Leave the cluster."""
        with self._lock:
            if self._bucket is not None:
                self._bucket.close()
                self._bucket = None

    @property
    def _where(self) -> str:
        assert self._settings is not None
        return f"{self._settings.connection} bucket {self._settings.bucket}"
