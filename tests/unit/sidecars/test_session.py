"""The session state machine under any history: exactly once, exactly the engine's outcome, credits, lane order."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.codes import ByeReason, Code, Mode, OrderStatus, OrderType, OutcomeKind, RetryReason, Side, TimeInForce
from protocol.errors import ConfigError, FencedError
from protocol.orders import CancelOrder, Command, NewOrder
from protocol.session import (
    Bye,
    Claim,
    Claimed,
    Drain,
    Drained,
    Hello,
    Item,
    Leave,
    Outcome,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Retry,
    SidecarMessage,
    Submit,
    Welcome,
)
from sidecars.core.epochs import EpochFile
from sidecars.core.session import EngineSession, SessionSettings, State
from sidecars.core.source import Delivery, Verb, Why

MS = 1_000_000
TRACE = bytes(16)


def order(number: int, *, reduce_only: bool = False) -> NewOrder:
    return NewOrder(
        "acc", f"id-{number}", "s", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.DAY, 10**9, 10**9, reduce_only
    )


def delivery(number: int, until_ns: int = 0, received_ns: int = 0) -> Delivery:
    return Delivery("p", "acc", TRACE, 1, received_ns, source_id=str(number), lease_until_mono_ns=until_ns)


class Bench:
    """A session with a hand-moved clock and an engine played by the test."""

    def __init__(self, path: Path, *, credits_: int = 4, reserved: int = 2, hold_ms: int = 0) -> None:
        instances = itertools.count(1)
        self.session = EngineSession(
            SessionSettings(hold_ms=hold_ms),
            EpochFile(path),
            source="test",
            sidecar="host",
            new_instance=lambda: next(instances).to_bytes(16, "little"),
            jitter=lambda: 0.0,
        )
        self.now_ns = 10**9
        self.epoch = 1
        self.credits, self.reserved = credits_, reserved
        self.sent: list[SidecarMessage] = []

    def out(self) -> list[SidecarMessage]:
        messages = self.session.outgoing(self.now_ns)
        self.sent += messages
        return messages

    def items(self) -> list[Item]:
        return [item for m in self.out() if isinstance(m, Submit) for item in m.items]

    def hear(self, message: object) -> None:
        self.session.on_message(message, self.now_ns)  # type: ignore[arg-type]

    def welcome(self, epoch: int | None = None, instance: bytes = bytes(16)) -> None:
        epoch = self.epoch if epoch is None else epoch
        self.hear(Welcome(1, 0, epoch, instance, Mode.PAPER, self.credits, self.reserved))

    def open(self) -> None:
        self.out()
        self.welcome()
        assert Claim(self.session.unit) in self.out()
        self.hear(Claimed(self.session.unit, 7))

    def take(self, number: int, command: Command | None = None, until_ns: int = 0) -> None:
        self.session.take(delivery(number, until_ns, self.now_ns), command or order(number), self.now_ns)

    def pass_ms(self, ms: int) -> None:
        self.now_ns += ms * MS
        self.session.on_tick(self.now_ns)

    def live_ms(self, ms: int) -> None:
        """Pass time with an engine that answers every Ping."""
        for _ in range(ms // 100):
            self.pass_ms(100)
            if Ping() in self.out():
                self.hear(Pong())

    def ended(self) -> list[tuple[str, Verb, Why]]:
        found = [(s.delivery.source_id, s.verb, s.why) for s in self.session.ended]
        self.session.ended.clear()
        return found


def accepted(item: Item) -> Outcome:
    return Outcome(item.seq, OutcomeKind.ACCEPTED, Code.OK, f"P-{item.seq}", item.seq, OrderStatus.PENDING_NEW)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "epochs")


def test_a_session_opens_by_hello_welcome_claim(bench: Bench) -> None:
    """Nothing is submitted before the unit is claimed; then it goes with the unit's epoch."""
    first = bench.out()
    bench.take(1)
    bench.welcome()
    assert isinstance(first[0], Hello)
    assert bench.out() == [Claim(bench.session.unit)]
    assert not bench.session.is_open

    bench.hear(Claimed(bench.session.unit, 9))

    (item,) = bench.items()
    assert (item.unit, item.unit_epoch, item.lane) == (bench.session.unit, 9, "acc")
    assert bench.session.is_open


