"""Retention over trading days: ids leave at their roll, segments after them, and what an open order needs stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.example import EXAMPLE
from cli.journal import decide_again
from cli.journal_prune import prune
from cli.options import deployment
from engine.orders import Defer, Replay
from engine.state import state_hash
from journal.format import JournalSettings, segments, split_position
from journal.reader import RecordReader, read_batches
from protocol.codes import RetryReason, Side, TimeInForce
from protocol.decisions import NewDecision, Reference
from protocol.orders import NewOrder
from protocol.records import Ordered, Record
from protocol.rolls import SessionRolled
from tests.unit.cli.test_prune import store_has
from tests.unit.engine.desk import E9, REFERENCE, Desk
from tests.unit.engine.journaled import KEYS_MAX, follow, snapshot, start
from tests.unit.journal.samples import open_journal

SIZES = JournalSettings(segment_bytes=4096, batch_bytes_max=2048, prepare_ahead=False)
ORDERS_A_DAY = 30


class Days(Desk):
    """A desk that writes as an engine does, each record durable at its position before it is applied; its days end."""

    def __init__(self, folder: Path) -> None:
        self.opened = open_journal(folder, SIZES)
        self.rolled_at: list[int] = []
        super().__init__(keys_max=KEYS_MAX)

    def apply(self, record: Record) -> None:
        self.seq += 1
        position = self.opened.writer.append(record)
        self.opened.writer.commit(self.now)
        if isinstance(record, SessionRolled):
            self.rolled_at.append(split_position(position)[0])
        self.core.apply(self.seq, self.now, position, record)

    def submit(
        self,
        order: NewOrder,
        *,
        reference: Reference | None = REFERENCE,
        created_at_ns: int | None = None,
        principal: str = "all",
        defer: RetryReason | None = None,
    ) -> NewDecision | Replay | Defer:
        decided = self.decide(order, reference=reference, created_at_ns=created_at_ns, principal=principal, defer=defer)
        if isinstance(decided, NewDecision):
            item = self.item(order, created_at_ns, principal)
            self.apply(Ordered("src", item, reference, decided, self.seq + 1))
        return decided

    def day(self, prefix: str) -> None:
        """Fill the orders of one day."""
        for n in range(ORDERS_A_DAY):
            self.fill(self.accept(self.order(f"{prefix}{n}")), 1)

    def roll(self, to_date: int) -> None:
        """End the day, with all the steps that this leaves."""
        self.now += 86_400 * E9
        record = self.core.rolls.decide_roll(to_date, "op", "why", 0)
        assert isinstance(record, SessionRolled)
        self.apply(record)
        while (step := self.core.rolls.decide_step({})) is not None:
            self.apply(step)


def three_days(config: Path, *, carried_after: int = -1) -> Days:
    """Live three days, the last with two snapshots; a GTC order is taken so many orders into the first day."""
    journal = deployment(config).paths.journal
    desk = Days(journal)
    for n in range(ORDERS_A_DAY):
        if n == carried_after:
            desk.accept(carried_order(desk))
        desk.fill(desk.accept(desk.order(f"a{n}")), 1)
    desk.roll(20260601)
    desk.day("b")
    desk.roll(20260602)
    desk.day("c")
    desk.opened.close()
    snapshot(journal, upto=desk.seq - 20)
    snapshot(journal, upto=desk.seq - 10)
    follow(journal).close()
    *_, last = read_batches(journal)
    store_has(config, desk.seq, last.header.crc)
    return desk


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a deployment whose journal is made by the test."""
    path = tmp_path / "wojak.toml"
    path.write_text(EXAMPLE)
    return path


def first_left(config: Path) -> int:
    return int(segments(deployment(config).paths.journal)[0].stem)


def carried_order(desk: Days) -> NewOrder:
    """An order that stays open over all days."""
    return desk.order("carried", Side.BUY, 2, 99, time_in_force=TimeInForce.GTC)


def answered_from(config: Path, desk: Days, order: NewOrder) -> str:
    """Ask again for an id and return whose first answer is read for it; empty where the id is not remembered."""
    asked = desk.decide(order)
    if not isinstance(asked, Replay):
        return ""
    records = RecordReader(deployment(config).paths.journal)
    first = records.read(asked.position)
    records.close()
    assert isinstance(first, Ordered)
    return first.decision.order_id


def test_the_day_before_yesterday_goes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rolls after it was written, with snapshots and readers past it; today's and yesterday's answers are read."""
    desk = three_days(config)
    dry = prune(dry_run=True, config=config)
    unchanged = first_left(config)
    code = prune(config=config)

    said = capsys.readouterr().out
    assert (dry, unchanged, code) == (0, 1, 0)
    assert f"stays: it is of today or of the trading day before (from segment {desk.rolled_at[0]:06d} on)" in said
    assert first_left(config) == desk.rolled_at[0] > 2
    assert answered_from(config, desk, desk.order("a0")) == ""
    assert answered_from(config, desk, desk.order("b0")) != ""
    assert answered_from(config, desk, desk.order("c29")) != ""


def test_an_open_order_of_long_ago_keeps_its_answer(config: Path) -> None:
    """Its id never leaves, so neither does the segment of its first answer, nor those behind it."""
    desk = three_days(config, carried_after=ORDERS_A_DAY // 2)
    prune(config=config)

    carried = next(o for o in desk.state.orders.values() if o.client_order_id == "carried")
    segment = split_position(desk.state.dedup.entry(carried.slot)[1])[0]
    assert 1 < segment < desk.rolled_at[0]
    assert first_left(config) == segment
    assert answered_from(config, desk, carried_order(desk)) == carried.order_id


def test_an_engine_goes_on_with_what_is_left(config: Path) -> None:
    """A start comes to the state that the whole journal came to, and what is left is decided the same again."""
    desk = three_days(config, carried_after=ORDERS_A_DAY // 2)
    journal = deployment(config).paths.journal
    prune(config=config)

    came_to, _, recovered = start(journal, sizes=SIZES)
    _, differing, total, again = decide_again(journal, KEYS_MAX)

    assert came_to == again == state_hash(desk.state)
    assert recovered.next_seq == desk.seq + 1
    assert differing == []
    assert total > 10


def test_before_the_second_roll_nothing_goes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Yesterday's ids are remembered today, so one roll closes no day that could go."""
    journal = deployment(config).paths.journal
    desk = Days(journal)
    desk.day("a")
    desk.roll(20260601)
    desk.day("b")
    desk.opened.close()
    snapshot(journal, upto=desk.seq - 20)
    snapshot(journal, upto=desk.seq - 10)
    follow(journal).close()
    *_, last = read_batches(journal)
    store_has(config, desk.seq, last.header.crc)

    prune(config=config)

    assert "no day was closed since" in capsys.readouterr().out
    assert first_left(config) == 1
