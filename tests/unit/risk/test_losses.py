"""Limits on losses: RISK.md's examples, what latches and what lifts, what is counted, and that exits always pass."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.explaining import explain_order
from engine.losses import decide_trips
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.codes import Code, Mode, Scope, Side
from protocol.events import events_of
from protocol.marks import LossLevel, Mark, Marked
from protocol.money import Adjust, FxRow
from protocol.params import LimitName
from protocol.records import ControlAction, Started, record_decoder, record_encoder
from protocol.session import Facts
from risk.gate.row_rules import limit_fault
from tests.unit.engine.desk import E9, REFERENCE
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.loss_desk import (
    A1,
    ACTIVE,
    ALL,
    DAILY,
    DRAWDOWN,
    HALTED,
    REDUCING,
    S1,
    LossDesk,
    row,
)

ALERT, RED, HALT = LossLevel.ALERT, LossLevel.REDUCING, LossLevel.HALTED
SELL = Side.SELL


def test_a_loss_at_the_limit_is_reduce_only_and_stays_so() -> None:
    """L = 50,000: -49,999 passes, -50,000 is reduce-only, back at -10,000 still, -75,000 is halted; exits pass all."""
    desk = LossDesk(row(DAILY, 50_000), position=1_000)
    assert desk.marks(XY=50.001) == [(A1, Code.LOSS_DAILY, ALERT)]
    assert (desk.is_in(), desk.says()) == (ACTIVE, Code.OK)
    assert desk.marks(XY=50) == [(A1, Code.LOSS_DAILY, RED)]
    assert desk.state.halts[A1].reason == "LOSS_DAILY: expected a loss of less than 50000, was 50000 USDT"
    assert (desk.says(), desk.says(SELL)) == (Code.STATE_REDUCING, Code.OK)
    assert desk.marks(XY=90) == []
    assert (desk.is_in(), desk.profit()) == (REDUCING, -10_000 * E9)
    assert desk.marks(XY=25) == [(A1, Code.LOSS_DAILY, HALT)]
    assert (desk.is_in(), desk.says(), desk.says(SELL)) == (HALTED, Code.STATE_HALTED, Code.OK)
    assert desk.says(account="a2") is Code.OK


def test_a_person_is_told_once_at_four_fifths_of_the_limit() -> None:
    """80 % is an alert: the event says it, nothing is stopped, and it is not said again."""
    desk = LossDesk(row(DAILY, 1_000), position=10)
    assert desk.marks(XY=20.1) == []
    assert desk.marks(XY=20) == [(A1, Code.LOSS_DAILY, ALERT)]
    seq, now_ns, _, record = desk.records[-1]
    (event,) = events_of(seq, now_ns, record)
    assert "account a1 ALERT: LOSS_DAILY: expected a loss of less than 1000, was 800 USDT" in str(event)
    assert desk.marks(XY=50) == desk.marks(XY=15) == []
    assert desk.is_in() is ACTIVE
    seq, now_ns, _, record = desk.records[-1]
    assert events_of(seq, now_ns, record) == []  # prices alone are no news


def test_the_next_day_lifts_what_the_day_stopped_and_counts_from_there() -> None:
    """What was lost yesterday is no loss of today; one that the limit stops today is stopped anew."""
    desk = LossDesk(row(DAILY, 100), position=10)
    desk.marks(XY=90)
    assert desk.is_in() is REDUCING
    desk.rolls()
    assert (desk.is_in(), desk.says(), desk.profit()) == (ACTIVE, Code.OK, 0)
    assert desk.marks(XY=85) == []
    assert desk.marks(XY=80) == [(A1, Code.LOSS_DAILY, RED)]
    assert desk.hash() == desk.replayed_hash()


def test_a_person_who_resumes_has_it_counted_from_there() -> None:
    """After a resume another limit's worth may be lost; what others halted is not resumed by it."""
    desk = LossDesk(row(DAILY, 100), position=10)
    assert desk.marks(XY=90) == [(A1, Code.LOSS_DAILY, RED)]
    desk.control(ControlAction.RESUME, *A1)
    assert (desk.is_in(), desk.profit()) == (ACTIVE, 0)
    assert desk.marks(XY=81) == [(A1, Code.LOSS_DAILY, ALERT)]
    assert desk.marks(XY=80) == [(A1, Code.LOSS_DAILY, RED)]
    assert desk.hash() == desk.replayed_hash()


