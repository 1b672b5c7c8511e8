"""A desk's records as a journal on disk, and engines' starts on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.replica import Replica
from engine.restore import Restored, restore
from engine.state import state_hash
from journal.format import JournalSettings
from journal.lock import FolderLock
from journal.recovery import Recovered, recover
from journal.writer import JournalWriter
from protocol.records import Record
from tests.unit.engine.desk import NOW

SIZES = JournalSettings(segment_bytes=32_768, batch_bytes_max=8_192, prepare_ahead=False)
KEYS_MAX = 256
Records = Iterable[tuple[int, int, int, Record]]


def write_journal(folder: Path, records: Records, *, batch: int = 3, sizes: JournalSettings = SIZES) -> None:
    """Append records as an engine would, so many a batch, and die."""
    lock = FolderLock(folder)
    writer = JournalWriter(folder, recover(folder, None, sizes), sizes, lambda: NOW)
    writer.start(1)
    now_ns = 0
    for n, (_, now_ns, _, record) in enumerate(records, start=1):
        writer.append(record)
        if n % batch == 0:
            writer.commit(now_ns)
    writer.commit(now_ns)
    writer.close()
    lock.close()


def follow(folder: Path, keys_max: int = KEYS_MAX, *, upto: int = 0) -> Replica:
    """Return a replica that has applied what is durable, or the batches up to a record."""
    replica = Replica(folder, keys_max, holder="follower", release="test")
    while (not upto or replica.seq < upto) and replica.step(1):
        pass
    return replica


def snapshot(folder: Path, keys_max: int = KEYS_MAX, *, upto: int = 0) -> int:
    """Write a snapshot where a replica stands and return its record."""
    replica = follow(folder, keys_max, upto=upto)
    for _ in replica.snapshot():
        pass
    replica.close()
    return replica.seq


def start(folder: Path, keys_max: int = KEYS_MAX, sizes: JournalSettings = SIZES) -> tuple[str, Restored, Recovered]:
    """Recover as an engine's start does; return the hash it comes to."""
    restored = restore(folder, keys_max, 0)
    recovered = recover(folder, restored.core.apply, sizes, start=restored.place)
    return state_hash(restored.core.state), restored, recovered