def test_credits_bound_new_risk_and_the_reserve_is_for_cancels(bench: Bench) -> None:
    """Four credits carry four orders; two more are there for a cancel and a reduce-only order."""
    bench.open()
    for number in range(6):
        bench.take(number)
    bench.take(6, CancelOrder("acc", "id-0"))
    bench.take(7, order(7, reduce_only=True))

    assert [i.seq for i in bench.items()] == [1, 2, 3, 4, 7, 8]
    assert bench.session.room(reserved=False) == 0


def test_a_retry_holds_new_risk_while_exits_go_on(bench: Bench) -> None:
    """After one RETRY new risk waits for Resume and then goes in the order received."""
    bench.open()
    bench.take(1)
    bench.take(2)
    one, two = bench.items()
    bench.hear(Retry(50, RetryReason.VENUE_NOT_READY, [one.seq]))
    bench.take(3)
    bench.take(4, CancelOrder("acc", "id-1"))
    assert [i.seq for i in bench.items()] == [4]

    bench.pass_ms(60)
    assert not bench.out()  # the second order is not answered yet: it must not be overtaken
    bench.hear(Retry(50, RetryReason.VENUE_NOT_READY, [two.seq]))
    bench.pass_ms(60)

    messages = bench.out()
    assert messages[0] == Resume()
    assert [i.seq for m in messages if isinstance(m, Submit) for i in m.items] == [1, 2, 3]


def test_a_retry_that_lasts_gives_new_risk_back(tmp_path: Path) -> None:
    """Sources whose callers wait get their delivery back after hold_ms, known as not taken."""
    bench = Bench(tmp_path / "e", hold_ms=100)
    bench.open()
    bench.take(1)
    (item,) = bench.items()
    bench.hear(Retry(500, RetryReason.DISK_RESERVE, [item.seq]))

    bench.pass_ms(110)

    assert bench.ended() == [("1", Verb.RETRY, Why.ENGINE_BUSY)]
    assert bench.session.room(reserved=False) == bench.credits


def test_a_new_welcome_resubmits_everything_unanswered_in_order(bench: Bench) -> None:
    """A new engine gets what the old one did not answer, and answers each once."""
    bench.open()
    for number in range(4):
        bench.take(number)
    items = bench.items()
    bench.hear(Outcomes([accepted(items[1])]))

    bench.welcome(epoch=2, instance=b"2" * 16)
    bench.out()
    bench.hear(Claimed(bench.session.unit, 11))

    again = bench.items()
    assert [i.seq for i in again] == [1, 3, 4]
    assert {i.unit_epoch for i in again} == {11}


def test_an_older_engine_gets_nothing(bench: Bench) -> None:
    """A lower epoch, or the same one of another instance, is a zombie: no claim, no submit, not open."""
    bench.epoch = 5
    bench.open()
    bench.take(1)
    bench.items()
    for epoch, instance in ((4, b"4" * 16), (5, b"5" * 16)):
        bench.welcome(epoch, instance)

        assert bench.session.state is State.REFUSED
        assert "FENCED" in bench.session.fault
        assert not [m for m in bench.out() if not isinstance(m, Hello)]
        bench.hear(Outcomes([Outcome(1, OutcomeKind.ACCEPTED, Code.OK, "zombie", 1, OrderStatus.PENDING_NEW)]))
        assert bench.ended() == []


def test_the_newest_epoch_outlives_the_process(tmp_path: Path) -> None:
    """A restarted sidecar refuses the engine that its former life had seen replaced."""
    EpochFile(tmp_path / "epochs").require_newest(0, 3, b"a" * 16)
    restarted = EpochFile(tmp_path / "epochs")

    with pytest.raises(FencedError):
        restarted.require_newest(0, 2, b"b" * 16)
    restarted.require_newest(1, 1, b"c" * 16)
    restarted.require_newest(0, 3, b"a" * 16)


