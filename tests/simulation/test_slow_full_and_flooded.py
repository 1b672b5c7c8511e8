"""A disk that is slow or full, and a sidecar that takes more than its credits: who else notices, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from protocol.codes import ByeReason
from protocol.orders import CancelOrder
from protocol.session import Bye, Item, Outcomes, Submit, engine_decoder
from tests.simulation.memory import MemoryDealer
from tests.simulation.stage import Stage
from tests.simulation.stand_ins import MS
from tests.simulation.test_hostile_frames import guest

SYNC_NS = 50 * MS
EVERY_NS = MS  # 1,000 commands a second
_encode = msgspec.msgpack.encode


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


def items(first: int, count: int, unit_epoch: int, now_ns: int) -> list[Item]:
    """Cancels, each of another unknown order: taken, journaled, answered."""
    return [
        Item(n, "u", unit_epoch, 0, "l", "all", b"t" * 16, now_ns, Raw(_encode(CancelOrder("a1", f"x{n}"))))
        for n in range(first, first + count)
    ]


def outcomes(dealer: MemoryDealer) -> list[int]:
    """Return how many outcomes each message held that came."""
    return [len(m.items) for m in map(engine_decoder.decode, dealer.receive(1_000)) if isinstance(m, Outcomes)]


def load(stage: Stage, first: int, count: int, sync_ns: int) -> list[int]:
    """Submit one command a millisecond, whatever comes back, over a disk that slow; return the sizes of answers."""
    dealer, unit_epoch = guest(stage)
    stage.disk.before_sync = lambda: stage.clock.advance(sync_ns)
    begin_ns, sent = stage.clock.monotonic, 0
    sizes: list[int] = []
    assert stage.engine is not None
    while sum(sizes) < count:
        due = min(count, (stage.clock.monotonic - begin_ns) // EVERY_NS + 1)
        for item in items(first + sent, due - sent, unit_epoch, stage.clock.wall):
            dealer.send(_encode(Submit([item])))
        sent = due
        stage.clock.advance(MS // 10)
        stage.engine.turn()
        found = outcomes(dealer)
        sizes += found
        # Open loop: what is not answered is what came during one sync, the backlog never grows.
        assert sent - sum(sizes) <= 1
        assert stage.clock.monotonic - begin_ns < 2 * count * EVERY_NS
    stage.disk.before_sync = lambda: None
    return sizes


def test_a_sync_of_50_ms_makes_batches_larger_and_the_load_is_carried(stage: Stage) -> None:
    """A thousand commands a second, one sync a batch: 20 syncs a second carry them too, 50 at a time."""
    quick = load(stage, 0, 300, MS)
    begin_ns = stage.clock.monotonic
    slow = load(stage, 1_000, 600, SYNC_NS)
    took_ns = stage.clock.monotonic - begin_ns
    assert max(quick) <= 3
    assert max(slow) >= SYNC_NS // EVERY_NS
    assert took_ns <= 600 * EVERY_NS + 2 * SYNC_NS  # the last ones wait for two syncs at most
    assert stage.crashes == []


def test_a_full_disk_ends_the_engine_and_loses_nothing_that_was_answered(stage: Stage) -> None:
    """Without a reserve the write itself fails: fatal, as a failed sync; with room again all is answered once."""
    stage.disk.is_full = True
    count = 0
    while not stage.crashes:
        for n in range(20):
            stage.submit(CancelOrder("a1", f"x{count + n}"), client=n % 2)
        count += 20
        stage.round()
        assert count < 4_000
    assert "engine failed sync" in stage.crashes[0]
    answered = len(stage.answers.cancels)
    stage.rounds()  # it can't start either, or can't go on: nobody is told anything new that isn't there
    stage.disk.heal()
    stage.settle_all()
    stage.until(stage.is_at_rest)
    assert len(stage.answers.cancels) >= answered
    stage.verify()


def test_a_sidecar_that_floods_past_its_credits_is_cut_off_and_others_go_on(stage: Stage) -> None:
    """BYE CREDITS names what was allowed and what came; another's outcomes come in the same turn, and in the next."""
    flooding, its_epoch = guest(stage, "u")
    modest, epoch = guest(stage, "v")
    assert stage.engine is not None
    most = stage.settings.credits + stage.settings.reserved_credits
    now_ns = stage.clock.wall
    for n in range(3):
        flooding.send(_encode(Submit(items(1_000 * n, most, its_epoch, now_ns))))
        modest.send(_encode(Submit([msgspec.structs.replace(i, unit="v") for i in items(9_000 + n, 1, epoch, now_ns)])))
    stage.engine.turn()
    said = [engine_decoder.decode(b) for b in flooding.receive(100)]
    assert said[0] == Bye(ByeReason.CREDITS, f"expected at most {most} items unanswered, was {2 * most}")
    assert not any(isinstance(m, Outcomes) for m in said)
    assert sum(outcomes(modest)) == 3
    assert stage.engine._meters.ended == {ByeReason.CREDITS: 1}
    modest.send(_encode(Submit([msgspec.structs.replace(i, unit="v") for i in items(9_500, 1, epoch, now_ns)])))
    stage.engine.turn()
    assert outcomes(modest) == [1]
    again, its_epoch = guest(stage, "u")  # it may come back, and is answered what was decided
    again.send(_encode(Submit(items(0, 1, its_epoch, now_ns))))
    stage.engine.turn()
    assert outcomes(again) == [1]
    assert stage.crashes == []
