"""A Couchbase bucket through its SDK: many documents a call, each write guarded by the version that was read.

Rules: this module alone imports the SDK, and only processes that do nothing else with orders import this module: the
SDK can end its process. Only synchronous calls of many documents are used, which cost half of what the asynchronous
ones do; nothing that asks for expiry, projections or replicas, which ends the process against some servers.

Never run against a real cluster: named collections, the server's durability levels, TLS. ``wojak books doctor`` checks
these on the cluster it is given.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from couchbase.auth import PasswordAuthenticator
from couchbase.cluster import Cluster
from couchbase.durability import ClientDurability, DurabilityLevel, PersistTo, ReplicateTo, ServerDurability
from couchbase.exceptions import (
    AmbiguousTimeoutException,
    CasMismatchException,
    CouchbaseException,
    DocumentExistsException,
    DocumentLockedException,
    DocumentNotFoundException,
    DurabilitySyncWriteAmbiguousException,
    DurabilitySyncWriteInProgressException,
    InternalServerFailureException,
    RateLimitedException,
    RequestCanceledException,
    TemporaryFailException,
    TimeoutException,
    UnAmbiguousTimeoutException,
)
from couchbase.options import (
    ClusterOptions,
    ClusterTimeoutOptions,
    GetMultiOptions,
    InsertMultiOptions,
    RemoveMultiOptions,
    ReplaceMultiOptions,
    ReplaceOptions,
    UpsertMultiOptions,
)
from couchbase.transcoder import RawJSONTranscoder

from books.bucket import ANY, NEW, Found, Put, Refusal
from books.documents import collection_of
from books.errors import StoreTooLargeError, StoreUnavailableError
from books.settings import CouchbaseSettings

DOCUMENT_BYTES_MAX: Final = 20 << 20
READ_WAIT_S: Final = 0.005
READ_TRIES: Final = 5
_TOO_LARGE: Final = 104
_CHANGED: Final = (DocumentExistsException, CasMismatchException, DocumentNotFoundException)
_TEMPORARY: Final = (
    TemporaryFailException, DocumentLockedException, DurabilitySyncWriteInProgressException, RateLimitedException,
)  # fmt: skip
_AMBIGUOUS: Final = (
    AmbiguousTimeoutException, RequestCanceledException, DurabilitySyncWriteAmbiguousException, TimeoutException,
    InternalServerFailureException,
)  # fmt: skip
_SILENT: Final = (
    UnAmbiguousTimeoutException, AmbiguousTimeoutException, TimeoutException, RequestCanceledException,
)  # fmt: skip
_READ_AGAIN: Final = (*_TEMPORARY, *_SILENT, InternalServerFailureException)
_LEVELS: Final = {
    "majority": DurabilityLevel.MAJORITY,
    "majority_and_persist": DurabilityLevel.MAJORITY_AND_PERSIST_TO_ACTIVE,
    "persist_to_majority": DurabilityLevel.PERSIST_TO_MAJORITY,
}


def refusal_of(error: Exception) -> Refusal | None:
    """Return what an error of one document means; None if it is none of that document's."""
    if isinstance(error, _CHANGED):
        return Refusal.CHANGED
    if isinstance(error, _TEMPORARY):
        return Refusal.TEMPORARY
    return Refusal.AMBIGUOUS if isinstance(error, _AMBIGUOUS) else None


def durability_of(name: str) -> ClientDurability | ServerDurability | None:
    """Return the SDK's word for a durability setting."""
    if name == "none":
        return None
    if name == "client":
        return ClientDurability(replicate_to=ReplicateTo.ONE, persist_to=PersistTo.ONE)
    return ServerDurability(_LEVELS[name])


def text_of(error: Exception) -> str:
    """Return what an SDK's error says in a few words."""
    message = getattr(error, "message", "") or ""
    return f"{type(error).__name__.removesuffix('Exception')}: {message}"[:200]


