"""RATIO_OTR: messages a trade of today. RISK.md's examples; what counts, what is exempt, and reduce-only."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.codes import Code, ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import NewDecision
from protocol.params import LimitName, LimitRow, RiskParams
from protocol.records import ControlAction
from risk.gate.flow import Messages, Tally
from risk.gate.ratio import Ratio, RatioBound
from risk.gate.row_rules import limit_fault
from tests.unit.engine.desk import Desk
from tests.unit.engine.risky_desk import RiskyDesk
from tests.unit.engine.test_rolls import Days
from tests.unit.engine.test_snapshot import save
from tests.unit.risk.complete import BUY, SELL, N, given, row

RATIO, FLOOR = LimitName.MESSAGE_RATIO_MAX, LimitName.MESSAGE_FLOOR
S1 = (Scope.STRATEGY, "s1")


def ratio(value: int, scope: Scope = Scope.STRATEGY, key: str = "s1", soft: int | None = None) -> LimitRow:
    return LimitRow(RATIO, scope, key, value, soft=soft)


def floor(value: int) -> LimitRow:
    return LimitRow(FLOOR, Scope.GLOBAL, "", value)


def code(desk: Desk, quantity: int = 1, price: int = 100, side: Side = BUY, strategy: str = "s1") -> Code:
    decided = desk.submit(desk.order(f"o{desk.seq}", side, quantity, price, strategy=strategy))
    assert isinstance(decided, NewDecision)
    assert desk.hash() == desk.replayed_hash()
    return decided.code


def counted(desk: Desk, scope: Scope = Scope.STRATEGY, key: str = "s1") -> tuple[int, int]:
    messages = desk.state.flow.messages[int(scope), key]
    return messages.sent, messages.trades


@pytest.mark.parametrize(("sent", "trades", "most", "is_over"), [
    (500, 13, 40, False), (530, 13, 40, True), (520, 13, 40, False), (521, 13, 40, True), (499, 0, 40, False),
    (500, 0, 499, True), (500, 0, 500, False),
])  # fmt: skip
def test_the_worked_example(sent: int, trades: int, most: int, is_over: bool) -> None:
    """500 messages for 13 trades are 38.5 and pass 40, 530 are 40.8; below the floor of 500 nothing is over."""
    messages = Messages()
    messages.sent, messages.trades = sent, trades
    assert RatioBound(messages, most, most, 500, *S1).is_over(most) is is_over


@pytest.mark.parametrize(("price", "counts"), [
    (2_400_00, 0), (2_418_00, 0), (2_418_05, 1), (2_382_00, 0), (2_381_95, 1), (0, 0),
])  # fmt: skip
def test_a_band_around_the_last_price_is_exempt(price: int, counts: int) -> None:
    """Futures, ±0.75 % of 2,400.00: 2,382.00 to 2,418.00 do not count, nor does MARKET."""
    bound = RatioBound(Messages(), 1, 1, 0, *S1)
    Ratio([bound], Tally(2_400_00), 75, 0).take(price)
    assert bound.messages.sent == counts


@pytest.mark.parametrize(("last", "price", "counts"), [
    (30_00, 50_00, 0), (30_00, 50_05, 1), (100_00, 140_00, 0), (100_00, 140_05, 1), (0, 100_00, 1), (0, 0, 1),
])  # fmt: skip
def test_the_wider_of_both_bands_counts_and_without_a_price_none(last: int, price: int, counts: int) -> None:
    """Options, 40 % or 20.00: 20.00 around 30.00, 40.00 around 100.00. Nobody knows a price: everything counts."""
    bound = RatioBound(Messages(), 1, 1, 0, *S1)
    Ratio([bound], Tally(last), 4_000, 20_00).take(price)
    assert bound.messages.sent == counts


def test_messages_without_trades_put_the_strategy_into_reduce_only_and_exits_pass() -> None:
    """Two messages a trade, from 4 on: the sixth order is refused by its evidence, the next by the strategy's state."""
    desk = Desk(given=given(limits=(ratio(2), floor(4))))
    first = desk.accept(desk.order("first", BUY, 2))
    desk.fill(first, 2)
    assert [code(desk) for _ in range(3)] == [Code.OK] * 3
    decided = desk.decide(desk.order("seen"))
    assert isinstance(decided, NewDecision)
    assert (decided.code, decided.facts.expected, decided.facts.actual) == (Code.RATIO_OTR, 2, 4)  # type: ignore[union-attr]
    assert code(desk) is Code.RATIO_OTR
    assert desk.state.halts[S1].state is TradingState.REDUCING
    assert desk.state.halts[S1].reason == "RATIO_OTR: expected at most 2 messages today for its trades, was 4"
    assert code(desk) is Code.STATE_REDUCING
    assert code(desk, side=SELL) is Code.OK
    assert counted(desk) == (5, 1)
    assert code(desk, strategy="s2") is Code.OK


