"""What an export holds: every durable record, nothing else, and enough to make each record again."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from journal.errors import ExportError, JournalDamagedError
from journal.export import Format, Parquet, Wanted, export, rows
from journal.flat import COLUMNS, Place, as_json_line, flat_row
from journal.format import segments
from journal.projection import Changes, NothingStored, Projection
from journal.reader import read_batches, start_of
from journal.recovery import recover
from journal.watermark import WatermarkReader
from protocol.events import events_of
from protocol.records import Clocked, Record, record_decoder
from tests.golden.write import HERE, SIZES
from tests.unit.journal.damage import flip, frame_offsets
from tests.unit.journal.rebuilt import any_record, rebuild, rows_of_json_lines, rows_of_parquet, without_secret
from tests.unit.journal.samples import clocked, open_journal, ordered, write_batches
from tests.unit.journal.stories import STARTED, Story

ALL = Wanted(1, 2**62)
PLACE = Place(1, 2, 3, 4, 5)
FORMATS: list[Format] = ["jsonl", "parquet"]


def _durable(folder: Path) -> int:
    reader = WatermarkReader(folder)
    seq = reader.read().seq
    reader.close()
    return seq


def _everything(folder: Path) -> Wanted:
    return Wanted(1, _durable(folder))


def _rows(path: Path) -> list[dict[str, Any]]:
    return rows_of_parquet(path) if path.suffix == ".parquet" else rows_of_json_lines(path)


def _in_batches(records: list[Record], size: int = 3) -> list[list[Record]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


def _project(records: Iterator[tuple[int, int, Record]]) -> Changes:
    projection = Projection(NothingStored())
    for seq, now_ns, record in records:
        projection.apply(seq, now_ns, record)
    return projection.take()


def _shown(changes: Changes) -> list[list[Any]]:
    return [[astuple(row) for row in part] for part in changes[:4]]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", range(5))
def test_orders_and_trades_come_out_of_an_export_as_out_of_the_journal(tmp_path: Path, form: Format, seed: int) -> None:
    """Rows made into records again mean the same orders, trades, positions and breaches as the journal itself."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    write_batches(journal, _in_batches(Story(Random(seed)).write(150)))
    export(journal, out, form, _everything(journal))

    exported = _project((row["seq"], row["at_ns"], rebuild(row)) for row in _rows(out))

    direct = _project(
        (seq, batch.header.now_ns, record_decoder.decode(data))
        for batch in read_batches(journal)
        for seq, _, data in batch.records
    )
    assert len(direct.orders) > 5
    assert len(direct.trades) > 5
    assert _shown(exported) == _shown(direct)


@settings(max_examples=300, deadline=None)
@given(record=any_record())
@example(record=Clocked(0))
def test_a_row_holds_the_whole_record(record: Record) -> None:
    """Any record of any kind, whatever stands in it, can be made again from its line of JSON."""
    line = as_json_line(flat_row(PLACE, record))

    assert rebuild(json.loads(line)) == without_secret(record)


