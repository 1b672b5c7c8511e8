"""Held orders in the core: reserved while they wait, and over exactly once (DESIGN 6.13, RISK.md B1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from engine.holds import Held
from engine.state import state_hash
from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, Scope, Side
from protocol.held_records import HoldEffect, OrderHeld, RiskChanged
from protocol.orders import CancelOrder
from protocol.params import LimitName, OnDeadline, RiskParams
from protocol.records import CancelRequested, ControlAction, Record
from protocol.risk import Verdict
from tests.unit.engine.desk import E9, REFERENCE, Desk, limit, params
from tests.unit.engine.journaled import snapshot, start, write_journal
from tests.unit.engine.risky_desk import RULES, RiskyDesk

S = OrderStatus
MS = 10**6
SELL = Side.SELL


def test_a_held_order_is_reserved_for_and_not_sent() -> None:
    """Everything stays reserved while the service thinks; nothing is in the outbox, no rate is charged."""
    desk = RiskyDesk()
    order_id = desk.hold()
    assert (desk.status(order_id), desk.sent) == (S.HELD, [])
    assert desk.reserved() == (20 * 1, 1, 2_000 * E9)
    decided = desk.ask(desk.order("1", quantity=20))
    assert decided.status is S.HELD  # type: ignore[attr-defined]


def test_an_approved_order_goes_out_once() -> None:
    """Its second answer is late, is recorded once, and a third is not even that."""
    desk = RiskyDesk()
    order_id = desk.hold()
    record = desk.says(order_id)
    assert record is not None
    assert (record.decision.effect, desk.status(order_id), desk.sent) == (HoldEffect.SENT, S.PENDING_NEW, [order_id])
    assert desk.reserved() == (20, 1, 2_000 * E9)
    late = desk.says(order_id, Verdict.REJECT)
    assert late is not None
    assert (late.decision.effect, late.decision.code) == (HoldEffect.LATE, Code.RISK_DECISION_LATE)
    assert desk.says(order_id) is None
    assert desk.sent == [order_id]


@pytest.mark.parametrize(
    ("verdict", "rest", "code"),
    [
        (Verdict.REJECT, {}, Code.RISK_REJECTED),
        (Verdict.TRIM, {"quantity_e9": 5 * E9}, Code.RISK_TRIM_REFUSED),
    ],
)
def test_a_refused_order_gives_everything_back(verdict: Verdict, rest: dict[str, int], code: Code) -> None:
    """Rejected, or trimmed though it does not allow that: over, nothing reserved, its id taken."""
    desk = RiskyDesk()
    order_id = desk.hold()
    record = desk.says(order_id, verdict, **rest)
    assert record is not None
    assert (record.decision.code, desk.status(order_id)) == (code, S.REJECTED)
    assert (desk.reserved(), desk.sent) == ((0, 0, 0), [])
    assert desk.ask(desk.order("1", quantity=20)).status is S.REJECTED  # type: ignore[attr-defined]


@pytest.mark.parametrize(("quantity", "taken"), [(5, True), (20, False), (0, False), (25, False)])
def test_a_trim_lowers_the_order(quantity: int, *, taken: bool) -> None:
    """To whole lots below what was asked for; anything else is no trim."""
    desk = RiskyDesk()
    order_id = desk.hold(trims=True)
    record = desk.says(order_id, Verdict.TRIM, quantity_e9=quantity * E9)
    assert record is not None
    if taken:
        assert (record.decision.code, desk.state.orders[order_id].quantity) == (Code.RISK_TRIMMED, quantity)
        assert desk.reserved() == (quantity, 1, quantity * 100 * E9)
    else:
        assert (record.decision.code, desk.reserved()) == (Code.RISK_TRIM_REFUSED, (0, 0, 0))


def test_what_is_approved_passes_the_checks_again() -> None:
    """But for what was approved: a halt that came meanwhile refuses it."""
    desk = RiskyDesk()
    order_id = desk.hold()
    for control in desk.core.controls.decide_control(ControlAction.HALT, Scope.ACCOUNT, "a1", "op", "stop", {}):
        desk.apply(control)
    record = desk.says(order_id)
    assert record is not None
    assert (record.decision.code, desk.status(order_id), desk.sent) == (Code.STATE_HALTED, S.REJECTED, [])


def test_an_approval_that_is_too_old_is_asked_for_once_more() -> None:
    """The second old one refuses the order; an answer to the first question is none to the second."""
    desk = RiskyDesk()
    order_id = desk.hold()
    first = desk.says(order_id, valid_until_ns=desk.now - 1)
    assert first is not None
    assert (first.decision.effect, desk.state.risk.holds[order_id].asked) == (HoldEffect.WAITS, 2)
    assert desk.says(order_id) is None
    second = desk.says(order_id, valid_until_ns=desk.now - 1, asked=2)
    assert second is not None
    assert (second.decision.code, desk.reserved()) == (Code.RISK_DECISION_STALE, (0, 0, 0))


def test_its_deadline_ends_a_hold() -> None:
    """REJECT is the default; the answer that comes after it is late."""
    desk = RiskyDesk()
    order_id = desk.hold()
    desk.now += 250 * MS - 1
    assert desk.time() == []
    desk.now += 1
    (record,) = desk.time()
    assert (record.decision.code, desk.status(order_id), desk.reserved()) == (Code.RISK_DEADLINE, S.EXPIRED, (0, 0, 0))
    late = desk.says(order_id)
    assert late is not None
    assert (late.decision.effect, desk.sent) == (HoldEffect.LATE, [])


def test_on_deadline_hold_waits_longer_and_then_refuses() -> None:
    """Up to hold_max, once."""
    desk = RiskyDesk(structs.replace(RULES, on_deadline=((Code.POS_LIMIT, OnDeadline.HOLD),)))
    order_id = desk.hold()
    desk.now += 250 * MS
    (waits,) = desk.time()
    assert (waits.decision.effect, desk.status(order_id)) == (HoldEffect.WAITS, S.HELD)
    assert desk.time() == []
    desk.now += 30 * E9
    (over,) = desk.time()
    assert (over.decision.effect, desk.reserved()) == (HoldEffect.EXPIRED, (0, 0, 0))


@pytest.mark.parametrize(("worth", "effect"), [(2_000, HoldEffect.SENT), (1_999, HoldEffect.EXPIRED)])
def test_on_deadline_pass_lets_small_orders_go(worth: int, effect: HoldEffect) -> None:
    """The order is worth 2,000."""
    rules = structs.replace(RULES, on_deadline=((Code.POS_LIMIT, OnDeadline.PASS),), pass_value_max_e9=worth * E9)
    desk = RiskyDesk(rules)
    desk.hold()
    desk.now += 250 * MS
    (record,) = desk.time()
    assert record.decision.effect is effect


def test_without_a_service_nothing_waits_for_it() -> None:
    """Lost: what is held is over at once, what comes is refused; an engine that just started waits for one to come."""
    desk = RiskyDesk(ready=False)
    order_id = desk.hold()
    assert desk.time() == []
    desk.now += 2 * E9
    (record,) = desk.time()
    assert (record.code, desk.status(order_id)) == (Code.RISK_UNAVAILABLE, S.EXPIRED)
    refused = desk.ask(desk.order("2", quantity=20))
    assert refused.code is Code.RISK_UNAVAILABLE  # type: ignore[attr-defined]
    desk.apply(RiskChanged(True, 1))
    other = desk.hold("3")
    desk.apply(RiskChanged(False, 1))
    desk.time()
    assert desk.status(other) is S.EXPIRED


def test_an_account_holds_so_many_at_most() -> None:
    """The third is refused: nothing piles up behind a slow service."""
    desk = RiskyDesk()
    desk.hold("1")
    desk.hold("2")
    refused = desk.ask(desk.order("3", quantity=20))
    assert refused.code is Code.RISK_PENDING_MAX  # type: ignore[attr-defined]


def test_a_check_that_is_not_the_services_refuses_at_once() -> None:
    """Any refusal wins over what is forwarded, whichever check comes first (RISK.md A3)."""
    desk = RiskyDesk(RULES, limit(LimitName.POSITION_MAX, 10), limit(LimitName.QUANTITY_MAX, 15))
    refused = desk.ask(desk.order("1", quantity=20, price=200))
    assert refused.code is Code.QTY_MAX  # type: ignore[attr-defined]
    desk.hold("2", quantity=12)


def test_all_codes_are_collected() -> None:
    """The service sees the whole list."""
    desk = RiskyDesk(RULES, limit(LimitName.POSITION_MAX, 10), limit(LimitName.ORDER_VALUE_MAX, 10))
    decided = desk.ask(desk.order("1", quantity=20, price=200))
    assert decided.codes == (Code.PRICE_COLLAR, Code.VALUE_ORDER_MAX, Code.POS_LIMIT)  # type: ignore[attr-defined]


def test_between_soft_and_hard_the_service_judges() -> None:
    """Up to the soft value nobody is asked, above the hard one nobody can help; an approval holds to the hard one."""
    row = structs.replace(limit(LimitName.POSITION_MAX, 10), soft=5 * E9)
    desk = RiskyDesk(RULES, row)
    assert desk.ask(desk.order("1", quantity=5)).kind is OutcomeKind.ACCEPTED  # type: ignore[attr-defined]
    refused = desk.ask(desk.order("2", quantity=11))
    assert (refused.kind, refused.code) == (OutcomeKind.REJECTED, Code.POS_LIMIT)  # type: ignore[attr-defined]
    order_id = desk.hold("3", quantity=7)
    record = desk.says(order_id)
    assert record is not None
    assert record.decision.effect is HoldEffect.SENT


def test_a_market_order_without_a_price_is_not_held() -> None:
    """There is nothing it could be reserved at."""
    desk = RiskyDesk(RiskParams((Code.REF_STALE, Code.POS_LIMIT)))
    order = desk.order("1", order_type=OrderType.MARKET)
    route = desk.core.orders.find_route(desk.state.permit("src", "all"), order)
    decided = desk.core.decide_new(order, desk.item(order), route, desk.now, None, None)
    assert decided.code is Code.REF_STALE  # type: ignore[union-attr]


def test_a_cancel_ends_a_hold_at_once() -> None:
    """At any time, by the client; the answer after it is late."""
    desk = RiskyDesk()
    order_id = desk.hold()
    command = CancelOrder("a1", "1")
    decision = desk.core.orders.decide_cancel(command, desk.state.permit("src", "all"))
    desk.apply(CancelRequested("src", desk.item(command), decision))  # type: ignore[arg-type]
    assert (desk.status(order_id), desk.reserved(), desk.state.risk.holds) == (S.CANCELED, (0, 0, 0), {})
    late = desk.says(order_id)
    assert late is not None
    assert (late.decision.effect, desk.sent) == (HoldEffect.LATE, [])


def test_a_kill_ends_holds() -> None:
    """Without sending (DESIGN 6.8)."""
    desk = RiskyDesk()
    order_id = desk.hold()
    for control in desk.core.controls.decide_control(ControlAction.KILL, Scope.GLOBAL, "", "op", "now", {}):
        desk.apply(control)
    assert (desk.status(order_id), desk.reserved(), desk.sent) == (S.CANCELED, (0, 0, 0), [])
    assert desk.state.risk.ends[order_id].code is Code.UNSENT_KILLED


def test_an_exit_is_sent_whatever_the_service_says() -> None:
    """Its REJECT is advice; without an answer the exit goes when its bounded hold is over (DECISIONS 33)."""
    for says_no in (True, False):
        desk = RiskyDesk(position=-30)
        order_id = desk.hold(quantity=45)
        desk.state.orders[order_id].is_exit = True  # a check that holds exits is the money's
        if says_no:
            record = desk.says(order_id, Verdict.REJECT)
            assert record is not None
            assert record.decision.code is Code.RISK_REJECTED
        else:
            desk.now += 2 * E9
            (timed,) = desk.time()
            assert timed.decision.code is Code.RISK_DEADLINE
        assert desk.sent == [order_id]


def test_recovery_reaches_the_same_state() -> None:
    """By apply alone, with holds that are open and holds that are over."""
    desk = RiskyDesk()
    first, _ = desk.hold("1"), desk.hold("2")
    desk.says(first)
    again = Desk(given=params())
    again.core = type(desk.core)(256)
    for seq, now_ns, position, record in desk.records:
        again.core.repeat(seq, now_ns, position, record)
    assert state_hash(again.state) == state_hash(desk.state)
    assert list(again.state.risk.holds) == list(desk.state.risk.holds)


def test_a_snapshot_keeps_what_is_held(tmp_path: Path) -> None:
    """An engine that begins at one goes on with the holds, their ends and what it knows of the service."""
    desk = RiskyDesk()
    first, second = desk.hold("1"), desk.hold("2", trims=True)
    desk.says(first)
    desk.says(first, Verdict.REJECT)
    write_journal(tmp_path, [(seq, now_ns, position, record) for seq, now_ns, position, record in desk.records])
    snapshot(tmp_path)
    _, restored, _ = start(tmp_path)
    state = restored.core.state
    assert restored.seq == len(desk.records)
    assert (list(state.risk.holds), list(state.risk.ends)) == ([second], [first])
    assert state.risk.ends[first] == desk.state.risk.ends[first]
    assert (state.risk.holds[second].codes, state.risk.holds[second].allows_trim) == ((Code.POS_LIMIT,), True)
    assert (state.risk.ready, state.risk.instance_epoch) == (True, 1)


def test_recorded_holds_are_decided_again() -> None:
    """``wojak journal verify`` decides an order that was held as it was."""
    desk = RiskyDesk()
    before: list[tuple[Record, bool | None]] = []
    apply = desk.core.apply

    def check(seq: int, now_ns: int, position: int, record: Record) -> None:
        before.append((record, desk.core.decide_again(record, now_ns)))
        apply(seq, now_ns, position, record)

    order = desk.order("1", quantity=20)
    item = desk.item(order)
    route = desk.core.orders.find_route(desk.state.permit("src", "all"), order)
    decided = desk.core.decide_new(order, item, route, desk.now, REFERENCE, None)
    assert isinstance(decided, Held)
    record = OrderHeld("src", item, REFERENCE, decided.decision, list(decided.codes), decided.deadline_ns)
    check(1, desk.now, 1, record)
    assert before == [(record, True)]
    changed = structs.replace(record, deadline_ns=decided.deadline_ns + 1)
    assert desk.core.decide_again(changed, desk.now) is False
