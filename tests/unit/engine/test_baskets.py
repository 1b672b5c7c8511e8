"""Baskets: all legs or none, judged by what they come to together, and then orders like any other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.orders import Defer, Replay
from engine.outcomes import basket_outcome, first_outcome
from protocol.codes import Code, OrderStatus, OrderType, OutcomeKind, RetryReason, Scope, Side, TimeInForce
from protocol.decisions import BasketDecision
from protocol.event_kinds import OrderEvent
from protocol.events import events_of
from protocol.orders import NewBasket
from protocol.params import LimitName
from protocol.records import BasketOrdered, ControlAction
from protocol.session import Item
from protocol.texts import outcome_text
from tests.unit.engine.desk import E9, Desk, limit, params
from tests.unit.venues.stage import XY

BUY, SELL = Side.BUY, Side.SELL
ZW = msgspec.structs.replace(XY, instrument="ZW")


def desk(*limits: Any, position: int = 0) -> Desk:
    """Return a desk with two instruments."""
    return Desk(given=params(*limits, instruments=(XY, ZW)), position=position)


def straddle(d: Desk, name: str = "b1", quantity: int = 2) -> NewBasket:
    return d.basket(
        name, d.order("", SELL, quantity, 100), d.order("", SELL, quantity, 100, instrument="ZW")
    )  # fmt: skip


def taken(decided: object) -> BasketDecision:
    assert isinstance(decided, BasketDecision)
    assert decided.kind is OutcomeKind.ACCEPTED, decided
    return decided


def refused(decided: object) -> tuple[Code, int]:
    assert isinstance(decided, BasketDecision)
    assert decided.kind is OutcomeKind.REJECTED, decided
    return decided.code, decided.leg


def test_a_basket_opens_each_leg_under_its_own_id() -> None:
    """Accepted, each leg is an order with its own number for the venue; it is cancelled and filled by itself."""
    d = desk()
    decision = taken(d.submit_basket(straddle(d)))
    assert [leg.venue_seq for leg in decision.legs] == [1, 2]
    first, second = (d.state.orders[leg.order_id] for leg in decision.legs)
    assert (first.client_order_id, second.client_order_id) == ("b1/1", "b1/2")
    d.fill(first, 2)
    d.cancel("b1/2")
    assert first.status is OrderStatus.FILLED
    assert second.status is OrderStatus.PENDING_CANCEL
    assert d.replayed_hash() == d.hash()
    assert False not in d.decided_again()


def test_one_refused_leg_refuses_all_and_is_named() -> None:
    """The third leg is over the price collar: nothing is opened, the text says which leg and why."""
    d = desk()
    basket = d.basket("b1", d.order(""), d.order("", instrument="ZW"), d.order("", BUY, 1, 900))
    before = d.hash_without_keys()
    decided = d.submit_basket(basket)
    assert refused(decided) == (Code.PRICE_COLLAR, 3)
    assert isinstance(decided, BasketDecision)
    assert d.hash_without_keys() == before
    text = outcome_text(basket_outcome(d.item(basket), 9, decided))
    assert text.startswith("leg 3: PRICE_COLLAR expected at most ")


@pytest.mark.parametrize("room", [299, 300])
def test_open_value_counts_all_legs(room: int) -> None:
    """Three legs of 100 each pass a limit of 300 on open value and fail one of 299, though each alone would pass."""
    d = desk(limit(LimitName.OPEN_VALUE_MAX, room, Scope.ACCOUNT, "a1"))
    legs = [d.order("", BUY, 1, 100, instrument=name) for name in ("XY", "ZW", "XY")]
    decided = d.submit_basket(d.basket("b1", *legs))
    if room == 300:
        taken(decided)
    else:
        assert refused(decided) == (Code.VALUE_OPEN_MAX, 1)


def test_the_position_limit_sees_the_other_legs() -> None:
    """Two buys of 3 against a limit of 5 are refused together."""
    d = desk(limit(LimitName.POSITION_MAX, 5))
    assert refused(d.submit_basket(d.basket("b1", d.order("", BUY, 3), d.order("", BUY, 3)))) == (Code.POS_LIMIT, 1)


def test_two_exits_that_together_flip_are_no_exits() -> None:
    """Long 4 and reducing only: two sells of 3 could end short, two of 2 can't."""
    for quantity, expected in ((3, (Code.STATE_REDUCING, 1)), (2, None)):
        d = desk(position=4)
        d.control(ControlAction.REDUCE_ONLY)
        decided = d.submit_basket(d.basket("b1", d.order("", SELL, quantity), d.order("", SELL, quantity)))
        if expected is None:
            taken(decided)
        else:
            assert refused(decided) == expected


