"""DESIGN section 6, one test a rule that this path touches, through the real loops on virtual sockets and time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import engine.start
from engine.core import Core
from engine.orders import Orders
from journal.errors import JournalDamagedError, JournalLockedError
from journal.format import segments
from journal.holders import Holder
from protocol.codes import Code, Mode, OrderStatus, OutcomeKind, Scope, Side, TradingState
from protocol.control import ConfirmClock, SetState
from protocol.errors import FencedError
from protocol.orders import CancelOrder, NewOrder
from protocol.records import Queried, Reported, SendDecided, Started
from protocol.session import PROTOCOL_VERSION
from protocol.venue import VenueWelcome
from tests.simulation.ledgers import Ledgers
from tests.simulation.memory import MemoryDealer
from tests.simulation.stage import PATIENCE, Stage, order
from tests.simulation.stand_ins import E9, KEYS_MAX, MS, POSITION_MAX
from tests.simulation.test_held_orders import held_by_a_silent_service
from venues.core.gateway import Phase

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage at rest: one engine, one gateway, two clients."""
    stage = Stage(tmp_path, 1, faults=False)
    with stage.patched():
        yield stage.begin()
        stage.close()


@pytest.mark.parametrize("point", ["engine.after_decide", "engine.after_sync"])
@pytest.mark.parametrize("power", [False, True])
def test_rule_01_durable_before_visible(stage: Stage, point: str, *, power: bool) -> None:
    """Nobody hears of what a crash may undo; what was told before it is told again after it."""
    outputs = stage.watch.outputs["sidecars"]
    stage.crash_with(point, order("1"), power=power)
    assert stage.watch.outputs["sidecars"] == outputs
    stage.settle_all()
    (answer,) = stage.answers_to("1")
    assert answer[1] is Code.OK
    stage.until(stage.is_at_rest)
    stage.verify()


@pytest.mark.parametrize("point", ["engine.after_outcome", "engine.after_venue_send"])
@pytest.mark.parametrize("power", [False, True])
def test_rule_01_what_was_told_survives(stage: Stage, point: str, *, power: bool) -> None:
    """An answer leaves before the venue's command: an engine that dies in between sends that order, once."""
    stage.crash_with(point, order("1"), power=power)
    stage.settle_all()
    assert {answer[1] for answer in stage.answers_to("1")} == {Code.OK}
    stage.until(stage.is_at_rest)
    assert stage.is_at_venue("1")
    stage.verify()


def test_rule_01_an_engine_whose_sync_failed_says_nothing(stage: Stage) -> None:
    """A failed sync is fatal; the next life decides what the medium really holds."""
    outputs = stage.watch.outputs["sidecars"]
    stage.submit(order("1"))
    stage.disk.sync_fails_in = 1
    stage.round()
    assert "engine failed sync" in " ".join(stage.crashes)
    assert stage.watch.outputs["sidecars"] == outputs
    stage.settle_all()
    stage.until(stage.is_at_rest)
    stage.verify()


def test_rule_02_a_tail_somebody_has_seen_is_not_cut(stage: Stage) -> None:
    """Torn bytes behind a holder's mark stop the start with the place; with nobody past them they are cut."""
    stage.submit(CancelOrder("a1", "1"))
    stage.settle_all()
    stage.kill_engine("damage", power=False)
    folder = stage.folder / "journal"
    path = segments(folder)[-1]
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    path.write_bytes(data[: end - 9] + bytes(len(data) - end + 9))
    (folder / "durable").unlink()
    Holder(folder, "books").advance(stage.watch.records[-1][0], 1)
    with pytest.raises(JournalDamagedError, match="books"):
        stage.start_engine()
    shutil.rmtree(folder / "holders")
    started = engine.start.start(stage.settings)
    assert started.recovered.cut_bytes > 0
    started.writer.close()
    started.lock.close()


def test_rule_02_a_gateway_that_has_seen_more_stops_the_engine(stage: Stage) -> None:
    """An older journal put back is not the newest: its engine stops before it numbers anything again."""
    stage.kill_engine("backup", power=False)
    shutil.copytree(stage.folder / "journal", stage.folder / "backup")
    stage.submit(order("1"))
    stage.until(lambda: stage.is_at_venue("1"))
    stage.kill_engine("restore", power=False)
    shutil.rmtree(stage.folder / "journal")
    shutil.copytree(stage.folder / "backup", stage.folder / "journal")
    stage.watch.forget()
    stage.watch.ledgers = Ledgers(POSITION_MAX * E9)
    stage.replica, stage.replicated = Core(KEYS_MAX), 0
    stage.following.drop()  # another machine's: it has seen nothing of what is gone
    with pytest.raises(FencedError, match="venue_seq"):
        stage.rounds()


