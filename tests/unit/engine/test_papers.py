"""Paper orders: what a breach routed to sandbox becomes, and that nothing of it reaches a real verdict (rule 14)."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from cli.risk_rows import RiskServiceSection, RouteRow, route_problems, to_risk_params
from engine.explaining import explain_order
from engine.orders import Defer, Replay
from engine.outcomes import first_outcome
from engine.papers import ACCOUNT_CHARS_MAX, PAPER_OPEN_MAX
from engine.sending import command_of
from protocol.codes import (
    Code,
    ExecType,
    Mode,
    OrderStatus,
    OrderType,
    OutcomeKind,
    RetryReason,
    Scope,
    Side,
    TradingState,
)
from protocol.decisions import BasketDecision, ExitDecision, NewDecision, OrderClass
from protocol.edge import http_status, to_response
from protocol.event_kinds import OrderEvent, TradeEvent
from protocol.events import events_of
from protocol.paper import PaperOrdered, is_paper, real_name
from protocol.params import AccountParams, LimitName, RiskParams
from protocol.records import Adjusted, ControlAction, VenueChanged
from protocol.replaces import ReplaceDecision
from protocol.venue import SendNew
from tests.unit.engine.desk import E9, NOW, REFERENCE, limit, params
from tests.unit.engine.paper_desk import PAPER_A1, SANDBOX, PaperDesk

P, A, R = OutcomeKind.PAPER, OutcomeKind.ACCEPTED, OutcomeKind.REJECTED


def test_a_breach_is_paper_and_its_fill_moves_nothing_real() -> None:
    """It goes to the venue under the name of the paper side; only that side has its position and pays for it."""
    desk = PaperDesk()
    before = desk.real
    order = desk.paper(quantity=20)
    assert (order.account, order.route.ledger.buy) == (PAPER_A1, 20)
    sent = command_of(desk.state.venues["sandbox"].awaiting[order.venue_seq])
    assert isinstance(sent, SendNew)
    assert (sent.account, sent.order_id[:2], sent.quantity_e9) == (PAPER_A1, "P-", 20 * E9)
    desk.fill(order, 20)
    assert (desk.position, desk.paper_position) == (0, 20)
    assert desk.real == before
    assert desk.hash() == desk.replayed_hash()


def test_its_outcome_and_events_say_paper() -> None:
    """PAPER with the code of the breach, 202, and the account's paper side wherever it is booked."""
    desk = PaperDesk()
    order = desk.paper(quantity=20)
    seq, now_ns, _, record = desk.records[-1]
    assert isinstance(record, PaperOrdered)
    outcome = first_outcome(record.item, 0, record)
    assert (outcome.kind, outcome.code, outcome.order_status) == (P, Code.POS_LIMIT, OrderStatus.PENDING_NEW)
    response = to_response(outcome, desk.order("p", quantity=20), b"t" * 16, "paper", 0)
    assert (http_status(outcome), response.outcome, response.code, response.account) == (
        202, "PAPER", "POS_LIMIT", PAPER_A1,
    )  # fmt: skip
    (event,) = events_of(seq, now_ns, record)
    assert isinstance(event, OrderEvent)
    assert (event.account, event.status, event.code) == (PAPER_A1, OrderStatus.PENDING_NEW, Code.POS_LIMIT)
    desk.fill(order, 20)
    trade = events_of(desk.seq, desk.now, desk.records[-1][3])[0]
    assert isinstance(trade, TradeEvent)
    assert (trade.account, trade.position_e9) == (PAPER_A1, 20 * E9)


def test_a_paper_long_never_lets_a_real_short_through() -> None:
    """What a real order is is judged by the real position: reduce-only finds nothing to reduce there."""
    desk = PaperDesk()
    desk.fill(desk.paper(quantity=20), 20)
    real = desk.order("r", Side.SELL, 20, strategy="s2", reduce_only=True)
    assert desk.code(real) == (R, Code.REDUCE_ONLY_VIOLATION)
    assert desk.code(desk.order("s", Side.SELL, 10, strategy="s2")) == (A, Code.OK)
    assert desk.state.book.ledger("a1", "XY").sell == 10


