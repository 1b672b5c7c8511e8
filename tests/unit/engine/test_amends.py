"""Trades taken back and corrected: counted once, exactly, in whatever order the venue says it; nothing is raised."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.order import Order
from engine.order_state import TRANSITIONS, Happening
from engine.snapshot import load_snapshot
from engine.state import CLOSED_MAX, state_hash
from engine.venue_state import TRADE_IDS_MAX
from protocol.amends import TradeAmended
from protocol.codes import AT_NO_VENUE, TERMINAL, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import ReportEffect
from protocol.records import ControlAction
from protocol.rolls import SessionRolled
from protocol.venue import Details, Report
from tests.unit.engine.amending import Amending
from tests.unit.engine.desk import E9
from tests.unit.engine.test_snapshot import save

S = OrderStatus
CANCEL, CORRECT = ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT
APPLIED, DUPLICATE, REFUSED = ReportEffect.APPLIED, ReportEffect.DUPLICATE, ReportEffect.REFUSED
TRADE_UNKNOWN = ReportEffect.TRADE_UNKNOWN
_encode = msgspec.msgpack.encode


def test_a_trade_taken_back_moves_everything_back() -> None:
    """Position, cum, value, leaves and what is reserved are what they were before the fill; the order works on."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3, 99)
    before = desk.figures(order)
    desk.fill(order, 4, 101)
    assert desk.bust(order, "T2") is APPLIED
    assert desk.figures(order) == before
    assert desk.bust(order, "T1") is APPLIED
    assert (order.status, order.cum, order.leaves, desk.position) == (S.NEW, 0, 10, 0)
    assert not desk.state.halts
    desk.check()


def test_a_trade_is_taken_back_once() -> None:
    """Again it is a duplicate, and so is the trade itself should the venue report it again."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3)
    assert desk.bust(order, "T1") is APPLIED
    after = desk.figures(order)
    assert desk.bust(order, "T1") is DUPLICATE
    assert desk.report(ExecType.TRADE, order.order_id, quantity=3, trade_id="T1").effect is DUPLICATE
    assert desk.amend(order.order_id, "T1", quantity=2, price=100)[0].effect is REFUSED
    assert desk.figures(order) == after
    desk.check()


def test_an_order_that_is_over_stays_over() -> None:
    """A filled order is CANCELED when a fill is taken back, with no leaves; another late fill makes it FILLED again."""
    desk = Amending()
    order = desk.working(quantity=5)
    desk.fill(order, 2)
    desk.fill(order, 3)
    assert order.status is S.FILLED
    assert desk.bust(order, "T2") is APPLIED
    assert (order.status, order.cum, order.leaves, desk.position) == (S.CANCELED, 2, 0, 2)
    assert order.order_id in desk.state.closed
    assert order.route.account.open_count == 0
    assert desk.fill(order, 3).effect is APPLIED
    assert (order.status, desk.position) == (S.FILLED, 5)
    desk.check()


def test_a_venue_that_lets_an_ended_order_work_again_is_not_followed() -> None:
    """Leaves of an order that is over stay 0; its account is in reduce-only, for what the venue says can't be right."""
    desk = Amending()
    order = desk.working(quantity=5)
    desk.fill(order, 5)
    decision, amendment = desk.amend(order.order_id, "T1", says=(5, 0))
    assert amendment is not None
    assert amendment.disagrees
    assert (decision.leaves_quantity_e9, order.leaves, desk.position) == (0, 0, 0)
    assert desk.state.halts[Scope.ACCOUNT, "a1"].state is TradingState.REDUCING
    desk.check()


def test_a_venue_that_keeps_the_leaves_of_a_live_order_is_not_believed_either() -> None:
    """The more is reserved, since it may still fill, and the account is in reduce-only."""
    desk = Amending()
    order = desk.working(quantity=5)
    desk.fill(order, 2)
    desk.amend(order.order_id, "T1", says=(3, 0))
    assert order.leaves == 5
    assert desk.state.halts[Scope.ACCOUNT, "a1"].state is TradingState.REDUCING
    desk.check()


