"""What can go wrong with portfolio risk's parameters and files.

Rule: each names the thing, the value it had, what was expected and what to do.
"""

from __future__ import annotations

from protocol.errors import WojakError


class RiskParamsError(WojakError):
    """Parameters of portfolio risk, or a book to report on, can't be used as they are."""

    code = "RISK_PARAMS"

    def __init__(self, what: str, expected: str, was: str, remedy: str = "correct its row") -> None:
        self.what = what
        self.expected = expected
        self.was = was
        super().__init__(f"{self.code}: {what} expected {expected}, was {was}; {remedy}")
