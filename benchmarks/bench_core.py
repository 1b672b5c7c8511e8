"""``core``: the engine alone, in this process, over a whole day: decode → decide → apply → encode, and no I/O.

It is the engine's own session code over the real core and the real journal writer: what would leave through a socket is
collected, what would be written or synced is only made. Between the turns, off the clock, the venue fills and cancels,
so the open set stays as large as it was while the remembered ids grow to all of the day's. Speed and memory are told by
tenths of the day. The floor decodes the same commands and encodes the same records and answers, and decides nothing.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks import workload
from benchmarks.conditions import conditions
from benchmarks.generator import SESSIONS, count_outcomes
from benchmarks.in_process import AnsweringVenue, Frame, InProcess, UnwrittenDisk
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report
from benchmarks.stack import rss_bytes
from protocol.frames import iter_records, read_header
from protocol.orders import CancelOrder, command_decoder
from protocol.records import CancelRequested, Ordered, Record, record_decoder, record_encoder
from protocol.session import Outcomes, Submit, engine_decoder, sidecar_decoder
from runtime.clock import monotonic_ns, wall_ns

ORDERS: Final = 10_000_000
RUNS_MAX: Final = 3
TENTHS: Final = 10
CHUNK: Final = 100_000
LEFT_OPEN: Final = 50  # of each chunk
BATCH: Final = 1_024
NS_PER_S: Final = 1_000_000_000
MIB: Final = 1 << 20
BAR_PER_S: Final = 160_000
BAR_SLOWER: Final = 1.10
BAR_LARGER: Final = 1.05

_encode = msgspec.msgpack.Encoder().encode


class Worked(NamedTuple):
    """What the engine took and gave in one chunk, for the floor to repeat."""

    batches: list[list[Frame]]
    records: list[Record]
    bodies: list[bytes]


class Tenth(NamedTuple):
    """One tenth of a day."""

    orders: int
    duration_ns: int
    resident_bytes: int


def core(options: Options) -> Report:
    """Measure the engine alone."""
    orders = options.orders_of_day or ORDERS
    report = Report(
        "core",
        f"the engine alone over a day of {orders:,} commands of W with a constant open set: decode → decide → apply → "
        "encode in process, no I/O; floor = decode and encode of the same bytes",
        str(conditions(options.folder)),
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    for _ in range(min(options.runs, RUNS_MAX)):
        place = Path(tempfile.mkdtemp(prefix="core-", dir=options.folder))
        try:
            _run(report, place, orders)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    per_s = report.figure(ENGINE, "orders_per_s", "orders/s")
    report.figure(ENGINE, "us_per_order", "µs an order")
    report.figure(FLOOR, "us_per_order", "µs an order (decode + encode of the same bytes)")
    report.ratio("engine ÷ floor", (ENGINE, "us_per_order"), (FLOOR, "us_per_order"))
    report.bar(f"core alone, orders/s over {orders:,}", per_s, at_least=BAR_PER_S)
    slower = report.figure(ENGINE, "last_over_second", "µs an order, the last tenth over the second")
    report.bar("last tenth ÷ second tenth, time an order", slower, at_most=BAR_SLOWER)
    larger = report.figure(ENGINE, "memory_last_over_second", "resident memory, the last tenth over the second")
    report.bar("last tenth ÷ second tenth, memory", larger, at_most=BAR_LARGER)
    report.end()
    return report


def _run(report: Report, place: Path, orders: int) -> None:
    gc.collect()
    gc.disable()  # as in the engine's own process once it runs: what is made has no cycles
    try:
        day = _Day(place, orders)
        tenths, first = day.work()
        floor_ns = _repeat(first)
    finally:
        gc.enable()
    duration_ns = sum(tenth.duration_ns for tenth in tenths)
    for n, tenth in enumerate(tenths, 1):
        us = tenth.duration_ns / tenth.orders / 1e3
        report.say(f"  tenth {n:>2}: {us:.2f} µs an order, {tenth.resident_bytes / MIB:,.0f} MiB resident")
    second, last = tenths[1], tenths[-1]
    report.add(
        ENGINE, orders_per_s=orders * NS_PER_S / duration_ns, us_per_order=duration_ns / orders / 1e3,
        last_over_second=(last.duration_ns / last.orders) / (second.duration_ns / second.orders),
        memory_last_over_second=last.resident_bytes / second.resident_bytes,
        open_orders=len(day.engine.core.state.orders), ids=day.engine.core.state.dedup.keys,
    )  # fmt: skip
    report.add(FLOOR, us_per_order=floor_ns / sum(map(len, first.batches)) / 1e3)
    report.hold(count_outcomes(_by_session(first)).digest)


class _Day:
    """A day of W through an engine in this process, timed in tenths."""

    def __init__(self, place: Path, orders: int) -> None:
        self._disk = UnwrittenDisk()
        self._orders = orders
        self.engine = InProcess(place, orders, self._disk)
        self._identities = [f"session-unit-{n:04d}".encode() for n in range(SESSIONS)]
        self._encoders = [self.engine.open(identity) for identity in self._identities]
        self.engine.out.sent.clear()

    def work(self) -> tuple[list[Tenth], Worked]:
        """Send the day through; return its tenths and all of the first chunk."""
        size = min(CHUNK, -(-self._orders // TENTHS))
        tenths: list[Tenth] = []
        first: Worked | None = None
        sent = orders = duration_ns = 0
        while sent < self._orders:
            count = min(size, self._orders - sent)
            if first is None:
                self._disk.frames = []
            batches, took_ns = self._chunk(sent // size, count)
            if first is None:
                first = Worked(batches, _records(self._disk.frames or []), self.engine.out.sent[:])
                self._disk.frames = None
            self.engine.out.sent.clear()
            sent, orders, duration_ns = sent + count, orders + count, duration_ns + took_ns
            if sent * TENTHS >= self._orders * (len(tenths) + 1):
                del batches
                tenths.append(Tenth(orders, duration_ns, rss_bytes(os.getpid())))
                orders = duration_ns = 0
        assert first is not None
        return tenths, first

    def _chunk(self, number: int, count: int) -> tuple[list[list[Frame]], int]:
        """Send one chunk through; return its batches and how long the engine took, in ns."""
        commands = workload.commands(count, seed=workload.SEED + number)
        resting = sum(isinstance(command, CancelOrder) for command in commands) + LEFT_OPEN
        venue = AnsweringVenue(self.engine, resting)
        created_at_ns = wall_ns()
        frames: list[Frame] = []
        for command in commands:
            lane = workload.lane_of(command, SESSIONS)
            frames.append((self._identities[lane], self._encoders[lane].submit([_encode(command)], created_at_ns)))
        batches = [frames[at : at + BATCH] for at in range(0, count, BATCH)]
        turn, settle = self.engine.turn, self.engine.settle
        keep = self._disk.frames is not None
        duration_ns = 0
        for batch in batches:
            began_ns = monotonic_ns()
            turn(batch)
            duration_ns += monotonic_ns() - began_ns
            settle(venue)
            if not keep:
                self.engine.out.sent.clear()
        return batches, duration_ns


def _records(frames: list[bytes]) -> list[Record]:
    """Return what was recorded of commands; the venue's reports are no part of it."""
    found: list[Record] = []
    for frame in frames:
        header = read_header(frame)
        if header is not None:
            found += [record_decoder.decode(data) for _, data in iter_records(frame, header)]
    return [record for record in found if isinstance(record, Ordered | CancelRequested)]


