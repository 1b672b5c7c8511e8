"""An account's orders don't trade with each other: RISK.md's examples of STP_CROSS, and what is kept for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

import engine.orders
from engine.order import Order
from engine.snapshot import load_snapshot
from engine.state import State
from protocol.codes import AT_NO_VENUE, Code, ExecType, OrderStatus, OrderType, OutcomeKind, Side
from protocol.decisions import NewDecision
from protocol.held_records import HoldEffect
from protocol.params import AccountParams, Params
from risk.gate.crossing import OwnPrices
from tests.unit.engine.desk import E9, REFERENCE, Desk, params
from tests.unit.engine.risky_desk import RiskyDesk
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.complete import BUY, CENT, SELL, code, desk_of, order, says, text

ACCOUNTS = AccountParams("a1", "USDT", checks_crossing=True), AccountParams("a2", "USDT")


def crossing_desk(**more: Any) -> Desk:
    return desk_of(accounts=ACCOUNTS, **more)


def coarse(**more: Any) -> Desk:
    """A desk of whole prices, for commands that ``Desk`` makes."""
    return Desk(given=given_params(), **more)


def given_params() -> Params:
    return msgspec.structs.replace(params(), accounts=ACCOUNTS)


@pytest.mark.parametrize(
    ("side", "price_e9", "expected"),
    [
        (BUY, 100 * E9 - 5 * CENT, Code.OK), (BUY, 100 * E9, Code.STP_CROSS), (BUY, 101 * E9, Code.STP_CROSS),
        (SELL, 90 * E9 + 5 * CENT, Code.OK), (SELL, 90 * E9, Code.STP_CROSS), (SELL, 100 * E9, Code.OK),
    ],
)  # fmt: skip
def test_an_order_that_would_meet_an_own_one_is_refused(side: Side, price_e9: int, expected: Code) -> None:
    """Own SELL at 100: BUY 99.95 passes, BUY 100 does not; own BUY at 90 likewise."""
    desk = crossing_desk()
    assert code(desk, 1, 100 * E9, SELL) is Code.OK
    assert code(desk, 1, 103 * E9, SELL) is Code.OK
    assert code(desk, 1, 90 * E9, BUY) is Code.OK
    decided = says(desk, order(desk, 1, price_e9, side))
    assert decided.code is expected
    if expected is Code.STP_CROSS and side is BUY:
        assert text(decided) == (
            "STP_CROSS expected no price that meets an own open order of the other side, which is at 100, was "
            f"{price_e9 // E9} (instrument XY)"
        )


def test_a_market_order_meets_whatever_is_open_on_the_other_side() -> None:
    """However far away the own one is; without one it passes."""
    desk = crossing_desk()
    market = msgspec.structs.replace(order(desk), order_type=OrderType.MARKET, price_e9=0, client_order_id="m")
    assert code(desk, 1, 150 * E9, SELL) is Code.OK
    assert says(desk, market).code is Code.STP_CROSS
    bare = crossing_desk()
    assert says(bare, market).code is Code.OK


def test_other_accounts_orders_and_own_side_are_free() -> None:
    """The same account stands for one owner; a2 of the same instrument is another, and is not checked itself."""
    desk = crossing_desk()
    assert code(desk, 1, 100 * E9, SELL, account="a2") is Code.OK
    assert code(desk, 1, 100 * E9, BUY, account="a2") is Code.OK
    assert code(desk, 1, 100 * E9, BUY) is Code.OK
    assert code(desk, 2, 105 * E9, BUY) is Code.OK


def test_orders_of_another_strategy_of_the_account_are_met() -> None:
    """Both trade for the same owner."""
    desk = crossing_desk()
    assert code(desk, 1, 100 * E9, SELL, strategy="s2") is Code.OK
    assert code(desk, 1, 100 * E9, BUY) is Code.STP_CROSS


def test_an_exit_passes() -> None:
    """RISK.md A7.1: nothing of this kind may keep somebody in a position; the venue decides."""
    desk = crossing_desk(position=1)
    assert code(desk, 1, 100 * E9, BUY) is Code.OK
    assert code(desk, 1, 100 * E9, SELL) is Code.OK
    assert code(desk, 1, 100 * E9, SELL) is Code.STP_CROSS


@pytest.mark.parametrize("ending", ["fill", "cancel", "reject"])
def test_what_is_over_is_met_no_more(ending: str) -> None:
    """While its cancel is on its way it can still trade; filled, cancelled or refused it can't."""
    desk = coarse()
    own = desk.accept(desk.order("own", SELL))
    if ending == "fill":
        desk.fill(own, 1)
    elif ending == "reject":
        desk.report(ExecType.REJECTED, own.order_id, status=OrderStatus.REJECTED)
    else:
        desk.cancel("own")
        assert refusal(desk, desk.order("b0")) is Code.STP_CROSS
        desk.report(ExecType.CANCELED, own.order_id, status=OrderStatus.CANCELED)
    assert refusal(desk, desk.order("b1")) is Code.OK


