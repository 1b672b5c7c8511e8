"""``core``: the engine alone, in this process: decode → decide → apply → encode, no sockets and no syncs.

It is the engine's own session code over the real core and the real journal writer: only what would leave through a
socket is collected, and a sync returns at once. The floor decodes the same commands and encodes the same records and
answers, and decides nothing.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks import workload
from benchmarks.conditions import conditions
from benchmarks.generator import SESSIONS, count_outcomes
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import Stack
from engine.core import Core
from engine.meters import Meters
from engine.parts import Parts
from engine.sidecars import Sidecars
from engine.venue_state import VenueState
from journal.disk import Disk
from journal.format import JournalSettings
from journal.reader import RecordReader, read_batches
from journal.recovery import recover
from journal.writer import JournalWriter
from market.table import TableReader
from protocol.channels import Router
from protocol.codes import Mode
from protocol.orders import Command, command_decoder
from protocol.params import encode_params, params_hash
from protocol.records import (
    FORMAT_VERSION,
    CancelRequested,
    Ordered,
    ParamsSet,
    Record,
    Started,
    VenueChanged,
    record_decoder,
    record_encoder,
)
from protocol.session import (
    PROTOCOL_VERSION,
    Claim,
    Claimed,
    EngineMessage,
    Hello,
    Outcomes,
    Submit,
    engine_decoder,
    sidecar_decoder,
)
from runtime.clock import monotonic_ns, wall_ns
from runtime.metrics import Board

# A run keeps all its results for the floor, so it is shorter than others: 200,000 orders by default.
ORDERS_PER_S: Final = 20_000
BATCH: Final = 1_024
NS_PER_S: Final = 1_000_000_000
ORDER_ID_KEY: Final = bytes(range(32))

Frame = tuple[bytes, bytes]
_encode = msgspec.msgpack.Encoder().encode


class UnsyncedDisk(Disk):
    """A disk whose sync returns at once."""

    def fdatasync(self, fd: int) -> None:
        """Do nothing."""


class Collector(Router):
    """Keeps what would leave through the socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, identity: bytes, body: bytes) -> bool:
        """Keep the message."""
        del identity
        self.sent.append(body)
        return True


class Worked(NamedTuple):
    """What one run of the engine took and gave, batch by batch, for the floor to repeat."""

    durations_ns: list[int]
    batches: list[list[Frame]]
    records: list[Record]
    answers: list[Outcomes]
    bodies: list[bytes]


def core(options: Options) -> Report:
    """Measure the engine alone."""
    report = Report(
        "core",
        "the engine alone: decode → decide → apply → encode in process, without sockets and syncs",
        str(conditions(options.folder)),
    )
    commands = workload.commands(options.orders(ORDERS_PER_S))
    worked: Worked | None = None
    for of in interleaved(options.runs):
        if of == ENGINE or worked is None:
            worked = _work(options.folder, commands)
            report.hold(count_outcomes(_by_session(worked)).digest)
            _add(report, ENGINE, len(commands), worked.durations_ns)
        else:
            _add(report, FLOOR, len(commands), [_repeat(worked)])
    report.figure(ENGINE, "orders_per_s", "orders/s")
    report.figure(ENGINE, "us_per_order", "µs an order")
    report.figure(ENGINE, "later_us_per_order", "µs an order in the second half, when most routes were seen before")
    report.figure(FLOOR, "us_per_order", "µs an order (decode + encode of the same bytes)")
    report.ratio("engine ÷ floor", (ENGINE, "us_per_order"), (FLOOR, "us_per_order"))
    report.end()
    return report


