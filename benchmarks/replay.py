"""What a finished run's journal says: the state it replays to, and what it weighs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import BenchError
from engine.core import Core
from engine.state import state_hash
from journal.reader import read_batches
from protocol.control import EngineStatus
from protocol.frames import FRAME_BYTES
from protocol.records import Record, Reported, record_decoder


class Replayed(NamedTuple):
    """One journal, replayed.

    Attributes:
        core: The core after it.
        bytes: Of all frames.
        reports: Venue reports in it, and their bytes.
    """

    core: Core
    state_hash: str
    records: int
    bytes: int
    reports: int
    report_bytes: int


def replay(folder: Path, status: EngineStatus, visit: Callable[[Record], None] | None = None) -> Replayed:
    """Replay the journal up to where the engine gave its hash, and require the same hash.

    Args:
        folder: The journal of an engine that has ended.
        status: The engine's own, with its hash.
        visit: Called with each record.

    Raises:
        BenchError: If the journal replays to another state.
    """
    core = Core(status.dedup_keys_max)
    records = size = reports = report_bytes = 0
    for batch in read_batches(folder, stop_seq=status.seq):
        size += FRAME_BYTES + batch.header.body_bytes
        for seq, position, data in batch.records:
            if seq > status.seq:
                break  # the engine went on after it gave its hash
            record = record_decoder.decode(data)
            core.apply(seq, batch.header.now_ns, position, record)
            records += 1
            if type(record) is Reported:
                reports += 1
                report_bytes += len(data)
            if visit is not None:
                visit(record)
    found = state_hash(core.state)
    if found != status.state_hash:
        raise BenchError(f"journal {folder} replays to state {found}, the engine printed {status.state_hash}")
    return Replayed(core, found, records, size, reports, report_bytes)