def test_rule_03_any_number_of_deliveries_is_one_order(stage: Stage) -> None:
    """By two sidecars, before and after a crash: one outcome, one order at the venue; other content is a conflict."""
    for _ in range(3):
        stage.submit(order("1"), 0)
        stage.submit(order("1"), 1)
        stage.settle_all()
        stage.kill_engine("between", power=True)
    stage.submit(order("1", quantity=3))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    answers = stage.answers_to("1")
    assert len(answers) == 7
    assert len({a for a in answers if a[1] is Code.OK}) == 1
    assert [a[1] for a in answers if a[1] is not Code.OK] == [Code.ID_CONFLICT]
    assert len(stage.venue_side().sent) == 1
    stage.verify()


def test_rule_05_cancel_may_come_first(stage: Stage) -> None:
    """The order that comes after its cancel is refused, also after a crash in between, and never reaches the venue."""
    stage.submit(CancelOrder("a1", "1"))
    stage.settle_all()
    stage.kill_engine("between", power=True)
    stage.submit(order("1"))
    stage.settle_all()
    assert [c.code for _, c in stage.answers.cancels] == [Code.TOMBSTONE]
    assert [a[1] for a in stage.answers_to("1")] == [Code.CANCELLED_BEFORE_ARRIVAL]
    assert not stage.is_at_venue("1")


def test_rule_06_the_journal_is_the_outbox(stage: Stage) -> None:
    """What was durable and not yet sent goes out after a restart, once, without anybody asking again."""
    stage.crash_with("engine.after_sync", order("1"), power=True)
    stage.clients[0].waiting.clear()
    stage.clients[0].in_flight.clear()
    stage.until(lambda: stage.engine is not None and stage.is_at_venue("1") and stage.is_at_rest())
    assert len(stage.venue_side().sent) == 1
    stage.verify()


def test_rule_06_an_order_without_an_answer_is_queried_and_sent_again_under_its_id(tmp_path: Path) -> None:
    """Received by a gateway that died before it said anything: UNKNOWN, asked, not found, the same id again."""
    stage = Stage(tmp_path, 3, faults=False, is_slow=True)
    with stage.patched():
        stage.begin()
        assert stage.venue is not None
        stage.venue.patience = 10 * PATIENCE
        stage.submit(order("1"))
        stage.until(lambda: stage.is_at_venue("1"))
        assert stage.venue_side().reports == []
        stage.kill_gateway("silent")
        stage.settle()
        stage.watch.read()
        assert any(isinstance(r, Queried) for *_, r in stage.watch.records)
        assert len(stage.venue_side().sent) == 1
        assert sum(1 for r in stage.venue_side().reports if r.exec_type == 0) == 1
        stage.verify()
        stage.close()


def test_rule_07_the_venues_id_is_a_function_of_the_journal(stage: Stage) -> None:
    """The id in the answer is the id at the venue, in every life; another life would give the same."""
    stage.submit(order("1"))
    stage.settle_all()
    stage.kill_engine("between", power=True)
    stage.submit(order("1"))
    stage.settle_all()
    stage.until(stage.is_at_rest)
    ids = {a[2] for a in stage.answers_to("1")}
    assert ids == set(stage.venue_side().sent)
    key = stage.state.keys.key("a1", "1")[2]
    starts = [r for *_, r in stage.watch.records if isinstance(r, Started)]
    assert ids == {stage.engine._core.orders.order_id(key, starts[0].trading_date)}  # type: ignore[union-attr]
    assert [bool(s.order_id_key) for s in starts] == [True, *[False] * (len(starts) - 1)]


def test_rule_08_a_late_send_is_checked_again(stage: Stage) -> None:
    """Too old after a restart: cancelled unsent, journaled, never at the venue; the client's repeat hears so."""
    stage.crash_with("engine.after_sync", order("1"), power=False)
    stage.clock.advance(61 * E9)
    stage.settle_all()
    stage.until(stage.is_at_rest)
    stage.watch.read()
    (decided,) = [r for *_, r in stage.watch.records if isinstance(r, SendDecided)]
    assert decided.code is Code.MESSAGE_EXPIRED
    assert decided.cancel is not None
    assert decided.cancel.code is Code.UNSENT_STALE
    assert not stage.is_at_venue("1")
    stage.verify()


