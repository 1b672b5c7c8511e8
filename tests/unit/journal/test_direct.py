"""Writes past the page cache: the same files, seen by the same readers, and as fatal when they fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.direct import BLOCK_BYTES, DirectDisk, can_write_directly
from journal.disk import Disk
from journal.errors import JournalFailedError
from journal.format import JournalSettings, segments
from journal.reader import JournalReader
from protocol.records import Failed
from tests.unit.journal.samples import clocked, item, open_journal, ordered

SIZES = JournalSettings(segment_bytes=(64 << 10) + 999, batch_bytes_max=24 << 10, prepare_ahead=False)
BUFFER_BYTES = 4 * BLOCK_BYTES  # a batch of SIZES may be larger, and its segments end within a block


def record(size: int) -> Failed:
    """Return a record of about so many bytes."""
    return Failed("s", item(ordered("x").item.command), "x" * size, "")


def written(folder: Path, lives: list[list[int]], disk: Disk) -> list[bytes]:
    """Write batches of such sizes in several lives; each is read as soon as it is durable. Return the segments."""
    expected = 0
    for sizes in lives:
        opened = open_journal(folder, SIZES, disk)
        reader = JournalReader(folder)
        seen = sum(len(batch.records) for batch in reader.poll(1 << 20))
        for size in sizes:
            opened.writer.append(record(size))
            opened.writer.commit(1)
            seen += sum(len(batch.records) for batch in reader.poll(1 << 20))
            expected += 1
            assert seen == expected
        reader.close()
        opened.close()
    return [path.read_bytes() for path in segments(folder)]


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 20_000) | st.integers(0, 300), max_size=12), min_size=1, max_size=3))
def test_the_files_are_those_that_the_page_cache_would_write(
    tmp_path_factory: pytest.TempPathFactory, lives: list[list[int]]
) -> None:
    """Byte by byte, over rolls, restarts and batches too large for the buffer; readers see each batch at once."""
    folder = tmp_path_factory.mktemp("journals")

    past_the_cache = written(folder / "direct", lives, DirectDisk(BUFFER_BYTES))

    assert past_the_cache == written(folder / "cached", lives, Disk())


def test_this_machine_writes_past_its_page_cache(tmp_path: Path) -> None:
    """Else nothing of this file shows anything."""
    assert can_write_directly(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", [OSError(errno.EIO, "planted"), BLOCK_BYTES // 2])
def test_a_write_that_fails_or_ends_early_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: OSError | int
) -> None:
    """Written or not, nobody knows: nothing more is committed, whatever the disk says later."""
    opened = open_journal(tmp_path, SIZES, DirectDisk())
    opened.writer.append(*clocked(1))
    opened.writer.commit(1)
    opened.writer.append(*clocked(2))

    def fail(*_: object) -> int:
        if isinstance(taken, OSError):
            raise taken
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        with pytest.raises(JournalFailedError, match="write of"):
            opened.writer.commit(2)
    with pytest.raises(JournalFailedError):
        opened.writer.commit(3)
    opened.close()


def test_where_it_can_not_be_done_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses leaves no file behind."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "pwritev", refuse)

    assert "Invalid argument" in can_write_directly(tmp_path)
    assert list(tmp_path.iterdir()) == []
