"""The writer: positions, batches, rolls, the lock, and what a failing disk does."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.disk import Disk
from journal.errors import JournalFailedError, JournalFullError, JournalLockedError
from journal.format import JournalSettings, segments, split_position
from journal.lock import FolderLock
from journal.reader import RecordReader, read_batches
from journal.watermark import WatermarkReader
from protocol.frames import read_header
from protocol.records import Clocked, Failed
from tests.unit.journal.samples import (
    SMALL,
    PowerCutError,
    PowerDisk,
    clocked,
    item,
    open_journal,
    ordered,
    write_batches,
)


def test_what_is_committed_comes_back(tmp_path: Path) -> None:
    """A recovery hands out every record of every commit, with its number, time and position."""
    opened = open_journal(tmp_path)
    positions = [opened.writer.append(r) for r in clocked(10, 11)]
    opened.writer.commit(5)
    positions += [opened.writer.append(ordered("a"))]
    opened.writer.commit(6)
    opened.close()

    again = open_journal(tmp_path)

    assert again.records == [
        (1, 5, positions[0], Clocked(10)),
        (2, 5, positions[1], Clocked(11)),
        (3, 6, positions[2], ordered("a")),
    ]
    assert (again.recovered.next_seq, again.recovered.epoch_max, again.recovered.now_ns) == (4, 1, 6)
    again.close()


def test_a_commit_of_nothing_writes_nothing(tmp_path: Path) -> None:
    """An empty batch is no frame."""
    opened = open_journal(tmp_path)

    assert opened.writer.commit(5) == b""
    assert opened.writer.durable_seq == 0
    opened.close()


def test_a_frame_says_when_the_batch_before_was_durable(tmp_path: Path) -> None:
    """The durable time of batch b stands in the header of batch b+1 (DECISIONS 3)."""
    opened = open_journal(tmp_path, wall_ns=lambda: 77)
    headers = []
    for n in (1, 2):
        opened.writer.append(Clocked(n))
        headers.append(read_header(opened.writer.commit(n)))
    opened.close()

    assert [h.prev_durable_ns for h in headers if h] == [0, 77]
    assert headers[1] is not None
    assert headers[0] is not None
    assert headers[1].prev_crc == headers[0].crc


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=5), min_size=1, max_size=40))
def test_every_position_finds_its_record(tmp_path_factory: pytest.TempPathFactory, sizes: list[list[int]]) -> None:
    """Whatever the sizes and rolls, the position told at append time is where the record is."""
    folder = tmp_path_factory.mktemp("journal")
    opened = open_journal(folder, disk=PowerDisk(Random(0)))
    reader = RecordReader(folder)
    expected = {}
    for n, batch in enumerate(sizes):
        for k, size in enumerate(batch):
            record = Failed("s", item(ordered("x").item.command), f"{n}.{k}", "é" * size)
            expected[opened.writer.append(record)] = record
            if opened.writer.full:
                opened.writer.commit(n)
        opened.writer.commit(n)

    assert {p: reader.read(p) for p in expected} == expected
    reader.close()
    opened.close()


def test_rolling_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    """A batch that might not fit begins a new segment, and the numbers and the chain go on."""
    write_batches(tmp_path, [clocked(n) for n in range(200)])

    assert len(segments(tmp_path)) > 2
    assert all(p.stat().st_size == SMALL.segment_bytes for p in segments(tmp_path))
    assert [n for b in read_batches(tmp_path) for n, _, _ in b.records] == list(range(1, 201))


def test_the_next_segment_is_made_ahead(tmp_path: Path) -> None:
    """With prepare_ahead the thread leaves a zero-filled segment for the roll to take."""
    ahead = JournalSettings(segment_bytes=4096, batch_bytes_max=1024, prepare_ahead=True)
    opened = open_journal(tmp_path, ahead)
    for thread in threading.enumerate():
        if thread.name == "journal-next-segment":
            thread.join(10)
    prepared = (tmp_path / "next.tmp").read_bytes()
    for n in range(200):
        opened.writer.append(Clocked(n))
        opened.writer.commit(n)
    opened.close()

    assert prepared == bytes(4096)
    assert not list(tmp_path.glob("*.tmp"))
    assert sum(len(b.records) for b in read_batches(tmp_path)) == 200


def test_a_batch_beyond_its_bound_is_refused(tmp_path: Path) -> None:
    """An append that would exceed batch_bytes_max changes nothing, and what was there commits."""
    opened = open_journal(tmp_path)
    opened.writer.append(Clocked(1))
    with pytest.raises(JournalFullError):
        opened.writer.append(Failed("s", item(ordered("x").item.command), "a", "x" * 1000))

    assert opened.writer.buffered_records == 1
    opened.writer.append(Clocked(2))
    opened.writer.commit(1)
    opened.close()
    assert [r[3] for r in open_journal(tmp_path).records] == clocked(1, 2)


def test_full_asks_for_a_commit_while_there_is_room(tmp_path: Path) -> None:
    """``full`` rises at half of the bound, before anything is refused."""
    opened = open_journal(tmp_path)
    assert not opened.writer.full
    while not opened.writer.full:
        opened.writer.append(Clocked(1))

    assert opened.writer.buffered_bytes < SMALL.batch_bytes_max
    opened.close()


def test_a_second_engine_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    """The lock names the folder and the process that holds it."""
    lock = FolderLock(tmp_path)
    with pytest.raises(JournalLockedError) as refused:
        FolderLock(tmp_path)
    lock.close()

    assert refused.value.folder == tmp_path
    assert int(refused.value.pid) > 0
    FolderLock(tmp_path).close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """The folder is 0700, what is in it 0600."""
    folder = tmp_path / "journal"
    write_batches(folder, [clocked(1)])

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}


class FailingDisk(Disk):
    """Fails one operation once, as a disk that comes back after an error does."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.armed = False

    def _maybe(self, operation: str) -> None:
        if self.armed and operation == self.operation:
            self.armed = False
            raise OSError(5, "Input/output error")

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._maybe("write")
        return super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self._maybe("sync")
        super().fdatasync(fd)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_failed_disk_is_fatal_and_never_tried_again(tmp_path: Path, operation: str) -> None:
    """After one failure nothing is committed any more, even if the disk works again, and nobody sees the batch."""
    disk = FailingDisk(operation)
    opened = open_journal(tmp_path, disk=disk)
    opened.writer.append(Clocked(1))
    opened.writer.commit(1)
    opened.writer.append(Clocked(2))
    disk.armed = True
    with pytest.raises(JournalFailedError) as failed:
        opened.writer.commit(2)

    assert failed.value.operation == operation
    with pytest.raises(JournalFailedError):
        opened.writer.commit(3)
    with pytest.raises(JournalFailedError):
        opened.writer.append(Clocked(3))
    assert WatermarkReader(tmp_path).read().seq == 1
    opened.close()


