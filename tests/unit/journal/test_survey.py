"""What a survey says of a folder, sound, torn, damaged, or written while it looks."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from journal.format import segments
from journal.holders import Holder
from journal.lock import FolderLock, lock_pid
from journal.reader import read_batches
from journal.survey import survey
from journal.times import format_ns, format_s
from journal.watermark import WatermarkReader, watermark_path
from tests.unit.journal.damage import flip, frame_offsets, tear
from tests.unit.journal.samples import clocked, open_journal, ordered, write_batches

THREE_SEGMENTS = [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)]


def test_the_rows_add_up_to_the_journal(tmp_path: Path) -> None:
    """Each record, byte, epoch and time of every segment is accounted for, without a gap."""
    write_batches(tmp_path, THREE_SEGMENTS)
    write_batches(tmp_path, [clocked(1)])
    batches = list(read_batches(tmp_path))

    found = survey(tmp_path)

    rows = found.segments
    assert len(rows) > 2
    assert [(r.first_seq, r.last_seq) for r in rows[1:]] == [
        (before.last_seq + 1, row.last_seq) for before, row in itertools.pairwise(rows)
    ]
    assert sum(r.records for r in rows) == len(THREE_SEGMENTS) * 3 + 1 == found.last_seq == found.durable.seq
    assert [r.used_bytes for r in rows] == [frame_offsets(p)[-1] for p in segments(tmp_path)]
    assert (rows[0].epoch_first, rows[-1].epoch_last) == (1, 2)
    assert (rows[0].first_ns, rows[-1].last_ns) == (batches[0].header.now_ns, batches[-1].header.now_ns)
    assert [r.state for r in rows] == ["whole"] * (len(rows) - 1) + ["open"]
    assert found.is_sound


def test_a_torn_tail_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    """What recovery would cut is called torn, with the record and the offset."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = tear(tmp_path)
    before = path.read_bytes()

    found = survey(tmp_path)

    assert (found.segments[0].state, found.segments[0].last_seq) == ("torn", 2)
    assert f"record 3 is in a frame whose bytes do not match their checksum (offset {frame_offsets(path)[1]})" in (
        found.segments[0].why
    )
    assert path.read_bytes() == before
    assert not found.is_sound


def test_a_torn_tail_that_was_durable_is_damage(tmp_path: Path) -> None:
    """The watermark says that somebody may have seen it, so it is not for recovery to cut."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    tear(tmp_path, forget_watermark=False)

    found = survey(tmp_path)

    assert found.segments[0].state == "damaged"
    assert "it was durable" in found.segments[0].why


def test_a_tail_that_is_gone_altogether_is_no_sound_journal(tmp_path: Path) -> None:
    """Zeros where durable records were look like an end, and the watermark says that they are none."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    data, last = path.read_bytes(), frame_offsets(path)[1]
    path.write_bytes(data[:last] + bytes(len(data) - last))

    found = survey(tmp_path)

    assert found.segments[0].state == "damaged"
    assert not found.is_sound


def test_damage_in_the_middle_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    """A flipped bit in one segment does not hide the others."""
    write_batches(tmp_path, THREE_SEGMENTS)
    whole = survey(tmp_path)
    offset = flip(segments(tmp_path)[1], frame=1)

    found = survey(tmp_path)

    assert [r.state for r in found.segments] == ["damaged" if n == 1 else r.state for n, r in enumerate(whole.segments)]
    assert f"(offset {offset}), and another segment follows" in found.segments[1].why
    assert found.segments[2:] == whole.segments[2:]


def test_a_segment_without_a_byte_is_shown(tmp_path: Path) -> None:
    """A zero-length next segment is damage that is named, not a crash."""
    write_batches(tmp_path, THREE_SEGMENTS)
    whole = survey(tmp_path)
    empty = tmp_path / f"{len(whole.segments) + 1:06d}.wal"
    empty.touch()

    found = survey(tmp_path)

    assert (found.segments[-1].name, found.segments[-1].state) == (empty.name, "damaged")
    assert "has 0 bytes" in found.segments[-1].why
    assert [r.last_seq for r in found.segments[:-1]] == [r.last_seq for r in whole.segments]


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    """The row behind the hole says which file is absent."""
    write_batches(tmp_path, THREE_SEGMENTS)
    segments(tmp_path)[1].unlink()

    found = survey(tmp_path)

    assert "segment 000002 is expected before it and is absent" in found.segments[1].why


