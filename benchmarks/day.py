"""A trading day's journal, written by the real core in this process: workload W with a venue that answers at once.

Of the accepted orders those that a cancel will hit rest until it comes; all others are filled behind their
acknowledgement. So the open set is the same at the end as at the beginning, and each id is new.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks import workload
from benchmarks.generator import SESSIONS
from benchmarks.in_process import AnsweringVenue, InProcess
from engine.layouts import LAYOUT_ID
from engine.snapshot import blocks_of, head_of
from engine.state import state_hash
from journal.format import split_position
from journal.snapshots import write_snapshot
from journal.watermark import WatermarkReader
from protocol.orders import CancelOrder
from runtime.clock import wall_ns

BATCH: Final = 1_024
CHUNK: Final = 100_000
LEFT_OPEN: Final = 50  # of each chunk
TAIL_CHUNKS: Final = 1  # about as many records as between two snapshots
_encode = msgspec.msgpack.Encoder().encode


class Day(NamedTuple):
    """A written journal.

    Attributes:
        orders: Commands it began with.
        records: All in it.
        snapshot_seq: The last record in its snapshot; ``snapshot_bytes``: its size.
        open_orders: At the end; ``keys``: remembered ids.
        state_hash: Of the core that wrote it.
        dedup_keys_max: What that core was told.
    """

    folder: Path
    orders: int
    records: int
    snapshot_seq: int
    snapshot_bytes: int
    open_orders: int
    keys: int
    state_hash: str
    dedup_keys_max: int


def write_day(folder: Path, orders: int) -> Day:
    """Write the journal of so many commands under ``folder``, with one snapshot near its end."""
    engine = InProcess(folder, orders)
    identities = [f"session-unit-{n:04d}".encode() for n in range(SESSIONS)]
    encoders = [engine.open(identity) for identity in identities]
    chunk = min(CHUNK, max(1, orders // (4 * TAIL_CHUNKS)))
    sizes = [min(chunk, orders - at) for at in range(0, orders, chunk)]
    snapshot = (0, 0)
    for n, size in enumerate(sizes):
        if n == len(sizes) - TAIL_CHUNKS:
            snapshot = _snapshot(engine)
        commands = workload.commands(size, seed=workload.SEED + n)
        resting = sum(isinstance(command, CancelOrder) for command in commands) + LEFT_OPEN
        venue = AnsweringVenue(engine, resting)
        created_at_ns = wall_ns()
        for at in range(0, size, BATCH):
            frames = []
            for command in commands[at : at + BATCH]:
                lane = workload.lane_of(command, SESSIONS)
                frames.append((identities[lane], encoders[lane].submit([_encode(command)], created_at_ns)))
            engine.turn(frames)
            engine.settle(venue)
            engine.out.sent.clear()
    state = engine.core.state
    day = Day(
        engine.journal, orders, engine.writer.next_seq - 1, *snapshot, len(state.orders), state.dedup.keys,
        state_hash(state), state.dedup.keys_max,
    )  # fmt: skip
    engine.writer.close()
    return day


def _snapshot(engine: InProcess) -> tuple[int, int]:
    """Write a snapshot of what is committed, as the follower would; return its record and its size."""
    marks = WatermarkReader(engine.journal)
    mark = marks.read()
    marks.close()
    segment, offset = split_position(mark.position)
    head = head_of(
        engine.core.state, seq=mark.seq, crc=mark.crc, segment=segment, offset=offset, epoch_max=1, release="bench"
    )
    assert head.layout == LAYOUT_ID
    *_, size = write_snapshot(engine.journal, head, blocks_of(engine.core.state))
    return mark.seq, size
