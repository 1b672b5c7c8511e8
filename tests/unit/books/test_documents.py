"""The books as documents: the contract over a bucket in memory, and every way in which a write can go wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from books.bucket import Found, Refusal
from books.compare import compare_reader
from books.document_reader import DocumentReader
from books.document_store import DocumentStore
from books.documents import Document, Keys, decode_document
from books.errors import StoreAmbiguousError, StoreLostError, StoreUnavailableError
from books.pages import SPAN_BITS, Edit, Page, numbers_after
from books.projector import Projector
from books.store import FILTERS, Store, StoreMark
from journal.projection import Changes, Projection, State
from journal.rows import TradeRow
from protocol.errors import FencedError
from protocol.records import Record
from tests.conformance.memory_bucket import MemoryBucket
from tests.conformance.store import StoreContract, changes_of
from tests.unit.journal.samples import ordered, write_batches
from tests.unit.journal.stories import STARTED, Story

WHERE = "memory"


def _open(bucket: MemoryBucket, seed: int = 1) -> DocumentStore:
    return DocumentStore(bucket, WHERE, random=Random(seed), pause=lambda _: None)


class TestDocumentStore(StoreContract):
    @pytest.fixture
    def store(self) -> DocumentStore:
        return _open(MemoryBucket())


class TestDocumentStoreWithFaults(StoreContract):
    """The same where one write in five goes wrong."""

    @pytest.fixture
    def store(self) -> DocumentStore:
        random = Random(7)
        kinds = ["temporary", "silent", "late"]
        return _open(MemoryBucket(lambda _: random.choice(kinds) if random.random() < 0.2 else None))


def _rows(store: DocumentReader | Store) -> dict[str, list[str]]:
    return {kind: sorted(map(repr, store.list_rows(kind, {}, 500).rows)) for kind in FILTERS}


def _follow(store: DocumentStore, records: list[Record], step: int) -> None:
    """Bring what is missing into the store in batches of ``step``, as the books writer does."""
    mark = store.watermark()
    projection = Projection(store, mark.state)
    for seq in range(mark.seq + 1, len(records) + 1):
        projection.apply(seq, seq * 10, records[seq - 1])
        if seq % step == 0 or seq == len(records):
            changes = projection.take()
            to = StoreMark(seq, 77, 1, changes.state)
            store.apply(mark, changes, to)
            mark = to


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_writer_that_dies_at_any_write_leaves_nothing_that_counts(seed: int, step: int) -> None:
    """Killed at random writes, each next life with other batches, it ends as one that never died; readers agree."""
    random = Random(seed)
    records = Story(Random(seed)).write(60)
    expected, mark = changes_of(records)
    left = 0

    def faults(_: str) -> str | None:
        nonlocal left
        left -= 1
        return "away" if left == 0 else random.choice([None, None, None, "temporary", "silent", "late"])

    bucket = MemoryBucket(faults)
    for life in range(200):
        left = random.randint(1, 40 + 20 * life)
        try:
            store = _open(bucket, life)
            seen = _rows(DocumentReader(bucket, WHERE))
            assert seen == _expected(records, store.watermark().seq)
            _follow(store, records, random.randint(1, step))
            break
        except StoreUnavailableError:
            bucket.arrive(random)
    assert DocumentReader(bucket, WHERE).watermark() == mark
    assert _rows(DocumentReader(bucket, WHERE)) == {k: sorted(map(repr, getattr(expected, k))) for k in FILTERS}


def _expected(records: list[Record], seq: int) -> dict[str, list[str]]:
    changes, _ = changes_of(records[:seq])
    return {kind: sorted(map(repr, getattr(changes, kind))) for kind in FILTERS}


def test_a_second_writer_takes_over_and_the_first_is_fenced() -> None:
    """The older one can't move the watermark any more, and what it wrote meanwhile does not count."""
    records = Story(Random(3)).write(150)[:80]
    assert len(records) == 80
    bucket = MemoryBucket()
    old = _open(bucket)
    _follow(old, records[:40], 10)
    new = _open(bucket, 2)
    with pytest.raises(FencedError):
        _follow(old, records[:60], 20)
    assert _rows(DocumentReader(bucket, WHERE)) == _expected(records, 40)
    _follow(new, records, 15)

    assert _rows(DocumentReader(bucket, WHERE)) == _expected(records, 80)


def test_what_the_server_lost_is_named() -> None:
    """A row behind the watermark that is gone stops the writer and the reader; a lost watermark begins anew."""
    bucket = MemoryBucket()
    records = [STARTED, ordered("a"), ordered("b")]
    _follow(_open(bucket), records, 3)
    keys = Keys(0)
    lost = bucket.documents.pop(keys.row("orders", 2))
    with pytest.raises(StoreLostError):
        DocumentReader(bucket, WHERE).list_rows("orders", {}, 10)
    store = _open(bucket)
    changes, _ = changes_of(records)
    (row,) = [row for row in changes.orders if row.client_order_id == "a"]
    with pytest.raises(StoreLostError):
        store.apply(store.watermark(), Changes([row], [], [], [], State(4)), StoreMark(4, 1, 1, State(4)))
    bucket.documents[keys.row("orders", 2)] = lost
    del bucket.documents[keys.watermark]
    _follow(_open(bucket), records, 2)

    assert _rows(DocumentReader(bucket, WHERE)) == _expected(records, 3)


