"""Money as a snapshot holds it: fees and collateral of accounts, exchange rates; cash stands with the accounts."""

from __future__ import annotations

from typing import Any

from engine.counted import big
from engine.state import State
from risk.gate.money import Collateral, FxMark


def money_body(state: State) -> tuple[object, ...]:
    """Return it in the order it came."""
    money = state.book.money
    return (
        money.is_booked,
        [(*key, big(mark.rate_e9), mark.at_ns) for key, mark in money.marks.items()],
        [(name, c, big(fee)) for name, a in state.accounts.items() for c, fee in a.fees_e9.items()],
        [
            (name, asset, big(c.value_e9), c.currency, c.haircut_bp)
            for name, a in state.accounts.items()
            for asset, c in a.collateral.items()
        ],
    )


def take_money(state: State, body: Any) -> None:
    """Put it back; the accounts are there."""
    money = state.book.money
    money.is_booked, marks, fees, collateral = body
    money.marks = {(of, to): FxMark(int(rate_e9), at_ns) for of, to, rate_e9, at_ns in marks}
    for name, currency, fee_e9 in fees:
        state.accounts[name].fees_e9[currency] = int(fee_e9)
    for name, asset, value_e9, currency, haircut_bp in collateral:
        state.accounts[name].collateral[asset] = Collateral(int(value_e9), currency, haircut_bp)
