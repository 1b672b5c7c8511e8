"""Fills of orders that nobody knows: held, bounded, resolved by an operator once; reduce-only until then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

import engine.suspense
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import ExecType, OrderStatus, Scope, Side, TradingState
from protocol.decisions import ReportEffect
from protocol.records import Reported
from protocol.venue import Details, Report
from tests.unit.engine.amending import Amending
from tests.unit.engine.desk import E9
from tests.unit.engine.test_snapshot import save

_encode = msgspec.msgpack.encode


class Suspending(Amending):
    """A desk whose venue reports fills of orders that were never sent from here."""

    def unknown(self, trade_id: str, quantity: int, price: int = 100, **said: object) -> ReportEffect:
        details = Details(**said) if said else None  # type: ignore[arg-type]
        report = Report(
            self.venue.report_seq + 1, ExecType.TRADE, "P-elsewhere", "v", 0, OrderStatus.NONE, 0, 0, self.now,
            trade_id, quantity * E9, price * E9, details=details,
        )  # fmt: skip
        decided = self.core.reports.decide_report(self.venue, report)
        self.apply(Reported("sandbox", Raw(_encode(report)), decided))
        return decided.effect

    def resolve(self, trade_id: str, **of: object) -> SuspenseResolved | str:
        found = self.core.suspense.decide("sandbox", trade_id, "op", "why", **of)  # type: ignore[arg-type]
        if isinstance(found, SuspenseResolved):
            self.apply(found)
        return found

    def assign(self, trade_id: str, **of: object) -> SuspenseResolved | str:
        return self.resolve(trade_id, **({"account": "a1", "strategy": "s1"} | of))

    def dismiss(self, trade_id: str) -> SuspenseResolved | str:
        return self.resolve(trade_id)

    @property
    def is_reducing(self) -> bool:
        return self.state.book.state is TradingState.REDUCING


def test_a_fill_of_nobodys_order_is_held_and_stops_new_risk() -> None:
    """No position moves; said again it is there once."""
    desk = Suspending()
    assert desk.unknown("T1", 3) is ReportEffect.ORDER_UNKNOWN
    assert desk.unknown("T1", 3) is ReportEffect.ORDER_UNKNOWN
    (fill,) = desk.state.suspense.values()
    assert (fill.venue, fill.trade_id, fill.order_id, fill.quantity_e9) == ("sandbox", "T1", "P-elsewhere", 3 * E9)
    assert desk.is_reducing
    assert desk.position == 0
    desk.check()


def test_an_assigned_fill_moves_one_position_once() -> None:
    """It is a trade from then on: said again nothing, taken back it takes back what was assigned."""
    desk = Suspending()
    desk.unknown("T1", 3, account="a1", instrument="XY", side=Side.SELL)
    assert isinstance(desk.assign("T1"), SuspenseResolved)
    assert (desk.position, desk.state.suspense) == (-3, {})
    assert desk.state.route("a1", "s1", "XY").own.position == -3
    assert desk.is_reducing  # a person lifts it
    desk.unknown("T1", 3)
    assert (desk.position, desk.state.suspense) == (-3, {})
    assert desk.amend("P-elsewhere", "T1")[0].effect is ReportEffect.APPLIED
    assert desk.position == 0
    desk.check()


def test_a_dismissed_fill_never_counts() -> None:
    """Nothing moves, now or when it is said again or taken back."""
    desk = Suspending()
    desk.unknown("T1", 3)
    assert isinstance(desk.dismiss("T1"), SuspenseResolved)
    desk.unknown("T1", 3)
    assert desk.state.suspense == {}
    assert desk.amend("P-elsewhere", "T1")[0].effect is ReportEffect.DUPLICATE
    assert desk.position == 0
    desk.check()


def test_what_the_venue_did_not_say_the_operator_says() -> None:
    """Instrument and side are needed and not to be contradicted; strategies and accounts must be known."""
    desk = Suspending()
    desk.unknown("T1", 3)
    desk.unknown("T2", 3, account="a1", instrument="XY", side=Side.BUY)
    before = desk.hash()
    for refused, expected in (
        (desk.assign("T1"), "instrument expected"),
        (desk.assign("T1", instrument="XY"), "side expected"),
        (desk.assign("T1", instrument="ZZ", side=Side.BUY), "expected one of venue"),
        (desk.assign("T2", side=Side.SELL), "side expected BUY"),
        (desk.assign("T2", account="nobody"), "expected one of this engine"),
        (desk.assign("T2", strategy="nobody"), "is not known"),
        (desk.assign("T9"), "expected one in suspense"),
        (desk.dismiss("T9"), "expected one in suspense"),
        (desk.resolve(""), "holds every fill"),
    ):
        assert isinstance(refused, str)
        assert expected in refused
    assert desk.hash() == before
    assert isinstance(desk.assign("T1", instrument="XY", side=Side.BUY), SuspenseResolved)
    assert desk.position == 3
    desk.check()


def test_a_fill_in_suspense_can_be_taken_back_and_corrected() -> None:
    """The venue's second thoughts reach the ledger; taken back it is gone, and never counts."""
    desk = Suspending()
    desk.unknown("T1", 3)
    desk.unknown("T2", 3, account="a1", instrument="XY", side=Side.BUY)
    assert desk.amend("P-elsewhere", "T1")[0].effect is ReportEffect.ORDER_UNKNOWN
    assert desk.amend("P-elsewhere", "T2", quantity=2, price=98)[0].effect is ReportEffect.ORDER_UNKNOWN
    assert desk.amend("P-another", "T2")[0].effect is ReportEffect.REFUSED
    assert [(f.quantity_e9, f.price_e9) for f in desk.state.suspense.values()] == [(2 * E9, 98 * E9)]
    assert desk.amend("P-elsewhere", "T1")[0].effect is ReportEffect.DUPLICATE
    desk.assign("T2")
    assert desk.position == 2
    desk.check()


