"""A deployment's journal as an engine would have written it, with snapshots on the way, for tests of what may go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from engine.core import Core
from engine.snapshot import blocks_of, head_of
from journal.format import JournalSettings, split_position
from journal.holders import Holder
from journal.reader import read_batches
from journal.snapshots import write_snapshot
from protocol.records import Record, record_decoder
from tests.unit.journal.samples import open_journal

SIZES = JournalSettings(segment_bytes=4096, batch_bytes_max=2048, prepare_ahead=False)
KEYS_MAX = 256
BATCH = 2


class Lived(NamedTuple):
    """The core at the journal's end, and the last record's number."""

    core: Core
    last_seq: int


def live(folder: Path, records: Iterable[tuple[int, int, int, Record]], snapshots_at: Iterable[int] = ()) -> Lived:
    """Write the records, two a batch, and a snapshot behind each batch that reaches a number asked for."""
    opened = open_journal(folder, SIZES)
    last_seq = 0
    for last_seq, now_ns, _, record in records:
        opened.writer.append(record)
        if last_seq % BATCH == 0:
            opened.writer.commit(now_ns)
    if last_seq % BATCH:
        opened.writer.commit(now_ns)
    opened.close()
    core, wanted = Core(KEYS_MAX), sorted(snapshots_at)
    for batch in read_batches(folder):
        for seq, position, data in batch.records:
            core.apply(seq, batch.header.now_ns, position, record_decoder.decode(data))
        if wanted and batch.last_seq >= wanted[0]:
            wanted.pop(0)
            segment, offset = split_position(batch.end)
            head = head_of(
                core.state, seq=batch.last_seq, crc=batch.header.crc, segment=segment, offset=offset,
                epoch_max=1, release="t",
            )  # fmt: skip
            for _ in write_snapshot(folder, head, blocks_of(core.state)):
                pass
    assert not wanted
    return Lived(core, last_seq)


def all_read(folder: Path) -> int:
    """Let a holder have read everything; return the last record's number."""
    *_, last = read_batches(folder)
    Holder(folder, "follower").advance(last.last_seq, last.header.crc)
    return last.last_seq
