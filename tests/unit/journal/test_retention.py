"""Which segments may go: each reason to stay on its own, and that what goes is needed by nobody."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.disk import Disk
from journal.format import segments
from journal.holders import Held
from journal.reader import read_batches, start_of
from journal.retention import Keep, Known, SnapshotPlace, Verdict, judge, remove
from journal.survey import SegmentRow, survey
from tests.unit.journal.samples import ordered, write_batches

KEEP = Keep()


def _segments(count: int, records: int = 10) -> list[SegmentRow]:
    """Segments 1 to count of so many records each, the last one being written."""
    return [
        SegmentRow(
            n, f"{n:06d}.wal", (n - 1) * records + 1, n * records, records, 1, 1, 900, 1000, n, n, n,
            "open" if n == count else "whole",
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def _known(**changes: object) -> Known:
    """Eight segments of ten records; everything that is asked is past the first five."""
    known = Known(
        _segments(8), [Held("books", 70), Held("follower", 75)], Held("the books' store", 68),
        [SnapshotPlace(75, 8), SnapshotPlace(55, 6)], 6, 6,
    )  # fmt: skip
    return known._replace(**changes)


def _gone(known: Known, keep: Keep = KEEP) -> list[int]:
    return [v.segment.segment for v in judge(known, keep) if v.may_go]


def _why(known: Known, segment: int = 1, keep: Keep = KEEP) -> str:
    return "; ".join(judge(known, keep)[segment - 1].reasons)


def test_what_nobody_needs_goes() -> None:
    """Behind two snapshots, all readers, the day before and every remembered id there is nothing to keep."""
    assert _gone(_known()) == [1, 2, 3, 4, 5]


def test_without_a_snapshot_nothing_goes() -> None:
    """A start would have to read it all."""
    assert _gone(_known(snapshots=[])) == []
    assert _why(_known(snapshots=[])) == "snapshots expected 2, was 0"


def test_one_snapshot_is_none_to_fall_back_to() -> None:
    """The newest may turn out damaged at the next start."""
    assert _gone(_known(snapshots=[SnapshotPlace(75, 8)])) == []
    assert _gone(_known(snapshots=[SnapshotPlace(75, 8), SnapshotPlace(25, 3)])) == [1, 2]


def test_more_snapshots_may_be_kept_but_not_fewer() -> None:
    """An operator who wants to fall back further keeps more; nobody keeps less than two."""
    three = [SnapshotPlace(75, 8), SnapshotPlace(15, 2), SnapshotPlace(55, 6)]
    assert _gone(_known(snapshots=three), Keep(snapshots=3)) == [1]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"snapshots": 1}, Keep)


def test_the_segment_a_snapshot_ends_in_stays_even_at_its_last_record() -> None:
    """A start opens the segment that the snapshot names, to see that the chain goes on from there."""
    known = _known(snapshots=[SnapshotPlace(75, 8), SnapshotPlace(30, 3)])

    assert _gone(known) == [1, 2]
    assert "a start from the snapshot at record 30 reads from segment 000003 on" in _why(known, 3)


@pytest.mark.parametrize("slow", [Held("follower", 29), Held("follower", 0)])
def test_a_holder_that_is_behind_keeps_what_it_has_not_read(slow: Held) -> None:
    """Its next record must be there, whatever others have seen."""
    known = _known(holders=[Held("books", 70), slow])

    assert _gone(known) == [n for n in range(1, 9) if n * 10 <= (slow.seq or 0)]
    assert f"follower has seen record {slow.seq}" in _why(known, 3)


def test_a_holder_that_can_not_be_asked_keeps_everything() -> None:
    """For a cut it counts as having seen all, for retention as having seen nothing."""
    known = _known(holders=[Held("follower", None)])

    assert _gone(known) == []
    assert _why(known) == "what follower has seen can't be read"


def test_the_store_itself_counts_not_only_its_holder_file() -> None:
    """The holder is synced before the store is written, so the store may be behind it."""
    known = _known(books=Held("the books' store", 15))

    assert _gone(known) == [1]
    assert _why(known, 2) == "the books' store has seen record 15, it ends with 20"


def test_without_books_nothing_goes() -> None:
    """Books that are made anew need the journal from its beginning."""
    assert _gone(_known(books=None)) == []
    assert _why(_known(books=None)) == "there is no books store"


def test_today_and_the_trading_day_before_stay() -> None:
    """Day + 1, whatever snapshots cover."""
    assert _gone(_known(day_segment=3)) == [1, 2]
    assert _gone(_known(day_segment=None)) == []


def test_the_first_answer_of_a_remembered_id_stays() -> None:
    """An order of long ago that is still open keeps its id, and a repeat is answered from its record."""
    known = _known(day_segment=6, key_segment=2)

    assert _gone(known) == [1]
    assert _why(known, 2) == "an id that is remembered was first answered in segment 000002"
    assert _gone(_known(key_segment=None)) == []


def test_damage_keeps_itself_and_all_behind_it() -> None:
    """Nothing is tidied away while something is wrong, and what is left never has a hole."""
    rows = _segments(8)
    rows[1] = msgspec.structs.replace(rows[1], state="damaged", why="record 11 is no record")
    known = _known(segments=rows)

    assert _gone(known) == [1]
    assert _why(known, 2) == "it is damaged: record 11 is no record"
    assert _why(known, 3) == "segment 000002 before it stays"


@st.composite
def _any_known(draw: st.DrawFn) -> Known:
    rows = _segments(draw(st.integers(1, 7)), records=draw(st.integers(1, 4)))
    first = draw(st.integers(0, len(rows) - 1))
    rows = [
        msgspec.structs.replace(r, state="damaged", why="x") if draw(st.integers(0, 9)) == 0 else r
        for r in rows[first:]
    ]
    seqs = st.integers(0, rows[-1].last_seq + 1)
    held = st.builds(Held, st.sampled_from(["books", "follower"]), st.one_of(seqs, seqs, st.none()))
    index = st.one_of(st.none(), st.integers(0, len(rows) + 1), st.just(len(rows)))
    size = rows[0].records
    places = st.integers(1, rows[-1].last_seq).map(lambda seq: SnapshotPlace(seq, (seq - 1) // size + 1))
    return Known(
        rows, draw(st.lists(held, max_size=2)), draw(st.one_of(st.none(), held, held)),
        draw(st.lists(places, max_size=4, unique=True)), draw(index), draw(index),
    )  # fmt: skip


@given(known=_any_known(), snapshots=st.integers(2, 3))
def test_exactly_what_nobody_needs_goes(known: Known, snapshots: int) -> None:
    """What goes is a beginning of the chain that no start, reader, day or id needs; what is next is needed by one."""

    def is_needed(row: SegmentRow) -> bool:
        starts = sorted((s.seq for s in known.snapshots), reverse=True)[:snapshots]
        segment_of_start = min((s.segment for s in known.snapshots if s.seq in starts), default=0)
        readers = [*known.holders, known.books]
        return (
            row == known.segments[-1]
            or row.state == "damaged"
            or len(starts) < snapshots
            or row.segment >= segment_of_start
            or any(r is None or r.seq is None or r.seq < row.last_seq for r in readers)
            or any(at is None or row.segment >= at for at in (known.day_segment, known.key_segment))
        )

    verdicts = judge(known, Keep(snapshots=snapshots))

    count = next(n for n, row in enumerate(known.segments) if is_needed(row))
    assert [v.may_go for v in verdicts] == [n < count for n in range(len(verdicts))]


class _Recording(Disk):
    """A disk that tells what was done, and may refuse."""

    def __init__(self, refuse: str = "") -> None:
        self.done: list[str] = []
        self._refuse = refuse

    def remove(self, path: Path) -> None:
        if path.name == self._refuse:
            raise PermissionError(1, "Operation not permitted")
        super().remove(path)
        self.done.append(path.name)

    def fsync_folder(self, folder: Path) -> None:
        super().fsync_folder(folder)
        self.done.append("sync")


def _verdicts(folder: Path, gone: int) -> list[Verdict]:
    write_batches(folder, [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)])
    return [Verdict(row, () if n < gone else ("needed",)) for n, row in enumerate(survey(folder).segments)]


def test_removal_is_durable_one_by_one_from_the_oldest(tmp_path: Path) -> None:
    """A power cut between two removals leaves a chain without a hole, and readers begin where it begins."""
    disk = _Recording()
    verdicts = _verdicts(tmp_path, 2)

    gone = list(remove(tmp_path, verdicts, disk))

    assert disk.done == ["000001.wal", "sync", "000002.wal", "sync"]
    assert [row.segment for row in gone] == [1, 2]
    assert [p.name for p in segments(tmp_path)] == [v.segment.name for v in verdicts[2:]]
    read = [seq for b in read_batches(tmp_path, *start_of(tmp_path, 1)) for seq, _, _ in b.records]
    assert read == list(range(gone[-1].last_seq + 1, 61))


def test_a_removal_that_fails_stops_there(tmp_path: Path) -> None:
    """What is behind a segment that can't be removed stays."""
    verdicts = _verdicts(tmp_path, 3)
    names = [p.name for p in segments(tmp_path)]

    with pytest.raises(PermissionError):
        list(remove(tmp_path, verdicts, _Recording(refuse="000002.wal")))

    assert [p.name for p in segments(tmp_path)] == names[1:]
