"""A position that shrinks outside its exits: the newest that exceed what is left are cancelled, so none can flip it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.order import Order
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.amends import SuspenseResolved
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind, Scope, Side
from protocol.decisions import ExitDecision, ReportDecision, ReportEffect
from protocol.event_kinds import StatusEvent
from protocol.events import events_of
from protocol.records import Adjusted, ControlAction, Controlled, Queried, VenueChanged
from protocol.replaces import ReplaceDecision
from tests.unit.engine.desk import E9
from tests.unit.engine.oco_desk import OcoDesk
from tests.unit.engine.test_differing import Counting
from tests.unit.engine.test_snapshot import save
from tests.unit.engine.test_suspense import Suspending

S = OrderStatus
SELL, BUY = Side.SELL, Side.BUY
UNSENT = 1 << 62


class Drifting(Counting, Suspending, OcoDesk):
    """A desk whose position can shrink in every way there is, and whose engine cancels what is stale."""

    def held(self, quantity: int, *, strategy: str = "s1") -> Order:
        """Hold a position that was traded here, as trade H."""
        order = self.accept(self.order("held", BUY if quantity > 0 else SELL, abs(quantity), strategy=strategy))
        self.report(ExecType.TRADE, order.order_id, quantity=abs(quantity), trade_id="H")
        return order

    def exit(self, name: str, quantity: int, side: Side = SELL, price: int = 104, *, sent: bool = True) -> Order:
        order = self.accept(self.order(name, side, quantity, price))
        assert order.is_exit
        if sent:
            self.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
        return order

    def cancel_stale(self, unsent_from: int = UNSENT) -> list[tuple[str, Code]]:
        """Do what the loop does, at the end of every turn; return what is cancelled."""
        record = self.core.stale_exits.decide({"sandbox": unsent_from})
        if record is None:
            return []
        assert record.action is ControlAction.EXIT_STALE
        self.apply(record)
        return [(c.client_order_id, c.code) for c in record.cancels]

    def adjust(self, quantity: int) -> None:
        self.apply(Adjusted("a1", "XY", quantity * E9, 100 * E9, "", "", "statement"))

    def lose_answers(self) -> Queried:
        """Let the gateway come back without an answer to what it got."""
        self.apply(VenueChanged("sandbox", True, b"g" * 16, self.venue.last_seq))
        queried = self.core.reports.decide_unknown(self.venue, self.venue.last_seq)
        assert queried is not None
        self.apply(queried)
        return queried

    def exits_leave(self) -> tuple[int, int]:
        """Return what all open exits together could still sell and buy, but for those being cancelled as stale."""
        left = {SELL: 0, BUY: 0}
        for order in self.state.orders.values():
            if order.is_exit and order.status is not S.SUSPENDED and order.order_id not in self.state.stale:
                left[order.side] += order.leaves
        return left[SELL], left[BUY]


@pytest.fixture
def desk() -> Drifting:
    return Drifting()


def by_bust(d: Drifting) -> None:
    assert d.amend(next(iter(d.venue.trade_ids.values()))[0], "H")[0].effect is ReportEffect.APPLIED  # type: ignore[index]


def by_correction(d: Drifting) -> None:
    counted = d.venue.trade_ids["H"]
    assert counted is not None
    d.amend(counted[0], "H", quantity=4, price=100)


def by_adjustment(d: Drifting) -> None:
    d.adjust(4)


def by_a_late_fill(d: Drifting) -> None:
    """Of an order whose end the venue had reported."""
    over = next(o for o in d.state.closed.values() if o.client_order_id == "over")
    d.report(ExecType.TRADE, over.order_id, quantity=6)


def by_a_fill_entered(d: Drifting) -> None:
    over = next(o for o in d.state.closed.values() if o.client_order_id == "over")
    assert isinstance(d.enter(over.order_id, "T9", 6), ReportDecision)


def by_a_word_on_an_order_in_doubt(d: Drifting) -> None:
    """Of one that is no exit; the operator says that it filled."""
    order = d.accept(d.order("flip", SELL, 6, 104))
    assert not order.is_exit
    d.lose_answers()
    resolved = d.core.controls.decide_resolve(order.order_id, S.FILLED, 6 * E9, 100 * E9, "op", "desk said so")
    assert isinstance(resolved, Controlled)
    d.apply(resolved)


def by_suspense(d: Drifting) -> None:
    d.unknown("T8", 6)
    assert isinstance(d.assign("T8", instrument="XY", side=SELL), SuspenseResolved)


WAYS = [
    by_correction, by_adjustment, by_a_late_fill, by_a_fill_entered, by_a_word_on_an_order_in_doubt, by_suspense,
]  # fmt: skip


@pytest.mark.parametrize("shrink", WAYS, ids=lambda way: way.__name__)
def test_the_newest_exits_that_exceed_what_is_left_are_cancelled(
    desk: Drifting, shrink: Callable[[Drifting], None]
) -> None:
    """However it shrinks: of exits of three, three and four, with four left, the last two go, with the code."""
    desk.held(10)
    over = desk.accept(desk.order("over", SELL, 6, 104))
    desk.report(ExecType.CANCELED, over.order_id)
    old, mid, new = desk.exit("old", 3), desk.exit("mid", 3), desk.exit("new", 4)
    assert desk.cancel_stale() == []

    shrink(desk)

    assert desk.position == 4
    assert desk.cancel_stale() == [("new", Code.EXIT_STALE), ("mid", Code.EXIT_STALE)]
    assert (old.status, mid.status, new.status) == (S.NEW, S.PENDING_CANCEL, S.PENDING_CANCEL)
    assert desk.cancel_stale() == []
    for order in (mid, new):
        desk.report(ExecType.CANCELED, order.order_id, venue_seq=order.cancel_seq)
    assert desk.state.stale == {}
    assert desk.exits_leave() == (3, 0)
    desk.check()


def test_a_position_that_is_gone_or_turned_leaves_no_exit(desk: Drifting) -> None:
    """Long no more: all sells that were exits; of a short one likewise."""
    desk.held(10)
    desk.exit("a", 4)
    desk.exit("b", 6)
    by_bust(desk)
    assert desk.cancel_stale() == [("b", Code.EXIT_STALE), ("a", Code.EXIT_STALE)]
    short = Drifting()
    short.held(-10)
    short.exit("c", 10, BUY, 96)
    short.adjust(5)
    assert short.cancel_stale() == [("c", Code.EXIT_STALE)]
    desk.check()
    short.check()


def test_what_fits_stays_and_a_position_that_grows_makes_nothing_stale(desk: Drifting) -> None:
    """Exits of exactly what is left, and of less."""
    desk.held(10)
    desk.exit("a", 4)
    desk.adjust(4)
    desk.adjust(20)
    assert desk.cancel_stale() == []
    assert desk.state.stale_count == 0
    desk.check()


def test_an_order_taken_though_it_could_flip_is_no_exit(desk: Drifting) -> None:
    """It is within the limits that it was taken under, whatever the position does; exits are judged without it."""
    desk.held(10)
    exit_ = desk.exit("exit", 6)
    flip = desk.accept(desk.order("flip", SELL, 9, 104))
    assert not flip.is_exit
    desk.adjust(6)
    assert desk.cancel_stale() == []
    desk.adjust(5)
    assert desk.cancel_stale() == [("exit", Code.EXIT_STALE)]
    assert (exit_.status, flip.status) == (S.PENDING_CANCEL, S.PENDING_NEW)
    desk.check()


def test_a_bust_of_an_exits_own_fill_gives_back_what_it_took(desk: Drifting) -> None:
    """The position grows by what the exit can fill again: nothing is stale."""
    desk.held(10)
    order = desk.exit("a", 10)
    desk.report(ExecType.TRADE, order.order_id, quantity=6, trade_id="T2")
    assert desk.bust(order, "T2") is ReportEffect.APPLIED
    assert (order.leaves, desk.position) == (10, 10)
    assert desk.cancel_stale() == []
    desk.check()


def test_an_overfill_of_one_exit_makes_the_others_stale(desk: Drifting) -> None:
    """More than it is was sold: the instrument halts, and what is left is less than the next exit."""
    desk.held(10)
    first = desk.exit("first", 4)
    desk.exit("second", 6)
    assert desk.report(ExecType.TRADE, first.order_id, quantity=5).effect is ReportEffect.OVERFILL
    assert desk.cancel_stale() == [("second", Code.EXIT_STALE)]
    desk.check()


def test_what_a_stale_exit_fills_before_its_cancel_is_gone_for_the_others(desk: Drifting) -> None:
    """In part or whole: the older ones are stale then too."""
    for filled in (3, 6):
        desk = Drifting()
        desk.held(10)
        desk.exit("old", 2)
        desk.exit("mid", 2)
        new = desk.exit("new", 6)
        desk.adjust(4)
        assert desk.cancel_stale() == [("new", Code.EXIT_STALE)]
        desk.fill(new, filled)
        expected = ["mid", "old"] if filled >= 3 else ["mid"]
        assert [name for name, _ in desk.cancel_stale()] == expected
        desk.check()


def test_one_that_was_never_sent_ends_here(desk: Drifting) -> None:
    """Its number goes out empty; the event says why."""
    desk.held(10)
    order = desk.exit("a", 10, sent=False)
    desk.adjust(4)
    assert desk.cancel_stale(unsent_from=order.venue_seq) == [("a", Code.EXIT_STALE)]
    assert (order.status, order.leaves) == (S.CANCELED, 0)
    assert desk.state.stale == {}
    seq, now_ns, _, record = desk.records[-1]
    (_, told) = events_of(seq, now_ns, record)
    assert isinstance(told, StatusEvent)
    assert (told.code, told.exec_type) == (Code.EXIT_STALE, ExecType.CANCELED)
    desk.check()


def test_a_cancel_that_was_refused_is_made_again(desk: Drifting) -> None:
    """Until the order is over, by whatever end; one that is being cancelled already is not cancelled twice."""
    desk.held(10)
    order = desk.exit("a", 10)
    desk.cancel("a")
    desk.adjust(4)
    assert desk.cancel_stale() == []
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
    assert desk.cancel_stale() == [("a", Code.EXIT_STALE)]
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
    assert desk.cancel_stale() == [("a", Code.EXIT_STALE)]
    desk.fill(order, 10)
    assert desk.state.stale == {}
    assert desk.cancel_stale() == []
    desk.check()


def test_one_in_doubt_is_cancelled_and_never_sent_again(desk: Drifting) -> None:
    """Though the venue then says that it never saw it: the send gate has the last word."""
    desk.held(10)
    order = desk.exit("a", 10, sent=False)
    queried = desk.lose_answers()
    desk.adjust(4)
    assert desk.cancel_stale() == [("a", Code.EXIT_STALE)]
    desk.report(ExecType.NOT_FOUND, order.order_id, venue_seq=queried.queries[0][1])
    sent = desk.core.reports.decide_send(order, desk.venue.last_seq + 1, desk.now, None)
    assert sent.code is Code.UNSENT_KILLED
    desk.apply(sent)
    assert (order.status, desk.state.stale) == (S.CANCELED, {})
    desk.check()


def test_what_waits_in_the_engine_is_not_stale(desk: Drifting) -> None:
    """It takes no more than what is left when it goes out: a group's second leg, an exit in the place of others."""
    desk.held(10)
    desk.submit_oco(desk.oco("g", quantity=6))
    desk.exit("stop", 4)
    replaced = desk.submit_exit(desk.exit_replace("x", ["stop"], 4))
    assert isinstance(replaced, ExitDecision)
    assert replaced.kind is OutcomeKind.ACCEPTED
    desk.adjust(3)
    assert desk.cancel_stale() == [("g/1", Code.EXIT_STALE)]  # the exit that x waits for is being cancelled
    waiting = [o.client_order_id for o in desk.state.orders.values() if o.status is S.SUSPENDED]
    assert waiting == ["g/2", "x"]
    desk.check()