def test_a_trade_taken_back_before_it_comes_never_counts() -> None:
    """The venue's two reports may come in either order; the trade counts nothing, and a person is called."""
    desk = Amending()
    order = desk.working()
    assert desk.bust(order, "T1") is TRADE_UNKNOWN
    assert desk.state.halts[Scope.ACCOUNT, "a1"].state is TradingState.REDUCING
    assert desk.bust(order, "T1") is DUPLICATE
    assert desk.fill(order, 3).effect is DUPLICATE
    assert (order.cum, desk.position) == (0, 0)
    desk.check()


def test_a_trade_of_nobody_taken_back_stops_new_risk_of_all() -> None:
    """Neither trade nor order is known: everything is in reduce-only, nothing moves."""
    desk = Amending()
    assert desk.amend("P-nobody", "T9")[0].effect is TRADE_UNKNOWN
    assert desk.state.halts[Scope.GLOBAL, ""].state is TradingState.REDUCING
    assert desk.position == 0
    desk.check()


def test_a_correction_of_a_trade_that_is_not_known_is_not_booked() -> None:
    """It may have been booked long ago: counted now it could count twice. The trade itself still counts if it comes."""
    desk = Amending()
    order = desk.working()
    assert desk.amend(order.order_id, "T1", quantity=2, price=100)[0].effect is TRADE_UNKNOWN
    assert desk.state.halts[Scope.ACCOUNT, "a1"].state is TradingState.REDUCING
    assert desk.fill(order, 3).effect is APPLIED
    assert desk.position == 3
    desk.check()


def test_a_correction_sets_price_and_quantity() -> None:
    """More, less, another price: cum, value and position are as if the trade had come so at first."""
    desk, plain = Amending(), Amending()
    order, same = desk.working(), plain.working()
    desk.fill(order, 3, 99)
    plain.fill(same, 5, 98)
    assert desk.amend(order.order_id, "T1", quantity=5, price=98)[0].effect is APPLIED
    assert desk.figures(order) == plain.figures(same)
    desk.check()


def test_a_correction_of_a_correction_is_one_of_the_trade() -> None:
    """Whether the venue names the trade or its correction; each correction counts once; then it can be taken back."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3, 99)
    assert desk.amend(order.order_id, "T1", quantity=5, price=98, correction_id="C1")[0].effect is APPLIED
    assert desk.amend(order.order_id, "C1", quantity=4, price=97, correction_id="C2")[0].effect is APPLIED
    assert desk.amend(order.order_id, "T1", quantity=4, price=97, correction_id="C2")[0].effect is DUPLICATE
    assert desk.amend(order.order_id, "T1", quantity=5, price=98, correction_id="C1")[0].effect is DUPLICATE
    assert (order.cum, order.value_e9, desk.position) == (4, 4 * 97 * E9, 4)
    assert desk.bust(order, "C2") is APPLIED
    assert (order.cum, order.value_e9, desk.position) == (0, 0, 0)
    assert desk.bust(order, "T1") is DUPLICATE
    desk.check()


def test_a_correction_can_complete_an_order_and_overfill_it() -> None:
    """All filled ends it; more than was ordered is booked and halts the instrument, and can be taken back."""
    desk = Amending()
    order = desk.working(quantity=5)
    desk.fill(order, 2)
    assert desk.amend(order.order_id, "T1", quantity=5, price=100)[0].status is S.FILLED
    assert desk.amend(order.order_id, "T1", quantity=7, price=100)[0].effect is ReportEffect.OVERFILL
    assert desk.state.instruments["XY"].state is TradingState.HALTED_AUTO
    assert desk.position == 7
    assert desk.bust(order, "T1") is APPLIED
    assert (order.status, desk.position) == (S.CANCELED, 0)
    desk.check()


@pytest.mark.parametrize(
    "facts",
    [
        {"last_price_e9": 0, "last_quantity_e9": E9, "trade_id": "C"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": -E9, "trade_id": "C"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": 0, "trade_id": "C"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": E9 // 2, "trade_id": "C"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": 2**63 // E9 * E9, "trade_id": "C"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": E9, "trade_id": ""},
        {"last_price_e9": 100 * E9, "last_quantity_e9": E9, "trade_id": "T2"},
        {"last_price_e9": 100 * E9, "last_quantity_e9": E9, "trade_id": "C", "details": Details()},
        {"exec_type": CANCEL, "last_quantity_e9": E9},
        {"exec_type": CANCEL, "details": Details(original_trade_id="T2")},
    ],
)
def test_an_amendment_that_cant_be_changes_nothing(facts: dict[str, object]) -> None:
    """No price, no id, another trade's id, a part taken back, a trade of another order: refused and recorded."""
    desk = Amending()
    order, other = desk.working(), desk.working("o2")
    desk.fill(order, 3)
    desk.fill(other, 3)
    before = desk.figures(order), desk.figures(other)
    plain = Report(
        desk.venue.report_seq + 1, CORRECT, order.order_id, "v", 0, S.NONE, 0, 0, desk.now,
        details=Details(original_trade_id="T1"),
    )  # fmt: skip
    said = msgspec.structs.replace(plain, **facts)
    decided = desk.core.amends.decide(desk.venue, said)
    desk.apply(TradeAmended("sandbox", Raw(_encode(said)), *decided))
    assert decided[0].effect is REFUSED
    assert (desk.figures(order), desk.figures(other)) == before
    desk.check()


