"""The books in Couchbase, over CouchbaseMock: the contract, and a server that is killed, frozen, slow or refuses."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from books.bucket import NEW, Put, Refusal
from books.compare import compare_reader
from books.couchbase import CouchbaseBucket
from books.couchbase_admin import FAULT, FINE, examine, make_collections
from books.document_reader import DocumentReader
from books.document_store import DocumentStore
from books.errors import StoreTooLargeError, StoreUnavailableError
from books.projector import Projector
from books.settings import ApiSettings, CouchbaseSettings, ShardStore, WriterSettings
from books.sqlite import SqliteStore
from books.store import StoreMark
from tests.conformance.store import StoreContract, changes_of
from tests.peers.couchbase import CouchbaseMock
from tests.peers.process import wait_until
from tests.unit.books.test_api import serving
from tests.unit.journal.samples import ordered, write_batches
from tests.unit.journal.stories import STARTED, Story

SHARDS = itertools.count(1)  # each test has one of its own, so that none meets another's documents
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mock() -> Iterator[CouchbaseMock]:
    server = CouchbaseMock()
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def bucket(mock: CouchbaseMock) -> Iterator[CouchbaseBucket]:
    bucket = CouchbaseBucket(mock.settings())
    yield bucket
    bucket.close()


class TestCouchbase(StoreContract):
    @pytest.fixture
    def store(self, bucket: CouchbaseBucket) -> DocumentStore:
        return DocumentStore(bucket, "mock", next(SHARDS))


def test_writes_are_guarded(bucket: CouchbaseBucket) -> None:
    """A second insert, a write under an old version and one of what is gone are refused; what is too large is named."""
    key = f"order::{next(SHARDS)}::1"
    first = bucket.write({key: Put(b"1", NEW)})[key]
    assert not isinstance(first, Refusal)
    assert bucket.write({key: Put(b"2", NEW)})[key] is Refusal.CHANGED
    second = bucket.write({key: Put(b"3", first)})[key]
    assert bucket.write({key: Put(b"4", first)})[key] is Refusal.CHANGED
    assert bucket.read([key, key + "0"]) == {key: (second, b"3")}
    bucket.remove([key])
    assert bucket.write({key: Put(b"5", first)})[key] is Refusal.CHANGED
    with pytest.raises(StoreTooLargeError, match=key):
        bucket.write({key: Put(b"6" * (21 << 20), NEW)})


@pytest.mark.parametrize("code", [0x86, 0x85, 0x84])
def test_a_refusal_that_passes_is_waited_out(mock: CouchbaseMock, bucket: CouchbaseBucket, code: int) -> None:
    """Busy, out of memory, internal failure: tried again, and all is there once."""
    shard = next(SHARDS)
    store = DocumentStore(bucket, "mock", shard)
    changes, mark = changes_of(Story(Random(3)).write(60))
    mock.ask(f"opfail?code={code}&count=8")
    store.apply(StoreMark(), changes, mark)

    reader = DocumentReader(bucket, "mock", shard)
    assert reader.watermark() == mark
    assert reader.counts() == tuple(
        len(getattr(changes, kind)) for kind in ("orders", "trades", "positions", "breaches")
    )


# Kills itself instead of the nth call that writes, in the middle of a batch.
_DIES = """
import os, signal
from books.couchbase import CouchbaseBucket
real, left = CouchbaseBucket.write, [{}]
def write(self, puts):
    left[0] -= 1
    return real(self, puts) if left[0] else os.kill(os.getpid(), signal.SIGKILL)
