"""The engine without its process: the sessions' code over the real core and the real journal writer, in memory.

No sockets, no syncs, no file behind the journal's writes: what would leave is kept for whoever wants to look at it.
The venue is here too, and answers at once: it acknowledges, then fills what no cancel will hit, so the open set of a
day stays as large as it was and every id is new.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from benchmarks import workload
from benchmarks.stack import Stack
from engine.core import Core
from engine.meters import Meters
from engine.order import OutgoingKind
from engine.parts import Parts
from engine.sidecars import Sidecars
from engine.venue_state import VenueState
from journal.disk import Disk
from journal.format import JournalSettings
from journal.reader import RecordReader
from journal.recovery import recover
from journal.writer import JournalWriter
from market.table import TableReader
from protocol.channels import Router
from protocol.codes import ExecType, Mode, OrderStatus
from protocol.params import encode_params, params_hash
from protocol.records import FORMAT_VERSION, ParamsSet, Reported, Started, VenueChanged
from protocol.session import PROTOCOL_VERSION, Claim, Claimed, EngineMessage, Hello, engine_decoder
from protocol.venue import Report
from runtime.clock import wall_ns
from runtime.metrics import Board

ORDER_ID_KEY: Final = bytes(range(32))

Frame = tuple[bytes, bytes]
_encode = msgspec.msgpack.Encoder().encode


class UnsyncedDisk(Disk):
    """A disk whose sync returns at once."""

    def fdatasync(self, fd: int) -> None:
        """Do nothing."""


class UnwrittenDisk(UnsyncedDisk):
    """A disk that takes every write and keeps none, but for the frames of commits while ``frames`` is a list."""

    def __init__(self) -> None:
        self.frames: list[bytes] | None = None

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Say that it was written."""
        del fd, offset
        if self.frames is not None and isinstance(data, bytes):
            self.frames.append(data)
        return len(data)


class Collector(Router):
    """Keeps what would leave through the socket."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, identity: bytes, body: bytes) -> bool:
        """Keep the message."""
        del identity
        self.sent.append(body)
        return True


class InProcess:
    """The engine's sessions over a core and a journal that does not sync."""

    def __init__(self, folder: Path, commands: int, disk: Disk | None = None) -> None:
        sizes, disk = JournalSettings(), disk or UnsyncedDisk()
        with Stack(folder, commands) as stack:
            settings = stack.engine_settings()
        self.core = Core(settings.dedup_keys_max)
        self.core.state.dedup.use_huge_pages()
        self.journal = folder / "journal"
        self.writer = JournalWriter(
            self.journal, recover(self.journal, None, sizes), sizes, wall_ns, disk
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

    @property
    def venue(self) -> VenueState:
        """The one venue."""
        return self.core.state.venues[workload.VENUE]

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

    def turn(self, frames: list[Frame]) -> None:
        """Do what a turn of the loop does, without its waiting."""
        now_ns = self.now_ns = self.core.state.last_ns = wall_ns()
        self.sidecars.receive(frames, now_ns, None)
        self.writer.commit(now_ns)
        self.sidecars.answer(0)

    def settle(self, answering: AnsweringVenue) -> None:
        """Let the venue answer what the turn numbered, in a batch of its own."""
        answering.answer(self.venue)
        self.writer.commit(self.now_ns)

    def _make_room(self, now_ns: int) -> None:
        if self.writer.full:
            self.writer.commit(now_ns)


class AnsweringVenue:
    """Acknowledges every order and fills or cancels it, in the engine's own process.

    Args:
        resting: How many of the orders rest, from the first on: those that a cancel will hit.
    """

    def __init__(self, engine: InProcess, resting: int) -> None:
        self._engine = engine
        self._resting = resting

    def answer(self, venue: VenueState) -> None:
        """Report on all that was just numbered."""
        for outgoing in venue.fresh:
            order = outgoing.order
            if outgoing.kind is OutgoingKind.CANCEL:
                self._report(venue, ExecType.CANCELED, order.order_id, outgoing.seq, OrderStatus.CANCELED)
                continue
            self._report(venue, ExecType.NEW, order.order_id, outgoing.seq, OrderStatus.NEW)
            if self._resting:
                self._resting -= 1
                continue
            of = order.route.instrument
            filled_e9, price_e9 = order.leaves * of.quantity_step_e9, order.price * of.price_step_e9
            self._report(venue, ExecType.TRADE, order.order_id, 0, OrderStatus.FILLED, filled_e9, price_e9)
        venue.fresh.clear()

    def _report(
        self, venue: VenueState, kind: ExecType, order_id: str, seq: int, status: OrderStatus, filled_e9: int = 0,
        price_e9: int = 0,
    ) -> None:  # fmt: skip
        number = venue.report_seq + 1
        trade_id = f"T{number}" if filled_e9 else ""
        report = Report(number, kind, order_id, f"V{seq}", seq, status, 0, filled_e9, wall_ns(), trade_id, filled_e9,
                        price_e9)  # fmt: skip
        engine = self._engine
        decision = engine.core.reports.decide_report(venue, report)
        engine.writer.append(Reported(venue.name, msgspec.Raw(_encode(report)), decision))
        engine.core.reports.apply_report(venue, report, decision, engine.now_ns)
        if engine.writer.full:
            engine.writer.commit(engine.now_ns)


def _fail(text: str) -> None:
    raise AssertionError(text)