class ShortDisk(Disk):
    """Takes at most seven bytes at a time."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().pwrite(fd, data[:7], offset)


def test_short_writes_are_finished(tmp_path: Path) -> None:
    """A disk that takes part of a write gets the rest."""
    write_batches(tmp_path, [])
    opened = open_journal(tmp_path)
    opened.writer._disk = ShortDisk()
    opened.writer.append(ordered("a"))
    opened.writer.commit(1)
    opened.close()

    assert [r[3] for r in open_journal(tmp_path).records] == [ordered("a")]


def _run(folder: Path, disk: PowerDisk, committed: list[int]) -> None:
    for _ in range(2):  # the second life recovers, so that cuts hit a rewrite with records too
        opened = open_journal(folder, disk=disk)
        try:
            for _ in range(14):
                batch = [opened.writer.next_seq + k for k in range(3)]
                for n in batch:
                    opened.writer.append(Failed("s", item(ordered("x").item.command), str(n), "x" * (n % 90)))
                opened.writer.commit(batch[0])
                committed.append(batch[-1])
        finally:
            opened.close()


def test_a_power_cut_at_any_operation_keeps_what_was_committed(tmp_path: Path) -> None:
    """Whatever unsynced sectors and names are gone, every record whose commit returned is there, in order."""
    whole = PowerDisk(Random(0))
    _run(tmp_path / "whole", whole, [])
    assert len(segments(tmp_path / "whole")) > 3
    for cut_at in range(1, whole.operations + 1):
        folder, committed = tmp_path / str(cut_at), []
        disk = PowerDisk(Random(cut_at), cut_at)
        with pytest.raises(PowerCutError):
            _run(folder, disk, committed)
        disk.cut_power()

        after = open_journal(folder)

        found = [(seq, record.account) for seq, _, _, record in after.records if isinstance(record, Failed)]
        assert found == [(n, str(n)) for n in range(1, len(found) + 1)], f"cut at operation {cut_at}"
        assert len(found) >= (committed[-1] if committed else 0), f"cut at operation {cut_at}"
        after.writer.append(Clocked(1))
        after.writer.commit(1)
        after.close()


def test_positions_name_segment_and_offset(tmp_path: Path) -> None:
    """The first record of a journal lies behind the segment's header, the frame's and its length."""
    opened = open_journal(tmp_path)

    assert split_position(opened.writer.append(Clocked(1))) == (1, 64 + 48)
    opened.close()