class CouchbaseBucket:
    """One bucket of a cluster; safe to be used from several threads.

    Raises:
        StoreUnavailableError: If the cluster does not answer, or not so.
    """

    def __init__(self, settings: CouchbaseSettings) -> None:
        self._where = f"{settings.connection} bucket {settings.bucket}"
        self._scope = settings.scope
        write: dict[str, Any] = {"transcoder": RawJSONTranscoder()}
        if (durability := durability_of(settings.durability)) is not None:
            write["durability"] = durability
        self._write_options = write
        self._read_options = GetMultiOptions(transcoder=RawJSONTranscoder())
        self._collections: dict[str, Any] = {}
        try:
            self.cluster: Any = Cluster(settings.connection, _options(settings))
            self.bucket: Any = self.cluster.bucket(settings.bucket)
        except CouchbaseException as e:
            raise StoreUnavailableError(self._where, text_of(e)) from e

    def read(self, keys: Iterable[str]) -> dict[str, Found]:
        """See ``Bucket.read``. A server that is busy for a moment is asked again, a few times."""
        found: dict[str, Found] = {}
        for name, part in _by_collection(keys).items():
            left, tries = part, 0
            while left:
                again, why = self._read(name, left, found)
                if len(again) < len(left):
                    tries = 0  # a slow server is let go on: they become fewer
                elif tries == READ_TRIES or isinstance(why, _SILENT):
                    raise StoreUnavailableError(self._where, text_of(why)) from why
                left = again
                if left:
                    time.sleep(READ_WAIT_S * 2**tries)
                    tries += 1
        return found

    def write(self, puts: Mapping[str, Put]) -> dict[str, int | Refusal]:
        """See ``Bucket.write``."""
        done: dict[str, int | Refusal] = {}
        for key, put in puts.items():
            if len(put.data) > DOCUMENT_BYTES_MAX:
                raise StoreTooLargeError(key, len(put.data))
        for name, keys in _by_collection(puts).items():
            collection = self._collection(name)
            fresh = {key: puts[key].data for key in keys if puts[key].cas == NEW}
            whatever = {key: puts[key].data for key in keys if puts[key].cas == ANY}
            known = {key: puts[key].data for key in keys if puts[key].cas not in {NEW, ANY}}
            if fresh:
                options = InsertMultiOptions(**self._write_options)
                self._take(self._call(collection.insert_multi, fresh, options), puts, done)
            if known:
                each = {key: ReplaceOptions(cas=puts[key].cas, **self._write_options) for key in known}
                guarded = ReplaceMultiOptions(per_key_options=each, **self._write_options)
                self._take(self._call(collection.replace_multi, known, guarded), puts, done)
            if whatever:
                any_of = UpsertMultiOptions(**self._write_options)
                self._take(self._call(collection.upsert_multi, whatever, any_of), puts, done)
        return done

    def remove(self, keys: Iterable[str]) -> None:
        """See ``Bucket.remove``."""
        options = {name: value for name, value in self._write_options.items() if name == "durability"}
        for name, part in _by_collection(keys).items():
            result = self._call(self._collection(name).remove_multi, part, RemoveMultiOptions(**options))
            for error in result.exceptions.values():
                if not isinstance(error, DocumentNotFoundException):
                    raise StoreUnavailableError(self._where, text_of(error)) from error

    def close(self) -> None:
        """Leave the cluster."""
        self.cluster.close()

    def _read(self, name: str, keys: list[str], found: dict[str, Found]) -> tuple[list[str], Exception]:
        """Add what is there to ``found``; return what to ask for again, and why."""
        result = self._call(self._collection(name).get_multi, keys, self._read_options)
        found |= {key: Found(got.cas, got.value) for key, got in result.results.items()}
        again: list[str] = []
        why = Exception()
        for key, error in result.exceptions.items():
            if isinstance(error, DocumentNotFoundException):
                continue
            if not isinstance(error, _READ_AGAIN):
                raise StoreUnavailableError(self._where, text_of(error)) from error
            again.append(key)
            why = error
        return again, why

    def _collection(self, name: str) -> Any:
        if not self._scope:
            name = ""
        if name not in self._collections:
            bucket = self.bucket
            self._collections[name] = (
                bucket.scope(self._scope).collection(name) if name else bucket.default_collection()
            )
        return self._collections[name]

    def _call(self, call: Callable[..., Any], documents: object, options: object) -> Any:
        try:
            return call(documents, options)
        except CouchbaseException as e:
            raise StoreUnavailableError(self._where, text_of(e)) from e

    def _take(self, result: Any, puts: Mapping[str, Put], done: dict[str, int | Refusal]) -> None:
        for key, written in result.results.items():
            done[key] = written.cas
        for key, error in result.exceptions.items():
            if getattr(error, "error_code", None) == _TOO_LARGE:
                raise StoreTooLargeError(key, len(puts[key].data)) from error
            refusal = refusal_of(error)
            if isinstance(error, UnAmbiguousTimeoutException) and result.results:
                refusal = Refusal.TEMPORARY  # slow: others of the same call got through
            if refusal is None:
                raise StoreUnavailableError(self._where, text_of(error)) from error
            done[key] = refusal


def _options(settings: CouchbaseSettings) -> ClusterOptions:
    kv = timedelta(milliseconds=settings.timeout_ms)
    connect = timedelta(milliseconds=settings.connect_timeout_ms)
    timeouts = ClusterTimeoutOptions(
        kv_timeout=kv, kv_durable_timeout=max(kv, timedelta(seconds=10)), bootstrap_timeout=connect,
        management_timeout=connect, query_timeout=connect,
    )  # fmt: skip
    trusted = {"cert_path": settings.ca_file} if settings.ca_file else {}
    authenticator = PasswordAuthenticator(settings.username, settings.password, **trusted)
    return ClusterOptions(authenticator, timeout_options=timeouts)


def _by_collection(keys: Iterable[str]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        parts[collection_of(key)].append(key)
    return parts