CouchbaseBucket.write = write
"""


def _story(folder: Path, steps: int) -> int:
    records = Story(Random(4)).write(steps)
    write_batches(folder, [records[n : n + 4] for n in range(0, len(records), 4)])
    return len(records)


def _writer(folder: Path, couchbase: CouchbaseSettings, log: Path, first: str = "") -> subprocess.Popen[bytes]:
    settings = WriterSettings(
        str(folder / "journal"), "", f"ipc://{folder}/pub", records_max=64, retry_ms_max=500, look_ms=100,
        couchbase=couchbase,
    )  # fmt: skip
    code = first + (
        "import msgspec, sys; from books.settings import WriterSettings; from books.writer import run; "
        "run(msgspec.json.decode(sys.argv[1], type=WriterSettings))"
    )
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", code, msgspec.json.encode(settings).decode()],
            env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}, stderr=output, stdout=output,
        )  # fmt: skip


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


def test_the_writer_and_its_server_die_and_every_row_is_there(
    mock: CouchbaseMock, bucket: CouchbaseBucket, tmp_path: Path
) -> None:
    """SIGKILL of the writer in mid-batch, a frozen and a slow server: nothing is missing or twice, memory stays."""
    records = _story(tmp_path / "journal", 400)
    couchbase = mock.settings(shard=next(SHARDS), timeout_ms=400)
    reader = DocumentReader(bucket, "mock", couchbase.shard)
    log = tmp_path / "log"
    mock.ask("hiccup?msecs=1&offset=1")  # each answer takes so much longer
    for calls in (3, 5, 8, 4):
        dying = _writer(tmp_path, couchbase, log, _DIES.format(calls))
        assert dying.wait(30) == -signal.SIGKILL, log.read_text()
    assert reader.watermark().seq < records

    process = _writer(tmp_path, couchbase, log)
    try:
        wait_until(lambda: reader.watermark().seq == records, 30, log.read_text)
        mock.server.signal(signal.SIGSTOP)
        held_kib = _resident_kib(process.pid)
        write_batches(tmp_path / "journal", [[STARTED], *([ordered(f"later-{n}")] for n in range(300))])
        wait_until(lambda: log.read_bytes().count(b"store unavailable") > 1, 30, "the writer to say that it waits")
        assert process.poll() is None
        assert _resident_kib(process.pid) < held_kib + (16 << 10)
        mock.server.signal(signal.SIGCONT)
        records += 301
        wait_until(lambda: _seq(reader) == records, 30, log.read_text)
    finally:
        mock.server.signal(signal.SIGCONT)
        mock.ask("hiccup?msecs=0&offset=0")
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    compared = compare_reader(tmp_path / "journal", reader)
    assert compared is not None
    assert compared.is_equal, compared.examples
    assert compared.records == records


def _seq(reader: DocumentReader) -> int:
    try:
        return reader.watermark().seq
    except StoreUnavailableError:
        return -1


async def test_both_stores_give_the_same_answers(mock: CouchbaseMock, bucket: CouchbaseBucket, tmp_path: Path) -> None:
    """The REST API over a file and over documents: every list, filter, page and error is the same, byte for byte."""
    _story(tmp_path / "journal", 200)
    couchbase = mock.settings(shard=next(SHARDS))
    path = tmp_path / "books.sqlite"
    for store in (SqliteStore(path), DocumentStore(bucket, "mock", couchbase.shard)):
        projector = Projector(tmp_path / "journal", store)
        while projector.step(50):
            pass
        projector.close()
    order = DocumentReader(bucket, "mock", couchbase.shard).list_rows("orders", {}, 1).rows[0]
    asked = [
        "/v1/orders", "/v1/orders?limit=7", "/v1/orders?account=demo&open=true", "/v1/orders?code=QTY_MAX",
        "/v1/orders?open=false&limit=3", "/v1/orders?strategy=mm", "/v1/orders?day=20260102&limit=5",
        "/v1/trades?limit=9", "/v1/trades?account=demo&instrument=BTCUSDT", "/v1/trades?status=BUSTED",
        "/v1/positions", "/v1/positions?account=demo", "/v1/breaches", "/v1/breaches?account=demo&strategy=mm",
        f"/v1/orders/{order.account}/{order.client_order_id}", "/v1/orders/demo/nobody",  # type: ignore[union-attr]
    ]  # fmt: skip
    answers: list[list[Any]] = []
    for settings in (ApiSettings(str(path)), ApiSettings("", couchbase=couchbase)):
        async with serving(settings) as client:
            got = []
            for url in asked:
                answer = await client.get(url)
                got.append((url, answer.status_code, answer.json()))
                while (cursor := answer.json().get("cursor")) and "limit" in url:
                    answer = await client.get(f"{url}&cursor={cursor}")
                    got.append((url, answer.status_code, answer.json()))
            answers.append(got)

    assert answers[0] == answers[1]
    assert sum(status == 200 for _, status, _ in answers[0]) > len(asked)
    assert ShardStore("", couchbase=couchbase) == ApiSettings("", couchbase=couchbase).stores[0]


def test_a_server_that_forgot_everything_is_filled_again(tmp_path: Path) -> None:
    """Started anew with nothing, as the mock is: the next writer begins at record 1; who reads is told meanwhile."""
    server = CouchbaseMock()
    server.start()
    try:
        settings = server.settings()
        bucket = CouchbaseBucket(settings)
        records = _story(tmp_path / "journal", 80)
        reader = DocumentReader(bucket, "mock")
        for _ in range(2):
            projector = Projector(tmp_path / "journal", DocumentStore(bucket, "mock"))
            while projector.step(30):
                pass
            projector.close()
            assert reader.watermark().seq == records
            server.server.kill()
            with pytest.raises(StoreUnavailableError):
                reader.watermark()
            server.start()
            wait_until(lambda: _seq(reader) == 0, 20, "the same connection to find the server again")
        bucket.close()
    finally:
        server.end()


def test_no_server_is_said_so(tmp_path: Path) -> None:
    """Nobody listens: temporary, bounded in time, the place named."""
    settings = CouchbaseSettings("couchbase://127.0.0.1:1", "default", "u", "p", connect_timeout_ms=500)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1"):
        CouchbaseBucket(settings)
    assert time.monotonic() - began < 10


def test_the_doctor_sees_what_this_server_lacks(mock: CouchbaseMock, bucket: CouchbaseBucket) -> None:
    """Guarded writes are fine; the server's own durability and named scopes, which the mock lacks, are faults."""
    findings = {finding.what: finding for finding in examine(bucket, mock.settings())}
    assert findings["guarded writes"].mark == FINE
    assert findings["TLS"].mark != FINE
    assert findings["SQL++"].mark != FINE
    majority = mock.settings(durability="majority")
    other = CouchbaseBucket(majority)
    assert any(finding.mark == FAULT and "majority" in finding.what for finding in examine(other, majority))
    other.close()
    with pytest.raises(StoreUnavailableError, match="scope trading"):
        make_collections(bucket, mock.settings(scope="trading"))


def test_client_durability_waits_for_a_replica() -> None:
    """Three nodes, one replica: written, moved, read; with more than the nodes can keep it is refused."""
    server = CouchbaseMock(nodes=3, replicas=1)
    server.start()
    try:
        bucket = CouchbaseBucket(server.settings(durability="client"))
        store = DocumentStore(bucket, "mock")
        changes, mark = changes_of([STARTED, ordered("a"), ordered("b")])
        store.apply(StoreMark(), changes, mark)
        assert DocumentReader(bucket, "mock").watermark() == mark
        bucket.close()
    finally:
        server.end()