def test_a_damaged_epoch_file_stops_the_start(tmp_path: Path) -> None:
    """What can't be read is not taken for empty; a missing folder is named."""
    (tmp_path / "epochs").write_bytes(b"{half")
    with pytest.raises(ConfigError, match="expected the newest engine epoch"):
        EpochFile(tmp_path / "epochs")
    with pytest.raises(ConfigError, match="does not exist"):
        EpochFile(tmp_path / "absent" / "epochs")


def test_silence_is_asked_then_ended(bench: Bench) -> None:
    """A silent engine gets one Ping; without an answer the session is greeted anew and the unanswered kept."""
    bench.open()
    bench.take(1)
    bench.items()
    bench.pass_ms(300)
    assert bench.out() == [Ping()]
    bench.hear(Pong())
    bench.pass_ms(300)
    assert bench.out() == [Ping()]

    bench.pass_ms(800)

    assert isinstance(bench.out()[0], Hello)
    assert not bench.session.is_open
    assert bench.ended() == []


def test_a_late_answer_makes_the_session_new(bench: Bench) -> None:
    """An engine that answers Pings but not the submit is greeted anew; what it then answers counts."""
    bench.open()
    bench.take(1)
    (item,) = bench.items()
    bench.live_ms(1900)
    bench.pass_ms(110)
    assert isinstance(bench.out()[0], Hello)

    bench.hear(Outcomes([accepted(item)]))

    assert bench.ended() == [("1", Verb.ACCEPT, Why.NONE)]


def test_a_failed_send_takes_back_what_was_not_handed_over(bench: Bench) -> None:
    """Without a connection nothing was submitted: the lease's end says not taken for certain."""
    bench.open()
    bench.take(1, until_ns=bench.now_ns + 50 * MS)
    bench.session.on_send_failed(bench.out(), bench.now_ns)

    bench.pass_ms(60)

    (settlement,) = bench.session.ended
    assert (settlement.verb, settlement.is_unknown, settlement.why) == (Verb.ABANDON, False, Why.LEASE_OVER)


def test_a_lease_that_ends_unanswered_is_abandoned_and_still_counts(bench: Bench) -> None:
    """Nobody settles it negatively; its credit is free when the engine answers, and that answer settles nothing."""
    bench.open()
    bench.take(1, until_ns=bench.now_ns + 50 * MS)
    (item,) = bench.items()
    bench.pass_ms(60)
    (settlement,) = bench.session.ended
    assert (settlement.verb, settlement.is_unknown) == (Verb.ABANDON, True)
    assert bench.session.room(reserved=False) == bench.credits - 1
    bench.session.ended.clear()

    bench.hear(Outcomes([accepted(item)]))

    assert bench.ended() == []
    assert bench.session.room(reserved=False) == bench.credits


@pytest.mark.parametrize("reason", [ByeReason.STOPPING, ByeReason.CREDITS, ByeReason.VERSION, ByeReason.MALFORMED])
def test_a_bye_ends_everything_without_an_outcome(bench: Bench, reason: ByeReason) -> None:
    """What was submitted is unknown and abandoned, what waited is given back; a new Hello follows."""
    bench.open()
    for number in range(5):
        bench.take(number)
    bench.items()

    bench.hear(Bye(reason))

    ended = bench.ended()
    assert [e[1] for e in ended] == [Verb.ABANDON] * 4 + [Verb.RETRY]
    bench.pass_ms(200)
    assert isinstance(bench.out()[0], Hello)


def test_a_fence_brings_a_new_instance_that_submits_again(bench: Bench) -> None:
    """The engine does not know the session: under a new instance id everything unanswered goes again."""
    bench.open()
    before = bench.session.unit
    bench.take(1)
    bench.items()

    bench.hear(Bye(ByeReason.FENCED, "no session; say Hello"))
    bench.open()

    assert bench.session.unit != before
    assert [i.seq for i in bench.items()] == [1]


