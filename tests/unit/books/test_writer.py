"""The books writer: killed anywhere it goes on, and ends equal to a rebuild."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from books import projector as projector_module
from books.compare import compare
from books.errors import StoreUnavailableError
from books.projector import Projector
from books.settings import WriterSettings
from books.sqlite import SqliteStore
from books.store import Store
from books.writer import Writer, rebuild
from journal.errors import JournalCutError, JournalDamagedError
from journal.format import segments
from journal.holders import Held, holders
from journal.watermark import watermark_path
from protocol.channels import Context, Publisher, Subscriber, Waiter
from protocol.records import Record
from runtime import failpoints
from tests.unit.journal.samples import open_journal, ordered, write_batches
from tests.unit.journal.stories import STARTED, Story


def _story(folder: Path, seed: int = 1, steps: int = 150) -> list[Record]:
    records = Story(Random(seed)).write(steps)
    write_batches(folder, [records[n : n + 4] for n in range(0, len(records), 4)])
    return records


class _KilledError(BaseException):
    """kill -9, as far as one process can feel it."""


def _run_projector(folder: Path, store_path: Path, records_max: int) -> None:
    store = SqliteStore(store_path)
    projector = Projector(folder, store, "books")
    try:
        while projector.step(records_max):
            pass
    finally:
        projector.close()
        store.close()


@pytest.mark.parametrize("point", ["books.after_read", "books.before_commit", "books.after_commit"])
def test_a_writer_killed_at_any_step_ends_equal_to_a_rebuild(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying at every second pass of a fail point, it goes on from the store's watermark and ends with the same rows."""
    folder, path = tmp_path / "journal", tmp_path / "books.sqlite"
    _story(folder)
    hits = 0

    def hit(name: str) -> None:
        nonlocal hits
        if name == point:
            hits += 1
            if hits % 2:
                raise _KilledError

    monkeypatch.setattr(failpoints, "hit", hit)
    lives = 0
    while True:
        lives += 1
        try:
            _run_projector(folder, path, 2)
            break
        except _KilledError:
            continue
    monkeypatch.undo()

    assert lives > 10 or hits > 10
    compared = compare(folder, path)
    assert compared.is_equal, compared
    assert compared.records > 100
    assert compared.books == compared.journal


def test_a_holder_is_ahead_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is about to be used is held durably first (DECISIONS 4)."""
    folder = tmp_path / "journal"
    _story(folder)
    seen: list[tuple[int | None, int]] = []
    store = SqliteStore(tmp_path / "books.sqlite")
    monkeypatch.setattr(
        projector_module.failpoints,
        "hit",
        lambda name: seen.append((holders(folder)[0].seq, store.watermark().seq)) if "before" in name else None,
    )
    projector = Projector(folder, store, "books")
    while projector.step(16):
        pass
    projector.close()

    assert seen
    assert all(held is not None and held > stored for held, stored in seen)
    assert holders(folder) == [Held("books", store.watermark().seq, store.watermark().crc)]
    store.close()


def test_a_rebuild_equals_the_live_books(tmp_path: Path) -> None:
    """Dropped and projected anew, the store is the same."""
    folder, path = tmp_path / "journal", tmp_path / "books.sqlite"
    records = _story(folder)
    _run_projector(folder, path, 7)
    store = SqliteStore(path)
    counts = store.counts()

    assert rebuild(folder, store) == len(records)
    assert store.counts() == counts
    store.close()
    assert compare(folder, path).is_equal


def test_books_follow_an_engine_through_restarts(tmp_path: Path) -> None:
    """Each restart rewrites the journal's tail; the projector that runs sees nothing but more records."""
    folder = tmp_path / "journal"
    store = SqliteStore(tmp_path / "books.sqlite")
    projector = Projector(folder, store, "books")
    assert projector.step(100) == 0
    for n in range(30):
        write_batches(folder, [[STARTED, ordered(f"o{n}")]])
        assert projector.step(100) == 2
    projector.close()

    assert store.counts().orders == 30
    assert projector.lag_seq == 0
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE orders SET cum_quantity_e9 = '1' WHERE rowid = 1",
        "DELETE FROM trades WHERE rowid = (SELECT min(rowid) FROM trades)",
        "UPDATE positions SET fees_e9 = '{}'",
        "UPDATE breaches SET code = 1",
    ],
)
def test_a_comparison_sees_any_changed_row(tmp_path: Path, change: str) -> None:
    """Books that are not what the journal means are found, with the row."""
    folder, path = tmp_path / "journal", tmp_path / "books.sqlite"
    _story(folder)
    _run_projector(folder, path, 100)
    db = sqlite3.connect(path)
    db.execute(change)
    db.commit()
    db.close()

    compared = compare(folder, path)
    assert not compared.is_equal
    assert compared.examples


