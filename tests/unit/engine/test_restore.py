"""Recovery from snapshots: the same state, whichever snapshot it begins at; and none that is not of this journal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.errors import JournalDamagedError, JournalGapError, SnapshotForeignError
from journal.format import segment_path
from journal.holders import Holder
from journal.recovery import look_at_tail
from journal.repair import accept_cut, cut_of
from journal.snapshots import SnapshotReader, snapshots
from protocol.records import Clocked
from tests.golden.test_golden_journals import RELEASES
from tests.golden.write import HERE, SIZES, story
from tests.unit.engine.desk import Desk
from tests.unit.engine.journaled import KEYS_MAX, follow, snapshot, start, write_journal


@pytest.fixture(autouse=True, scope="module")
def no_syncs() -> Iterator[None]:
    """Nothing here loses power: syncs only cost time."""
    with patch("os.fdatasync"), patch("os.fsync"):
        yield


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a story in which one of everything happened, in several segments."""
    folder = tmp_path / "journal"
    write_journal(folder, story().records)
    return folder


def alter(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 7), data=st.data())
def test_every_snapshot_leads_to_the_same_state(
    tmp_path_factory: pytest.TempPathFactory, batch: int, data: st.DataObject
) -> None:
    """Wherever in the journal it was made, and wherever the engine died behind it."""
    folder = tmp_path_factory.mktemp("j")
    desk = story()
    died_at = data.draw(st.integers(1, desk.seq))
    write_journal(folder, desk.records[:died_at], batch=batch)
    without, _, whole = start(folder)
    made = snapshot(folder, upto=data.draw(st.integers(1, died_at)))
    shutil.rmtree(folder / "holders")

    found, restored, recovered = start(folder)

    assert found == without
    assert restored.seq == made
    assert recovered.records == died_at - made
    assert recovered._replace(records=0) == whole._replace(records=0)


@pytest.mark.parametrize("release", RELEASES)
def test_a_releases_journal_and_a_snapshot_come_to_its_state(tmp_path: Path, release: str) -> None:
    """A golden journal replays to its hash from a snapshot at every batch of it."""
    _, expected = (HERE / release / "expected").read_text().split()
    for upto in range(1, story().seq + 1):
        folder = tmp_path / str(upto)
        shutil.copytree(HERE / release, folder, ignore=shutil.ignore_patterns("expected"))
        start(folder, sizes=SIZES)
        snapshot(folder, upto=upto)
        assert start(folder, sizes=SIZES)[0] == expected


def test_a_damaged_newest_is_passed_over_by_name(journal: Path) -> None:
    """The one before it does, and the warning says which file is damaged."""
    without, _, _ = start(journal)
    snapshot(journal, upto=6)
    snapshot(journal)
    newest = snapshots(journal)[0]
    alter(newest)

    found, restored, recovered = start(journal)

    assert found == without
    assert restored.seq == 6
    assert recovered.records == story().seq - 6
    assert len(restored.warnings) == 1
    assert newest.name in restored.warnings[0]


def test_without_a_whole_one_all_of_the_journal_is_read(journal: Path) -> None:
    """Snapshots only save time."""
    without, _, _ = start(journal)
    for upto in (6, 0):
        snapshot(journal, upto=upto)
    for path in snapshots(journal):
        alter(path)
    found, restored, recovered = start(journal)
    assert (found, restored.seq, recovered.records) == (without, 0, story().seq)
    assert len(restored.warnings) == 2


def test_a_snapshot_ahead_of_the_journal_is_damage(tmp_path: Path, journal: Path) -> None:
    """The journal lost what the snapshot holds: the start stops and changes nothing (DESIGN 6.2)."""
    made = snapshot(journal)
    shorter = tmp_path / "shorter"
    write_journal(shorter, story().records[: made - 4])
    shutil.copytree(journal / "snapshots", shorter / "snapshots")
    with pytest.raises(JournalDamagedError, match=f"holds record {made}"):
        start(shorter)
    alter(snapshots(shorter)[0])  # its name still says how far it reached
    with pytest.raises(JournalDamagedError, match=f"has seen record {made}"):
        start(shorter)


