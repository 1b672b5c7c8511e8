"""The session under any history: each delivery ends once, with the engine's own outcome, in order, within credits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.codes import ByeReason, Code, OrderStatus, OutcomeKind, RetryReason
from protocol.orders import CancelOrder
from protocol.session import (
    Bye,
    Claim,
    Claimed,
    Drain,
    Item,
    Outcome,
    Outcomes,
    Resume,
    Retry,
    Submit,
)
from tests.unit.sidecars.session_bench import MS, Bench, accepted, order

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

    def __init__(self, path: Path, *, several: bool = False) -> None:
        self.bench = Bench(path, credits_=3, reserved=1, several=several)
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
        """Say an outcome again. To an item submitted again it is the answer, as any: it counts as unanswered no more.

        One channel keeps its order: an answer from before a Welcome never comes behind it. This session's may come
        before those of older items: the engine tells what waits for RETRY after the outcomes of a turn.
        """
        if seq in self.outcomes:
            self.inbox = [m for m in self.inbox if isinstance(m, Resume) or m.seq != seq]
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


# Each of these catches one planted fault that chance finds rarely: an answer after the lease's end that settles again,
# held items that come back unsorted, a Resume before the new risk in flight was answered. Those with a Welcome were
# faults of this model: the answer to an item submitted again frees its credit at once, also when it comes out of turn.
@example(history=[("take", ["risk"], 100), ("pass", 300), ("answer", 1)])
@example(history=[("take", ["risk"] * 5, 5000), ("retry",), ("answer", 2), ("pass", 60), ("answer", 3)])
@example(history=[("take", ["risk"] * 3, 100), ("welcome", False), ("take", ["risk"], 100), ("duplicate", 1)])
@example(
    history=[
        *[("take", ["risk"] * 2, 5000), ("retry",), ("pass", 60), ("take", ["risk"], 5000)],
        *[("answer", 1), ("answer", 3), ("pass", 60), ("answer", 3)],
    ]
)
@example(history=[("take", ["risk"] * 4, 100), ("welcome", False), ("retry",), ("duplicate", 1)])
@given(history=HISTORY)
@settings(max_examples=400, deadline=None)
def test_every_delivery_ends_once_with_the_engines_own_outcome(
    history: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happens in whatever order, and then the engine comes back: exactly once each, nothing made up."""
    check(World(tmp_path_factory.mktemp("session") / "epochs"), history)


@example(history=[("take", ["risk"] * 2, 5000), ("drain",), ("take", ["risk", "cancel"], 5000), ("answer", 3)])
@example(history=[("take", ["risk"] * 5, 5000), ("drain",), ("bye", ByeReason.STOPPING), ("take", ["risk"], 5000)])
@example(history=[("take", ["risk"] * 4, 100), ("welcome", False), ("retry",), ("duplicate", 1)])
@given(history=HISTORY)
@settings(max_examples=400, deadline=None)
def test_so_it_does_where_other_shards_go_on(
    history: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A session that holds what comes for an engine that is away or drains keeps every rule, the lane's order first."""
    world = World(tmp_path_factory.mktemp("session") / "epochs", several=True)
    check(world, history)


def check(world: World, history: list[tuple[Any, ...]]) -> None:
    """Let it happen, then let the engine be well; everything has ended once, with the engine's word or none."""
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
