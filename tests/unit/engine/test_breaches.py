"""The route ``halt``: the breach is refused, and the scope of its limit is halted by the same record."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from cli.risk_rows import RiskServiceSection, RouteRow, route_problems, to_risk_params
from protocol.codes import Code, ExecType, OrderStatus, OutcomeKind, Scope, Side, TradingState
from protocol.decisions import NewDecision
from protocol.params import LimitName, LimitRow, RiskParams
from protocol.records import ControlAction
from protocol.replaces import ReplaceDecision
from tests.unit.engine.desk import E9, Desk, limit, params
from tests.unit.engine.risky_desk import RULES, RiskyDesk

HALTS = RiskParams((), halt=(Code.POS_LIMIT, Code.MARGIN_ESTIMATE))
ACCOUNT = (Scope.ACCOUNT, "a1")


def a_desk(rules: RiskParams | None = HALTS, *rows: LimitRow, position: int = 0) -> Desk:
    limits = rows or (limit(LimitName.POSITION_MAX, 10),)
    return Desk(given=structs.replace(params(*limits), risk=rules), position=position)


def halted(desk: Desk) -> dict[tuple[Scope, str], TradingState]:
    return {at: halt.state for at, halt in desk.state.halts.items()}


def test_a_breach_is_refused_and_halts_the_scope_of_its_limit() -> None:
    """A limit of an account halts the account, a global one all; the reason says limit and value."""
    desk = a_desk(HALTS, limit(LimitName.POSITION_MAX, 10, Scope.ACCOUNT, "a1"))
    decided = desk.submit(desk.order("big", quantity=11))
    assert isinstance(decided, NewDecision)
    assert (decided.kind, decided.code) == (OutcomeKind.REJECTED, Code.POS_LIMIT)
    assert halted(desk) == {ACCOUNT: TradingState.HALTED_AUTO}
    assert desk.state.halts[ACCOUNT].reason == f"POS_LIMIT: limit {10 * E9}, was {11 * E9}"
    everyone = a_desk()
    everyone.submit(everyone.order("big", quantity=11))
    assert halted(everyone) == {(Scope.GLOBAL, ""): TradingState.HALTED_AUTO}


def test_it_is_latched_and_exits_pass() -> None:
    """What is small now is refused too, what reduces goes, and only an operator lifts it."""
    desk = a_desk(position=5)
    desk.submit(desk.order("big", quantity=11))
    small = desk.submit(desk.order("small", quantity=1))
    assert isinstance(small, NewDecision)
    assert small.code is Code.STATE_HALTED
    assert desk.accept(desk.order("out", side=Side.SELL, quantity=2)).status is OrderStatus.PENDING_NEW
    desk.control(ControlAction.RESUME, Scope.GLOBAL, "")
    assert desk.accept(desk.order("again", quantity=1)).status is OrderStatus.PENDING_NEW


def test_a_check_that_is_not_routed_halts_nothing() -> None:
    """The same breach without the route is a refusal; so is another check's where one is routed."""
    for desk in (a_desk(None), a_desk(RiskParams((), halt=(Code.QTY_MAX,)))):
        decided = desk.submit(desk.order("big", quantity=11))
        assert isinstance(decided, NewDecision)
        assert (decided.code, halted(desk)) == (Code.POS_LIMIT, {})


def test_replaces_and_baskets_halt_too() -> None:
    """Who can't get in as an order does not as an order's new terms, or as a leg."""
    desk = a_desk()
    desk.report(ExecType.NEW, desk.accept(desk.order("1", quantity=5)).order_id, venue_seq=1)
    replaced = desk.replace("1", "2", quantity=11)
    assert isinstance(replaced, ReplaceDecision)
    assert replaced.code is Code.POS_LIMIT
    assert halted(desk) == {(Scope.GLOBAL, ""): TradingState.HALTED_AUTO}
    desk = a_desk()
    desk.submit_basket(desk.basket("b", desk.order("1", quantity=5), desk.order("2", quantity=6)))
    assert halted(desk) == {(Scope.GLOBAL, ""): TradingState.HALTED_AUTO}


def test_recovery_halts_as_the_engine_did() -> None:
    """The refusal's record alone makes the state, and a repeated delivery adds nothing."""
    desk = a_desk()
    order = desk.order("big", quantity=11)
    desk.submit(order)
    before = desk.hash()
    assert desk.replayed_hash() == before
    assert False not in desk.decided_again()


def test_a_held_order_that_breaches_late_halts_its_account() -> None:
    """Approved, and refused by a check that is routed halt: the account is halted."""
    rules = structs.replace(RULES, halt=(Code.RATE_ACCOUNT,))
    rows = (
        limit(LimitName.POSITION_MAX, 10),
        LimitRow(LimitName.RATE_COUNT, Scope.ACCOUNT, "a1", 1, window_ns=60 * E9),
    )
    desk = RiskyDesk(rules, *rows)
    held = desk.hold("1")
    desk.accept(desk.order("2", side=Side.SELL, quantity=1))
    desk.says(held)
    assert desk.status(held) is OrderStatus.REJECTED
    assert halted(desk) == {ACCOUNT: TradingState.HALTED_AUTO}


def test_the_configuration_routes_checks_to_halt() -> None:
    """It needs no service; a check that can't, a second row and a deadline are named."""

    def problems(*rows: RouteRow) -> str:
        return "\n".join(route_problems(rows, RiskServiceSection(), Path()))

    fine = (RouteRow("RATE_ACCOUNT", "halt"), RouteRow("POS_LIMIT", "halt"))
    assert problems(*fine) == ""
    told = to_risk_params(fine, RiskServiceSection())
    assert told is not None
    assert (told.forward, told.halt) == ((), (Code.RATE_ACCOUNT, Code.POS_LIMIT))
    assert "expected one of" in problems(RouteRow("STATE_HALTED", "halt"))
    assert "expected one of" in problems(RouteRow("RATE_ACCOUNT", "reject"))
    assert "waits for nobody" in problems(RouteRow("POS_LIMIT", "halt", "hold"))
    assert "a second one" in problems(RouteRow("POS_LIMIT", "halt"), RouteRow("POS_LIMIT", "reject"))
    assert "expected one of" in problems(RouteRow("RATE_ACCOUNT", "sandbox"))