def test_a_stop_order_is_none_before_its_trigger() -> None:
    """Neither met nor refused: a protective stop stands behind the orders of the other side."""
    desk = coarse()
    stop = desk.termed("stop", SELL, price=98, order_type=OrderType.STOP_LIMIT, stop_price=99)
    assert refusal(desk, stop) is Code.OK
    assert refusal(desk, desk.order("b1")) is Code.OK
    other = desk.termed("stop2", SELL, price=98, order_type=OrderType.STOP_LIMIT, stop_price=99)
    assert refusal(desk, other) is Code.OK


def test_a_replace_may_not_meet_an_own_order_and_both_terms_are_met() -> None:
    """Moved to where the own one stands it is refused; asked for a better price, both prices count until answered."""
    desk = coarse()
    own = desk.accept(desk.order("own", SELL, price=105))
    desk.accept(desk.order("b", price=100))
    refused = desk.replace("b", "b1", 1, 105)
    assert getattr(refused, "code", None) is Code.STP_CROSS
    desk.replace("own", "own1", 1, 103)
    assert refusal(desk, desk.order("b2", price=103)) is Code.STP_CROSS
    assert own.terms is not None
    assert own.terms.replacement is not None
    desk.answer(ExecType.REPLACE_REJECT, own, 1, 105, venue_seq=own.terms.replacement.seq, status=OrderStatus.NEW)
    assert refusal(desk, desk.order("b3", price=103)) is Code.OK


def test_legs_of_a_basket_do_not_meet_each_other() -> None:
    """All or none: a basket that would trade with itself is refused."""
    desk = coarse()
    decided = desk.submit_basket(desk.basket("k", desk.order("x", BUY), desk.order("y", SELL)))
    assert getattr(decided, "code", None) is Code.STP_CROSS
    assert rows(desk.state) == ([], [])


def refusal(desk: Desk, command: Any) -> Code:
    decided = desk.submit(command, reference=REFERENCE)
    assert isinstance(decided, NewDecision)
    assert desk.hash() == desk.replayed_hash()
    return decided.code


def rows(state: State) -> tuple[list[int], list[int]]:
    prices = state.route("a1", "s1", "XY").more.own_prices
    assert prices is not None
    return prices.buys, prices.sells


def told(state: State) -> tuple[list[int], list[int]]:
    """What is open by the orders themselves."""
    live = [
        o for o in state.orders.values()
        if o.account == "a1" and o.order_type is OrderType.LIMIT and o.leaves and o.status not in AT_NO_VENUE
    ]  # fmt: skip
    return sorted(price(o) for o in live if o.side is BUY), sorted(price(o) for o in live if o.side is SELL)


def price(live: Order) -> int:
    asked = live.terms.replacement if live.terms is not None else None
    prices = [live.limit_price] if asked is None else [live.limit_price, asked.price]
    return max(prices) if live.side is BUY else min(prices)


