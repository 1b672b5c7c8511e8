"""Money of accounts: booked as the venue reports, taken back exactly, set with a reason, the same after a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.order import Order
from engine.snapshot import load_snapshot
from engine.state import state_hash
from protocol.amends import TradeAmended
from protocol.codes import ExecType, Mode, OrderStatus, Side
from protocol.decisions import ReportEffect
from protocol.errors import FieldError
from protocol.money import Adjust, CashRow, CollateralRow, CompareMoney, FxRow, HeldRow, parse_money_e9
from protocol.params import ContractKind, InstrumentParams
from protocol.records import FillEntered, Reported, Started, VenueChanged
from protocol.venue import Details, Report
from risk.gate.exposure import AccountState
from risk.gate.money import Collateral, FxMark, Money, paid_e9
from tests.unit.engine.amending import Amending
from tests.unit.engine.deep import plain
from tests.unit.engine.desk import E9, NOW, params
from tests.unit.engine.test_snapshot import KEYS_MAX, save
from tests.unit.venues.stage import XY

SPOT = msgspec.structs.replace(XY, instrument="SP", kind=ContractKind.SPOT)
INVERSE = msgspec.structs.replace(
    XY, instrument="IN", kind=ContractKind.INVERSE, currency="BTC", multiplier_e9=100 * E9
)
_encode = msgspec.msgpack.encode


class Till(Amending):
    """A desk that books money from its second start on."""

    def __init__(self, *, books: bool = True) -> None:
        super().__init__(given=params(instruments=(XY, SPOT, INVERSE)))
        if books:
            self.apply(Started(2, b"j" * 16, Mode.PAPER, 0, 20260530, 1, "1", books_money=True))
            self.ready()

    def ready(self) -> None:
        self.apply(VenueChanged("sandbox", True, b"g" * 16, self.state.venues["sandbox"].last_seq))

    @property
    def a1(self) -> AccountState:
        return self.state.accounts["a1"]

    def traded_e9(self, instrument: str) -> int:
        return self.state.book.ledger("a1", instrument).traded_e9

    def pays(
        self, order: Order, quantity: int, price: int, fee_e9: int = 0, currency: str = "USDT", trade_id: str = ""
    ) -> str:
        """Fill an order at a fee and return the trade's id."""
        self.trades += 1
        trade_id = trade_id or f"T{self.trades}"
        report = Report(
            self.venue.report_seq + 1, ExecType.TRADE, order.order_id, "v", 0, OrderStatus.NONE, 0,
            (order.cum + quantity) * E9, self.now, trade_id, quantity * E9, price * E9, fee_e9=fee_e9,
            currency=currency,
        )  # fmt: skip
        decided = self.core.reports.decide_report(self.venue, report)
        assert decided.effect is ReportEffect.APPLIED
        self.apply(Reported("sandbox", Raw(_encode(report)), decided))
        return trade_id

    def corrects(self, order: Order, trade_id: str, quantity: int, price: int, fee_e9: int, currency: str) -> None:
        self.corrections += 1
        report = Report(
            self.venue.report_seq + 1, ExecType.TRADE_CORRECT, order.order_id, "v", 0, OrderStatus.NONE, 0, 0, self.now,
            f"C{self.corrections}", quantity * E9, price * E9, fee_e9=fee_e9, currency=currency,
            details=Details(original_trade_id=trade_id),
        )  # fmt: skip
        self.apply(TradeAmended("sandbox", Raw(_encode(report)), *self.core.amends.decide(self.venue, report)))

    def order_of(self, name: str, instrument: str, side: Side = Side.BUY, quantity: int = 10) -> Order:
        order = self.accept(self.order(name, side, quantity, instrument=instrument))
        self.report(ExecType.NEW, order.order_id, venue_seq=order.venue_seq)
        return order

    def adjusts(self, body: Adjust) -> list[str]:
        """Adjust as an operator; the faults, if it can't be."""
        decided = self.core.moneys.decide_adjust(body, "op")
        faults = [found for found in decided if isinstance(found, str)]
        for record in decided:
            if not isinstance(record, str):
                self.apply(record)
        return faults

    def money(self) -> tuple[object, ...]:
        own = {key: route.own.traded_e9 for key, route in self.state.routes.items()}
        ledgers = {key: ledger.traded_e9 for key, ledger in self.state.book.ledgers.items()}
        cash = {c: v for c, v in self.a1.cash_e9.items() if v}
        return cash, {c: v for c, v in self.a1.fees_e9.items() if v}, own, ledgers