@pytest.mark.parametrize("exec_type", [CANCEL, CORRECT])
@pytest.mark.parametrize("quantity", [0, 3, 30])
def test_one_that_names_no_trade_is_refused(exec_type: ExecType, quantity: int) -> None:
    """Without details it is a report like others, and none that the table knows: no fill is booked of it."""
    desk = Amending()
    order = desk.working()
    assert desk.report(exec_type, order.order_id, quantity=quantity).effect is REFUSED
    assert (order.cum, desk.position) == (0, 0)
    desk.check()


def test_a_trade_of_an_order_that_was_forgotten_is_taken_back_of_the_position() -> None:
    """Thousands of orders later the order is gone, what its trade counted is not."""
    desk = Amending(keys_max=2 * CLOSED_MAX)
    order = desk.working(quantity=3)
    desk.fill(order, 3)
    for n in range(CLOSED_MAX + 1):
        late = desk.accept(desk.order(f"x{n}"))
        desk.report(ExecType.CANCELED, late.order_id, venue_seq=late.venue_seq)
    assert order.order_id not in desk.state.closed
    decision, amendment = desk.amend(order.order_id, "T1")
    assert amendment is not None
    assert not amendment.knows_order
    assert (decision.effect, decision.account, decision.instrument) == (APPLIED, "a1", "XY")
    assert (desk.position, order.route.own.position) == (0, 0)
    assert desk.amend(order.order_id, "T1")[0].effect is DUPLICATE
    assert desk.hash() == desk.replayed_hash()


def test_a_trade_is_taken_back_after_the_session_roll() -> None:
    """What a trade counted is remembered over the end of its day."""
    desk = Amending()
    order = desk.working(quantity=3)
    desk.fill(order, 3)
    desk.apply(SessionRolled(20260530, 20260531, "op", "why"))
    assert desk.bust(order, "T1") is APPLIED
    assert desk.position == 0
    desk.check()


