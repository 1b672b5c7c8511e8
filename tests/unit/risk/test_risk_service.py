"""The risk service without sockets: who is answered when, and that its replica is the engine's book."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codes import ByeReason, Code, ExecType, OrderStatus, OrderType, Side, TimeInForce
from protocol.errors import ConfigError, FencedError
from protocol.orders import CancelOrder
from protocol.records import CancelRequested
from protocol.risk import (
    RiskAnswer,
    RiskBye,
    RiskHeartbeat,
    RiskHello,
    RiskRequest,
    RiskWelcome,
    RiskWithdrawn,
    Verdict,
)
from risk.portfolio.replica import Replica
from risk.portfolio.service import load_params, next_epoch
from risk.portfolio.session import ACCOUNT_MAX, HELLO_AGAIN_NS, ServiceSession
from tests.tidy_rules import ROOT
from tests.unit.engine.desk import E9
from tests.unit.engine.risky_desk import RiskyDesk

WELCOME = RiskWelcome(1, 0, 1, b"e" * 16, 500)


def asked(order_id: str, account: str = "a1", book_seq: int = 1, question: int = 1) -> RiskRequest:
    """A request about an order."""
    return RiskRequest(
        order_id, question, account, order_id, "s1", "XY", Side.BUY, OrderType.LIMIT, TimeInForce.DAY, E9, E9, False,
        False, [Code.POS_LIMIT], 10, book_seq, 1, False, E9, E9, "0",
    )  # fmt: skip


def opened() -> ServiceSession:
    session = ServiceSession(b"s" * 16, 7)
    session.on_message(WELCOME)
    return session


def test_it_says_hello_until_it_is_welcome_and_beats_then() -> None:
    """Hello again every second; then a heartbeat as often as the engine asked for, with what the replica has."""
    session = ServiceSession(b"s" * 16, 7)
    assert session.outgoing(0, 3) == [RiskHello(1, b"s" * 16, 7)]
    assert session.outgoing(HELLO_AGAIN_NS - 1, 3) == []
    assert session.outgoing(HELLO_AGAIN_NS, 3) == [RiskHello(1, b"s" * 16, 7)]
    session.on_message(WELCOME)
    assert session.outgoing(HELLO_AGAIN_NS, 3) == [RiskHeartbeat(3)]
    assert session.outgoing(HELLO_AGAIN_NS + 1, 3) == []


def test_a_request_waits_for_its_book_and_for_those_before_it() -> None:
    """One account's first comes first; another's does not wait for it."""
    session = opened()
    session.on_message(asked("1", book_seq=5))
    session.on_message(asked("2", book_seq=4))
    session.on_message(asked("3", account="a2", book_seq=4))
    assert [r.order_id for r in session.due(4)] == ["3"]
    assert [r.order_id for r in session.due(5)] == ["1", "2"]
    assert session.waiting == 0


def test_what_is_withdrawn_or_asked_anew_is_not_answered_twice() -> None:
    """The newest question counts; an order that left is none."""
    session = opened()
    session.on_message(asked("1"))
    session.on_message(asked("1", question=2))
    session.on_message(asked("2"))
    session.on_message(RiskWithdrawn("2"))
    assert [(r.order_id, r.asked) for r in session.due(9)] == [("1", 2)]


def test_a_full_queue_refuses() -> None:
    """Bounded: what comes beyond it is refused at once, with the code that says so."""
    session = opened()
    for n in range(ACCOUNT_MAX + 1):
        session.on_message(asked(str(n)))
    (_, answer) = reversed(session.outgoing(1, 0))
    assert isinstance(answer, RiskAnswer)
    assert (answer.order_id, answer.verdict, answer.code) == (str(ACCOUNT_MAX), Verdict.REJECT, Code.RISK_PENDING_MAX)
    assert (session.waiting, session.refused) == (ACCOUNT_MAX, 1)


def test_an_engine_that_does_not_know_it_is_greeted_again_and_asks_anew() -> None:
    """Nothing of the old session is answered in the new one; a newer service ends this one."""
    session = opened()
    session.on_message(asked("1"))
    session.on_message(RiskBye(ByeReason.UNIT_NOT_CLAIMED))
    assert (list(session.due(9)), session.is_open) == ([], False)
    with pytest.raises(FencedError):
        session.on_message(RiskBye(ByeReason.FENCED, "a newer service was here"))


def test_each_start_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Counted in a file; one that is no number is named."""
    path = tmp_path / "risk.epoch"
    assert [next_epoch(path), next_epoch(path)] == [1, 2]
    path.write_text("two")
    with pytest.raises(ConfigError, match="last start"):
        next_epoch(path)


def test_parameters_that_are_none_are_named(tmp_path: Path) -> None:
    """A missing file, and one with a key that nobody knows."""
    path = tmp_path / "risk.json"
    with pytest.raises(ConfigError, match="risk parameters"):
        load_params(path)
    path.write_text('{"version": "1", "contracts": [], "products": [], "limit": 3}')
    with pytest.raises(ConfigError, match="limit"):
        load_params(path)


def test_dated_rows_are_parameters_too() -> None:
    """The example's TOML gives what its rows say of today, and its version names the day."""
    loaded = load_params(ROOT / "examples" / "risk" / "params.toml")
    assert loaded.products[0].price_scan_bp == 930
    assert loaded.version.startswith("example 1@20")


def test_the_replica_is_the_engines_book() -> None:
    """Fills, holds, trims, replaces, cancels and adjustments: positions and what may still fill are the engine's."""
    desk = RiskyDesk(position=3)
    filled = desk.accept(desk.order("1", quantity=2))
    desk.fill(filled, 1)
    working = desk.accept(desk.order("2", Side.SELL, 3, 101))
    desk.replace("2", "r2", 2)
    desk.answer(ExecType.REPLACED, working, 2, 101, venue_seq=desk.state.venues["sandbox"].last_seq)
    desk.says(desk.hold("3", trims=True), Verdict.TRIM, quantity_e9=4 * E9)
    desk.hold("4")
    desk.says(desk.hold("5"), Verdict.REJECT)
    desk.report(ExecType.CANCELED, filled.order_id)
    replica = Replica()
    for seq, now_ns, _, record in desk.records:
        replica.apply(seq, now_ns, record)
    assert replica.seq == len(desk.records)
    assert (
        [(p.instrument, p.quantity_e9) for p in replica.positions("a1")]
        == [("XY", 4 * E9)]
        == [("XY", desk.position * E9)]
    )
    step_e9 = 1 * E9
    ours = {o.client_order_id: o.leaves * step_e9 for o in desk.state.orders.values()}
    assert {o.client_order_id: o.leaves_e9 for o in replica.orders("a1", "")} == ours
    held = next(o.order_id for o in desk.state.orders.values() if o.status is OrderStatus.HELD)
    assert [o.client_order_id for o in replica.orders("a1", held)] == ["2", "3"]
    command = CancelOrder("a1", "4")
    decision = desk.core.orders.decide_cancel(command, desk.state.permit("src", "all"))
    record = CancelRequested("src", desk.item(command), decision)  # type: ignore[arg-type]
    desk.apply(record)
    replica.apply(desk.seq, desk.now, record)
    assert [o.client_order_id for o in replica.orders("a1", "")] == ["2", "3"]
