"""The gateway's log: whole frames come back, a torn end is cut, anything else stops the start."""

from __future__ import annotations

from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from tests.simulation.disk import LogOs, SimulatedDisk
from tests.simulation.memory import CrashError
from tests.unit.venues.stage import XY, Stage, new
from venues.core.errors import LogDamagedError, LogInstrumentError, LogInUseError
from venues.core.log import Batch, Checkpoint, LogWriter, SegmentReader, read_log, read_newest, segments
from venues.core.state import recover
from venues.sandbox import SandboxVenue


def writer(folder: Path, **sizes: int) -> LogWriter:
    options = {"segment_bytes": 1 << 20, "segments_kept": 4, "segment_no": 0, "frame_no": 0} | sizes
    log = LogWriter(folder, **options)
    log.start_segment(checkpoint())
    return log


def checkpoint() -> Checkpoint:
    return Checkpoint("sandbox", True, 1, 0, 0, bytes(16), 0, 0, 0, False, [], b"")


def batch(received_seq: int) -> Batch:
    return Batch(received_seq, 0, [], bytes(100), [])


def filled(folder: Path, count: int) -> Path:
    log = writer(folder)
    for n in range(1, count + 1):
        log.append(batch(n))
        log.sync()
    log.close()
    (path,) = segments(folder)
    return path


def ends(path: Path) -> list[int]:
    """Offsets of the frames."""
    return [offset for offset, _ in SegmentReader(path, is_last=True).records()]


def test_what_was_synced_comes_back(tmp_path: Path) -> None:
    """Every record in order, and space ahead of it is zeros."""
    path = filled(tmp_path, 3)

    records, number, frame_no = read_newest(tmp_path)

    assert records == [checkpoint(), batch(1), batch(2), batch(3)]
    assert (number, frame_no) == (1, 4)
    assert path.stat().st_size == 1 << 20


def test_what_is_read_back_is_durable_before_it_is_used(tmp_path: Path) -> None:
    """Killed between write and sync, read by the next start, then without power: nothing that built on it is alone."""
    disk = SimulatedDisk(Random(1))

    def hit(name: str) -> None:
        if is_armed:
            raise CrashError(name)

    is_armed = False
    with patch("venues.core.log.os", LogOs(disk, hit)):
        log = writer(tmp_path)
        log.append(batch(1))
        is_armed = True
        with pytest.raises(CrashError):
            log.sync()
        is_armed = False
        records, number, frame_no = read_newest(tmp_path)
        assert records == [checkpoint(), batch(1)]
        writer(tmp_path, segment_no=number, frame_no=frame_no).close()
        disk.cut_power()
        assert [record for _, _, record in read_log(tmp_path)] == [checkpoint(), batch(1), checkpoint()]


def test_a_torn_end_is_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever part of the last frame reached the disk, the records before it survive and it is gone."""
    path = filled(tmp_path, 2)
    data = path.read_bytes()
    start = ends(path)[-1]
    size = len(data.rstrip(b"\0")) - start
    for kept in range(size):
        path.write_bytes(data[: start + kept] + bytes(len(data) - start - kept))

        records, _, _ = read_newest(tmp_path)

        assert records == [checkpoint(), batch(1)], kept


def test_damage_before_a_whole_frame_stops_the_start(tmp_path: Path) -> None:
    """A flipped byte with a whole frame behind it is no crash; file and offset are named, nothing is cut."""
    path = filled(tmp_path, 3)
    data = bytearray(path.read_bytes())
    place = ends(path)[1]
    data[place + 40] ^= 1
    path.write_bytes(data)

    with pytest.raises(LogDamagedError) as caught:
        read_newest(tmp_path)

    assert (caught.value.path, caught.value.offset) == (str(path), place)
    assert path.read_bytes() == data


def test_a_missing_frame_stops_the_start(tmp_path: Path) -> None:
    """Frames are numbered: one cut out of the middle is seen."""
    path = filled(tmp_path, 3)
    data = path.read_bytes()
    first, second, third, _ = ends(path)
    path.write_bytes(data[:second] + data[third:])

    with pytest.raises(LogDamagedError) as caught:
        read_newest(tmp_path)

    assert caught.value.offset == second
    assert first == 0


def test_a_segment_without_its_checkpoint_was_never_relied_on(tmp_path: Path) -> None:
    """A crash while a segment is made leaves the one before in charge."""
    filled(tmp_path, 2)
    (tmp_path / "gateway-000000002.log").write_bytes(bytes(500))

    records, number, _ = read_newest(tmp_path)

    assert len(records) == 3
    assert number == 1
    assert len(segments(tmp_path)) == 1


def test_old_segments_leave_and_the_rest_reads_as_one(tmp_path: Path) -> None:
    """Disk is bounded by ``segments_kept``; frame numbers run on across segments."""
    log = writer(tmp_path, segment_bytes=300, segments_kept=3)
    for n in range(1, 20):
        log.append(batch(n))
        log.sync()
        if log.is_full:
            log.start_segment(checkpoint())
    log.close()

    assert len(segments(tmp_path)) == 3
    numbers = [r.received_seq for _, _, r in read_log(tmp_path) if isinstance(r, Batch)]
    assert numbers == list(range(numbers[0], 20))


def test_two_gateways_never_share_a_folder(stage: Stage) -> None:
    """The second one is told which folder is taken."""
    stage.start()
    with pytest.raises(LogInUseError) as caught:
        stage.start()
    assert caught.value.path == str(stage.folder)


def test_another_venues_log_is_refused(stage: Stage) -> None:
    """A folder belongs to one venue."""
    stage.start()
    stage.crash()
    with pytest.raises(LogDamagedError):
        stage.start(venue="other")


def test_an_open_order_needs_its_instrument(stage: Stage) -> None:
    """An instrument taken out of the configuration with an order resting in it stops the start."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))
    stage.crash()
    other = type(XY)(*[getattr(XY, f) if f != "instrument" else "ZZ" for f in XY.__struct_fields__])

    with pytest.raises(LogInstrumentError) as caught:
        recover(
            stage.folder, "sandbox", SandboxVenue([other]), 1, segment_bytes=1 << 20, segments_kept=2
        )  # fmt: skip

    assert (caught.value.order_id, caught.value.instrument) == ("P-1", "XY")


def test_a_report_survives_the_log_byte_for_byte(stage: Stage) -> None:
    """What was logged is what is sent: reports are kept as encoded."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1", price=101))
    kept = [bytes(raw) for raw in stage.loop.gateway.state.kept.values()]
    stage.crash()
    stage.start()

    assert [bytes(raw) for raw in stage.loop.gateway.state.kept.values()] == kept
    assert len(kept) == 2