def _add(report: Report, of: str, orders: int, durations_ns: list[int]) -> None:
    """Keep one run: as a whole, and its second half, where fewer orders are the first of account and instrument."""
    duration_ns, later_ns = sum(durations_ns), durations_ns[len(durations_ns) // 2 :]
    later_orders = orders * len(later_ns) / len(durations_ns)
    report.add(
        of, orders_per_s=orders * NS_PER_S / duration_ns, us_per_order=duration_ns / orders / 1e3,
        later_us_per_order=sum(later_ns) / later_orders / 1e3,
    )  # fmt: skip


class InProcess:
    """The engine's sessions over a core and a journal that does not sync."""

    def __init__(self, folder: Path, commands: int) -> None:
        sizes, disk = JournalSettings(), UnsyncedDisk()
        with Stack(folder, commands) as stack:
            settings = stack.engine_settings()
        self.core = Core(settings.dedup_keys_max)
        self.journal = folder / "journal"
        self.writer = JournalWriter(
            self.journal, recover(self.journal, None, sizes, disk=disk), sizes, wall_ns, disk
        )  # fmt: skip
        self.writer.start(1)
        self._begin()
        workload.write_table(folder / "table", wall_ns())
        parts = Parts(
            settings, self.core, self.writer, RecordReader(self.journal), TableReader.open(folder / "table"), Meters(),
            _fail, self._make_room, Board(),
        )  # fmt: skip
        self.out = Collector()
        self.sidecars = Sidecars(parts, self.out)
        self.sidecars.find_table_slots()
        self.now_ns = 0  # of the turn

    def _begin(self) -> None:
        now_ns, content = wall_ns(), encode_params(workload.params())
        for record in (
            Started(1, bytes(16), Mode.PAPER, 0, 20_240_808, FORMAT_VERSION, "bench", ORDER_ID_KEY),
            ParamsSet(content, params_hash(content)),
            VenueChanged(workload.VENUE, True, bytes(16), 0),
        ):
            self.core.apply(self.writer.next_seq, now_ns, self.writer.append(record), record)
        self.writer.commit(now_ns)

    def open(self, identity: bytes) -> workload.ItemEncoder:
        """Open one session and return the encoder of its items."""
        hello = Hello(PROTOCOL_VERSION, workload.SOURCE, identity.decode(), bytes(16))
        self.sidecars.receive([(identity, _encode(hello)), (identity, _encode(Claim(identity.decode())))], 0, None)
        claimed: EngineMessage = engine_decoder.decode(self.out.sent[-1])
        assert isinstance(claimed, Claimed), claimed
        return workload.ItemEncoder(claimed.unit, claimed.unit_epoch)

    def turn(self, frames: list[Frame], venue: Callable[[VenueState], None] | None = None) -> None:
        """Do what a turn of the loop does, without its waiting; ``venue`` answers in the same batch."""
        now_ns = self.now_ns = self.core.state.last_ns = wall_ns()
        self.sidecars.receive(frames, now_ns, None)
        if venue is not None:
            venue(self.core.state.venues[workload.VENUE])
        self.writer.commit(now_ns)
        self.core.state.venues[workload.VENUE].fresh.clear()
        self.sidecars.answer(0)

    def _make_room(self, now_ns: int) -> None:
        if self.writer.full:
            self.writer.commit(now_ns)


def _work(folder: Path, commands: list[Command]) -> Worked:
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="core-", dir=folder))
    try:
        engine = InProcess(place, len(commands))
        identities = [f"session-unit-{n:04d}".encode() for n in range(SESSIONS)]
        encoders = [engine.open(identity) for identity in identities]
        created_at_ns = wall_ns()
        frames: list[Frame] = []
        for command in commands:
            lane = workload.lane_of(command, SESSIONS)
            frames.append((identities[lane], encoders[lane].submit(_encode(command), created_at_ns)))
        batches = [frames[at : at + BATCH] for at in range(0, len(frames), BATCH)]
        engine.out.sent.clear()
        durations_ns = _timed(engine, batches)
        engine.writer.close()
        bodies = engine.out.sent
        answers = [answer for body in bodies if isinstance(answer := engine_decoder.decode(body), Outcomes)]
        return Worked(durations_ns, batches, _records(engine.journal), answers, bodies)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _timed(engine: InProcess, batches: list[list[Frame]]) -> list[int]:
    """Return how long each batch took, in ns."""
    gc.collect()
    gc.freeze()
    gc.disable()
    turn = engine.turn
    durations_ns: list[int] = []
    for batch in batches:
        began_ns = monotonic_ns()
        turn(batch)
        durations_ns.append(monotonic_ns() - began_ns)
    gc.enable()
    gc.unfreeze()
    return durations_ns


def _records(journal: Path) -> list[Record]:
    found = [record_decoder.decode(data) for batch in read_batches(journal) for _, _, data in batch.records]
    return [record for record in found if isinstance(record, Ordered | CancelRequested)]


def _repeat(worked: Worked) -> int:
    """Decode what the engine decoded and encode what it encoded; return how long that took, in ns."""
    gc.collect()
    gc.disable()  # as the engine's own run: what the engine left in memory must not be looked through here
    decode, decode_command, encode = sidecar_decoder.decode, command_decoder.decode, _encode
    encode_record, buffer = record_encoder.encode_into, bytearray()
    began_ns = monotonic_ns()
    for batch in worked.batches:
        for message in [decode(body) for _, body in batch]:
            assert type(message) is Submit
            for item in message.items:
                decode_command(item.command)
    for record in worked.records:
        encode_record(record, buffer)
    bodies = [encode(answer) for answer in worked.answers]
    duration_ns = monotonic_ns() - began_ns
    gc.enable()
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


def _fail(text: str) -> None:
    raise AssertionError(text)
