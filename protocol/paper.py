"""The paper side of an account: a name of its own, so that whatever is kept by account keeps the two apart.

An order that a breach routed to ``sandbox`` is booked under ``paper~ACCOUNT`` (docs/decisions/0043): positions, money,
reservations, venue commands, events and rows in the books. Rule: no account of a configuration or a command can have
such a name, because identifiers have no ``~``; so nobody reaches the one by naming the other.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from protocol.decisions import NewDecision, Reference
from protocol.session import Item

PAPER: Final = "paper~"


class PaperOrdered(Struct, array_like=True, tag=90, frozen=True, gc=False):
    """A NewOrder came and is paper: ``decision.code`` says why, ``item`` holds it under the real account's name."""

    source: str
    item: Item
    reference: Reference | None
    decision: NewDecision
    seq: int = 0


def paper_name(account: str) -> str:
    """Return the name of an account's paper side."""
    return PAPER + account


def is_paper(account: str) -> bool:
    """Whether the name is that of a paper side."""
    return account.startswith(PAPER)


def real_name(account: str) -> str:
    """Return the account whose paper side this is; of a real one, itself."""
    return account.removeprefix(PAPER)