@settings(max_examples=100, deadline=None)
@given(records=st.lists(any_record(), min_size=1, max_size=8))
def test_parquet_holds_what_json_holds(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> None:
    """Whatever stands in a record, a Parquet column takes it exactly or leaves it in ``rest``."""
    out = tmp_path_factory.mktemp("export") / "out.parquet"
    with out.open("wb") as file:
        sink = Parquet(file, out, group_rows_max=3)
        for record in records:
            sink.add(flat_row(PLACE, record), 1)
        sink.finish()

    assert [rebuild(row) for row in _rows(out)] == [without_secret(record) for record in records]


@pytest.mark.parametrize("release", sorted(p.name for p in HERE.iterdir() if (p / "expected").exists()))
def test_a_releases_journal_is_exported_whole(tmp_path: Path, release: str) -> None:
    """A journal of any release gives rows that mean the same events, in today's form."""
    journal, out, applied = tmp_path / "journal", tmp_path / "out.jsonl", []
    shutil.copytree(HERE / release, journal, ignore=shutil.ignore_patterns("expected"))
    recover(journal, lambda *record: applied.append(record), SIZES)

    done = export(journal, out, "jsonl", _everything(journal))

    exported = [events_of(row["seq"], row["at_ns"], rebuild(row)) for row in rows_of_json_lines(out)]
    assert done.records == len(applied) > 10
    assert exported == [events_of(seq, now_ns, record) for seq, now_ns, _, record in applied]


def test_a_row_reads_as_a_person_would_write_it(tmp_path: Path) -> None:
    """Amounts are decimal text, enumerations names, times ISO beside their nanoseconds, ids hexadecimal."""
    write_batches(tmp_path / "journal", [[ordered("a", quantity_e9=1_500_000_000)]])
    export(tmp_path / "journal", tmp_path / "out.jsonl", "jsonl", ALL._replace(to_seq=1))

    (row,) = rows_of_json_lines(tmp_path / "out.jsonl")

    expected = {
        "seq": 1, "kind": "Ordered", "at_ns": 1, "at": "1970-01-01T00:00:00.000000001Z", "epoch": 1, "segment": 1,
        "account": "demo", "client_order_id": "a", "side": "BUY", "order_type": "LIMIT", "quantity": "1.5",
        "price": "100", "outcome": "ACCEPTED", "code": "OK", "reduce_only": False, "trace_id": "74" * 16,
        "created_at_ns": 10**18, "created_at": "2001-09-09T01:46:40.000000000Z",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert "venue" not in row


@pytest.mark.parametrize("form", FORMATS)
def test_the_key_of_order_ids_is_never_exported(tmp_path: Path, form: Format) -> None:
    """Who is given an export can't make the ids of orders from it; that there is a key stays visible."""
    key = bytes(range(32))
    out = tmp_path / f"out.{form}"
    write_batches(tmp_path / "journal", [[msgspec.structs.replace(STARTED, order_id_key=key)]])
    export(tmp_path / "journal", out, form, Wanted(1, 1))

    (row,) = _rows(out)

    assert key.hex() not in json.dumps(row)
    assert key not in out.read_bytes()
    assert row["rest"]["order_id_key"] == "withheld"


def test_the_parquet_schema_is_the_documented_one(tmp_path: Path) -> None:
    """Columns, order and types are a contract: decimals are exact, instants have their zone."""
    write_batches(tmp_path / "journal", [[ordered("a", quantity_e9=1_500_000_000)]])
    export(tmp_path / "journal", tmp_path / "out.parquet", "parquet", ALL._replace(to_seq=1))

    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")

    assert table.column_names == [c.name for c in COLUMNS]
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["quantity"], types["at"], types["seq"], types["rest"]) == (
        "decimal128(38, 9)", "timestamp[ns, tz=UTC]", "int64", "string",
    )  # fmt: skip
    (row,) = table.drop_columns(["at", "created_at", "exch_at"]).to_pylist()
    assert (row["quantity"], row["side"], row["venue"]) == (Decimal("1.5"), "BUY", None)


@pytest.mark.parametrize("form", FORMATS)
def test_only_what_was_asked_for_is_written(tmp_path: Path, form: Format) -> None:
    """Numbers are bounds that are included, also in the middle of a batch; kinds filter."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    write_batches(journal, [[ordered(f"{n}-a"), *clocked(n), ordered(f"{n}-b")] for n in range(40)])
    assert len(segments(journal)) > 3

    done = export(journal, out, form, Wanted(50, 100, frozenset({"Clocked"})))

    assert [row["seq"] for row in _rows(out)] == [n for n in range(50, 101) if n % 3 == 2]
    assert {row["kind"] for row in _rows(out)} == {"Clocked"}
    assert (done.records, done.first_seq, done.last_seq) == (17, 50, 98)
    assert done.file_bytes == out.stat().st_size


def test_an_export_begins_at_the_segment_of_its_first_record(tmp_path: Path) -> None:
    """Damage in a segment that is not needed stands in nobody's way."""
    write_batches(tmp_path, [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)])
    flip(segments(tmp_path)[0])

    wanted = [row["seq"] for row, _ in rows(tmp_path, Wanted(50, 60))]

    assert wanted == list(range(50, 61))