def test_what_a_person_set_is_there_again_when_the_limit_lets_go() -> None:
    """Reduce-only by hand, halted for a loss: the next day it is reduce-only as before, with the person's reason."""
    desk = LossDesk(row(DAILY, 100), position=10)
    desk.control(ControlAction.REDUCE_ONLY, *A1)
    assert desk.marks(XY=85) == [(A1, Code.LOSS_DAILY, HALT)]
    assert desk.is_in() is HALTED
    desk.rolls()
    assert (desk.is_in(), desk.state.halts[A1].operator) == (REDUCING, "op")
    desk.control(ControlAction.HALT, *A1)
    desk.marks(XY=10)
    desk.rolls(20260601)
    assert desk.state.halts[A1].state.name == "HALTED"
    assert desk.hash() == desk.replayed_hash()


def test_what_a_person_lifted_does_not_come_back_with_the_day() -> None:
    """Reduce-only by hand, halted for a loss, resumed: the next day lifts the next loss, and nothing is there again."""
    desk = LossDesk(row(DAILY, 100), position=10)
    desk.control(ControlAction.REDUCE_ONLY, *A1)
    desk.marks(XY=85)
    desk.control(ControlAction.RESUME, *A1)
    desk.marks(XY=75)
    assert desk.is_in() is REDUCING
    desk.rolls()
    assert (desk.is_in(), desk.state.losses.replaced) == (ACTIVE, {})


def test_a_ledger_that_nothing_was_ever_in_decides_nothing() -> None:
    """A refused order may have made it here and not in a recovery, so a mark of it alone looks at no limit."""
    desk = LossDesk(row(DAILY, 100))
    desk.adjusts(Adjust("rate", fx=[FxRow("EUR", "USDT", 1 * E9)]))
    desk.holds(10, 100, instrument="EU")
    desk.marks(EU=95)
    desk.adjusts(Adjust("rate", fx=[FxRow("EUR", "USDT", 2 * E9)]))
    assert desk.says(instrument="ZZ") is Code.OK
    assert desk.marks(ZZ=100) == []
    assert desk.marks(EU=95) == [(A1, Code.LOSS_DAILY, RED)]


def test_a_fall_from_the_peak_is_reduce_only_until_a_person() -> None:
    """Peak 110, D = 10: 100.01 passes, 100 is reduce-only, and the next day does not lift it; looked at, it begins."""
    desk = LossDesk(row(DRAWDOWN, 10), position=1)
    assert desk.marks(XY=110) == desk.marks(XY=100.01) == []
    assert desk.says() is Code.OK
    assert desk.marks(XY=100) == [(A1, Code.LOSS_DRAWDOWN, RED)]
    assert (desk.says(), desk.says(SELL)) == (Code.STATE_REDUCING, Code.OK)
    desk.rolls()
    assert desk.is_in() is REDUCING
    desk.control(ControlAction.RESUME, *A1)
    assert desk.marks(XY=90.01) == []
    assert desk.marks(XY=90) == [(A1, Code.LOSS_DRAWDOWN, RED)]


def test_the_day_lifts_its_own_limit_and_leaves_the_fall() -> None:
    """Both reached at once: the next day the account is still in reduce-only, for the fall."""
    desk = LossDesk(row(DAILY, 10), row(DRAWDOWN, 10), position=1)
    assert desk.marks(XY=90) == [(A1, Code.LOSS_DAILY, RED), (A1, Code.LOSS_DRAWDOWN, RED)]
    desk.rolls()
    assert desk.is_in() is REDUCING
    assert desk.state.halts[A1].reason.startswith("LOSS_DRAWDOWN")
    assert desk.hash() == desk.replayed_hash()


