"""Whether an account's profit and loss is known: what PNL_UNKNOWN reads of it (RISK.md A2)."""

from __future__ import annotations


class Pnl:
    """One object an account, kept by ``losses``.

    ``unknown``: what of its profit can't be told now: positions (strategy, instrument) without a fresh price; "fx" and
    a scope for lack of an exchange rate.
    """

    __slots__ = ("account", "unknown")

    def __init__(self, account: str) -> None:
        self.account = account
        self.unknown: dict[tuple[str, str], None] = {}
