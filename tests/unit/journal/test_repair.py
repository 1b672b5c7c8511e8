"""Repairs of the journal's end: what may be cut, by whom, and what stays on record of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from journal.disk import Disk
from journal.errors import JournalDamagedError, JournalGapError
from journal.format import segments
from journal.holders import Held, Holder, holders
from journal.recovery import Tail, look_at_tail, lost
from journal.repair import accept_cut, cut_of, drop_note, noted_cut, repair_tail, torn_header
from journal.watermark import WatermarkReader
from tests.unit.journal.damage import crc_behind, flip, frame_offsets, tear
from tests.unit.journal.samples import (
    SMALL,
    PowerCutError,
    PowerDisk,
    clocked,
    open_journal,
    ordered,
    write_batches,
)


def _torn(folder: Path) -> Path:
    """Two batches, the second (record 3) torn, without a watermark."""
    write_batches(folder, [clocked(1, 2), clocked(3)])
    return tear(folder)


def _lost(folder: Path, seen_to: int = 3) -> Path:
    """As ``_torn``, and the books have seen record ``seen_to``."""
    path = _torn(folder)
    Holder(folder, "books").advance(seen_to, 99)
    return path


def _accept(folder: Path, tail: Tail, disk: Disk | None = None) -> None:
    accept_cut(folder, SMALL, tail, cut_of(tail, "the cache lied", "ada", 77), disk=disk)


def test_a_look_changes_nothing_and_says_all(tmp_path: Path) -> None:
    """Where it ends, how much would go, what the torn frame's header says, and that nobody has seen it."""
    path = _torn(tmp_path)
    before = path.read_bytes()

    tail = look_at_tail(tmp_path)

    start, end = frame_offsets(path)[1:]
    assert (tail.end.link.next_seq, tail.end.offset, tail.past) == (3, start, ())
    assert 0 < tail.cut_bytes <= end - 1 - start
    header = torn_header(tmp_path, tail)
    assert header is not None
    assert (header.first_seq, header.records, header.epoch) == (3, 1, 1)
    assert path.read_bytes() == before


def test_a_tail_that_nobody_saw_is_cut_as_a_start_would(tmp_path: Path) -> None:
    """After the repair the journal is what a start without it would have made of it."""
    _torn(tmp_path / "a")
    _torn(tmp_path / "b")

    repair_tail(tmp_path / "a", SMALL, look_at_tail(tmp_path / "a"))
    open_journal(tmp_path / "b").close()

    assert [p.read_bytes() for p in segments(tmp_path / "a")] == [p.read_bytes() for p in segments(tmp_path / "b")]
    assert look_at_tail(tmp_path / "a").end.torn == ""


@pytest.mark.parametrize("seq", [3, 9, None])
def test_a_tail_that_somebody_saw_is_not_cut(tmp_path: Path, seq: int | None) -> None:
    """Whoever has seen past the cut, or can't be asked, is named with the place, and nothing changes."""
    path = _torn(tmp_path)
    before = path.read_bytes()
    also = [Held("the books' store", seq, 5)]
    tail = look_at_tail(tmp_path, also)

    with pytest.raises(JournalDamagedError) as refused:
        repair_tail(tmp_path, SMALL, tail, also)

    assert tail.past == tuple(also)
    assert str(lost(tmp_path, tail.end, tail.past[0])) == str(refused.value)
    assert "the books' store" in refused.value.why
    assert (refused.value.path, refused.value.offset, refused.value.seq) == (path, frame_offsets(path)[1], 3)
    assert path.read_bytes() == before


def test_damage_that_is_no_tail_is_for_neither_repair(tmp_path: Path) -> None:
    """A flipped bit with a whole frame behind it, a missing segment and an empty one are not cut away."""
    batches = [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)]
    for name in ("flipped", "missing", "empty"):
        write_batches(tmp_path / name, batches)
    flip(segments(tmp_path / "flipped")[1], frame=1)
    segments(tmp_path / "missing")[1].unlink()
    last = segments(tmp_path / "empty")[-1]
    last.with_name(f"{int(last.stem) + 1:06d}.wal").touch()

    for name, error, says in (
        ("flipped", JournalDamagedError, "another segment follows"),
        ("missing", JournalGapError, "000002.wal"),
        ("empty", JournalDamagedError, "has 0 bytes only"),
    ):
        with pytest.raises(error) as refused:
            look_at_tail(tmp_path / name)
        assert says in str(refused.value)