def _repeat(worked: Worked) -> int:
    """Decode what the engine decoded and encode what it encoded; return how long that took, in ns."""
    decode, decode_command, encode = sidecar_decoder.decode, command_decoder.decode, _encode
    encode_record, buffer = record_encoder.encode_into, bytearray()
    answers = [answer for body in worked.bodies if isinstance(answer := engine_decoder.decode(body), Outcomes)]
    began_ns = monotonic_ns()
    for batch in worked.batches:
        for message in [decode(body) for _, body in batch]:
            assert type(message) is Submit
            for item in message.items:
                decode_command(item.command)
    for record in worked.records:
        encode_record(record, buffer)
    bodies = [encode(answer) for answer in answers]
    duration_ns = monotonic_ns() - began_ns
    assert bodies == worked.bodies, "the floor encoded other answers than the engine gave"
    return duration_ns


def _by_session(worked: Worked) -> list[list[bytes]]:
    """Return the answers of each session; which one an answer is for shows in its order within the turn."""
    lanes: dict[bytes, list[bytes]] = {}
    answers = iter(worked.bodies)
    for batch in worked.batches:
        for identity in dict.fromkeys(identity for identity, _ in batch):
            lanes.setdefault(identity, []).append(next(answers))
    return [lanes[identity] for identity in sorted(lanes)]
