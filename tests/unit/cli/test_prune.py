"""``wojak journal prune`` on journals an engine could have written: what it finds out, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from books.sqlite import SqliteStore
from books.store import StoreMark
from cli.example import EXAMPLE
from cli.journal_prune import prune
from cli.kept import gather, oldest_key_segment
from cli.options import deployment
from journal.format import segments, split_position
from journal.holders import Holder
from journal.projection import NothingStored, Projection
from journal.retention import Keep
from journal.snapshots import SnapshotReader, snapshots
from protocol.codes import OrderStatus, Side
from protocol.errors import ConfigError
from tests.unit.cli.lived import KEYS_MAX, all_read, live
from tests.unit.engine.desk import Desk


def desk_of(orders: int) -> Desk:
    """A desk with one order that stays open and many that were filled after it."""
    desk = Desk(keys_max=KEYS_MAX)
    desk.accept(desk.order("open", Side.BUY, 2, 99))
    for n in range(orders):
        order = desk.accept(desk.order(f"c{n}"))
        desk.fill(order, 1)
    return desk


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a deployment whose journal is made by the test."""
    path = tmp_path / "wojak.toml"
    path.write_text(EXAMPLE)
    return path


def store_has(config: Path, seq: int, crc: int = 1) -> None:
    """Let the books store say that it has everything up to a record."""
    store = SqliteStore(deployment(config).paths.books)
    store.apply(StoreMark(), Projection(NothingStored()).take(), StoreMark(seq, crc, 1))
    store.close()


def names(config: Path) -> list[str]:
    return [p.name for p in segments(deployment(config).paths.journal)]


def test_without_a_snapshot_nothing_is_removed_and_it_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start needs the whole journal then."""
    folder = deployment(config).paths.journal
    live(folder, desk_of(40).records)
    store_has(config, all_read(folder))
    before = names(config)

    code = prune(config=config)

    said = capsys.readouterr().out
    assert code == 0
    assert len(before) > 3
    assert names(config) == before
    assert "stays: snapshots expected 2, was 0" in said
    assert "nothing was removed: each segment is needed" in said


def test_what_it_knows_is_what_there_is(config: Path) -> None:
    """Segments, readers, store, whole snapshots and the oldest answer are gathered from the files themselves."""
    folder = deployment(config).paths.journal
    lived = live(folder, desk_of(40).records, [30, 60])
    store_has(config, 70)
    Holder(folder, "follower").advance(lived.last_seq, 1)

    found = gather(deployment(config), Keep())

    known = found.known
    heads = [reader.head for reader in map(SnapshotReader, snapshots(folder))]
    assert found.notes == ()
    assert [(p.seq, p.segment) for p in known.snapshots] == [(60, heads[0].segment), (30, heads[1].segment)]
    assert known.books is not None
    assert known.books.seq == 70
    assert [(h.name, h.seq) for h in known.holders] == [("follower", lived.last_seq)]
    assert [s.name for s in known.segments] == names(config)
    assert known.key_segment == 1


def test_a_damaged_snapshot_is_named_and_does_not_count(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One flipped byte in the middle of a snapshot, and there is one less to fall back to."""
    folder = deployment(config).paths.journal
    live(folder, desk_of(40).records, [30, 60])
    newest = snapshots(folder)[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)

    prune(config=config)

    said = capsys.readouterr().out
    assert f"SNAPSHOT_DAMAGED: snapshot {newest}" in said
    assert "snapshots expected 2, was 1" in said


def test_a_snapshot_of_another_journal_does_not_count(config: Path, tmp_path: Path) -> None:
    """Its record and chain are at the end of no batch here."""
    folder, other = deployment(config).paths.journal, tmp_path / "other"
    live(folder, desk_of(40).records, [30])
    live(other, desk_of(41).records[1:], [60])
    foreign = snapshots(other)[0]
    (folder / "snapshots" / foreign.name).write_bytes(foreign.read_bytes())

    found = gather(deployment(config), Keep())

    assert [p.seq for p in found.known.snapshots] == [30]
    assert "is not of this journal" in found.notes[0]


def test_the_oldest_answer_is_that_of_the_open_order(tmp_path: Path) -> None:
    """When the ids of a day have left, the id of an order that is still open still points to where it was answered."""
    folder = tmp_path / "journal"
    desk = desk_of(10)
    later = desk.accept(desk.order("later", Side.BUY, 2, 99))
    for n in range(30):
        desk.fill(desk.accept(desk.order(f"d{n}")), 1)
    lived = live(folder, desk.records, [len(desk.records) - 4])
    state, head = lived.core.state, SnapshotReader(snapshots(folder)[0]).head
    position_of_later = state.dedup.entry(state.orders[later.order_id].slot)[1]
    everything = 1 << 55

    before = oldest_key_segment(state, head)
    first_open = next(o for o in state.orders.values() if o.order_id != later.order_id)
    state.dedup.retire(0, 1, everything)
    with_both = oldest_key_segment(state, head)
    state.dedup.set_state(first_open.slot, OrderStatus.FILLED)
    state.dedup.retire(0, 1, everything)
    with_later = oldest_key_segment(state, head)
    state.dedup.set_state(state.orders[later.order_id].slot, OrderStatus.FILLED)
    state.dedup.retire(0, 1, everything)

    assert split_position(position_of_later)[0] > 1
    assert (before, with_both, with_later) == (1, 1, split_position(position_of_later)[0])
    assert oldest_key_segment(state, head) == head.segment


def test_prune_keeps_at_least_two_snapshots(config: Path) -> None:
    """One snapshot is none to fall back to, whoever asks for it."""
    with pytest.raises(ConfigError):
        prune(keep_snapshots=1, config=config)


def test_prune_of_nothing_says_so(config: Path) -> None:
    """Before the first start there is nothing to prune."""
    with pytest.raises(ConfigError):
        prune(config=config)