def test_a_roll_is_taken_whole_or_not_at_all() -> None:
    """Close the near, open the far: in reduce-only the far leg is refused, and so the near one is kept."""
    d = desk(position=2)
    d.control(ControlAction.REDUCE_ONLY)
    roll = d.basket("b1", d.order("", SELL, 2), d.order("", BUY, 2, instrument="ZW"))
    assert refused(d.submit_basket(roll)) == (Code.STATE_REDUCING, 2)
    assert not d.state.orders


def test_rates_count_each_leg() -> None:
    """Three legs against two orders a window are refused; nothing is charged for it."""
    d = desk(limit(LimitName.RATE_COUNT, 2, Scope.ACCOUNT, "a1", window_ns=E9))
    legs = [d.order("", BUY, 1) for _ in range(3)]
    assert refused(d.submit_basket(d.basket("b1", *legs)))[0] is Code.RATE_ACCOUNT
    taken(d.submit_basket(d.basket("b2", *legs[:2])))
    assert refused(d.submit_basket(d.basket("b3", *legs[:2])))[0] is Code.RATE_ACCOUNT


def test_a_repeat_gets_the_first_answer() -> None:
    """The same basket again is a replay of the same record; other content under its id is a conflict."""
    d = desk()
    basket = straddle(d)
    decision = taken(d.submit_basket(basket))
    again = d.submit_basket(basket)
    assert isinstance(again, Replay)
    record = d.records[again.position - 1][3]
    assert isinstance(record, BasketOrdered)
    item = d.item(basket)
    assert first_outcome(item, again.position, record) == basket_outcome(item, record.seq, decision)
    assert refused(d.submit_basket(straddle(d, quantity=1))) == (Code.ID_CONFLICT, 0)


def test_a_leg_id_that_is_taken_refuses_the_basket() -> None:
    """An order called b1/2 came first; nothing of the basket b1 is opened, and the id of the basket stays free."""
    d = desk()
    d.accept(d.order("b1/2"))
    assert refused(d.submit_basket(straddle(d))) == (Code.ID_CONFLICT, 2)
    assert len(d.state.orders) == 1
    assert refused(d.submit_basket(straddle(d))) == (Code.ID_CONFLICT, 2)


@pytest.mark.parametrize(("cancelled", "leg"), [("b1", 0), ("b1/2", 2)])
def test_a_cancel_that_came_first(cancelled: str, leg: int) -> None:
    """A tombstone of the basket or of one leg refuses it all."""
    d = desk()
    d.cancel(cancelled)
    assert refused(d.submit_basket(straddle(d))) == (Code.CANCELLED_BEFORE_ARRIVAL, leg)
    assert not d.state.orders
    assert d.replayed_hash() == d.hash()


def test_permission_and_names_are_those_of_every_leg() -> None:
    """A leg in a strategy that is not granted, an unknown instrument, a leg with a wrong id or another account."""
    d = desk()
    bad = d.basket("b1", d.order(""), d.order("", strategy="s2"))
    assert refused(d.submit_basket(bad, principal="one")) == (Code.AUTH_NOT_PERMITTED, 2)
    assert refused(d.submit_basket(d.basket("b2", d.order(""), d.order("", instrument="QQ")))) == (
        Code.INSTR_UNKNOWN, 2,
    )  # fmt: skip
    stray = NewBasket("a1", "b3", [d.order("b3/1"), d.order("b3/2", account="a2")])
    assert refused(d.submit_basket(stray)) == (Code.MSG_MALFORMED, 2)
    assert refused(d.submit_basket(NewBasket("a1", "b4", [d.order("b4/1"), d.order("b4/1")]))) == (
        Code.MSG_MALFORMED, 2,
    )  # fmt: skip


