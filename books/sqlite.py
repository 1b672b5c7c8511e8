"""The embedded store: SQLite in WAL mode, one writer, any number of readers.

``synchronous=NORMAL``: a power cut may take back the last transactions, but whole ones, and the watermark is in
each of them; the writer reads on from the older watermark and the journal has the rest. FULL would pay a sync
a transaction for a projection that can be rebuilt.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from books.errors import StoreDamagedError, StoreUnavailableError, StoreVersionError
from books.schema import SCHEMA_VERSION, TABLES, Coder, ddl
from books.store import LIMIT_MAX, Counts, Page, Progress, StoreMark, mark_text, require_query
from journal.projection import Changes
from journal.rows import OrderRow, PositionRow, TradeRow
from protocol.errors import FencedError

T = TypeVar("T")
BUSY_TIMEOUT_MS: Final = 1_000
_CODERS: Final = {name: Coder(table) for name, table in TABLES.items()}
_FILTER_COLUMN: Final = {"open": "is_open"}


def _upsert(kind: str) -> str:
    coder = _CODERS[kind]
    names, key = coder.columns, coder.table.key
    sets = ", ".join(f"{c} = excluded.{c}" for c in names if c not in key)
    places = ", ".join("?" * len(names))
    return (
        f"INSERT INTO {kind} ({', '.join(names)}) VALUES ({places}) "  # noqa: S608  # names of our own Structs
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets}"
    )


def _insert(kind: str) -> str:
    names = _CODERS[kind].columns
    return f"INSERT INTO {kind} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608


_WRITES: Final = (
    ("orders", _upsert("orders")),
    ("trades", _insert("trades")),
    ("amended", _upsert("trades")),
    ("positions", _upsert("positions")),
    ("breaches", _insert("breaches")),
)
_TABLE_OF: Final = {"amended": "trades"}
_SET_META: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class SqliteStore:
    """The store in one file.

    Args:
        path: The file; made by a writer if absent.
        read_only: For the API: opens what is there and can't change it.

    Raises:
        StoreUnavailableError: If it can't be opened.
        StoreVersionError: If it was made by another release.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        with self._available():
            if read_only:
                self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            else:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, isolation_level=None)
        try:
            with self._available():
                self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
                if not read_only:
                    self._prepare()
                self._require_version()
        except BaseException:
            self._db.close()
            raise

    # Write

    def apply(self, after: StoreMark, changes: Changes, mark: StoreMark) -> None:
        """See ``Store.apply``."""
        with self._available(), self._transaction():
            was = self.watermark()
            if was == mark:
                return  # committed before, the writer died before it noticed
            if was != after:
                raise FencedError(f"the books in {self._path}", mark_text(after), mark_text(was))
            for kind, statement in _WRITES:
                encode = _CODERS[_TABLE_OF.get(kind, kind)].encode
                self._write(statement, [encode(row) for row in getattr(changes, kind)])
            self._db.execute(_SET_META, ("watermark", msgspec.json.encode(mark).decode()))

    def publish(self, progress: Progress) -> None:
        """See ``Store.publish``."""
        with self._available():
            self._db.execute(_SET_META, ("progress", msgspec.json.encode(progress).decode()))

    def drop(self) -> None:
        """See ``Store.drop``."""
        with self._available(), self._transaction():
            for kind in (*TABLES, "meta"):
                self._db.execute(f"DELETE FROM {kind}")  # noqa: S608

    # Read

    def watermark(self) -> StoreMark:
        """See ``Reader.watermark``."""
        return self._meta("watermark", StoreMark) or StoreMark()

    def progress(self) -> Progress:
        """See ``Reader.progress``."""
        return self._meta("progress", Progress) or Progress()

    def counts(self) -> Counts:
        """See ``Reader.counts``."""
        with self._available():
            found = [self._db.execute(f"SELECT count(*) FROM {kind}").fetchone()[0] for kind in TABLES]  # noqa: S608
        return Counts(*found)

    def find_order(self, account: str, client_order_id: str) -> OrderRow | None:
        """See ``Reader.find_order``."""
        found = self._select(
            "orders", "account = ? AND client_order_id = ? ORDER BY day DESC LIMIT 1", (account, client_order_id)
        )
        return found[0][1] if found else None

    def find_order_id(self, order_id: str) -> OrderRow | None:
        """See ``Reader.find_order_id``."""
        found = self._select("orders", "order_id = ? ORDER BY accepted_seq DESC LIMIT 1", (order_id,))
        return found[0][1] if found else None

    def find_position(self, account: str, instrument: str) -> PositionRow | None:
        """See ``Reader.find_position``."""
        found = self._select("positions", "account = ? AND instrument = ?", (account, instrument))
        return found[0][1] if found else None

    def find_trade(self, venue: str, trade_id: str) -> TradeRow | None:
        """See ``Reader.find_trade``."""
        found = self._select("trades", "venue = ? AND trade_id = ?", (venue, trade_id))
        return found[0][1] if found else None

    def trades_of(self, account: str, instrument: str, after_seq: int) -> Iterator[TradeRow]:
        """See ``Reader.trades_of``."""
        after = after_seq
        where = f"account = ? AND instrument = ? AND seq > ? ORDER BY seq LIMIT {LIMIT_MAX}"
        while page := self._select("trades", where, (account, instrument, after)):
            yield from (row for _, row in page)
            after = page[-1][0]

    def order_as_of(self, account: str, client_order_id: str) -> tuple[OrderRow | None, int]:
        """See ``Reader.order_as_of``."""
        with self._available(), self._transaction("DEFERRED"):
            return self.find_order(account, client_order_id), self.watermark().seq

    def list_rows(self, kind: str, filters: dict[str, str | int], limit: int, cursor: int = 0) -> Page:
        """See ``Reader.list_rows``. One read transaction, so that rows and watermark belong together."""
        require_query(kind, filters, limit)
        by = TABLES[kind].cursor
        where = " AND ".join([*(f"{_FILTER_COLUMN.get(f, f)} = ?" for f in filters), f"{by} > ?"])
        with self._available(), self._transaction("DEFERRED"):
            as_of_seq = self.watermark().seq
            found = self._select(kind, f"{where} ORDER BY {by} LIMIT ?", (*filters.values(), cursor, limit + 1))
        page = found[:limit]
        return Page([row for _, row in page], page[-1][0] if len(found) > limit else 0, as_of_seq)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Inside

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in ddl():
                    self._db.execute(statement)
        self._path.chmod(0o600)

    def _require_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise StoreVersionError(str(self._path), SCHEMA_VERSION, version)

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self._db.executemany(statement, rows)
        except sqlite3.IntegrityError as e:
            raise FencedError(f"a row of the books in {self._path}", "not there yet", str(e)) from e

    def _select(self, kind: str, where: str, values: Sequence[Any]) -> list[tuple[int, Any]]:
        coder = _CODERS[kind]
        names = ", ".join(coder.columns)
        statement = f"SELECT {coder.table.cursor}, {names} FROM {kind} WHERE {where}"  # noqa: S608
        with self._available():
            return [(found[0], coder.decode(found[1:])) for found in self._db.execute(statement, values)]

    def _meta(self, name: str, kind: type[T]) -> T | None:
        with self._available():
            found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return msgspec.json.decode(found[0], type=kind) if found else None

    @contextlib.contextmanager
    def _transaction(self, mode: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {mode}")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself may have rolled back
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as e:
            raise StoreUnavailableError(str(self._path), str(e)) from e
        except sqlite3.DatabaseError as e:
            raise StoreDamagedError(str(self._path), str(e)) from e