def test_a_spot_trade_pays_from_the_cash_and_a_contract_does_not() -> None:
    """What a contract's trades paid stands in its ledger; the fee leaves the cash in the currency that was reported."""
    till = Till()
    till.adjusts(Adjust("start", [CashRow("a1", "USDT", str(10_000 * E9))]))
    till.pays(till.order_of("s", "SP"), 3, 99, fee_e9=297_000_000)
    till.pays(till.order_of("f", "XY", Side.SELL), 2, 101, fee_e9=-5, currency="BNB")
    till.pays(till.order_of("i", "IN"), 3, 90)
    assert till.a1.cash_e9 == {"USDT": (10_000 - 3 * 99) * E9 - 297_000_000, "BNB": 5}
    assert till.a1.fees_e9 == {"USDT": 297_000_000, "BNB": -5}
    assert till.traded_e9("SP") == -3 * 99 * E9
    assert till.traded_e9("XY") == 2 * 101 * E9
    assert till.traded_e9("IN") == 3 * 100 * E9 // 90  # who buys the contract sells its currency; rounded down
    till.check()


def test_a_trade_taken_back_takes_its_money_back_exactly() -> None:
    """Value and fee, in spot, contracts and inverse contracts alike."""
    till = Till()
    for n, name in enumerate(("SP", "XY", "IN")):
        order = till.order_of(f"o{n}", name)
        before = till.money()
        trade_id = till.pays(order, 3, 91, fee_e9=7)
        assert till.money() != before
        assert till.bust(order, trade_id) is ReportEffect.APPLIED
        assert till.money() == before
    till.check()


def test_a_correction_replaces_value_and_fee() -> None:
    """The fee only where the correction says one: without a currency it says nothing of it."""
    till = Till()
    order = till.order_of("s", "SP")
    first, second = till.pays(order, 3, 90, fee_e9=7), till.pays(order, 3, 90, fee_e9=7)
    till.corrects(order, first, 2, 100, 0, "")
    till.corrects(order, second, 2, 100, 5, "BNB")
    assert till.a1.fees_e9 == {"USDT": 7, "BNB": 5}
    assert till.a1.cash_e9 == {"USDT": -400 * E9 - 7, "BNB": -5}
    till.check()


def test_a_trade_entered_by_hand_pays_as_one_that_was_reported() -> None:
    """It has no fee: an operator adjusts the cash by it."""
    till = Till()
    order = till.order_of("s", "SP")
    report = Report(0, ExecType.TRADE, order.order_id, "", 0, OrderStatus.NONE, 0, 0, till.now, "H", 2 * E9, 90 * E9)
    decided = till.core.reports.decide_entered(report)
    assert not isinstance(decided, str)
    till.apply(FillEntered("sandbox", "op", "why", Raw(_encode(report)), decided))
    assert till.a1.cash_e9 == {"USDT": -180 * E9}
    till.check()


def test_a_journal_from_before_money_was_booked_has_the_state_it_had() -> None:
    """Nothing is booked of its fills, nor taken back later of what was not booked."""
    till = Till(books=False)
    order = till.order_of("s", "SP")
    trade_id = till.pays(order, 3, 90, fee_e9=7)
    assert till.money() == ({}, {}, {("a1", "s1", "SP"): 0}, {("a1", "SP"): 0})
    till.apply(Started(2, b"j" * 16, Mode.PAPER, 0, 20260530, 1, "1", books_money=True))
    till.ready()
    assert till.bust(order, trade_id) is ReportEffect.APPLIED
    assert till.money() == ({}, {}, {("a1", "s1", "SP"): 0}, {("a1", "SP"): 0})
    till.check()


