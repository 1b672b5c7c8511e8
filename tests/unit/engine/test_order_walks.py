"""Every (state × happening) met by a real report, and random interleavings: nothing raises, the books add up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.docs_states import states_page
from engine.order import Order
from engine.order_state import TRANSITIONS, Happening, next_status
from protocol.codes import TERMINAL, ExecType, OrderStatus, Side
from protocol.decisions import ExitDecision, ReportDecision, ReportEffect
from protocol.records import ControlAction, VenueChanged
from tests.unit.engine.desk import Desk
from tests.unit.engine.risky_desk import RiskyDesk

S, H = OrderStatus, Happening
STATES = tuple(dict.fromkeys(status for status, _ in TRANSITIONS))
# What the engine does by itself; all else a venue reports.
OWN = {H.RELEASED, H.CANCEL_SENT, H.LOST, H.UNSENT, H.REPLACE_SENT, H.REPLACE_UNSENT, H.REFUSED_HERE, H.OVERDUE}
# What a venue says of a trade that counted: every state of it in test_amends.
AMENDED = {H.FILLS_AMENDED, H.FILLS_COMPLETE}
QUANTITY, NEW_QUANTITY = 6, 8


def brought_to(status: OrderStatus) -> tuple[Desk, Order]:
    """Return a desk whose order of 6 is in the state; 2 of it have filled where that is allowed."""
    if status is S.SUSPENDED:
        return waiting()
    if status is S.HELD:
        risky = RiskyDesk()
        return risky, risky.state.orders[risky.hold()]
    desk = Desk()
    order = desk.accept(desk.order("1", Side.BUY, QUANTITY))
    if status is not S.PENDING_NEW:
        desk.report(ExecType.NEW, order.order_id, venue_seq=1)
    match status:
        case S.PARTIALLY_FILLED:
            desk.fill(order, 2)
        case S.FILLED:
            desk.fill(order, QUANTITY)
        case S.CANCELED | S.REJECTED | S.EXPIRED:
            desk.report(ExecType[status.name], order.order_id)
        case S.PENDING_CANCEL:
            desk.cancel("1")
        case S.PENDING_REPLACE:
            desk.replace("1", "2", NEW_QUANTITY)
        case S.UNKNOWN:
            desk.cancel("1")
            lose(desk)
    assert order.status is status
    return desk, order


def waiting() -> tuple[Desk, Order]:
    """Return a desk with an exit that waits for another one to end; no venue has it."""
    desk = Desk(position=10)
    desk.accept(desk.order("stop", Side.SELL, 10, 105))
    decided = desk.submit_exit(desk.exit_replace("x", ["stop"], 10, price=99))
    assert isinstance(decided, ExitDecision)
    return desk, desk.state.orders[decided.order_id]


def lose(desk: Desk) -> None:
    """The gateway comes back without an answer to what it got: what waits for one is UNKNOWN."""
    venue = desk.state.venues["sandbox"]
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, venue.last_seq))
    queried = desk.core.reports.decide_unknown(venue, venue.last_seq)
    if queried is not None:
        desk.apply(queried)


def told(desk: Desk, order: Order, happening: Happening) -> ReportDecision:
    """Let the venue report what happened."""
    last = desk.state.venues["sandbox"].last_seq
    asked = order.terms.replacement if order.terms is not None else None
    match happening:
        case H.PARTIAL_FILL:
            return desk.fill(order, 1)
        case H.FILL:
            return desk.fill(order, max(1, order.quantity_most - order.cum))
        case H.REPLACED:
            quantity = asked.quantity if asked is not None else order.quantity
            return desk.answer(ExecType.REPLACED, order, quantity, order.limit_price, venue_seq=last)
        case H.REPLACE_REJECTED:
            return desk.answer(ExecType.REPLACE_REJECT, order, order.quantity, order.limit_price, venue_seq=last)
        case H.ACK:
            return desk.report(ExecType.NEW, order.order_id)
        case H.CANCEL_REJECTED:
            return desk.report(ExecType.CANCEL_REJECT, order.order_id)
    return desk.report(ExecType[happening.name], order.order_id)


@pytest.mark.parametrize("status", STATES, ids=lambda s: s.name)
@pytest.mark.parametrize("happening", [h for h in H if h not in OWN | AMENDED], ids=lambda h: h.name)
def test_every_report_in_every_state_does_what_the_table_says(status: OrderStatus, happening: Happening) -> None:
    """In the table: the state after it. Not in it: refused and recorded, nothing changed. Nothing is ever raised."""
    desk, order = brought_to(status)
    before = desk.hash_without_keys()
    was = (order.cum, order.leaves, order.quantity)

    done = told(desk, order, happening)

    expected = next_status(status, happening, is_filled_partly=order.cum > 0)
    if status is S.FILLED and happening in {H.PARTIAL_FILL, H.FILL}:
        assert (done.effect, order.status) == (ReportEffect.OVERFILL, S.FILLED)  # all had traded already
    elif expected is None:
        assert done.effect is ReportEffect.REFUSED
        assert (order.status, (order.cum, order.leaves, order.quantity)) == (status, was)
        assert before != desk.hash_without_keys()  # the report is counted: its number is taken
    elif status is S.PENDING_REPLACE and happening is H.PARTIAL_FILL:
        assert order.status is S.PENDING_REPLACE  # WORKING, while the replace is unanswered
    else:
        assert (done.effect, order.status) == (ReportEffect.APPLIED, expected)
    assert desk.hash() == desk.replayed_hash()
    assert False not in desk.decided_again()


def test_what_the_table_does_not_have_is_no_transition() -> None:
    """Every pair that is absent, the engine's own happenings too."""
    for status in S:
        for happening in H:
            after = next_status(status, happening, is_filled_partly=False)
            assert (after is None) == ((status, happening) not in TRANSITIONS)


