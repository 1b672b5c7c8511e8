"""OCO groups when the day ends, their source is away, a scope reduces, is flattened or killed; and odd terms."""

from __future__ import annotations

import pytest
from msgspec import structs

from protocol.codes import Code, ExecType, OrderStatus, Scope, Side, TimeInForce
from protocol.decisions import ReportEffect
from protocol.records import ControlAction, DayOrdersExpired
from tests.unit.engine.amending import Amending
from tests.unit.engine.desk import E9, params
from tests.unit.engine.oco_desk import OcoDesk, group
from tests.unit.engine.test_disconnect import away, given
from tests.unit.engine.test_flatten import FlatDesk, made
from tests.unit.engine.test_rolls import Days
from tests.unit.venues.stage import XY

S = OrderStatus


class OcoDays(Days, OcoDesk):
    """A desk that knows groups, and whose days end."""


class OcoFlats(FlatDesk, OcoDesk):
    """A desk that knows groups, and is flattened."""


def test_a_stop_for_the_day_ends_with_it() -> None:
    """The target is good till cancelled and works on alone; the stop, of no venue, is over at once."""
    d = OcoDays(position=10)
    first, second = d.accept_oco(d.oco("g", time_in_force=TimeInForce.DAY))
    d.roll()
    assert d.watch(95) == []  # it is of a day that is over: the target is not cancelled for it
    step = d.step()
    assert isinstance(step, DayOrdersExpired)
    assert [(c.order_id, c.venue_seq, c.code) for c in step.cancels] == [(second.order_id, 0, Code.DAY_OVER)]
    d.finish()
    assert (first.status, second.status) == (S.PENDING_NEW, S.CANCELED)
    d.fill(first, 10)
    d.require_flat()


def test_a_group_good_till_cancelled_is_carried() -> None:
    """The stop waits on over the end of the day, is cancelled by the group's id or goes out under its own."""
    d = OcoDays(position=10)
    first, second = d.accept_oco(d.oco("g"))
    for _ in range(3):
        d.roll()
        d.finish()
    d.watch(95)
    d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert (second.status, second.leaves) == (S.PENDING_NEW, 10)
    d.cancel("g")
    assert second.status is S.PENDING_CANCEL
    d.report(ExecType.CANCELED, second.order_id)
    d.require_flat()


@pytest.mark.parametrize("keep_exits", [True, False])
def test_an_absent_source_takes_both_or_leaves_both(*, keep_exits: bool) -> None:
    """As its setting says of exits; an entry goes in any case."""
    d = OcoDesk(given=given(keep_exits=keep_exits), position=10)
    d.accept_oco(d.oco("exit"))
    d.accept_oco(d.oco("entry", 95, 105, 3, Side.BUY))
    entry = ["entry/2", "entry/1"]
    assert away(d, 2) == (entry if keep_exits else [*entry, "exit/2", "exit/1"])
    d.require_verified()


def test_a_flatten_sells_when_the_target_is_over() -> None:
    """Both orders keep the way out for themselves, so both are cancelled; then the engine's own exit has all of it."""
    d = OcoFlats(XY=10)
    first, second = d.accept_oco(d.oco("g"))
    flatten = d.start()
    assert (first.status, second.status) == (S.PENDING_CANCEL, S.CANCELED)
    (target,) = d.targets(flatten)
    assert d.core.flattens.wait_for(flatten, target, d.now)
    d.report(ExecType.CANCELED, first.order_id)
    assert made(d.exit(flatten, target)).quantity_e9 == 10 * E9
    assert d.watch(90) == []


@pytest.mark.parametrize("scope", [(Scope.STRATEGY, "s1"), (Scope.INSTRUMENT, "XY"), (Scope.GLOBAL, "")])
def test_a_kill_of_any_scope_finds_both(scope: tuple[Scope, str]) -> None:
    """The one that waits is of the same account, strategy and instrument as the other."""
    d, first, second = group()
    d.control(ControlAction.KILL, *scope)
    assert (first.status, second.status) == (S.PENDING_CANCEL, S.CANCELED)
    d.require_verified()


def test_a_strategy_that_reduces_is_held_to_its_own_part() -> None:
    """Of 10 that the account holds 6 are the strategy's: its group of 6 stays and goes out, one of 10 is cancelled."""
    for quantity, sent in ((6, 6), (10, 0)):
        d = OcoDesk(position=4)
        d.fill(d.accept(d.order("long", Side.BUY, 6)), 6)
        first, second = d.accept_oco(d.oco("g", quantity=quantity))
        d.control(ControlAction.REDUCE_ONLY, Scope.STRATEGY, "s1")
        d.watch(95)
        d.report(ExecType.CANCELED, first.order_id)
        d.watch(95)
        assert (second.leaves, second.status is S.PENDING_NEW) == (sent, sent > 0)
        d.require_verified()


def test_a_rest_below_the_minimum_stays_here() -> None:
    """The contract takes 3 or more: for 2 the target is not cancelled; all of a position goes out however small."""
    small = structs.replace(XY, quantity_min_e9=3 * E9)
    for position, is_sent in ((12, False), (10, True)):
        d = OcoDesk(given=params(instruments=(small,)), position=position)
        first, second = d.accept_oco(d.oco("g"))
        d.fill(first, 8)
        assert bool(d.watch(95)) is is_sent
        d.report(ExecType.CANCELED, first.order_id)
        d.watch(95)
        assert second.leaves == 2
        assert (second.status is S.PENDING_NEW) is is_sent
        d.require_verified()


def test_a_target_with_terms_of_its_own() -> None:
    """Post-only and good till a date: it goes out with them, and its expiry leaves the stop."""
    d = OcoDesk(position=10)
    command = d.oco("g")
    until = d.now + 5 * E9
    target = d.termed("g/1", Side.SELL, 10, 105, time_in_force=TimeInForce.GTD, expire_at_ns=until, post_only=True)
    first, second = d.accept_oco(structs.replace(command, legs=[target, command.legs[1]]))
    assert first.terms is not None
    assert (first.terms.post_only, first.terms.expire_at_ns) == (True, until)
    d.report(ExecType.EXPIRED, first.order_id)
    d.watch(95)
    assert second.leaves == 10
    d.require_verified()


class OcoAmending(Amending, OcoDesk):
    """A desk that knows groups, whose venue takes trades back."""


@pytest.mark.parametrize("ended", ["not", "canceled", "filled"])
def test_a_fill_of_the_target_that_is_taken_back_is_the_stops_again(ended: str) -> None:
    """While the stop waits: what is held again is reserved again, and goes out when its price comes."""
    d = OcoAmending(position=10)
    first, second = d.accept_oco(d.oco("g"))
    d.fill(first, 10 if ended == "filled" else 4)
    if ended == "canceled":
        d.report(ExecType.CANCELED, first.order_id)
    assert d.bust(first, "T1") is ReportEffect.APPLIED
    assert (d.position, d.reserved()[0]) == (10, 10)
    assert d.watch(100) == []
    d.watch(95)
    if ended == "not":
        d.report(ExecType.CANCELED, first.order_id)
    d.watch(95)
    assert (second.status, second.leaves) == (S.PENDING_NEW, 10)
    d.fill(second, 10)
    assert d.position == 0
    d.require_flat()
