"""Recovery: what is cut, what is refused, and that nothing changed is ever accepted silently."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.errors import JournalDamagedError, JournalGapError, JournalVersionError
from journal.format import SEGMENT_HEADER_BYTES, segments
from journal.holders import Holder
from journal.recovery import recover
from journal.watermark import WatermarkReader, watermark_path
from protocol.errors import JournalError
from protocol.frames import FRAME, FRAME_BYTES, FRAME_MAGIC
from protocol.records import Clocked
from tests.unit.journal.samples import SMALL, clocked, open_journal, ordered, write_batches


def _forget_watermark(folder: Path) -> None:
    """As after a power cut: the mapping was never synced."""
    watermark_path(folder).unlink()


def _frame_offsets(path: Path) -> list[int]:
    data = path.read_bytes()
    found, at = [], SEGMENT_HEADER_BYTES
    while data[at : at + 4] == FRAME_MAGIC.to_bytes(4, "little"):
        found.append(at)
        at += FRAME_BYTES + FRAME.unpack_from(data, at)[2]
    return [*found, at]


def _keep(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:size] + bytes(len(data) - size))


def _numbers(folder: Path) -> list[int]:
    opened = open_journal(folder)
    opened.close()
    return [r[3].jump_ns for r in opened.records if isinstance(r[3], Clocked)]


def test_a_frame_torn_at_any_byte_is_cut(tmp_path: Path) -> None:
    """Without a witness, a last frame that lost its end at any byte goes, and every one before it stays."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    data, (_, last, end) = path.read_bytes(), _frame_offsets(path)
    for size in range(last + 1, end):
        path.write_bytes(data)
        _keep(path, size)
        watermark_path(tmp_path).unlink(missing_ok=True)

        opened = open_journal(tmp_path)

        opened.close()
        assert [r[3] for r in opened.records] == clocked(1, 2)
        assert opened.recovered.cut_bytes > 0
        assert opened.recovered.next_seq == 3
        assert not any(path.read_bytes()[last:])


def test_a_frame_whose_first_sector_was_lost_is_cut(tmp_path: Path) -> None:
    """A torn write may leave its end without its beginning."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    data, (_, last, _) = path.read_bytes(), _frame_offsets(path)
    path.write_bytes(data[:last] + bytes(FRAME_BYTES) + data[last + FRAME_BYTES :])
    _forget_watermark(tmp_path)

    assert _numbers(tmp_path) == [1, 2]


def test_a_file_that_ends_early_is_cut_and_made_whole(tmp_path: Path) -> None:
    """A last segment that lost its end gets its size back."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[: _frame_offsets(path)[-1] - 1])
    _forget_watermark(tmp_path)

    assert _numbers(tmp_path) == [1, 2]
    assert path.stat().st_size == SMALL.segment_bytes


def test_the_watermark_forbids_the_cut(tmp_path: Path) -> None:
    """What was published as durable can't be cut: the start stops, naming the place, and changes nothing."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    path = segments(tmp_path)[0]
    last, end = _frame_offsets(path)[1:]
    _keep(path, end - 1)
    damaged = path.read_bytes()
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(tmp_path)

    assert (refused.value.path, refused.value.offset, refused.value.seq) == (path, last, 3)
    assert path.read_bytes() == damaged


def test_a_holder_forbids_the_cut(tmp_path: Path) -> None:
    """What a local reader has seen can't be cut, even after the watermark is lost."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    Holder(tmp_path, "books").advance(3, 0)
    path = segments(tmp_path)[0]
    _keep(path, _frame_offsets(path)[-1] - 1)
    _forget_watermark(tmp_path)
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(tmp_path)

    assert "books" in refused.value.why


def test_a_holder_that_saw_less_allows_the_cut(tmp_path: Path) -> None:
    """A holder behind the cut is no witness of what is cut."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    Holder(tmp_path, "books").advance(2, _crc_of_first_frame(tmp_path))
    path = segments(tmp_path)[0]
    _keep(path, _frame_offsets(path)[-1] - 1)
    _forget_watermark(tmp_path)

    assert _numbers(tmp_path) == [1, 2]


def _crc_of_first_frame(folder: Path) -> int:
    return int(FRAME.unpack_from(segments(folder)[0].read_bytes(), SEGMENT_HEADER_BYTES)[1])


def test_a_holder_that_cannot_be_read_forbids_the_cut(tmp_path: Path) -> None:
    """A witness that can't be asked counts as having seen everything."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    Holder(tmp_path, "books").advance(2, 0)
    (tmp_path / "holders" / "books").write_text("2 0000")
    path = segments(tmp_path)[0]
    _keep(path, _frame_offsets(path)[-1] - 1)
    _forget_watermark(tmp_path)
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(tmp_path)

    assert "can't be read" in refused.value.why


def test_a_holder_of_another_history_stops_the_start(tmp_path: Path) -> None:
    """A journal restored from elsewhere has the numbers, but not the chain."""
    write_batches(tmp_path, [clocked(1, 2), clocked(3)])
    Holder(tmp_path, "books").advance(2, 12345)
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(tmp_path)

    assert "another history" in refused.value.why


def test_whole_frames_beyond_the_watermark_are_kept(tmp_path: Path) -> None:
    """A batch that was written but not published is whole, so it stays."""
    write_batches(tmp_path, [clocked(1)])
    older = watermark_path(tmp_path).read_bytes()
    write_batches(tmp_path, [clocked(2)])
    watermark_path(tmp_path).write_bytes(older)

    assert _numbers(tmp_path) == [1, 2]
    assert WatermarkReader(tmp_path).read().seq == 2