def test_every_order_of_a_paper_key_is_paper_until_it_is_flat() -> None:
    """Also a small one, and the exit, which is judged by the paper position; other keys go on as they are."""
    desk = PaperDesk()
    desk.fill(desk.paper(quantity=20), 20)
    small = desk.decided(desk.order("small", quantity=1))
    assert (small.kind, small.code, small.position_after_e9) == (P, Code.PAPER_KEY, 21 * E9)
    assert desk.code(desk.order("other", strategy="s2")) == (A, Code.OK)
    assert desk.code(desk.order("another", account="a2")) == (A, Code.OK)
    desk.cancel("small")
    desk.report(ExecType.CANCELED, small.order_id, venue_seq=desk.state.orders[small.order_id].cancel_seq)
    out = desk.decided(desk.order("out", Side.SELL, 20, reduce_only=True))
    assert (out.kind, out.order_class) == (P, OrderClass.EXIT)
    desk.fill(desk.state.orders[out.order_id], 20)
    assert desk.code(desk.order("real", quantity=1)) == (A, Code.OK)
    assert desk.state.orders[desk.decided(desk.order("real2")).order_id].account == "a1"


def test_an_exit_beyond_the_paper_position_is_none() -> None:
    """A reduce-only order that would flip it is refused on paper too."""
    desk = PaperDesk()
    desk.fill(desk.paper(quantity=20), 20)
    assert desk.code(desk.order("x", Side.SELL, 21, reduce_only=True)) == (R, Code.REDUCE_ONLY_VIOLATION)


@pytest.mark.parametrize("what", ["position", "order", "partial"])
def test_a_key_with_anything_real_does_not_become_paper(what: str) -> None:
    """The breach is refused with its own code, as without the route."""
    desk = PaperDesk()
    order = desk.accept(desk.order("r", quantity=5))
    if what != "order":
        desk.fill(order, 5 if what == "position" else 2)
    assert desk.code(desk.order("big", quantity=20)) == (R, Code.POS_LIMIT)
    assert not any(is_paper(name) for name in desk.state.accounts)


def test_a_key_whose_exit_waits_is_real() -> None:
    """An exit that waits for others to end reserves nothing, and is an order all the same."""
    desk = PaperDesk(limit(LimitName.ORDER_VALUE_MAX, 1_000))
    held = desk.accept(desk.order("h", quantity=5))
    desk.fill(held, 5)
    stop = desk.accept(desk.order("stop", Side.SELL, 5, 101))
    decided = desk.submit_exit(desk.exit_replace("x", ["stop"], 5))
    assert isinstance(decided, ExitDecision)
    assert decided.kind is A
    own = stop.route.own
    own.position = own.sell = 0  # as if only the one that waits were left
    assert desk.code(desk.order("big", quantity=20)) == (R, Code.VALUE_ORDER_MAX)


def test_an_exit_is_never_made_paper() -> None:
    """What reduces a real position is real where the same limit makes an opening order paper."""
    desk = PaperDesk(limit(LimitName.OPEN_COUNT_MAX, 0), rules=SANDBOX, position=5)
    assert desk.code(desk.order("out", Side.SELL, 5)) == (A, Code.OK)
    opening = desk.decided(desk.order("in", quantity=1, strategy="s2"))
    assert (opening.kind, opening.code) == (P, Code.COUNT_OPEN_MAX)


def test_one_check_that_is_routed_elsewhere_refuses() -> None:
    """Every check that refuses must be routed to sandbox; the first that is not says why."""
    rows = limit(LimitName.POSITION_MAX, 10), limit(LimitName.ORDER_VALUE_MAX, 1_000)
    desk = PaperDesk(*rows, rules=RiskParams((), sandbox=(Code.POS_LIMIT,)))
    assert desk.code(desk.order("1", quantity=20)) == (R, Code.VALUE_ORDER_MAX)
    assert PaperDesk(*rows).code(desk.order("1", quantity=20))[0] is P
    forwards = RiskParams((Code.VALUE_ORDER_MAX,), sandbox=(Code.POS_LIMIT,))
    assert PaperDesk(*rows, rules=forwards).core.papers.takes(Code.POS_LIMIT)


def test_a_live_engine_has_no_venue_for_paper() -> None:
    """The breach is refused with its own code (DECISIONS 22)."""
    assert PaperDesk(mode=Mode.LIVE).code(PaperDesk().order("1", quantity=20)) == (R, Code.POS_LIMIT)


def test_a_repeat_hears_the_first_answer_and_another_payload_a_conflict() -> None:
    """The key is the real account's, on either side."""
    desk = PaperDesk()
    desk.paper("p", 20)
    again = desk.ask(desk.order("p", quantity=20))
    assert isinstance(again, Replay)
    assert desk.code(desk.order("p", quantity=21)) == (R, Code.ID_CONFLICT)
    cancelled = PaperDesk()
    cancelled.cancel("p")
    assert cancelled.code(cancelled.order("p", quantity=20)) == (R, Code.CANCELLED_BEFORE_ARRIVAL)