def test_an_emptied_folder_is_no_tail(tmp_path: Path) -> None:
    """Where all segments are gone there is nothing to end."""
    write_batches(tmp_path, [clocked(1)])
    for path in segments(tmp_path):
        path.unlink()
    with pytest.raises(JournalGapError):
        look_at_tail(tmp_path)


def test_an_accepted_cut_lets_the_engine_start(tmp_path: Path) -> None:
    """The journal ends where it is whole, goes on behind that, and the holder begins anew."""
    _lost(tmp_path)
    with pytest.raises(JournalDamagedError):
        open_journal(tmp_path)

    _accept(tmp_path, look_at_tail(tmp_path))

    opened = open_journal(tmp_path)
    opened.close()
    assert [r[3] for r in opened.records] == clocked(1, 2)
    assert opened.recovered.next_seq == 3
    assert holders(tmp_path) == []
    assert WatermarkReader(tmp_path).read().seq == 2


def test_a_tail_that_is_gone_without_a_trace_can_be_accepted(tmp_path: Path) -> None:
    """Zeros where records were are a loss that only its witnesses show."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    data, last = path.read_bytes(), frame_offsets(path)[1]
    path.write_bytes(data[:last] + bytes(len(data) - last))
    tail = look_at_tail(tmp_path)

    _accept(tmp_path, tail)

    assert [(h.name, h.seq) for h in tail.past] == [("the durable watermark", 3)]
    assert (tail.end.torn, tail.cut_bytes) == ("", 0)
    assert open_journal(tmp_path).recovered.next_seq == 3


def test_a_holder_that_saw_less_keeps_its_mark(tmp_path: Path) -> None:
    """Only who was past the cut has to begin anew."""
    path = _lost(tmp_path)
    crc = crc_behind(path, 0)
    Holder(tmp_path, "follower").advance(2, crc)

    _accept(tmp_path, look_at_tail(tmp_path))

    assert holders(tmp_path) == [Held("follower", 2, crc)]


def test_another_history_is_not_accepted_as_a_cut(tmp_path: Path) -> None:
    """A holder that stood at another chain inside what is left proves more than a lost end."""
    _lost(tmp_path)
    Holder(tmp_path, "follower").advance(2, 12345)
    with pytest.raises(JournalDamagedError) as refused:
        look_at_tail(tmp_path)

    assert "another history" in refused.value.why


def test_what_was_accepted_is_noted_before_anything_changes(tmp_path: Path) -> None:
    """The note says who had seen how much, and stays until the journal has it."""
    _lost(tmp_path, seen_to=8)
    (tmp_path / "holders" / "follower").write_text("2 0000")
    tail = look_at_tail(tmp_path)

    _accept(tmp_path, tail)

    note = noted_cut(tmp_path)
    assert note is not None
    assert (note.last_seq, note.cut_bytes, note.reason, note.operator, note.accepted_at_ns) == (
        2, tail.cut_bytes, "the cache lied", "ada", 77,
    )  # fmt: skip
    assert sorted(note.seen) == [("books", 8), ("follower", -1)]
    drop_note(tmp_path, Disk())
    assert noted_cut(tmp_path) is None


def test_a_note_that_can_not_be_read_stops_the_start(tmp_path: Path) -> None:
    """What was accepted must not vanish unseen."""
    (tmp_path / "accepted-cut").write_bytes(b"[1,")
    with pytest.raises(JournalDamagedError):
        noted_cut(tmp_path)


@pytest.mark.parametrize("cut_at", range(1, 16))
def test_power_lost_at_any_step_of_an_accepted_cut(tmp_path: Path, cut_at: int) -> None:
    """Whatever step the power goes at, running it again ends with the same journal and the full note."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    tear(tmp_path, forget_watermark=False)
    Holder(tmp_path, "books").advance(3, 99)
    disk = PowerDisk(Random(cut_at), cut_at)
    disk.close(disk.open(segments(tmp_path)[0]))  # so that it knows what is durable before
    try:
        _accept(tmp_path, look_at_tail(tmp_path), disk)
    except PowerCutError:
        disk.cut_power()
    tail = look_at_tail(tmp_path)
    if tail.past:
        _accept(tmp_path, tail)

    note = noted_cut(tmp_path)
    opened = open_journal(tmp_path)
    opened.close()
    assert [r[3] for r in opened.records] == clocked(1, 2)
    assert note is not None
    assert dict(note.seen)["books"] == 3