def test_what_an_operator_accepts_to_lose_goes_from_the_snapshots_too(tmp_path: Path, journal: Path) -> None:
    """After an accepted cut the snapshots behind it are gone, and the start begins at the one before."""
    snapshot(journal, upto=6)
    shorter = tmp_path / "shorter"
    write_journal(shorter, story().records[:9])
    without, _, _ = start(shorter)
    snapshot(journal)
    shutil.copytree(journal / "snapshots", shorter / "snapshots")
    tail = look_at_tail(shorter)
    assert [held.name for held in tail.past] == [f"snapshot {snapshots(journal)[0].name}"]
    accept_cut(shorter, SIZES, tail, cut_of(tail, "test", "op", 1))
    found, restored, _ = start(shorter)
    assert (found, restored.seq) == (without, 6)


def test_a_missing_segment_behind_a_snapshot_is_named(journal: Path) -> None:
    """Also where nothing of the journal is left but snapshots."""
    made = snapshot(journal)
    for path in journal.glob("*.wal"):
        path.unlink()
    with pytest.raises(JournalGapError, match=f"holds record {made}"):
        start(journal)


def test_segments_before_the_snapshots_are_not_needed(tmp_path: Path) -> None:
    """Retention may remove them."""
    folder = tmp_path / "journal"
    desk = Desk(keys_max=KEYS_MAX)
    for n in range(200):
        desk.submit(desk.order(f"o{n}", price=1_000))
    write_journal(folder, desk.records)
    without, _, _ = start(folder)
    assert segment_path(folder, 2).exists()
    snapshot(folder)
    segment_path(folder, 1).unlink()
    found, restored, _ = start(folder)
    assert (found, restored.seq) == (without, desk.seq)


def test_a_snapshot_of_another_journal_is_refused(tmp_path: Path, journal: Path) -> None:
    """Another secret: another journal, however alike the rest is."""
    other = tmp_path / "other"
    write_journal(other, Desk(secret=b"o" * 32).records)
    snapshot(other)
    shutil.copytree(other / "snapshots", journal / "snapshots")
    with pytest.raises(SnapshotForeignError, match="another key"):
        start(journal)


def test_a_snapshot_of_another_history_is_refused(tmp_path: Path, journal: Path) -> None:
    """The same secret, other records: the chain at its place says so."""
    other = tmp_path / "other"
    records = story().records
    records[10] = (*records[10][:3], Clocked(7))
    write_journal(other, records[:11])
    snapshot(other)
    shutil.copytree(other / "snapshots", journal / "snapshots")
    with pytest.raises(JournalDamagedError, match="another history"):
        start(journal)


def test_a_snapshot_of_another_shard_is_refused(journal: Path) -> None:
    """Accounts of another shard are nothing of this one's."""
    from engine.restore import restore

    snapshot(journal)
    with pytest.raises(SnapshotForeignError, match="shard 0, expected 3"):
        restore(journal, KEYS_MAX, 3)


def test_a_holder_of_another_history_at_the_snapshot_is_damage(journal: Path) -> None:
    """What a holder has seen is compared with the snapshot too, where both stand at one place."""
    made = snapshot(journal)
    Holder(journal, "books").advance(made, 12345)
    with pytest.raises(JournalDamagedError, match="books"):
        start(journal)


def test_the_follower_held_what_a_snapshot_holds(journal: Path) -> None:
    """The holder's file is there before the snapshot is: nobody cuts the journal below it."""
    made = snapshot(journal)
    held = Holder(journal, "follower").read()
    assert held.seq == made
    assert held.crc == SnapshotReader(snapshots(journal)[0]).head.crc


def test_a_replica_goes_on_from_its_snapshot(journal: Path) -> None:
    """A restarted replica applies only what is behind its snapshot."""
    made = snapshot(journal, upto=9)
    replica = follow(journal)
    assert replica.decided + replica.unchecked <= story().seq - made
    assert replica.core.state.dedup.keys == story().state.dedup.keys
    replica.close()
