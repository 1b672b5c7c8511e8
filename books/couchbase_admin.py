"""What an operator asks of a cluster: make the collections, and see whether it keeps what the store rests on.

Nothing here was ever run against a real cluster: CouchbaseMock has no collections, levels of durability, SQL++ or TLS.
So ``examine`` tries each on the cluster it is given, with a document of its own, and says what it saw.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, Final, NamedTuple

from couchbase.exceptions import (
    CollectionAlreadyExistsException,
    CouchbaseException,
    ScopeAlreadyExistsException,
)

from books.bucket import NEW, Put, Refusal
from books.couchbase import CouchbaseBucket, text_of
from books.documents import COLLECTIONS
from books.errors import StoreUnavailableError
from books.settings import CouchbaseSettings
from protocol.errors import StoreError

FINE: Final = "✔"
ADVICE: Final = "!"
FAULT: Final = "✘"
NAMES: Final = tuple(sorted(set(COLLECTIONS.values())))
_INDEXED: Final = {
    "orders": ("account", "accepted_seq"),
    "trades": ("account", "seq"),
    "positions": ("account", "instrument"),
    "breaches": ("account", "seq"),
}


class Finding(NamedTuple):
    """What was looked at, how it is, and what was seen."""

    mark: str
    what: str
    text: str


def make_collections(bucket: CouchbaseBucket, settings: CouchbaseSettings) -> list[str]:
    """Make the scope and its collections; return those that were not there.

    Raises:
        StoreUnavailableError: If the cluster refuses.
    """
    if not settings.scope:
        return []
    manager: Any = bucket.bucket.collections()
    made: list[str] = []
    try:
        with contextlib.suppress(ScopeAlreadyExistsException):
            manager.create_scope(settings.scope)
        for name in NAMES:
            try:
                manager.create_collection(settings.scope, name)
                made.append(name)
            except CollectionAlreadyExistsException:
                continue
    except CouchbaseException as e:
        raise StoreUnavailableError(f"scope {settings.scope} of bucket {settings.bucket}", text_of(e)) from e
    return made


def index_statements(settings: CouchbaseSettings) -> list[str]:
    """Return SQL++ statements for indexes that a person's own queries may want.

    Rows are under ``value``; what counts is in ``was`` where ``mark`` is above the watermark document's.
    """
    found: list[str] = []
    for kind, columns in _INDEXED.items():
        place = f"`{settings.bucket}`" + (f".`{settings.scope}`.`{kind}`" if settings.scope else "")
        by = ", ".join(f"`value`.`{column}`" for column in columns)
        found.append(f"CREATE INDEX `wojak_{kind}` ON {place}({by}) WHERE `value`.`{columns[1]}` IS NOT MISSING;")
    return found


def examine(bucket: CouchbaseBucket, settings: CouchbaseSettings) -> list[Finding]:
    """Try what the store rests on; return what was seen, never an exception of the cluster's."""
    findings = [_transport(settings), *_guards(bucket, settings), _queries(bucket)]
    findings.append(Finding(ADVICE, "replication between clusters", "not looked at: one writing cluster a shard only"))
    return findings


def _transport(settings: CouchbaseSettings) -> Finding:
    if settings.connection.startswith("couchbases://"):
        by = f"checked with {settings.ca_file}" if settings.ca_file else "checked with the SDK's own list"
        return Finding(FINE, "TLS", f"in use, the certificate {by}")
    return Finding(ADVICE, "TLS", "not in use: names and passwords pass in the clear; use couchbases://")


def _guards(bucket: CouchbaseBucket, settings: CouchbaseSettings) -> list[Finding]:
    """One document of our own: made, refused a second time, replaced under its version, refused under an old one."""
    key = f"progress::doctor::{secrets.token_hex(8)}"
    where = f"scope {settings.scope}" if settings.scope else "default collection"
    level = f"durability {settings.durability}"
    try:
        first = bucket.write({key: Put(b"1", NEW)})[key]
        again = bucket.write({key: Put(b"2", NEW)})[key]
        if isinstance(first, Refusal):
            return [Finding(FAULT, level, f"a new document was refused: {first.name}; docs/couchbase.md")]
        second = bucket.write({key: Put(b"3", first)})[key]
        stale = bucket.write({key: Put(b"4", first)})[key]
        found = bucket.read([key])[key]
        bucket.remove([key])
    except StoreError as e:
        return [Finding(FAULT, f"{where}, {level}", str(e))]
    findings = [Finding(FINE, f"{where}, {level}", "a document was written, read and removed")]
    held = again is stale is Refusal.CHANGED and found.cas == second and found.data == b"3"
    findings.append(
        Finding(FINE, "guarded writes", "a second insert and a write under an old version were refused")
        if held
        else Finding(FAULT, "guarded writes", f"expected refusals, were {again} and {stale}: two writers could mix")
    )
    if settings.durability == "none":
        text = "a node that fails may take written rows with it; the books writer stops and a rebuild mends it"
        findings.append(Finding(ADVICE, level, text))
    return findings


def _queries(bucket: CouchbaseBucket) -> Finding:
    try:
        list(bucket.cluster.query("SELECT 1").rows())
    except CouchbaseException as e:
        return Finding(ADVICE, "SQL++", f"does not answer ({text_of(e)}); Wojak does not need it")
    return Finding(FINE, "SQL++", "answers; Wojak does not need it")