def test_a_position_that_is_set_is_carried_at_its_price() -> None:
    """Closing it at that price gains nothing, in contracts that are inverse too but for one unit of rounding."""
    till = Till()
    rows = [HeldRow("a1", "XY", -3 * E9, 90 * E9), HeldRow("a1", "IN", 3 * E9, 90 * E9)]
    assert till.adjusts(Adjust("statement", positions=rows)) == []
    assert till.traded_e9("XY") == 270 * E9
    till.pays(till.order_of("x", "XY", Side.BUY, 3), 3, 90)
    till.pays(till.order_of("i", "IN", Side.SELL, 3), 3, 90)
    assert (till.traded_e9("XY"), till.traded_e9("IN")) == (0, -1)
    assert till.a1.cash_e9 == {}
    till.check()


def test_an_adjustment_is_taken_whole_or_refused_whole() -> None:
    """Every fault is named, and nothing of the rest is set."""
    till = Till()
    faults = till.adjusts(
        Adjust(
            "why",
            [CashRow("a1", "USDT", "5"), CashRow("nobody", "USDT", "5"), CashRow("a1", "USDT", "6")],
            [CollateralRow("a1", "bond", "-1", "USDT")],
            [HeldRow("a1", "XY", E9 + 1, E9), HeldRow("a1", "XX", 0), HeldRow("a2", "XY", E9)],
            [FxRow("EUR", "EUR", E9)],
        )
    )
    assert [fault.split(":")[0] for fault in faults] == [
        "cash nobody USDT", "cash a1 USDT", "collateral a1 bond", "position a1 XY", "position a1 XX", "position a2 XY",
        "fx EUR EUR",
    ]  # fmt: skip
    assert till.adjusts(Adjust("why")) == ["adjustment expected at least one row, was none"]
    assert till.a1.cash_e9 == {}


def test_every_adjustment_says_what_was_there_before_and_is_decided_again() -> None:
    """Also one that adds; a record that says another amount is told from it."""
    till = Till()
    till.adjusts(Adjust("a", [CashRow("a1", "USDT", "100")], [CollateralRow("a1", "bond", "50", "USDT", 500)]))
    till.adjusts(
        Adjust("b", [CashRow("a1", "USDT", "-30", adds=True)], [CollateralRow("a1", "bond", "0", "USDT")],
               [HeldRow("a1", "XY", 2 * E9, E9)], [FxRow("EUR", "USDT", E9)])
    )  # fmt: skip
    assert till.a1.cash_e9 == {"USDT": 70}
    assert not till.a1.collateral
    assert [getattr(record, "was_e9", None) for *_, record in till.records[-6:]] == ["0", "0", "100", "50", "0", 0]
    till.check()
    assert till.decided_again()[-6:] == [True] * 6
    lying = msgspec.structs.replace(till.records[-4][3], was_e9="99")  # type: ignore[type-var]
    assert till.core.moneys.decide_again(lying) is False  # type: ignore[arg-type]


def test_a_snapshot_holds_the_money(tmp_path: Path) -> None:
    """Everything of it, to the last slot; trades that were booked go back exactly after it too."""
    till = Till()
    order = till.order_of("s", "SP")
    trade_id = till.pays(order, 3, 90, fee_e9=7)
    till.adjusts(
        Adjust("a", [CashRow("a1", "EUR", str(10**25))], [CollateralRow("a1", "bond", "50", "USDT", 500)],
               [HeldRow("a1", "XY", 2 * E9, E9)], [FxRow("EUR", "USDT", E9)])
    )  # fmt: skip
    core, _ = load_snapshot(save(tmp_path, till), KEYS_MAX)
    assert state_hash(core.state) == till.hash()
    assert plain(core.state) == plain(till.state)
    counted = core.state.venues["sandbox"].trade_ids[trade_id]
    assert counted is not None
    assert counted[2:] == (3, 90 * E9, -270 * E9, 7, "USDT")


