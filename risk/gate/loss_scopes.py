"""What a loss limit watches: scopes with what they won and lost, the ledgers in them, the prices of those.

They are kept by ``losses``. Amounts in 1e-9, by currency.
"""

from __future__ import annotations

from typing import Any, Final

from protocol.codes import Scope
from protocol.marks import LossLevel
from risk.gate.exposure import InstrumentState, Ledger
from risk.gate.money import Money, paid_e9
from risk.gate.more import UNLIMITED
from risk.gate.pnl import Pnl

Place = tuple[Scope, str]
HoldingKey = tuple[str, str, str]
"""Account, strategy ("" = of the whole account), instrument."""
Amounts = dict[str, int]
FX: Final = "fx"


class Price:
    """What an instrument was valued at last; ``is_stale``: that is too old to say anything."""

    __slots__ = ("at_ns", "high_e9", "is_stale", "low_e9")

    def __init__(self) -> None:
        self.low_e9 = 0
        self.high_e9 = 0
        self.at_ns = 0
        self.is_stale = True


class LossScope:
    """What a scope has won and lost. Amounts by currency, 1e-9.

    Attributes:
        sums: Of all its positions and fees, since it is watched.
        day: What ``sums`` was when the day began, or a person last resumed it.
        start: What it was when the highest profit began to be looked for.
        peak_e9: That, over ``start``, in ``currency``.
        level: Of LOSS_DAILY, as reached; it only rises until a person or the next day.
        is_drawn: LOSS_DRAWDOWN was reached.
        pnls: Of the accounts that have something in it.
    """

    __slots__ = (
        "currency", "daily_max_e9", "day", "drawdown_max_e9", "is_drawn", "key", "level", "peak_e9", "pnls", "scope",
        "start", "sums",
    )  # fmt: skip

    def __init__(self, scope: Scope, key: str) -> None:
        self.scope = scope
        self.key = key
        self.currency = ""
        self.daily_max_e9 = UNLIMITED
        self.drawdown_max_e9 = UNLIMITED
        self.sums: Amounts = {}
        self.day: Amounts = {}
        self.start: Amounts = {}
        self.peak_e9 = 0
        self.level = LossLevel.LIFTED
        self.is_drawn = False
        self.pnls: dict[str, Pnl] = {}

    def profit_e9(self, money: Money, since: Amounts, change: Amounts) -> int | None:
        """Return the profit since then in ``currency``, with a change; None without an exchange rate."""
        total_e9 = 0
        for currency in sorted({*self.sums, *since, *change}):
            amount = self.sums.get(currency, 0) - since.get(currency, 0) + change.get(currency, 0)
            if amount:
                usable = money.usable_e9(amount, currency, self.currency)
                if usable is None:
                    return None
                total_e9 += usable
        return total_e9

    def rearm(self) -> None:
        """Count from 0: a person has looked."""
        self.begin_day()
        self.start = dict(self.sums)
        self.peak_e9 = 0
        self.is_drawn = False

    def begin_day(self) -> None:
        """Begin a trading date."""
        self.day = dict(self.sums)
        self.level = LossLevel.LIFTED

    def row(self) -> tuple[object, ...]:
        """Return what of it is state."""
        return (
            int(self.scope), self.key, *(sorted((c, str(v)) for c, v in a.items()) for a in
            (self.sums, self.day, self.start)), str(self.peak_e9), int(self.level), self.is_drawn,
        )  # fmt: skip

    def load(self, sums: Any, day: Any, start: Any, peak_e9: str, level: int, is_drawn: bool) -> None:
        """Take what ``row`` returned, its name apart."""
        self.sums, self.day, self.start = ({c: int(v) for c, v in amounts} for amounts in (sums, day, start))
        self.peak_e9, self.level, self.is_drawn = int(peak_e9), LossLevel(level), is_drawn


class Holding:
    """One ledger of a watched scope, and what it was worth at its last mark.

    Attributes:
        value_e9: That: profit since the ledger began, in the instrument's currency.
        settled_e9: Part of it that was there when the position was set from outside.
        position, traded_e9: Of the ledger at that mark.
        is_new: It had a past when it began to be watched: what it is worth at its first mark is no day's profit.
    """

    __slots__ = (
        "instrument", "is_new", "key", "ledger", "pnl", "position", "scopes", "settled_e9", "traded_e9", "value_e9",
    )  # fmt: skip

    def __init__(self, key: HoldingKey, instrument: InstrumentState, ledger: Ledger, pnl: Pnl) -> None:
        self.key = key
        self.instrument = instrument
        self.ledger = ledger
        self.pnl = pnl
        self.scopes: tuple[LossScope, ...] = ()
        self.is_new = ledger.position != 0 or ledger.traded_e9 != 0
        self.value_e9 = 0
        self.settled_e9 = 0
        self.position = 0
        self.traded_e9 = 0

    @property
    def is_changed(self) -> bool:
        """Whether the ledger is another one than at its last mark."""
        return self.ledger.position != self.position or self.ledger.traded_e9 != self.traded_e9

    @property
    def is_blank(self) -> bool:
        """Whether nothing ever was in it: it is as if it were not there, for a refused order may have made it."""
        ledger = self.ledger
        return not (ledger.position or ledger.traded_e9 or self.traded_e9 or self.value_e9 or self.settled_e9)

    @property
    def is_flagged(self) -> bool:
        """Whether its profit counts as unknown."""
        return self.key[1:] in self.pnl.unknown

    def worth_e9(self, position: int, low_e9: int, high_e9: int) -> int:
        """Return its profit with a position, in steps; without one, of whatever price."""
        worth_e9 = self.settled_e9 + self.ledger.traded_e9
        if not position:
            return worth_e9
        of = self.instrument
        price_e9 = low_e9 if position > 0 else high_e9
        return worth_e9 + paid_e9(of.kind, of.multiplier_e9, -position * of.quantity_step_e9, price_e9)


def shift(scope: LossScope, currency: str, amount_e9: int) -> None:
    """Have a scope own what it did not win: a profit from before it was watched."""
    if not amount_e9:
        return
    for amounts in (scope.sums, scope.day, scope.start):
        amounts[currency] = amounts.get(currency, 0) + amount_e9