def test_the_page_shows_every_state_happening_and_transition() -> None:
    """Drawn from the table: nothing is left out."""
    page = states_page("")
    table = page.partition("## As a diagram")[0]
    rows = {line.split(" | ")[0][2:]: line for line in table.splitlines() if line.startswith("| ")}
    for happening in H:
        count = sum(1 for _, h in TRANSITIONS if h is happening)
        assert sum(1 for cell in rows[happening.name].split("|")[2:-1] if cell.strip()) == count
    assert all(f"**{happening.name}**" in page for happening in H)
    for status in STATES:
        assert status.name in rows["happens in"]
    assert page.count("-->") == 3 + len({(s, a) for (s, _), a in TRANSITIONS.items() if a is not s}) + len(TERMINAL)


# Random interleavings

VENUES_WORD = (
    ExecType.NEW, ExecType.CANCELED, ExecType.REJECTED, ExecType.EXPIRED, ExecType.CANCEL_REJECT, ExecType.NOT_FOUND,
    ExecType.REPLACE_REJECT, ExecType.REPLACED, ExecType.ORDER_STATUS, ExecType.TRIGGERED,
)  # fmt: skip
steps = st.one_of(
    st.tuples(st.just("fill"), st.integers(1, 4), st.integers(98, 102)),
    st.tuples(st.just("again"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("word"), st.sampled_from(range(len(VENUES_WORD))), st.sampled_from([int(s) for s in S])),
    st.tuples(st.just("terms"), st.integers(0, 3), st.booleans().map(int)),
    st.tuples(st.just("replace"), st.integers(1, 12), st.integers(97, 103)),
    st.tuples(st.just("cancel"), st.just(0), st.just(0)),
    st.tuples(st.just("lose"), st.just(0), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 12), st.just(0)),
)


def took(desk: Desk, order: Order, step: tuple[str, int, int], names: list[str]) -> None:
    """Do one step of a walk."""
    kind, first, second = step
    match kind:
        case "fill":
            desk.report(ExecType.TRADE, order.order_id, quantity=first, price=second)
        case "again" if desk.trades:
            again = desk.report(ExecType.TRADE, order.order_id, quantity=first, trade_id=f"T{desk.trades}")
            assert again.effect is ReportEffect.DUPLICATE
        case "word":
            desk.report(VENUES_WORD[first], order.order_id, status=S(second), cum=order.cum)
        case "terms":
            asked = order.terms.replacement if order.terms is not None else None
            quantity, price = order.quantity, order.limit_price
            if asked is not None and second:
                quantity, price = asked.quantity, asked.price
            kinds = (ExecType.REPLACED, ExecType.REPLACE_REJECT, ExecType.ORDER_STATUS, ExecType.ORDER_STATUS)
            status = S.PARTIALLY_FILLED if order.cum else S.NEW
            last = desk.state.venues["sandbox"].last_seq
            seq = asked.seq if asked is not None and first < 2 else last
            desk.answer(kinds[first], order, quantity, price, venue_seq=seq, status=status)
        case "replace":
            names.append(f"r{len(names)}")
            desk.replace(names[first % (len(names) - 1)], names[-1], first, second)
        case "cancel":
            desk.cancel(names[-1])
        case "lose":
            lose(desk)
        case "kill":
            desk.control(ControlAction.KILL, unsent_from=first)
            desk.control(ControlAction.RESUME)


@settings(max_examples=300, deadline=None)
@given(walk=st.lists(steps, max_size=30), quantity=st.integers(1, 8), side=st.sampled_from(Side))
def test_any_interleaving_adds_up(walk: list[tuple[str, int, int]], quantity: int, side: Side) -> None:
    """Duplicates, out of order, before the acknowledgement: quantity, leaves and exposure hold after each step."""
    desk = Desk()
    order = desk.accept(desk.order("1", side, quantity))
    names = ["1"]
    for step in walk:
        took(desk, order, step, names)
        overfilled = any(
            getattr(record, "decision", None) is not None
            and getattr(record.decision, "effect", None) is ReportEffect.OVERFILL  # type: ignore[union-attr]
            for *_, record in desk.records
        )
        assert overfilled or order.cum <= order.quantity
        is_open = order.order_id in desk.state.orders
        assert is_open == (order.status not in TERMINAL)
        assert order.leaves == (order.quantity_most - order.cum if is_open else 0)
        verify_exposure(desk, order)
    assert desk.hash() == desk.replayed_hash()
    assert False not in desk.decided_again()


def verify_exposure(desk: Desk, order: Order) -> None:
    """Count the ledger and the account anew from the open orders."""
    ledger, account = desk.state.book.ledger("a1", "XY"), desk.state.accounts["a1"]
    mine = list(desk.state.orders.values())
    for pending, side in ((ledger.buy, Side.BUY), (ledger.sell, Side.SELL)):
        assert pending == sum(o.leaves for o in mine if o.side is side)
    assert ledger.position == (order.cum if order.side is Side.BUY else -order.cum)
    assert account.open_count == sum(1 for o in mine if o.leaves)
    value = sum(o.route.instrument.value_e9(o.leaves, worst_price(o)) for o in mine)
    assert account.open_value_e9 == value == sum(o.reserved_value_e9 for o in mine)


def worst_price(order: Order) -> int:
    """The price of the two terms at which most value is reserved."""
    asked = order.terms.replacement if order.terms is not None else None
    return max(order.limit_price, asked.price) if asked is not None else order.limit_price