def test_a_basket_waits_where_an_order_would() -> None:
    """New risk is deferred as a whole; exits pass; a market leg without a price is refused."""
    d = desk(position=4)
    assert d.submit_basket(straddle(d), defer=RetryReason.DRAINING) == Defer(RetryReason.DRAINING)
    exits = d.basket("b2", d.order("", SELL, 1), d.order("", SELL, 1))
    taken(d.submit_basket(exits, defer=RetryReason.DRAINING))
    market = d.order("", BUY, 1, order_type=OrderType.MARKET, time_in_force=TimeInForce.IOC)
    decided = d.submit_basket(d.basket("b3", market, d.order("", instrument="ZW")), references=[None, None])
    assert refused(decided) == (Code.REF_STALE, 1)


def test_a_full_window_defers_the_whole() -> None:
    """Two free keys can't hold a basket and its two legs."""
    d = Desk(given=params(instruments=(XY, ZW)), keys_max=4)
    for n in range(2):
        d.accept(d.order(f"o{n}"))
    assert d.submit_basket(straddle(d)) == Defer(RetryReason.DEDUP_FULL)


def test_the_events_are_one_order_a_leg() -> None:
    """The books see each leg as an order; of a refused basket only the leg that was refused, without a key."""
    d = desk()
    d.submit_basket(straddle(d))
    seq, now_ns, _, record = d.records[-1]
    events = events_of(seq, now_ns, record)
    assert [(e.n, e.client_order_id, e.instrument) for e in events if isinstance(e, OrderEvent)] == [
        (0, "b1/1", "XY"), (1, "b1/2", "ZW"),
    ]  # fmt: skip
    d.submit_basket(d.basket("b2", d.order(""), d.order("", BUY, 1, 900)))
    (event,) = events_of(*d.records[-1][:2], d.records[-1][3])
    assert isinstance(event, OrderEvent)
    assert (event.client_order_id, event.code, event.takes_key) == ("b2/2", Code.PRICE_COLLAR, False)


leg = st.tuples(st.sampled_from((BUY, SELL)), st.integers(1, 6), st.sampled_from(("XY", "ZW")))


@settings(max_examples=150, deadline=None)
@given(
    legs=st.lists(leg, min_size=2, max_size=5), position=st.integers(-6, 6), limited=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_legs_never_matters(legs: list[Any], position: int, limited: int, order: Any) -> None:
    """A basket and any reordering of it are both taken or both refused; taken, no reach is over its limit."""
    shuffled = list(legs)
    order.shuffle(shuffled)
    kinds = []
    for given_legs in (legs, shuffled):
        d = desk(limit(LimitName.POSITION_MAX, limited), position=position)
        decided = d.submit_basket(d.basket("b1", *(d.order("", s, q, instrument=i) for s, q, i in given_legs)))
        assert isinstance(decided, BasketDecision)
        kinds.append(decided.kind)
        if decided.kind is OutcomeKind.ACCEPTED:
            for name in ("XY", "ZW"):
                ledger = d.state.book.ledger("a1", name)
                start = position if name == "XY" else 0
                for side, sign in ((BUY, 1), (SELL, -1)):
                    could = ledger.reach(side)
                    is_exit_only = start * sign < 0 and could <= 0
                    added = ledger.buy if side is BUY else ledger.sell
                    assert could <= limited or is_exit_only or not added
        assert d.replayed_hash() == d.hash()
    assert kinds[0] is kinds[1]


def test_an_item_of_another_kind_is_no_first_outcome() -> None:
    """What answers a repeat is the record of a basket, an order, a replace or a failure, nothing else."""
    d = desk()
    item: Item = d.item(straddle(d))
    with pytest.raises(AssertionError, match="expected an order"):
        first_outcome(item, 1, d.records[0][3])
