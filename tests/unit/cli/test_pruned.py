"""A pruned journal goes on: an engine starts on it, answers repeats from it, and every command reads what is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.example import EXAMPLE
from cli.journal import cat, decide_again
from cli.journal_ls import list_segments
from cli.kept import gather, oldest_key_segment
from cli.options import deployment
from cli.tail import repair_tail
from cli.timeline import find_timeline
from journal.errors import JournalGapError
from journal.format import JournalSettings, segments
from journal.reader import JournalReader, RecordReader, read_batches
from journal.retention import Keep, judge, remove
from journal.snapshots import SnapshotReader, snapshots
from protocol.codes import Side
from protocol.errors import JournalError
from protocol.records import Adjusted, Ordered
from tests.unit.cli.test_prune import store_has
from tests.unit.engine.desk import Desk
from tests.unit.engine.journaled import KEYS_MAX, follow, snapshot, start, write_journal
from tests.unit.journal.damage import tear

SIZES = JournalSettings(segment_bytes=4096, batch_bytes_max=2048, prepare_ahead=False)


class Pruned:
    """A deployment with a journal of a day that began without orders, and what retention made of it."""

    def __init__(self, folder: Path, *, forget_keys: bool = False) -> None:
        self.config = folder / "wojak.toml"
        self.config.write_text(EXAMPLE)
        self.journal = deployment(self.config).paths.journal
        self.desk = Desk(keys_max=KEYS_MAX)
        for n in range(300):
            self.desk.apply(Adjusted("a2", "", 0, 0, str(n), "USDT", "cash"))
        self.first = self.desk.accept(self.desk.order("first", Side.BUY, 2, 99))
        for n in range(60):
            self.desk.fill(self.desk.accept(self.desk.order(f"c{n}")), 1)
        write_journal(self.journal, self.desk.records, batch=2, sizes=SIZES)
        self.last_seq = self.desk.seq
        self.hash = start(self.journal, sizes=SIZES)[0]
        snapshot(self.journal, upto=self.last_seq - 40)
        snapshot(self.journal, upto=self.last_seq - 20)
        *_, last = read_batches(self.journal)
        follow(self.journal).close()
        store_has(self.config, self.last_seq, last.header.crc)
        known = gather(deployment(self.config), Keep()).known
        # No trading day was closed in this journal: taken as given here, so that the rule of ids stands alone.
        known = known._replace(day_segment=10**6, key_segment=10**6 if forget_keys else known.key_segment)
        self.gone = list(remove(self.journal, judge(known, Keep())))
        assert self.gone

    def unread(self) -> list[str]:
        """Return the remembered ids whose first answer can't be read any more."""
        core = follow(self.journal).core
        records, lost = RecordReader(self.journal), []
        for record in self.desk.records:
            if isinstance(record[3], Ordered) and record[3].decision.order_id in core.state.orders:
                _, position, _ = core.state.dedup.entry(core.state.orders[record[3].decision.order_id].slot)
                try:
                    assert isinstance(records.read(position), Ordered)
                except JournalError:
                    lost.append(record[3].decision.order_id)
        records.close()
        return lost


@pytest.fixture
def pruned(tmp_path: Path) -> Pruned:
    return Pruned(tmp_path)


def test_an_engine_starts_on_it_with_the_same_state(pruned: Pruned) -> None:
    """From the newest snapshot, and from the one before when the newest is damaged."""
    came_to, restored, recovered = start(pruned.journal, sizes=SIZES)
    newest = snapshots(pruned.journal)[0]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    again, fallen_back, _ = start(pruned.journal, sizes=SIZES)

    assert segments(pruned.journal)[0].name != "000001.wal"
    assert came_to == again == pruned.hash
    assert recovered.next_seq == pruned.last_seq + 1
    assert fallen_back.seq < restored.seq


def test_every_remembered_id_is_answered_from_what_is_left(pruned: Pruned) -> None:
    """The segment of the oldest remembered id stayed, though two snapshots cover it."""
    core = follow(pruned.journal).core
    head = SnapshotReader(snapshots(pruned.journal)[0]).head

    assert pruned.unread() == []
    assert oldest_key_segment(core.state, head) >= int(segments(pruned.journal)[0].stem)


def test_without_the_rule_of_remembered_ids_an_answer_would_be_gone(tmp_path: Path) -> None:
    """The rule bites: prune past it, and the open order's first answer can't be read."""
    pruned = Pruned(tmp_path, forget_keys=True)

    assert pruned.unread() == [pruned.first.order_id]


def test_it_is_decided_again_from_its_oldest_snapshot(pruned: Pruned) -> None:
    """Journal verify compares what is left and comes to the state the engine comes to."""
    compared, differing, total, came_to = decide_again(pruned.journal, KEYS_MAX)

    oldest = SnapshotReader(snapshots(pruned.journal)[-1]).head
    assert differing == []
    assert total == pruned.last_seq - oldest.seq
    assert compared["Ordered"] > 5
    assert came_to == start(pruned.journal, sizes=SIZES)[0]


def test_commands_read_what_is_left(pruned: Pruned, capsys: pytest.CaptureFixture[str]) -> None:
    """Ls is content, cat begins where the journal begins, trace finds what is there, repair-tail has nothing to do."""
    first = pruned.gone[-1].last_seq + 1

    listed = list_segments(config=pruned.config)
    capsys.readouterr()
    cat(json=True, config=pruned.config)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert listed == 0
    assert events[0]["seq"] == first
    assert find_timeline(pruned.journal, pruned.first.order_id)
    assert repair_tail(config=pruned.config) == 0


def test_its_torn_tail_is_repaired_too(pruned: Pruned) -> None:
    """What is missing at the beginning is stood in for by snapshots; what is torn at the end is judged as ever."""
    (pruned.journal / "holders" / "follower").unlink()
    for path in deployment(pruned.config).paths.books.parent.glob("books.sqlite*"):
        path.unlink()
    tear(pruned.journal)

    assert repair_tail(config=pruned.config) == 1
    assert repair_tail(yes=True, config=pruned.config) == 0
    assert start(pruned.journal, sizes=SIZES)[2].cut_bytes == 0


def test_without_its_snapshots_it_is_a_journal_that_lost_its_beginning(pruned: Pruned) -> None:
    """Nothing stands in for what is gone, and each way of reading says so."""
    for path in snapshots(pruned.journal):
        path.unlink()

    for use in (
        lambda: repair_tail(config=pruned.config),
        lambda: list(read_batches(pruned.journal)),
        lambda: JournalReader(pruned.journal).poll(),
        lambda: start(pruned.journal, sizes=SIZES),
    ):
        with pytest.raises(JournalGapError):
            use()


def test_a_reader_from_the_beginning_is_told_that_it_is_gone(pruned: Pruned) -> None:
    """Books that are made anew can't begin in the middle: the error says where the journal begins."""
    with pytest.raises(JournalGapError) as refused:
        JournalReader(pruned.journal).poll()

    assert f"begins with {segments(pruned.journal)[0].name}" in str(refused.value)