def test_trades_make_room_again_and_so_does_a_new_day() -> None:
    """A resumed strategy is let in once its orders trade, or the counts begin anew."""
    desk = Days(given=given(limits=(ratio(2), floor(4))))
    orders = [desk.accept(desk.order(f"{n}")) for n in range(4)]
    assert code(desk) is Code.RATIO_OTR
    desk.control(ControlAction.RESUME, *S1)
    assert code(desk) is Code.RATIO_OTR
    desk.control(ControlAction.RESUME, *S1)
    for order in orders[:2]:
        desk.fill(order, 1)
    assert code(desk) is Code.OK
    assert counted(desk) == (5, 2)
    desk.roll()
    assert counted(desk) == (0, 0)
    assert desk.hash() == desk.replayed_hash()


def test_replaces_and_cancels_count_and_a_cancel_is_never_refused() -> None:
    """N, M and C are three messages. Over the limit a bolder replace is refused, a tamer one and the cancel pass."""
    desk = Desk(given=given(limits=(ratio(2), floor(3))))
    desk.accept(desk.order("a", BUY, 5))
    desk.accept(desk.order("b", BUY, 5))
    desk.replace("a", "a2", 4)
    assert counted(desk) == (3, 0)
    assert desk.replace("b", "b2", 6).code is Code.RATIO_OTR  # type: ignore[union-attr]
    assert desk.state.halts[S1].state is TradingState.REDUCING
    assert desk.replace("b", "b3", 4).code is Code.OK  # type: ignore[union-attr]
    assert desk.cancel("a").code is Code.OK  # type: ignore[union-attr]
    assert counted(desk) == (5, 0)
    assert desk.hash() == desk.replayed_hash()


def test_what_is_near_the_last_price_does_not_count_whoever_cancels_it() -> None:
    """±5 % of a reference of 100: orders at 96 and their cancels are exempt, one at 94 and its cancel are two."""
    desk = Desk(given=given(row(N.OTR_BP, 500), limits=(ratio(2), floor(1))))
    for price in (96, 94):
        desk.accept(desk.order(f"at{price}", BUY, 1, price))
        desk.cancel(f"at{price}")
    assert counted(desk) == (2, 0)
    assert desk.state.flow.last_prices["XY"].count == 100 * 100
    assert desk.hash() == desk.replayed_hash()


def test_accounts_and_venues_count_all_their_strategies() -> None:
    """A row of the account and one of the venue bind what s1 and s2 send together; the global one binds each."""
    for scope, key in ((Scope.ACCOUNT, "a1"), (Scope.VENUE, "sandbox")):
        desk = Desk(given=given(limits=(ratio(1, scope, key), floor(2))))
        assert [code(desk), code(desk, strategy="s2"), code(desk, strategy="s2")] == [Code.OK, Code.OK, Code.RATIO_OTR]
        assert desk.state.halts[Scope.STRATEGY, "s2"].state is TradingState.REDUCING
        assert S1 not in desk.state.halts
    desk = Desk(given=given(limits=(ratio(1, Scope.GLOBAL, ""), floor(2))))
    assert [code(desk), code(desk), code(desk, strategy="s2"), code(desk)] == [Code.OK] * 3 + [Code.RATIO_OTR]


def test_above_the_soft_value_the_risk_service_is_asked_and_above_the_hard_nobody() -> None:
    """Soft 2, hard 4 messages a trade: the fourth order is held, and counts once it goes out; the sixth is refused."""
    desk = RiskyDesk(RiskParams((Code.RATIO_OTR,)), ratio(4, soft=2), floor(1))
    for _ in range(3):
        assert code(desk) is Code.OK
    order_id = desk.hold("held", 1)
    assert counted(desk) == (3, 0)
    desk.says(order_id)
    assert counted(desk) == (4, 0)
    desk.says(desk.hold("held too", 1))
    refused = desk.ask(desk.order("refused"))
    assert isinstance(refused, NewDecision)
    assert (refused.code, refused.facts.expected) == (Code.RATIO_OTR, 4)  # type: ignore[union-attr]
    assert desk.hash() == desk.replayed_hash()


def test_without_a_row_nothing_is_counted_and_a_band_alone_costs_nothing() -> None:
    """No limit: no counter, and a route that only has a band stays on the plain gate."""
    desk = Desk(given=given(row(N.OTR_BP, 75)))
    desk.fill(desk.accept(desk.order("1")), 1)
    assert desk.state.flow.is_empty
    assert not any(route.is_complete for route in desk.state.routes.values())


def test_counts_outlive_a_restart_from_a_snapshot(tmp_path: Path) -> None:
    """Messages, trades and last prices are state."""
    desk = Desk(given=given(limits=(ratio(9), floor(1))))
    order = desk.accept(desk.order("1", BUY, 2))
    desk.report(ExecType.NEW, order.order_id, status=OrderStatus.NEW)
    desk.fill(order, 1)
    core, _ = load_snapshot(save(tmp_path, desk), 256)
    assert state_hash(core.state) == desk.hash()
    desk.core = core
    desk.accept(desk.order("2"))
    assert counted(desk) == (2, 1)


def test_a_soft_value_may_stand_beside_it_and_the_floor_has_none() -> None:
    """Rows: soft at most the value; a floor is a plain count."""
    assert not limit_fault(ratio(100, soft=40))
    assert "soft" in limit_fault(ratio(40, soft=100))
    assert "soft" in limit_fault(LimitRow(FLOOR, Scope.GLOBAL, "", 500, soft=40))
