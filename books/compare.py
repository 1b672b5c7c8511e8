"""Whether the books are what the journal means: project the journal anew and compare row by row."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from books.errors import StoreUnavailableError
from books.projector import Projector
from books.schema import TABLES, columns
from books.sqlite import SqliteStore
from books.store import LIMIT_MAX, Counts, Reader, Row
from books.stores import Stores
from journal.rows import OrderRow, PositionRow

_EXAMPLES_MAX: Final = 20
_ATTEMPTS: Final = 20
_STEP_RECORDS: Final = 8_192


class Difference(NamedTuple):
    """One row that is not the same. ``where``: ``books`` has it so, ``journal`` means it so."""

    kind: str
    where: str
    row: str


class Comparison(NamedTuple):
    """What was compared: up to record ``seq``, how many rows each way, and what differs (at most 20 shown)."""

    seq: int
    records: int
    books: Counts
    journal: Counts
    different: int
    examples: list[Difference]

    @property
    def is_equal(self) -> bool:
        """Whether the books are exactly what the journal means. Nothing compared is no proof."""
        return self.different == 0 and self.records > 0


def compare(folder: Path, store: Path) -> Comparison:
    """Project the journal up to the books' watermark into a fresh store and compare every row of every table.

    Args:
        folder: The journal.
        store: The books' file; may be in use, one snapshot of it is compared.

    Raises:
        JournalError: If the journal can't be read, or is not the one the books were made from.
        StoreUnavailableError: If the books can't be read.
    """
    with tempfile.TemporaryDirectory(prefix="wojak-verify-") as place:
        snapshot, fresh = Path(place) / "books.sqlite", Path(place) / "journal.sqlite"
        _copy(store, snapshot)
        with contextlib.closing(SqliteStore(snapshot)) as books, contextlib.closing(SqliteStore(fresh)) as anew:
            mark = books.watermark()
            records = _project(folder, anew, mark.seq)
            examples, different = _differences(snapshot, fresh)
            if anew.watermark() != mark:
                different += 1
                examples.insert(0, Difference("watermark", "books", f"{mark}, the journal has {anew.watermark()}"))
            return Comparison(mark.seq, records, books.counts(), anew.counts(), different, examples)


def compare_stores(folder: Path, stores: Stores) -> Comparison:
    """Compare the books of a deployment, wherever they are.

    Raises:
        JournalError: If the journal can't be read, or is not the one the books were made from.
        StoreUnavailableError: If the books can't be read, or never stand still for as long as that takes.
    """
    if stores.path is not None:
        return compare(folder, stores.path)
    for _ in range(_ATTEMPTS):
        with contextlib.closing(stores.reader()) as books:
            if (found := compare_reader(folder, books)) is not None:
                return found
    raise StoreUnavailableError("the books", f"they moved on {_ATTEMPTS} times while they were compared")


def compare_reader(folder: Path, books: Reader) -> Comparison | None:
    """Compare through the contract, document by document; None if the books moved meanwhile: nothing is known then."""
    mark, counts = books.watermark(), books.counts()
    with (
        tempfile.TemporaryDirectory(prefix="wojak-verify-") as place,
        contextlib.closing(SqliteStore(Path(place) / "journal.sqlite")) as anew,
    ):
        records = _project(folder, anew, mark.seq)
        examples: list[Difference] = []
        different = 0
        for kind in TABLES:
            for difference in _differing(kind, books, anew):
                different += 1
                if len(examples) < _EXAMPLES_MAX:
                    examples.append(difference)
        if anew.watermark() != mark:
            different += 1
            examples.insert(0, Difference("watermark", "books", f"{mark}, the journal has {anew.watermark()}"))
        if books.watermark() != mark:
            return None
        return Comparison(mark.seq, records, counts, anew.counts(), different, examples)


def _differing(kind: str, books: Reader, journal: Reader) -> Iterator[Difference]:
    """Yield what differs between two lists that are in the same order, holding a page of each."""
    one, other = _each(kind, books), _each(kind, journal)
    ours, theirs = next(one, None), next(other, None)
    while ours is not None or theirs is not None:
        if ours == theirs:
            ours, theirs = next(one, None), next(other, None)
        elif theirs is None or (ours is not None and _place(ours) < _place(theirs)):
            yield Difference(kind, "books", str(ours))
            ours = next(one, None)
        elif ours is None or _place(theirs) < _place(ours):
            yield Difference(kind, "journal", str(theirs))
            theirs = next(other, None)
        else:
            yield Difference(kind, "books", str(ours))
            yield Difference(kind, "journal", str(theirs))
            ours, theirs = next(one, None), next(other, None)


def _place(row: Row) -> int:
    if isinstance(row, PositionRow):
        return 0  # in the order they were first taken; both lists have it
    return row.accepted_seq if isinstance(row, OrderRow) else row.seq


def _each(kind: str, store: Reader) -> Iterator[Row]:
    cursor = 0
    while True:
        page = store.list_rows(kind, {}, LIMIT_MAX, cursor)
        yield from page.rows
        if not page.cursor:
            return
        cursor = page.cursor


def _copy(store: Path, target: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.OperationalError as e:
        raise StoreUnavailableError(str(store), str(e)) from e


def _project(folder: Path, anew: SqliteStore, stop_seq: int) -> int:
    projector = Projector(folder, anew)
    records = 0
    try:
        while projector.mark.seq < stop_seq and (moved := projector.step(_STEP_RECORDS, stop_seq)):
            records += moved
    finally:
        projector.close()
    return records


def _differences(books: Path, journal: Path) -> tuple[list[Difference], int]:
    examples: list[Difference] = []
    different = 0
    with contextlib.closing(sqlite3.connect(books, isolation_level=None)) as db:
        db.execute("ATTACH ? AS journal", (str(journal),))
        for table in TABLES.values():
            names = ", ".join(columns(table))
            for where, one, other in (("books", "main", "journal"), ("journal", "journal", "main")):
                sql = f"SELECT {names} FROM {one}.{table.name} EXCEPT SELECT {names} FROM {other}.{table.name}"  # noqa: S608
                for row in db.execute(sql):
                    different += 1
                    if len(examples) < _EXAMPLES_MAX:
                        examples.append(Difference(table.name, where, str(dict(zip(columns(table), row, strict=True)))))
    return examples, different
