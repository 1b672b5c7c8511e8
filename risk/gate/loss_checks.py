"""Checks of the complete gate that read what marks came to (``losses``), as those of ``further_checks``."""

from __future__ import annotations

from typing import Final

from protocol.codes import Code
from risk.gate.view import View

OK: Final = Code.OK


def check_pnl(v: View) -> Code:
    """PNL_UNKNOWN: the account's losses are limited, and what it has lost can't be told now. Exits pass."""
    return Code.PNL_UNKNOWN if v.route.more.pnl is not None and v.route.more.pnl.unknown and not v.is_exit else OK
