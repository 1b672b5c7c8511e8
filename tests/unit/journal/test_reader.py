"""The reader, the watermark and the holders."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from journal.errors import JournalCutError, JournalDamagedError, JournalGapError
from journal.format import JournalSettings, segments
from journal.holders import Held, Holder, holders
from journal.reader import JournalReader, RecordReader, read_batches
from journal.scan import decode_record
from journal.watermark import SLOT_BYTES, WatermarkReader, WatermarkWriter, watermark_path
from protocol.errors import LocalProtocolError
from protocol.records import Clocked, Failed
from tests.unit.journal.samples import clocked, item, open_journal, ordered, write_batches


def _poll_all(reader: JournalReader) -> list[int]:
    found = []
    while batches := reader.poll(bytes_max=300):
        found += [seq for b in batches for seq, _, _ in b.records]
    return found


def test_a_reader_follows_across_rolls(tmp_path: Path) -> None:
    """Batch by batch or far behind, every record comes once and in order."""
    opened = open_journal(tmp_path)
    close, late = JournalReader(tmp_path), JournalReader(tmp_path)
    seen = []
    for n in range(150):
        opened.writer.append(Clocked(n))
        opened.writer.commit(n)
        seen += _poll_all(close)
    opened.close()

    assert len(segments(tmp_path)) > 2
    assert seen == list(range(1, 151))
    assert _poll_all(late) == seen
    close.close()
    late.close()


def test_a_reader_sees_nothing_before_the_commit(tmp_path: Path) -> None:
    """What is appended or even on disk is not read until the watermark says so."""
    opened = open_journal(tmp_path)
    reader = JournalReader(tmp_path)
    opened.writer.append(Clocked(1))
    assert reader.poll() == []
    mark = watermark_path(tmp_path).read_bytes()
    opened.writer.commit(1)
    opened.close()
    watermark_path(tmp_path).write_bytes(mark)

    assert JournalReader(tmp_path).poll() == []


def test_a_reader_may_start_before_the_journal(tmp_path: Path) -> None:
    """A journal that is not there yet has no records, and later it has."""
    reader = JournalReader(tmp_path / "journal")
    assert reader.poll() == []
    write_batches(tmp_path / "journal", [clocked(1)])

    assert _poll_all(reader) == [1]


def test_a_reader_survives_a_restart_of_the_engine(tmp_path: Path) -> None:
    """Recovery replaces the last segment; the reader goes on in the copy."""
    write_batches(tmp_path, [clocked(1), clocked(2)])
    reader = JournalReader(tmp_path)
    seen = _poll_all(reader)
    for n in range(3, 60):
        write_batches(tmp_path, [clocked(n)])
        seen += _poll_all(reader)

    assert seen == list(range(1, 60))


def test_a_reader_goes_on_where_it_stood(tmp_path: Path) -> None:
    """(seq, crc) of any batch end is enough to go on, in whatever segment that is."""
    write_batches(tmp_path, [clocked(n, n) for n in range(100)])
    ends = [(b.last_seq, b.header.crc) for b in read_batches(tmp_path)]
    for seq, crc in [(0, 0), *ends]:
        reader = JournalReader(tmp_path, seq, crc)
        assert _poll_all(reader) == list(range(seq + 1, 201))
        reader.close()


def test_a_reader_of_another_history_stops(tmp_path: Path) -> None:
    """A journal that has other records under the same numbers is refused, ahead or behind."""
    write_batches(tmp_path / "ours", [clocked(1), clocked(2)])
    write_batches(tmp_path / "theirs", [clocked(1), clocked(9), clocked(3)])
    ours = list(read_batches(tmp_path / "ours"))[-1]

    with pytest.raises(JournalCutError):
        JournalReader(tmp_path / "theirs", ours.last_seq, ours.header.crc).poll()
    with pytest.raises(JournalCutError):
        JournalReader(tmp_path / "ours", 2, 1).poll()
    with pytest.raises(JournalCutError):
        JournalReader(tmp_path / "ours", 3, 1).poll()


def test_a_reader_in_the_middle_of_a_batch_stops(tmp_path: Path) -> None:
    """Whole batches are used or none: a mark inside a batch is of another history."""
    write_batches(tmp_path, [clocked(1, 2, 3)])
    with pytest.raises(JournalCutError):
        JournalReader(tmp_path, 2, 1).poll()


def test_a_reader_whose_records_were_cut_stops(tmp_path: Path) -> None:
    """A tail that was cut and written anew is found by its chain, though the numbers go on."""
    write_batches(tmp_path, [clocked(1), clocked(2)])
    kept = segments(tmp_path)[0].read_bytes()
    write_batches(tmp_path, [clocked(3)])
    reader = JournalReader(tmp_path)
    assert _poll_all(reader) == [1, 2, 3]
    segments(tmp_path)[0].write_bytes(kept)
    watermark_path(tmp_path).unlink()
    write_batches(tmp_path, [clocked(7), clocked(8)])

    with pytest.raises(JournalCutError):
        reader.poll()


def test_damage_below_the_watermark_stops_a_reader(tmp_path: Path) -> None:
    """Durable bytes that changed are named, not skipped."""
    write_batches(tmp_path, [clocked(1), clocked(2)])
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    for at in range(64, 64 + 60):
        data = bytearray(whole)
        data[at] ^= 4
        path.write_bytes(data)
        with pytest.raises(JournalDamagedError):
            JournalReader(tmp_path).poll()


def test_a_missing_segment_stops_a_reader(tmp_path: Path) -> None:
    """A gap is no end."""
    write_batches(tmp_path, [clocked(n) for n in range(150)])
    segments(tmp_path)[1].unlink()
    with pytest.raises(JournalGapError):
        _poll_all(JournalReader(tmp_path))


def test_reading_stops_at_the_batch_asked_for(tmp_path: Path) -> None:
    """``stop_seq`` is inside the last batch yielded."""
    write_batches(tmp_path, [clocked(n, n) for n in range(10)])

    assert [b.last_seq for b in read_batches(tmp_path, stop_seq=5)] == [2, 4, 6]


def test_records_of_a_batch_decode_and_know_their_position(tmp_path: Path) -> None:
    """A batch's record bytes are those at their position."""
    write_batches(
        tmp_path, [[ordered("a"), Clocked(2)], [Failed("s", item(ordered("x").item.command), "a", "é" * 400)]]
    )
    reader = RecordReader(tmp_path)
    rows = [row for b in read_batches(tmp_path) for row in b.records]

    assert [decode_record(data, tmp_path, 0, 0) for _, _, data in rows] == [reader.read(p) for _, p, _ in rows]
    assert isinstance(reader.read(rows[2][1]), Failed)


