"""One recovery in a process of its own: ``python -m benchmarks.recover_once <journal> <dedup_keys_max>``; prints JSON.

What an engine's start does between having the lock and taking an epoch, nothing else: the same call.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.restore import recover_core
from engine.state import state_hash
from journal.format import JournalSettings
from journal.lock import FolderLock
from runtime.clock import monotonic_ns


class RecoveredOnce(Struct, frozen=True):
    """What one recovery took and came to."""

    recovery_ns: int
    snapshot_seq: int
    replayed: int
    open_orders: int
    keys: int
    peak_kib: int
    state_hash: str


def recover_once(folder: Path, dedup_keys_max: int) -> RecoveredOnce:
    """Recover a journal as an engine's start does."""
    lock = FolderLock(folder)
    began_ns = monotonic_ns()
    restored, recovered = recover_core(folder, dedup_keys_max, JournalSettings())
    recovery_ns = monotonic_ns() - began_ns
    lock.close()
    state = restored.core.state
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return RecoveredOnce(
        recovery_ns, restored.seq, recovered.records, len(state.orders), state.dedup.keys, peak_kib,
        state_hash(state),
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(recover_once(Path(sys.argv[1]), int(sys.argv[2]))).decode())