def test_a_cancel_and_a_kill_of_the_account_reach_it() -> None:
    """By the account that its owner knows; a kill of the account ends both sides."""
    desk = PaperDesk()
    order = desk.paper("p")
    assert desk.cancel("p").status is OrderStatus.PENDING_CANCEL  # type: ignore[union-attr]
    killed = PaperDesk()
    order = killed.paper("p")
    killed.control(ControlAction.KILL, Scope.ACCOUNT, "a1", unsent_from=order.venue_seq)
    assert killed.state.closed[order.order_id].status is OrderStatus.CANCELED
    assert killed.code(killed.order("again", quantity=20)) == (R, Code.STATE_HALTED)


def test_paper_is_halted_where_its_account_or_strategy_is() -> None:
    """By the same word, and lifted with it; after a replay too."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 20)
    desk.control(ControlAction.HALT, Scope.STRATEGY, "s1")
    assert desk.code(desk.order("no")) == (R, Code.STATE_HALTED)
    assert desk.hash() == desk.replayed_hash()
    desk.control(ControlAction.RESUME, Scope.STRATEGY, "s1")
    assert desk.code(desk.order("yes")) == (P, Code.PAPER_KEY)


def test_an_operator_resets_it() -> None:
    """A paper position set to 0 ends the key's paper life; what it was stays on record."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 20)
    desk.apply(Adjusted(PAPER_A1, "XY", 0, 0, "", "", "reset", "op", str(20 * E9)))
    assert desk.paper_position == 0
    assert desk.code(desk.order("real")) == (A, Code.OK)
    assert desk.hash() == desk.replayed_hash()


def test_what_is_no_single_order_is_refused_on_paper() -> None:
    """Baskets, exits in the place of others and replaces, each with a code of its own."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 5)
    basket = desk.submit_basket(desk.basket("b", desk.order("", strategy="s2"), desk.order("")))
    assert isinstance(basket, BasketDecision)
    assert (basket.kind, basket.code, basket.leg) == (R, Code.PAPER_KEY, 2)
    exits = desk.submit_exit(desk.exit_replace("x", ["p"], 5))
    assert isinstance(exits, ExitDecision)
    assert (exits.kind, exits.code) == (R, Code.PAPER_KEY)
    desk.report(ExecType.NEW, desk.state.orders[next(iter(desk.state.orders))].order_id)
    replaced = desk.replace("p", "q", 6)
    assert isinstance(replaced, ReplaceDecision)
    assert (replaced.kind, replaced.code) == (R, Code.PAPER_UNSUPPORTED)


def test_new_paper_waits_where_new_risk_does_and_exits_pass() -> None:
    """A drain defers it; an exit of the paper position goes; a venue that is away is VENUE_DOWN in the end."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 20)
    assert desk.ask(desk.order("1"), defer=RetryReason.DRAINING) == Defer(RetryReason.DRAINING)
    out = desk.ask(desk.order("2", Side.SELL, 20), defer=RetryReason.DRAINING)
    assert isinstance(out, NewDecision)
    assert out.kind is P
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 0))
    assert desk.ask(desk.order("3")) == Defer(RetryReason.VENUE_NOT_READY)
    desk.now += 6 * E9
    assert desk.code(desk.order("4")) == (R, Code.VENUE_DOWN)


def test_a_permit_found_before_does_not_outlive_the_first_paper_order() -> None:
    """Sessions keep their permits, also over new parameters: the route of the key is looked up anew in each."""
    desk = PaperDesk()
    kept = desk.state.permit("src", "all")
    assert kept is not None
    desk.accept(desk.order("real", account="a2"))
    desk.core.orders.find_route(kept, desk.order("x"))
    assert "XY" in kept.routes["a1", "s1"]
    assert desk.state.params is not None
    desk.set_params(structs.replace(desk.state.params, send_age_max_ns=1))
    assert kept is desk.state.permit("src", "all")
    desk.core.orders.find_route(kept, desk.order("x"))
    desk.paper("p")
    assert ("a1", "s1") not in kept.routes
    assert desk.core.orders.find_route(kept, desk.order("x")) is Code.PAPER_KEY


