"""What the books need to be told."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime.health import HealthSettings

Port = Annotated[int, Meta(ge=1, le=65535)]


class CouchbaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A Couchbase cluster as the store.

    Attributes:
        connection: ``couchbase://host`` or, with TLS, ``couchbases://host``.
        scope: Named scope whose collections hold the documents, made by ``wojak books init``; empty = the bucket's
            default collection.
        durability: What a write waits for.
        timeout_ms: Of one call.
        connect_timeout_ms: Of finding the cluster.
        ca_file: What the cluster's certificate is checked with; empty = the SDK's own list.
        shard: Whose books: part of every key.
    """

    connection: str
    bucket: str
    username: str
    password: str
    scope: str = ""
    durability: Literal["none", "client", "majority", "majority_and_persist", "persist_to_majority"] = "none"
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 2_000
    connect_timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    ca_file: str = ""
    shard: Annotated[int, Meta(ge=0)] = 0


class WriterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The books writer.

    Attributes:
        journal: Folder of the journal.
        store: File of the SQLite store.
        events_endpoint: The engine's PUB socket; a message there means that the journal has more.
        stored_endpoint: Where this process publishes how far the store is; empty = nowhere.
        holder: Name under which recovery finds what the books have seen.
        records_max: Most records of one transaction.
        retry_ms_max: Longest wait before a failing store is tried again.
        look_ms: With no message, look at the journal this often: a PUB message may be lost.
        health: Where the writer tells how it is.
        couchbase: The store, instead of the file.
    """

    journal: str
    store: str
    events_endpoint: str
    stored_endpoint: str = ""
    holder: str = "books"
    records_max: Annotated[int, Meta(ge=1, le=100_000)] = 8192
    retry_ms_max: Annotated[int, Meta(ge=1, le=60_000)] = 5_000
    look_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    health: HealthSettings = HealthSettings()
    couchbase: CouchbaseSettings | None = None


class ShardStore(Struct, frozen=True, forbid_unknown_fields=True):
    """Where one more shard's books are; each as in ``ApiSettings``."""

    store: str
    journal: str = ""
    stored_endpoint: str = ""
    couchbase: CouchbaseSettings | None = None


class ApiSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The REST API.

    Attributes:
        store: File of the SQLite store.
        journal: Folder of the journal, to measure the lag; empty = as the books writer says.
        stored_endpoint: The books writer's PUB socket, on which ``min_seq`` waits; empty = no waiting.
        lag_seq_max: ``/readyz`` says no above this lag.
        more_shards: The books of shard 1 and on; ``store``, ``journal`` and ``stored_endpoint`` are shard 0's.
        account_shards: Accounts that the configuration gives a shard; the others are where the hash says.
        couchbase: Shard 0's store, instead of the file.
    """

    store: str
    journal: str = ""
    stored_endpoint: str = ""
    host: str = "127.0.0.1"
    port: Port = 8080
    lag_seq_max: Annotated[int, Meta(ge=0)] = 100_000
    more_shards: tuple[ShardStore, ...] = ()
    account_shards: dict[str, int] = {}
    couchbase: CouchbaseSettings | None = None

    @property
    def stores(self) -> tuple[ShardStore, ...]:
        """The books of each shard."""
        return (ShardStore(self.store, self.journal, self.stored_endpoint, self.couchbase), *self.more_shards)