steps = st.lists(
    st.tuples(
        st.sampled_from(("order", "order", "order", "fill", "cancel", "gone", "replace", "answer", "params")),
        st.sampled_from(Side), st.integers(97, 103), st.integers(0, 9),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given_(steps=steps, position=st.integers(-3, 3))
def test_no_accepted_order_meets_an_own_one_over_any_history(
    steps: list[tuple[str, Side, int, int]], position: int
) -> None:
    """What is kept is what is open, an order that crosses is refused and no exit is; a replay and new sums agree."""
    desk = coarse(position=position) if position else coarse()
    for n, (what, side, at, which) in enumerate(steps):
        live = list(desk.state.orders.values())
        chosen = live[which % len(live)] if live else None
        if what == "order":
            submitted(desk, desk.order(f"o{n}", side, 1 + which % 2, at))
        elif what == "params":
            desk.set_params(given_params())
            desk.state.count_further()
        elif chosen is not None:
            happen(desk, what, chosen, at, f"r{n}")
        assert rows(desk.state) == told(desk.state)
    assert desk.hash() == desk.replayed_hash()


def submitted(desk: Desk, command: Any) -> None:
    buys, sells = told(desk.state)
    ledger = desk.state.book.ledger("a1", "XY")
    units = command.quantity_e9 // desk.state.instruments["XY"].quantity_step_e9
    step_e9 = desk.state.instruments["XY"].price_step_e9
    decided = desk.submit(command)
    assert isinstance(decided, NewDecision)
    at = command.price_e9 // step_e9
    crosses = bool(sells and at >= sells[0]) if command.side is BUY else bool(buys and at <= buys[-1])
    if decided.kind is OutcomeKind.ACCEPTED:
        assert not crosses or desk.state.orders[decided.order_id].is_exit, "an order met an own one"
    elif decided.code is Code.STP_CROSS:
        assert crosses, f"refused though nothing is met: {command}"
        assert not ledger.is_exit(command.side, units), "an exit was refused (A7.1)"


def happen(desk: Desk, what: str, chosen: Order, at: int, name: str) -> None:
    if what == "fill":
        desk.fill(chosen, 1)
    elif what == "cancel":
        desk.cancel(chosen.client_order_id)
    elif what == "gone":
        desk.report(ExecType.CANCELED, chosen.order_id, status=OrderStatus.CANCELED)
    elif what == "replace":
        desk.replace(chosen.client_order_id, name, 0, at)
    elif chosen.terms is not None and chosen.terms.replacement is not None:
        asked, instrument = chosen.terms.replacement, chosen.route.instrument
        quantity = asked.quantity * instrument.quantity_step_e9 // E9
        desk.answer(ExecType.REPLACED, chosen, quantity, asked.price * instrument.price_step_e9 // E9,
                    venue_seq=asked.seq, status=OrderStatus.NEW)  # fmt: skip


def test_what_is_open_is_known_after_a_restart_from_a_snapshot(tmp_path: Path) -> None:
    """The prices stand in no snapshot; they are made anew from the orders that do."""
    desk = coarse()
    desk.accept(desk.order("s", SELL, price=102))
    desk.accept(desk.order("b", price=99))
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert rows(core.state) == rows(desk.state) != ([], [])


def test_an_order_noted_twice_is_there_once() -> None:
    """Whoever notes it again changes nothing, and what is over leaves no price behind."""
    prices, own = OwnPrices(), object()
    prices.note(own, SELL, 5)
    prices.note(own, SELL, 5)
    prices.note(own, SELL, 4)
    assert (prices.sells, prices.best(BUY), prices.best(SELL)) == ([4], 4, 0)
    prices.note(own, SELL, 0)
    prices.note(own, SELL, 0)
    assert (prices.sells, prices.best(BUY)) == ([], 0)


def test_a_held_order_is_met_when_it_goes_out_and_checked_once_more() -> None:
    """At no venue it trades with nobody; approved it is met, or is refused if it would meet what came meanwhile."""
    for meanwhile, expected in ((102, HoldEffect.SENT), (100, HoldEffect.REJECTED)):
        desk = RiskyDesk(position=5)
        assert desk.state.params is not None
        desk.set_params(msgspec.structs.replace(desk.state.params, accounts=ACCOUNTS))
        order_id = desk.hold()
        assert rows(desk.state) == ([], [])
        desk.accept(desk.order("s", SELL, 6, meanwhile))  # no exit: more than the position
        record = desk.says(order_id)
        assert record is not None
        assert record.decision.effect is expected
        assert rows(desk.state) == told(desk.state) == ([100] if expected is HoldEffect.SENT else [], [meanwhile])
        assert (record.decision.code is Code.STP_CROSS) is (expected is HoldEffect.REJECTED)
        assert desk.hash() == desk.replayed_hash()


def test_a_late_send_may_not_meet_what_an_exit_put_there() -> None:
    """The exit passed it on its way; the order that waited for its venue is cancelled unsent."""
    desk = coarse(position=1)
    waits = desk.accept(desk.order("b", price=100))
    assert refusal(desk, desk.order("x", SELL, 1, 100)) is Code.OK
    late = desk.core.reports.decide_send(waits, waits.venue_seq, desk.now, REFERENCE)
    assert late.code is Code.STP_CROSS
    assert late.cancel is not None
    assert late.cancel.code is Code.UNSENT_STALE


@pytest.mark.plants
def test_the_property_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that lets everything pass is found."""
    monkeypatch.setattr(engine.orders, "first_complete_refusal", lambda _: Code.OK)
    history = [("order", SELL, 100, 0), ("order", BUY, 101, 0)]
    with pytest.raises(AssertionError, match="met an own one"):
        test_no_accepted_order_meets_an_own_one_over_any_history.hypothesis.inner_test(history, 0)  # type: ignore[attr-defined]
