"""What is answered: approve, trim or reject, with the figures that decided it."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from protocol.codes import Code


class Verdict(IntEnum):
    """What may be done with the order. HEDGE (RISK.md B6.5) is not built."""

    APPROVE = 1
    REJECT = 2
    TRIM = 3


class Decision(Struct, frozen=True):
    """The answer to one request.

    Attributes:
        quantity_e9: What may be sent: all, less, or 0.
        code: RISK_IMPROVES or MARGIN_AT_EXPIRY where that is why, else OK: the caller has codes for the verdict.
        limit: What binds: ``margin``, ``margin_at_expiry``, ``price`` (something has none), ``contract`` (something is
            not known), or a limit's name with its scope; empty if nothing does.
        actual_e9: The figure that the whole order would give there, and what was allowed.
        quantity_max_e9: The most that fits, as far as it was looked for; 0 = nothing does.
        margin_before_e9: Of the worst case of positions and open orders, without this order. ``margin_after_e9`` with
            what is approved (of a reject: with all of it), ``margin_inc_e9`` the difference: it replaces R_o if > 0.
        margin_expiry_e9: ``margin_after_e9`` as it will be on the order's expiry day; 0 = does not expire.
        worst_scenario: 1..16 of the order's underlying in that worst case; 0 = none was reckoned.
        text: One line for people.
    """

    req_id: str
    verdict: Verdict
    quantity_e9: int
    code: Code
    limit: str = ""
    actual_e9: int = 0
    allowed_e9: int = 0
    quantity_max_e9: int = 0
    margin_before_e9: int = 0
    margin_after_e9: int = 0
    margin_inc_e9: int = 0
    margin_expiry_e9: int = 0
    worst_scenario: int = 0
    snapshot_id: str = ""
    params_version: str = ""
    book_seq: int = 0
    valid_until_ns: int = 0
    text: str = ""