def test_realised_unrealised_and_fees_count_at_every_scope() -> None:
    """Two accounts, two strategies: each scope has its own, the engine all of them; a short loses when prices rise."""
    desk = LossDesk(row(DAILY, 10**6), row(DAILY, 10**6, S1), row(DAILY, 10**6, ALL))
    desk.deals(5, 100, fee=3)
    desk.deals(2, 110, side=SELL)  # +20 realised
    desk.deals(4, 100, side=SELL, account="a2", strategy="s2", fee=1)
    desk.deals(1, 100, account="a2")
    desk.marks(XY=101)
    assert desk.profit(A1) == (20 + 3 - 3) * E9
    assert desk.profit(S1) == (20 + 3 - 3 + 1) * E9
    assert desk.profit(ALL) == (20 + 3 - 3 - 4 - 1 + 1) * E9
    desk.marks(XY=(100, 102))  # wide quotes: longs at the low, shorts at the high
    assert desk.profit(A1) == (20 + 0 - 3) * E9
    assert desk.profit(ALL) == (20 - 3 - (3 * 2) - 1) * E9  # of the account's net position


def test_a_global_limit_is_one_for_the_whole_engine() -> None:
    """Each account below it, together above: everybody is in reduce-only."""
    desk = LossDesk(row(DAILY, 100, ALL))
    desk.holds(6, 100)
    desk.holds(6, 100, account="a2")
    assert desk.marks(XY=90) == [(ALL, Code.LOSS_DAILY, RED)]
    assert desk.is_in(ALL) is REDUCING
    assert desk.says(account="a2") is desk.says() is Code.STATE_REDUCING


def test_transfers_are_no_profit_and_a_position_set_from_outside_goes_on() -> None:
    """Cash paid in, a position settled at a price, one that came: the profit is what it was, and goes on from there."""
    desk = LossDesk(row(DAILY, 10**6), position=10)
    desk.marks(XY=95)
    assert desk.profit() == -50 * E9
    desk.pays_in(1_000_000)
    desk.holds(10, 93)  # settled 2 lower than marked
    desk.marks(XY=95)
    assert desk.profit() == -50 * E9
    desk.holds(25, 95)
    desk.marks(XY=96)
    assert desk.profit() == -25 * E9
    desk.holds(0, 0)
    desk.marks(XY=50)
    assert desk.profit() == -25 * E9


def test_a_profit_from_before_the_limit_is_none() -> None:
    """A limit set in the middle of a day counts from its first marks; so does one more at another scope."""
    desk = LossDesk(position=10)
    desk.deals(5, 100)
    assert desk.marks(XY=50) == []
    assert desk.state.losses.rows() == ()
    desk.set_params(msgspec.structs.replace(desk.given, limits=(row(DAILY, 100),)))
    assert desk.marks(XY=40) == []
    assert desk.profit() == 0
    desk.marks(XY=41)
    desk.set_params(msgspec.structs.replace(desk.given, limits=(row(DAILY, 100), row(DAILY, 100, ALL))))
    desk.marks(XY=42)
    assert (desk.profit(), desk.profit(ALL)) == (30 * E9, 15 * E9)
    desk.set_params(desk.given)
    assert desk.hash() == desk.replayed_hash()
    assert not desk.state.losses.is_used


def test_what_a_limit_does_not_concern_is_not_touched() -> None:
    """A limit on a1: nothing of a2 is kept, and its orders take the plain gate."""
    desk = LossDesk(row(DAILY, 100))
    desk.deals(1, 100)
    desk.deals(1, 100, account="a2")
    assert {key[0] for key in desk.state.losses.holdings} == {"a1"}
    routes = {account: route.is_complete for (account, _, _), route in desk.state.routes.items()}
    assert routes == {"a1": True, "a2": False}


def test_without_a_fresh_price_of_what_is_held_no_new_risk_is_taken() -> None:
    """PNL_UNKNOWN: exits pass, others too, and all when there is a price or no position; at a start none is known."""
    desk = LossDesk(row(DAILY, 100), position=2)
    desk.marks(XY=100)
    assert desk.says() is Code.OK
    desk.marks(XY=None)
    assert (desk.says(), desk.says(SELL, 2), desk.says(instrument="ZZ")) == (
        Code.PNL_UNKNOWN,
        Code.OK,
        Code.PNL_UNKNOWN,
    )
    assert desk.says(account="a2") is Code.OK
    desk.marks(XY=99)
    assert desk.says() is Code.OK
    desk.apply(Started(3, b"k" * 16, Mode.PAPER, 0, 20260530, 1, "1", books_money=True))
    desk.ready()
    assert desk.says() is Code.PNL_UNKNOWN
    desk.deals(2, 99, side=SELL)
    desk.marks(XY=None)
    assert desk.says() is Code.OK