def test_a_record_larger_than_the_first_read_is_read_whole(tmp_path: Path) -> None:
    """Large records cost a second read, not their end."""
    opened = open_journal(tmp_path, JournalSettings(1 << 16, 1 << 15, prepare_ahead=False))
    record = Failed("s", item(ordered("x").item.command), "a", "é" * 2000)
    position = opened.writer.append(record)
    opened.writer.commit(1)
    opened.close()

    assert RecordReader(tmp_path).read(position) == record


def test_a_place_without_a_record_is_refused(tmp_path: Path) -> None:
    """The batch that is not committed can't be read."""
    opened = open_journal(tmp_path)
    position = opened.writer.append(Clocked(1))
    with pytest.raises(JournalDamagedError):
        RecordReader(tmp_path).read(position)
    opened.close()


def test_a_torn_watermark_slot_leaves_the_older_one(tmp_path: Path) -> None:
    """Whatever byte of the newest slot is wrong, the one before it holds."""
    writer = WatermarkWriter(tmp_path)
    writer.publish(1, 100, 11, 1, 5)
    writer.publish(2, 200, 22, 1, 6)
    whole = watermark_path(tmp_path).read_bytes()
    for at in range(SLOT_BYTES):
        data = bytearray(whole)
        data[at] ^= 0xFF
        watermark_path(tmp_path).write_bytes(data)
        reader = WatermarkReader(tmp_path)
        assert reader.read().seq == 1
        reader.close()
        assert WatermarkWriter(tmp_path).last.seq == 1


def test_a_watermark_is_never_read_torn(tmp_path: Path) -> None:
    """A reader beside a busy writer sees whole marks that never go back."""
    writer, reader = WatermarkWriter(tmp_path), WatermarkReader(tmp_path)
    done = threading.Event()

    def write() -> None:
        for n in range(1, 20_000):
            writer.publish(n, n * 3, n * 5, 1, n * 7)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    last = 0
    while not done.is_set():
        mark = reader.read()
        assert (mark.position, mark.crc, mark.durable_ns) == (mark.seq * 3, mark.seq * 5, mark.seq * 7)
        assert mark.seq >= last
        last = mark.seq
    thread.join()
    assert reader.read().seq == 19_999


def test_a_holder_remembers(tmp_path: Path) -> None:
    """A holder's mark is there for the next start, and listed by name."""
    holder = Holder(tmp_path, "books")
    assert holder.read() == Held("books", 0)
    holder.advance(7, 0xABC)
    holder.advance(9, 0xDEF)

    assert Holder(tmp_path, "books").read() == Held("books", 9, 0xDEF)
    assert holders(tmp_path) == [Held("books", 9, 0xDEF)]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x.tmp"])
def test_a_holder_needs_a_plain_name(tmp_path: Path, name: str) -> None:
    """A name that is no file name is a programmer's mistake, said at once."""
    with pytest.raises(LocalProtocolError):
        Holder(tmp_path, name)