def test_open_paper_orders_are_bounded() -> None:
    """No limit of an account bounds them, so a number does; exits pass it."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 20)
    desk.state.accounts[PAPER_A1].open_count = PAPER_OPEN_MAX
    assert desk.code(desk.order("1")) == (R, Code.PAPER_OPEN_MAX)
    assert desk.code(desk.order("2", Side.SELL, 1))[0] is P


def test_a_name_too_long_for_a_paper_side_is_refused() -> None:
    """With the code of the breach: nothing of it can be booked anywhere."""
    for chars, kind in ((ACCOUNT_CHARS_MAX, P), (ACCOUNT_CHARS_MAX + 1, R)):
        name = "a" * chars
        accounts = (AccountParams(name, "USDT"),)
        rows = params(limit(LimitName.POSITION_MAX, 10))
        desk = PaperDesk()
        desk.set_params(structs.replace(rows, accounts=accounts, risk=SANDBOX))
        assert desk.code(desk.order("1", quantity=20, account=name)) == (kind, Code.POS_LIMIT)


def test_nobody_reaches_the_paper_side_by_its_name() -> None:
    """A command that names it is of an account that nobody has."""
    desk = PaperDesk()
    desk.paper("p")
    assert desk.code(desk.order("1", account=PAPER_A1)) == (R, Code.ACCOUNT_UNKNOWN)
    assert (real_name(PAPER_A1), real_name("a1")) == ("a1", "a1")


def test_a_refusal_on_paper_halts_nothing_real() -> None:
    """A check that is routed halt halts for what is real only."""
    rules = RiskParams((), halt=(Code.QTY_MAX,), sandbox=(Code.POS_LIMIT,))
    desk = PaperDesk(rules=rules)
    desk.fill(desk.paper("p"), 20)
    assert desk.code(desk.order("huge", quantity=1_001)) == (R, Code.QTY_MAX)
    assert not desk.state.halts
    assert desk.code(desk.order("huge2", quantity=1_001, strategy="s2")) == (R, Code.QTY_MAX)
    assert desk.state.halts


def test_a_paper_order_that_is_overfilled_halts_its_paper_side_only() -> None:
    """The instrument goes on for everybody's real orders."""
    desk = PaperDesk()
    order = desk.paper("p", 20)
    desk.fill(order, 25)
    assert {at: h.state for at, h in desk.state.halts.items()} == {
        (Scope.ACCOUNT, PAPER_A1): TradingState.HALTED_AUTO
    }  # fmt: skip
    assert desk.code(desk.order("r", strategy="s2")) == (A, Code.OK)


def test_stops_and_other_termed_orders_are_paper_with_their_terms() -> None:
    """The stop price goes to the venue as it came."""
    desk = PaperDesk()
    stop = desk.termed("s", quantity=20, price=106, order_type=OrderType.STOP_LIMIT, stop_price=105)
    decided = desk.decided(stop)
    assert (decided.kind, decided.code) == (P, Code.POS_LIMIT)
    sent = command_of(desk.state.venues["sandbox"].awaiting[decided.venue_seq])
    assert isinstance(sent, SendNew)
    assert (sent.stop_price_e9, sent.price_e9) == (105 * E9, 106 * E9)
    assert desk.hash() == desk.replayed_hash()


def test_explain_says_what_the_paper_side_says() -> None:
    """Of a key that is paper, the checks see its paper position."""
    desk = PaperDesk()
    desk.fill(desk.paper("p"), 20)
    found = explain_order(desk.core, desk.order("x", quantity=50), ("src", "all"), NOW, NOW, REFERENCE)
    assert all(line.passes for line in found)


def test_routes_say_which_checks_may_be_paper() -> None:
    """What counts money and exposure; nothing that the paper side would be refused for too, and no deadline."""
    found = to_risk_params([RouteRow("POS_LIMIT", "sandbox")], RiskServiceSection())
    assert found is not None
    assert found.sandbox == (Code.POS_LIMIT,)
    assert list(route_problems([RouteRow("POS_LIMIT", "sandbox")], RiskServiceSection(), Path())) == []
    (problem,) = route_problems([RouteRow("PRICE_COLLAR", "sandbox")], RiskServiceSection(), Path())
    assert "routes[0].check: expected one of" in problem
    (problem,) = route_problems([RouteRow("POS_LIMIT", "sandbox", "hold")], RiskServiceSection(), Path())
    assert problem.startswith("routes[0].on_deadline: expected none for the route sandbox")