def test_a_trade_taken_back_by_hand_counts_once() -> None:
    """The operator says it first, the venue's own word later is a duplicate, however many trades came between."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3)
    assert isinstance(desk.bust_by_hand(order.order_id, "T1"), TradeAmended)
    assert (order.cum, desk.position) == (0, 0)
    for n in range(TRADE_IDS_MAX + 10):
        desk.venue.remember_trade(f"n{n}", (order.order_id, order.route, 1, 100 * E9, 0, 0, ""))
    assert desk.bust(order, "T1") is DUPLICATE
    assert (order.cum, desk.position) == (0, 0)


def test_what_cannot_be_taken_back_by_hand_says_why() -> None:
    """No such trade, another order's, one taken back before: nothing changes."""
    desk = Amending()
    order, other = desk.working(), desk.working("o2")
    desk.fill(order, 3)
    before = desk.hash()
    assert "is remembered here, was none" in str(desk.bust_by_hand(order.order_id, "T9"))
    assert "is remembered here, was none" in str(desk.bust_by_hand(other.order_id, "T1"))
    assert desk.hash() == before
    desk.bust(order, "T1")
    assert "was taken back before" in str(desk.bust_by_hand(order.order_id, "T1"))
    desk.check()


def test_an_order_whose_leaves_were_gone_reserves_again() -> None:
    """All had filled when a kill took back a replace not yet sent: with a fill taken back it can fill again."""
    desk = Amending()
    order = desk.working(quantity=5)
    desk.replace("o", "r", quantity=8)
    desk.fill(order, 5)
    desk.control(ControlAction.KILL, unsent_from=order.terms.replacement.seq)  # type: ignore[union-attr]
    assert (order.status, order.leaves) == (S.PENDING_CANCEL, 0)
    assert desk.bust(order, "T1") is APPLIED
    assert (order.status, order.leaves, desk.state.book.ledger("a1", "XY").buy) == (S.PENDING_CANCEL, 5, 5)
    assert order.route.account.open_count == 1
    desk.report(ExecType.CANCELED, order.order_id, venue_seq=order.cancel_seq)
    assert (order.leaves, order.route.account.open_count, order.route.account.open_value_e9) == (0, 0, 0)
    desk.check()


def _as_of(status: OrderStatus) -> tuple[Amending, Order]:
    """Return a desk with an order over ten in this state, of which trade T1 over two has filled where one can."""
    desk = Amending()
    order = desk.working()
    name = order.order_id
    desk.fill(order, 2)
    match status:
        case S.PENDING_CANCEL:
            desk.cancel("o")
        case S.PENDING_REPLACE:
            desk.replace("o", "r", quantity=12)
        case S.FILLED:
            desk.fill(order, 8)
        case S.CANCELED | S.EXPIRED:
            desk.report(ExecType[status.name], name)
        case S.REJECTED | S.UNKNOWN | S.PENDING_NEW | S.NEW:
            desk.state.set_status(order, status)
        case _:
            pass
    return desk, order


AMENDED = {s: a for (s, h), a in TRANSITIONS.items() if h is Happening.FILLS_AMENDED}


def test_every_state_in_which_something_can_have_traded_is_in_the_table() -> None:
    """All but that of an order that is at no venue yet."""
    amended, complete = Happening.FILLS_AMENDED, Happening.FILLS_COMPLETE
    for status in dict.fromkeys(s for s, _ in TRANSITIONS):
        for happening in (amended, complete):
            assert ((status, happening) in TRANSITIONS) == (status not in AT_NO_VENUE)


@pytest.mark.parametrize("status", AMENDED, ids=lambda s: s.name)
def test_each_state_takes_a_trade_back_as_the_table_says(status: OrderStatus) -> None:
    """Whatever the order is, what traded goes back, and its state is the table's; no leaves of one that is over."""
    desk, order = _as_of(status)
    expected = AMENDED[status]
    assert desk.bust(order, "T1") is APPLIED
    cum = 8 if status is S.FILLED else 0
    if expected is S.NONE:
        expected = S.PENDING_REPLACE if status is S.PENDING_REPLACE else S.NEW
    assert (order.status, order.cum, desk.position) == (expected, cum, cum)
    assert (order.leaves == 0) == (order.status in TERMINAL)


