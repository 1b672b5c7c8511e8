"""Money of accounts, added up from the journal's records alone: nothing is made or lost, to the last unit.

Shares no code with the core: of each trade that counts now what it paid and its fee, of each adjustment what it set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.state import State
from protocol.amends import TradeAmended
from protocol.codes import ExecType
from protocol.decisions import BOOKED, ReportEffect
from protocol.records import Adjusted, FillEntered, Record, Reported
from protocol.venue import Report, report_decoder
from tests.simulation.ledgers import Key, Ledgers

E9 = 10**9
COUNTS = {ReportEffect.APPLIED, *BOOKED}


class Counted(NamedTuple):
    """One trade as it counts now; ``signed_e9`` is of the quantity."""

    key: Key
    signed_e9: int
    price_e9: int
    fee_e9: int
    currency: str

    @property
    def paid_e9(self) -> int:
        """What a linear contract of multiplier 1 paid (-) or got (+); whole numbers, so nothing is rounded."""
        paid, rest = divmod(-self.signed_e9 * self.price_e9, E9)
        assert not rest
        return paid


class Till:
    """What every account has, by the records."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers
        self._trades: dict[str, Counted] = {}
        self._first: dict[str, str] = {}
        self._set: dict[Key, int] = {}  # cash that was set, less the fees before it
        self._carried: dict[Key, int] = {}  # what a position was carried at, less what its trades had paid before it

    def take(self, record: Record) -> None:
        """Take one record."""
        match record:
            case Reported() if record.decision.effect in COUNTS:
                self._report(report_decoder.decode(record.report))
            case FillEntered():
                self._report(report_decoder.decode(record.report))
            case TradeAmended() if record.decision.effect in COUNTS:
                self._amend(report_decoder.decode(record.report))
            case Adjusted():
                self._adjust(record)

    def _report(self, report: Report) -> None:
        if not report.last_quantity_e9 or report.trade_id in self._trades or report.trade_id in self._first:
            return
        order = self._ledgers.orders[report.order_id]
        currency = report.currency or "USDT"
        self._first[report.trade_id] = report.trade_id
        self._trades[report.trade_id] = Counted(
            order.key, report.last_quantity_e9 * order.sign, report.last_price_e9, report.fee_e9, currency
        )

    def _amend(self, report: Report) -> None:
        assert report.details is not None
        named = report.details.original_trade_id
        first = self._first.get(named, named)
        trade = self._trades[first]
        if report.exec_type is ExecType.TRADE_CANCEL:
            del self._trades[first]
            return
        self._first[report.trade_id] = first
        signed = report.last_quantity_e9 if trade.signed_e9 > 0 else -report.last_quantity_e9
        fee = (report.fee_e9, report.currency) if report.currency else (trade.fee_e9, trade.currency)
        self._trades[first] = Counted(trade.key, signed, report.last_price_e9, *fee)

    def _adjust(self, record: Adjusted) -> None:
        if record.currency:
            key = record.account, record.currency
            self._set[key] = int(record.cash_e9) + self._fees(key)
        if record.instrument:
            key = record.account, record.instrument
            carried = Counted(key, record.quantity_e9, record.price_e9, 0, "").paid_e9
            self._carried[key] = carried - self._paid(key)

    def _paid(self, key: Key) -> int:
        return sum(trade.paid_e9 for trade in self._trades.values() if trade.key == key)

    def _fees(self, key: Key) -> int:
        account, currency = key
        return sum(t.fee_e9 for t in self._trades.values() if (t.key[0], t.currency) == (account, currency))

    def verify(self, state: State) -> None:
        """Cash, fees and what trades paid are those of the engine; closed at any price nothing is left over."""
        keys = {trade.key for trade in self._trades.values()} | self._carried.keys() | state.book.ledgers.keys()
        for key in keys:
            expected = self._carried.get(key, 0) + self._paid(key)
            ledger = state.book.ledgers[key]
            assert ledger.traded_e9 == expected, f"{key} traded for {ledger.traded_e9}, the records say {expected}"
            own = sum(r.own.traded_e9 for (a, _, i), r in state.routes.items() if (a, i) == key)
            assert own == self._paid(key), f"{key}: strategies traded for {own}, the records say {self._paid(key)}"
        for name, account in state.accounts.items():
            for currency in {"USDT", *account.cash_e9, *account.fees_e9}:
                fees = self._fees((name, currency))
                cash = self._set.get((name, currency), 0) - fees
                assert account.fees_e9.get(currency, 0) == fees, f"{name} paid fees {account.fees_e9}, not {fees}"
                assert account.cash_e9.get(currency, 0) == cash, f"{name} has cash {account.cash_e9}, not {cash}"


def verify_money(records: Iterable[Record], ledgers: Ledgers, state: State) -> None:
    """Add all records up, and compare with what the engine has."""
    till = Till(ledgers)
    for record in records:
        till.take(record)
    till.verify(state)
