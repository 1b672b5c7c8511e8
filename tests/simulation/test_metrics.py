"""What engine and gateway tell of themselves equals what was done to them, through the real loops on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import engine.start
from engine.metrics import ANSWERED, DECIDED, DURABLE, FAMILIES, LATE, SENT, SYNC, SYNC_RECORDS, TURN, TURN_ITEMS
from journal.errors import JournalLockedError
from protocol.codes import Scope
from protocol.control import SetState
from protocol.orders import CancelOrder
from runtime.histogram import recent
from runtime.metrics import DURATION, SIZE, Board, Snapshot
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9, MS
from venues.core import metrics as gateway_metrics

SYNC_NS = 3 * MS
OUTCOMES = (DECIDED, DURABLE, ANSWERED, TURN_ITEMS)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def publish(stage: Stage) -> tuple[Snapshot, Snapshot]:
    """Let everybody publish once more; return what engine and gateway say."""
    for _ in range(25):  # of 50 ms: a snapshot is taken each second
        stage.round()
    assert stage.engine is not None
    assert stage.gateway is not None
    return stage.engine._board.snapshots[-1], stage.gateway._board.snapshots[-1]


def rounds(stage: Stage) -> None:
    """Let time pass in which housekeeping is due several times."""
    for _ in range(10):
        stage.round()


def growth(before: Snapshot, after: Snapshot, name: str) -> float:
    """Return by how much a counter grew, all labels together."""
    return total(after, name) - total(before, name)


def total(snapshot: Snapshot, name: str) -> float:
    value = snapshot.values[name]
    return value if isinstance(value, int | float) else sum(value.values())


def test_counters_and_gauges_are_the_load(stage: Stage) -> None:
    """Three orders, one of them twice, one refused, one cancel: each is counted where it belongs, and once."""
    before, venue_before = publish(stage)
    for command in (order("o1"), order("o2"), order("o3"), order("big", quantity=60)):
        stage.submit(command)
    stage.settle_all()
    for command in (CancelOrder("a1", "o3"), order("o1")):
        stage.submit(command)
    stage.settle_all()
    stage.until(stage.is_at_rest)

    after, venue = publish(stage)

    assert growth(before, after, "wojak_engine_orders_accepted") == 3
    assert growth(before, after, "wojak_engine_duplicates") == 1
    assert growth(before, after, "wojak_engine_cancels") == 1
    assert growth(before, after, "wojak_engine_rejected") == 1
    assert growth(before, after, "wojak_engine_retries") == 0
    assert growth(before, after, "wojak_engine_dedup_keys") == 4
    assert total(after, "wojak_engine_open_orders") == 2
    assert total(after, "wojak_engine_unknown_orders") == 0
    assert after.values["wojak_engine_sessions"] == {("src",): 2}
    assert after.values["wojak_engine_venue_ready"] == {("sandbox",): 1}
    for queue in ("outbox", "unacknowledged", "unreported"):
        assert total(after, f"wojak_engine_{queue}_commands") == 0
    assert stage.engine is not None
    assert total(after, "wojak_engine_seq") == stage.engine._writer.next_seq - 1
    assert total(after, "wojak_engine_seq") == total(after, "wojak_engine_durable_seq")
    assert total(after, "wojak_engine_epoch") == 1
    assert growth(venue_before, venue, "wojak_gateway_received_seq") == 4
    assert total(venue, "wojak_gateway_open_orders") == 2
    assert total(venue, "wojak_gateway_kept_reports") == 0
    assert total(venue, "wojak_gateway_epoch") == 1


def test_every_named_metric_is_told_and_no_other(stage: Stage) -> None:
    """The tables of names, which the pages are written from, and the snapshots hold the same names."""
    for snapshot, families in zip(publish(stage), (FAMILIES, gateway_metrics.FAMILIES), strict=True):
        histograms = {f.name for f in families if f.kind in {DURATION, SIZE}}
        assert histograms == set(snapshot.histograms)
        assert {f.name for f in families} - histograms == set(snapshot.values)
        for family in families:
            value = snapshot.values.get(family.name, 0)
            assert bool(family.labels) == isinstance(value, dict), family.name
            if isinstance(value, dict):
                assert all(len(labels) == len(family.labels) for labels in value)


def test_durations_are_those_of_the_disk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sync of 3 ms and nothing else taking time, every hop says so, once per item."""
    before, _ = publish(stage)
    synced = type(stage.disk).fdatasync

    def slow(disk: Any, fd: int) -> None:
        synced(disk, fd)
        stage.clock.advance(SYNC_NS)

    for name in ("o1", "o2", "o3"):
        stage.submit(order(name))
    with monkeypatch.context() as patched:
        patched.setattr(type(stage.disk), "fdatasync", slow)
        stage.settle_all()
    after, _ = publish(stage)

    assert stage.engine is not None
    since = [s.histograms for s in stage.engine._board.snapshots if s.at_ns >= before.at_ns]
    figures = {n: recent([taken[n] for taken in since]) for n in (*OUTCOMES, SYNC, SENT, TURN)}
    assert [figures[name]["count"] for name in (DECIDED, DURABLE, ANSWERED)] == [3, 3, 3]
    assert figures[DECIDED]["max"] == 0
    for name in (DURABLE, ANSWERED, SYNC, SENT, TURN):
        assert figures[name]["max"] == SYNC_NS, name
    assert figures[DURABLE]["p50"] >= SYNC_NS
    turns = after.histograms[TURN_ITEMS]
    assert turns.sum - before.histograms[TURN_ITEMS].sum == 3
    records = after.histograms[SYNC_RECORDS].sum - before.histograms[SYNC_RECORDS].sum
    assert records == growth(before, after, "wojak_engine_seq")