def test_the_oldest_segment_need_not_be_the_first(tmp_path: Path) -> None:
    """Where segments were pruned, an export begins with what is there."""
    write_batches(tmp_path, [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)])
    segments(tmp_path)[0].unlink()
    first = start_of(tmp_path, 1)[0] + 1

    found = [row["seq"] for row, _ in rows(tmp_path, Wanted(1, 60))]

    assert first > 1
    assert found == list(range(first, 61))


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_behind_the_watermark_is_written(tmp_path: Path, form: Format) -> None:
    """A whole frame that was not published as durable is not exported, though it is in the file."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    write_batches(journal, [clocked(1, 2)])
    older = (journal / "durable").read_bytes()
    write_batches(journal, [clocked(3)])
    (journal / "durable").write_bytes(older)

    export(journal, out, form, _everything(journal))

    assert [row["seq"] for row in _rows(out)] == [1, 2]


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_export_is_a_file_without_rows(tmp_path: Path, form: Format) -> None:
    """Nothing durable gives no rows and no error."""
    open_journal(tmp_path / "journal").close()
    out = tmp_path / f"out.{form}"

    done = export(tmp_path / "journal", out, form, Wanted(1, 0))

    assert (_rows(out), done.records) == ([], 0)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_beside_a_writing_engine_is_a_prefix(tmp_path: Path, form: Format) -> None:
    """While batches are committed, an export holds every record up to its watermark, and none behind it."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    opened = open_journal(journal)
    written, stop = threading.Event(), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set() and n < 20_000:
            n += 1
            opened.writer.append(ordered(f"{n}"))
            opened.writer.commit(n)
            if n == 50:
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(20)
        for _ in range(5):
            before = _durable(journal)
            export(journal, out, form, Wanted(1, before), replace=True)
            assert [row["seq"] for row in _rows(out)] == list(range(1, before + 1))
    finally:
        stop.set()
        writer.join()
        opened.close()


def test_rows_are_written_in_groups_of_bounded_size(tmp_path: Path) -> None:
    """Memory holds one group: by rows, and by bytes where records are large."""
    out = tmp_path / "out.parquet"
    with out.open("wb") as file:
        sink = Parquet(file, out, group_rows_max=4)
        for n in range(10):
            sink.add(flat_row(PLACE, Clocked(n)), 1)
        sink.add(flat_row(PLACE, Clocked(10)), 17 << 20)
        sink.add(flat_row(PLACE, Clocked(11)), 1)
        sink.finish()

    groups = pyarrow.parquet.ParquetFile(out).metadata

    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [4, 4, 3, 1]


@pytest.mark.parametrize("form", FORMATS)
def test_damage_ends_an_export_without_a_file(tmp_path: Path, form: Format) -> None:
    """Half an export has no name under which somebody could take it for a whole one."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    write_batches(journal, [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)])
    flip(segments(journal)[1], frame=1)

    with pytest.raises(JournalDamagedError) as refused:
        export(journal, out, form, _everything(journal))

    assert refused.value.offset == frame_offsets(segments(journal)[1])[1]
    assert [p.name for p in tmp_path.iterdir()] == ["journal"]


@contextmanager
def _disk_that_takes(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file behind ``size``, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [0, 1, 5_000])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, form: Format, size: int) -> None:
    """The error names the file and the reason, an older export of that name stays, and no part of the new one does."""
    journal, out = tmp_path / "journal", tmp_path / f"out.{form}"
    write_batches(journal, [[ordered(f"{n}-{k}", strategy=f"s{n}-{k}") for k in range(3)] for n in range(80)])
    out.write_text("an older one")
    with _disk_that_takes(size), pytest.raises(ExportError) as refused:
        export(journal, out, form, _everything(journal), replace=True)

    assert refused.value.path == out
    assert "File too large" in refused.value.why
    assert out.read_text() == "an older one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["journal", out.name]


def test_a_file_that_is_there_is_not_replaced_by_chance(tmp_path: Path) -> None:
    """Somebody's day is not overwritten by a second run unless that is said."""
    write_batches(tmp_path / "journal", [clocked(1)])
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(ExportError):
        export(tmp_path / "journal", out, "jsonl", Wanted(1, 1))
    assert out.read_text() == "mine"

    export(tmp_path / "journal", out, "jsonl", Wanted(1, 1), replace=True)
    assert rows_of_json_lines(out)[0]["kind"] == "Clocked"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message is about the file that was asked for."""
    write_batches(tmp_path / "journal", [clocked(1)])
    with pytest.raises(ExportError) as refused:
        export(tmp_path / "journal", tmp_path / "no" / "out.jsonl", "jsonl", Wanted(1, 1))

    assert "No such file or directory" in refused.value.why


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without its package says what to install and what works without; nothing is left behind."""
    write_batches(tmp_path / "journal", [clocked(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError) as refused:
        export(tmp_path / "journal", tmp_path / "out.parquet", "parquet", Wanted(1, 1))

    assert "wojak[parquet]" in refused.value.why
    assert "jsonl" in refused.value.why
    assert [p.name for p in tmp_path.iterdir()] == ["journal"]