def test_a_torn_frame_with_a_whole_one_behind_is_damage(tmp_path: Path) -> None:
    """A hole in the middle is no torn write."""
    write_batches(tmp_path, [clocked(1), clocked(2), clocked(3)])
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[_frame_offsets(path)[1] + FRAME_BYTES] ^= 1
    path.write_bytes(data)
    _forget_watermark(tmp_path)
    with pytest.raises(JournalDamagedError) as refused:
        open_journal(tmp_path)

    assert refused.value.seq == 2
    assert "follows" in refused.value.why


def test_a_missing_segment_stops_the_start(tmp_path: Path) -> None:
    """A gap is named by the file that must be restored."""
    write_batches(tmp_path, [clocked(n) for n in range(150)])
    missing = segments(tmp_path)[1]
    missing.unlink()
    with pytest.raises(JournalGapError) as refused:
        open_journal(tmp_path)

    assert refused.value.path == missing


def test_an_emptied_folder_stops_the_start(tmp_path: Path) -> None:
    """A journal whose segments are all gone is no new journal while its watermark is there."""
    write_batches(tmp_path, [clocked(1)])
    segments(tmp_path)[0].unlink()
    with pytest.raises(JournalGapError):
        open_journal(tmp_path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    """A record type this release does not know stops it with segment, place and number."""
    opened = open_journal(tmp_path)
    opened.writer.append(Clocked(1))
    opened.writer.append([99, "from the future"])  # type: ignore[arg-type]
    opened.writer.commit(1)
    opened.close()
    with pytest.raises(JournalVersionError) as refused:
        open_journal(tmp_path)

    assert "record 2" in refused.value.what
    assert refused.value.path == segments(tmp_path)[0]


def test_another_shard_is_refused(tmp_path: Path) -> None:
    """A journal belongs to one shard."""
    write_batches(tmp_path, [clocked(1)])
    with pytest.raises(JournalDamagedError):
        recover(tmp_path, None, SMALL, shard=1)


def test_the_tail_is_rewritten_with_the_same_offsets(tmp_path: Path) -> None:
    """A restart replaces the last segment by a copy: another file, the same bytes and positions."""
    write_batches(tmp_path, [clocked(1, 2), [ordered("a")]])
    path = segments(tmp_path)[0]
    before, inode = path.read_bytes(), path.stat().st_ino
    opened = open_journal(tmp_path)
    opened.close()

    assert path.read_bytes() == before
    assert path.stat().st_ino != inode


@settings(max_examples=400, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), with_watermark=st.booleans())
def test_a_flipped_bit_is_never_accepted(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, with_watermark: bool
) -> None:
    """One flipped bit anywhere stops the start, or is cut as a torn tail that nobody saw; no record changes."""
    folder = tmp_path_factory.mktemp("journal")
    batches = [[ordered(f"{n}-{k}") for k in range(1 + n % 3)] for n in range(20)]
    write_batches(folder, batches)
    whole = open_journal(folder)
    whole.close()
    paths = segments(folder)
    at = int(place * len(paths) * SMALL.segment_bytes)
    path = paths[at // SMALL.segment_bytes]
    data = bytearray(path.read_bytes())
    data[at % SMALL.segment_bytes] ^= 1 << bit
    path.write_bytes(data)
    end = _frame_offsets(paths[-1])[-1]
    if not with_watermark:
        _forget_watermark(folder)
    try:
        opened = open_journal(folder)
    except JournalError as e:
        named = str(e)
        opened = None
    if opened is None:
        assert str(path) in named or str(paths[-1]) in named
        return
    opened.close()
    assert path == paths[-1]
    assert opened.recovered.cut_bytes > 0
    assert opened.records == whole.records[: len(opened.records)]
    if with_watermark:
        assert len(opened.records) == len(whole.records)
        assert at % SMALL.segment_bytes >= end


def test_a_cut_goes_on_under_the_number_it_freed(tmp_path: Path) -> None:
    """The numbers go on at cut + 1 under a new epoch (DECISIONS 4)."""
    write_batches(tmp_path, [clocked(1), clocked(2)])
    path = segments(tmp_path)[0]
    _keep(path, _frame_offsets(path)[-1] - 1)
    _forget_watermark(tmp_path)
    opened = open_journal(tmp_path)
    opened.writer.append(Clocked(9))
    opened.writer.commit(9)
    opened.close()
    again = open_journal(tmp_path)
    again.close()

    assert [(r[0], r[3]) for r in again.records] == [(1, Clocked(1)), (2, Clocked(9))]
    assert again.recovered.epoch_max == 2


def test_garbage_behind_the_end_is_cut_and_reported(tmp_path: Path) -> None:
    """Random bytes behind the last frame are no frame: zeros take their place."""
    write_batches(tmp_path, [clocked(1)])
    path = segments(tmp_path)[0]
    end = _frame_offsets(path)[-1]
    data = path.read_bytes()
    path.write_bytes(data[:end] + Random(1).randbytes(200) + data[end + 200 :])

    opened = open_journal(tmp_path)

    opened.close()
    assert opened.recovered.cut_bytes == 200
    assert path.read_bytes() == data