def test_the_ledger_is_bounded_and_says_how_many_it_left_out() -> None:
    """Beyond its room fills are counted; the count is looked at as one, by an operator."""
    desk = Suspending()
    for n in range(engine.suspense.SUSPENSE_MAX + 2):
        desk.unknown(f"T{n}", 1)
    assert (len(desk.state.suspense), desk.state.suspense_more) == (engine.suspense.SUSPENSE_MAX, 2)
    assert isinstance(desk.resolve(""), SuspenseResolved)
    assert desk.state.suspense_more == 0
    assert desk.hash() == desk.replayed_hash()


@pytest.mark.parametrize("quantity", [-3, 0])
def test_a_fill_that_says_too_little_is_not_held(quantity: int) -> None:
    """Without an id or a price nobody could book it: it stops new risk, stands in the journal, and that is all."""
    desk = Suspending()
    desk.unknown("", 3)
    desk.unknown("T1", 3, 0)
    desk.unknown("T2", quantity)
    assert desk.state.suspense == {}
    assert desk.is_reducing
    desk.check()


def test_a_fill_taken_back_first_is_not_held() -> None:
    """The venue's two reports in the other order: the fill counts nothing and nobody is asked."""
    desk = Suspending()
    assert desk.amend("P-elsewhere", "T1")[0].effect is ReportEffect.TRADE_UNKNOWN
    desk.unknown("T1", 3)
    assert desk.state.suspense == {}
    assert desk.state.halts[Scope.GLOBAL, ""].state is TradingState.REDUCING
    desk.check()


def test_suspense_comes_back_from_a_snapshot(tmp_path: Path) -> None:
    """The state hash covers it, and a start from a snapshot goes on with it."""
    desk = Suspending()
    empty = desk.hash()
    desk.unknown("T1", 3, account="a1", instrument="XY", side=Side.BUY)
    desk.unknown("T2", 2)
    desk.state.suspense_more = 4
    core, _ = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    assert state_hash(core.state) == desk.hash() != empty
    assert list(core.state.suspense.items()) == list(desk.state.suspense.items())
    assert core.state.suspense_more == 4
    desk.state.suspense_more = 0
    assert state_hash(core.state) != desk.hash()
    assert isinstance(core.suspense.decide("sandbox", "T2", "op", "why"), SuspenseResolved)
    assert not [r for *_, r in desk.records if isinstance(r, TradeAmended)]