def test_a_replace_that_makes_an_exit_larger_than_an_exit_ends_its_being_one(desk: Drifting) -> None:
    """While unanswered, or refused, the old terms are an exit still; a larger one within the position stays one."""
    desk.held(10)
    order = desk.exit("a", 4)
    grown = desk.replace("a", "b", 6)
    assert isinstance(grown, ReplaceDecision)
    desk.answer(ExecType.REPLACED, order, 6, 104, venue_seq=grown.venue_seq)
    assert order.is_exit
    for name, answer, is_exit in (("c", ExecType.REPLACE_REJECT, True), ("d", ExecType.REPLACED, False)):
        flip = desk.replace("a", name, 15)
        assert isinstance(flip, ReplaceDecision)
        assert flip.kind is OutcomeKind.ACCEPTED
        assert order.is_exit
        quantity = 15 if answer is ExecType.REPLACED else 6
        desk.answer(answer, order, quantity, 104, venue_seq=flip.venue_seq)
        assert order.is_exit is is_exit
    desk.adjust(1)
    assert desk.cancel_stale() == []
    desk.check()


def test_other_accounts_and_instruments_are_not_touched(desk: Drifting) -> None:
    """The position of one account in one instrument shrank."""
    desk.held(10)
    desk.apply(Adjusted("a2", "XY", 10 * E9, 100 * E9, "", "", "opening"))
    desk.exit("mine", 10)
    desk.accept(desk.order("theirs", SELL, 10, 104, account="a2"))
    desk.adjust(4)
    assert desk.cancel_stale() == [("mine", Code.EXIT_STALE)]
    desk.check()


