"""What a gateway remembers: the epoch it serves, what it received, the reports the engine does not hold yet.

Rule: ``apply`` is the only writer, live and on a start alike, so the log alone says what the gateway knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Raw

from protocol.venue import Commands, EngineVenueMessage, VenueCommand, engine_venue_decoder, report_decoder
from venues.core.errors import LogDamagedError
from venues.core.log import (
    Batch,
    Checkpoint,
    EpochTaken,
    KillChanged,
    LogRecord,
    LogWriter,
    TradeChanged,
    read_newest,
)
from venues.core.venue import Venue

NO_INSTANCE: Final = bytes(16)


class GatewayState:
    """Everything but the venue's own state.

    Attributes:
        kept: Reports above ``reports_durable`` by number, each one msgpack ``Report``. A dict: both dropping old
            ones and finding those not yet sent cost what they are, however many wait.
    """

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.shard = 0
        self.epoch = 0
        self.instance = NO_INSTANCE
        self.received_seq = 0
        self.report_seq = 0
        self.reports_durable = 0
        self.is_killed = False
        self.kept: dict[int, Raw] = {}

    def apply(self, record: LogRecord) -> None:
        """Change the state as one record says."""
        if type(record) is Batch:
            self.received_seq = record.received_seq
            self._keep(record.reports)
            self.forget(record.reports_durable)
        elif type(record) is EpochTaken:
            self.shard, self.epoch, self.instance = record.shard, record.epoch, record.instance
        elif type(record) is KillChanged:
            self.is_killed = record.is_killed
            self._keep(record.reports)
        elif type(record) is TradeChanged:
            self._keep(record.reports)
        else:
            assert type(record) is Checkpoint
            self.shard, self.epoch, self.instance = record.shard, record.epoch, record.instance
            self.received_seq = record.received_seq
            self.report_seq = record.report_seq
            self.reports_durable = record.reports_durable
            self.is_killed = record.is_killed
            self.kept = dict(enumerate(record.reports, record.reports_durable + 1))

    def forget(self, report_seq: int) -> None:
        """Drop reports that the engine's journal holds. Told again by the engine after a crash, so not synced."""
        for seq in range(self.reports_durable + 1, report_seq + 1):
            del self.kept[seq]
        self.reports_durable = max(report_seq, self.reports_durable)

    def reports_after(self, report_seq: int, most: int) -> list[Raw]:
        """Return up to ``most`` kept reports above ``report_seq``."""
        first = max(report_seq, self.reports_durable) + 1
        kept = self.kept
        return [kept[seq] for seq in range(first, min(first + most, self.report_seq + 1))]

    def checkpoint(self, venue: Venue, now_ns: int, *, is_start: bool) -> Checkpoint:
        """Return what a new segment begins with."""
        kept = self.reports_after(self.reports_durable, len(self.kept))
        return Checkpoint(
            self.venue, is_start, now_ns, self.shard, self.epoch, self.instance, self.received_seq, self.report_seq,
            self.reports_durable, self.is_killed, kept, venue.state(),
        )  # fmt: skip

    def _keep(self, reports: list[Raw]) -> None:
        self.kept.update(enumerate(reports, self.report_seq + 1))
        self.report_seq += len(reports)


def recover(
    folder: Path, name: str, venue: Venue, now_ns: int, *, segment_bytes: int, segments_kept: int
) -> tuple[GatewayState, LogWriter]:
    """Rebuild state and venue from the log, and open a new segment whose checkpoint is durable.

    Raises:
        LogDamagedError: If the log does not add up; nothing was changed then but a torn end cut off.
    """
    records, segment_no, frame_no = read_newest(folder)
    state = GatewayState(name)
    for record in records:
        received_before = state.received_seq
        state.apply(record)
        if isinstance(record, Checkpoint):
            if record.venue != name:
                raise LogDamagedError(str(folder), 0, f"the log of venue {name}", f"that of {record.venue}")
            venue.restore(record.state, record.report_seq, [report_decoder.decode(raw) for raw in record.reports])
        elif isinstance(record, Batch):
            commands = new_commands(record.messages, received_before, record.received_seq)
            venue.replay(commands, [report_decoder.decode(raw) for raw in record.reports], record.note)
        elif isinstance(record, KillChanged | TradeChanged):
            venue.replay((), [report_decoder.decode(raw) for raw in record.reports], record.note)
    venue.set_killed(is_killed=state.is_killed)
    log = LogWriter(
        folder, segment_bytes=segment_bytes, segments_kept=segments_kept, segment_no=segment_no, frame_no=frame_no
    )
    log.start_segment(state.checkpoint(venue, now_ns, is_start=True))
    return state, log


def new_commands(messages: list[bytes], received_before: int, received_seq: int) -> list[VenueCommand]:
    """Return the commands of logged messages that were new when they came: contiguous after ``received_before``."""
    commands: list[VenueCommand] = []
    expected = received_before + 1
    for body in messages:
        message: EngineVenueMessage = engine_venue_decoder.decode(body)
        assert isinstance(message, Commands)
        for command in message.items:
            if command.venue_seq == expected <= received_seq:
                commands.append(command)
                expected += 1
    return commands