def test_a_late_loop_is_seen(stage: Stage) -> None:
    """Housekeeping that ran 700 ms after it was due is measured as that."""
    publish(stage)
    assert stage.engine is not None
    stage.engine.turn()  # housekeeping is due 100 ms from here
    stage.clock.advance(800 * MS)
    stage.engine.turn()
    stage.clock.advance(E9)
    stage.engine.turn()
    stage.clock.advance(E9)
    stage.engine.turn()

    assert max(s.histograms[LATE].max for s in stage.engine._board.snapshots) >= 700 * MS


def test_ready_means_recovered_and_the_gateway_there(stage: Stage) -> None:
    """Not before the first turn, nor while the gateway is gone; the reason names the venue."""
    stage.until(lambda: stage.engine is not None and stage.engine._board.not_ready == ())
    stage.kill_gateway("planted")

    def not_ready() -> tuple[str, ...]:
        assert stage.engine is not None
        return stage.engine._board.not_ready

    turn_engine_until(stage, lambda: not_ready() != ())
    assert not_ready() == ("venue sandbox: no gateway has confirmed this epoch",)
    stage.until(lambda: not_ready() == ())
    assert stage.gateway is not None
    assert stage.gateway._board.not_ready == ()
    assert Board().not_ready == ("starting",)


def turn_engine_until(stage: Stage, condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        stage.clock.advance(50 * MS)
        stage.turn_engine()
    raise AssertionError("waited 100 turns of the engine")


def test_a_gateway_without_its_engine_is_not_ready(stage: Stage) -> None:
    """Three leases of silence end the session; the reason says which."""
    assert stage.gateway is not None
    for _ in range(80):
        stage.clock.advance(100 * MS)
        stage.turn_gateway()

    assert len(stage.gateway._board.not_ready) == 1
    assert "no session with the engine" in stage.gateway._board.not_ready[0]


def test_a_short_disk_and_a_drain_are_not_ready(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the reserve new risk waits and so does readiness; so it is in a drain."""
    assert stage.engine is not None
    engine = stage.engine
    with monkeypatch.context() as patched:
        patched.setattr(stage.disk, "free_bytes", lambda _: -1)
        turn_engine_until(stage, lambda: engine._board.not_ready != ())
        assert engine._board.not_ready == ("disk: -1 bytes free, reserve 0",)
        rounds(stage)
        told = [str(facts["text"]) for event, facts in stage.log.lines if event == "alarm"]
        assert [text for text in told if text.startswith("disk: -1 bytes free")] == told[-1:]  # once, not once a look
    turn_engine_until(stage, lambda: engine._board.not_ready == ())

    engine.start_drain(10_000, "planted")

    turn_engine_until(stage, lambda: engine._board.not_ready == ("draining",))


def test_halts_are_told_by_scope(stage: Stage) -> None:
    """A halt is a labelled gauge while it lasts, and gone afterwards."""
    stage.ask(SetState("halt", Scope.ACCOUNT, "a1", "planted"))
    rounds(stage)
    assert publish(stage)[0].values["wojak_engine_halted"] == {("account", "a1", "HALTED"): 1}

    stage.ask(SetState("resume", Scope.ACCOUNT, "a1", "over"))
    rounds(stage)
    assert publish(stage)[0].values["wojak_engine_halted"] == {}


def test_the_dedup_alarm_comes_once_a_crossing(stage: Stage) -> None:
    """At 80 % one alarm, not one a look; the next one only after the table was below."""

    def alarms() -> list[object]:
        return [f["text"] for event, f in stage.log.lines if event == "alarm" and "order ids" in str(f["text"])]

    assert stage.engine is not None
    dedup = stage.engine._core.state.dedup
    for name in ("o1", "o2", "o3", "o4"):
        stage.submit(order(name))
    stage.settle_all()
    keys_max = dedup.keys_max

    dedup.keys_max = dedup.keys + 2
    rounds(stage)
    assert dedup.keys == 4
    assert alarms() == []  # 4 of 6
    dedup.keys_max = 5
    rounds(stage)
    assert len(alarms()) == 1
    assert str(alarms()[0]).startswith("order ids: 4 of 5 are taken (80 %)")
    dedup.keys_max = keys_max
    rounds(stage)
    dedup.keys_max = 4
    rounds(stage)
    assert len(alarms()) == 2


def test_health_is_served_from_the_lock_on(stage: Stage) -> None:
    """Before the recovery, so that a long one is seen; after the lock, so that nobody else's address is taken."""
    stage.kill_engine("planted", power=False)
    seen: list[str] = []

    def when_locked() -> None:
        with pytest.raises(JournalLockedError):
            engine.start.start(stage.settings)
        seen.append("locked")

    started = engine.start.start(stage.settings, when_locked)

    assert seen == ["locked"]
    assert started.recovered.next_seq > 1
    started.writer.close()
    started.lock.close()