def test_a_crash_before_the_cancels_forgets_none(desk: Drifting, tmp_path: Path) -> None:
    """What is stale is state: in the hash, in a snapshot, and after a replay; and what it would decide is the same."""
    desk.held(10)
    desk.exit("a", 4)
    desk.exit("b", 6)
    desk.adjust(4)
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert state_hash(core.state) == desk.hash() == desk.replayed_hash()
    assert core.stale_exits.decide({}) == desk.core.stale_exits.decide({})
    desk.state.stale.clear()
    assert desk.hash() != desk.replayed_hash()


def test_a_verifier_decides_other_cancels_otherwise(desk: Drifting) -> None:
    """A record that cancels the older exit, or none, is not what is decided."""
    desk.held(10)
    desk.exit("a", 4)
    desk.exit("b", 6)
    desk.adjust(4)
    record = desk.core.stale_exits.decide({})
    assert record is not None
    assert desk.core.decide_again(record, desk.now) is True
    none = Controlled(ControlAction.EXIT_STALE, Scope.GLOBAL, "", "engine", record.reason, True, [])
    assert desk.core.decide_again(none, desk.now) is False


@given(st.lists(st.tuples(st.sampled_from("enxfcbtl"), st.integers(1, 9)), max_size=25))
def test_no_exit_carries_a_position_past_zero_whatever_moves_it(walk: list[tuple[str, int]]) -> None:
    """Exits, other orders, fills, cancels, a position that shrinks outside: all exits together fit what is left."""
    # Of fills that shrink it only those of exits: another order's are within the limits it was taken under.
    desk = Drifting()
    desk.held(10)
    for n, (step, amount) in enumerate(walk):
        orders = [o for o in desk.state.orders.values() if o.status is not S.SUSPENDED]
        order = orders[amount % len(orders)] if orders else None
        trades = [t for t, c in desk.venue.trade_ids.items() if c is not None and c[2]]
        match step:
            case "e":
                side = SELL if desk.position > 0 else BUY
                desk.submit(desk.order(f"o{n}", side, amount, 100))
            case "n":
                desk.submit(desk.order(f"o{n}", BUY if desk.position > 0 else SELL, amount, 100))
            case "x" if order is not None and (order.is_exit or (order.side is BUY) == (desk.position >= 0)):
                desk.fill(order, min(amount, order.leaves))
            case "f" if trades:
                counted = desk.venue.trade_ids[trades[amount % len(trades)]]
                assert counted is not None
                desk.amend(counted[0], trades[amount % len(trades)])
            case "c" if order is not None:
                desk.report(ExecType.CANCELED, order.order_id)
            case "b":
                desk.adjust((amount - 5) * (1 if desk.position >= 0 else -1))
            case "t" if trades:
                counted = desk.venue.trade_ids[trades[-1]]
                assert counted is not None
                desk.amend(counted[0], trades[-1], quantity=amount, price=100)
            case "l" if desk.state.closed:
                over = list(desk.state.closed.values())[amount % len(desk.state.closed)]
                desk.report(ExecType.TRADE, over.order_id, quantity=1)
        sells, buys = desk.exits_leave()
        assert sells <= max(0, desk.position)
        assert buys <= max(0, -desk.position)
        desk.cancel_stale()
    desk.check()