def test_without_an_exchange_rate_the_profit_is_unknown() -> None:
    """A loss in EUR in an account of USDT: unknown until there is a rate, and then counted at it."""
    desk = LossDesk(row(DAILY, 100))
    desk.holds(10, 100, instrument="EU")
    assert desk.marks(EU=95) == []
    assert (desk.profit(), desk.says()) == (None, Code.PNL_UNKNOWN)
    desk.adjusts(Adjust("rate", fx=[FxRow("EUR", "USDT", 2 * E9)]))
    assert desk.marks(EU=95) == [(A1, Code.LOSS_DAILY, RED)]
    assert desk.profit() == -100 * E9


def test_recovery_verify_and_snapshots_come_to_the_same(tmp_path: Path) -> None:
    """Records out and in again lead a new core and a loaded snapshot to the same state, hash and next decision."""
    desk = LossDesk(row(DAILY, 100), row(DRAWDOWN, 50, S1), row(DAILY, 500, ALL), position=3)
    desk.deals(5, 100, fee=2)
    desk.marks(XY=99, ZZ=None)
    desk.deals(1, 100, instrument="ZZ")
    desk.control(ControlAction.REDUCE_ONLY, *A1)
    desk.marks(XY=80, ZZ=None)
    assert (desk.is_in(), desk.state.losses.replaced.keys()) == (HALTED, {A1})
    for _, _, _, record in desk.records:
        assert record_decoder.decode(record_encoder.encode(record)) == record
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert core.state.losses.rows() == desk.state.losses.rows() != ()
    assert state_hash(core.state) == desk.hash()
    losses = core.state.losses
    assert all(route.more.pnl is losses.pnls[account] for (account, _, _), route in core.state.routes.items())
    assert all(h.ledger in (core.state.book.ledger(*h.key[::2]), core.state.routes[h.key].own if h.key[1] else None)
               for h in losses.holdings.values())  # fmt: skip
    marks = [Mark("XY", 1 * E9, 1 * E9)]
    assert decide_trips(core.state, marks) == decide_trips(desk.state, marks) != []
    desk.rolls()
    assert desk.hash() == desk.replayed_hash() != state_hash(core.state)


def test_an_explanation_says_how_much_of_each_limit_is_used_up() -> None:
    """Of the scope that is nearest to its limit; where there is none, so; an exit passes them."""
    desk = LossDesk(row(DAILY, 100), row(DAILY, 500, ALL), position=3)
    desk.marks(XY=80)

    def said(side: Side) -> dict[Code, tuple[bool, object]]:
        order = desk.order("x", side)
        answers = explain_order(desk.core, order, ("src", "all"), desk.now, desk.now, REFERENCE)
        return {answer.code: (answer.passes, answer.facts) for answer in answers}

    told = said(Side.BUY)
    assert told[Code.LOSS_DAILY] == (True, Facts(100 * E9, 60 * E9, *A1))
    assert told[Code.LOSS_DRAWDOWN] == told[Code.MARGIN_UTILISATION] == (True, None)
    desk.marks(XY=60)
    assert (said(Side.BUY)[Code.LOSS_DAILY][0], said(SELL)[Code.LOSS_DAILY][0]) == (False, True)


def test_another_decision_than_the_recorded_one_is_noticed() -> None:
    """`wojak journal verify` decides again: a trip that is missing, or one too many, is another decision."""
    desk = LossDesk(row(DAILY, 100), position=10)
    marks = [Mark("XY", 80 * E9, 80 * E9)]
    trips = decide_trips(desk.state, marks)
    assert desk.core.decide_again(Marked(marks, trips), desk.now) is True
    assert desk.core.decide_again(Marked(marks, []), desk.now) is False
    assert desk.core.decide_again(Marked([], trips), desk.now) is False


@pytest.mark.parametrize("name", [DAILY, DRAWDOWN])
def test_a_limit_of_nothing_is_refused(name: LimitName) -> None:
    """0 would stop a scope that never traded; and losses of an instrument are nobody's limit."""
    assert "at least 1" in limit_fault(row(name, 0))
    assert "scope expected" in limit_fault(row(name, 1, (Scope.INSTRUMENT, "XY")))
    assert limit_fault(row(name, 1)) == ""