def test_a_drain_waits_for_answers_and_gives_the_rest_back(bench: Bench) -> None:
    """In drain nothing is taken, what waits goes back at once, answers count until the reserve, then Drained."""
    bench.open()
    for number in range(5):
        bench.take(number)
    items = bench.items()
    bench.hear(Drain(4000))
    assert bench.ended() == [("4", Verb.RETRY, Why.DRAINING)]
    assert bench.session.why_closed is Why.DRAINING
    bench.take(9)
    assert bench.ended() == [("9", Verb.RETRY, Why.DRAINING)]
    bench.hear(Outcomes([accepted(i) for i in items[:3]]))
    assert [e[1] for e in bench.ended()] == [Verb.ACCEPT] * 3

    bench.live_ms(3000)

    assert bench.ended() == [("3", Verb.ABANDON, Why.DRAINING)]
    assert bench.session.is_idle
    bench.session.stop(10, bench.now_ns)
    bench.session.drained()
    assert bench.out() == [Drained(), Leave()]


KIND = st.sampled_from(["risk", "risk", "risk", "cancel", "exit"])
TAKE = st.tuples(st.just("take"), st.lists(KIND, min_size=1, max_size=5), st.sampled_from([100, 5000]))
ANSWER = st.tuples(st.just("answer"), st.integers(1, 3))
HISTORY = st.lists(
    st.one_of(
        TAKE,
        TAKE,
        TAKE,
        ANSWER,
        ANSWER,
        st.tuples(st.just("duplicate"), st.integers(0, 10)),
        st.tuples(st.just("retry")),
        st.tuples(st.just("retry")),
        st.tuples(st.just("not_taken")),
        st.tuples(st.just("pass"), st.sampled_from([10, 60, 60, 60, 300, 1100])),
        st.tuples(st.just("send_fails")),
        st.tuples(st.just("welcome"), st.booleans()),
        st.tuples(st.just("zombie")),
        st.tuples(st.just("bye"), st.sampled_from(list(ByeReason))),
        st.tuples(st.just("drain")),
    ),
    min_size=4,
    max_size=40,
)