@pytest.mark.parametrize("status", AMENDED, ids=lambda s: s.name)
def test_each_state_takes_a_correction_to_all_of_it(status: OrderStatus) -> None:
    """Corrected to the whole quantity the order is FILLED, whatever it was."""
    desk, order = _as_of(status)
    whole = 2 if status is S.FILLED else order.quantity_most
    assert desk.amend(order.order_id, "T1", quantity=whole, price=100)[0].effect is APPLIED
    assert (order.status, order.leaves, desk.position) == (S.FILLED, 0, order.cum)


walks = st.lists(
    st.tuples(
        st.sampled_from(("fill", "bust", "correct", "cancel", "canceled", "replace", "hand")), st.integers(1, 6),
        st.integers(98, 102),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(walk=walks, quantity=st.integers(1, 12), side=st.sampled_from(Side))
def test_any_walk_adds_up_to_the_trades_that_count(walk: list[tuple[str, int, int]], quantity: int, side: Side) -> None:
    """After any trades, corrections and busts the position is the sum of what counts, and so are cum and value."""
    desk = Amending()
    order = desk.working("o", quantity, side)
    counts: dict[str, tuple[int, int]] = {}
    for n, (kind, amount, price) in enumerate(walk):
        named = f"T{amount}"
        match kind:
            case "fill":
                desk.fill(order, amount, price)
                counts[f"T{desk.trades}"] = amount, price
            case "bust" | "hand":
                did = desk.bust(order, named) if kind == "bust" else desk.bust_by_hand(order.order_id, named)
                assert (did is APPLIED or isinstance(did, TradeAmended)) == bool(counts.get(named, (0, 0))[0])
                counts[named] = 0, 0
                desk.trades = max(desk.trades, amount)
            case "correct":
                did = desk.amend(order.order_id, named, quantity=amount, price=price)[0].effect
                if counts.get(named, (0, 0))[0]:
                    assert did in {APPLIED, ReportEffect.OVERFILL}
                    counts[named] = amount, price
            case "cancel":
                desk.cancel("o")
            case "canceled":
                desk.report(ExecType.CANCELED, order.order_id)
            case _:
                desk.replace("o", f"r{n}", quantity=amount + quantity)
    filled = sum(q for q, _ in counts.values())
    assert (order.cum, order.value_e9) == (filled, sum(q * p for q, p in counts.values()) * E9)
    assert desk.position == (filled if side is Side.BUY else -filled)
    assert order.route.own.position == desk.position
    ledger = desk.state.book.ledger("a1", "XY")
    assert (ledger.buy if side is Side.BUY else ledger.sell) == order.leaves
    assert order.leaves == (0 if order.status in TERMINAL else order.quantity_most - order.cum)
    assert (order.order_id in desk.state.orders) == (order.status not in TERMINAL)
    desk.check()


def test_what_trades_counted_comes_back_from_a_snapshot(tmp_path: Path) -> None:
    """Taken back after a start from a snapshot, a trade takes back the same; corrections keep their names."""
    desk = Amending()
    order = desk.working()
    desk.fill(order, 3, 99)
    desk.fill(order, 2, 98)
    desk.amend(order.order_id, "T1", quantity=4, price=97, correction_id="C1")
    desk.bust(order, "T9")
    core, _ = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    loaded = core.state.venues["sandbox"]
    names = [c and (c[0], c[1] and c[1].account.name, *c[2:]) for c in desk.venue.trade_ids.values()]
    assert [c and (c[0], c[1] and c[1].account.name, *c[2:]) for c in loaded.trade_ids.values()] == names
    assert list(loaded.trade_order) == list(desk.venue.trade_order)
    desk.core = core
    assert desk.bust(core.state.orders[order.order_id], "C1") is APPLIED
    assert desk.position == 2
    assert desk.bust(core.state.orders[order.order_id], "T9") is DUPLICATE
    assert state_hash(core.state) == desk.replayed_hash()