def test_money_of_any_kind_is_in_the_state_hash() -> None:
    """Two states that differ in one amount differ in their hash."""
    hashes = set()
    for body in (
        Adjust("a", [CashRow("a1", "USDT", "1")]), Adjust("a", [CashRow("a1", "USDT", "2")]),
        Adjust("a", collateral=[CollateralRow("a1", "b", "1", "USDT")]),
        Adjust("a", collateral=[CollateralRow("a1", "b", "1", "USDT", 1)]),
        Adjust("a", fx=[FxRow("EUR", "USDT", 1)]), Adjust("a", fx=[FxRow("EUR", "USDT", 2)]),
    ):  # fmt: skip
        till = Till()
        till.adjusts(body)
        hashes.add(till.hash())
    assert len(hashes) == 6


def test_a_statement_is_compared_whole_and_changes_nothing_unless_adopted() -> None:
    """Of an account that it names each currency and asset counts; what it lacks is 0 there."""
    till = Till()
    till.adjusts(
        Adjust("a", [CashRow("a1", "USDT", "100"), CashRow("a1", "EUR", "5"), CashRow("a2", "USDT", "1")],
               [CollateralRow("a1", "bond", "50", "USDT", 500)])
    )  # fmt: skip
    cash = [CashRow("a1", "USDT", "90")]
    collateral = [CollateralRow("a1", "bond", "50", "USDT", 600), CollateralRow("a1", "gone", "0", "USDT")]
    compared = till.core.moneys.compare(CompareMoney(cash, collateral, False, "x"))
    assert not isinstance(compared, list)
    found, to = compared
    assert [(d.asset or d.currency, d.ours_e9, d.theirs_e9, d.is_stated) for d in found] == [
        ("USDT", "100", "90", True), ("EUR", "5", "0", False), ("bond", "50", "50", True),
    ]  # fmt: skip
    assert till.a1.cash_e9 == {"USDT": 100, "EUR": 5}
    assert till.adjusts(to) == []
    assert till.core.moneys.compare(CompareMoney(cash, collateral, False, "x")) == ([], Adjust("x"))
    assert till.state.accounts["a2"].cash_e9 == {"USDT": 1}


# Exchange rates, haircuts, decimals