class World:
    """An engine that keeps the protocol, but acts at the worst moments and judges what it is sent.

    ``inbox`` is what came and is not answered, in order; a Resume stands in it where it was sent.
    """

    def __init__(self, path: Path) -> None:
        self.bench = Bench(path, credits_=3, reserved=1)
        self.taken = 0
        self.kinds: dict[int, str] = {}
        self.inbox: list[Item | Resume] = []
        self.in_retry = False
        self.has_told_retry = False
        self.instance = 0
        self.outcomes: dict[int, Outcome] = {}
        self.last_risk = 0
        self.settled: list[tuple[int, Outcome | None]] = []

    def step(self, name: str, *what: Any) -> None:
        """Let one thing happen; then look at all that the session says and sends."""
        getattr(self, f"do_{name}")(*what)
        self.flush()
        self.settled += [(int(s.delivery.source_id), s.outcome) for s in self.bench.session.ended]
        self.bench.session.ended.clear()

    def flush(self) -> None:
        bench = self.bench
        for message in bench.out():
            if isinstance(message, Claim):
                bench.hear(Claimed(message.unit, self.instance))
            elif isinstance(message, Resume):
                self.has_told_retry = False
                self.inbox.append(message)
            elif isinstance(message, Submit):
                for item in message.items:
                    self.receive(item)

    def receive(self, item: Item) -> None:
        unanswered = sum(isinstance(i, Item) for i in self.inbox)
        reserve = 0 if self.kinds[item.seq] == "risk" else self.bench.reserved
        assert unanswered < self.bench.credits + reserve, "more than the credits"
        assert item.unit_epoch == self.instance, "not claimed"
        assert self.kinds[item.seq] != "risk" or not self.has_told_retry, "new risk during RETRY"
        self.inbox.append(item)

    def decide(self, item: Item) -> Outcome:
        """Answer as a journal would: the first decision stands, risk of the one lane comes in order."""
        if item.seq not in self.outcomes:
            if self.kinds[item.seq] == "risk":
                assert item.seq > self.last_risk, "out of order"
                self.last_risk = item.seq
            self.outcomes[item.seq] = accepted(item)
        return self.outcomes[item.seq]

    def do_take(self, kinds: list[str], lease_ms: int) -> None:
        for kind in kinds:
            self.taken += 1
            self.kinds[self.taken] = kind
            command = CancelOrder("acc", "x") if kind == "cancel" else order(self.taken, reduce_only=kind == "exit")
            self.bench.take(self.taken, command, until_ns=self.bench.now_ns + lease_ms * MS)

    def do_answer(self, count: int) -> None:
        for _ in range(min(count, len(self.inbox))):
            message = self.inbox.pop(0)
            if isinstance(message, Resume):
                self.in_retry = False
            elif self.in_retry and self.kinds[message.seq] == "risk":
                self.bench.hear(Retry(50, RetryReason.VENUE_NOT_READY, [message.seq]))
                self.has_told_retry = True
            else:
                self.bench.hear(Outcomes([self.decide(message)]))

    def do_retry(self) -> None:
        self.in_retry = True
        self.do_answer(1)

    def do_duplicate(self, seq: int) -> None:
        if seq in self.outcomes:
            self.bench.hear(Outcomes([self.outcomes[seq]]))

    def do_not_taken(self) -> None:
        if self.inbox and isinstance(item := self.inbox[0], Item) and item.seq not in self.outcomes:
            self.inbox.pop(0)
            self.bench.hear(Outcomes([Outcome(item.seq, OutcomeKind.NOT_TAKEN, Code.OK, "", 0, OrderStatus.NONE)]))

    def do_pass(self, ms: int) -> None:
        self.bench.pass_ms(ms)

    def do_send_fails(self) -> None:
        self.bench.session.on_send_failed(self.bench.session.outgoing(self.bench.now_ns), self.bench.now_ns)

    def lose_session(self) -> None:
        """Decide some of what came without a word, lose the rest: what a crash leaves of a session."""
        for message in self.inbox[: len(self.inbox) // 2]:
            if isinstance(message, Item) and not (self.in_retry and self.kinds[message.seq] == "risk"):
                self.decide(message)
        self.inbox = []
        self.in_retry = self.has_told_retry = False

    def do_welcome(self, is_new: bool) -> None:
        self.lose_session()
        if is_new or self.instance == 0:
            self.instance += 1
        self.bench.welcome(self.instance, self.instance.to_bytes(16, "big"))

    def do_zombie(self) -> None:
        if self.instance > 1:
            seqs = [item.seq for item in self.inbox if isinstance(item, Item)]
            self.lose_session()
            self.bench.welcome(self.instance - 1, bytes(16))
            zombie = [Outcome(s, OutcomeKind.ACCEPTED, Code.OK, "zombie", s, OrderStatus.NEW) for s in seqs]
            self.bench.hear(Outcomes(zombie))

    def do_bye(self, reason: ByeReason) -> None:
        self.lose_session()
        self.bench.hear(Bye(reason))

    def do_drain(self) -> None:
        self.bench.hear(Drain(3000))


# Each of these catches one planted fault that chance finds rarely.
@example([("take", ["risk"], 100), ("pass", 300), ("answer", 1)])  # an answer after the lease's end settled again
@example([("take", ["risk"] * 5, 5000), ("retry",), ("answer", 2), ("pass", 60), ("answer", 3)])  # held not sorted
@example(
    [("take", ["risk"] * 2, 5000), ("retry",), ("pass", 60), ("take", ["risk"], 5000), ("answer", 1), ("answer", 3),
     ("pass", 60), ("answer", 3)]
)  # Resume before the new risk in flight was answered  # fmt: skip
@given(history=HISTORY)
@settings(max_examples=400, deadline=None)
def test_every_delivery_ends_once_with_the_engines_own_outcome(
    history: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happens in whatever order, and then the engine comes back: exactly once each, nothing made up."""
    world = World(tmp_path_factory.mktemp("session") / "epochs")
    world.step("welcome", True)
    world.step("welcome", True)
    for step in history:
        world.step(*step)
    world.step("welcome", True)
    for _ in range(2 * world.taken + 2):
        world.step("answer", 3)
        world.step("pass", 10)

    assert Counter(number for number, _ in world.settled) == Counter(range(1, world.taken + 1))
    for number, outcome in world.settled:
        assert outcome is None or outcome is world.outcomes[number]
    assert world.bench.session.is_idle
    assert world.bench.session.in_flight == 0
