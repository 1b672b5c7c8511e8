"""Section ``books`` of the configuration: which store, and how its processes are told of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from books.settings import CouchbaseSettings
    from books.stores import Stores
    from cli.configuration import Loaded

Port = Annotated[int, Meta(ge=1, le=65_535)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
SCHEMES = ("couchbase://", "couchbases://")


class CouchbaseSection(Struct, frozen=True, forbid_unknown_fields=True):
    """A Couchbase cluster as the store; needs the extra ``couchbase``. See docs/couchbase.md.

    Attributes:
        connection: ``couchbases://host`` with TLS, ``couchbase://host`` without; several hosts divided by commas.
        bucket: The bucket.
        scope: Named scope whose collections hold the documents, made by ``wojak books init``; empty = the bucket's
            default collection.
        username_env: Environment variable with the user's name.
        password_env: Environment variable with the password.
        durability: What a write waits for: ``none``: the active node's memory; ``client``: one replica and one disk, as
            the SDK sees it; the others are the server's own levels.
        timeout_ms: Of one call.
        connect_timeout_ms: Of finding the cluster.
        ca_file: What the cluster's certificate is checked with, PEM; relative to this file; empty = the SDK's list.
    """

    connection: str = ""
    bucket: Text = "wojak"
    scope: Annotated[str, Meta(max_length=251)] = ""
    username_env: Text = "WOJAK_COUCHBASE_USERNAME"
    password_env: Text = "WOJAK_COUCHBASE_PASSWORD"  # noqa: S105  # where it is, not what it is
    durability: Literal["none", "client", "majority", "majority_and_persist", "persist_to_majority"] = "none"
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 2_000
    connect_timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    ca_file: str = ""


class BooksSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The books: their store, and the read-only REST API over them.

    Attributes:
        store: ``sqlite``: a file a shard in the state folder; ``couchbase``: a bucket of a cluster.
    """

    host: Text = "127.0.0.1"
    port: Port = 8080
    store: Literal["sqlite", "couchbase"] = "sqlite"
    couchbase: CouchbaseSection = CouchbaseSection()


def books_problems(books: BooksSection, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the section; nothing of a store that is not chosen."""
    if books.store != "couchbase":
        return
    section = books.couchbase
    if not section.connection.startswith(SCHEMES):
        yield f"books.couchbase.connection: expected couchbases://host or couchbase://host, was {section.connection!r}"
    for key in ("username_env", "password_env"):
        variable = getattr(section, key)
        if not os.environ.get(variable):
            yield f"books.couchbase.{key}: expected environment variable {variable} to be set, was not"
    if section.ca_file and not os.access(folder / section.ca_file, os.R_OK):
        yield f"books.couchbase.ca_file: expected a file that can be read, was {section.ca_file!r}"


def couchbase_of(loaded: Loaded) -> CouchbaseSettings | None:
    """Return the cluster that a shard's books are in; None where they are in a file."""
    from books.settings import CouchbaseSettings

    section = loaded.config.books.couchbase
    if loaded.config.books.store != "couchbase":
        return None
    return CouchbaseSettings(
        connection=section.connection,
        bucket=section.bucket,
        username=os.environ.get(section.username_env, ""),
        password=os.environ.get(section.password_env, ""),
        scope=section.scope,
        durability=section.durability,
        timeout_ms=section.timeout_ms,
        connect_timeout_ms=section.connect_timeout_ms,
        ca_file=str(loaded.resolve(section.ca_file)) if section.ca_file else "",
        shard=loaded.paths.shard or loaded.config.wojak.shard,
    )


def stores_of(loaded: Loaded) -> Stores:
    """Return where a shard's books are."""
    from books.stores import Stores

    return Stores(str(loaded.paths.books), couchbase_of(loaded))
