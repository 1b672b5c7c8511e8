"""What a check is, apart from what it does: where its rule comes from, its parameters, its exemptions, an example."""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.contract_rows import ContractName as C
from protocol.params import LimitName as L

NONE: Final = "–"


class Check(NamedTuple):
    """One check.

    Attributes:
        refuses: What it refuses.
        exits: What it does to exits; cancels are refused for identity only.
        source: Regulation, venue rule or practice it follows.
        example: Values that pass (A) and that are refused (R).
        settings: Keys of the configuration it reads; empty where its parameters are rows.
        limits: Rows of ``[[limits]]`` it reads.
        contracts: Rows of ``[[contracts]]`` it reads.
        route: What becomes of a refused order.
    """

    refuses: str
    exits: str
    source: str
    example: str
    settings: str = ""
    limits: tuple[L, ...] = ()
    contracts: tuple[C, ...] = ()
    route: str = "reject"


EXEMPT: Final = "pass"
REFUSED: Final = "refused"