def test_rule_08_a_kill_keeps_back_what_was_not_sent(stage: Stage) -> None:
    """Accepted, durable, unsent when the kill comes: cancelled without being sent."""
    stage.crash_with("engine.after_sync", order("1"), power=False)
    stage.kill_gateway("away")
    stage.turn_engine()
    stage.ask(SetState("kill", Scope.GLOBAL, "", "stop"))
    stage.turn_engine()
    stage.until(lambda: stage.engine is not None and stage.is_at_rest())
    assert not stage.is_at_venue("1")
    assert stage.state.orders == {}
    stage.verify()


@pytest.mark.parametrize("point", ["engine.after_report", "engine.after_sync"])
def test_rule_09_reports_are_kept_until_they_are_durable(stage: Stage, point: str) -> None:
    """A fill that the engine lost in a crash comes again and counts once; one it has does not count again."""
    stage.submit(order("1", BUY, 2, 101))
    stage.armed = point
    stage.settle_all()
    stage.until(stage.is_at_rest)
    stage.kill_gateway("after")
    stage.until(stage.is_at_rest)
    assert stage.state.book.ledger("a1", "XY").position == 2
    stage.watch.read()
    seqs = [msgspec.msgpack.decode(r.report)[0] for *_, r in stage.watch.records if isinstance(r, Reported)]
    assert seqs == list(range(1, len(seqs) + 1))
    stage.verify()


def test_rule_10_one_engine_a_shard(stage: Stage) -> None:
    """A second start on the folder stops; each start has a higher epoch; a gateway takes no lower one."""
    with pytest.raises(JournalLockedError):
        engine.start.start(stage.settings)
    epoch = stage.state.epoch
    stage.kill_engine("again", power=False)
    stage.until(lambda: stage.engine is not None and stage.is_at_rest())
    assert stage.state.epoch == epoch + 1
    assert stage.gateway is not None
    gateway = stage.gateway.gateway
    for lower, instance in ((epoch, stage.state.instance), (epoch + 1, b"x" * 16)):
        gateway.phase = Phase.GREETED
        old = VenueWelcome(PROTOCOL_VERSION, 0, lower, instance, Mode.PAPER, 1000, 0)
        gateway.receive([msgspec.msgpack.encode(old)], stage.clock.wall, stage.clock.monotonic)
        assert gateway.phase is Phase.CLOSED
        assert "FENCED" in gateway.ended_because


def test_rule_06_a_lost_command_is_sent_again(stage: Stage) -> None:
    """The last one of a session, gone with a connection that came back: missed after a lease, and sent in a new one."""
    stage.submit(order("1"))
    stage.clients[0].turn()
    dealer = stage.gateway._engine  # type: ignore[union-attr]
    assert isinstance(dealer, MemoryDealer)
    dealer.down.lose = 1
    stage.turn_engine()
    assert not dealer.down.lose
    stage.until(lambda: stage.is_at_rest() and stage.is_at_venue("1"))
    stage.verify()


def test_rule_09_a_lost_report_is_said_again(stage: Stage) -> None:
    """The last one of a session, gone with a connection that came back: missed after leases, and sent in a new one."""
    stage.submit(order("1", BUY, 2, 101))
    stage.clients[0].turn()
    stage.turn_engine()
    dealer = stage.gateway._engine  # type: ignore[union-attr]
    assert isinstance(dealer, MemoryDealer)
    dealer.up.lose = 1
    stage.turn_gateway()
    assert not dealer.up.lose
    assert stage.venue_side().reports
    stage.until(lambda: stage.is_at_rest() and stage.state.book.ledger("a1", "XY").position == 2)
    stage.verify()


def test_rule_10_a_lost_ready_is_said_again(stage: Stage) -> None:
    """A gateway that thinks itself READY where the engine never heard so is told, and begins anew."""
    stage.kill_gateway("again")
    stage.turn_gateway()
    assert stage.gateway is not None
    dealer = stage.gateway._engine
    assert isinstance(dealer, MemoryDealer)
    stage.until(lambda: dealer.readable)
    dealer.up.lose = 1
    stage.turn_gateway()
    assert stage.gateway.gateway.phase is Phase.READY
    assert not dealer.up.lose
    stage.submit(order("1"))
    stage.until(lambda: stage.is_at_rest() and stage.is_at_venue("1"))
    stage.verify()


def test_rule_10_no_order_is_accepted_beyond_the_lease(stage: Stage) -> None:
    """A gateway that confirmed nothing for a lease is lost: new orders wait, then are refused."""
    stage.clock.advance(1200 * MS)
    stage.turn_engine()
    assert not stage.state.venues["sandbox"].ready
    stage.kill_gateway("silent")
    stage.submit(order("1"))
    for _ in range(20):
        stage.clock.advance(20 * MS)
        stage.clients[0].turn()
        stage.turn_engine()
    assert stage.answers_to("1") == []
    stage.settle_all()
    stage.verify()


