"""What the sandbox states of itself, over its checkpoints and its log, and how it is cut into messages."""

from __future__ import annotations

import msgspec
import pytest

from protocol.codes import OrderType, Side, TimeInForce
from protocol.statement import FILLS_STATED_MAX, STATEMENT_PARTS_MAX, STATEMENT_ROWS_MAX, StatedFill, StatedPosition
from protocol.venue import Report, SendNew, gateway_decoder
from runtime.sessions import SessionRules
from tests.unit.venues.stage import XY
from venues.core.settings import StaticBook
from venues.core.statement import statement_parts
from venues.core.venue import VenueStatement
from venues.sandbox import SandboxState, SandboxVenue

E9 = 10**9
NOW = 1_780_000_000 * E9
DAY_NS = 86_400 * E9
BOOK = StaticBook(mid_e9=100 * E9, quantity_e9=50 * E9)


def venue(session: SessionRules | None = None) -> SandboxVenue:
    return SandboxVenue([XY], static_book=BOOK, session=session)


def send(seq: int, side: Side, quantity: int, price: int) -> SendNew:
    return SendNew(
        seq, f"o{seq}", "a1", "XY", side, OrderType.LIMIT, TimeInForce.DAY, quantity * E9, price * E9, b"t" * 16
    )


COMMANDS = [send(1, Side.BUY, 3, 110), send(2, Side.SELL, 1, 90), send(3, Side.BUY, 2, 90)]


def traded(of: SandboxVenue) -> list[Report]:
    return of.execute(COMMANDS, NOW)


def test_it_states_what_rests_what_was_filled_and_the_net_of_it() -> None:
    """Bought 3, sold 1, one order rests."""
    one = venue()
    traded(one)
    said = one.statement()
    assert said is not None
    assert [(o.order_id, o.leaves_quantity_e9, o.cum_quantity_e9) for o in said.orders] == [("o3", 2 * E9, 0)]
    assert [(f.trade_id, f.order_id, f.side, f.quantity_e9) for f in said.fills] == [
        ("S-T1", "o1", Side.BUY, 3 * E9), ("S-T2", "o2", Side.SELL, E9),
    ]  # fmt: skip
    assert said.positions == [StatedPosition("a1", "XY", 2 * E9)]
    assert not said.whole_positions


@pytest.mark.parametrize("from_log", [False, True])
def test_a_restart_states_the_same(*, from_log: bool) -> None:
    """From its checkpoint, or from the log behind an empty one."""
    one, again = venue(), venue()
    empty = one.state()
    reports = traded(one)
    if from_log:
        again.restore(empty, 0, [])
        again.replay(COMMANDS, reports, one.note())
    else:
        again.restore(one.state(), reports[-1].report_seq, [])
    assert again.statement() == one.statement()


def test_a_log_that_kept_no_positions_states_none() -> None:
    """What is not known is not claimed: not as nothing, not as a part."""
    one = venue()
    old = SandboxState(0, 0, [])
    one.restore(msgspec.msgpack.encode(old), 0, [])
    traded(one)
    said = one.statement()
    assert said is not None
    assert said.positions is None
    assert len(said.fills) == 2
    once_more = venue()
    once_more.restore(one.state(), 9, [])
    after = once_more.statement()
    assert after is not None
    assert after.positions is None


def test_fills_are_those_of_the_session() -> None:
    """The position is of all sessions."""
    one = venue(SessionRules())
    one.wake(NOW)
    traded(one)
    one.wake(NOW + DAY_NS)
    one.wake(NOW + DAY_NS)
    said = one.statement()
    assert said is not None
    assert (said.fills, said.orders) == ([], [])
    assert said.positions == [StatedPosition("a1", "XY", 2 * E9)]


@pytest.mark.parametrize("count", [0, 1, STATEMENT_ROWS_MAX, STATEMENT_ROWS_MAX + 1, FILLS_STATED_MAX + 7])
def test_parts_hold_every_row_once_and_the_newest_fills(count: int) -> None:
    """Bounded each, at least one, numbered from 0 to the last."""
    fills = [StatedFill(f"T{n}", "o", "a1", "XY", Side.BUY, E9, E9) for n in range(count)]
    said = VenueStatement([], fills, [StatedPosition("a1", "XY", E9)])
    parts = [gateway_decoder.decode(body) for body in statement_parts(7, 2, 3, 4, said)]
    assert [(p.part, p.parts, p.number, p.received_seq, p.report_seq) for p in parts] == [  # type: ignore[union-attr]
        (n, len(parts), 7, 3, 4) for n in range(len(parts))
    ]
    assert [f for p in parts for f in p.fills] == fills[-FILLS_STATED_MAX:]  # type: ignore[union-attr]
    assert sum(len(p.positions) for p in parts) == 1  # type: ignore[union-attr]


def test_a_statement_beyond_all_bounds_is_not_sent() -> None:
    """The engine alarms when none comes; half of one would be worse."""
    positions = [StatedPosition("a1", "XY", E9)] * (STATEMENT_ROWS_MAX * STATEMENT_PARTS_MAX + 1)
    assert statement_parts(1, 1, 1, 1, VenueStatement([], [], positions)) == []