def test_empty_books_prove_nothing(tmp_path: Path) -> None:
    """A comparison of nothing is no success."""
    SqliteStore(tmp_path / "books.sqlite").close()
    _story(tmp_path / "journal")

    assert not compare(tmp_path / "journal", tmp_path / "books.sqlite").is_equal


def test_books_of_another_journal_stop(tmp_path: Path) -> None:
    """A store that saw another history is never mixed with this one."""
    ours, theirs, path = tmp_path / "ours", tmp_path / "theirs", tmp_path / "books.sqlite"
    _story(ours, seed=1)
    _story(theirs, seed=2, steps=400)
    _run_projector(ours, path, 100)
    with pytest.raises(JournalCutError):
        _run_projector(theirs, path, 100)


def _books_process(settings: WriterSettings, **environment: str) -> subprocess.Popen[bytes]:
    code = (
        "import msgspec, sys; from books.settings import WriterSettings; from books.writer import run; "
        "run(msgspec.json.decode(sys.argv[1], type=WriterSettings))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, msgspec.json.encode(settings).decode()],
        env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        stderr=subprocess.DEVNULL,
    )


def _wait_stored(subscriber: Subscriber, condition: Callable[[], bool]) -> None:
    """Return when the condition holds, looking at each message of the writer; 10 s are a failure."""
    waiter = Waiter(subscriber)
    for _ in range(200):
        if condition():
            return
        waiter.wait(50)
        subscriber.receive(1000)
    raise AssertionError("the books did not get there within 10 s")


def test_the_process_follows_is_killed_and_drains(tmp_path: Path) -> None:
    """The real process: wakes at PUB, dies by SIGKILL at a fail point, starts again, leaves on SIGTERM with 0."""
    folder, path = tmp_path / "journal", tmp_path / "books.sqlite"
    settings = WriterSettings(
        str(folder), str(path), f"ipc://{tmp_path}/pub", f"ipc://{tmp_path}/stored", look_ms=60_000
    )
    context = Context()
    publisher = Publisher(context, settings.events_endpoint, 100)
    subscriber = Subscriber(context, settings.stored_endpoint, 100)
    _story(folder)
    dying = _books_process(settings, WOJAK_FAIL_POINT="books.before_commit:1", WOJAK_FAIL_LOG=str(tmp_path / "fails"))
    assert dying.wait(20) == -signal.SIGKILL
    process = _books_process(settings)
    try:
        _wait_stored(subscriber, lambda: path.exists() and compare(folder, path).is_equal)
        first = compare(folder, path).seq
        write_batches(folder, [[STARTED, ordered("later")]])

        def arrived() -> bool:
            publisher.send(b"wake up")  # again and again: a subscription takes a moment
            return compare(folder, path).seq == first + 2

        _wait_stored(subscriber, arrived)
        assert compare(folder, path).is_equal
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    context.close()


class _Stop:
    """A stop signal that a test sets."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK)
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        os.write(self._write, b"\0")


def test_a_failing_store_is_tried_until_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is locked, then broken, then fine: everything arrives, and each failure was counted."""
    folder, path = tmp_path / "journal", tmp_path / "books.sqlite"
    records = _story(folder)
    settings = WriterSettings(str(folder), str(path), f"ipc://{tmp_path}/pub", retry_ms_max=1, records_max=2)
    failures = 0
    apply = SqliteStore.apply

    def sometimes(self: SqliteStore, *args: object) -> None:
        nonlocal failures
        failures += 1
        if failures % 3:
            raise StoreUnavailableError("books.sqlite", "database is locked")
        apply(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "apply", sometimes)
    stop, context = _Stop(), Context()
    writer = Writer(settings, context, stop, Random(1))  # type: ignore[arg-type]
    told = writer._tell

    def tell(store: Store, projector: Projector) -> None:
        told(store, projector)
        if projector.mark.seq == len(records):
            stop.set()

    monkeypatch.setattr(writer, "_tell", tell)
    thread = threading.Thread(target=writer.run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    monkeypatch.undo()
    context.close()

    assert failures > 10
    assert compare(folder, path).is_equal
    store = SqliteStore(path)
    assert store.progress().retries > 5
    store.close()


def test_a_damaged_journal_stops_the_writer(tmp_path: Path) -> None:
    """Durable bytes that changed are no reason to go on, or to skip."""
    folder = tmp_path / "journal"
    _story(folder)
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalDamagedError):
        _run_projector(folder, tmp_path / "books.sqlite", 100)


def test_the_books_forbid_a_cut_below_them(tmp_path: Path) -> None:
    """What the books have used can't be cut away, even when the watermark is lost."""
    folder = tmp_path / "journal"
    _story(folder)
    _run_projector(folder, tmp_path / "books.sqlite", 100)
    watermark_path(folder).unlink()
    path = segments(folder)[-1]
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[:-1])
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(folder)
    assert "books" in refused.value.why
