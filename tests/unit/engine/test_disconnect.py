"""What is cancelled when a source is away: whose orders, which of them stay, and that a verifier sees the same."""

from __future__ import annotations

import pytest
from msgspec import structs

from engine.core import Core
from engine.order import Order
from protocol.codes import Code, ExecType, OrderStatus, Side
from protocol.params import AccountParams, ChannelParams, Params
from protocol.records import ControlAction, Controlled
from tests.unit.engine.desk import E9, Desk, params

BUY, SELL = Side.BUY, Side.SELL
UNSENT = 1 << 62


def given(wait: int = 2, *, keep_exits: bool = True, accounts: tuple[AccountParams, ...] = ()) -> Params:
    """Parameters in which the source's orders are due after ``wait`` seconds."""
    base = params()
    channel = ChannelParams("src", ("all", "one"), wait * E9, keep_exits)
    return structs.replace(base, channels=(channel,), accounts=accounts or base.accounts)


def away(desk: Desk, seconds: int, source: str = "src", unsent_from: int = UNSENT) -> list[str]:
    """Let the source be away; return the client ids of what was cancelled."""
    ids: list[str] = []
    for record in desk.core.controls.decide_disconnect(source, seconds * E9, {"sandbox": unsent_from}):
        assert record.automatic
        desk.apply(record)
        ids += [c.client_order_id for c in record.cancels]
    return ids


def test_what_came_through_the_source_is_cancelled_when_it_is_due() -> None:
    """Not before its time, not by another source's absence, and not twice; the journal alone says the same."""
    desk = Desk(given=given())
    order = desk.accept(desk.order("1"))
    assert order.source == "src"
    assert away(desk, 1) == []
    assert away(desk, 9, "other") == []
    assert away(desk, 2) == ["1"]
    assert order.status is OrderStatus.PENDING_CANCEL
    assert away(desk, 3) == []
    assert desk.hash() == desk.replayed_hash()


def test_without_the_setting_nothing_is_cancelled() -> None:
    """The default."""
    desk = Desk()
    desk.accept(desk.order("1"))
    assert away(desk, 10**6) == []


def test_an_account_may_say_otherwise() -> None:
    """a1 never, a2 sooner than its source."""
    accounts = (AccountParams("a1", "USDT", disconnect_ns=0), AccountParams("a2", "USDT", disconnect_ns=E9))
    desk = Desk(given=given(accounts=accounts))
    desk.accept(desk.order("1"))
    desk.accept(desk.order("2", account="a2"))
    assert away(desk, 1) == ["2"]
    assert away(desk, 9) == []


@pytest.mark.parametrize("keep_exits", [True, False])
def test_exits_stay_where_it_is_set_so(*, keep_exits: bool) -> None:
    """Of two sells on a position of 5 the newer, which could flip it, is no exit."""
    desk = Desk(given=given(keep_exits=keep_exits), position=5)
    desk.accept(desk.order("buy", BUY, 1))
    desk.accept(desk.order("exit", SELL, 5))
    desk.accept(desk.order("flip", SELL, 1, price=101))
    assert away(desk, 2) == (["flip", "buy"] if keep_exits else ["flip", "exit", "buy"])
    assert desk.hash() == desk.replayed_hash()


def test_what_was_never_sent_is_cancelled_without_the_venue() -> None:
    """Its number becomes VOID, as with a kill."""
    desk = Desk(given=given())
    sent = desk.accept(desk.order("1"))
    unsent = desk.accept(desk.order("2"))
    assert away(desk, 2, unsent_from=unsent.venue_seq) == ["2", "1"]
    assert list(desk.state.orders) == [sent.order_id]
    record = desk.records[-1][3]
    assert isinstance(record, Controlled)
    assert record.cancels[0].code is Code.UNSENT_KILLED


def test_a_cancel_that_was_refused_is_made_again() -> None:
    """The order works on, and the next look cancels it anew."""
    desk = Desk(given=given())
    order: Order = desk.accept(desk.order("1"))
    desk.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
    assert away(desk, 2) == ["1"]
    desk.report(ExecType.CANCEL_REJECT, order.order_id, venue_seq=order.cancel_seq)
    assert away(desk, 4) == ["1"]


def test_what_controls_cancelled_is_decided_again() -> None:
    """Absence, kill and reduce-only: the chosen orders follow from the state; another choice is seen."""
    desk = Desk(given=given(), position=3)
    for n in range(3):
        desk.accept(desk.order(f"a{n}", account="a2"))
        desk.accept(desk.order(f"b{n}", SELL, 2, price=101))
    away(desk, 2)
    desk.control(ControlAction.REDUCE_ONLY)
    desk.control(ControlAction.KILL)
    core = Core(desk.state.dedup.keys_max)
    answers = []
    for seq, now_ns, position, record in desk.records:
        if isinstance(record, Controlled):
            answers.append(core.decide_again(record, now_ns))
            if record.cancels:
                assert core.decide_again(structs.replace(record, cancels=record.cancels[1:]), now_ns) is False
        core.apply(seq, now_ns, position, record)
    assert answers == [True] * 3
