"""The follower's loop: gaps refilled, floods bounded, snapshots made and pruned, a difference found and named."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine.follower import REQUESTS_MAX, RETRY_AFTER_MS, Follower, FollowerSettings
from engine.snapshot import hash_layout
from engine.state import state_hash
from journal.disk import Disk
from journal.format import segments
from journal.holders import Holder
from journal.reader import read_batches
from journal.snapshots import snapshot_seq, snapshots
from protocol.channels import Context, Dealer, Publisher, Waiter
from protocol.errors import HistoryGoneError
from protocol.frames import read_header
from protocol.history import Frames, Gone, HistoryAnswer, Later, Malformed, Since, answer_decoder, encode_history
from protocol.records import StateChecked
from runtime.event_stream import EventStream
from runtime.logs import configure
from runtime.metrics import Board
from tests.unit.engine.desk import NOW, Desk
from tests.unit.engine.journaled import SIZES, snapshot, write_journal
from tests.unit.journal.damage import flip
from tests.unit.journal.samples import open_journal

KEYS_MAX = 2_000
ORDERS = 300


class Stage:
    """A journal that is written, its engine's PUB socket, and one follower that turns when it is told to."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.context = Context()
        self.desk = Desk(keys_max=KEYS_MAX)
        self.stop = SimpleNamespace(fd=-1, is_set=False)
        self.publisher = Publisher(self.context, f"ipc://{folder}/events", 1_000)
        self.settings = FollowerSettings(
            journal=str(self.journal), dedup_keys_max=KEYS_MAX, events_endpoint=f"ipc://{folder}/events",
            history_endpoint=f"ipc://{folder}/history", pace_ms=1, **settings,
        )  # fmt: skip
        self.follower: Follower | None = None
        self.dealers: list[Dealer] = []
        self.log = configure("follower")

    def write(self, orders: int = ORDERS) -> None:
        """Write a journal of so many orders."""
        for n in range(orders):
            self.desk.submit(self.desk.order(f"o{n}"))
        write_journal(self.journal, self.desk.records)

    def follow(self) -> Follower:
        """Start the follower, without a turn."""
        read, _ = os.pipe()
        self.stop.fd = read
        self.board = Board()
        self.follower = Follower(self.settings, self.context, self.stop, self.log, self.board)  # type: ignore[arg-type]
        return self.follower

    def caught_up(self) -> Follower:
        """Return the follower after it has applied everything."""
        follower = self.follower or self.follow()
        while follower.replica.lag_seq:
            follower.turn(0)
        return follower

    def publish(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.publisher.send(frame)

    def ask(self, dealer: Dealer, body: bytes, answers: int = 1) -> list[HistoryAnswer]:
        """Return what the follower answers to what was already sent and to this."""
        waiter = Waiter(dealer)
        while not dealer.send(body):
            waiter.wait(1)
        return self.answers(dealer, answers)

    def answers(self, dealer: Dealer, count: int) -> list[HistoryAnswer]:
        assert self.follower is not None
        found: list[HistoryAnswer] = []
        for _ in range(2_000):
            self.follower.turn(1)
            found += [answer_decoder.decode(body) for body in dealer.receive(1_000)]
            if len(found) >= count:
                return found
        raise AssertionError(f"expected {count} answers, were {len(found)}")

    def read(self, reader: EventStream, count: int, publish: Iterable[list[bytes]] = ()) -> list[bytes]:
        """Return so many frames that a reader gets, while this publishes and the follower turns."""
        assert self.follower is not None
        got: list[bytes] = []
        left = iter(publish)
        for _ in range(4_000):
            self.publish(next(left, []))
            self.follower.turn(0)
            got += reader.poll(1)
            if len(got) >= count:
                return got
        raise AssertionError(f"expected {count} frames, were {len(got)}")

    def dealer(self) -> Dealer:
        self.dealers.append(Dealer(self.context, self.settings.history_endpoint, 2_000))
        return self.dealers[-1]

    def close(self) -> None:
        for dealer in self.dealers:
            dealer.close()
        if self.follower is not None:
            self.follower.close()
        self.context.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage without a follower yet."""
    made = Stage(tmp_path)
    yield made
    made.close()


def frames_of(folder: Path) -> list[bytes]:
    """Every frame of a journal, as it was published."""
    from tests.unit.journal.damage import frame_offsets

    found: list[bytes] = []
    for path in segments(folder):
        data, offsets = path.read_bytes(), frame_offsets(path)
        found += [data[a:b] for a, b in zip(offsets, offsets[1:], strict=False)]  # noqa: RUF007
    return found


def last_seq(folder: Path) -> int:
    *_, last = read_batches(folder)
    return last.last_seq


# History


def test_a_reader_that_missed_frames_ends_with_all_of_them(stage: Stage) -> None:
    """Two of three published frames are dropped, and all of those before it listened: it gets each once, in order."""
    stage.write()
    stage.caught_up()
    frames = frames_of(stage.journal)
    reader = EventStream(stage.context, stage.settings.events_endpoint, stage.settings.history_endpoint)
    kept = [[frame] if n % 3 == 0 else [] for n, frame in enumerate(frames)]
    got = stage.read(reader, len(frames), kept)
    assert got == frames
    assert reader.refilled >= len(frames) // 2
    assert reader.seq == last_seq(stage.journal)
    reader.close()


def test_what_is_no_longer_kept_is_said_with_the_first_that_is(stage: Stage) -> None:
    """A reader below retention learns from where it can go on, and its client raises that."""
    stage.write()
    stage.caught_up()
    header = read_header(segments(stage.journal)[1].read_bytes(), 64)
    segments(stage.journal)[0].unlink()
    dealer = stage.dealer()
    (answer,) = stage.ask(dealer, encode_history(Since(0)))
    assert header is not None
    assert answer == Gone(0, header.first_seq)
    (frames,) = stage.ask(dealer, encode_history(Since(header.first_seq - 1)))
    assert isinstance(frames, Frames)
    assert frames.frames
    reader = EventStream(stage.context, stage.settings.events_endpoint, stage.settings.history_endpoint)
    with pytest.raises(HistoryGoneError) as gone:
        stage.read(reader, 1)
    assert gone.value.oldest_seq == header.first_seq
    reader.close()


def test_nothing_behind_the_replica_is_served_and_the_holder_is_first(stage: Stage) -> None:
    """What is served was applied, and no start may cut it away afterwards."""
    stage.write()
    stage.caught_up()
    assert Holder(stage.journal, "follower").read().seq == 0
    dealer = stage.dealer()
    (answer,) = stage.ask(dealer, encode_history(Since(0, 1)))
    assert isinstance(answer, Frames)
    assert answer.last_seq == last_seq(stage.journal)
    assert Holder(stage.journal, "follower").read().seq == answer.last_seq
    (answer,) = stage.ask(dealer, encode_history(Since(answer.last_seq)))
    assert answer == Frames(last_seq(stage.journal), [], last_seq(stage.journal))


def test_a_flood_of_requests_does_not_slow_following(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, each turn applies as much of the journal as without them, and serves a bounded part."""
    stage.write(ORDERS)
    step = 2_000
    follower = stage.follow()
    follower.replica.step(step)
    dealer = stage.dealer()
    waiter = Waiter(dealer)
    sent = 0
    while sent < 1_000:
        sent += dealer.send(encode_history(Since(0)))
        waiter.wait(0)
    steps_of = follower.replica.step
    monkeypatch.setattr(follower.replica, "step", lambda **given: steps_of(step, **given))
    turns = 0
    while follower.replica.lag_seq:
        before, served = follower.replica.seq, follower.meters.served + follower.meters.later
        follower.turn(0)
        turns += 1
        assert follower.replica.seq > before
        assert follower.meters.served + follower.meters.later - served <= REQUESTS_MAX
    assert follower.replica.seq == last_seq(stage.journal)
    assert turns > 10
    answers = stage.answers(dealer, 1_000)
    served = [a for a in answers if isinstance(a, Frames)]
    assert len(served) <= follower.meters.served
    assert all(a == Later(0, RETRY_AFTER_MS) for a in answers if not isinstance(a, Frames))
    assert len(answers) - len(served) > 900


def test_a_peer_that_asks_too_much_leaves_room_for_others(stage: Stage) -> None:
    """Each peer has one answer a turn: who asks once is not told to come later because of who asks fifty times."""
    stage.write(10)
    follower = stage.caught_up()
    greedy, modest = stage.dealer(), stage.dealer()
    waiter = Waiter(greedy)
    sent = 0
    while sent < 50:
        sent += greedy.send(encode_history(Since(0)))
        waiter.wait(1)
    (answer,) = stage.ask(modest, encode_history(Since(0)))
    assert isinstance(answer, Frames)
    assert follower.meters.later > 0


NO_REQUESTS = (b"", b"\xc1", *map(encode_history, ([1, -1], [7, 0], "x")), b"\x91" * 3_000, b"\x92\xa1\xff\x01")


@pytest.mark.parametrize("body", NO_REQUESTS)
def test_what_is_no_request_is_answered_with_why(stage: Stage, body: bytes) -> None:
    """A malformed message is counted and answered, never a crash."""
    stage.write(5)
    follower = stage.caught_up()
    (answer,) = stage.ask(stage.dealer(), body)
    assert isinstance(answer, Malformed)
    assert follower.meters.malformed == 1


def test_a_damaged_old_segment_is_said_and_the_rest_is_served(stage: Stage) -> None:
    """Who asks for what can't be read is told so; following and other answers go on, and it is not ready."""
    stage.write()
    newest = stage.caught_up().replica.seq
    flip(segments(stage.journal)[0], 3)
    dealer = stage.dealer()
    (answer,) = stage.ask(dealer, encode_history(Since(0)))
    assert isinstance(answer, Frames)
    last = read_header(answer.frames[-1])
    assert last is not None
    (answer,) = stage.ask(dealer, encode_history(Since(last.first_seq + last.records - 1)))
    assert isinstance(answer, Malformed)
    assert "JOURNAL_DAMAGED" in answer.text
    assert any("history can't be read" in reason for reason in stage.board.not_ready)
    (answer,) = stage.ask(dealer, encode_history(Since(newest - 1)))
    assert isinstance(answer, Frames)
    assert answer.frames


# Snapshots


def test_snapshots_are_made_by_records_and_the_oldest_go(tmp_path: Path) -> None:
    """One every so many records; two are kept."""
    stage = Stage(tmp_path, snapshot_records=60, snapshots_kept=2)
    stage.follow()
    assert stage.follower is not None
    writer = open_journal(stage.journal, SIZES).writer
    made: set[int] = set()
    for n in range(ORDERS):
        stage.desk.submit(stage.desk.order(f"o{n}"))
        while writer.next_seq <= stage.desk.seq:
            writer.append(stage.desk.records[writer.next_seq - 1][3])
        writer.commit(NOW)
        stage.follower._rest_until_ns = 0
        stage.follower.turn(0)
        made |= {snapshot_seq(path) for path in snapshots(stage.journal)}
        assert len(snapshots(stage.journal)) <= 3
    while stage.follower._writing is not None:
        stage.follower.turn(0)
    made |= {snapshot_seq(path) for path in snapshots(stage.journal)}
    assert len(made) >= 3
    assert [snapshot_seq(p) for p in snapshots(stage.journal)] == sorted(made, reverse=True)[:2]
    assert stage.follower.meters.snapshots == len(made)
    stage.close()


def test_requests_are_answered_while_a_snapshot_is_written(tmp_path: Path) -> None:
    """Between two of its blocks; what is served is what the snapshot stands behind."""
    stage = Stage(tmp_path, snapshot_records=100)
    stage.write()
    follower = stage.caught_up()
    while follower._writing is None:
        follower.turn(0)
    follower.turn(0)
    dealer = stage.dealer()
    waiter = Waiter(dealer)
    follower_turn, follower.turn = follower.turn, lambda _: None  # type: ignore[method-assign]
    while not dealer.send(encode_history(Since(0))):
        waiter.wait(1)
    waiter.wait(20)
    follower.turn = follower_turn  # type: ignore[method-assign]
    answers: list[HistoryAnswer] = []
    while follower._writing is not None:
        follower.turn(0)
        answers += [answer_decoder.decode(body) for body in dealer.receive(10)]
    answers += stage.answers(dealer, 1) if not answers else []
    assert isinstance(answers[0], Frames)
    assert len(snapshots(stage.journal)) == 1
    stage.close()


def test_a_disk_that_takes_no_snapshot_makes_it_not_ready_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is said, following goes on, and the next snapshot that succeeds lifts it."""
    stage = Stage(tmp_path, snapshot_records=100)
    stage.write()
    stage.caught_up()
    follower = stage.follower
    assert follower is not None

    def full(self: Disk, fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Disk, "pwrite", full)
        for _ in range(50):
            follower.turn(0)
    assert any("no space left" in reason for reason in stage.board.not_ready)
    assert snapshots(stage.journal) == []
    follower._rest_until_ns = 0
    while not snapshots(stage.journal):
        follower.turn(0)
    follower.turn(0)
    assert stage.board.not_ready == ()
    stage.close()


# Differences


def test_a_replica_whose_state_parted_is_found_at_the_first_decision(tmp_path: Path) -> None:
    """A position that is not the engine's: named where the first decision differs; no snapshot, not ready."""
    stage = Stage(tmp_path, snapshot_records=100)
    stage.write()
    follower = stage.follow()
    while follower.replica.seq < 50:
        follower.replica.step(1)
    at = follower.replica.seq
    follower.replica.core.state.accounts["a1"].open_count += 10**6
    follower.replica.core.state.book.ledger("a1", "XY").position += 7
    stage.caught_up()
    parted = follower.replica.parted
    assert parted is not None
    assert parted.seq == at + 1
    for _ in range(50):
        follower.turn(0)
    assert snapshots(stage.journal) == []
    assert any(f"differ at record {at + 1}" in reason for reason in stage.board.not_ready)
    (answer,) = stage.ask(stage.dealer(), encode_history(Since(0)))
    assert isinstance(answer, Frames)  # what is in the journal is as true as ever
    stage.close()


def test_a_difference_that_no_decision_shows_is_found_by_the_engines_hash(tmp_path: Path) -> None:
    """Cash of an account decides nothing today; the journaled hash of the whole state covers it."""
    stage = Stage(tmp_path, snapshot_records=100)
    first = state_hash(stage.desk.state)
    stage.desk.apply(StateChecked(first, hash_layout(stage.desk.core), "test"))
    stage.write(20)
    stage.journal.rename(tmp_path / "first")
    stage.desk.apply(StateChecked(state_hash(stage.desk.state), hash_layout(stage.desk.core), "test"))
    write_journal(stage.journal, stage.desk.records)
    follower = stage.follow()
    while follower.replica.seq < 15:
        follower.replica.step(1)
    follower.replica.core.state.accounts["a2"].cash_e9["USDT"] = 1
    stage.caught_up()
    parted = follower.replica.parted
    assert parted is not None
    assert parted.seq == stage.desk.seq
    assert f"the same up to record {4}" in parted.what
    assert follower.replica.hashes == 1
    stage.close()


def test_a_hash_of_other_fields_is_not_compared(tmp_path: Path) -> None:
    """A release that hashes other fields says nothing about this one."""
    stage = Stage(tmp_path)
    stage.desk.apply(StateChecked("0" * 32, "another", "test"))
    stage.write(5)
    follower = stage.caught_up()
    assert follower.replica.parted is None
    assert follower.replica.hashes == 0
    stage.close()


def test_a_hash_of_a_table_of_another_size_is_not_compared(tmp_path: Path) -> None:
    """An operator may change dedup_keys_max: hashes from before say nothing about a table of the new size."""
    stage = Stage(tmp_path)
    stage.write(6)  # whole batches: the same frames in both journals
    snapshot(stage.journal, KEYS_MAX)
    stage.journal.rename(tmp_path / "first")
    stage.desk.apply(StateChecked(stage.desk.hash(), hash_layout(stage.desk.core), "stop"))
    write_journal(stage.journal, stage.desk.records)
    shutil.copytree(tmp_path / "first" / "snapshots", stage.journal / "snapshots")
    stage.settings = msgspec.structs.replace(stage.settings, dedup_keys_max=3 * KEYS_MAX)
    follower = stage.caught_up()
    assert follower.replica.parted is None
    assert follower.replica.hashes == 0
    assert hash_layout(follower.replica.core) == ""
    stage.close()


def test_every_decision_of_a_whole_journal_is_the_same_again(stage: Stage) -> None:
    """A replica of the engine's own code finds nothing, and says how much it compared."""
    stage.write()
    follower = stage.caught_up()
    assert follower.replica.parted is None
    assert follower.replica.decided == ORDERS
    assert follower.replica.core.state.last_ns == NOW


def test_what_only_repeats_records_keeps_nothing_to_send(stage: Stage) -> None:
    """A follower sends no commands: each order of the past would stay in its memory, waiting to be sent."""
    stage.write()
    venues = stage.caught_up().replica.core.state.venues
    assert [(v.last_seq, len(v.fresh)) for v in venues.values()] == [(ORDERS, 0)]
