"""SQLite as a store: the contract, its indexes, and what a broken or locked file does."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from books.errors import StoreDamagedError, StoreUnavailableError, StoreVersionError
from books.sqlite import SqliteStore
from books.store import FILTERS, StoreMark
from tests.conformance.store import StoreContract, changes_of
from tests.unit.journal.samples import ordered
from tests.unit.journal.stories import STARTED


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "books.sqlite")
        yield store
        store.close()


@pytest.mark.parametrize("kind", sorted(FILTERS))
def test_every_filter_uses_an_index(tmp_path: Path, kind: str) -> None:
    """No list scans a table or sorts it, whatever is asked (positions are few: they may be sorted)."""
    store = SqliteStore(tmp_path / "books.sqlite")
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    for filters in FILTERS[kind]:
        store.list_rows(kind, dict.fromkeys(filters, 1), 10)
    store._db.set_trace_callback(None)
    for statement in [s for s in asked if s.startswith("SELECT") and f"FROM {kind}" in s]:
        plan = " ".join(row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SCAN" not in plan, (statement, plan)
        assert kind == "positions" or "TEMP B-TREE" not in plan, (statement, plan)
    store.close()


def test_a_locked_store_is_unavailable(tmp_path: Path) -> None:
    """Somebody else's transaction is waited for a while, then named; afterwards it works."""
    path = tmp_path / "books.sqlite"
    store = SqliteStore(path)
    store._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    changes, mark = changes_of([STARTED, ordered("a")])
    with pytest.raises(StoreUnavailableError):
        store.apply(StoreMark(), changes, mark)
    other.execute("ROLLBACK")
    other.close()
    store.apply(StoreMark(), changes, mark)

    assert store.watermark() == mark
    store.close()


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    """A file of something else, and books of another release, are refused with what to do."""
    garbage, newer = tmp_path / "garbage", tmp_path / "newer"
    garbage.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDamagedError):
        SqliteStore(garbage)
    SqliteStore(newer).close()
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreVersionError):
        SqliteStore(newer)


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(StoreUnavailableError):
        SqliteStore(tmp_path / "absent", read_only=True)

    assert not (tmp_path / "absent").exists()


def test_a_reader_can_not_write(tmp_path: Path) -> None:
    """The API's connection is read-only, and the file its owner's."""
    SqliteStore(tmp_path / "books.sqlite").close()
    reader = SqliteStore(tmp_path / "books.sqlite", read_only=True)
    with pytest.raises(StoreUnavailableError):
        reader.drop()

    assert stat.S_IMODE((tmp_path / "books.sqlite").stat().st_mode) == 0o600
    reader.close()