def test_rule_11_new_risk_stops_first(tmp_path: Path) -> None:
    """Below the disk reserve new orders wait while cancels and exits go on."""
    stage = Stage(tmp_path, 1, faults=False, opening=10)
    stage.settings = msgspec.structs.replace(stage.settings, disk_reserve_bytes=1 << 60)
    with stage.patched():
        stage.begin()
        stage.submit(order("in"))
        stage.submit(order("out", SELL, 5, 110))
        stage.submit(CancelOrder("a1", "early"))
        stage.until(lambda: bool(stage.answers.cancels) and bool(stage.answers_to("out")))
        assert [a[1] for a in stage.answers_to("out")] == [Code.OK]
        assert stage.answers_to("in") == []
        stage.kill_engine("more disk", power=False)
        stage.settings = msgspec.structs.replace(stage.settings, disk_reserve_bytes=0)
        stage.settle_all()
        assert [a[1] for a in stage.answers_to("in")] == [Code.OK]
        stage.close()


@pytest.mark.plants
def test_rule_12_poison_does_not_loop(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered once and for all, its account in reduce-only, everybody else goes on; also after a crash."""
    rightly = Orders.decide_new

    def poisoned(self: Orders, command: NewOrder, *rest: object) -> object:
        if command.client_order_id == "poison":
            raise ZeroDivisionError("planted")
        return rightly(self, command, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Orders, "decide_new", poisoned)
    stage.submit(order("poison"))
    stage.settle_all()
    monkeypatch.undo()
    stage.kill_engine("after", power=True)
    stage.submit(order("poison"))
    stage.submit(order("next"))
    stage.settle_all()
    answers = stage.answers_to("poison")
    assert [a[:2] for a in answers] == [(OutcomeKind.REJECTED, Code.INTERNAL)] * 2
    assert len({a[3] for a in answers}) == 1
    assert [a[1] for a in stage.answers_to("next")] == [Code.STATE_REDUCING]
    assert any(event == "alarm" for event, _ in stage.log.lines)


@pytest.mark.parametrize("power", [False, True])
def test_rule_13_held_outlives_the_engine_and_goes_once(stage: Stage, *, power: bool) -> None:
    """HELD, reserved, at no venue; asked again after a restart; a repeat hears HELD; each hears one FINAL behind it."""
    order_id = held_by_a_silent_service(stage)
    assert [a[0] for a in stage.answers_to("1")] == [OutcomeKind.HELD]
    stage.kill_engine("while held", power=power)
    stage.until(lambda: stage.engine is not None and stage.state.risk.ready)
    assert (stage.state.orders[order_id].status, stage.is_at_venue("1")) == (OrderStatus.HELD, False)
    stage.submit(order("1", price=500), 1)
    stage.until(lambda: bool(stage.clients[1].held))
    stage.risk.is_silent = False
    stage.until(lambda: stage.is_at_venue("1") and stage.is_at_rest())
    assert {a[:3] for a in stage.answers_to("1")} == {(OutcomeKind.HELD, Code.PRICE_COLLAR, order_id)}
    assert (stage.clients[1].finals, stage.clients[1].held) == (1, set())
    assert len(stage.venue_side().sent) == 1
    stage.verify()


def test_rule_16_time_never_goes_back_and_a_jump_is_confirmed(stage: Stage) -> None:
    """Backwards changes nothing; 6 s forward is reduce-only until an operator says so; a restart is no jump."""
    last_ns = stage.state.last_ns
    stage.clock.wall -= 3 * E9
    stage.submit(order("1"))
    stage.settle_all()
    assert stage.state.last_ns >= last_ns
    stage.clock.wall += 9 * E9 + E9
    stage.submit(order("2"))
    stage.settle_all()
    assert [a[1] for a in stage.answers_to("2")] == [Code.STATE_REDUCING]
    stage.ask(SetState("resume", Scope.GLOBAL, "", "hurry"))
    stage.until(lambda: bool(stage.replies))
    assert not stage.replies[-1].ok
    stage.ask(ConfirmClock("checked"))
    stage.until(lambda: len(stage.replies) == 2)
    assert stage.state.book.state is TradingState.ACTIVE
    stage.kill_engine("long", power=False)
    stage.clock.advance(3600 * E9)
    stage.submit(order("3"))
    stage.settle_all()
    assert [a[1] for a in stage.answers_to("3")] == [Code.OK]
    times = [now for _, now, _, _ in stage.watch.records]
    assert times == sorted(times)
    assert not [o for o in stage.state.orders.values() if o.status is OrderStatus.UNKNOWN]
