"""History: every frame behind any record, verbatim, and nothing that is not durable or not kept."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import history as history_module
from journal.errors import JournalDamagedError
from journal.format import segment_path, segments
from journal.history import History, NotKept
from journal.reader import read_batches
from protocol.frames import FRAME_BYTES
from tests.unit.journal.damage import flip, frame_offsets
from tests.unit.journal.samples import clocked, open_journal, write_batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of several segments, batches of one to five records."""
    folder = tmp_path_factory.mktemp("journal")
    write_batches(folder, [clocked(*range(n * 10, n * 10 + 1 + n % 5)) for n in range(150)])
    assert len(segments(folder)) > 2
    return folder


def frames_on_disk(folder: Path) -> list[tuple[int, bytes]]:
    """Return (last record, frame) of all that was written, read without the code under test."""
    found: list[tuple[int, bytes]] = []
    for path in segments(folder):
        data, offsets = path.read_bytes(), frame_offsets(path)
        found += [(0, data[a:b]) for a, b in pairwise(offsets)]
    batches = list(read_batches(folder))
    return [(batch.last_seq, frame) for batch, (_, frame) in zip(batches, found, strict=True)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_behind_a_record_comes_verbatim(folder: Path, data: st.DataObject) -> None:
    """From any record on, up to any batch's end, in pieces of any size; each piece goes on behind the one before."""
    frames = frames_on_disk(folder)
    after = data.draw(st.integers(0, frames[-1][0]))
    last = data.draw(st.sampled_from([seq for seq, _ in frames]))
    number_of = {frame: seq for seq, frame in frames}
    expected = [frame for seq, frame in frames if after < seq <= last]
    history, came = History(folder), []
    while piece := history.read(after, last, data.draw(st.integers(1, 4_000))):
        assert isinstance(piece, list)
        came += piece
        after = number_of[piece[-1]]
    assert came == expected


def test_every_frame_comes_from_the_beginning(folder: Path) -> None:
    """A reader that knows nothing gets all of it."""
    frames = frames_on_disk(folder)
    assert History(folder).read(0, frames[-1][0], 1) == [frames[0][1]]
    history, after, came = History(folder), 0, []
    while piece := history.read(after, frames[-1][0], 2_000):
        assert isinstance(piece, list)
        assert sum(map(len, piece)) <= 2_000 or len(piece) == 1
        came += piece
        after = frames[len(came) - 1][0]
    assert came == [frame for _, frame in frames]


def test_a_frame_larger_than_asked_for_comes_alone(folder: Path) -> None:
    """A reader with a small appetite still gets on."""
    frames = frames_on_disk(folder)
    assert History(folder).read(frames[3][0], frames[-1][0], FRAME_BYTES) == [frames[4][1]]


def test_below_what_is_kept_it_says_from_where_on(tmp_path: Path) -> None:
    """Where retention removed segments, the answer names the first record that is there."""
    write_batches(tmp_path, [clocked(n) for n in range(200)])
    paths = segments(tmp_path)
    paths[0].unlink()
    history = History(tmp_path)
    found = history.read(0, 200, 1_000)
    assert isinstance(found, NotKept)
    assert isinstance(history.read(found.oldest_seq - 1, 200, 1_000), list)
    assert isinstance(history.read(found.oldest_seq - 2, 200, 1_000), NotKept)


def test_an_open_segment_is_walked_on_from_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that comes again does not walk the whole segment again, and sees what was added."""
    monkeypatch.setattr(history_module, "INDEX_EVERY_BYTES", 1)
    opened = open_journal(tmp_path)
    history = History(tmp_path)
    walked: list[int] = []
    header_of = history_module.read_header

    def counted(view: memoryview, at: int) -> object:
        walked.append(at)
        return header_of(view, at)

    monkeypatch.setattr(history_module, "read_header", counted)
    for n in range(1, 9):
        opened.writer.append(clocked(n)[0])
        opened.writer.commit(n)
        assert len(history.read(n - 1, n, 1_000)) == 1
    opened.close()
    assert len(walked) <= 3 * 8


def test_damage_is_named_and_not_served(tmp_path: Path) -> None:
    """A frame whose bytes changed on the disk never leaves."""
    write_batches(tmp_path, [clocked(n) for n in range(5)])
    flip(segment_path(tmp_path, 1), 2)
    history = History(tmp_path)
    with pytest.raises(JournalDamagedError):
        history.read(2, 5, 1_000)


def test_before_the_first_segment_nobody_misses_anything(tmp_path: Path) -> None:
    """A reader that is faster than the engine's first start has nothing to read yet; what is gone is still said."""
    history = History(tmp_path)
    assert history.read(0, 0, 1_000) == []
    assert history.read(0, 5, 1_000) == NotKept(6)