@pytest.mark.parametrize(("fault", "expected"), [("temporary", StoreUnavailableError), ("none", StoreAmbiguousError)])
def test_a_server_that_never_answers_well_is_the_callers_to_try_again(
    fault: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tries are bounded; the waits between grow, with chance in them, and what is not known is said so."""
    bucket, waits = MemoryBucket(), []
    store = DocumentStore(bucket, WHERE, random=Random(1), pause=waits.append)
    refusal = Refusal.TEMPORARY if fault == "temporary" else Refusal.AMBIGUOUS
    monkeypatch.setattr(bucket, "write", lambda puts: dict.fromkeys(puts, refusal))
    changes, mark = changes_of([STARTED, ordered("a")])
    with pytest.raises(expected) as caught:
        store.apply(StoreMark(), changes, mark)

    assert type(caught.value) is expected
    assert 3 < len(waits) < 10
    assert waits[-1] > waits[0]
    assert sum(waits) < 1
    assert len(set(waits)) > 3


def test_a_reader_that_is_overtaken_begins_anew() -> None:
    """A document written twice since the watermark was read no longer has what counted: a newer watermark is taken."""
    bucket = MemoryBucket()
    store = _open(bucket)
    changes, mark = changes_of([STARTED, ordered("a")])
    store.apply(StoreMark(), changes, mark)
    (row,) = changes.orders
    seen = [mark.seq]

    class Overtaken(DocumentReader):
        def values(self, keys: object, seq: int) -> dict[str, object]:
            if len(seen) == 1:
                for _ in range(2):
                    before = store.watermark()
                    row.seq = before.seq + 1
                    after = StoreMark(row.seq, 1, 1, State(row.seq))
                    store.apply(before, Changes([structs.replace(row)], [], [], [], State(row.seq)), after)
                seen.append(store.watermark().seq)
            return super().values(keys, seq)  # type: ignore[arg-type]

    found, as_of_seq = Overtaken(bucket, WHERE).order_as_of("demo", "a")

    assert found == row
    assert as_of_seq == seen[1] == mark.seq + 2


@given(st.lists(st.tuples(st.integers(0, 5_000_000), st.booleans()), max_size=60), st.integers(0, 5_000_000))
def test_pages_hold_exactly_what_was_put_in(changes: list[tuple[int, bool]], after: int) -> None:
    """Whatever is added and taken out, a walk gives what is left in order, and empty pages are not visited."""
    held: dict[Page, list[int]] = {}
    expected: set[int] = set()
    for n in range(0, len(changes), 7):
        edit = Edit()
        for number, adds in changes[n : n + 7]:
            (edit.add if adds else edit.remove)("orders", "all", number)
            (expected.add if adds else expected.discard)(number)
        held.update(edit.run(lambda pages: [held.get(page, []) for page in pages]))
    asked: list[Page] = []

    def read(page: Page) -> list[int]:
        asked.append(page)
        return held.get(page, [])

    assert list(numbers_after("orders", "all", after, read)) == sorted(n for n in expected if n > after)
    assert all(held.get(page) for page in asked if page.level < 3)
    leaves = {n >> SPAN_BITS for n in expected if n > after} | {after >> SPAN_BITS}
    assert {page.number for page in asked if page.level == 0} <= leaves


def test_names_that_are_long_or_look_like_keys_stay_apart() -> None:
    """A separator within a name is no separator, and no key is longer than a server takes."""
    keys = Keys(0)
    assert keys.order_of("a::b", "c") != keys.order_of("a", "b::c")
    assert keys.order_of("a", "b").startswith("order-of::0::")
    long = [keys.order_of(":" * 64, ":" * 63 + last) for last in "xy"]
    assert long[0] != long[1]
    assert all(len(key) <= 250 for key in long)
    assert Keys(1).row("orders", 7) != keys.row("orders", 7)


def test_a_document_tells_what_counts() -> None:
    """Below its mark the older form; where that is beyond too, nothing for a writer, and a reader begins anew."""
    document = decode_document(b'{"mark": 20, "value": 2, "was_mark": 10, "was": 1}')
    assert [document.at(seq) for seq in (9, 10, 19, 20)] == [None, 1, 1, 2]
    assert [document.is_beyond(seq) for seq in (9, 10, 20)] == [True, False, False]
    assert document.next(15, 30, 3) == Document(30, 3, 10, 1)
    assert document.next(20, 30, 3) == Document(30, 3, 20, 2)
    assert document.next(5, 30, 3) == Document(30, 3)


def test_the_books_writer_follows_a_journal_into_documents(tmp_path: Path) -> None:
    """The same projector as for SQLite, over a journal on disk; compared row by row, a planted difference is found."""
    records = Story(Random(1)).write(150)
    write_batches(tmp_path, [records[n : n + 4] for n in range(0, len(records), 4)])
    bucket = MemoryBucket()
    projector = Projector(tmp_path, _open(bucket), "books")
    while projector.step(16):
        pass
    projector.close()
    reader = DocumentReader(bucket, WHERE)
    compared = compare_reader(tmp_path, reader)
    assert compared is not None
    assert compared.is_equal, compared.examples
    assert compared.books == compared.journal
    assert compared.records == len(records)

    (trade, *_) = reader.list_rows("trades", {}, 1).rows
    assert isinstance(trade, TradeRow)
    key = Keys(0).row("trades", trade.seq)
    changed = bucket.documents[key].data.replace(b'"liquidity":1', b'"liquidity":2')
    changed = changed if changed != bucket.documents[key].data else changed.replace(b'"day":', b'"day":1')
    bucket.documents[key] = Found(1, changed)
    compared = compare_reader(tmp_path, reader)
    assert compared is not None
    assert compared.different == 2
    assert {d.where for d in compared.examples} == {"books", "journal"}


def test_no_process_of_orders_loads_the_sdk() -> None:
    """What the engine, the gateway and the sidecars are started through, and the store's own modules, import none."""
    modules = "cli.run, cli.wiring, engine.loop, venues.core.loop, sidecars.core.loop, books.writer, books.api"
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith('couchbase')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
