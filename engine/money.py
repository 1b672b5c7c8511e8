"""Account truth in money: cash, collateral, positions and exchange rates as operators and the opening file set them.

Rules: what is set stands in the journal with the operator's name, the reason and what was there before; what is named
together is taken or refused together; ``decide_*`` reads, ``apply`` writes. What trades pay: ``risk.gate.money``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from engine.state import State
from protocol.money import (
    AccountMoney,
    Adjust,
    CashRow,
    CollateralAdjusted,
    CollateralRow,
    CompareMoney,
    CurrencyMoney,
    FxMarked,
    FxRow,
    HeldRow,
    MoneyDifference,
    PledgedMoney,
    ShownFx,
)
from protocol.params import ContractKind
from protocol.records import Adjusted
from risk.gate.exposure import AccountState
from risk.gate.money import Collateral, FxMark

MoneyRecord = Adjusted | CollateralAdjusted | FxMarked
CURRENCIES_MAX: Final = 256
"""Of one account, as of its assets: each is state for ever."""
MARKS_MAX: Final = 4096


class Moneys:
    """Decides and applies account truth over one State."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def decide_adjust(self, body: Adjust, operator: str) -> list[MoneyRecord] | list[str]:
        """Return the records of an adjustment, or every reason why it can't be taken."""
        faults = [*self._faults(body)]
        if faults:
            return faults
        why = body.reason
        records: list[MoneyRecord] = [
            *(self._cash(row, why, operator) for row in body.cash),
            *(self._collateral(row, why, operator) for row in body.collateral),
            *(self._position(row, why, operator) for row in body.positions),
            *(self._fx(row, why, operator) for row in body.fx),
        ]
        return records

    def decide_opening(
        self, collateral: Iterable[CollateralRow], fx: Iterable[FxRow]
    ) -> Iterator[CollateralAdjusted | FxMarked]:
        """Yield the records of what an opening file says. Each must be applied before the next is drawn."""
        for row in collateral:
            yield self._collateral(row, "opening collateral", "")
        for mark in fx:
            yield self._fx(mark, "opening exchange rate", "")

    def decide_again(self, record: MoneyRecord) -> bool | None:
        """Return whether the same is decided now; None for what was only ever set."""
        match record:
            case CollateralAdjusted():
                row = CollateralRow(record.account, record.asset, record.value_e9, record.currency, record.haircut_bp)
                return record.account in self._state.accounts and self._collateral(
                    row, record.reason, record.operator
                ) == record  # fmt: skip
            case FxMarked():
                return self._fx(FxRow(record.of, record.to, record.rate_e9), record.reason, record.operator) == record
            case Adjusted() if record.was_e9 and record.account in self._state.accounts:
                if record.instrument:
                    return self._held_e9(record.account, record.instrument) == int(record.was_e9)
                return self._state.accounts[record.account].cash_e9.get(record.currency, 0) == int(record.was_e9)
            case _:
                return None

    def _faults(self, body: Adjust) -> Iterator[str]:
        named: set[tuple[str, ...]] = set()
        for key, fault in self._checked(body):
            where = " ".join(key)
            if key in named:
                yield f"{where}: expected once, was twice"
            named.add(key)
            if fault:
                yield f"{where}: {fault}"
        if not named:
            yield "adjustment expected at least one row, was none"

    def _checked(self, body: Adjust) -> Iterator[tuple[tuple[str, ...], str]]:
        for cash in body.cash:
            yield ("cash", cash.account, cash.currency), self._account_fault(cash.account, cash.currency, "")
        for pledged in body.collateral:
            fault = self._account_fault(pledged.account, "", pledged.asset)
            if not fault and int(pledged.value_e9) < 0:
                fault = f"expected a value of at least 0, was {pledged.value_e9} e9"
            yield ("collateral", pledged.account, pledged.asset), fault
        for held in body.positions:
            yield ("position", held.account, held.instrument), self._position_fault(held)
        marks = self._state.book.money.marks
        for fx in body.fx:
            is_new = (fx.of, fx.to) not in marks and fx.rate_e9 > 0
            fault = "expected two currencies, was one" if fx.of == fx.to else ""
            if not fault and is_new and len(marks) + len(body.fx) > MARKS_MAX:
                fault = f"expected at most {MARKS_MAX} exchange rates"
            yield ("fx", fx.of, fx.to), fault

    def _account_fault(self, account: str, currency: str, asset: str) -> str:
        state = self._state
        known = state.accounts.get(account)
        if known is None or state.belongs_elsewhere(account) is not None:
            return "expected an account of this engine"
        if currency and currency not in known.cash_e9 and len(known.cash_e9) >= CURRENCIES_MAX:
            return f"expected at most {CURRENCIES_MAX} currencies"
        if asset and asset not in known.collateral and len(known.collateral) >= CURRENCIES_MAX:
            return f"expected at most {CURRENCIES_MAX} assets"
        return ""

    def _position_fault(self, row: HeldRow) -> str:
        instrument = self._state.instruments.get(row.instrument)
        if fault := self._account_fault(row.account, "", ""):
            return fault
        if instrument is None:
            return "expected a known instrument"
        if row.quantity_e9 % instrument.quantity_step_e9:
            return f"expected a multiple of {instrument.quantity_step_e9} e9, was {row.quantity_e9} e9"
        if row.quantity_e9 and not row.price_e9:
            return "expected a price above 0, to value it; was none"
        return ""

    def _cash(self, row: CashRow, reason: str, operator: str) -> Adjusted:
        was_e9 = self._state.accounts[row.account].cash_e9.get(row.currency, 0)
        to_e9 = int(row.cash_e9) + (was_e9 if row.adds else 0)
        return Adjusted(row.account, "", 0, 0, str(to_e9), row.currency, reason, operator, str(was_e9))

    def _collateral(self, row: CollateralRow, reason: str, operator: str) -> CollateralAdjusted:
        was = self._state.accounts[row.account].collateral.get(row.asset)
        was_e9 = "0" if was is None else str(was.value_e9)
        value_e9 = str(int(row.value_e9))
        return CollateralAdjusted(
            row.account, row.asset, value_e9, row.currency, row.haircut_bp, was_e9, reason, operator
        )

    def _position(self, row: HeldRow, reason: str, operator: str) -> Adjusted:
        was = str(self._held_e9(row.account, row.instrument))
        return Adjusted(row.account, row.instrument, row.quantity_e9, row.price_e9, "", "", reason, operator, was)

    def _held_e9(self, account: str, instrument: str) -> int:
        ledger = self._state.book.ledgers.get((account, instrument))
        return 0 if ledger is None else ledger.position * self._state.instruments[instrument].quantity_step_e9

    def _fx(self, row: FxRow, reason: str, operator: str) -> FxMarked:
        was = self._state.book.money.marks.get((row.of, row.to))
        return FxMarked(row.of, row.to, row.rate_e9, 0 if was is None else was.rate_e9, reason, operator)

    def apply(self, record: CollateralAdjusted | FxMarked, now_ns: int) -> None:
        """Write it."""
        if isinstance(record, FxMarked):
            marks = self._state.book.money.marks
            if record.rate_e9:
                marks[record.of, record.to] = FxMark(record.rate_e9, now_ns)
            else:
                marks.pop((record.of, record.to), None)
            return
        pledged = self._state.accounts[record.account].collateral
        if int(record.value_e9):
            pledged[record.asset] = Collateral(int(record.value_e9), record.currency, record.haircut_bp)
        else:
            pledged.pop(record.asset, None)

    # A broker's statement

    def compare(self, body: CompareMoney) -> tuple[list[MoneyDifference], Adjust] | list[str]:
        """Return what a statement says otherwise, and what adopting it would set; or why it can't be compared."""
        if faults := [*self._faults(Adjust("compared", body.cash, body.collateral))]:
            return faults
        cash, collateral = self._all_cash(body.cash), self._all_collateral(body.collateral)
        found: list[MoneyDifference] = []
        to = Adjust(body.reason, [], [])
        for row, is_stated in cash:
            ours = self._state.accounts[row.account].cash_e9.get(row.currency, 0)
            if ours != int(row.cash_e9):
                theirs = str(int(row.cash_e9))
                found.append(MoneyDifference(row.account, row.currency, "", str(ours), theirs, is_stated=is_stated))
                to.cash.append(row)
        for pledged, is_stated in collateral:
            known = self._state.accounts[pledged.account].collateral.get(pledged.asset)
            theirs_e9 = int(pledged.value_e9)
            ours_row = Collateral(0, pledged.currency, 0) if known is None else known
            if (known is not None or theirs_e9) and ours_row != (theirs_e9, pledged.currency, pledged.haircut_bp):
                found.append(
                    MoneyDifference(
                        pledged.account, pledged.currency, pledged.asset, str(ours_row.value_e9), str(theirs_e9),
                        ours_row.haircut_bp, pledged.haircut_bp, is_stated,
                    )
                )  # fmt: skip
                to.collateral.append(pledged)
        return found, to

    def _all_cash(self, rows: list[CashRow]) -> list[tuple[CashRow, bool]]:
        """Return the rows as they are meant, and a 0 for what an account of theirs has and none of them states."""
        stated = {(row.account, row.currency) for row in rows}
        accounts = {row.account: self._state.accounts[row.account] for row in rows}
        absent = [
            (CashRow(name, currency, "0"), False)
            for name, a in sorted(accounts.items())
            for currency, amount in sorted(a.cash_e9.items())
            if amount and (name, currency) not in stated
        ]
        return [*((CashRow(row.account, row.currency, row.cash_e9), True) for row in rows), *absent]

    def _all_collateral(self, rows: list[CollateralRow]) -> list[tuple[CollateralRow, bool]]:
        stated = {(row.account, row.asset) for row in rows}
        accounts = {row.account: self._state.accounts[row.account] for row in rows}
        absent = [
            (CollateralRow(name, asset, "0", pledged.currency, pledged.haircut_bp), False)
            for name, a in sorted(accounts.items())
            for asset, pledged in sorted(a.collateral.items())
            if (name, asset) not in stated
        ]
        return [*((row, True) for row in rows), *absent]

    # Shown

    def shown(self) -> list[AccountMoney]:
        """Return the money of every account."""
        contracts: dict[tuple[str, str], int] = {}
        for (account, name), ledger in self._state.book.ledgers.items():
            instrument = self._state.instruments[name]
            if ledger.traded_e9 and instrument.kind is not ContractKind.SPOT:
                key = account, instrument.currency
                contracts[key] = contracts.get(key, 0) + ledger.traded_e9
        return [self._shown(account, contracts) for _, account in sorted(self._state.accounts.items())]

    def _shown(self, account: AccountState, contracts: dict[tuple[str, str], int]) -> AccountMoney:
        traded = {currency: amount for (name, currency), amount in contracts.items() if name == account.name}
        money = [
            CurrencyMoney(
                currency, str(account.cash_e9.get(currency, 0)), str(account.fees_e9.get(currency, 0)),
                str(traded.get(currency, 0)),
            )
            for currency in sorted({*account.cash_e9, *account.fees_e9, *traded})
        ]  # fmt: skip
        pledged = [
            PledgedMoney(asset, str(c.value_e9), c.currency, c.haircut_bp, str(c.usable_e9))
            for asset, c in sorted(account.collateral.items())
        ]
        usable = self.usable_e9(account)
        return AccountMoney(account.name, account.currency, money, pledged, None if usable is None else str(usable))

    def usable_e9(self, account: AccountState) -> int | None:
        """Return cash and collateral after haircuts in the account's currency; None if a mark is missing for any."""
        fx = self._state.book.money
        total = 0
        amounts = [(currency, amount) for currency, amount in account.cash_e9.items() if amount]
        for currency, amount in [*amounts, *((c.currency, c.usable_e9) for c in account.collateral.values())]:
            usable = fx.usable_e9(amount, currency, account.currency)
            if usable is None:
                return None
            total += usable
        return total

    def shown_fx(self) -> list[ShownFx]:
        """Return the exchange rates."""
        marks = self._state.book.money.marks
        return [ShownFx(of, to, mark.rate_e9, mark.at_ns) for (of, to), mark in sorted(marks.items())]


def opening_faults(
    collateral: Iterable[CollateralRow], fx: Iterable[FxRow], accounts: AbstractSet[str]
) -> Iterator[str]:
    """Yield what of an opening file can't be."""
    for row in collateral:
        if row.account not in accounts or int(row.value_e9) < 0:
            yield f"opening collateral {row.asset} of {row.account} expected a known account and a value of at least 0"
    for mark in fx:
        if mark.of == mark.to or mark.rate_e9 <= 0:
            yield f"opening exchange rate {mark.of} {mark.to} expected two currencies and a rate above 0"