def test_an_amount_converts_against_the_account() -> None:
    """What is needed rounds up, what is there rounds down, both ways over one mark; without a mark nothing is said."""
    money = Money()
    money.marks["EUR", "USDT"] = FxMark(1_083_300_001, NOW)
    assert money.needed_e9(3, "EUR", "USDT") == 4
    assert money.usable_e9(3, "EUR", "USDT") == 3
    assert money.usable_e9(-3, "EUR", "USDT") == -4
    assert money.needed_e9(E9, "USDT", "EUR") == -(-(E9 * E9) // 1_083_300_001)
    assert money.usable_e9(7, "EUR", "EUR") == 7
    assert money.needed_e9(7, "EUR", "INR") is None


def test_collateral_counts_less_its_haircut() -> None:
    """Rounded down; with cash in another currency only if its mark is known."""
    till = Till()
    assert Collateral(999, "USDT", 500).usable_e9 == 949
    till.adjusts(Adjust("a", [CashRow("a1", "EUR", "-10")], [CollateralRow("a1", "bond", "999", "USDT", 500)]))
    assert till.core.moneys.usable_e9(till.a1) is None
    till.adjusts(Adjust("a", fx=[FxRow("EUR", "USDT", 1_050_000_000)]))
    assert till.core.moneys.usable_e9(till.a1) == 949 - 11
    shown = till.core.moneys.shown()[0]
    assert (shown.usable_e9, shown.collateral[0].usable_e9, shown.money[0].cash_e9) == ("938", "949", "-10")


@pytest.mark.parametrize(
    ("text", "value"), [("250000.5", 250_000_500_000_000), ("-0.000000001", -1), ("9" * 20, (10**20 - 1) * E9)]
)  # fmt: skip
def test_money_is_read_beyond_int64(text: str, value: int) -> None:
    """Sums of a large account in a small currency do not fit it."""
    assert parse_money_e9(text, "cash") == value


@pytest.mark.parametrize("text", ["", "1e3", "1.0000000001", "+1", "1 000", "9" * 21, "١"])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    """The field is named."""
    with pytest.raises(FieldError, match="cash"):
        parse_money_e9(text, "cash")


# Conservation


STEPS = st.lists(
    st.tuples(
        st.sampled_from("fffbcah"), st.integers(0, 5), st.integers(1, 9), st.integers(85, 109),
        st.integers(-9, 9), st.sampled_from(("USDT", "BNB")),
    ),
    max_size=25,
)  # fmt: skip
CONTRACTS: dict[str, InstrumentParams] = {"SP": SPOT, "XY": XY, "IN": INVERSE}


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_money_is_conserved_over_any_history(steps: list[tuple[str, int, int, int, int, str]]) -> None:
    """Cash, contracts and fees are what was set plus what the trades that count paid: to the last unit."""
    till = Till()
    names = ["SP", "XY", "IN"] * 2
    orders = [till.order_of(f"o{n}", name, Side.SELL if n > 2 else Side.BUY, 900) for n, name in enumerate(names)]
    trades: dict[str, tuple[int, int, int, int, str]] = {}  # order, signed, price, fee, currency
    set_e9 = {"USDT": 0, "BNB": 0, "BTC": 0}
    carried = dict.fromkeys(CONTRACTS, 0)
    for kind, at, quantity, price, fee_e9, currency in steps:
        mine = [trade for trade, row in trades.items() if row[0] == at]
        if kind == "f":
            trade = till.pays(orders[at], quantity, price, fee_e9, currency)
            trades[trade] = at, quantity if at < 3 else -quantity, price, fee_e9, currency if fee_e9 else ""
        elif kind == "b" and mine:
            assert till.bust(orders[at], mine[0]) is ReportEffect.APPLIED
            del trades[mine[0]]
        elif kind == "c" and mine:
            till.corrects(orders[at], mine[-1], quantity, price, fee_e9, currency)
            trades[mine[-1]] = at, quantity if at < 3 else -quantity, price, fee_e9, currency
        elif kind == "a":
            till.adjusts(Adjust("a", [CashRow("a1", currency, str(fee_e9), adds=True)]))
            set_e9[currency] += fee_e9
        elif kind == "h":
            name = names[at]
            till.adjusts(Adjust("a", positions=[HeldRow("a1", name, (quantity - 5) * E9, price * E9)]))
            contract = CONTRACTS[name]
            sums = [
                paid_e9(contract.kind, contract.multiplier_e9, row[1] * E9, row[2] * E9)
                for row in trades.values() if names[row[0]] == name
            ]  # fmt: skip
            new = paid_e9(contract.kind, contract.multiplier_e9, (quantity - 5) * E9, price * E9)
            carried[name] = new - sum(sums)  # trades from before it may still be taken back
    fees = dict.fromkeys(set_e9, 0)
    traded = dict(carried)
    for at, signed, price, fee_e9, currency in trades.values():
        value = signed * price * E9 if names[at] != "IN" else -(signed * 100 * E9 // price)
        traded[names[at]] -= value
        if names[at] == "SP":
            set_e9["USDT"] -= value
        if fee_e9:
            fees[currency] += fee_e9
    for name, amount in traded.items():
        assert till.traded_e9(name) == amount
    for currency, amount in fees.items():
        assert till.a1.fees_e9.get(currency, 0) == amount
        assert till.a1.cash_e9.get(currency, 0) == set_e9[currency] - amount
    till.check()