def test_a_segment_of_another_journal_is_named(tmp_path: Path) -> None:
    """A file with the right name and another history does not go on where the one before ended."""
    write_batches(tmp_path / "a", THREE_SEGMENTS)
    write_batches(tmp_path / "b", [[*clocked(9), *batch] for batch in THREE_SEGMENTS])
    segments(tmp_path / "a")[1].write_bytes(segments(tmp_path / "b")[1].read_bytes())

    found = survey(tmp_path / "a")

    assert found.segments[1].state == "damaged"
    assert "expected" in found.segments[1].why


def test_a_frame_in_the_making_is_not_called_torn(tmp_path: Path) -> None:
    """While an engine holds the folder, half a frame is being written; once it is gone, it is torn."""
    opened = open_journal(tmp_path)
    for record in clocked(1, 2):
        opened.writer.append(record)
    opened.writer.commit(1)
    path = segments(tmp_path)[0]
    end = frame_offsets(path)[-1]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(b"WKB1 and half a frame")

    beside = survey(tmp_path)
    opened.close()
    alone = survey(tmp_path)

    assert beside.engine_pid > 0
    assert (beside.segments[0].state, beside.segments[0].last_seq, beside.is_sound) == ("open", 2, True)
    assert (alone.engine_pid, alone.segments[0].state, alone.segments[0].last_seq) == (0, "torn", 2)


def test_a_survey_beside_a_writing_engine_is_sound_each_time(tmp_path: Path) -> None:
    """While batches are committed and segments rolled, every look finds a chain with all that was durable."""
    opened = open_journal(tmp_path)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set() and n < 50_000:
            n += 1
            opened.writer.append(ordered(f"{n}"))
            opened.writer.commit(n)

    writer = threading.Thread(target=write)
    writer.start()
    marks = WatermarkReader(tmp_path)
    try:
        segments_seen = 0
        while segments_seen < 8:
            before = marks.read().seq
            found = survey(tmp_path)
            assert found.is_sound, [r for r in found.segments if r.why]
            assert found.last_seq >= found.durable.seq >= before
            segments_seen = len(found.segments)
    finally:
        stop.set()
        writer.join()
        marks.close()
        opened.close()


def test_a_look_at_the_lock_never_takes_it(tmp_path: Path) -> None:
    """Who holds the folder is seen from outside, and an engine may start in the middle of any number of looks."""
    assert lock_pid(tmp_path) == 0
    lock = FolderLock(tmp_path)
    assert lock_pid(tmp_path) > 0
    lock.close()
    assert lock_pid(tmp_path) == 0


def test_holders_and_a_lost_watermark_are_shown(tmp_path: Path) -> None:
    """Who has seen what is listed also when the watermark is gone."""
    write_batches(tmp_path, [clocked(1, 2)])
    Holder(tmp_path, "books").advance(2, 7)
    watermark_path(tmp_path).unlink()

    found = survey(tmp_path)

    assert [(h.name, h.seq, h.crc) for h in found.holders] == [("books", 2, 7)]
    assert found.durable.seq == 0
    assert found.is_sound


def test_instants_are_exact_to_the_nanosecond() -> None:
    """No float rounds a time, and a time that no calendar has is left out."""
    assert format_ns(1_767_323_045_123_456_789) == "2026-01-02T03:04:05.123456789Z"
    assert format_ns(-1) == "1969-12-31T23:59:59.999999999Z"
    assert (format_ns(0), format_ns(2**63 - 1), format_ns(10**30), format_ns(-(2**63))) == (
        "", "2262-04-11T23:47:16.854775807Z", "", "1677-09-21T00:12:43.145224192Z",
    )  # fmt: skip
    assert (format_s(1_767_323_045_999_999_999), format_s(0)) == ("2026-01-02 03:04:05", "-")
