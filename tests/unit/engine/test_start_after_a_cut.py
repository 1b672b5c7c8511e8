"""The first start after an operator accepted a loss journals who accepted it, once."""

from __future__ import annotations

from pathlib import Path

from engine.settings import EngineSettings
from engine.start import start
from journal.format import JournalSettings
from journal.holders import Holder
from journal.lock import FolderLock
from journal.reader import read_batches
from journal.recovery import look_at_tail
from journal.repair import accept_cut, cut_of, noted_cut
from protocol.codes import Mode
from protocol.event_kinds import SystemEvent
from protocol.events import events_of
from protocol.records import Started, record_decoder
from tests.simulation.stand_ins import params
from tests.unit.journal.damage import frame_offsets

SIZES = JournalSettings(segment_bytes=1 << 16, batch_bytes_max=1 << 15)


def _settings(folder: Path) -> EngineSettings:
    return EngineSettings(
        mode=Mode.PAPER, shard=0, journal_dir=str(folder), sidecars_endpoint="", venues_endpoint="",
        events_endpoint="", control_endpoint="", token_file="", table_path="", params=params(), segment_bytes=1 << 16,
        dedup_keys_max=100,
    )  # fmt: skip


def _start_and_stop(folder: Path) -> None:
    started = start(_settings(folder))
    started.writer.close()
    started.lock.close()


def _starts(folder: Path) -> list[tuple[int, Started]]:
    found = [(seq, record_decoder.decode(data)) for b in read_batches(folder) for seq, _, data in b.records]
    return [(seq, record) for seq, record in found if isinstance(record, Started)]


def test_the_next_start_carries_the_cut_and_the_one_after_does_not(tmp_path: Path) -> None:
    """Who accepted it, why, and who had seen how much stands in the journal for ever."""
    folder = tmp_path / "journal"
    _start_and_stop(folder)
    _start_and_stop(folder)
    (path,) = folder.glob("*.wal")
    data, last = path.read_bytes(), frame_offsets(path)[-2]
    path.write_bytes(data[:last] + bytes(len(data) - last))
    Holder(folder, "books").advance(40, 1)
    lock = FolderLock(folder)
    tail = look_at_tail(folder)
    accept_cut(folder, SIZES, tail, cut_of(tail, "the cache lied", "ada", 77))
    lock.close()

    _start_and_stop(folder)
    noted_after = noted_cut(folder)
    _start_and_stop(folder)

    assert noted_after is None
    (_, first), (seq, second), (_, third) = _starts(folder)
    assert (first.accepted_cut, third.accepted_cut) == (None, None)
    cut = second.accepted_cut
    assert cut is not None
    assert (cut.last_seq, cut.reason, cut.operator) == (seq - 1, "the cache lied", "ada")
    assert ("books", 40) in cut.seen
    (event,) = events_of(seq, 1, second)
    assert isinstance(event, SystemEvent)
    assert "ada accepted that the journal was cut" in event.text
    assert "books had seen 40" in event.text
